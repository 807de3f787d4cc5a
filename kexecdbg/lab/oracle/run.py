"""Asks many cases, in several processes, and gathers what came out."""

from __future__ import annotations

import ctypes
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from types import TracebackType
from typing import Any

from kexecdbg.arm64.walk import walk
from kexecdbg.lab.oracle.ask import Batch, MachineDiedError, Oracle
from kexecdbg.lab.oracle.cases import Answer, Case, NotAskableError
from kexecdbg.lab.oracle.deviation import Deviation
from kexecdbg.lab.oracle.deviations import DEVIATIONS
from kexecdbg.lab.oracle.generate import Generator, Question
from kexecdbg.lab.oracle.judge import Judge, probe
from kexecdbg.lab.oracle.predict import WalkFunction, machine_registers, regime_of_operation
from kexecdbg.lab.oracle.shrink import shrink
from kexecdbg.lab.oracle.sparse_tables import Space

CPUS = ("cortex-a57", "cortex-a72", "max")
BATCH = 500
"""Cases that share one RAM. A case depends on its number, and on those before it in its batch where they collide."""
_CHUNK = 10 * BATCH
_PR_SET_PDEATHSIG = 1
_SHRUNK_PER_CHUNK = 5
"""Disagreements that are made small; more than a few have the same cause, and each costs about a second."""


Facts = dict[str, tuple[object, object]]
"""What differs: by name our value and QEMU's."""


@dataclass(frozen=True)
class Disagreement:
    """A case where QEMU and our walk do not say the same, and no deviation explains it.

    Attributes:
        seed: of the case as it was made; :func:`question_of_seed` makes it again.
        smallest: the smallest case that still disagrees.
        facts: what differs in it: ours and QEMU's.
    """

    seed: str
    smallest: Case
    facts: Facts

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        facts = {name: {"ours": _shown(ours), "qemu": _shown(qemu)} for name, (ours, qemu) in self.facts.items()}
        return {"seed": self.seed, "facts": facts, "smallest": self.smallest.document()}


def _shown(value: object) -> object:
    return f"{value:#x}" if isinstance(value, int) else value


@dataclass
class Tally:
    """What a run has seen.

    Attributes:
        cases: number of cases that were compared.
        not_asked: cases that QEMU would not survive, or that the architecture leaves open.
        coverage: cases by regime and granule.
        outcomes: cases by what they ended in.
        seen: cases by the deviation that explains their answer.
        present: the deviations that the probes showed, by CPU.
        disagreements: the rest.
    """

    cases: int = 0
    not_asked: int = 0
    coverage: Counter[tuple[str, str]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    present: dict[str, tuple[str, ...]] = field(default_factory=dict)
    disagreements: list[Disagreement] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in what another part of the run has seen."""
        self.cases += other.cases
        self.not_asked += other.not_asked
        self.coverage += other.coverage
        self.outcomes += other.outcomes
        self.seen += other.seen
        self.present |= other.present
        self.disagreements += other.disagreements


def run_oracle(
    count: int, seed: str, cpus: Sequence[str] = CPUS, progress: Callable[[Tally], None] = lambda tally: None
) -> Tally:
    """Ask ``count`` cases, spread evenly over ``cpus``, on all the processors there are.

    Raises:
        EnvironmentProblem: QEMU or the cross binutils are missing or do not work.
    """
    shares = [count // len(cpus) + (index < count % len(cpus)) for index in range(len(cpus))]
    chunks = sorted(
        (start, cpu, min(_CHUNK, share - start))
        for cpu, share in zip(cpus, shares, strict=True)
        for start in range(0, share, _CHUNK)
    )
    tally = Tally()
    workers = min(len(os.sched_getaffinity(0)), len(chunks))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_worker) as pool:
        futures = [pool.submit(run_chunk, cpu, seed, start, size) for start, cpu, size in chunks]
        try:
            for future in as_completed(futures):
                tally.add(future.result())
                progress(tally)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return tally


def _prepare_worker() -> None:
    """An interrupt is for the starter, which ends the workers; should it be killed, they end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run_chunk(cpu: str, seed: str, first: int, count: int, walk_function: WalkFunction = walk) -> Tally:
    """Ask the cases ``first`` to ``first + count`` of ``seed``; ``walk_function`` is the walk under test."""
    with Chunk(cpu, seed, walk_function) as chunk:
        return chunk.run(first, count)


def question_of_seed(seed: str, judge: Judge) -> Question:
    """The case that a disagreement's seed names: ``SEED/CPU/NUMBER/ATTEMPT``."""
    base, cpu, _, _ = seed.rsplit("/", 3)
    rng = random.Random(seed)
    return Generator(cpu, judge, base).attempt(rng, Space(rng), seed)


def _death(death: MachineDiedError, remark: str = "") -> Facts:
    return {"machine": ("answers", f"{death}; {remark}" if remark else str(death))}


class Chunk:
    """A part of a run that one machine works on, or its successor when it dies (use as a context manager).

    Attributes:
        judge: knows what to expect of this QEMU.
    """

    def __init__(
        self, cpu: str, seed: str, walk_function: WalkFunction = walk, deviations: Sequence[Deviation] = DEVIATIONS
    ) -> None:
        self._cpu, self._seed = cpu, seed
        self._oracle = Oracle(cpu)
        try:
            present = probe(self._oracle, deviations)
        except BaseException:
            self._oracle.close()
            raise
        self.judge = Judge(self._oracle.identity, present, walk_function)
        self._generator = Generator(cpu, self.judge, seed)
        self._tally = Tally(present={cpu: tuple(deviation.id for deviation in present)})

    def __enter__(self) -> Chunk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._oracle.close()

    def run(self, first: int, count: int) -> Tally:
        """Ask the cases ``first`` to ``first + count`` of the seed."""
        return self.ask(self._batches(first, count))

    def ask(self, batches: Iterable[tuple[list[Question], Batch]]) -> Tally:
        """Ask the questions of ``batches``; QEMU works on one batch while the next is made."""
        waiting: list[Question] | None = None
        for questions, batch in batches:
            if waiting is not None:
                self._settle(waiting)
            self._oracle.start(batch)
            waiting = questions
        if waiting is not None:
            self._settle(waiting)
        return self._tally

    def _batches(self, first: int, count: int) -> Iterator[tuple[list[Question], Batch]]:
        for start in range(first, first + count, BATCH):
            space = Space(random.Random(self._seed))
            numbers = range(start, min(start + BATCH, first + count))
            made = [self._generator.question(number, space) for number in numbers]
            asked = [question for question in made if question.expectation.askable]
            self._tally.not_asked += len(made) - len(asked)
            yield asked, Batch([question.case for question in asked], space.words)

    def _settle(self, questions: list[Question]) -> None:
        """Compare the answers to ``questions``, which the machine is working on."""
        answers: Sequence[Answer | None]
        try:
            answers = self._oracle.finish()
        except MachineDiedError as death:
            answers = self._after_death(questions, death)
        for question, answer in zip(questions, answers, strict=True):
            self._tally.cases += 1
            self._tally.coverage[question.case.regime.value, question.granule] += 1
            self._tally.outcomes[str(question.expectation.observation.get("outcome", "anything"))] += 1
            self._tally.seen.update(question.expectation.deviations)
            if answer is not None and self.judge.differences(question.case, question.expectation, answer):
                self._doubt(question)

    def _doubt(self, question: Question) -> None:
        """Ask again, alone; what still differs is a disagreement.

        Where QEMU deviates from the architecture it can read tables that we do not, and come upon another case's.
        """
        facts = self._facts(question.case)
        if facts:
            self._disagree(question, facts)

    def _disagree(self, question: Question, facts: Facts) -> None:
        """Note that QEMU differs in ``facts``, with the smallest case that does."""
        smallest = question.case
        if len(self._tally.disagreements) < _SHRUNK_PER_CHUNK:
            smallest = shrink(question.case, lambda case: self._facts(case).keys() == facts.keys())
            facts = self._facts(smallest)
        self._tally.disagreements.append(Disagreement(question.case.seed, smallest, facts))

    def _facts(self, case: Case) -> Facts:
        """What differs when ``case`` is asked alone; nothing for one that cannot be asked."""
        if regime_of_operation(case.operation, machine_registers(case, self.judge.identity)) is not case.regime:
            return {}
        try:
            expectation = self.judge.expect(case)
        except NotAskableError:
            return {}
        if not expectation.askable:
            return {}
        try:
            answer = self._oracle.ask([case])[0]
        except MachineDiedError as death:
            self._restart()
            return _death(death)
        return self.judge.differences(case, expectation, answer)

    def _after_death(self, questions: list[Question], death: MachineDiedError) -> list[Answer | None]:
        """Answers from a new machine, asked one by one; a case that kills it too is a disagreement.

        So is the one that the first machine died of, even if it does no harm alone.
        """
        self._restart()
        answers: list[Answer | None] = []
        for index, question in enumerate(questions):
            try:
                answers.append(self._oracle.ask([question.case])[0])
            except MachineDiedError as again:
                self._restart()
                answers.append(None)
                if again.ended:
                    self._disagree(question, _death(again))
                else:  # each try at a smaller case would take as long as this one
                    self._tally.disagreements.append(Disagreement(question.case.seed, question.case, _death(again)))
            else:
                if index == death.index:
                    self._tally.disagreements.append(
                        Disagreement(question.case.seed, question.case, _death(death, "not when asked alone"))
                    )
        return answers

    def _restart(self) -> None:
        self._oracle.close()
        self._oracle = Oracle(self._cpu)
