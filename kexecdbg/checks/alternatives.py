"""Which other value of one control field would have made the next fetch work.

A table that is fine for another T0SZ, granule or endianness looks like garbage to the walk. Trying the other values on
a copy of the machine tells a wrong register from a page that was never mapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kexecdbg.arm64.bits import bits, field_mask
from kexecdbg.arm64.faults import FaultKind
from kexecdbg.arm64.regimes import SCTLR_EE
from kexecdbg.checks.finding import RegisterRepair
from kexecdbg.checks.repairs import change_register
from kexecdbg.checks.situation import Situation, asked_once

_PREFERRED_SIZES = (16, 25, 17, 28, 22, 32, 34)
"""T0SZ of 48, 39, 47, 36, 42, 32 and 30 bits: what Linux, Xen and firmware use, tried before the others."""


@dataclass(frozen=True)
class Alternative:
    """Another value of one field that makes the next fetch work.

    Attributes:
        field: ``T0SZ``, ``TG0``, ``EE`` or ``DS``.
        old, new: values of the field.
        repair: the register write.
    """

    field: str
    old: int
    new: int
    repair: RegisterRepair


@asked_once
def alternatives(situation: Situation) -> dict[str, Alternative]:
    """For each field, the first other value that makes the next fetch work, when it does not work now."""
    fault = situation.fetch_fault
    if fault is None:
        if situation.intended_code is None or situation.finds_intended_code(situation.fetch):
            return {}
    elif fault.kind in (FaultKind.PERMISSION, FaultKind.UNKNOWN):
        return {}
    return {alternative.field: alternative for alternative in _candidates(situation)}


def _candidates(situation: Situation) -> Iterator[Alternative]:
    facts = situation.regime.facts
    upper = int(facts.is_upper(situation.next_pc))
    layout = facts.tcr_layout.ranges[upper]
    sizes = dict.fromkeys((*_PREFERRED_SIZES, *range(12, 49)))
    yield from _values_that_work(situation, facts.tcr, f"T{upper}SZ", layout.txsz, sizes)
    yield from _values_that_work(situation, facts.tcr, f"TG{upper}", layout.tg, range(4))
    ds = facts.tcr_layout.ds
    yield from _values_that_work(situation, facts.tcr, "DS", (ds, ds), range(2))
    yield from _values_that_work(situation, facts.sctlr, "EE", (SCTLR_EE, SCTLR_EE), range(2))


def _values_that_work(
    situation: Situation, register: str, field: str, position: tuple[int, int], values: Iterable[int]
) -> Iterator[Alternative]:
    msb, lsb = position
    current = situation.after.require(register, "the translation")
    old = bits(current, msb, lsb)
    for new in values:
        if new == old:
            continue
        changed = current & ~field_mask(msb, lsb) | new << lsb
        repair = change_register(situation, register, changed, f"sets {field} to {new} (it was {old})")
        if repair is not None:
            yield Alternative(field, old, new, repair)
            return
