"""What the relocation code gets in x0: a block of 64-bit fields whose layout depends on the kernel.

The layouts themselves are data: :mod:`kexecdbg.kexec.reloc_arg` has those of the 2019 series,
:mod:`kexecdbg.kexec.kimage` the mainline one.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from kexecdbg.arm64.interfaces import PhysicalMemory

_WORD = struct.Struct("<Q")


class Role(enum.Enum):
    """What a field is for, whatever its layout calls it."""

    HEAD = "first entry of the page list"
    ENTRY = "physical address of the new kernel's first instruction"
    DEVICE_TREE = "physical address of the device tree, 0 when somebody else knows it"
    EL2_VECTORS = "physical address of the EL2 vectors made for the relocation, 0 when it ends at its own level"
    TTBR0 = "value for TTBR0: tables with the relocation code mapped one to one"
    TTBR1 = "physical address of the tables for TTBR1"
    T0SZ = "value for TCR_EL1.T0SZ while TTBR0 is in use"


class Addressing(enum.Enum):
    """How the relocation code gets from a physical address of the page list to the one it uses."""

    IDENTITY = "the tables map every page at its physical address"
    LINEAR_MAP = "the tables map every page at its physical address minus phys_offset"
    CONTIGUOUS = "the tables map all sources in a row at src_addr and all destinations in a row at dst_addr"


@dataclass(frozen=True)
class ArgumentLayout:
    """Where the fields are.

    Attributes:
        name: structure and version, as users read it.
        offsets: byte offset of each 64-bit field, by the kernel's name.
        roles: the fields that we understand.
        addressing: how the relocation code addresses the pages of the list.
        size: bytes that the relocation code may read.
        source: where the layout is from.
        segments: byte offset of the image's segments (``kimage.segment``); ``None`` when the structure has none, or
            nobody knows where.
    """

    name: str
    offsets: Mapping[str, int] = field(hash=False)
    roles: Mapping[Role, str] = field(hash=False)
    addressing: Addressing
    size: int
    source: str
    segments: int | None = None

    def field_at(self, offset: int) -> str | None:
        """The field that the byte at ``offset`` belongs to, or ``None`` where the layout names none."""
        for name, start in self.offsets.items():
            if start <= offset < start + _WORD.size:
                return name
        return None

    def pack(self, values: Mapping[str, int]) -> bytes:
        """The block as it lies in memory, little-endian; fields that ``values`` lacks are 0."""
        data = bytearray(self.size)
        for name, value in values.items():
            _WORD.pack_into(data, self.offsets[name], value)
        return bytes(data)


@dataclass(frozen=True)
class RelocationArgument:
    """An argument block in memory.

    Attributes:
        layout: what it was read as.
        address: physical address of the block.
        values: the fields by the kernel's name.
    """

    layout: ArgumentLayout
    address: int
    values: Mapping[str, int] = field(hash=False)

    def get(self, role: Role) -> int | None:
        """The field with this role, or ``None`` when the layout has none."""
        name = self.layout.roles.get(role)
        return None if name is None else self.values[name]

    def require(self, role: Role) -> int:
        """The field with this role, which every layout has (HEAD, ENTRY)."""
        return self.values[self.layout.roles[role]]

    @property
    def end(self) -> int:
        """First physical address after the block."""
        return self.address + self.layout.size


def read_argument(memory: PhysicalMemory, address: int, layout: ArgumentLayout) -> RelocationArgument:
    """The block at the physical ``address``, read as ``layout``.

    Raises:
        MemoryUnreadableError: some of it cannot be read.
    """
    data = memory.read(address, layout.size)
    values = {name: _WORD.unpack_from(data, offset)[0] for name, offset in layout.offsets.items()}
    return RelocationArgument(layout, address, values)
