"""What a step shows, and which registers are read for it: each system register is a packet to a gdbstub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from kexecdbg.checks.stepping import step_recorded
from kexecdbg.machine.state import CpuState
from tests.unit.assembly import word
from tests.unit.checks.moments import CODE, CORTEX_A57, VECTORS, VHE, Moment
from tests.unit.checks.paper_debugger import PaperDebugger

SYSTEM = frozenset({"HCR_EL2", "SCTLR_EL1", "SCTLR_EL2", "TCR_EL2", "VBAR_EL1", "VBAR_EL2", "ESR_EL2", "ELR_EL2"})
"""Some of those whose change a step shows."""


BEFORE = {"X0": 1, "ESR_EL2": 0, "ELR_EL2": 0}


@dataclass(frozen=True)
class NotedRegisters:
    """Registers that note which of them were read."""

    values: Mapping[str, int]
    noted: set[str]

    def get(self, name: str, /) -> int | None:
        self.noted.add(name)
        return self.values.get(name)


class OneStep(PaperDebugger):
    """A machine with the MMU off, about to execute ``instruction``, which sets ``results``."""

    def __init__(self, instruction: str, results: Mapping[str, int], registers: Mapping[str, int]) -> None:
        super().__init__(Moment(instructions={CODE: word(instruction)}, registers=registers), PC=CODE)
        self.results = {"PC": CODE + 4, **results}
        self.read: set[str] = set()

    def state(self) -> CpuState:
        return CpuState(NotedRegisters(dict(self.registers), self.read))

    def step(self) -> None:
        self.registers.update(self.results)
        self.read.clear()


@pytest.mark.parametrize(
    ("instruction", "results", "registers", "read"),
    [
        ("mov x3, #5", {"X3": 5}, {}, set()),
        ("isb", {}, {}, set()),
        ("b.ne . + 64", {"PC": CODE + 64}, {}, set()),
        # Where it branches to may also be the vector of an exception that it took.
        ("b.ne . + 0x80", {"PC": CODE + 0x80, "ESR_EL2": 0x0200_0000, "ELR_EL2": CODE}, {}, SYSTEM),
        ("msr tcr_el2, x14", {"TCR_EL2": 0x8081_3510}, {}, {"TCR_EL2"}),
        ("msr vbar_el1, x14", {"VBAR_EL2": VECTORS + 0x800}, VHE, {"VBAR_EL1", "VBAR_EL2"}),
        ("msr hcr_el2, x14", {"HCR_EL2": 0x4_8000_0000}, {}, SYSTEM),
        ("hvc #0", {"X0": 0}, {}, SYSTEM),
        ("eret", {"PC": CODE + 64, "PSTATE": 0x3C5}, {}, SYSTEM),
        ("ldr x1, [x2]", {"PC": VECTORS + 0x200, "ESR_EL2": 0x9600_0004, "ELR_EL2": CODE}, {}, SYSTEM),
    ],
)
def test_what_can_have_changed_is_read_again_and_what_did_is_shown(
    instruction: str, results: dict[str, int], registers: dict[str, int], read: set[str]
) -> None:
    machine = OneStep(instruction, results, {**BEFORE, **registers})
    before = machine.state()
    record, after = step_recorded(machine, before)
    changes = {change.name: (change.old, change.new) for change in record.changes}
    old = {**CORTEX_A57, **BEFORE, **registers}
    assert changes == {name: (old.get(name), value) for name, value in results.items() if name != "PC"}
    assert machine.read & SYSTEM == read
    assert {name: after.get(name) for name in machine.registers} == machine.registers
