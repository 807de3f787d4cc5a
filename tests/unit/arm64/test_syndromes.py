"""ESR_ELx values decoded, built and read along with FAR, HPFAR and PAR."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecdbg.arm64.faults import Access, Cause, CauseKind, Fault, FaultKind
from kexecdbg.arm64.registers import decode
from kexecdbg.arm64.syndromes import (
    abort_esr,
    data_abort_esr,
    decode_syndrome,
    fault_status_text,
    instruction_abort_esr,
    read_along,
)
from kexecdbg.arm64.syndromes.classes import CLASSES

DATA = Path(__file__).parents[2] / "data" / "registers"
GOLDEN: list[Any] = json.loads((DATA / "golden_values.json").read_text())["syndromes"]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["id"])
def test_golden_syndromes(case: Any) -> None:
    esr = int(case["esr"], 0)
    syndrome = decode_syndrome(esr)
    expected = case["fields"]
    assert {name: syndrome.field(name).value for name in expected} == expected
    assert (syndrome.value, syndrome.ec, syndrome.il) == (esr, expected["EC"], expected["IL"])
    others = {field.name: field.value for field in syndrome.fields if field.value and field.name not in expected}
    assert others.keys() <= {"ISS"}


@pytest.mark.parametrize(
    ("esr", "summary"),
    [
        (0x8600000F, "Instruction Abort, same EL: Permission fault, level 3"),
        (0x86000005, "Instruction Abort, same EL: Translation fault, level 1"),
        (0x8200008B, "Instruction Abort, lower EL: Access flag fault, level 3, stage 2 on a stage 1 table walk"),
        (0x96000047, "Data Abort, same EL: Translation fault, level 3, on a write"),
        (
            0x9600014F,
            "Data Abort, same EL: Permission fault, level 3, on a cache maintenance or address translation instruction",
        ),
        (0x02000000, "Unknown reason (undefined instruction)"),
        (0x07E00000, "Trapped WFx instruction: WFI"),
        (0x56000002, "SVC, AArch64: #0x2"),
        (0x5A001234, "HVC, AArch64: #0x1234"),
        (0xF200F000, "BRK, AArch64: #0xf000"),
        (0x623000AF, "Trapped MSR, MRS or System instruction: mrs x5, ID_AA64MMFR0_EL1"),
        (0x623004E0, "Trapped MSR, MRS or System instruction: msr SCTLR_EL1, x7"),
        (0x621023EE, "Trapped MSR, MRS or System instruction: tlbi vmalle1"),
        (0x6212DC7C, "Trapped MSR, MRS or System instruction: dc civac, x3"),
        (0x6230FFE5, "Trapped MSR, MRS or System instruction: mrs xzr, S3_3_C15_C2_0"),
        (0x2A000002, "Trapped other instruction: LD64B or ST64B"),
        (0x6A000002, "Trapped ERET, ERETAA or ERETAB: ERETAA"),
        (0xBE000C11, "SError: recoverable"),
        (0xBF000000, "SError: IMPLEMENTATION DEFINED syndrome"),
        (0x36000003, "Branch Target exception: BTYPE 3"),
        (0x88000000 | 1 << 25, "PC alignment fault"),
        (
            0x7A000000 | 0b001100 << 14 | 0x28,
            "Granule Protection Check: Granule Protection Fault, GPT level 0, "
            "Granule Protection Fault, not on translation table walk",
        ),
        (0x9E000000 | 1 << 17, "Memory Copy and Memory Set exception: CPY* with registers of the other option"),
        (0xB6000000, "Guarded Control Stack exception: data check failed"),
        (0x76000004, "Trapped SME access: ZT0 access trapped"),
        (0xB2800005, "Floating-point exception, AArch64: Overflow, Invalid Operation"),
        (0x8E000000, "reserved exception class 0x23"),
    ],
)
def test_summaries(esr: int, summary: str) -> None:
    assert decode_syndrome(esr).summary == summary


def test_the_whole_tree_of_an_instruction_abort() -> None:
    tree = [(field.name, field.msb, field.lsb, field.value) for field in decode_syndrome(0x8600000F).fields]
    assert tree == [
        ("ISS2", 55, 32, 0),
        ("AssuredOnly", 39, 39, 0),
        ("Overlay", 38, 38, 0),
        ("DirtyBit", 37, 37, 0),
        ("EC", 31, 26, 0x21),
        ("IL", 25, 25, 1),
        ("ISS", 24, 0, 0xF),
        ("TopLevel", 21, 21, 0),
        ("PFV", 14, 14, 0),
        ("FnV", 10, 10, 0),
        ("EA", 9, 9, 0),
        ("S1PTW", 7, 7, 0),
        ("IFSC", 5, 0, 0xF),
    ]


def test_iss2_of_a_data_abort() -> None:
    syndrome = decode_syndrome(0x9600004F | 1 << 38 | 1 << 40 | 5 << 32)
    values = {name: syndrome.field(name).value for name in ("Overlay", "GCS", "Xs", "DirtyBit", "TnD")}
    assert values == {"Overlay": 1, "GCS": 1, "Xs": 5, "DirtyBit": 0, "TnD": 0}
    assert syndrome.field("Xs").meaning == "X5"


def test_isv_decides_what_the_middle_bits_are() -> None:
    described = decode_syndrome(0x93890005)
    assert (described.field("SAS").meaning, described.field("SRT").meaning) == ("word", "X9")
    with pytest.raises(KeyError):
        decode_syndrome(0x92000045).field("SRT")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0x00, "Address size fault, level 0"),
        (0x07, "Translation fault, level 3"),
        (0x09, "Access flag fault, level 1"),
        (0x0F, "Permission fault, level 3"),
        (0x10, "Synchronous External abort, not on translation table walk"),
        (0x11, "Synchronous Tag Check fault"),
        (0x12, "Synchronous External abort on translation table walk, level -2"),
        (0x17, "Synchronous External abort on translation table walk, level 3"),
        (0x1B, "Synchronous parity or ECC error on translation table walk, level -1"),
        (0x21, "Alignment fault"),
        (0x25, "Granule Protection Fault on translation table walk, level 1"),
        (0x28, "Granule Protection Fault, not on translation table walk"),
        (0x29, "Address size fault, level -1"),
        (0x2A, "Translation fault, level -2"),
        (0x2B, "Translation fault, level -1"),
        (0x2C, "Address size fault, level -2"),
        (0x30, "TLB conflict abort"),
        (0x31, "Unsupported atomic hardware update fault"),
        (0x3F, "reserved fault status code 0x3f"),
    ],
)
def test_fault_status_texts(code: int, text: str) -> None:
    assert fault_status_text(code) == text


def test_builders_give_what_hardware_reports() -> None:
    assert instruction_abort_esr(0x0F, same_el=True) == 0x8600000F
    assert instruction_abort_esr(0x0F, same_el=False) == 0x8200000F
    assert instruction_abort_esr(0x05, same_el=False, s1ptw=True) == 0x82000085
    assert data_abort_esr(0x07, same_el=True, write=True) == 0x96000047
    assert data_abort_esr(0x05, same_el=False, write=False) == 0x92000005
    assert data_abort_esr(0x0F, same_el=True, write=False, cm=True) == 0x9600014F


@pytest.mark.parametrize(
    ("stage", "s1ptw", "read", "write", "fetch"),
    [
        (1, False, 0x96000005, 0x96000045, 0x86000005),
        (2, False, 0x92000005, 0x92000045, 0x82000005),
        (2, True, 0x92000085, 0x920000C5, 0x82000085),
    ],
)
def test_a_stage_2_fault_goes_to_el2(stage: int, s1ptw: bool, read: int, write: int, fetch: int) -> None:
    fault = Fault(FaultKind.TRANSLATION, 1, Cause(CauseKind.INVALID_DESCRIPTOR, "bit 0 is clear"), stage, s1ptw)
    assert [abort_esr(fault, access) for access in (Access.READ, Access.WRITE, Access.FETCH)] == [read, write, fetch]


def test_registers_and_syndromes_decode_through_the_same_tables() -> None:
    for case in GOLDEN:
        esr = int(case["esr"], 0)
        assert decode("ESR_EL2", esr, {}).fields == decode_syndrome(esr).fields


@given(st.integers(0, (1 << 64) - 1))
def test_any_value_decodes(esr: int) -> None:
    syndrome = decode_syndrome(esr)
    assert syndrome.ec == esr >> 26 & 0x3F
    assert syndrome.summary.startswith(syndrome.ec_text)
    assert all(field.meaning for field in syndrome.fields)
    assert read_along(esr, {}, 2) == ()


@pytest.mark.parametrize("ec", sorted(CLASSES))
def test_every_class_decodes_any_iss(ec: int) -> None:
    chance = random.Random(ec)
    everything = (1 << 25) - 1
    for iss in (0, everything, *(1 << bit for bit in range(25)), *(chance.randint(0, everything) for _ in range(100))):
        syndrome = decode_syndrome(ec << 26 | 1 << 25 | iss)
        assert (syndrome.ec_text, syndrome.iss) == (CLASSES[ec].text, iss)


FAR = {"FAR_EL2": 0xFFFF1234}


@pytest.mark.parametrize(
    ("esr", "registers", "el", "sentences"),
    [
        (0x8600000F, {"FAR_EL2": 0x1B3064000}, 2, ("FAR_EL2 0x1b3064000: address of the fetch.",)),
        (0x96000047, FAR, 2, ("FAR_EL2 0xffff1234: address of the write.",)),
        (0x96000007, FAR, 2, ("FAR_EL2 0xffff1234: address of the read.",)),
        (
            0x9600014F,
            FAR,
            2,
            ("FAR_EL2 0xffff1234: address of the cache maintenance or address translation instruction.",),
        ),
        (0x96000410, FAR, 2, ("FAR_EL2 0xffff1234: not valid, the syndrome says FnV=1.",)),
        (0x56000002, FAR, 2, ("FAR_EL2 0xffff1234: left over, this exception class does not set it.",)),
        (0x8A000000, FAR, 2, ("FAR_EL2 0xffff1234: the misaligned PC.",)),
        (0x8600000F, FAR, 1, ()),
        # HPFAR_EL2 is for stage 2 faults of the listed kinds only.
        (0x92000007, {"HPFAR_EL2": 0x412340}, 2, ("HPFAR_EL2 0x412340: IPA page 0x41234000.",)),
        (
            0x92000007,
            {"HPFAR_EL2": 0x412340, **FAR},
            2,
            ("FAR_EL2 0xffff1234: address of the read.", "HPFAR_EL2 0x412340: IPA 0x41234234."),
        ),
        (
            0x9200000F,
            {"HPFAR_EL2": 0x412340},
            2,
            ("HPFAR_EL2 0x412340: not valid, a Permission fault, level 3 does not set it.",),
        ),
        (
            0x9200008F,
            {"HPFAR_EL2": 0x412340},
            2,
            ("HPFAR_EL2 0x412340: the stage 1 table walk stopped at IPA page 0x41234000.",),
        ),
        (
            0x92000007,
            {"HPFAR_EL2": 0x412340, "HCR_EL2": 1 << 34 | 1 << 27},
            2,
            ("HPFAR_EL2 0x412340: left over, with HCR_EL2.{E2H,TGE}={1,1} there is no stage 2.",),
        ),
        (0x96000007, {"HPFAR_EL2": 0x412340}, 2, ()),
        (0x92000007, {"HPFAR_EL2": 0x412340}, 1, ()),
        (0x02000000, {"ELR_EL3": 0x80}, 3, ("ELR_EL3 0x80: where the exception would return to.",)),
        (
            0x02000000,
            {"PAR_EL1": 0x81F},
            1,
            ("PAR_EL1 0x81f: the last AT instruction failed in stage 1, Permission fault, level 3.",),
        ),
        (
            0x02000000,
            {"PAR_EL1": 0xB09},
            1,
            (
                "PAR_EL1 0xb09: the last AT instruction failed in stage 2 on the stage 1 table walk, "
                "Translation fault, level 0.",
            ),
        ),
        (
            0x02000000,
            {"PAR_EL1": 0xFF000001B3064B80},
            1,
            ("PAR_EL1 0xff000001b3064b80: the last AT instruction succeeded, physical page 0x1b3064000.",),
        ),
    ],
)
def test_registers_read_along(esr: int, registers: dict[str, int], el: int, sentences: tuple[str, ...]) -> None:
    assert read_along(esr, registers, el) == sentences
