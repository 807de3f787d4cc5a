"""Makes scenarios out of variants of the relocation guest."""

from __future__ import annotations

from kexecdbg.arm64.descriptors import UXN_BIT
from kexecdbg.lab.relocation import RelocationCase
from kexecdbg.lab.scenario import Scenario
from kexecdbg.lab.tables import PAGE_KERNEL_EXEC

IN_EVERY_CASE = frozenset[str]()
"""What is wrong with the relocation code of 2019 in every case, whatever its tables and registers."""

EXECUTABLE_AT_EL2 = PAGE_KERNEL_EXEC & ~(1 << UXN_BIT)
"""PAGE_KERNEL_EXEC with the repair."""


def relocation_scenario(
    name: str, summary: str, case: RelocationCase, *expected: str, qemu_lets_it_pass: str = ""
) -> Scenario:
    """The scenario of ``case``, filed under the first of its ``expected`` findings."""
    return Scenario(name, expected[0], summary, case, IN_EVERY_CASE.union(expected), qemu_lets_it_pass)
