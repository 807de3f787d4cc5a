"""``struct kimage``: what mainline's relocation code gets in x0 since Linux 5.16 (as a virtual address).

Linux include/linux/kexec.h (struct kimage), arch/arm64/include/asm/kexec.h (struct kimage_arch), commit efc2d0f20a9d
("arm64: kexec: keep MMU enabled during kexec relocation").
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.kexec.argument import Addressing, ArgumentLayout, RelocationArgument, Role

SEGMENT_MAX = 16
"""KEXEC_SEGMENT_MAX, include/uapi/linux/kexec.h."""
_SEGMENT = struct.Struct("<4Q")

_ROLES = {
    Role.HEAD: "head",
    Role.ENTRY: "start",
    Role.DEVICE_TREE: "arch.dtb_mem",
    Role.EL2_VECTORS: "arch.el2_vectors",
    Role.TTBR0: "arch.ttbr0",
    Role.TTBR1: "arch.ttbr1",
    Role.T0SZ: "arch.t0sz",
}
FIELDS = (
    "head", "entry", "last_entry", "start", "control_code_page", "nr_segments",
    "arch.dtb_mem", "arch.kern_reloc", "arch.el2_vectors", "arch.ttbr0", "arch.ttbr1", "arch.zero_page",
    "arch.phys_offset", "arch.t0sz",
)  # fmt: skip
"""What has to be found in debug information; fields of the structure that nobody needs may be missing."""
MORE_FIELDS = ("control_pages",)
"""What is used where debug information has it. Of a structure, its first 64 bits are the field."""


def kimage_layout(
    name: str, offsets: Mapping[str, int], source: str, *, size: int, segments: int | None
) -> ArgumentLayout:
    """A layout of ``struct kimage``.

    Args:
        name: what users read after ``struct kimage``.
        offsets: byte offset by field; fields of ``kimage->arch`` begin with ``arch.``. Those that are missing have no
            role in the layout.
        source: where the offsets are from.
        size: bytes of the structure that are read.
        segments: byte offset of ``segment``.
    """
    roles = {role: field for role, field in _ROLES.items() if field in offsets}
    return ArgumentLayout(f"struct kimage, {name}", dict(offsets), roles, Addressing.LINEAR_MAP, size, source, segments)


KIMAGE_5_16 = kimage_layout(
    "5.16 to 6.1",
    {
        "head": 0,
        "entry": 8,
        "last_entry": 16,
        "start": 24,
        "control_code_page": 32,
        "swap_page": 40,
        "vmcoreinfo_data_copy": 48,
        "nr_segments": 56,
        "control_pages": 576,
        "arch.dtb": 640,
        "arch.dtb_mem": 648,
        "arch.kern_reloc": 656,
        "arch.el2_vectors": 664,
        "arch.ttbr0": 672,
        "arch.ttbr1": 680,
        "arch.zero_page": 688,
        "arch.phys_offset": 696,
        "arch.t0sz": 704,
    },
    "Linux 6.1 include/linux/kexec.h and arch/arm64/include/asm/kexec.h with KEXEC_SEGMENT_MAX 16; the offsets agree "
    "with asm-offsets.h of such a build. Other configurations and newer kernels differ.",
    size=712,
    segments=64,
)
"""The layout of a plain build; take offsets from debug information where there is any."""


@dataclass(frozen=True)
class Segment:
    """One ``struct kexec_segment``: where a part of the image goes.

    Attributes:
        buffer: where it came from (an address of the loading program, or of the kernel).
        buffer_size: bytes that were loaded; the rest up to ``memory_size`` is zeros.
        start: physical address of its destination, a multiple of the page size.
        memory_size: bytes of the destination, a multiple of the page size.
    """

    buffer: int
    buffer_size: int
    start: int
    memory_size: int

    @property
    def end(self) -> int:
        """First physical address after the destination."""
        return self.start + self.memory_size


def read_segments(memory: PhysicalMemory, kimage: RelocationArgument) -> tuple[Segment, ...]:
    """The segments of a ``struct kimage``; at most SEGMENT_MAX, whatever nr_segments says.

    ``kimage.layout.segments`` has to be known.

    Raises:
        MemoryUnreadableError: some of them cannot be read.
    """
    offset = kimage.layout.segments
    assert offset is not None
    count = min(kimage.values["nr_segments"], SEGMENT_MAX)
    data = memory.read(kimage.address + offset, count * _SEGMENT.size)
    return tuple(Segment(*fields) for fields in _SEGMENT.iter_unpack(data))
