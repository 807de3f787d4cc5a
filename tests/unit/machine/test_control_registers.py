"""Which registers matter, and which hold what an instruction wrote."""

from __future__ import annotations

import pytest

from kexecdbg.machine.control_registers import control_registers, keeps_what_is_written


@pytest.mark.parametrize("el", [1, 2, 3])
def test_an_exception_writes_those_that_say_where_it_came_from(el: int) -> None:
    changed = [name for name in control_registers(el) if not keeps_what_is_written(name)]
    assert changed == [f"ESR_EL{el}", f"FAR_EL{el}", f"ELR_EL{el}", f"SPSR_EL{el}"]


def test_at_writes_par_and_nothing_else_writes_what_decides_translation() -> None:
    assert not keeps_what_is_written("PAR_EL1")
    assert all(map(keeps_what_is_written, ("SCTLR_EL1", "VTCR_EL2", "SCR_EL3", "CPACR_EL1", "CPTR_EL2", "TPIDR_EL2")))
