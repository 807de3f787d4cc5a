"""Assembles and links the lab guest (qemu-scripts/guest) and looks into the result."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from kexecdbg.errors import EnvironmentProblem
from kexecdbg.qemu.private_directory import PrivateDirectory
from kexecdbg.resources import data_root

_PREFIX = "aarch64-linux-gnu-"


@dataclass(frozen=True)
class GuestProgram:
    """A linked program of the lab guest.

    Attributes:
        elf: the ELF file, with symbols for GDB.
        entry: address of the first instruction.
        segments: contents by load address.
        symbols: addresses by name.
    """

    elf: bytes
    entry: int
    segments: Mapping[int, bytes]
    symbols: Mapping[str, int]


def build_program(name: str, addresses: Mapping[str, int], included: Mapping[str, str] | None = None) -> GuestProgram:
    """Assemble ``qemu-scripts/guest/NAME.s`` and link it by ``NAME.ld``.

    ``addresses`` gives the value of each symbol that the linker script leaves open, ``included`` the text of each file
    that the source includes. The same program is assembled once.

    Raises:
        EnvironmentProblem: the cross binutils are missing, or refuse the source.
    """
    return _build_program(name, tuple(addresses.items()), tuple((included or {}).items()))


@cache
def _build_program(
    name: str, addresses: tuple[tuple[str, int], ...], included: tuple[tuple[str, str], ...]
) -> GuestProgram:
    source = data_root() / "qemu-scripts" / "guest"
    with PrivateDirectory(tempfile.gettempdir()) as directory:
        object_file, elf_file = directory / f"{name}.o", directory / f"{name}.elf"
        for file_name, text in included:
            (directory / file_name).write_text(text)
        _run("as", "-I", str(directory), "-o", str(object_file), str(source / f"{name}.s"))
        definitions = [f"--defsym={symbol}={value:#x}" for symbol, value in addresses]
        _run(
            "ld", "-nostdlib", "--no-warn-rwx-segments", "--build-id", "-z", "max-page-size=4096", *definitions,
            "-T", str(source / f"{name}.ld"), "-o", str(elf_file), str(object_file),
        )  # fmt: skip
        return _load(elf_file)


def binutils_version() -> str:
    """Version of the cross binutils, ``2.40``.

    Raises:
        EnvironmentProblem: they are missing.
    """
    first_line = _run("as", "--version").splitlines()[0]
    return first_line.rsplit(maxsplit=1)[-1]


def _run(tool: str, *arguments: str) -> str:
    program = shutil.which(_PREFIX + tool)
    if program is None:
        raise EnvironmentProblem(
            f"{_PREFIX}{tool}: not found; install it (Debian: apt-get install binutils-aarch64-linux-gnu)"
        )
    result = subprocess.run([program, *arguments], capture_output=True, text=True)
    if result.returncode:
        raise EnvironmentProblem(f"{_PREFIX}{tool} failed: {result.stderr.strip()}")
    return result.stdout


def _load(path: Path) -> GuestProgram:
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        segments = {
            segment["p_paddr"]: segment.data() for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"
        }
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        symbols = {symbol.name: symbol["st_value"] for symbol in table.iter_symbols() if symbol.name}
        return GuestProgram(path.read_bytes(), elf["e_entry"], MappingProxyType(segments), MappingProxyType(symbols))
