"""Assembles snippets with the cross binutils."""

from __future__ import annotations

import io
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection


@cache
def assemble(*lines: str) -> tuple[bytes, dict[str, int]]:
    """Machine code of ``lines`` and the offsets of its labels; only what is resolved within it may be referred to."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "snippet.o"
        source = "\t.arch armv8.5-a\n" + "".join(f"{line}\n" for line in lines)
        subprocess.run(["aarch64-linux-gnu-as", "-o", str(output), "-"], input=source, text=True, check=True)
        elf = ELFFile(io.BytesIO(output.read_bytes()))
        symbols = elf.get_section_by_name(".symtab")
        assert isinstance(symbols, SymbolTableSection)
        labels = {symbol.name: symbol["st_value"] for symbol in symbols.iter_symbols() if symbol.name}
        code = elf.get_section_by_name(".text")
        assert code is not None
        return code.data(), labels


def word(line: str) -> int:
    """The encoding of one instruction."""
    return int.from_bytes(assemble(line)[0], "little")
