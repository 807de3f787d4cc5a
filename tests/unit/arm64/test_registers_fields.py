"""The declarations against Arm's machine-readable register data."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.register_names import by_encoding, encoding_of
from kexecdbg.arm64.registers import REGISTERS, Layout, Register
from kexecdbg.arm64.syndromes.classes import esr_fields

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "registers"
FULL_COPY = ROOT.parent / "shared" / "facts" / "arm_sysreg_fields.json"

ARM: dict[str, Any] = json.loads((DATA / "arm_fields.json").read_text())
ARCHITECTURE: list[Any] = json.loads((DATA / "architecture_fields.json").read_text())
EXCEPTIONS: list[Any] = yaml.safe_load((DATA / "field_exceptions.yaml").read_text())

# How a condition of the data reads as one of our layout labels; one with a single layout has only that.
LABELS = {
    "HCR_EL2.E2H==0": "E2H=0",
    "HCR_EL2.E2H == 0": "E2H=0",
    "HCR_EL2.E2H==1": "E2H=1",
    "HCR_EL2.E2H == 1": "E2H=1",
    "AArch64-PAR_EL1.F == 0b0": "F=0",
    "AArch64-PAR_EL1.F == 0b1": "F=1",
    "exception taken from AArch32": "AArch32",
    "exception taken from AArch64": "AArch64",
}


def layout_for(register: Register, when: str) -> Layout:
    # Without a condition the data lists the union of fields, which is our last layout (E2H=1).
    label = LABELS.get(when)
    return next((layout for layout in register.layouts if layout.label == label), register.layouts[-1])


def is_excepted(register: str, when: str, field: str) -> bool:
    return any(
        register in entry["registers"] and field in entry["fields"] and when.startswith(entry.get("when", ""))
        for entry in EXCEPTIONS
    )


def missing_fields(name: str, fieldsets: list[Any]) -> Iterator[tuple[str, str, str, int, int]]:
    for when, fields in fieldsets:
        have = {(field.name, field.msb, field.lsb) for field in layout_for(REGISTERS[name], when).fields}
        for field, msb, lsb in fields:
            if (field, msb, lsb) not in have and not is_excepted(name, when, field):
                yield name, when, field, msb, lsb


@pytest.mark.parametrize("name", ARM)
def test_a_register_has_arms_fields_and_encoding(name: str) -> None:
    assert list(missing_fields(name, ARM[name]["fieldsets"])) == []
    assert REGISTERS[name].encoding == tuple(ARM[name]["encoding"])


def test_every_exception_is_needed() -> None:
    for entry in EXCEPTIONS:
        for name in entry["registers"]:
            listed = {
                field
                for when, fields in ARM[name]["fieldsets"]
                for field, _, _ in fields
                if is_excepted(name, when, field)
            }
            assert listed & set(entry["fields"]), f"{name}: {entry['reason']}"


@pytest.mark.skipif(not FULL_COPY.exists(), reason="the full register data is not part of the project")
def test_the_compact_copy_is_what_the_full_data_says() -> None:
    full = json.loads(FULL_COPY.read_text())
    for name, entry in ARM.items():
        assert full[name]["encoding"] == entry["encoding"]
        assert [[part["when"] or "", part["fields"]] for part in full[name]["fieldsets"]] == entry["fieldsets"]
    assert {name for name in REGISTERS if name in full} == ARM.keys()


@pytest.mark.parametrize("entry", ARCHITECTURE, ids=lambda entry: f"{entry['register']}{entry['layout']}")
def test_a_layout_has_exactly_the_fields_of_the_architecture_table(entry: Any) -> None:
    register = REGISTERS[entry["register"]]
    layout = next(layout for layout in register.layouts if layout.label == entry["layout"])
    have = [[field.name, field.msb, field.lsb] for field in layout.fields]
    assert [field for field in entry["fields"] if field not in have] == []
    assert [field for field in have if field not in entry["fields"]] == []
    assert register.encoding == tuple(entry["encoding"])
    if "res1" in entry:
        assert sorted(layout.res1) == sorted(entry["res1"])


@pytest.mark.skipif(not FULL_COPY.exists(), reason="the full register data is not part of the project")
def test_every_encoding_of_the_full_data_has_its_name() -> None:
    by_position = defaultdict(list)
    for name, entry in json.loads(FULL_COPY.read_text()).items():
        by_position[tuple(entry["encoding"])].append(name)
    # An array of registers has the encoding of its first element throughout the data.
    alone = {position: names[0] for position, names in by_position.items() if len(names) == 1}
    assert len(alone) > 300
    assert {position: by_encoding(*position) for position in alone} == alone


def all_layouts() -> Iterator[tuple[str, Layout]]:
    for register in REGISTERS.values():
        for layout in register.layouts:
            yield f"{register.name} {layout.label}", layout


# In ESR_ELx, ISS is a field and has fields: the next test is about those.
FLAT_LAYOUTS = [pytest.param(layout, id=name) for name, layout in all_layouts() if not name.startswith("ESR_")]


@pytest.mark.parametrize("layout", FLAT_LAYOUTS)
def test_fields_do_not_overlap_and_stand_in_order(layout: Layout) -> None:
    used = layout.res1_mask | layout.unchecked
    for field in layout.fields:
        assert 63 >= field.msb >= field.lsb >= 0
        assert not used & field.mask, field.name
        used |= field.mask
    assert [field.msb for field in layout.fields] == sorted((field.msb for field in layout.fields), reverse=True)
    assert used | layout.res0_mask == field_mask(63, 0)


@pytest.mark.parametrize("ec", range(64))
def test_iss_fields_lie_in_iss_or_iss2_and_do_not_overlap(ec: int) -> None:
    for low in (0, 1 << 24, 0x10, 0x35, 1 << 24 | 0x10, 2 << 20):
        used = 0
        for field in esr_fields(ec << 26 | low)[4:]:
            assert field.msb <= 24 or (field.lsb >= 32 and field.msb <= 55)
            assert not used & field.mask, field.name
            used |= field.mask


def test_every_declared_condition_can_be_asked() -> None:
    for _, layout in all_layouts():
        for field in layout.fields:
            if field.condition is not None:
                assert field.condition.holds({}) is None, field.name
                assert field.condition.text


def test_every_meaning_table_stays_inside_its_field() -> None:
    for name, layout in all_layouts():
        for field in layout.fields:
            if isinstance(field.meanings, dict):
                assert max(field.meanings) < 1 << (field.msb - field.lsb + 1), f"{name} {field.name}"


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ((3, 0, 1, 0, 0), "SCTLR_EL1"),
        ((3, 5, 1, 0, 0), "SCTLR_EL12"),
        ((3, 4, 2, 0, 0), "TTBR0_EL2"),
        ((3, 0, 0, 7, 4), "ID_AA64MMFR4_EL1"),
        ((3, 3, 14, 2, 1), "CNTP_CTL_EL0"),
        ((3, 0, 10, 2, 3), "PIR_EL1"),
        ((3, 3, 14, 15, 7), "PMCCFILTR_EL0"),
        ((2, 0, 0, 15, 5), "DBGBCR15_EL1"),
        ((1, 0, 8, 7, 0), "TLBI VMALLE1"),
        ((1, 0, 9, 7, 0), "TLBI VMALLE1NXS"),
        ((1, 4, 8, 4, 2), "TLBI RIPAS2E1"),
        ((1, 3, 7, 14, 1), "DC CIVAC"),
        ((1, 0, 7, 8, 0), "AT S1E1R"),
        ((1, 0, 7, 1, 0), "IC IALLUIS"),
        ((0, 3, 4, 15, 6), "DAIFSet"),
        ((3, 0, 15, 2, 0), "S3_0_C15_C2_0"),
        ((1, 0, 11, 0, 0), "S1_0_C11_C0_0"),
        ((1, 0, 9, 9, 7), "S1_0_C9_C9_7"),
    ],
)
def test_names_by_encoding(encoding: tuple[int, int, int, int, int], name: str) -> None:
    assert by_encoding(*encoding) == name


def test_encodings_by_name() -> None:
    assert encoding_of("TCR_EL2") == (3, 4, 2, 0, 2)
    assert encoding_of("DBGDTRTX_EL0") == (2, 3, 0, 5, 0)
    assert encoding_of("PSTATE") is None
