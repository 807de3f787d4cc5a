"""The verdict on a machine that is only partly known: what was found, what is excluded, and what it takes to tell more.

On a machine of which everything is known it says what :func:`kexecdbg.checks.judging.judge` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kexecdbg.arm64.descent import WalkLevel
from kexecdbg.arm64.descriptors import DescriptorKind
from kexecdbg.arm64.faults import Access, FaultKind
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.walk import Walk
from kexecdbg.checks.consistency import Consistency
from kexecdbg.checks.exceptions import fetch_abort
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.given_switch import given_switch
from kexecdbg.checks.judging import by_severity, judgement_of
from kexecdbg.checks.partly_known import PartlyKnownSituation, partly_known
from kexecdbg.checks.predicting import predict
from kexecdbg.checks.prediction import Outcome, Place, Prediction
from kexecdbg.checks.rule_status import RuleStatus, Standing, statuses_of
from kexecdbg.checks.rules import all_rules
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.table_base import walked_ranges
from kexecdbg.checks.verdict import Judgement
from kexecdbg.errors import MemoryUnreadableError, RegisterUnknownError

_DESCRIPTOR = 8
_NEXT_ADDRESS = "the address of the next fetch: --next ADDRESS"
_PURPOSES = {
    "ID_": "what the CPU implements",
    "VBAR": "where exceptions go",
    "HCR": "which layout the registers of EL2 have",
    "SCTLR": "how the MMU is switched on",
    "TCR": "how the tables are read",
    "TTBR": "where the tables are",
    "MAIR": "the memory types",
}
"""What a register is needed for, by the beginning of its name."""
_UNKNOWN = Prediction(None, None, Outcome.UNKNOWN)


@dataclass(frozen=True)
class Needed:
    """Something that is not known and that rules depend on: memory, or a register, or something else in words.

    Attributes:
        purpose: what it is, or is for, as a phrase.
        address, size: of memory, physical; bytes.
        registers: canonical names.
        rules: ids of the rules that cannot be told without it.
    """

    purpose: str
    rules: tuple[str, ...] = ()
    address: int | None = None
    size: int | None = None
    registers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assessment:
    """What can be said of a switch.

    Attributes:
        situation: what was judged; see :class:`kexecdbg.checks.given_switch.GivenSwitch` about its next PC.
        judgement: in one word; UNKNOWN as long as it depends on what is needed.
        findings: the worst first.
        prediction: what the CPU will do, as far as it can be told.
        statuses: one for each rule of the catalogue.
        needed: what it takes to tell more, the next thing first.
        consistency: what the registers alone say about each other.
        remarks: what was assumed.
    """

    situation: Situation
    judgement: Judgement
    findings: tuple[Finding, ...]
    prediction: Prediction
    statuses: tuple[RuleStatus, ...]
    needed: tuple[Needed, ...]
    consistency: Consistency | None
    remarks: tuple[str, ...]

    def ids(self, standing: Standing) -> tuple[str, ...]:
        """The rules of which ``standing`` is what can be said."""
        return tuple(status.rule.id for status in self.statuses if status.standing is standing)


def assess(
    values: Mapping[str, int], memory: PhysicalMemory, regime: Regime | None = None, next_pc: int | None = None
) -> Assessment:
    """Judge the switch that ``values`` and ``memory`` are about; the arguments are those of :func:`given_switch`.

    Raises:
        UsageError: see :func:`given_switch`.
    """
    given = given_switch(values, memory, regime, next_pc)
    statuses = statuses_of(all_rules(), given.situation, given.consistency, given.guessed)
    findings = by_severity(finding for status in statuses for finding in status.findings)
    prediction = _prediction(given.situation)
    judgement = judgement_of(prediction, findings)
    if judgement is Judgement.UNKNOWN and any(finding.severity is Severity.FATAL for finding in findings):
        # Registers that make every fetch of the range fault, whatever the tables hold.
        judgement = Judgement.FAULTS
    if judgement is Judgement.SOUND and given.situation.regime.facts.sctlr in given.guessed:
        judgement = Judgement.UNKNOWN
    needed = tuple(_needed(given.situation, statuses))
    return Assessment(
        given.situation, judgement, findings, prediction, statuses, needed, given.consistency, given.remarks
    )


def _prediction(situation: Situation) -> Prediction:
    """What the CPU will do; the first exception alone where it is not known what its vectors are."""
    partly = partly_known(situation)
    try:
        return predict(partly)
    except (RegisterUnknownError, MemoryUnreadableError):
        pass
    try:
        fault = partly.fetch_fault
        if fault is None or fault.kind is FaultKind.UNKNOWN:
            return _UNKNOWN
        pc = partly.next_pc
        return Prediction(
            fetch_abort(fault, pc, partly.el), None, Outcome.UNKNOWN, Place(pc, None, Access.FETCH, pc, 0)
        )
    except RegisterUnknownError:
        return _UNKNOWN


def _needed(situation: Situation, statuses: Iterable[RuleStatus]) -> Iterator[Needed]:
    """The first thing each rule misses, once; then the other registers."""
    waiting = [status for status in statuses if status.standing is Standing.OPEN]
    partly = partly_known(situation)
    known = _known_places(partly)
    names = {(address, size): text for address, size, text in _first_tables(partly)} | known
    reads: dict[tuple[int, int], list[str]] = {place: [] for place in known}
    registers: dict[str, dict[str, dict[str, None]]] = {}
    circumstances: dict[str, list[str]] = {}
    for status in waiting:
        if status.read is not None:
            reads.setdefault(_within(status.read, known), []).append(status.rule.id)
        for name in status.registers:
            registers.setdefault(_group(name), {}).setdefault(name, {})[status.rule.id] = None
        if status.circumstance:
            circumstances.setdefault(status.circumstance, []).append(status.rule.id)
    if _NEXT_ADDRESS in registers:
        yield _of_registers(_NEXT_ADDRESS, registers.pop(_NEXT_ADDRESS))
    for (address, size), rules in reads.items():
        yield Needed(names.get((address, size)) or _content(size, rules), tuple(rules), address, size)
    for purpose, group in registers.items():
        yield _of_registers(purpose, group)
    for circumstance, rules in circumstances.items():
        yield Needed(circumstance, tuple(rules))


def _content(size: int, rules: Iterable[str]) -> str:
    """What memory is that is not known to be part of a walk."""
    if all(rule.startswith("K") for rule in rules):
        return "kexec's argument, if a register points to it"
    return "code" if size == INSTRUCTION_SIZE else "a table, code or data"


def _within(read: tuple[int, int], known: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The place of ``known`` that ``read`` asks for too, with what is around it."""
    address, size = read
    return next((place for place in known if address <= place[0] < address + size), read)


def _group(name: str) -> str:
    """What registers are needed for that are asked for together."""
    if name == "PC":
        return _NEXT_ADDRESS
    if name == "SP" or name[0] == "X":
        return "what the code touches, and where kexec's argument is"
    return next((purpose for prefix, purpose in _PURPOSES.items() if name.startswith(prefix)), "its value")


def _of_registers(purpose: str, group: Mapping[str, Mapping[str, None]]) -> Needed:
    rules = dict.fromkeys(rule for asking in group.values() for rule in asking)
    return Needed(purpose, tuple(rules), registers=tuple(group))


def _known_places(partly: PartlyKnownSituation) -> dict[tuple[int, int], str]:
    """Memory that is missing first on the way of the next fetch and of its exception, and what it holds."""
    places: dict[tuple[int, int], str] = {}
    for what, of_vector in (("the next fetch", False), ("the exception vector", True)):
        try:
            level = _unreadable_level(partly.vector_fetch if of_vector else partly.fetch)
        except RegisterUnknownError:
            continue
        if level is not None:
            places.setdefault((level.address, _DESCRIPTOR), f"the level {level.level} descriptor of {what}")
    if places:
        return places
    for address, size, text in _first_tables(partly):
        try:
            partly.memory.read(address, size)
        except MemoryUnreadableError:
            places[address, size] = text
    return places


def _unreadable_level(walk: Walk) -> WalkLevel | None:
    return next((level for level in walk.levels if level.kind is DescriptorKind.UNREADABLE), None)


def _first_tables(partly: PartlyKnownSituation) -> Iterator[tuple[int, int, str]]:
    """Address, size and name of the table that each TTBR points to."""
    try:
        for stage1 in walked_ranges(partly):
            size = stage1.table.base_alignment
            yield stage1.base, size, f"the level {stage1.table.start_level} table, {stage1.ttbr}"
    except RegisterUnknownError:
        return
