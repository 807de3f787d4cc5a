"""Physical memory with a few words replaced: what a walk would see after a repair."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from kexecdbg.arm64.interfaces import PhysicalMemory


class OverlayMemory:
    """``memory`` with 64-bit words replaced, by physical address."""

    def __init__(self, memory: PhysicalMemory, words: Mapping[int, int], big_endian: bool = False) -> None:
        self._memory = memory
        self._words = words
        self._word = struct.Struct(">Q" if big_endian else "<Q")

    def read(self, address: int, size: int) -> bytes:
        """As the memory below, with the replaced words in place; ``size`` bytes."""
        data = bytearray(self._memory.read(address, size))
        for word_address, value in self._words.items():
            if address <= word_address and word_address + 8 <= address + size:
                self._word.pack_into(data, word_address - address, value)
        return bytes(data)
