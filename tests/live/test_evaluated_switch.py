"""The switch judged from afar, by evaluating the code that leads to it; and faults that come some time after it."""

from __future__ import annotations

from typing import Any

import pytest

from kexecdbg.lab.scenarios import all_scenarios
from tests.live.machines import ARRIVED, SECONDS, bench

FROM_THE_START = [
    "A", "B", "O", "V1", "EL1",
    "sound-EL1-4K", "sound-EL2-4K", "sound-VHE-16K", "sound-EL3-64K", "sound-EL1-from-EL3", "sound-EL1-only",
    "M01", "M06", "M29", "M29-argument-EL1", "M29-literal-VHE", "M29-UART-EL3", "M33-EL1",
]  # fmt: skip


def fatal(check: Any) -> list[str]:
    return [finding["id"] for finding in check["findings"] if finding["severity"] == "fatal"]


@pytest.mark.parametrize("name", FROM_THE_START)
def test_from_the_first_instruction_it_says_what_it_says_at_the_switch(name: str) -> None:
    """Through the boot code, an exception return and the set-up: 50 to 100 instructions."""
    with bench(name) as lab:
        far = lab.run("kexec-check")
        near = lab.run("kexec-step --before --timeout 30")["check"]
    assert (far["site"], far["verdict"], far["el"]) == (near["site"], near["verdict"], near["el"])
    assert far["predicted"] == near["predicted"]
    assert fatal(far) == fatal(near)


def test_repaired_before_anything_ran_the_relocation_arrives() -> None:
    with bench("A") as lab:
        lab.run("kexec-check")
        assert lab.run("kexec-fix --yes")["resume_at"] is None
        assert lab.go_on().startswith(ARRIVED)


@pytest.mark.parametrize("name", ["M29", "M29-argument-EL1", "M29-UART-VHE", "M29-literal-EL3"])
def test_the_first_syndrome_of_a_later_fault_is_kept(name: str) -> None:
    with bench(name) as lab:
        stepped = lab.run("kexec-step --timeout 30")
        at = stepped["check"]["predicted"]["at"]
        assert at["executed"] > 0 and at["access"] in ("read", "write")
        assert stepped["agrees"] is True
        assert stepped["observed"]["first"]["elr"] == at["pc"]
        assert stepped["observed"]["first"]["far"] == at["address"]
        switch = [step["pc"] for step in stepped["observed"]["steps"]].index(stepped["site"])
        assert len(stepped["observed"]["steps"]) - switch == at["executed"] + 2


@pytest.mark.parametrize("name", ["M29-read-only", "M29-AF-EL1"])
def test_a_data_abort_is_repaired_and_the_run_goes_on_at_the_access(name: str) -> None:
    with bench(name) as lab:
        stepped = lab.run("kexec-step --timeout 30")
        assert lab.run("kexec-fix --yes")["resume_at"] == stepped["observed"]["first"]["elr"]
        guest = all_scenarios()[name].guest.build()
        assert guest.rests_at is not None
        lab.stop_at(guest.rests_at)
        assert lab.machine.qemu.console.wait_for("enabled", SECONDS)


def test_where_the_way_cannot_be_told_it_says_how_far_it_got() -> None:
    with bench("A") as lab:
        lab.gdb.command("set $pc = turn_on_mmu_done + 12")
        assert "does not switch the MMU on; followed to" in lab.refused("kexec-check")
