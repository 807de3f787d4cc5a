"""The switches of the MMU that a real kernel makes when it boots: found, judged sound, and what was predicted."""

from __future__ import annotations

from tests.linux.course import Course, Switch


def check(switch: Switch, *hazards: str) -> None:
    """The switch was judged sound with just these findings, and the CPU did what was predicted."""
    stepped = switch.stepped
    found = [(finding["id"], finding["severity"]) for finding in stepped["check"]["findings"]]
    assert found == [(hazard, "hazard") for hazard in hazards]
    assert (stepped["check"]["verdict"], stepped["observed"]["first"], stepped["agrees"]) == ("sound", None, True)
    if switch.function is not None:
        assert switch.function < int(stepped["site"], 16) < switch.function + 0x100


def test_enable_mmu_at_boot(course: Course) -> None:
    """VBAR_EL1 is still 0 there."""
    check(course.at_boot[0], "M05")


def test_enable_mmu_of_the_second_kernel_after_the_relocation(course: Course) -> None:
    check(course.after_relocation, "M05")


def test_el2_for_kvm_or_enter_vhe(course: Course) -> None:
    switch = course.at_boot[1]
    check(switch)
    changed = {name for step in switch.stepped["steps"] for name in step["changes"]}
    assert ({"MAIR_EL2", "TTBR0_EL2", "TCR_EL2"} <= changed) is not course.has_vhe


def test_it_is_the_same_from_the_start_of_the_function(course: Course) -> None:
    ahead, stepped = course.at_boot[1].ahead, course.at_boot[1].stepped
    assert ahead["ahead"] > 0
    assert (ahead["site"], ahead["predicted"]) == (stepped["site"], stepped["check"]["predicted"])
