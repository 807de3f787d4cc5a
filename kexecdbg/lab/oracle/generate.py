"""Random cases from a seed: a sound translation first, then none, one or two things damaged."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kexecdbg.arm64.features import has_feature
from kexecdbg.arm64.regimes import HCR_TGE, Regime
from kexecdbg.lab.oracle.build_tables import build_tables
from kexecdbg.lab.oracle.cases import EL1_VECTORS, EL2_VECTORS, Case, NotAskableError, Operation
from kexecdbg.lab.oracle.damage import damage
from kexecdbg.lab.oracle.draft import Draft
from kexecdbg.lab.oracle.judge import Expectation, Judge
from kexecdbg.lab.oracle.predict import regime_of_operation
from kexecdbg.lab.oracle.random_registers import (
    chance,
    random_hcr,
    random_mair,
    random_sctlr,
    random_tcr,
    random_vtcr,
)  # fmt: skip
from kexecdbg.lab.oracle.sparse_tables import ConflictError, Space

GRANULES = ("4K", "16K", "64K")
_SCTLR_OFF = {"SCTLR_EL1": 0x30D0_0800, "SCTLR_EL2": 0x30C5_0830, "SCTLR_EL3": 0x30C5_0831}
_ATTEMPTS = 50

_EL1_OPERATIONS = (
    Operation.S1E1R, Operation.S1E1W, Operation.S1E0R, Operation.S1E0W, Operation.S1E1RP, Operation.S1E1WP,
    Operation.S12E1R, Operation.S12E1W, Operation.S12E0R, Operation.S12E0W,
    Operation.FETCH_EL1, Operation.FETCH_EL1, Operation.FETCH_EL1, Operation.FETCH_EL0, Operation.FETCH_EL0,
)  # fmt: skip
_EL2_OPERATIONS = (Operation.S1E2R, Operation.S1E2W, Operation.FETCH_EL2)
_EL2_HOST_OPERATIONS = (
    *_EL2_OPERATIONS, Operation.S1E1R, Operation.S1E1W, Operation.S1E0R, Operation.S1E0W,
    Operation.S1E1RP, Operation.S1E1WP, Operation.FETCH_EL0, Operation.FETCH_EL2,
)  # fmt: skip
_EL3_OPERATIONS = (Operation.S1E3R, Operation.S1E3W, Operation.FETCH_EL3)


@dataclass(frozen=True)
class Question:
    """A case to be asked, with what we expect.

    Attributes:
        case: the case.
        expectation: what we expect.
        granule: of the tested range.
    """

    case: Case
    expectation: Expectation
    granule: str


class Generator:
    """Makes cases for one CPU.

    The same CPU, seed and deviations always give the same cases.
    """

    def __init__(self, cpu: str, judge: Judge, seed: str) -> None:
        self.cpu, self.judge, self.seed = cpu, judge, seed
        self.identity = identity = judge.identity
        regimes = [Regime.EL1_0, Regime.EL1_0, Regime.EL1_0, Regime.EL2, Regime.EL2, Regime.EL3]
        if has_feature(identity, "FEAT_VHE"):
            regimes += [Regime.EL2_0, Regime.EL2_0]
        self._regimes: Sequence[Regime] = regimes

    def question(self, number: int, space: Space) -> Question:
        """Case ``number``, whose memory goes into ``space`` (of the same batch)."""
        for attempt in range(_ATTEMPTS):
            seed = f"{self.seed}/{self.cpu}/{number}/{attempt}"
            rng = random.Random(seed)
            space.rng = rng
            try:
                return self.attempt(rng, space, seed)
            except (ConflictError, NotAskableError):
                continue
        raise AssertionError(f"no case for {self.seed}/{number} in {_ATTEMPTS} attempts")

    def attempt(self, rng: random.Random, space: Space, seed: str) -> Question:
        draft, granule = self._draft(rng, space)
        case = draft.case(self.cpu, seed)
        words = {**case.memory}
        overlay = _Overlay(words, space.words)
        expectation = self.judge.expect(case, overlay)
        reads = expectation.prediction.reads
        for address in reads:
            if address in space.words and address not in words:
                raise ConflictError  # it came across another case's tables
        space.words.update(words)
        space.taken.update(words)
        space.taken.update(reads)
        return Question(case, expectation, granule)

    def _draft(self, rng: random.Random, space: Space) -> tuple[Draft, str]:
        regime = rng.choice(self._regimes)
        granule = rng.choice(GRANULES)
        upper = regime.facts.two_ranges and chance(rng, 0.4)
        on = not chance(rng, 0.03)
        registers = dict(_SCTLR_OFF)
        registers["HCR_EL2"] = random_hcr(rng, regime, self.identity)
        registers[regime.facts.sctlr] = random_sctlr(rng, regime.facts.el, on=on or regime is Regime.EL3)
        registers[regime.facts.tcr] = random_tcr(rng, regime, self.identity, upper=upper, granule=granule)
        registers[regime.facts.mair] = random_mair(rng)
        registers["VTCR_EL2"] = random_vtcr(rng, self.identity, granule=rng.choice(GRANULES))
        if regime is Regime.EL1_0:
            registers["SCTLR_EL2"] |= chance(rng, 0.06) << 25  # EE, for stage 2
        for name in (regime.facts.ttbr0, regime.facts.ttbr1):
            if name is not None:
                registers[name] = rng.getrandbits(16) << 48
        registers["VTTBR_EL2"] = rng.getrandbits(16) << 48
        registers["VBAR_EL1"], registers["VBAR_EL2"] = EL1_VECTORS, EL2_VECTORS
        operation = _random_operation(rng, regime, registers, self.identity)
        draft = Draft(rng, self.identity, space, registers, regime, operation, pan=rng.random() < 0.5)
        if regime is not regime_of_operation(operation, draft.all_registers):
            raise ConflictError
        build_tables(draft, upper=upper)
        damage(draft)
        if draft.operation.is_fetch and draft.va & 3:
            raise ConflictError
        if draft.regime is not regime_of_operation(operation, draft.all_registers):
            raise ConflictError
        return draft, granule


class _Overlay(dict[int, int]):
    """The words of a case, and under them those of the batch."""

    def __init__(self, words: Mapping[int, int], under: Mapping[int, int]) -> None:
        super().__init__(words)
        self._under = under

    def get(self, address: int, default: int = 0) -> int:  # type: ignore[override]
        found = super().get(address)
        return self._under.get(address, default) if found is None else found


def _random_operation(
    rng: random.Random, regime: Regime, registers: Mapping[str, int], identity: Mapping[str, int]
) -> Operation:
    hcr = registers["HCR_EL2"]
    tge = hcr >> HCR_TGE & 1
    if regime is Regime.EL3:
        choices: Sequence[Operation] = _EL3_OPERATIONS
    elif regime is Regime.EL2:
        choices = _EL2_OPERATIONS
    elif regime is Regime.EL2_0:
        choices = _EL2_HOST_OPERATIONS if tge else _EL2_OPERATIONS
    else:
        choices = _EL1_OPERATIONS
        if tge:  # no EL1 then; and EL0 runs with the MMU off
            choices = [choice for choice in choices if choice is not Operation.FETCH_EL1]
    if not has_feature(identity, "FEAT_PAN2"):
        choices = [choice for choice in choices if not choice.facts.pan]
    return rng.choice(choices)
