"""The worked script that needs a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.ui.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_kvm_at_el2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(EXAMPLES / "kvm_el2.py"), "--ktap"]) == 0
    assert "at EL2, regime EL2\n  ok 1 check_kvm_switches_the_mmu_on\n" in capsys.readouterr().out
