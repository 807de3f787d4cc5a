"""The table entries that Linux prints for a faulting address, held against the syndrome.

Neither is corrected from the other: when they disagree, one of them is stale or damaged, and which one is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.descriptors import (
    AF_BIT,
    LEAF_KINDS,
    TWO_RANGE_NAMES,
    DescriptorKind,
    descriptor_kind,
    set_bit_names,
)
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.geometry import (
    ADDRESS_SIZES,
    GRANULE_4K,
    GRANULE_16K,
    GRANULE_64K,
    LAST_LEVEL,
    TableFormat,
    stage1_start_level,
)
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.permissions import TWO_RANGE_LAYOUT, Denials, PermissionRules, decide
from kexecdbg.arm64.pstate import el_of, pan_of
from kexecdbg.arm64.regimes import SCTLR_WXN, WIDE_TCR
from kexecdbg.arm64.syndromes.ec import ABORTS, ABORTS_OF_LOWER_EL, INSTRUCTION_ABORTS, ec_of
from kexecdbg.machine.pasted_text import PrintedWalk

_GRANULES = {4: GRANULE_4K, 16: GRANULE_16K, 64: GRANULE_64K}
# The level that each of Linux's names has with five levels; with fewer, the upper ones fold into the first table.
_FULL_LEVELS = {"pgd": -1, "p4d": 0, "pud": 1, "pmd": 2, "pte": 3}
_COMMON_VA_BITS = 48
_LARGEST_VA_BITS = 52
_SMALLEST_VA_BITS = 25


class Agreement(Enum):
    """How the printed entries relate to the syndrome."""

    AGREES = "agrees"
    DIFFERS = "differs"
    OPEN = "cannot be told"


@dataclass(frozen=True)
class PrintedLevel:
    """One descriptor.

    Attributes:
        names: what Linux calls it; several where the kernel folds levels.
        level: -1 to 3.
        output: address of the next table or of what a leaf maps; ``None`` for others.
        notes: names of the attribute bits that are set.
    """

    names: tuple[str, ...]
    level: int
    descriptor: int
    kind: DescriptorKind
    output: int | None
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """For instance ``pgd=p4d``."""
        return "=".join(self.names)


@dataclass(frozen=True)
class WalkJudgement:
    """A printed walk, decoded.

    Attributes:
        table: geometry of the tables.
        levels: from the first table down.
        rights: ``rwx`` of a leaf for the kernel, and for EL0; ``None`` without a leaf.
        agreement: whether the syndrome tells the same.
        text: what the entries say and how it relates to the syndrome, as sentences.
        assumptions: what the text does not say and was taken for granted, as sentences.
    """

    walk: PrintedWalk
    table: TableFormat
    levels: tuple[PrintedLevel, ...]
    rights: tuple[str, str] | None
    agreement: Agreement
    text: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def geometry(self) -> str:
        """One clause: ``4K pages, 48-bit addresses: levels 0 to 3``."""
        table = self.table
        return (
            f"{table.granule.name} pages, {table.input_bits}-bit addresses: levels {table.start_level} to {LAST_LEVEL}"
        )

    @property
    def stop(self) -> PrintedLevel | None:
        """The first descriptor that is not valid."""
        return next((item for item in self.levels if item.kind in _NOT_VALID), None)

    @property
    def leaf(self) -> PrintedLevel | None:
        """The page or block that the walk ends in."""
        return self.levels[-1] if self.levels[-1].kind in LEAF_KINDS else None


_NOT_VALID = frozenset({DescriptorKind.INVALID, DescriptorKind.RESERVED})


def judge_walk(walk: PrintedWalk, esr: int | None, registers: RegisterValues) -> WalkJudgement:
    """Decode the entries of ``walk`` by level and compare them with the syndrome ``esr``; never raises.

    Args:
        walk: the printed entries.
        esr: the syndrome of the same fault, or ``None``.
        registers: what else is known; TCR_EL1, SCTLR_EL1 and PSTATE (or the EL2 ones) refine the answer.
    """
    table, assumptions = _format(walk)
    levels, remarks = _levels(walk, table)
    judged = WalkJudgement(walk, table, levels, None, Agreement.OPEN, (), (*assumptions, *remarks))
    rights = _rights(judged, registers)
    agreement, text = _compare(judged, rights, esr, registers)
    letters = None if rights is None else (rights[0].text, rights[1].text)
    return WalkJudgement(walk, table, levels, letters, agreement, (_what_is_printed(judged), text), judged.assumptions)


def _format(walk: PrintedWalk) -> tuple[TableFormat, tuple[str, ...]]:
    granule = _GRANULES.get(walk.page_kib or 0)
    input_bits = walk.va_bits if _SMALLEST_VA_BITS <= (walk.va_bits or 0) <= _LARGEST_VA_BITS else None
    assumptions: tuple[str, ...] = ()
    if granule is None or input_bits is None:
        granule = granule or GRANULE_4K
        input_bits = _folded_va_bits(walk)
        assumptions = (
            "The text has no usable 'pgtable:' line: "
            f"read as {granule.name} pages with {input_bits}-bit addresses, by the number of levels printed.",
        )
    wide = input_bits > _COMMON_VA_BITS or granule is GRANULE_64K
    return (
        TableFormat(
            granule,
            input_bits,
            stage1_start_level(granule, input_bits),
            output_bits=52 if wide else 48,
            ds=wide and granule is not GRANULE_64K,
            lpa=granule is GRANULE_64K,
        ),
        assumptions,
    )


def _folded_va_bits(walk: PrintedWalk) -> int:
    """A guess without a ``pgtable:`` line: three levels when pud repeats pgd, else four."""
    entries = dict(walk.entries)
    return 39 if entries.get("pud") == entries["pgd"] else _COMMON_VA_BITS


def _levels(walk: PrintedWalk, table: TableFormat) -> tuple[tuple[PrintedLevel, ...], tuple[str, ...]]:
    levels: list[PrintedLevel] = []
    remarks = []
    for name, descriptor in walk.entries:
        level = max(_FULL_LEVELS[name], table.start_level)
        previous = levels[-1] if levels and levels[-1].level == level else None
        names: tuple[str, ...] = (name,)
        if previous is not None and previous.descriptor == descriptor:
            names = (*previous.names, name)
            levels.pop()
        elif previous is not None:
            remarks.append(
                f"{previous.name} and {name} are the same level {level} descriptor, printed with two values: "
                "it changed between the two reads."
            )
        levels.append(_level(names, level, descriptor, table))
    return tuple(levels), tuple(remarks)


def _level(names: tuple[str, ...], level: int, descriptor: int, table: TableFormat) -> PrintedLevel:
    kind = descriptor_kind(table, descriptor, level)
    if kind in _NOT_VALID:
        return PrintedLevel(names, level, descriptor, kind, None, ())
    is_leaf = kind in LEAF_KINDS
    low_bit = table.shift(level) if is_leaf else table.granule.shift
    notes = set_bit_names(TWO_RANGE_NAMES.leaf if is_leaf else TWO_RANGE_NAMES.table, descriptor)
    return PrintedLevel(names, level, descriptor, kind, table.output_address(descriptor, low_bit), notes)


def _rights(judged: WalkJudgement, registers: RegisterValues) -> tuple[Denials, Denials] | None:
    """What the leaf denies the kernel and EL0, by the EL1&0 and EL2&0 rules; PAN only when PSTATE is known."""
    if judged.leaf is None:
        return None
    upper = 0
    for item in judged.levels[:-1]:
        upper |= item.descriptor
    pstate = registers.get("PSTATE")
    sctlr = registers.get("SCTLR_EL2" if pstate is not None and el_of(pstate) == 2 else "SCTLR_EL1")
    rules = PermissionRules(TWO_RANGE_LAYOUT, wxn=bool(sctlr is not None and bit(sctlr, SCTLR_WXN)))
    decision = decide(rules, judged.leaf.descriptor, upper, pan=pstate is not None and pan_of(pstate))
    return decision.privileged, decision.user or decision.privileged


def _what_is_printed(judged: WalkJudgement) -> str:
    if judged.stop is not None:
        item = judged.stop
        if item.kind is DescriptorKind.RESERVED:
            why = "has a type that is reserved at this level"
        elif item.descriptor:
            why = "is not valid (bit 0 is 0) but not empty: a swap entry, PROT_NONE or damage"
        else:
            why = "is empty"
        return f"The level {item.level} descriptor ({item.name}) {why}."
    if judged.leaf is None:
        last = judged.levels[-1]
        return f"The printed entries end at a level {last.level} table descriptor ({last.name})."
    item = judged.leaf
    target = (item.output or 0) | judged.walk.va & ((1 << judged.table.shift(item.level)) - 1)
    return (
        f"The printed entries are valid at every level and map {judged.walk.va:#x} to {target:#x} "
        f"({item.kind.value}, level {item.level})."
    )


def _compare(
    judged: WalkJudgement, rights: tuple[Denials, Denials] | None, esr: int | None, registers: RegisterValues
) -> tuple[Agreement, str]:
    """Whether syndrome and entries tell the same, with a sentence."""
    if esr is None:
        return Agreement.OPEN, "The text has no syndrome to hold it against."
    ec, status = ec_of(esr), bits(esr, 5, 0)
    if ec not in ABORTS:
        return Agreement.OPEN, "The syndrome is no Instruction or Data Abort: it says nothing about these entries."
    if status >> 2 == 1 or status == 0x2B:
        return _compare_translation(judged, -1 if status == 0x2B else status & 3)
    if status >> 2 == 2:
        return _compare_access_flag(judged, status & 3)
    if status >> 2 == 3:
        return _compare_permission(judged, status & 3, rights, esr)
    if status < 4 or status == 0x29:
        return _compare_address_size(judged, -1 if status == 0x29 else status, registers)
    return Agreement.OPEN, "The fault status of the syndrome does not depend on these entries."


def _compare_translation(judged: WalkJudgement, level: int) -> tuple[Agreement, str]:
    said = f"a Translation fault at level {level}"
    if judged.stop is not None:
        if judged.stop.level == level:
            return Agreement.AGREES, f"The syndrome says the same: {said}."
        if level == 0 and judged.table.start_level > 0:
            text = (
                f"The syndrome says {said}; the first table is at level {judged.table.start_level}, so this is not "
                "about a descriptor but about the address range or a disabled walk (TCR.TxSZ, EPD)."
            )
            return Agreement.DIFFERS, text
    return Agreement.DIFFERS, f"The syndrome says {said}, which these entries do not show. {_NEITHER}"


_NEITHER = "One of the two is stale or damaged (the entry was written later, an old TLB entry, a bit flip)."


def _compare_access_flag(judged: WalkJudgement, level: int) -> tuple[Agreement, str]:
    said = f"an Access flag fault at level {level}"
    leaf = judged.leaf
    if leaf is not None and leaf.level == level and not bit(leaf.descriptor, AF_BIT):
        return Agreement.AGREES, f"AF (bit 10) of the leaf is 0, and the syndrome says the same: {said}."
    return Agreement.DIFFERS, f"The syndrome says {said}, which these entries do not show. {_NEITHER}"


def _compare_permission(
    judged: WalkJudgement, level: int, rights: tuple[Denials, Denials] | None, esr: int
) -> tuple[Agreement, str]:
    said = f"a Permission fault at level {level}"
    leaf = judged.leaf
    if leaf is None or rights is None or leaf.level != level:
        return Agreement.DIFFERS, f"The syndrome says {said}, but the leaf is not there. {_NEITHER}"
    ec = ec_of(esr)
    access = Access.FETCH if ec in INSTRUCTION_ABORTS else Access.WRITE if bit(esr, 6) else Access.READ
    denials = rights[ec in ABORTS_OF_LOWER_EL]
    reasons = {Access.FETCH: denials.execute, Access.WRITE: denials.write, Access.READ: denials.read}[access]
    if reasons:
        because = ", ".join(reason.value for reason in reasons)
        return Agreement.AGREES, f"The leaf denies the {access.value} ({because}); the syndrome says the same: {said}."
    text = f"The syndrome says {said} on a {access.value}, which the leaf allows. {_NEITHER}"
    return Agreement.DIFFERS, text


def _compare_address_size(judged: WalkJudgement, level: int, registers: RegisterValues) -> tuple[Agreement, str]:
    said = f"an Address size fault at level {level}" + (", or of the table address in TTBR" if level <= 0 else "")
    outputs = [item for item in judged.levels if item.output is not None]
    pstate = registers.get("PSTATE")
    name = "TCR_EL2" if pstate is not None and el_of(pstate) == 2 else "TCR_EL1"
    tcr = registers.get(name)
    largest = max((item.output or 0 for item in outputs), default=0)
    if tcr is None:
        text = (
            f"The syndrome says {said}. The largest address in these entries, {largest:#x}, needs "
            f"{largest.bit_length()} bits; the output size ({name}.IPS) is not in the text. Neither is corrected "
            "from the other."
        )
        return Agreement.OPEN, text
    size = min(ADDRESS_SIZES[bits(tcr, *WIDE_TCR.ps)], judged.table.output_bits)
    beyond = _beyond(outputs, size)
    if any(item.level == level for item in beyond):
        return Agreement.AGREES, f"The output address is beyond {name}.IPS ({size} bits); the syndrome says {said}."
    text = f"The syndrome says {said}, but every printed address at that level is within {size} bits. {_NEITHER}"
    return Agreement.DIFFERS, text


def _beyond(outputs: Sequence[PrintedLevel], size: int) -> list[PrintedLevel]:
    return [item for item in outputs if (item.output or 0) >> size]
