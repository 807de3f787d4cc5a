"""Names for addresses, from the guest's ELF file."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from kexecdbg.errors import EnvironmentProblem
from kexecdbg.ui.report.subject import SymbolOf

_FARTHEST = 1 << 20
"""Bytes from a symbol without a size to an address that is still said to lie in it."""
_KINDS = ("STT_FUNC", "STT_NOTYPE", "STT_OBJECT")


def elf_symbols(path: Path) -> SymbolOf:
    """Names for the virtual addresses of the program in the ELF file ``path``.

    Raises:
        EnvironmentProblem: it cannot be read, or is no ELF file.
    """
    try:
        with path.open("rb") as file:
            table = ELFFile(file).get_section_by_name(".symtab")
            symbols = sorted(
                {
                    (int(symbol["st_value"]), int(symbol["st_size"]), symbol.name)
                    for symbol in (table.iter_symbols() if isinstance(table, SymbolTableSection) else ())
                    if symbol["st_shndx"] != "SHN_UNDEF"
                    and symbol["st_info"]["type"] in _KINDS
                    # $x and $d mark code and data (AAELF64, mapping symbols).
                    and symbol.name
                    and not symbol.name.startswith("$")
                }
            )
    except (OSError, ELFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error or "no ELF file"
        raise EnvironmentProblem(f"{path}: cannot read its symbols: {reason}") from error
    starts = [start for start, _, _ in symbols]

    def symbol_of(address: int) -> str | None:
        place = bisect_right(starts, address) - 1
        if place < 0:
            return None
        start, size, name = symbols[place]
        if address - start >= (size or _FARTHEST):
            return None
        return name if address == start else f"{name}+{address - start:#x}"

    return symbol_of
