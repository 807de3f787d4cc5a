"""M02: an upper-level table descriptor makes everything below it execute-never."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import CauseKind
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.repairs import execute_never_name, fetch_denials, permit_fetch
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation

_KINDS = frozenset({CauseKind.TABLE_XN, CauseKind.TABLE_PXN, CauseKind.TABLE_UXN})


def _check(situation: Situation) -> Iterator[Finding]:
    for cause in fetch_denials(situation):
        if cause.kind not in _KINDS or cause.address is None:
            continue
        name = execute_never_name(cause)
        descriptor = next(level.descriptor for level in situation.fetch.levels if level.address == cause.address)
        yield Finding(
            "M02",
            Severity.FATAL,
            f"The next fetch, {situation.next_pc:#x}, faults: bit {cause.bit} of the level {cause.level} table "
            f"descriptor is {name} in the {situation.regime.value} regime; the leaf alone cannot undo it.",
            {
                "address": cause.address,
                "level": cause.level,
                "descriptor": descriptor,
                "bit": cause.bit,
                "name": name,
            },
            permit_fetch(situation).get(cause.address),
        )


RULE = Rule(
    "M02",
    "A table descriptor makes the code execute-never",
    "Hierarchical attributes are ORed down the walk: bit 60 of a table descriptor is UXNTable in a regime with EL0 and "
    "XNTable in one without, bit 59 is PXNTable. The leaf looks right and the fetch faults. TCR_ELx.HPD switches them "
    "off.",
    (
        "Arm ARM D8.4.3 (hierarchical control of permissions)",
        "Linux 6.1 arch/arm64/include/asm/pgalloc.h (PMD_TABLE_UXN)",
        "EDK2 d1ec2b2f78, 40e06cad13",
    ),
    _check,
    symptom="Freeze right after the write with ESR 0x8600000f (Permission fault); the leaf looks right.",
)
