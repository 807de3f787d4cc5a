"""Each rule of the catalogue on a machine that is only partly known: found, excluded, or what it takes to tell.

A rule sees a situation that keeps a record (:mod:`kexecdbg.checks.partly_known`). One that finds nothing excludes its
defect only if it got an answer to everything it asked.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kexecdbg.arm64.interfaces import HAVE_EL2
from kexecdbg.checks.consistency import Consistency
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.partly_known import NO_ADDRESS, Missing, PartlyKnownSituation, partly_known
from kexecdbg.checks.register_exclusions import EXCLUSIONS
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.errors import MemoryUnreadableError, RegisterUnknownError


class Standing(enum.Enum):
    """What can be said of a rule."""

    FOUND = "found"
    EXCLUDED = "excluded"
    OPEN = "cannot be told"


@dataclass(frozen=True)
class RuleStatus:
    """What one rule says.

    Attributes:
        findings: when FOUND, what it found.
        because: when EXCLUDED by registers alone, the reason as a clause.
        read: when OPEN, physical address and size of the first memory it needs, if it is memory.
        registers: when OPEN, the registers that it needs.
        circumstance: when OPEN, what else it needs: the code that makes the switch, the memory map.
    """

    rule: Rule
    standing: Standing
    findings: tuple[Finding, ...] = ()
    because: str = ""
    read: tuple[int, int] | None = None
    registers: tuple[str, ...] = ()
    circumstance: str = ""


CODE_OF_THE_SWITCH = "the code of the switch: PC at its msr, and the memory with the code"
MEMORY_MAP = "which addresses are memory: a live machine, whose map kexec-check reads"
_ABOUT_THE_WRITE = frozenset({"M27", "M30"})
"""Rules that look at the instruction that makes the switch, or at the MMU before it; not told when it is assumed."""
_ABOUT_THE_MAP = frozenset({"M24", "K09"})
"""Rules that compare with what answers at an address: nothing is found without the memory map."""
_WHATEVER_SCTLR = frozenset({"M07", "M09", "M17"})
"""Rules on other registers, that ask for SCTLR_ELx only on the way."""
_NOT_OF_THE_TABLES = frozenset({"M06", "M32"})
"""What of the judgement on registers counts although it makes no access fault."""
_RANGE_NUMBER = re.compile(r"(?:T|TG|EPD|TTBR)([01])(?:SZ)?(?:_EL\d)?$")
_LEAST_WITH_DS, _LEAST_WITHOUT_DS = 12, 16
"""TxSZ of the largest address range with TCR_ELx.DS, and without."""
_GUESSED = ("ID_", "SCR_EL3", HAVE_EL2, "MIDR", "CTR_EL0", "DCZID", "TCR2_", "SCTLR2_", "MAIR2_", "PIR", "POR", "S2P")
"""Registers whose value a walk guesses, and says so: features of the CPU, and what older CPUs do not have."""
_SMALL_CPU = {
    "ID_AA64MMFR0_EL1": 0x0010_0001,
    "ID_AA64MMFR1_EL1": 0,
    "ID_AA64MMFR2_EL1": 0,
}
"""36-bit addresses, every granule, no extension."""
_LARGE_CPU = {
    "ID_AA64MMFR0_EL1": 0x0323_1020_0006,
    "ID_AA64MMFR1_EL1": 0x1031_2122,
    "ID_AA64MMFR2_EL1": 0x0001_0001,
}
"""52-bit addresses with FEAT_LPA2; FEAT_HAFDBS, FEAT_VHE, FEAT_HPDS2, FEAT_PAN3; FEAT_LVA, FEAT_TTCNP."""


def statuses_of(
    rules: Iterable[Rule], situation: Situation, consistency: Consistency | None, guessed: Iterable[str] = ()
) -> tuple[RuleStatus, ...]:
    """What each of ``rules`` says of ``situation``.

    Args:
        rules: entries of the catalogue.
        situation: what is judged.
        consistency: what its registers alone say: it decides where a rule would need the tables to say more.
        guessed: names of the registers that nobody gave.
    """
    by_registers = {} if consistency is None else _by_registers(consistency, situation)
    return tuple(_status(rule, situation, by_registers, frozenset(guessed)) for rule in rules)


def _by_registers(consistency: Consistency, situation: Situation) -> dict[str, Finding]:
    """What the registers alone show: what makes the next fetch fault, and what no table can set right."""
    # Code that runs with the MMU off is at a physical address: in the lower range, if nothing else is known.
    number = int(situation.next_pc != NO_ADDRESS and situation.regime.facts.is_upper(situation.next_pc))
    found: dict[str, Finding] = {}
    for finding in consistency.findings:
        settled = finding.severity is Severity.FATAL or finding.id in _NOT_OF_THE_TABLES
        if settled and finding.severity is not Severity.NOTE and _range_of(finding) in (None, number):
            named = replace(finding, id="M31") if finding.id == "M10" and _needs_ds(finding, number) else finding
            found.setdefault(named.id, named)
    return found


def _range_of(finding: Finding) -> int | None:
    """The address range that a finding of registers is about; ``None`` when it is about both."""
    for name in (finding.evidence.get("field"), finding.evidence.get("register")):
        match = _RANGE_NUMBER.match(str(name))
        if match is not None:
            return int(match[1])
    return None


def _needs_ds(finding: Finding, number: int) -> bool:
    """Whether it is a TxSZ that TCR_ELx.DS permits: that DS is missing is as likely as that TxSZ is wrong."""
    tcr, register = finding.evidence.get("value"), str(finding.evidence.get("register"))
    if not isinstance(tcr, int):
        return False
    size = tcr >> (16 if number else 0) & 0x3F
    return register.startswith("TCR_") and _LEAST_WITH_DS <= size < _LEAST_WITHOUT_DS


def _status(
    rule: Rule, situation: Situation, by_registers: Mapping[str, Finding], guessed: frozenset[str]
) -> RuleStatus:
    findings, missing = _run(rule, situation)
    if missing.reads or missing.gave_up:
        if rule.id in by_registers:
            return RuleStatus(rule, Standing.FOUND, (by_registers[rule.id],))
        if any(finding.severity is Severity.FATAL for finding in by_registers.values()):
            # What a register does is settled; whether another value would do better, or the tables too are wrong, not.
            findings = tuple(finding for finding in findings if finding.is_consequence)
    # A note beside missing memory says no more than that it is missing.
    if findings and not (missing.reads and all(finding.severity is Severity.NOTE for finding in findings)):
        return RuleStatus(rule, Standing.FOUND, findings)
    return _without_finding(rule, situation, missing, guessed)


def _run(rule: Rule, situation: Situation) -> tuple[tuple[Finding, ...], Missing]:
    """The findings of ``rule``, and what it missed."""
    partly: PartlyKnownSituation = partly_known(situation)
    findings: list[Finding] = []
    try:
        # One by one: what was found before something is missing counts.
        for finding in rule.check(partly):
            findings.append(finding)
    except RegisterUnknownError as error:
        partly.missing.gave_up = True
        partly.missing.registers = {error.name: None, **partly.missing.registers}
    except MemoryUnreadableError as error:
        partly.missing.gave_up = True
        partly.missing.reads[error.address, error.size] = None
    return tuple(findings), partly.missing


def _without_finding(rule: Rule, situation: Situation, missing: Missing, guessed: frozenset[str]) -> RuleStatus:
    read, registers, circumstance = next(iter(missing.reads), None), _deciding(missing), ""
    if missing.code or (rule.id in _ABOUT_THE_WRITE and partly_known(situation).is_assumed):
        circumstance = CODE_OF_THE_SWITCH
    elif rule.id in _ABOUT_THE_MAP and situation.memory_map is None:
        # What it reads, it finds by registers that may point to something.
        circumstance, read = MEMORY_MAP, None
    if rule.id in EXCLUSIONS and (read or registers):
        asking = partly_known(situation)
        because = EXCLUSIONS[rule.id](asking)
        if because is not None and not _guesses_that_matter(rule, situation, asking.missing, guessed):
            return RuleStatus(rule, Standing.EXCLUDED, because=because)
    uncertain = _guesses_that_matter(rule, situation, missing, guessed)
    registers = (*registers, *(name for name in uncertain if name not in registers))
    if not (read or registers or circumstance):
        registers = _cpu_decides(rule, situation, missing)
    if read or registers or circumstance:
        return RuleStatus(rule, Standing.OPEN, read=read, registers=registers, circumstance=circumstance)
    return RuleStatus(rule, Standing.EXCLUDED)


def _guesses_that_matter(rule: Rule, situation: Situation, missing: Missing, guessed: frozenset[str]) -> list[str]:
    """The guessed registers that the rule's answer depends on.

    Any field of SCTLR_ELx, when nobody says what will be written to it; of HCR_EL2 only E2H, which the other registers
    of EL2 show, and so what is left is the rule on a TCR_EL2 of the other layout.
    """
    facts = situation.regime.facts
    matters = [facts.sctlr] if facts.sctlr in missing.asked and rule.id not in _WHATEVER_SCTLR else []
    matters += ["HCR_EL2"] if rule.id == "M06" and facts.el == 2 else []
    return [name for name in matters if name in guessed]


def _deciding(missing: Missing) -> tuple[str, ...]:
    """The registers that were missed and that nothing is guessed for."""
    return tuple(name for name in missing.registers if not name.startswith(_GUESSED))


def _cpu_decides(rule: Rule, situation: Situation, missing: Missing) -> tuple[str, ...]:
    """The ID registers that are unknown and with which the rule would find something on one CPU or another."""
    return tuple(
        dict.fromkeys(
            name
            for cpu in (_SMALL_CPU, _LARGE_CPU)
            for name, value in cpu.items()
            if name in missing.registers and _may_find(rule, _with_feature(situation, {name: value}))
        )
    )


def _may_find(rule: Rule, situation: Situation) -> bool:
    """Whether the rule finds something, or was on the way to it when it missed something."""
    findings, missing = _run(rule, situation)
    return bool(findings or missing.reads or _deciding(missing))


def _with_feature(situation: Situation, values: Mapping[str, int]) -> Situation:
    before, after = situation.before.with_values(values), situation.after.with_values(values)
    return replace(situation, before=before, after=after)
