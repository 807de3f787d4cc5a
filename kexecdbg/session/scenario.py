"""Runs lab scenarios under GDB: what was predicted, what the CPU did step by step, and what QEMU logged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from kexecdbg.arm64.syndromes.ec import CALLS, ec_of
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.errors import TargetError
from kexecdbg.lab.boot import LabMachine, boot
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.scenario import Scenario
from kexecdbg.qemu.exception_log import ExceptionLog, LoggedException
from kexecdbg.session import documents
from kexecdbg.session.arrival import run_to_end, syndrome, vectors_of
from kexecdbg.session.gdb import GdbSession

_SECONDS = 30.0

ExceptionJson = Mapping[str, str | None]
"""An exception of a JSON document: ``esr``, ``far`` and ``elr``."""


@dataclass(frozen=True)
class ScenarioResult:
    """What became of one scenario.

    Attributes:
        scenario: it.
        check: the JSON document of kexec-check before the switch; empty when it was never reached.
        observed: the first two exceptions (``first``, ``then``) that stepping saw, ``None`` where there was none.
        logged: the same from QEMU's log.
        ran_on: whether the guest came to its end and said so on its console.
        problem: why the scenario could not be played to its end, or empty.
    """

    scenario: Scenario
    check: dict[str, Any]
    observed: Mapping[str, ExceptionJson | None]
    logged: Mapping[str, ExceptionJson | None]
    ran_on: bool
    problem: str = ""

    @property
    def found(self) -> frozenset[str]:
        """Ids of the fatal and hazard findings that are not consequences of others."""
        return frozenset(
            finding["id"]
            for finding in self.check.get("findings", ())
            if finding["severity"] != "note" and not finding["consequence"]
        )

    @property
    def missing(self) -> frozenset[str]:
        """Expected ids that were not found."""
        return self.scenario.expected - self.found

    @property
    def unexpected(self) -> frozenset[str]:
        """Ids that were found and not expected."""
        return self.found - self.scenario.expected

    @property
    def agrees(self) -> bool:
        """Whether stepping and QEMU's log both saw what was predicted.

        A defect that QEMU lets pass agrees as well when its CPU ran on and the check found what it should.
        """
        if self.problem:
            return False
        if not self.scenario.qemu_shows and self.ran_on and not self.missing:
            return True
        predicted = self.check["predicted"]
        if predicted["outcome"] == "runs_on" and not self.ran_on:
            return self._later_exception_agrees
        return predicted["outcome"] != "unknown" and all(
            _same(predicted[which], witness[which])
            for witness in (self.observed, self.logged)
            for which in ("first", "then")
        )

    @property
    def _later_exception_agrees(self) -> bool:
        """Whether the switch went well and the first exception after it is one that a finding leads to."""
        later = [finding["leads_to"] for finding in self.check["findings"] if finding["leads_to"] is not None]
        return any(_same(each, self.observed["first"]) and _same(each, self.logged["first"]) for each in later)


def run_scenarios(scenarios: Sequence[Scenario], jobs: int) -> Iterator[ScenarioResult]:
    """Run ``scenarios``, ``jobs`` of them at a time; results come in their order.

    Raises:
        EnvironmentProblem: QEMU, GDB or the cross binutils are missing.
    """
    with GdbPool() as pool:
        executor = ThreadPoolExecutor(jobs, thread_name_prefix="scenario")
        try:
            yield from executor.map(lambda scenario: run_scenario(scenario, pool), scenarios)
        finally:
            executor.shutdown(cancel_futures=True)


class GdbPool:
    """GDBs that are used one scenario after the other: loading them and the commands costs more than a scenario."""

    def __init__(self) -> None:
        self._idle: SimpleQueue[GdbSession] = SimpleQueue()
        self._all = ExitStack()

    @contextmanager
    def session(self, target: str) -> Iterator[GdbSession]:
        """A GDB that is connected to ``target``; it is disconnected and kept for the next with the context."""
        try:
            gdb = self._idle.get_nowait()
        except Empty:
            gdb = self._all.enter_context(GdbSession())
        try:
            gdb.connect(target)
            yield gdb
            gdb.forget_target()
        except BaseException:
            gdb.close()  # in what state it is, nobody knows
            raise
        self._idle.put(gdb)

    def __enter__(self) -> GdbPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.close()


def run_scenario(scenario: Scenario, pool: GdbPool) -> ScenarioResult:
    """Boot ``scenario`` in QEMU, predict, step over the switch, let it go on.

    Raises:
        EnvironmentProblem: QEMU, GDB or the cross binutils are missing.
    """
    document: dict[str, Any] = {"check": {}}
    observed: Mapping[str, ExceptionJson | None] = {"first": None, "then": None}
    ran_on, problem = False, ""
    with boot(scenario.guest.build()) as machine:
        log = ExceptionLog(machine.qemu)
        try:
            with pool.session(str(machine.qemu.gdb_socket)) as gdb:
                if machine.guest.judged_from is not None:
                    gdb.command(f"thbreak *{machine.guest.judged_from:#x}")
                    gdb.command("continue", _SECONDS)
                document = gdb.run(f"kexec-step --follow --timeout {_SECONDS:g}", 2 * _SECONDS).document
                observed = {which: document["observed"][which] for which in ("first", "then")}
                if observed["first"] is None:
                    observed = _go_on(machine, gdb)
                    ran_on = observed["first"] is None
                logged = _first_two(log.exceptions())
        except TargetError as error:
            problem, logged = str(error), _first_two(log.exceptions())
    return ScenarioResult(scenario, document["check"], observed, logged, ran_on, problem)


def _go_on(machine: LabMachine[LabGuest], gdb: GdbSession) -> Mapping[str, ExceptionJson | None]:
    """Let the guest run to its end, or until it takes an exception; that one and the next.

    Raises:
        TargetError: it does neither.
    """
    first = run_to_end(machine, gdb, _SECONDS)
    if first is None:
        return {"first": None, "then": None}
    # The step takes the second exception, if the vector faults.
    gdb.command("stepi", _SECONDS)
    still_there = int(gdb.command("output/x $pc"), 16) in vectors_of(machine.guest)
    then = syndrome(gdb) if still_there else None
    return {"first": _json(first), "then": None if then in (None, first) else _json(then)}


def _json(record: ExceptionRecord | None) -> ExceptionJson | None:
    if record is None:
        return None
    return {"esr": f"{record.esr:#x}", "far": f"{record.far or 0:#x}", "elr": f"{record.elr:#x}"}


def _first_two(exceptions: Sequence[LoggedException]) -> dict[str, ExceptionJson | None]:
    faults = [exception for exception in exceptions if ec_of(exception.esr) not in CALLS]
    two: list[ExceptionJson | None] = [
        {
            "esr": f"{exception.esr:#x}",
            "far": None if exception.far is None else f"{exception.far:#x}",
            "elr": f"{exception.elr:#x}",
        }
        for exception in faults[:2]
    ]
    first, then = (*two, None, None)[:2]
    return {"first": first, "then": then}


def _same(predicted: ExceptionJson | None, seen: ExceptionJson | None) -> bool:
    expected, taken = documents.exception(predicted), documents.exception(seen)
    if expected is None or taken is None:
        return expected is taken
    return expected.agrees_with(taken)


def precision_and_recall(results: Sequence[ScenarioResult]) -> tuple[float, float]:
    """Over all fatal and hazard findings that are no consequences: how many were right, how many were found.

    Both are 1 when there was nothing to find and nothing was found.
    """
    right = sum(len(result.found & result.scenario.expected) for result in results)
    found = sum(len(result.found) for result in results)
    expected = sum(len(result.scenario.expected) for result in results)
    return (right / found if found else 1.0, right / expected if expected else 1.0)
