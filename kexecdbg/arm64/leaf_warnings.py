"""What is legal in a leaf but behaves differently from one CPU to another, or is hardly ever meant."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bit, field_mask
from kexecdbg.arm64.descent import WalkLevel, named
from kexecdbg.arm64.descriptors import AF_BIT, AP2_BIT, CONTIGUOUS_BIT, DBM_BIT, NT_BIT, DescriptorKind
from kexecdbg.arm64.faults import Cause, CauseKind
from kexecdbg.arm64.geometry import TableFormat
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.memory_types import MemoryType, Shareability
from kexecdbg.errors import MemoryUnreadableError


def leaf_warnings(table: TableFormat, leaf: WalkLevel, memory: PhysicalMemory, contiguous: bool) -> Iterator[Cause]:
    """Warnings about one leaf: a misprogrammed contiguous run (its other entries are read), and the nT bit.

    Args:
        table: the format of the leaf's table.
        leaf: a page or block.
        memory: physical memory, for the rest of the run.
        contiguous: whether the Contiguous bit counts and is set.
    """
    if leaf.kind is DescriptorKind.BLOCK and bit(leaf.descriptor or 0, NT_BIT):
        text = f"bit 16 (nT) of {named(table, leaf.level, leaf.address)} is set: some CPUs take a Translation fault"
        yield Cause(CauseKind.NT_SET, text, leaf.level, leaf.address, NT_BIT)
    if contiguous:
        problem = _contiguous_problem(table, leaf, memory)
        if problem is not None:
            yield Cause(CauseKind.CONTIGUOUS_MISPROGRAMMED, problem, leaf.level, leaf.address, CONTIGUOUS_BIT)


def memory_warnings(
    where: str, leaf: WalkLevel, memory_type: MemoryType | None, shareability: Shareability | None, executable: bool
) -> Iterator[Cause]:
    """Warnings about the memory attributes of the leaf named ``where``."""
    if memory_type is not None and not memory_type.predictable:
        text = f"{where} selects a reserved memory type: its behaviour is UNPREDICTABLE"
        yield Cause(CauseKind.MEMORY_TYPE_RESERVED, text, leaf.level, leaf.address)
    if shareability is Shareability.RESERVED:
        text = f"{where} has the reserved shareability 1"
        yield Cause(CauseKind.SHAREABILITY_RESERVED, text, leaf.level, leaf.address, 8)
    if memory_type is not None and memory_type.is_device and executable:
        text = f"{where} is executable Device memory: an instruction fetch may take a Permission fault"
        yield Cause(CauseKind.EXECUTE_DEVICE, text, leaf.level, leaf.address)


def _contiguous_problem(table: TableFormat, leaf: WalkLevel, memory: PhysicalMemory) -> str | None:
    """Why the run of a leaf with the Contiguous bit is not one, or ``None`` (also when it cannot be read)."""
    entries = table.contiguous_entries(leaf.level)
    if entries == 1:
        return None
    run_address = leaf.address & -(8 * entries)
    try:
        raw = memory.read(run_address, 8 * entries)
    except MemoryUnreadableError:
        return None
    step = 1 << table.shift(leaf.level)
    first: int | None = None
    for index in range(entries):
        descriptor = int.from_bytes(raw[8 * index : 8 * index + 8], "big" if table.big_endian else "little")
        where = named(table, leaf.level, run_address + 8 * index)
        if _attributes(table, descriptor, leaf.level) != _attributes(table, leaf.descriptor or 0, leaf.level):
            return f"{where}, {descriptor:#x}, is in the same contiguous run of {entries} but has other attributes"
        output = table.output_address(descriptor, table.shift(leaf.level))
        first = output if first is None else first
        expected = first + index * step
        if output != expected:
            return f"{where} is in the same contiguous run of {entries} but maps {output:#x}, not {expected:#x}"
    if first is not None and first & (entries * step - 1):
        return f"the contiguous run of {entries} at {run_address:#x} maps {first:#x}, not aligned to its own size"
    return None


def _attributes(table: TableFormat, descriptor: int, level: int) -> int:
    """The bits that must agree within a contiguous run: not the address, nor what the CPU itself updates."""
    address = field_mask(47, table.shift(level))
    if table.ds:
        address |= field_mask(49, 48) | field_mask(9, 8)
    elif table.lpa:
        address |= field_mask(15, 12)
    updated = 1 << AF_BIT | (1 << AP2_BIT if bit(descriptor, DBM_BIT) else 0)
    return descriptor & ~(address | updated)
