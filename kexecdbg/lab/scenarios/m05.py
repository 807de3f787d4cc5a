"""M05: the exception vectors are out of reach."""

from __future__ import annotations

from kexecdbg.arm64.descriptors import PXN_BIT, UXN_BIT
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import CODE, VECTORS, EnableSetup
from kexecdbg.lab.enable_scenarios import ONE_RANGE, TWO_RANGES, in_regimes
from kexecdbg.lab.scenario import Scenario

_KERNEL_VECTORS = 0xFFFF_8000_0801_0800


def _vectors_not_mapped(setup: EnableSetup) -> None:
    setup.tables.set_descriptor(VECTORS, 3, 0)


def _vectors_execute_never(setup: EnableSetup) -> None:
    setup.change_leaf(VECTORS, set_bits=1 << UXN_BIT | 1 << PXN_BIT)


def _first_fault_lost(setup: EnableSetup) -> None:
    _vectors_not_mapped(setup)
    setup.change_leaf(CODE, set_bits=1 << UXN_BIT)


def _first_fault_lost_with_sp_el0(setup: EnableSetup) -> None:
    """PSTATE.SP = 0 takes the vector at VBAR + 0x000."""
    _first_fault_lost(setup)
    setup.registers.spsr &= ~1


def _kernel_vectors_without_ttbr1(setup: EnableSetup) -> None:
    setup.registers.vbar = _KERNEL_VECTORS


SCENARIOS: tuple[Scenario, ...] = (
    *in_regimes("M05", "the vectors' page not mapped; nothing faults yet", _vectors_not_mapped),
    *in_regimes("M05", "the vectors' page execute-never; nothing faults yet", _vectors_execute_never, variant="XN"),
    *in_regimes(
        "M01", "the vectors' page not mapped, the code's execute-never", _first_fault_lost, ONE_RANGE, variant="spins"
    ),
    *in_regimes(
        "M01",
        "the vectors' page not mapped, the code's execute-never, on SP_EL0",
        _first_fault_lost_with_sp_el0,
        [Regime.EL2],
        variant="SP0",
    ),
    *in_regimes(
        "M05",
        "VBAR in the upper half, EPD1 set; nothing faults yet",
        _kernel_vectors_without_ttbr1,
        TWO_RANGES,
        variant="EPD1",
    ),
)
