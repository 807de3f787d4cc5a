"""Tells what x0 points to at the relocation code's entry, by what is there.

A layout fits when every field that is understood could be what it says. Two layouts that fit are no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.vectors import VECTORS_SIZE
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.kexec.argument import ArgumentLayout, RelocationArgument, read_argument
from kexecdbg.kexec.kimage import KIMAGE_5_16, SEGMENT_MAX, read_segments
from kexecdbg.kexec.page_list import ALL_FLAGS, PAGE_SIZE
from kexecdbg.kexec.reloc_arg import PATCH_V1, PATCH_V9, RFC_V2

LAYOUTS = (RFC_V2, PATCH_V1, PATCH_V9, KIMAGE_5_16)

_PHYSICAL_BITS = 52
_KERNEL_ADDRESSES = 0xFFF << 52
"""Kernel addresses have at least their 12 top bits set (VA_BITS is 52 at most)."""


@dataclass(frozen=True)
class Recognition:
    """What an address was found to be.

    Attributes:
        argument: the block, or ``None`` when it cannot be told.
        refusals: for each layout that does not fit, by name, the reason as a clause.
    """

    argument: RelocationArgument | None
    refusals: Mapping[str, str] = field(hash=False)


def recognise(memory: PhysicalMemory, address: int, layouts: Sequence[ArgumentLayout] = LAYOUTS) -> Recognition:
    """The argument block at the physical ``address``, if exactly one of ``layouts`` fits what is there."""
    fitting: list[RelocationArgument] = []
    refusals: dict[str, str] = {}
    for layout in layouts:
        try:
            argument = read_argument(memory, address, layout)
            refusal = _refusal(memory, argument)
        except MemoryUnreadableError as error:
            refusal = f"{error.address:#x} cannot be read: {error.reason}"
        if refusal is None:
            fitting.append(argument)
        else:
            refusals[layout.name] = refusal
    if len(fitting) == 1:
        return Recognition(fitting[0], refusals)
    others = ", ".join(argument.layout.name for argument in fitting)
    return Recognition(None, refusals | {argument.layout.name: f"as likely as {others}" for argument in fitting})


Test = Callable[[PhysicalMemory, int], bool]


def _is_head(_: PhysicalMemory, value: int) -> bool:
    """A page address with flags; that the list is sound is the audit's business."""
    return bool(value & ALL_FLAGS) and not value & (PAGE_SIZE - 1) & ~int(ALL_FLAGS) and not value >> _PHYSICAL_BITS


def _is_code(memory: PhysicalMemory, value: int) -> bool:
    return value != 0 and value % 4 == 0 and _readable(memory, value)


def _is_page(memory: PhysicalMemory, value: int) -> bool:
    return value != 0 and value % PAGE_SIZE == 0 and _readable(memory, value)


def _is_memory_or_zero(memory: PhysicalMemory, value: int) -> bool:
    return value == 0 or (value % 8 == 0 and _readable(memory, value))


def _is_vectors_or_zero(memory: PhysicalMemory, value: int) -> bool:
    return value == 0 or (value % VECTORS_SIZE == 0 and _readable(memory, value))


def _is_zero(_: PhysicalMemory, value: int) -> bool:
    return value == 0


def _is_kernel_address(_: PhysicalMemory, value: int) -> bool:
    return value & _KERNEL_ADDRESSES == _KERNEL_ADDRESSES and value % 8 == 0


def _is_size_field(_: PhysicalMemory, value: int) -> bool:
    return value < 64


def _is_length(_: PhysicalMemory, value: int) -> bool:
    return value % PAGE_SIZE == 0 and not value >> _PHYSICAL_BITS


def _is_segment_count(_: PhysicalMemory, value: int) -> bool:
    return 1 <= value <= SEGMENT_MAX


_KERN_RELOC_ARG: dict[str, Test] = {
    "head": _is_head,
    "entry_addr": _is_code,
    "kern_arg0": _is_memory_or_zero,
    "kern_arg1": _is_zero,
    "kern_arg2": _is_zero,
    "kern_arg3": _is_zero,
}
_CONTIGUOUS: dict[str, Test] = {
    "el2_vector": _is_vectors_or_zero,
    "trans_ttbr0": _is_page,
    "trans_ttbr1": _is_page,
    "src_addr": _is_kernel_address,
    "dst_addr": _is_kernel_address,
    "copy_len": _is_length,
}
_KERN_RELOC_ARGS: dict[ArgumentLayout, dict[str, Test]] = {
    RFC_V2: {**_KERN_RELOC_ARG, "trans_table": _is_page},
    PATCH_V1: {**_KERN_RELOC_ARG, **_CONTIGUOUS},
    PATCH_V9: {**_KERN_RELOC_ARG, **_CONTIGUOUS, "trans_t0sz": _is_size_field},
}
_KIMAGE: dict[str, Test] = {
    "head": _is_head,
    "entry": _is_kernel_address,
    "last_entry": _is_kernel_address,
    "start": _is_code,
    "control_code_page": _is_kernel_address,
    "nr_segments": _is_segment_count,
    "control_pages": _is_kernel_address,
    "arch.dtb_mem": _is_memory_or_zero,
    "arch.kern_reloc": _is_page,
    "arch.el2_vectors": _is_vectors_or_zero,
    "arch.ttbr0": _is_page,
    "arch.ttbr1": _is_page,
    "arch.zero_page": _is_page,
    "arch.t0sz": _is_size_field,
}
"""Of a layout that was found in code or debug information, the fields that it has."""


def _refusal(memory: PhysicalMemory, argument: RelocationArgument) -> str | None:
    """Why ``argument`` cannot be what its layout says, or ``None``."""
    for name, test in _KERN_RELOC_ARGS.get(argument.layout, _KIMAGE).items():
        if name in argument.values and not test(memory, argument.values[name]):
            return f"{name} would be {argument.values[name]:#x}"
    if argument.layout is RFC_V2 and _is_used(memory, argument.end, PATCH_V9.size - RFC_V2.size):
        return f"there is more behind it, at {argument.end:#x}"
    if argument.layout.segments is not None:
        for number, segment in enumerate(read_segments(memory, argument)):
            if segment.start % PAGE_SIZE or segment.memory_size % PAGE_SIZE or not segment.memory_size:
                return f"segment[{number}] would be {segment.start:#x}, {segment.memory_size:#x} bytes"
    return None


def _is_used(memory: PhysicalMemory, address: int, size: int) -> bool:
    """Whether anything but zeros is there. The kernel gives the block a cleared page of its own."""
    try:
        return any(memory.read(address, size))
    except MemoryUnreadableError:
        return False


def _readable(memory: PhysicalMemory, address: int) -> bool:
    if address >> _PHYSICAL_BITS:
        return False
    try:
        memory.read(address, 4)
    except MemoryUnreadableError:
        return False
    return True
