"""Going down the tables of one stage for one address: the loop that both stages share.

Pseudocode ``AArch64.S1Walk``, ``AArch64.S2Walk``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.descriptors import (
    AF_BIT,
    LEAF_KINDS,
    BitNames,
    DescriptorKind,
    descriptor_kind,
    set_bit_names,
)
from kexecdbg.arm64.faults import Cause, CauseKind, Fault, FaultKind
from kexecdbg.arm64.geometry import LAST_LEVEL, TableFormat
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.errors import MemoryUnreadableError


@dataclass(frozen=True)
class WalkLevel:
    """One descriptor that a walk read.

    Attributes:
        level: -1 to 3.
        address: physical address of the descriptor.
        descriptor: its value, or ``None`` when the memory could not be read.
        kind: what it is at this level.
        output: address of the next table, or of the first byte that a leaf maps; ``None`` otherwise.
        notes: names of the attribute bits that are set.
        ipa: the descriptor's intermediate physical address, when the tables are themselves under stage 2.
    """

    level: int
    address: int
    descriptor: int | None
    kind: DescriptorKind
    output: int | None
    notes: tuple[str, ...] = ()
    ipa: int | None = None


@dataclass(frozen=True)
class Descent:
    """The levels that were read, and the fault that ended the walk before a usable leaf."""

    levels: tuple[WalkLevel, ...]
    fault: Fault | None

    @property
    def leaf(self) -> WalkLevel | None:
        """The last level, if it is a page or block."""
        return self.levels[-1] if self.levels and self.levels[-1].kind in LEAF_KINDS else None


@dataclass(frozen=True)
class TableAddress:
    """Where a descriptor really is: its physical address, or the stage 2 fault on the way there."""

    physical: int
    ipa: int | None = None
    fault: Fault | None = None


Locate = Callable[[int], TableAddress]


def read_in_place(address: int) -> TableAddress:
    """Tables at physical addresses: no second stage below them."""
    return TableAddress(address)


def descend(
    table: TableFormat,
    base: int,
    base_register: str,
    address: int,
    memory: PhysicalMemory,
    names: BitNames,
    locate: Locate = read_in_place,
) -> Descent:
    """Walk from the first table at ``base`` down to the leaf for ``address``.

    Never raises for what memory holds: an unreadable descriptor ends the walk with an ``UNREADABLE`` level.
    """
    if not table.fits(base):
        text = f"{base_register} points to {base:#x}, beyond the {table.output_bits}-bit output size"
        cause = Cause(CauseKind.TABLE_BASE_SIZE, text, register=base_register, field="BADDR")
        return Descent((), Fault(FaultKind.ADDRESS_SIZE, 0, cause, table.stage))
    levels: list[WalkLevel] = []
    for level in range(table.start_level, LAST_LEVEL + 1):
        place = locate(base + 8 * table.index(address, level))
        if place.fault is not None:
            return Descent(tuple(levels), place.fault)
        try:
            raw = memory.read(place.physical, 8)
        except MemoryUnreadableError as error:
            levels.append(WalkLevel(level, place.physical, None, DescriptorKind.UNREADABLE, None, (), place.ipa))
            return Descent(tuple(levels), _unreadable(table, level, place.physical, error))
        descriptor = int.from_bytes(raw, "big" if table.big_endian else "little")
        step = read_descriptor(table, level, place.physical, descriptor, names)
        levels.append(step if place.ipa is None else replace(step, ipa=place.ipa))
        fault = _descriptor_fault(table, step, descriptor)
        if fault is not None or step.kind in LEAF_KINDS:
            return Descent(tuple(levels), fault)
        assert step.output is not None
        base = step.output
    raise AssertionError("a level 3 descriptor is never a table")


def read_descriptor(table: TableFormat, level: int, address: int, descriptor: int, names: BitNames) -> WalkLevel:
    """The meaning of a descriptor at its level."""
    kind = descriptor_kind(table, descriptor, level)
    if kind is DescriptorKind.TABLE:
        output: int | None = table.output_address(descriptor, table.granule.shift)
        notes = set_bit_names(names.table, descriptor)
    elif kind in LEAF_KINDS:
        output = table.output_address(descriptor, table.shift(level))
        notes = set_bit_names(names.leaf, descriptor)
    else:
        output, notes = None, ()
    return WalkLevel(level, address, descriptor, kind, output, notes)


def named(table: TableFormat, level: int, address: int) -> str:
    """``the level 3 descriptor at 0x1b306c320``, with the stage where it is stage 2."""
    return f"the {'stage 2 ' if table.stage == 2 else ''}level {level} descriptor at {address:#x}"


def _unreadable(table: TableFormat, level: int, address: int, error: MemoryUnreadableError) -> Fault:
    text = f"{named(table, level, address)} cannot be read ({error.reason}), so what follows is unknown"
    return Fault(
        FaultKind.UNKNOWN, level, Cause(CauseKind.UNREADABLE_TABLE, text, level=level, address=address), table.stage
    )


def _descriptor_fault(table: TableFormat, step: WalkLevel, descriptor: int) -> Fault | None:
    """The fault that a descriptor causes whatever the access is, in the architecture's order of checks."""

    def fault(kind: FaultKind, cause: CauseKind, what: str, position: int | None = None) -> Fault:
        text = f"{named(table, step.level, step.address)}, {descriptor:#x}, {what}"
        return Fault(
            kind, step.level, Cause(cause, text, level=step.level, address=step.address, bit=position), table.stage
        )

    if step.kind is DescriptorKind.INVALID:
        return fault(FaultKind.TRANSLATION, CauseKind.INVALID_DESCRIPTOR, "is invalid: bit 0 is clear", 0)
    if step.kind is DescriptorKind.RESERVED and step.level == LAST_LEVEL:
        what = "has bits [1:0] = 0b01, reserved at level 3"
        return fault(FaultKind.TRANSLATION, CauseKind.RESERVED_DESCRIPTOR, what, 1)
    if step.kind is DescriptorKind.RESERVED:
        what = f"is a block (bit 1 is clear), which the {table.granule.name} granule does not allow at this level"
        return fault(FaultKind.TRANSLATION, CauseKind.ILLEGAL_BLOCK, what, 1)
    assert step.output is not None
    if not table.fits(step.output):
        is_table = step.kind is DescriptorKind.TABLE
        cause = CauseKind.NEXT_TABLE_SIZE if is_table else CauseKind.OUTPUT_SIZE
        what = "points to a table at" if is_table else "maps to"
        return fault(
            FaultKind.ADDRESS_SIZE, cause, f"{what} {step.output:#x}, beyond the {table.output_bits}-bit output size"
        )
    if step.kind in LEAF_KINDS and not bit(descriptor, AF_BIT) and not table.hardware_af:
        what = "has bit 10 (AF) clear and the CPU does not set it (TCR HA is 0)"
        return fault(FaultKind.ACCESS_FLAG, CauseKind.ACCESS_FLAG, what, AF_BIT)
    return None
