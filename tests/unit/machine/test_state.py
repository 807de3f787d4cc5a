"""Register values: unknown stays unknown, assumptions replace, and which registers count at each level."""

from __future__ import annotations

import pytest

from kexecdbg.errors import RegisterUnknownError
from kexecdbg.machine.control_registers import control_registers
from kexecdbg.machine.state import CpuState


def test_unknown_is_none_and_zero_is_zero() -> None:
    state = CpuState({"ESR_EL2": 0})
    assert (state.get("ESR_EL2"), state.get("FAR_EL2")) == (0, None)
    assert state.require("ESR_EL2", "nothing") == 0
    with pytest.raises(RegisterUnknownError, match=r"FAR_EL2 is unknown and the walk depends .*--assume FAR_EL2=VALUE"):
        state.require("FAR_EL2", "the walk")


def test_assumed_values_replace_those_of_the_machine_and_each_other() -> None:
    state = CpuState({"SCTLR_EL2": 0, "TCR_EL2": 1})
    later = state.with_values({"SCTLR_EL2": 5}).with_values({"SCTLR_EL2": 7, "VBAR_EL2": 0})
    assert [later.get(name) for name in ("SCTLR_EL2", "TCR_EL2", "VBAR_EL2")] == [7, 1, 0]
    assert set(later.assumed_names()) == {"SCTLR_EL2", "VBAR_EL2"}
    assert (state.get("SCTLR_EL2"), list(state.assumed_names())) == (0, [])


def test_control_registers_by_level() -> None:
    assert control_registers(2)[:2] == ("HCR_EL2", "SCTLR_EL2")
    assert "TTBR1_EL2" in control_registers(2)
    assert "TTBR1_EL3" not in control_registers(3) and "HCR_EL2" not in control_registers(3)
    assert control_registers(0) == control_registers(1)
