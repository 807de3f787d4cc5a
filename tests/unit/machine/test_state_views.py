"""Registers that show part of PSTATE."""

from __future__ import annotations

import pytest

from kexecdbg.machine.state import CpuState

EL2H_MASKED_N_PAN = 0x8000_0000 | 1 << 22 | 0x3C9


@pytest.mark.parametrize(
    ("name", "value"),
    [("CurrentEL", 8), ("DAIF", 0x3C0), ("NZCV", 0x8000_0000), ("PAN", 1 << 22), ("UAO", 0), ("SPSel", 1)],
)
def test_views_of_pstate(name: str, value: int) -> None:
    assert CpuState({"PSTATE": EL2H_MASKED_N_PAN}).get(name) == value


def test_unknown_pstate_leaves_them_unknown() -> None:
    assert CpuState({}).get("CurrentEL") is None


def test_the_machines_own_value_wins() -> None:
    assert CpuState({"PSTATE": EL2H_MASKED_N_PAN, "DAIF": 0}).get("DAIF") == 0
