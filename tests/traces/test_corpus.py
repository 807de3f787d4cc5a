"""What was recorded, judged and predicted again, without QEMU and GDB: verdicts, first exceptions and steps."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.regimes import SCTLR_M, current_el
from kexecdbg.checks.finding import Severity
from kexecdbg.checks.judging import judge
from kexecdbg.checks.prediction import ExceptionRecord, Outcome
from kexecdbg.checks.situation import situation_at
from kexecdbg.checks.stuck.diagnosis import Condition, diagnose
from kexecdbg.checks.verdict import Judgement, Verdict
from kexecdbg.lab.enable import EnableCase
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.records import ExceptionTaken
from kexecdbg.trace.search import StepFilter, find_steps
from tests.traces.corpus import FOLDER, FREEZE, REPAIRED, Window, kernel_traces, lab_traces, path_of
from tests.traces.switches import faults, switches

LAB, KERNELS = lab_traces(), kernel_traces()
MOST_BYTES = 6 << 20
"""Of all files together: they are in every clone."""
ENDS = {Outcome.SPINS: Condition.VECTOR_LOOP, Outcome.IN_VECTOR: Condition.RESTS_IN_VECTOR}
DIRECTORY = re.compile(r"(?<![\w.])/[^/,=]+/")

FORESEEN = [
    name
    for name, scenario in LAB.items()
    # The others have loops on the way. M27 writes another level's register, and with M30 the MMU is on all the time.
    if isinstance(scenario.guest, EnableCase) and name not in ("M27", "M30")
]


@pytest.fixture
def trace(name: str) -> Iterator[Trace]:
    with Trace.open(path_of(name)) as trace:
        yield trace


def judged(trace: Trace, number: int) -> Verdict:
    return judge(situation_at(trace.state(number), trace.memory(number)))


def found(verdict: Verdict) -> set[str]:
    """Ids of the fatal and hazard findings that are not consequences of others."""
    return {
        finding.id
        for finding in verdict.findings
        if finding.severity is not Severity.NOTE and not finding.is_consequence
    }


def same(predicted: ExceptionRecord, taken: ExceptionTaken) -> bool:
    assert taken.esr is not None and taken.elr is not None
    return predicted.agrees_with(ExceptionRecord(taken.esr, taken.far, taken.elr))


def test_every_catalogue_entry_and_every_window_is_recorded_and_nothing_else() -> None:
    assert {path.stem for path in FOLDER.glob("*.kxt")} == {*LAB, *KERNELS}
    assert sum(path.stat().st_size for path in FOLDER.glob("*.kxt")) < MOST_BYTES


@pytest.mark.parametrize("name", [*LAB, *KERNELS])
def test_the_header_says_what_was_recorded_and_not_where(name: str, trace: Trace) -> None:
    header = trace.header
    assert trace.warnings == ()
    cpu = LAB[name].guest.cpu if name in LAB else KERNELS[name].cpu
    options = dict(zip(header.command_line, header.command_line[1:], strict=False))
    assert (header.cpu_model, options["-cpu"].split(",")[0]) == (cpu, cpu)
    assert re.match(r"\d+\.\d+\.\d+", header.qemu_version)
    assert re.fullmatch(r"[0-9a-f]{40}", header.build_id)
    assert header.command_line[0] == "qemu-system-aarch64"
    host_s = [word for word in header.command_line if word != options.get("-append")]
    assert not [word for word in host_s if DIRECTORY.search(word)]


@pytest.fixture
def enabling(trace: Trace) -> int:
    """The step that switches the MMU on."""
    return next(number for number, write in switches(trace) if write.enables_mmu)


@pytest.mark.parametrize("name", LAB)
def test_the_switch_is_judged_as_the_scenario_says(name: str, trace: Trace, enabling: int) -> None:
    assert found(judged(trace, enabling)) == LAB[name].expected


@pytest.mark.parametrize("name", LAB)
def test_the_first_exceptions_are_the_predicted_ones(name: str, trace: Trace, enabling: int) -> None:
    scenario, verdict, taken = LAB[name], judged(trace, enabling), faults(trace)
    if scenario.qemu_lets_it_pass and not taken:
        return  # the architecture's exception, which this CPU does not take; the verdict is tested above
    prediction = verdict.prediction
    assert prediction.outcome is not Outcome.UNKNOWN
    if prediction.outcome is Outcome.RUNS_ON and taken:
        # The switch itself goes well; what is wrong strikes later, as a finding says.
        later = [finding.leads_to for finding in verdict.findings if finding.leads_to is not None]
        assert any(same(each, taken[0]) for each in later)
        return
    predicted = [each for each in (prediction.first, prediction.then) if each is not None]
    assert len(predicted) == len(taken[:2])
    assert all(same(each, one) for each, one in zip(predicted, taken, strict=False))


@pytest.mark.parametrize("name", LAB)
def test_a_frozen_cpu_is_explained_afterwards(name: str, trace: Trace, enabling: int) -> None:
    """From the last state alone: what the CPU is doing, which switch it came from, and its first exception."""
    diagnosis, taken = diagnose(trace.state(trace.steps), trace.memory(trace.steps)), faults(trace)
    outcome = judged(trace, enabling).prediction.outcome
    if outcome is Outcome.RUNS_ON or not taken:
        assert diagnosis.condition is not Condition.VECTOR_LOOP
        return
    assert diagnosis.condition is ENDS[outcome]
    origin = diagnosis.origin
    assert origin is not None and origin.first is not None and origin.explains
    assert trace.step(enabling).pc in (origin.instruction.address, *origin.also)
    if not origin.also:
        assert same(origin.first, taken[0])


@pytest.mark.parametrize("name", FORESEEN)
def test_the_way_to_the_switch_is_foreseen(name: str, trace: Trace, enabling: int) -> None:
    """From the first state, every step to the switch and every register there."""
    situation = situation_at(trace.state(0), trace.memory(0))
    assert [step.instruction.address for step in situation.approach] == [
        trace.step(number).pc for number in range(enabling)
    ]
    there = trace.state(enabling)
    known = {name: value for name in trace.header.registers if (value := situation.before.get(name)) is not None}
    assert known == {name: there.get(name) for name in known}


def test_the_freeze_and_its_repair() -> None:
    """The mail's three addresses, and the same switch with the descriptor's bit 54 cleared."""
    with Trace.open(path_of(FREEZE)) as freeze, Trace.open(path_of(REPAIRED)) as repaired:
        first, second = faults(freeze)[:2]
        assert (first.esr, first.elr, first.far) == (0x8600_000F, 0x1_B308_0124, 0x1_B308_0124)
        assert (second.elr, second.far) == (0x1_B30A_0200, 0x1_B30A_0200)
        assert freeze.state(freeze.steps).get("PC") == second.elr
        assert not faults(repaired)
        site = next(number for number, write in switches(repaired) if write.enables_mmu)
        assert site == next(number for number, write in switches(freeze) if write.enables_mmu)


@pytest.mark.parametrize("name", KERNELS)
def test_a_real_kernel_s_switches_are_sound(name: str, trace: Trace) -> None:
    verdicts = [(write.register, judged(trace, number)) for number, write in switches(trace)]
    findings = [(register, frozenset(each.id for each in verdict.findings)) for register, verdict in verdicts]
    assert findings == list(KERNELS[name].switches)
    assert {(verdict.judgement, verdict.prediction.outcome) for _, verdict in verdicts} <= {
        (Judgement.SOUND, Outcome.RUNS_ON)
    }
    assert faults(trace) == []


@pytest.mark.parametrize("name", [name for name, trace in KERNELS.items() if trace.window is Window.JUMP])
def test_the_relocation_changes_ttbr1_and_copies(name: str, trace: Trace) -> None:
    """To an empty table and from there to the copy of the linear map, with nothing in the TLB."""
    el = 2 if KERNELS[name].kind == "vhe" else 1
    (first, empty), (second, tables) = switches(trace)
    between = [trace.step(number).instruction for number in range(first + 1, second)]
    assert [each.text for each in between if each and each.text.startswith(("isb", "tlbi", "dsb"))] == [
        "isb",
        "tlbi vmalle1",
        "dsb nsh",
    ]
    for write, number in ((empty, first), (tables, second)):
        assert trace.state(number + 1).get(f"TTBR1_EL{el}") == write.value
    copied = [event for number in range(trace.steps) for event in trace.step(number).events if event.size]
    assert copied
    memory = trace.memory(trace.steps)
    for event in copied:
        assert memory.read(event.destination, event.size) == memory.read(event.source, event.size)


@pytest.mark.parametrize("name", [name for name, trace in KERNELS.items() if trace.window is Window.EXIT])
def test_the_relocation_ends_with_the_mmu_off_and_at_el2(name: str, trace: Trace) -> None:
    el = 2 if KERNELS[name].kind == "vhe" else 1
    (off,) = find_steps(trace, StepFilter(changes=(f"SCTLR_EL{el}",)))
    before, after = (trace.state(number).require(f"SCTLR_EL{el}", "whether the MMU is on") for number in (off, off + 1))
    assert (bit(before, SCTLR_M), bit(after, SCTLR_M)) == (1, 0)
    calls = [taken for _, taken in trace.exceptions()]
    assert [(taken.from_el, taken.to_el, taken.esr) for taken in calls] == ([] if el == 2 else [(1, 2, 0x5A00_0000)])
    assert current_el(trace.state(trace.steps)) == 2
