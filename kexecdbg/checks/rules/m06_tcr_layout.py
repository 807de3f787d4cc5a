"""M06: TCR_EL2 written in the layout of the other HCR_EL2.E2H."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.regimes import NARROW_TCR, WIDE_TCR, Regime, TcrLayout
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.repairs import change_register
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.rules.m31_lpa2 import ds_does_not_fit
from kexecdbg.checks.situation import Situation

_NARROW_RES1 = 1 << 31 | 1 << 23
_EPD1 = 1 << 23
_SAME_PLACE = 0xFF3F
"""T0SZ, IRGN0, ORGN0, SH0 and TG0 sit at the same bits in both layouts."""


def _check(situation: Situation) -> Iterator[Finding]:
    if situation.fetch_fault is None or situation.regime not in (Regime.EL2, Regime.EL2_0):
        return
    if ds_does_not_fit(situation):
        return  # M31
    value = situation.after.require("TCR_EL2", "how EL2 translates")
    if situation.regime is Regime.EL2_0:
        written_for, effective, converted = "E2H=0", "E2H=1", _convert(value, NARROW_TCR, WIDE_TCR, _EPD1)
    else:
        written_for, effective, converted = "E2H=1", "E2H=0", _convert(value, WIDE_TCR, NARROW_TCR, _NARROW_RES1)
    if converted == value:
        return
    repair = change_register(situation, "TCR_EL2", converted, f"the same settings in the {effective} layout")
    if repair is None:
        return
    yield Finding(
        "M06",
        Severity.FATAL,
        f"TCR_EL2 = {value:#x} is written in the {written_for} layout, but HCR_EL2 makes the {effective} layout count: "
        f"the next fetch, {situation.next_pc:#x}, takes {situation.fetch_fault.phrase}.",
        {"register": "TCR_EL2", "value": value, "layout": effective, "written_for": written_for},
        repair,
    )


def _convert(value: int, source: TcrLayout, target: TcrLayout, fixed: int) -> int:
    """``value`` of layout ``source`` rewritten for ``target``; the upper range, if there is one, disabled."""
    converted = value & _SAME_PLACE | fixed
    converted |= bits(value, *source.ps) << target.ps[1]
    for name in ("ds", "ha", "hd"):
        converted |= bit(value, getattr(source, name)) << getattr(target, name)
    for name in ("tbi", "tbid", "hpd"):
        converted |= bit(value, getattr(source.ranges[0], name)) << getattr(target.ranges[0], name)
    return converted


RULE = Rule(
    "M06",
    "TCR_EL2 in the layout of the other E2H",
    "With HCR_EL2.E2H=1, TCR_EL2 has the layout of TCR_EL1: the output size is IPS at bits 34:32 instead of PS at "
    "18:16, bit 23 is EPD1 instead of RES1. A value made for the other layout keeps a plausible T0SZ and granule and "
    "loses the output size. CurrentEL cannot tell the two apart; HCR_EL2.E2H can.",
    (
        "Arm ARM D23.2.168, TCR_EL2",
        "Linux [RFC v2 8/8] 20190731153857.4045-9-pasha.tatashin@soleen.com on VHE",
        "U-Boot ce9c579e2b7; EDK2 f60a839480, 7446762732; Hafnium 4f1880ca",
    ),
    _check,
    symptom="Freeze right after the write on CPUs with VHE, often ESR 0x86000000 (Address size fault, level 0).",
)
