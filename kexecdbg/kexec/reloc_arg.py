"""``struct kern_reloc_arg``: what the 2019 series passes to the relocation code in x0.

Layout: "[RFC v2 8/8] arm64: MMU enabled kexec relocation" (Message-Id
20190731153857.4045-9-pasha.tatashin@soleen.com): seven 64-bit fields.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass

_LAYOUT = struct.Struct("<7Q")


@dataclass(frozen=True)
class KernRelocArg:
    """The RFC v2 argument block; all addresses are physical.

    Attributes:
        head: first entry of the page list.
        entry_addr: where the new kernel starts.
        kern_arg0: the device tree, passed in x0; kern_arg1 to kern_arg3 are 0 in the boot protocol.
        trans_table: root of the page tables that the relocation runs on.
    """

    head: int
    entry_addr: int
    kern_arg0: int
    kern_arg1: int
    kern_arg2: int
    kern_arg3: int
    trans_table: int

    SIZE = _LAYOUT.size

    def pack(self) -> bytes:
        """The block as it lies in memory, little-endian."""
        return _LAYOUT.pack(*astuple(self))

    @classmethod
    def unpack(cls, data: bytes) -> KernRelocArg:
        """The block found in the first 56 bytes of ``data``."""
        return cls(*_LAYOUT.unpack_from(data))
