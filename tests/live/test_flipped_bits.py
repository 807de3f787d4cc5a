"""A sound guest with one bit flipped: whatever it is, what was predicted is what happens, and a fault has a finding.

All bits of these words were tried once, in every regime; a sample is drawn for each run of the tests. Left out are the
bits where QEMU is laxer than the architecture (the second bit of TG0, DS on a CPU with FEAT_LPA2), where memory that no
rule can know is run or walked (address bits), and SCTLR.M.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import CODE, EnableCase, EnableSetup
from kexecdbg.lab.scenario import Scenario
from kexecdbg.session.scenario import GdbPool, run_scenario

ATTRIBUTES = (*range(12), *range(50, 64))
BITS = {
    "TCR": (*range(15), *range(16, 64)),
    "SCTLR": tuple(range(1, 64)),
    "VBAR": tuple(range(64)),
    "leaf": ATTRIBUTES,
    "level 2": (0, 1, *range(59, 64)),
    "level 1": (0, 1, *range(59, 64)),
}
SAMPLE = random.Random("one bit").sample(
    [(regime, word, position) for regime in Regime for word, positions in BITS.items() for position in positions], 40
)


def flip(word: str, position: int) -> Callable[[EnableSetup], None]:
    """The defect of one flipped bit."""

    def change(setup: EnableSetup) -> None:
        registers, tables = setup.registers, setup.tables
        if word == "leaf" or word.startswith("level"):
            level = 3 if word == "leaf" else int(word[-1])
            tables.set_descriptor(CODE, level, tables.descriptor(CODE, level) ^ 1 << position)
        else:
            name = word.lower()
            setattr(registers, name, getattr(registers, name) ^ 1 << position)

    return change


@pytest.fixture(scope="module")
def pool() -> Iterator[GdbPool]:
    with GdbPool() as gdbs:
        yield gdbs


@pytest.mark.parametrize(("regime", "word", "position"), SAMPLE, ids=lambda value: getattr(value, "value", str(value)))
def test_one_flipped_bit(pool: GdbPool, regime: Regime, word: str, position: int) -> None:
    guest = EnableCase(regime, defect=flip(word, position))
    result = run_scenario(Scenario("flipped", "flipped", f"bit {position} of {word} flipped", guest), pool)
    assert result.agrees, (result.check["predicted"], result.observed, result.logged, result.problem)
    fatal = [finding for finding in result.check["findings"] if finding["severity"] == "fatal"]
    assert bool(fatal) is (result.observed["first"] is not None)
