"""The 80 worked walks: what the architecture says about registers and descriptors that QEMU was run on too."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kexecdbg.arm64.faults import Access, FaultKind
from kexecdbg.arm64.memory_types import memory_type_of_mair_byte
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.walk import walk
from tests.unit.arm64.tables import DATA, Words, registers

VECTORS = yaml.safe_load((DATA / "walks.yaml").read_text())
FAULTS = {
    "perm": FaultKind.PERMISSION,
    "translation": FaultKind.TRANSLATION,
    "addrsize": FaultKind.ADDRESS_SIZE,
    "access": FaultKind.ACCESS_FLAG,
}
SIZES = {"4K": 12, "16K": 14, "64K": 16, "2M": 21, "32M": 25, "512M": 29, "1G": 30, "64G": 36, "512G": 39, "4T": 42}


def parsed(vector: dict[str, Any]) -> tuple[dict[str, int], int, Access, bool]:
    """Registers, exception level, access, and whether it is a stage-1-only AT."""
    op = vector["op"]
    values = registers(**{name: value for name, value in vector["regs"].items() if name != "PSTATE_PAN"})
    if op.startswith("FETCH_EL"):
        return values, int(op[8]), Access.FETCH, False
    stage1_only = op.startswith("S1E")
    rest = op.removeprefix("S12E" if not stage1_only else "S1E")
    return values, int(rest[0]), Access.READ if rest[1] == "R" else Access.WRITE, stage1_only


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_worked_walk(vector: dict[str, Any]) -> None:
    values, el, access, stage1_only = parsed(vector)
    regime = Regime.EL1_0 if el < 2 else Regime.EL2_0 if values["HCR_EL2"] >> 34 & 1 else Regime.EL2
    pan = bool(vector["regs"].get("PSTATE_PAN")) and vector["op"].endswith("P")
    result = walk(values, Words(vector["mem"]), vector["va"], regime=regime, pan=pan, through_stage2=not stage1_only)
    fault = result.fault_for(access, privileged=el > 0)
    want = vector["want"]
    if "fault" in want:
        assert fault is not None
        assert (fault.kind, fault.level, fault.stage, fault.s1ptw, fault.fsc) == (
            FAULTS[want["fault"]],
            want["level"],
            want["stage"],
            bool(want["s1ptw"]),
            want["fsc"],
        )
        return
    assert fault is None
    assert result.pa == want["pa"]
    assert result.enabled == ("s1" not in want)
    if "level" in want:
        assert result.leaf_level == want["level"]
        # With two stages the vectors name the stage 1 page, which is the smaller one in all of them.
        assert result.page_size == 1 << SIZES[want["size"]]
    if "priv" in want:
        assert result.privileged.text == want["priv"]
        assert (result.user.text if result.user else "---") == want["user"]
    if "attr" in want:
        assert result.memory_type == memory_type_of_mair_byte(want["attr"])
    assert result.ipa == want.get("ipa")
    if "s2" in want:
        assert result.stage2 is not None
        assert result.stage2.leaf_level == want["s2"]["level"]
        assert result.stage2.page_size == 1 << SIZES[want["s2"]["size"]]
        assert result.stage2.privileged.text == want["s2"]["perm"]


def test_all_80_are_here() -> None:
    assert [vector["id"] for vector in VECTORS] == [f"W{number:02}" for number in range(1, 81)]
