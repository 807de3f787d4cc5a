"""Physical memory through a gdbstub: QEMU's ``PhyMemMode`` packets (QEMU gdbstub.c, since 4.1)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Protocol

from kexecdbg.errors import MemoryUnreadableError, TargetError
from kexecdbg.machine.device_registers import check_is_register
from kexecdbg.machine.memory_map import MemoryMap

_READ_CHUNK = 2048
"""Bytes per memory packet, the most that QEMU answers: its packets hold 4096 characters, two for each byte."""
_WRITE_CHUNK = 2000
"""Bytes that fit into such a packet with the address before them."""
_REFUSAL = re.compile(r"E(?:[0-9a-fA-F]{2}\Z|\.)")
"""``E NN`` or ``E.message`` (GDB's manual, Standard Replies); data has an even number of digits."""
_MOST_SHOWN = 80
_PAGE = 4096


class StubPackets(Protocol):
    """A connection to a gdbstub."""

    def packet(self, text: str, /) -> str:
        """Send a packet and return the answer, empty when the stub does not know it."""
        ...


def read_packet(stub: StubPackets, address: int, size: int) -> bytes:
    """The answer of ``stub`` to one memory packet: ``size`` bytes at most, and at least one.

    Raises:
        MemoryUnreadableError: it refuses.
        TargetError: the answer is none to this question.
    """
    reply = stub.packet(f"m{address:x},{size:x}")
    if not reply or _REFUSAL.match(reply):
        raise MemoryUnreadableError(address, size, f"the gdbstub cannot read it (it answers {reply!r})")
    try:
        data = bytes.fromhex(reply)
    except ValueError:
        data = b""
    if 2 * len(data) != len(reply) or len(data) > size:  # fromhex() passes over blanks
        raise TargetError(f"the gdbstub answered {reply[:_MOST_SHOWN]!r} to a read of {size} bytes at {address:#x}")
    return data


class StubMemory:
    """Physical memory behind a gdbstub, checked against the machine's memory map, if known, before each access."""

    most = _READ_CHUNK
    """Bytes per memory packet."""

    def __init__(self, stub: StubPackets, memory_map: MemoryMap | None) -> None:
        self.memory_map = memory_map
        self._stub = stub
        self._mode: Callable[[], contextlib.AbstractContextManager[None]] = self._physical_mode
        self._pages: dict[int, bytes] | None = None
        """What was read already, by page, while the machine stays stopped."""

    @contextlib.contextmanager
    def many_reads(self, alone: bool = True) -> Iterator[None]:
        """Make reads inside faster, while the machine stays stopped: pages are read once.

        Args:
            alone: nobody else uses the stub meanwhile, so that it is switched to physical addresses once for all. Not
                so where GDB's registers are read: GDB reads memory to know its frame again.
        """
        with self._physical_mode() if alone else contextlib.nullcontext():
            self._mode, self._pages = contextlib.nullcontext if alone else self._physical_mode, {}
            try:
                yield
            finally:
                self._mode, self._pages = self._physical_mode, None

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes; MemoryUnreadableError for a hole, a device, or what the stub cannot read."""
        if self.memory_map is not None:
            self.memory_map.check_readable(address, size)
        offset = address % _PAGE
        if self._pages is not None and offset + size <= _PAGE:
            page = self._page(address - offset, self._pages)
            if page is not None:
                return page[offset : offset + size]
        return self._read_packets(address, size)

    def _page(self, address: int, pages: dict[int, bytes]) -> bytes | None:
        """The page at ``address``, from ``pages`` if it is there; ``None`` where part of it may be no memory."""
        if self.memory_map is None:
            return None
        if address not in pages:
            try:
                self.memory_map.check_readable(address, _PAGE)
                pages[address] = self._read_packets(address, _PAGE)
            except MemoryUnreadableError:
                return None
        return pages[address]

    def _read_packets(self, address: int, size: int) -> bytes:
        data = bytearray()
        with self._mode():
            while len(data) < size:
                length = min(self.most, size - len(data))
                data += self._read_packet(address + len(data), length)
        return bytes(data)

    def read_device_register(self, address: int, size: int) -> int:
        """The device register at the physical address; MemoryUnreadableError where no device has one."""
        if self.memory_map is None:
            raise MemoryUnreadableError(address, size, "the machine does not tell where its devices are")
        check_is_register(self.memory_map, address, size)
        with self._mode():
            return int.from_bytes(self._read_packet(address, size), "little")

    def _read_packet(self, address: int, size: int) -> bytes:
        data = read_packet(self._stub, address, size)
        if len(data) != size:
            raise TargetError(f"the gdbstub answered {len(data)} of {size} bytes to a read of physical {address:#x}")
        return data

    def write(self, address: int, data: bytes) -> None:
        """Write RAM; MemoryUnreadableError for a hole or a device."""
        if self.memory_map is not None:
            self.memory_map.check_readable(address, len(data))
        if self._pages:
            self._pages.clear()
        with self._mode():
            for start in range(0, len(data), _WRITE_CHUNK):
                piece = data[start : start + _WRITE_CHUNK]
                reply = self._stub.packet(f"M{address + start:x},{len(piece):x}:{piece.hex()}")
                if reply != "OK":
                    raise TargetError(f"the gdbstub answered {reply!r} to a write of physical {address + start:#x}")

    @classmethod
    def is_possible(cls, stub: StubPackets) -> bool:
        """Whether ``stub`` has physical addresses at all; of those that we know, QEMU's alone does."""
        return stub.packet("qqemu.PhyMemMode") in ("0", "1")

    @contextlib.contextmanager
    def _physical_mode(self) -> Iterator[None]:
        """Make the stub's memory packets use physical addresses, and go back to the mode it had."""
        mode = self._stub.packet("qqemu.PhyMemMode")
        if mode not in ("0", "1"):
            raise TargetError(
                f"this gdbstub cannot read physical memory: it answered {mode!r} to qqemu.PhyMemMode; QEMU has it "
                "since 4.1"
            )
        if mode == "0":
            self._stub.packet("Qqemu.PhyMemMode:1")
        try:
            yield
        finally:
            if mode == "0":
                self._stub.packet("Qqemu.PhyMemMode:0")
