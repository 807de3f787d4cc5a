"""An ELF core of a whole machine, as QEMU's monitor makes with ``dump-guest-memory FILE``.

QEMU dump/dump.c: one PT_LOAD per RAM block with its physical address in p_paddr, and a PT_NOTE with an NT_PRSTATUS per
CPU (target/arm/arch_dump.c). The dump has no system registers: what depends on them has to be assumed.
Nothing in the file is believed: sizes and offsets are compared with the file's own size.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.construct import Container
from elftools.elf.structs import ELFStructs

from kexecdbg.errors import EnvironmentProblem
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind

_IDENTITY = b"\x7fELF\x02\x01"
"""e_ident: ELFCLASS64, ELFDATA2LSB."""
_MAKE_ONE = "QEMU's monitor makes one: dump-guest-memory FILE"
_MOST_SEGMENTS = 4096
_MOST_NOTE_BYTES = 16 << 20
_ADDRESS_BITS = 52
_NOTE = struct.Struct("<III")
"""Elf64_Nhdr: n_namesz, n_descsz, n_type."""
_NT_PRSTATUS = 1
_REGISTERS = struct.Struct("<34Q")
"""x0 to x30, sp, pc, pstate (struct user_pt_regs)."""
_REGISTERS_AT = 112
"""Their offset in the note: struct elf_prstatus of arm64."""
_NAMES = (*(f"X{number}" for number in range(31)), "SP", "PC", "PSTATE")


class ElfCore:
    """Physical memory and general registers out of an ELF core; a context manager that closes the file.

    >>> with ElfCore(Path("guest.core")) as core:                                # doctest: +SKIP
    ...     core.read(0x40000000, 8)

    Attributes:
        path: the file.
        memory_map: the RAM that the core has.
        cpus: general registers of each CPU by canonical name; empty when the file has no notes about them.
        missing: what of the file cannot be used, one clause each.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``.

        Raises:
            EnvironmentProblem: it cannot be read, or is no ELF core of an AArch64 machine with physical memory.
        """
        self.path = path
        try:
            # Not to wait for the other end of a FIFO, nor to map a device.
            if not stat.S_ISREG(path.stat().st_mode):
                raise EnvironmentProblem(f"core {path}: not a regular file; {_MAKE_ONE}")
            with path.open("rb") as stream:
                self._size = os.fstat(stream.fileno()).st_size
                if not self._size:
                    raise EnvironmentProblem(f"core {path}: the file is empty")
                headers = self._headers(stream)
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise EnvironmentProblem(f"core {path}: {getattr(error, 'strerror', None) or error}") from error
        try:
            regions, self.missing = self._memory(headers)
            if not regions:
                raise EnvironmentProblem(f"core {path}: it has no memory in it; {_MAKE_ONE}")
            self.memory_map = MemoryMap(regions)
            self.cpus = tuple(self._cpus(headers))
        except EnvironmentProblem:
            self._map.close()
            raise

    def __enter__(self) -> ElfCore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._map.close()

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes at the physical ``address``; MemoryUnreadableError for what the core does not have."""
        self.memory_map.check_readable(address, size)
        parts: list[bytes] = []
        position, end = address, address + size
        while position < end:
            region = self.memory_map.find(position)
            assert region is not None
            upto = min(end, region.end)
            start = region.backing_offset + position - region.start
            parts.append(self._map[start : start + upto - position])
            position = upto
        return b"".join(parts)

    def populated_ranges(self) -> Iterator[tuple[int, int]]:
        """What the core has, ascending."""
        return ((region.start, region.end) for region in self.memory_map.regions)

    def _headers(self, stream: BinaryIO) -> list[Container]:
        """The program headers."""
        structs = ELFStructs(little_endian=True, elfclass=64)
        structs.create_basic_structs()
        try:
            if stream.read(len(_IDENTITY)) != _IDENTITY:
                raise EnvironmentProblem(f"core {self.path}: not a 64-bit little-endian ELF file; {_MAKE_ONE}")
            structs.create_advanced_structs()
            header = struct_parse(structs.Elf_Ehdr, stream, 0)
            if (header["e_type"], header["e_machine"]) != ("ET_CORE", "EM_AARCH64"):
                raise EnvironmentProblem(
                    f"core {self.path}: an ELF file, but no AArch64 core "
                    f"({header['e_type']}, {header['e_machine']}); {_MAKE_ONE}"
                )
            start, each, count = header["e_phoff"], header["e_phentsize"], header["e_phnum"]
            if count > _MOST_SEGMENTS or each < structs.Elf_Phdr.sizeof() or start + each * count > self._size:
                raise EnvironmentProblem(
                    f"core {self.path}: {count} program headers of {each} bytes at {start:#x}, in a file of "
                    f"{self._size} bytes; the file is damaged"
                )
            return [struct_parse(structs.Elf_Phdr, stream, start + each * number) for number in range(count)]
        except ELFError as error:
            raise EnvironmentProblem(f"core {self.path}: not a sound ELF file ({error})") from error

    def _memory(self, headers: list[Container]) -> tuple[list[Region], tuple[str, ...]]:
        """What the file has of physical memory, and what it lacks; the first of two segments that overlap counts."""
        regions: list[Region] = []
        missing: list[str] = []
        loads = (header for header in headers if header["p_type"] == "PT_LOAD" and header["p_filesz"])
        for header in sorted(loads, key=lambda each: int(each["p_paddr"])):
            start, size, offset = header["p_paddr"], header["p_filesz"], header["p_offset"]
            present = max(0, min(size, self._size - offset))
            if present < size:
                missing.append(f"{start + present:#x}-{start + size - 1:#x}: the file ends before it")
            if start + present > 1 << _ADDRESS_BITS:
                missing.append(f"{start:#x}-{start + size - 1:#x}: no physical address")
            elif regions and start < regions[-1].end:
                missing.append(f"{start:#x}-{start + size - 1:#x}: it overlaps the segment before it")
            elif present:
                regions.append(Region(start, start + present, RegionKind.RAM, f"segment at {start:#x}", offset))
        return regions, tuple(missing)

    def _cpus(self, headers: list[Container]) -> Iterator[Mapping[str, int]]:
        for header in headers:
            if header["p_type"] == "PT_NOTE":
                start, size = header["p_offset"], min(header["p_filesz"], _MOST_NOTE_BYTES)
                yield from _registers(self._map[start : start + size])


def _registers(notes: bytes) -> Iterator[Mapping[str, int]]:
    """General registers of each CPU that ``notes`` has."""
    position = 0
    while position + _NOTE.size <= len(notes):
        name_size, size, kind = _NOTE.unpack_from(notes, position)
        content = position + _NOTE.size + _aligned(name_size)
        if kind == _NT_PRSTATUS and size >= _REGISTERS_AT + _REGISTERS.size and content + size <= len(notes):
            values = _REGISTERS.unpack_from(notes, content + _REGISTERS_AT)
            yield dict(zip(_NAMES, values, strict=True))
        position = content + _aligned(size)


def _aligned(size: int) -> int:
    return (size + 3) & ~3
