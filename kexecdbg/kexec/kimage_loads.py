"""Where the fields of ``struct kimage`` are, by the loads at the start of the relocation code: no symbols needed.

arch/arm64/kernel/relocate_kernel.S, arm64_relocate_new_kernel, loads everything before the copy loop, in this order
since Linux 5.19 (20220516160735.731404-1-mark.rutland@arm.com).
"""

from __future__ import annotations

import struct

from kexecdbg.arm64.evaluation.loads_and_stores import Indexing, load_store
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.errors import UsageError
from kexecdbg.kexec.argument import ArgumentLayout
from kexecdbg.kexec.kimage import kimage_layout

ORDER = (
    "start",
    "arch.el2_vectors",
    "arch.dtb_mem",
    "arch.zero_page",
    "arch.ttbr1",
    "head",
    "arch.phys_offset",
)
_FIELD_SIZE = 8
_LOOKED_AT = 32
"""Instructions at the start of the code that are searched for the loads."""


def layout_by_loads(code: bytes) -> ArgumentLayout:
    """The layout of ``struct kimage`` that relocation ``code`` relies on: the seven fields that it loads, no others.

    Args:
        code: the instructions from the relocation code's first one on.

    Raises:
        UsageError: it does not load seven fields through x0, or not with offsets that structure can have.
    """
    offsets: list[int] = []
    for (word,) in struct.iter_unpack("<I", code[: min(_LOOKED_AT, len(code) // INSTRUCTION_SIZE) * INSTRUCTION_SIZE]):
        moved = load_store(word)
        if moved is None or moved.access is not Access.READ or moved.base != 0 or moved.prefetch:
            continue
        if (moved.size, moved.elements, moved.index, moved.indexing) != (_FIELD_SIZE, 1, None, Indexing.NONE):
            continue
        offsets.append(moved.offset)
        if len(offsets) == len(ORDER) or 0 in moved.registers:
            break
    if len(offsets) != len(ORDER):
        raise UsageError(
            f"the code loads {len(offsets)} fields through x0, not the {len(ORDER)} that mainline's relocation loads"
        )
    found = dict(zip(ORDER, offsets, strict=True))
    in_arch = [found[name] for name in ORDER if name.startswith("arch.")]
    if len(set(offsets)) != len(offsets) or not found["head"] < found["start"] < min(in_arch) or found["head"]:
        shown = ", ".join(f"{name} {offset}" for name, offset in found.items())
        raise UsageError(f"the loads through x0 are not those of a struct kimage: {shown}")
    return kimage_layout(
        "by the loads of the relocation code",
        found,
        "the ldr immediates at the start of the relocation code",
        size=max(offsets) + _FIELD_SIZE,
        segments=None,
    )
