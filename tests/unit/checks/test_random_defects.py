"""Random damage to registers and descriptors: every fault is explained, and no cause is reported of what runs on."""

from __future__ import annotations

import random

import pytest

from kexecdbg.checks.finding import Severity
from kexecdbg.checks.prediction import Outcome
from kexecdbg.errors import KexecdbgError
from kexecdbg.lab.tables import TableBuilder
from tests.unit.checks.moments import CODE, CORTEX_A57, EL1, EL3, MACHINE, MAX_CPU, VHE, Moment

PER_BATCH, BATCHES = 25, 8
SCTLR_BITS = (1, 2, 12, 19, 25)
"""A, C, I, WXN, EE."""
DESCRIPTOR_BITS = (0, 1, 2, 3, 4, 6, 7, 10, 53, 54, 59, 60)
"""Type, AttrIndx, AP, AF, PXN, XN, PXNTable, XNTable: what defects are usually about."""
MMFR0 = (0x1124, 0xF000_1124, 0x0323_1020_0006, 0x1122, None)


def damaged(seed: int) -> Moment:
    """A moment with up to two wrong register bits and up to two wrong descriptor bits on the path of the code."""
    chance = random.Random(seed)
    registers: dict[str, int | None] = {**chance.choice([{}, EL1, VHE, EL3])}
    if chance.random() < 0.4:
        registers |= MAX_CPU
    el = (registers.get("PSTATE") or CORTEX_A57["PSTATE"]) >> 2 & 3
    for _ in range(chance.randint(0, 2)):
        name = chance.choice([f"TCR_EL{el}", f"TCR_EL{el}", "X14", f"TTBR0_EL{el}", f"MAIR_EL{el}", "ID_AA64MMFR0_EL1"])
        if name == "ID_AA64MMFR0_EL1":
            registers[name] = chance.choice(MMFR0)
        else:
            bit = chance.choice(SCTLR_BITS) if name == "X14" else chance.randrange(60)
            registers[name] = (registers.get(name) or CORTEX_A57.get(name, 0)) ^ 1 << bit
    wrong = [
        (chance.randrange(4), chance.choice([chance.randrange(64), *DESCRIPTOR_BITS]))
        for _ in range(chance.randint(0, 2))
    ]

    def adjust(tables: TableBuilder) -> None:
        # From the leaf up, so that the path is still there for the next one.
        for level, bit in sorted(wrong, reverse=True):
            tables.set_descriptor(CODE, level, tables.descriptor(CODE, level) ^ 1 << bit)

    return Moment(registers=registers, adjust=adjust, regions=MACHINE if chance.random() < 0.5 else ())


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_fault_is_explained_and_nothing_else_is_called_fatal(batch: int) -> None:
    judged = 0
    for seed in range(batch * PER_BATCH, (batch + 1) * PER_BATCH):
        try:
            verdict = damaged(seed).verdict()
        except KexecdbgError:
            continue  # a register that is unknown decides
        judged += 1
        causes = [f.id for f in verdict.findings if f.severity is Severity.FATAL and not f.is_consequence]
        if verdict.prediction.first is not None:
            assert causes, f"seed {seed}: {verdict.prediction.first} is not explained"
        elif verdict.prediction.outcome is Outcome.RUNS_ON:
            assert not causes, f"seed {seed}: it runs on"
    assert judged > PER_BATCH / 2
