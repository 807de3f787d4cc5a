"""The registers at a new kernel's first instruction, each requirement broken in turn."""

from __future__ import annotations

import pytest

from kexecdbg.kexec.boot_protocol import boot_checks, image_entry
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.state import CpuState

DEVICE_TREE = 0x4000_0000
IMAGE = 0x4020_0000
MEMORY = BytesMemory(
    {DEVICE_TREE: b"\xd0\x0d\xfe\xed" + bytes(60), IMAGE: bytes(56) + b"ARM\x64", IMAGE + 0x1000: bytes(64)}
)
SOUND = {
    "X0": DEVICE_TREE, "X1": 0, "X2": 0, "X3": 0,
    "PSTATE": 0x3C9, "HCR_EL2": 0x8000_0000, "SCTLR_EL2": 0x30C5_0830,
}  # fmt: skip


def verdicts(
    device_tree: int | None = DEVICE_TREE, el: int | None = 2, **changed: int | None
) -> dict[str, bool | None]:
    values = {name: value for name, value in {**SOUND, **changed}.items() if value is not None}
    return {check.name: check.met for check in boot_checks(CpuState(values), MEMORY, device_tree, el)}


def test_a_sound_entry() -> None:
    assert set(verdicts().values()) == {True}
    assert set(verdicts(device_tree=None, el=None).values()) == {True}


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"X0": DEVICE_TREE + 8}, "x0"),
        ({"X1": 1}, "x1"),
        ({"X2": 1}, "x2"),
        ({"X3": 1}, "x3"),
        ({"SCTLR_EL2": 0x30C5_0831}, "MMU"),
        ({"SCTLR_EL2": 0x30C5_0834}, "data cache"),
        ({"PSTATE": 0x349}, "interrupts"),
        ({"el": 1}, "level"),
    ],
)
def test_each_requirement(changed: dict[str, int], broken: str) -> None:
    assert [name for name, met in verdicts(**changed).items() if met is not True] == [broken]


@pytest.mark.parametrize("x0", [IMAGE, DEVICE_TREE + 4, 0x7000_0000])
def test_x0_must_lead_to_a_device_tree_whoever_chose_it(x0: int) -> None:
    assert verdicts(device_tree=None, X0=x0)["x0"] is False


def test_what_cannot_be_read_is_unknown() -> None:
    assert verdicts(X1=None, SCTLR_EL2=None) == {
        **dict.fromkeys(verdicts(), True),
        **dict.fromkeys(("x1", "MMU", "data cache")),
    }


def test_the_image_is_found_by_its_magic() -> None:
    assert image_entry(MEMORY, [0x9000_0000, DEVICE_TREE, IMAGE + 0x1000, IMAGE]) == IMAGE
    assert image_entry(MEMORY, [DEVICE_TREE]) is None
