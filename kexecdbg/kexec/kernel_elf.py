"""The kernel's ELF file: opened with typed errors, and where a symbol is, without reading the whole symbol table."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

from kexecdbg.errors import EnvironmentProblem

_SYMBOL = struct.Struct("<IBBHQQ")
"""Elf64_Sym: st_name, st_info, st_other, st_shndx, st_value, st_size."""


@contextmanager
def open_vmlinux(path: Path) -> Iterator[ELFFile]:
    """The ELF file of an arm64 kernel.

    Raises:
        EnvironmentProblem: it cannot be read, is something else, or is damaged where it was looked at.
    """
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            if elf["e_machine"] != "EM_AARCH64":
                raise EnvironmentProblem(f"vmlinux {path}: not an arm64 kernel's ELF file")
            yield elf
    except OSError as error:
        raise EnvironmentProblem(f"vmlinux {path}: {error.strerror}") from error
    except (ELFError, DWARFError, struct.error) as error:
        raise EnvironmentProblem(f"vmlinux {path}: not a sound ELF file ({error})") from error


def symbol_address(elf: ELFFile, name: str) -> int | None:
    """The linked address of a symbol; ``None`` when the file has no such symbol."""
    names, table = elf.get_section_by_name(".strtab"), elf.get_section_by_name(".symtab")
    if names is None or table is None:
        return None
    # A search in the names, instead of a name for each of the 130,000 symbols. A name may be the end of a longer one.
    wanted = name.encode() + b"\0"
    places = {match.start() for match in re.finditer(re.escape(wanted), names.data())}
    data = table.data()
    usable = data[: len(data) // _SYMBOL.size * _SYMBOL.size]
    return next((value for start, *_, value, _size in _SYMBOL.iter_unpack(usable) if start in places), None)
