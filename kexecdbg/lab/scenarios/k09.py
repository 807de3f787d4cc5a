"""K09: the GIC's LPI tables of the old kernel lie where the new one goes."""

from __future__ import annotations

from kexecdbg.lab.new_kernel import CORRUPT, NEW_KERNEL
from kexecdbg.lab.relocation import LpiTables, RelocationCase
from kexecdbg.lab.relocation_scenarios import EXECUTABLE_AT_EL2, relocation_scenario

_INSIDE = NEW_KERNEL + 0x2_0000

SCENARIOS = (
    relocation_scenario(
        "K09",
        "LPIs are on, both tables inside the new image: the new kernel adopts them, as Linux does",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, lpi_tables=LpiTables(_INSIDE, _INSIDE), console=CORRUPT),
        "K09",
    ),
)
