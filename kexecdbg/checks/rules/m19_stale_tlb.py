"""M19: nothing invalidates the TLB entries of the regime before its MMU is switched on with other tables."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.tlb_maintenance import Coverage
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.set_up import SetUp, on_every_way
from kexecdbg.checks.situation import Situation

_WHOLE = {Regime.EL1_0: "vmalle1", Regime.EL2: "alle2", Regime.EL2_0: "alle2", Regime.EL3: "alle3"}
"""The TLBI that invalidates all entries of a regime, on this CPU."""


def _check(situation: Situation) -> Iterator[Finding]:
    finding = on_every_way(situation, _judge)
    if finding is not None:
        yield finding


def _judge(set_up: SetUp) -> Finding | None:
    if not set_up.table_writes or set_up.situation.is_live:
        return None
    # Entries made before the MMU was switched off may still be there; while it is off none are made.
    since = -1 if set_up.off_at is None else set_up.off_at
    recent = [(event, covered) for event, covered in set_up.invalidations if event.position > since]
    if any(covered is not Coverage.NONE for _, covered in recent):
        return None
    situation = set_up.situation
    name, cure = situation.regime.value, f"tlbi {_WHOLE[situation.regime]}"
    evidence: dict[str, int | str | None] = {"missing": cure, "write": set_up.table_writes[-1].text}
    if recent:
        event, _ = recent[-1]
        text = (
            f"{event.instruction.text} at {event.instruction.address:#x} does not invalidate the entries of the {name} "
            f"regime, whose tables are changed; {cure} does."
        )
        evidence["invalidation"] = event.text
    elif set_up.off_at is not None:
        off = set_up.switch_writes[-1]
        text = (
            f"The {name} MMU is switched off at {off.instruction.address:#x}, its tables are changed, and it is "
            f"switched on again with no TLBI in between: entries of the old tables may still be used; add {cure}."
        )
        evidence["off"] = off.text
    else:
        return None  # the MMU may have been off all the time, and the TLB invalidated before this code
    return Finding("M19", Severity.HAZARD, text + remark("M19"), evidence)


RULE = Rule(
    "M19",
    "Stale TLB entries: no invalidation of this regime",
    "TLB entries outlive the MMU being off, and the contents of the TLB out of reset are unknown. Between the time "
    "the MMU was last on, or reset, and the switch, a TLBI has to invalidate the regime's entries. Each regime has its "
    "own: VMALLE1 and VMALLS12E1 leave those of EL2 alone. Judged over the code before the switch as far as it can be "
    "read; an invalidation before that cannot be seen and is taken for granted.",
    (
        "Arm ARM D8.17.5 (TLB maintenance instructions), D8.16 (TLB maintenance requirements, behaviour at reset)",
        "Xen 1c473c4219, f1870804e5; U-Boot afa8f076db3; m1n1 24938db1",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="Works after a cold start and not after a warm one, or the reverse; on hardware only.",
)
