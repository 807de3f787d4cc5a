"""Scripted sessions on a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.session import Session
from kexecdbg.ui.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 180.0
IMAGE_PAGES = 5000
"""Kernel and initramfs are more than 20 MiB."""


def test_the_example_of_kvm_at_el2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(EXAMPLES / "kvm_el2.py"), "--ktap"]) == 0
    assert "at EL2, regime EL2\n  ok 1 check_kvm_switches_the_mmu_on\n" in capsys.readouterr().out


def test_from_the_jump_to_the_second_kernel() -> None:
    with Session.linux("max", stop="loaded", ram_mib=768, no_checks=True, timeout=SECONDS) as session:
        relocation = session.expect_relocated()
        assert relocation.verified is not None and relocation.verified > IMAGE_PAGES
        assert session.where().pc == session.registers["PC"]
        session.expect_arrival()
        session.expect_console("init of kernel 2")
