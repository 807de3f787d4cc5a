"""The fields of a translation table descriptor, as a strip shows them.

Arm ARM D8.3 (descriptor formats); with permission indirection, D8.4.1.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kexecdbg.arm64.descriptors import LEAF_KINDS, STAGE2_NAMES, BitNames, DescriptorKind
from kexecdbg.arm64.geometry import TableFormat
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.stage2 import stage2_of
from kexecdbg.arm64.translation import stage1_of
from kexecdbg.arm64.walk import bit_names
from kexecdbg.ui.report.bit_strip import StripField

_INDIRECT_NAMES = {54: "PIIndex[3]", 53: "PIIndex[2]", 51: "PIIndex[1]", 6: "PIIndex[0]"}


@dataclass(frozen=True)
class Tables:
    """Tables as a drawing needs to know them.

    Attributes:
        form: their shape.
        names: what single bits of their descriptors are called.
        base_register: where they start, ``TTBR0_EL2``.
        base: physical address of the first table (an IPA in EL1&0 under stage 2).
    """

    form: TableFormat
    names: BitNames
    base_register: str
    base: int


def stage1_tables(registers: RegisterValues, regime: Regime, va: int) -> Tables:
    """The stage 1 tables that translate ``va``.

    Raises:
        RegisterUnknownError: a register that decides is unknown.
    """
    stage1 = stage1_of(registers, regime, upper=regime.facts.is_upper(va))
    names = bit_names(stage1)
    if stage1.rules.indirect is not None:
        kept = {position: name for position, name in names.leaf.items() if position not in _INDIRECT_NAMES}
        names = BitNames({**kept, **_INDIRECT_NAMES}, names.table)
    return Tables(stage1.table, names, stage1.ttbr, stage1.base)


def stage2_tables(registers: RegisterValues) -> Tables:
    """The stage 2 tables.

    Raises:
        RegisterUnknownError: a register that decides is unknown.
    """
    stage2 = stage2_of(registers)
    return Tables(stage2.table, STAGE2_NAMES, "VTTBR_EL2", stage2.base)


def descriptor_fields(tables: Tables, kind: DescriptorKind, level: int) -> tuple[StripField, ...]:
    """The fields of a descriptor of this kind at ``level``, from the highest bit down."""
    form = tables.form
    if kind is DescriptorKind.TABLE:
        address = StripField("next table's address", 47, form.granule.shift, "address")
        return _with_single_bits((address, StripField("type", 1, 0, "type")), tables.names.table)
    if kind not in LEAF_KINDS:
        return (StripField("type", 1, 0, "type"),)
    wide = [
        StripField("output address", 49 if form.ds else 47, form.shift(level), "address"),
        StripField("SH", 9, 8) if not form.ds else StripField("OA", 9, 8, "address"),
        StripField("MemAttr", 5, 2) if form.stage == 2 else StripField("AttrIndx", 4, 2),
        StripField("type", 1, 0, "type"),
    ]
    if form.lpa:
        wide.append(StripField("OA", 15, 12, "address"))
    if form.stage == 1:
        wide.append(StripField("NS", 5, 5))
    return _with_single_bits(tuple(wide), tables.names.leaf)


def _with_single_bits(wide: tuple[StripField, ...], single: Mapping[int, str]) -> tuple[StripField, ...]:
    taken = {position for field in wide for position in range(field.lsb, field.msb + 1)}
    fields = [StripField(name, position, position) for position, name in single.items() if position not in taken]
    return tuple(sorted((*wide, *fields), key=lambda field: -field.msb))


def address_fields(form: TableFormat) -> tuple[StripField, ...]:
    """The fields of an input address: what is checked, the index of each level, the offset in a page."""
    fields = []
    if form.input_bits < 64:
        fields.append(StripField("the range", 63, form.input_bits))
    for level in range(form.start_level, 4):
        shift = form.shift(level)
        class_ = f"level{max(level, 0)}"
        fields.append(StripField(f"level {level}", shift + form.index_bits(level) - 1, shift, class_))
    fields.append(StripField("offset in the page", form.granule.shift - 1, 0))
    return tuple(fields)
