"""What the registers alone exclude, whatever memory holds.

A rule tries its finding on the tables and has no answer without them. Where a register field, or the regime, has to
have another value for the rule to find anything, the answer is known all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.regimes import SCTLR_WXN, Regime
from kexecdbg.arm64.registers import lookup
from kexecdbg.checks.situation import Situation

Exclusion = Callable[[Situation], str | None]
"""Why the rule cannot find anything, as a clause; ``None`` when it could."""


def _no_el0(situation: Situation) -> str | None:
    regime = situation.regime
    return None if regime.facts.two_ranges else f"the {regime.value} regime has no EL0"


def _no_wxn(situation: Situation) -> str | None:
    name = situation.regime.facts.sctlr
    sctlr = situation.after.get(name)
    return f"{name}.WXN is 0" if sctlr is not None and not bit(sctlr, SCTLR_WXN) else None


def _fits_only_this_layout(situation: Situation) -> str | None:
    regime = situation.regime
    if regime not in (Regime.EL2, Regime.EL2_0):
        return f"{regime.facts.tcr} has one layout"
    tcr = situation.after.get("TCR_EL2")
    narrow, wide = lookup("TCR_EL2").layouts
    own, other = (wide, narrow) if regime is Regime.EL2_0 else (narrow, wide)
    if tcr is None:
        return None
    if regime is Regime.EL2 and not tcr >> 32:
        # Read as E2H=1, IPS is 0: what that value would have meant maps no more than what counts.
        return "bits 63:32 of TCR_EL2 are 0, which no E2H=1 value for more than 32 bits has"
    if not own.fits(tcr) or other.fits(tcr):
        return None
    return f"TCR_EL2 fits the {own.label} layout only"


def _walks_enabled(situation: Situation) -> str | None:
    facts = situation.regime.facts
    positions = [fields.epd for fields in facts.tcr_layout.ranges if fields.epd is not None]
    if not positions:
        return f"{facts.tcr} has no EPD"
    tcr = situation.after.get(facts.tcr)
    return "EPD0 and EPD1 are 0" if tcr is not None and not any(bit(tcr, position) for position in positions) else None


EXCLUSIONS: Mapping[str, Exclusion] = {
    "M03": _no_el0,
    "M04": _no_wxn,
    "M06": _fits_only_this_layout,
    "M35": _walks_enabled,
}
"""By id of the rule. HCR_EL2, which M06 is about, has to be given, not guessed."""
