"""M33: an access after the switch is not aligned, where it has to be."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.evaluation import Stop, StopReason
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.touches import after_the_write


def _check(situation: Situation) -> Iterator[Finding]:
    stop = situation.aftermath.stop
    instruction = stop.instruction
    if instruction is None or stop.reason not in (StopReason.MISALIGNED, StopReason.STACK_MISALIGNED):
        return
    executed = after_the_write(len(situation.aftermath.steps)).capitalize()
    where = f"{executed}, {instruction.address:#x}: {instruction.text}"
    if stop.reason is StopReason.STACK_MISALIGNED:
        text = (
            f"{where} uses SP, which is not a multiple of 16, with {situation.regime.facts.sctlr}.SA set: it takes an "
            "SP alignment fault."
        )
        shows = " QEMU does not check it."
        field: str | None = "SA"
    else:
        field, why, shows = _why(situation, stop)
        text = f"{where} accesses {stop.target:#x}, which is not aligned, {why}: it takes an Alignment fault."
    yield Finding(
        "M33",
        Severity.FATAL,
        text + shows,
        {
            "instruction": f"{instruction.address:#x}: {instruction.text}",
            "target": stop.target,
            "register": situation.regime.facts.sctlr if field else None,
            "field": field,
        },
    )


def _why(situation: Situation, stop: Stop) -> tuple[str | None, str, str]:
    """The field that demands alignment, why it does, and what QEMU does about it."""
    sctlr = situation.after.get(situation.regime.facts.sctlr)
    if stop.memory_access is not None and stop.memory_access.ordered:
        return None, "and exclusive, ordered and atomic accesses have to be", ""
    if sctlr is not None and sctlr & 1 << 1:
        return "A", f"with {situation.regime.facts.sctlr}.A set", ""
    return None, "in Device memory", remark("M33")


RULE = Rule(
    "M33",
    "An unaligned access",
    "With SCTLR_ELx.A set every load and store has to be aligned to its size, with SA set SP to 16 bytes when it is "
    "used as a base; accesses to Device memory always have to be aligned, and all data memory is Device while the MMU "
    "is off. Code that ran with A clear, or compiled for Normal memory, faults.",
    (
        "Arm ARM B2.8.2 (alignment of data accesses), D1.8.2 (SP alignment)",
        "EDK2 7dd7b89058; Hafnium 6d408f98; Linux [RFC v2 7/8] sets SCTLR_EL2.A",
    ),
    _check,
    symptom="A data abort with DFSC 0x21 (0x96000021), on some CPUs or QEMU versions only.",
)
