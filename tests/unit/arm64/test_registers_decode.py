"""Decoding register values: golden values, layouts, findings, names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecdbg.arm64.register_names import canonical_name
from kexecdbg.arm64.registers import REGISTERS, DecodedRegister, decode, field_value, lookup
from kexecdbg.errors import UsageError

DATA = Path(__file__).parents[2] / "data" / "registers"
GOLDEN: dict[str, Any] = json.loads((DATA / "golden_values.json").read_text())

E2H, TGE = 1 << 34, 1 << 27
HOST = {"HCR_EL2": E2H | TGE}
PLAIN = {"HCR_EL2": 0}
CORTEX_A57 = {  # QEMU 7.2, no VHE
    "ID_AA64PFR0_EL1": 0x2222,
    "ID_AA64PFR1_EL1": 0,
    "ID_AA64ISAR1_EL1": 0,
    "ID_AA64ISAR2_EL1": 0,
    "ID_AA64MMFR0_EL1": 0x1124,
    "ID_AA64MMFR1_EL1": 0,
    "ID_AA64MMFR2_EL1": 0,
    "ID_AA64MMFR3_EL1": 0,
}


def finding_kinds(decoded: DecodedRegister) -> list[tuple[str, int, int]]:
    return [(finding.kind, finding.msb, finding.lsb) for finding in decoded.findings]


def numbers(context: dict[str, str]) -> dict[str, int]:
    return {name: int(value, 0) for name, value in context.items()}


@pytest.mark.parametrize("case", GOLDEN["registers"], ids=lambda case: case["id"])
def test_golden_registers(case: Any) -> None:
    decoded = decode(case["register"], int(case["value"], 0), numbers(case["context"]))
    assert decoded.layout == case["layout"]
    listed = {name: decoded.field(name).value for name in case["nonzero"]}
    assert listed == case["nonzero"]
    others = {field.name: field.value for field in decoded.fields if field.value and field.name not in listed}
    assert others == {}
    assert [[finding.kind, finding.msb] for finding in decoded.findings] == case["findings"]
    assert decoded.assumptions == ()


SHORT_FORMS = {
    "Device-nGnRnE": "Device-nGnRnE",
    "Device-nGnRE": "Device-nGnRE",
    "Device-GRE": "Device-GRE",
    "Normal NC": "Normal Non-cacheable",
    "Normal NC XS=0": "Normal Non-cacheable, XS=0",
    "Normal WB RA WA": "Normal Write-Back RA WA",
    "Normal WT RA WA": "Normal Write-Through RA WA",
    "Normal WT RA XS=0": "Normal Write-Through RA, XS=0",
    "Normal Tagged WB RA WA": "Normal Write-Back RA WA Tagged",
    "Normal WB transient RA WA": "Normal Write-Back RA WA transient",
    "Normal outer NC inner WB RA WA": "Normal inner Write-Back RA WA, outer Non-cacheable",
    "Normal outer WB RA WA inner NC": "Normal inner Non-cacheable, outer Write-Back RA WA",
}


@pytest.mark.parametrize("case", GOLDEN["memory_attributes"], ids=lambda case: case["id"])
@pytest.mark.parametrize("el", [1, 2, 3])
def test_golden_memory_attributes(case: Any, el: int) -> None:
    decoded = decode(f"MAIR_EL{el}", int(case["value"], 0), {})
    assert [decoded.field(f"Attr{index}").meaning for index in range(8)] == [
        SHORT_FORMS[text] for text in case["attributes"]
    ]


def test_the_layout_follows_effective_e2h() -> None:
    assert decode("TCR_EL2", 0x80843510, PLAIN).layout == "E2H=0"
    assert decode("TCR_EL2", 0x80843510, HOST).layout == "E2H=1"
    # E2H has no effect without FEAT_VHE, and is 1 whatever HCR_EL2 reads where it cannot be 0.
    assert decode("TCR_EL2", 0x80843510, {**HOST, "ID_AA64MMFR1_EL1": 0}).layout == "E2H=0"
    assert decode("TCR_EL2", 0x80843510, {**PLAIN, "ID_AA64MMFR4_EL1": 0xF << 24}).layout == "E2H=1"


@pytest.mark.parametrize(
    ("name", "value", "layout", "assumption"),
    [
        (
            "TCR_EL2",
            0x80843510,
            "E2H=0",
            "HCR_EL2 is unknown: TCR_EL2 read as E2H=0 because RES1 bits 31 and 23 are set",
        ),
        (
            "TCR_EL2",
            0x500803510,
            "E2H=1",
            "HCR_EL2 is unknown: TCR_EL2 read as E2H=1 because bit 31 is clear, RES1 with E2H=0 and bit 34 is set, "
            "RES0 with E2H=0",
        ),
        (
            "CPTR_EL2",
            0x33FF,
            "E2H=0",
            "HCR_EL2 is unknown: CPTR_EL2 read as E2H=0 because RES1 bits 13, 9 and 7:0 are set",
        ),
        (
            "CPTR_EL2",
            0x300000,
            "E2H=1",
            "HCR_EL2 is unknown: CPTR_EL2 read as E2H=1 because bits 13, 9 and 7:0 are clear, RES1 with E2H=0 and "
            "bit 21 is set, RES0 with E2H=0",
        ),
        (
            "CNTHCTL_EL2",
            0x3,
            "E2H=0",
            "HCR_EL2 is unknown: CNTHCTL_EL2 read as E2H=0 because the value fits both layouts and nothing says that "
            "E2H is 1",
        ),
        (
            "CNTHCTL_EL2",
            0xC03,
            "E2H=1",
            "HCR_EL2 is unknown: CNTHCTL_EL2 read as E2H=1 because bits 11:10 are set, RES0 with E2H=0",
        ),
    ],
)
def test_without_hcr_el2_the_value_decides_and_says_so(name: str, value: int, layout: str, assumption: str) -> None:
    decoded = decode(name, value, {})
    assert (decoded.layout, decoded.assumptions) == (layout, (assumption,))


def test_meanings_are_what_an_expert_expects() -> None:
    tcr = decode("TCR_EL2", 0x80843510, PLAIN)
    assert tcr.field("PS").meaning == "44 bits, 16 TB"
    assert (tcr.field("PS").msb, tcr.field("PS").lsb) == (18, 16)
    assert tcr.field("TG0").meaning == "4 KB granule"
    assert tcr.field("SH0").meaning == "Inner Shareable"
    assert tcr.field("ORGN0").meaning == "Write-Back RA WA"
    assert tcr.field("T0SZ").meaning == "48-bit range, 0x0 to 0xffffffffffff"
    tcr_el1 = decode("TCR_EL1", 0x1485100510, {})
    assert tcr_el1.field("TG1").meaning == "4 KB granule"
    assert tcr_el1.field("T1SZ").meaning == "48-bit range, 0xffff000000000000 to 0xffffffffffffffff"
    assert decode("TTBR0_EL2", 0x1B3069000, PLAIN).field("BADDR").meaning == "table at 0x1b3069000"
    assert decode("TTBR0_EL1", 0x1B306903C, {}).field("BADDR").meaning == (
        "table at 0x1b306903c; with 52-bit addresses 0xf0001b3069000"
    )
    assert decode("PSTATE", 0x3C9, {}).field("M").meaning == "EL2h: EL2 with SP_EL2"
    assert decode("PAR_EL1", 0x81F, {}).field("FST").meaning == "Permission fault, level 3"
    assert decode("ESR_EL2", 0x8600000F, {}).field("EC").meaning == "Instruction Abort, same EL"
    assert decode("ESR_EL1", 0x623000AF, {}).field("ISS").meaning == "mrs x5, ID_AA64MMFR0_EL1"
    assert decode("ID_AA64MMFR0_EL1", 0x1124, {}).field("PARange").meaning == "44 bits, 16 TB"
    assert decode("VBAR_EL2", 0x80001000, {}).field("VBA").meaning == "vectors at 0x80001000"
    assert decode("PIR_EL1", 0x73, {}).field("Perm1").meaning == "read, write, execute"


@pytest.mark.parametrize(
    ("name", "value", "context", "expected"),
    [
        ("TCR_EL2", 0x80843510 & ~(1 << 23), PLAIN, [("res1", 23, 23)]),
        ("TCR_EL2", 0x80843510 | 1 << 40, PLAIN, [("res0", 40, 40)]),
        ("TCR_EL2", 0x8084F510, PLAIN, [("reserved", 15, 14)]),
        ("TCR_EL1", 0x80000010 | 1 << 12, {}, [("reserved", 13, 12)]),
        ("TCR_EL1", 0x10, {}, [("reserved", 31, 30)]),
        ("TCR_EL1", 0x10 | 1 << 23, {}, []),  # EPD1: TG1 does not matter
        ("SCTLR_EL2", 0x30C50830, PLAIN, []),
        ("SCTLR_EL2", 0, PLAIN, [("res1", *bits) for bits in ((29, 28), (23, 23), (18, 18), (16, 16), (5, 4))]),
        ("SCTLR_EL2", 0x30C50830 | 1 << 26, PLAIN, [("res0", 26, 26)]),
        ("SCTLR_EL2", 0x30C50830 | 1 << 26, HOST, []),
        ("SCTLR_EL2", 0, HOST, []),
        ("SCTLR_EL2", 0x30C50830 | 1 << 26, {"HCR_EL2": E2H}, [("res0", 26, 26)]),
        ("TTBR0_EL2", 1 << 48, PLAIN, [("res0", 48, 48)]),
        ("TTBR0_EL2", 1 << 48, HOST, []),
        ("VTCR_EL2", 0x53558, {}, [("res1", 31, 31)]),
        ("PAR_EL1", 0x1, {}, [("res1", 11, 11)]),
        ("HCR_EL2", E2H, CORTEX_A57, [("res0", 34, 34)]),
        ("HCR_EL2", E2H, {}, []),
        ("SCTLR_EL1", 0x30D00800, CORTEX_A57, []),
        ("SCTLR_EL1", 0, CORTEX_A57, [("res1", n, n) for n in (29, 28, 23, 22, 20, 11)]),
        ("SCTLR_EL1", 0, {}, []),
        ("SCTLR_EL1", 1 << 57, {"ID_AA64MMFR1_EL1": 3 << 20}, []),
        ("SCTLR_EL1", 1 << 57, {"ID_AA64MMFR1_EL1": 2 << 20}, [("res0", 57, 57)]),
        ("SPSR_EL2", 0x3CA, {}, [("reserved", 3, 0)]),
        ("CPTR_EL2", 0x22FF, {**PLAIN, **CORTEX_A57}, [("res1", 12, 12), ("res1", 8, 8)]),
        ("SCR_EL3", 0x401, {}, [("res1", 5, 4)]),
        ("MPIDR_EL1", 0, {}, [("res1", 31, 31)]),
    ],
)
def test_findings(name: str, value: int, context: dict[str, int], expected: list[tuple[str, int, int]]) -> None:
    assert finding_kinds(decode(name, value, context)) == expected


def test_a_finding_is_a_sentence_that_names_register_bits_and_value() -> None:
    def texts(name: str, value: int, context: dict[str, int]) -> list[str]:
        return [finding.text for finding in decode(name, value, context).findings]

    assert texts("TCR_EL2", 0x500803510, PLAIN) == [
        "TCR_EL2 bit 34 is 1; it is RES0 with E2H=0.",
        "TCR_EL2 bit 31 is 0; it is RES1 with E2H=0.",
    ]
    assert texts("CPTR_EL2", 0x3300, PLAIN) == ["CPTR_EL2 bits 7:0 are 0; they are RES1 with E2H=0."]
    assert texts("HCR_EL2", E2H, CORTEX_A57) == ["HCR_EL2 bit 34 (E2H) is 1; RES0 without FEAT_VHE."]
    assert texts("TCR_EL2", 0x8084F510, PLAIN) == ["TCR_EL2.TG0 (bits 15:14) is 3, a reserved value."]
    assert texts("SCTLR_EL2", 0x3 << 46, {"HCR_EL2": E2H, "ID_AA64MMFR1_EL1": 0x100})[0] == (
        "SCTLR_EL2 bits 47:46 (TWEDEL) are 1; RES0 without HCR_EL2.{E2H,TGE}={1,1} and FEAT_TWED."
    )


def test_a_field_the_machine_lacks_is_not_decoded_and_reads_as_reserved() -> None:
    value = 1 << 57
    with pytest.raises(KeyError):
        decode("SCTLR_EL1", value, CORTEX_A57).field("EPAN")
    assert field_value("SCTLR_EL1", "EPAN", value, CORTEX_A57) == 0
    assert field_value("SCTLR_EL1", "EPAN", value, {}) == 1
    assert field_value("SCTLR_EL1", "SPAN", 0, CORTEX_A57) == 1
    assert field_value("TCR_EL2", "T0SZ", 0x80843510, PLAIN) == 16
    assert field_value("TCR_EL2", "HA", 1 << 39, HOST) == 1
    assert field_value("TCR_EL2", "HA", 1 << 39, PLAIN) == 0
    with pytest.raises(KeyError):
        field_value("TCR_EL2", "T1SZ", 0, PLAIN)


@pytest.mark.parametrize(
    ("given_name", "canonical"),
    [
        ("sctlr_el2", "SCTLR_EL2"),
        ("SCTLR", "SCTLR_EL1"),
        ("VBAR", "VBAR_EL1"),
        ("AMAIR0", "AMAIR_EL1"),
        ("CPACR", "CPACR_EL1"),
        ("cpsr", "PSTATE"),
        ("x7", "X7"),
        ("lr", "X30"),
        ("pc", "PC"),
        ("SCTLR_EL12", "SCTLR_EL1"),
        ("TTBR0_EL12", "TTBR0_EL1"),
        ("CNTP_CTL_EL02", "CNTP_CTL_EL0"),
        ("currentel", "CurrentEL"),
        ("APIAKEYLO_EL1", "APIAKeyLo_EL1"),
        ("ID_AA64MMFR3_EL1_RESERVED", "ID_AA64MMFR3_EL1"),
        ("ID_PFR0", "ID_PFR0_EL1"),
        ("S3_4_C2_C0_2", "TCR_EL2"),
        ("s3_0_c15_c2_0", "S3_0_C15_C2_0"),
        ("DBGDTRTX_EL0", "DBGDTRTX_EL0"),
        ("NONSENSE", None),
        ("X31", None),
        ("S3_0_C16_C0_0", None),
        ("TLBI_VMALLE1", None),
        ("SCTLR_EL22", None),
    ],
)
def test_canonical_names(given_name: str, canonical: str | None) -> None:
    assert canonical_name(given_name) == canonical


@pytest.mark.parametrize(("version", "number"), [("7.2", 281), ("10.0", 357)])
def test_every_name_qemu_offers_has_a_canonical_one(version: str, number: int) -> None:
    names = (DATA / f"qemu-{version}-gdb-names.txt").read_text().split()
    assert len(names) == number
    assert [name for name in names if canonical_name(name) is None] == []


def test_canonical_names_are_their_own() -> None:
    assert [name for name in REGISTERS if canonical_name(name) != name] == []


def test_an_unknown_register_names_near_ones() -> None:
    with pytest.raises(UsageError, match=r"no register is called 'SCTRL_EL2'; did you mean SCTLR_EL2"):
        lookup("SCTRL_EL2")
    with pytest.raises(UsageError, match=r"'tcr'; did you mean TCR_EL1, TCR_EL2, TCR_EL3\?"):
        lookup("tcr")
    with pytest.raises(UsageError, match=r"'!!'; give an Arm name such as SCTLR_EL2"):
        decode("!!", 0, {})


def test_a_register_without_a_declaration_has_no_fields_and_no_findings() -> None:
    decoded = decode("DBGBVR0_EL1", 0xFFFF_FFFF_FFFF_FFFF, {})
    assert (decoded.name, decoded.fields, decoded.findings) == ("DBGBVR0_EL1", (), ())


VALUES = st.integers(0, (1 << 64) - 1)
CONTEXTS = st.dictionaries(
    st.sampled_from(["HCR_EL2", *(name for name in REGISTERS if name.startswith("ID_AA64"))]), VALUES
)


@given(st.sampled_from(sorted(REGISTERS)), VALUES, CONTEXTS)
def test_any_value_of_any_register_decodes(name: str, value: int, context: dict[str, int]) -> None:
    decoded = decode(name, value, context)
    assert (decoded.name, decoded.value) == (name, value)
    for field in decoded.fields:
        assert field.value == value >> field.lsb & (1 << (field.msb - field.lsb + 1)) - 1
        assert field.meaning
        assert field_value(name, field.name, value, context) == field.value
    for finding in decoded.findings:
        assert finding.kind in {"res0", "res1", "reserved"}
        assert finding.text.startswith(name) and finding.text.endswith(".")


@given(VALUES, CONTEXTS)
def test_a_correct_bit_is_never_a_finding(value: int, context: dict[str, int]) -> None:
    decoded = decode("TCR_EL3", value, context)
    for finding in decoded.findings:
        if finding.kind != "reserved":
            assert value >> finding.lsb & 1 == (0 if finding.kind == "res1" else 1)
