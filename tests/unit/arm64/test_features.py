"""Features as the ID registers announce them, and the effective E2H."""

from __future__ import annotations

import pytest

from kexecdbg.arm64.features import ANY_OF, FEATURES, effective_e2h, has_feature
from kexecdbg.arm64.registers import REGISTERS

E2H = 1 << 34


@pytest.mark.parametrize(
    ("name", "registers", "expected"),
    [
        ("FEAT_VHE", {}, None),
        ("FEAT_VHE", {"ID_AA64MMFR1_EL1": 0}, False),
        ("FEAT_VHE", {"ID_AA64MMFR1_EL1": 0x100}, True),
        ("FEAT_PAN3", {"ID_AA64MMFR1_EL1": 2 << 20}, False),
        ("FEAT_PAN3", {"ID_AA64MMFR1_EL1": 3 << 20}, True),
        ("FEAT_MTE2", {"ID_AA64PFR1_EL1": 1 << 8}, False),
        ("FEAT_AA32EL0", {"ID_AA64PFR0_EL1": 0x1111}, False),
        ("FEAT_AA32EL0", {"ID_AA64PFR0_EL1": 0x2222}, True),
        ("FEAT_PMUv3p1", {"ID_AA64DFR0_EL1": 0xF << 8}, False),  # IMPLEMENTATION DEFINED counters
        ("FEAT_PMUv3p1", {"ID_AA64DFR0_EL1": 4 << 8}, True),
        ("FEAT_LPA2", {"ID_AA64MMFR0_EL1": 0xF << 28}, False),  # 4 KB not implemented at all
        ("FEAT_LPA2", {"ID_AA64MMFR0_EL1": 1 << 28}, True),
        ("FEAT_LPA2", {"ID_AA64MMFR0_EL1": 2 << 20}, True),
        # Any one of several fields: present needs one, absent needs all.
        ("FEAT_PAuth", {"ID_AA64ISAR1_EL1": 1 << 4}, True),
        ("FEAT_PAuth", {"ID_AA64ISAR1_EL1": 0}, None),
        ("FEAT_PAuth", {"ID_AA64ISAR1_EL1": 0, "ID_AA64ISAR2_EL1": 1 << 12}, True),
        ("FEAT_PAuth", {"ID_AA64ISAR1_EL1": 0, "ID_AA64ISAR2_EL1": 0}, False),
    ],
)
def test_has_feature(name: str, registers: dict[str, int], expected: bool | None) -> None:
    assert has_feature(registers, name) is expected


def test_an_unknown_feature_is_an_error() -> None:
    with pytest.raises(KeyError):
        has_feature({}, "FEAT_NONSENSE")


def test_every_feature_stands_for_a_declared_id_field() -> None:
    for name, alternatives in {**{name: (field,) for name, field in FEATURES.items()}, **ANY_OF}.items():
        for id_field in alternatives:
            fields = REGISTERS[id_field.register].layouts[0].fields
            assert any((field.msb, field.lsb) == (id_field.lsb + 3, id_field.lsb) for field in fields), name


@pytest.mark.parametrize(
    ("registers", "expected"),
    [
        ({}, None),
        ({"HCR_EL2": 0}, False),
        ({"HCR_EL2": E2H}, True),
        ({"HCR_EL2": E2H, "ID_AA64MMFR1_EL1": 0}, False),
        ({"ID_AA64MMFR1_EL1": 0}, False),
        ({"HCR_EL2": 0, "ID_AA64MMFR4_EL1": 0xF << 24}, True),
        ({"HCR_EL2": 0, "ID_AA64MMFR4_EL1": 0xE << 24}, True),
        ({"ID_AA64MMFR4_EL1": 0xF << 24}, True),
        ({"HCR_EL2": 0, "ID_AA64MMFR4_EL1": 0}, False),
        ({"HCR_EL2": E2H, "ID_AA64MMFR1_EL1": 0x100, "ID_AA64MMFR4_EL1": 0}, True),
    ],
)
def test_effective_e2h(registers: dict[str, int], expected: bool | None) -> None:
    assert effective_e2h(registers) is expected
