"""What this very QEMU should answer: the architecture's prediction, with the deviations that its probes have shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kexecdbg.arm64.walk import walk
from kexecdbg.lab.oracle.ask import MachineDiedError, Oracle
from kexecdbg.lab.oracle.cases import Answer, Case
from kexecdbg.lab.oracle.compare import differences, observed
from kexecdbg.lab.oracle.deviation import Deviation
from kexecdbg.lab.oracle.deviations import DEVIATIONS
from kexecdbg.lab.oracle.predict import Observation, Prediction, WalkFunction, predict

_REWRITES = 6
"""How often a deviation may change one case in a row: one descriptor at a time."""
_ROUNDS = 3
"""How often all of them are tried: one that counts only where another one has led the walk comes after it."""


@dataclass(frozen=True)
class Expectation:
    """What we expect of a case.

    Attributes:
        prediction: the architecture's.
        observation: what this QEMU should answer.
        deviations: ids of those that make the difference, or may.
        askable: false when a live QEMU would not survive the case.
    """

    prediction: Prediction
    observation: Observation
    deviations: tuple[str, ...] = ()
    askable: bool = True


class Judge:
    """Knows which deviations the QEMU at hand has.

    Attributes:
        identity: the CPU's identification registers.
        present: the deviations that were seen in this QEMU.
        walk_function: the walk under test.
    """

    def __init__(
        self, identity: Mapping[str, int], present: Sequence[Deviation], walk_function: WalkFunction = walk
    ) -> None:
        self.identity = identity
        self.present = tuple(present)
        self.walk_function = walk_function

    def expect(self, case: Case, words: Mapping[int, int] | None = None) -> Expectation:
        """The expectation; ``words`` is all memory of the batch.

        Raises:
            NotAskableError: a live machine would touch a device, or run something that is not ours.
        """
        first = predict(case, self.identity, words, self.walk_function)
        prediction, current = first, case
        touched: list[str] = []
        askable = True
        for _ in range(_ROUNDS):
            before = current
            for deviation in self.present:
                askable = askable and not deviation.kills(current, self.identity, prediction)
                for _ in range(_REWRITES):
                    changed = deviation.rewrite(current, self.identity, prediction)
                    if changed is current:
                        break
                    touched.append(deviation.id)
                    current = changed
                    prediction = predict(current, self.identity, _merged(words, case, current), self.walk_function)
            if current is before:
                break
        observation = prediction.observation
        for deviation in self.present:
            askable = askable and not deviation.kills(current, self.identity, prediction)
            adjusted = deviation.adjust(current, self.identity, replace(prediction, observation=observation))
            if adjusted != observation:
                touched.append(deviation.id)
                observation = adjusted
        if observation == first.observation:
            touched = []
        return Expectation(first, observation, tuple(dict.fromkeys(touched)), askable)

    def differences(self, case: Case, expectation: Expectation, answer: Answer) -> dict[str, tuple[object, object]]:
        """The facts that differ."""
        return differences(expectation.observation, observed(case, answer))


def _merged(words: Mapping[int, int] | None, case: Case, current: Case) -> Mapping[int, int] | None:
    if words is None or current.memory is case.memory:
        return words
    return {**words, **current.memory}


def probe(oracle: Oracle, deviations: Sequence[Deviation] = DEVIATIONS) -> list[Deviation]:
    """Those ``deviations`` that this QEMU has, found by asking for each; a fatal one in a machine of its own."""
    present: list[Deviation] = []
    for deviation in deviations:
        if deviation.unpredictable:
            present.append(deviation)
            continue
        case = deviation.probe(oracle.cpu, oracle.identity)
        if case is not None and shows(oracle, deviation, case, present):
            present.append(deviation)
    return present


def shows(oracle: Oracle, deviation: Deviation, case: Case, known: Sequence[Deviation]) -> bool:
    """Whether the machine answers ``case`` otherwise than the architecture and the deviations known so far say."""
    if deviation.probe_is_fatal:
        return _kills(oracle.cpu, case)
    without = Judge(oracle.identity, known).expect(case)
    answer = oracle.ask([case])[0]
    return bool(differences(without.observation, observed(case, answer)))


def _kills(cpu: str, case: Case) -> bool:
    with Oracle(cpu) as throw_away:
        try:
            throw_away.ask([case])
        except MachineDiedError:
            return True
    return False
