"""Makes scenarios out of variants of the relocation guest."""

from __future__ import annotations

from kexecdbg.arm64.descriptors import UXN_BIT
from kexecdbg.lab.relocation import RelocationCase
from kexecdbg.lab.scenario import Scenario
from kexecdbg.lab.tables import PAGE_KERNEL_EXEC

_IN_EVERY_CASE = frozenset({"M21"})
"""What is wrong with the relocation code of 2019 whatever its tables and registers: cache operations by set and way."""
_AT_EL2 = frozenset({"M20"})
"""The same in its EL2 branch: no ISB between the writes of TCR_EL2 and MAIR_EL2 and the switch."""

EXECUTABLE_AT_EL2 = PAGE_KERNEL_EXEC & ~(1 << UXN_BIT)
"""PAGE_KERNEL_EXEC with the repair."""


def relocation_scenario(
    name: str, summary: str, case: RelocationCase, *expected: str, qemu_lets_it_pass: str = ""
) -> Scenario:
    """The scenario of ``case``, filed under the first of its ``expected`` findings; the code's own come on top."""
    own = _IN_EVERY_CASE if case.drop_to_el1 else _IN_EVERY_CASE | _AT_EL2
    return Scenario(name, expected[0], summary, case, own.union(expected), qemu_lets_it_pass)
