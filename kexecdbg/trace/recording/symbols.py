"""What the guest's symbol file says: addresses, and the build id that a trace is matched by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.notes import iter_notes
from elftools.elf.sections import NoteSection, SymbolTableSection

from kexecdbg.errors import EnvironmentProblem

_BUILD_ID = ".note.gnu.build-id"


def build_id(path: Path) -> str:
    """The GNU build id of an ELF file, hexadecimal; empty when it has none.

    Raises:
        EnvironmentProblem: it cannot be read, or is no ELF file.
    """
    with _opened(path) as elf:
        for section in elf.iter_sections():
            # A section that a linker script keeps out of memory, (INFO), has lost its type.
            if isinstance(section, NoteSection) or section.name == _BUILD_ID:
                for note in iter_notes(elf, section["sh_offset"], section["sh_size"]):
                    if note["n_type"] == "NT_GNU_BUILD_ID":
                        return str(note["n_desc"])
    return ""


def address_of_symbol(path: Path, name: str) -> int | None:
    """The address of a symbol in an ELF file; ``None`` when it has none of that name.

    Raises:
        EnvironmentProblem: it cannot be read, or is no ELF file.
    """
    with _opened(path) as elf:
        table = elf.get_section_by_name(".symtab")
        symbols = table.get_symbol_by_name(name) if isinstance(table, SymbolTableSection) else None
        return int(symbols[0]["st_value"]) if symbols else None


@contextmanager
def _opened(path: Path) -> Iterator[ELFFile]:
    try:
        with path.open("rb") as stream:
            yield ELFFile(stream)
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot be read: {error.strerror}") from error
    except ELFError as error:
        raise EnvironmentProblem(f"{path}: not an ELF file: {error}") from error
