"""What is found in pasted text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecdbg.machine.pasted_text import PrintedWalk, read_pasted_text
from kexecdbg.ui.decode_report import report_on
from kexecdbg.ui.decode_text import report_text
from kexecdbg.ui.style import WIDTH, Style

DATA = Path(__file__).parents[2] / "data" / "decode"


def values_in(text: str) -> dict[str, int]:
    return read_pasted_text(text).values


def data(name: str) -> str:
    return (DATA / name).read_text()


def test_the_mail_of_2019() -> None:
    found = read_pasted_text(data("mail_2019.txt"))
    assert found.values == {
        "MAIR_EL2": 0xBBFF440C0400,
        "MAIR_EL1": 0xBBFF440C0400,
        "TCR_EL2": 0x80843510,
        "SCTLR_EL2": 0x30E5183F,
        "TTBR0_EL2": 0x1B3069000,
    }
    assert found.registers[-1].line == "TTBR0_EL2\t\t0x1b3069000 (address of trans_table)"
    assert (found.walks, found.unknown, found.remarks) == ((), (), ())


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("TCR_EL2 is set to 0x80843510.", {"TCR_EL2": 0x80843510}),
        ("TCR_EL2 is now 0x80843510, and", {"TCR_EL2": 0x80843510}),
        ("tcr_el2 = 80843510", {"TCR_EL2": 0x80843510}),
        ("sctlr_el2      0x30e5183f          820320319", {"SCTLR_EL2": 0x30E5183F}),
        ("| TCR_EL1 | 0xb2_b559_3519 |", {"TCR_EL1": 0xB2B5593519}),
        ("TTBR0_EL2:\n    0x1b3069000", {"TTBR0_EL2": 0x1B3069000}),
        ("VTTBR_EL2 = TTBR0_EL2 = 0x1000", {"VTTBR_EL2": 0x1000, "TTBR0_EL2": 0x1000}),
        ("HCR_EL2=0", {"HCR_EL2": 0}),
        ("SCTLR_EL2 => 0x30e5183f", {"SCTLR_EL2": 0x30E5183F}),
        ("(33) cpsr (/32): 0x800003c9\n(38) ESR_EL2 (/64): 0x8600000f", {"PSTATE": 0x800003C9, "ESR_EL2": 0x8600000F}),
        ("PC=ffff800010080000 X00=0000000000000010 PSTATE=600003c5 -ZC- EL1h",
         {"PC": 0xFFFF800010080000, "X0": 0x10, "PSTATE": 0x600003C5}),
        ("  ESR =3D 0x96000006   =\n\n", {"ESR_EL1": 0x96000006}),
        ('"Synchronous Abort" handler, esr 0x86000000, far 0x1b3064000',
         {"ESR_EL1": 0x86000000, "FAR_EL1": 0x1B3064000}),
        ("unhandled level 2 translation fault (11) at 0x00000000, esr 0x92000006",
         {"FAR_EL1": 0, "ESR_EL1": 0x92000006}),
        ("Unable to handle kernel NULL pointer dereference at virtual address 00000010", {"FAR_EL1": 0x10}),
        ("SError Interrupt on CPU0, code 0x00000000be000011 -- SError", {"ESR_EL1": 0xBE000011}),
        ("ESR_ELn: 0x0000000096000045", {"ESR_EL1": 0x96000045}),
        ("...with ESR 0x21/0x8600000f\n...to EL2 PC 0x1b30a0200 PSTATE 0x3c9",
         {"ESR_EL2": 0x8600000F, "PC": 0x1B30A0200, "PSTATE": 0x3C9}),
        ("(gdb) p/x $TCR_EL2\n$1 = 0x80843510\n(gdb) print $x0\n$2 = 17\n", {"TCR_EL2": 0x80843510, "X0": 17}),
        ("p $x0\n$1 = 99999999999999999999\np $x1\n$2 = 010\n", {}),
        ("TTBR0_EL1, TCR_EL1 0x3510", {"TCR_EL1": 0x3510}),
        ("msr tcr_el2, x0", {}),
        ("TCR_EL2.T0SZ = 16", {}),
        ("pc : decode+0x10/0x20", {}),
        ("nZCv daif +PAN -UAO", {}),
        ("as far as 0x1000", {}),
        ("TCR_EL2 0x123456789abcdef01", {}),  # more than 64 bits
        ("", {}),
    ],
)  # fmt: skip
def test_names_and_values(text: str, values: dict[str, int]) -> None:
    assert values_in(text) == values


def test_an_oops_with_wrapped_lines() -> None:
    found = read_pasted_text(data("oops_4k48.txt"))
    assert found.values == {
        "FAR_EL1": 0xFFFF800012345678,
        "ESR_EL1": 0x96000007,
        "PSTATE": 0xA0000085,
        "SP": 0xFFFF800013000D40,
        "X29": 0xFFFF800013000D40,
        "X28": 0xFFFF800010001260,
        "X1": 0xFFFF80001200A7A0,
        "X0": 0,
    }
    assert found.code == {"pc": "example_match+0x48/0x88", "lr": "example_scan+0x40/0x70"}
    assert found.walks == (
        PrintedWalk(
            0xFFFF800012345678,
            (("pgd", 0x7FEFF003), ("pud", 0x7FEFE003), ("pmd", 0x7FEFA003), ("pte", 0)),
            4,
            48,
            "swapper",
            0x41980000,
        ),
    )


def test_names_without_a_level_take_the_level_of_pstate() -> None:
    found = read_pasted_text(data("oops_4k39_vhe.txt"))
    assert found.values["ESR_EL2"] == 0x96000045 and found.values["FAR_EL2"] == 0x68
    assert found.remarks == ("PSTATE 0x60400009 is EL2: names without a level are read as EL2's.",)


@pytest.mark.parametrize(
    ("text", "level", "remark"),
    [
        ("ELR 0x13BE5A0C4  SPSR 0x60000309\n ESR 0x8600000F", 2, "SPSR 0x60000309 is from EL2: "),
        ("ELR 0x13BE5A0C4  SPSR 0x60000305\n ESR 0x8600000F", 1, "The text does not say the exception level: "),
        ("HYP panic:\nPS:600003c5 PC:0000b0c0d1e4ff00 ESR:82000007\nFAR:0000000000000000", 2, "A HYP panic is KVM's"),
    ],
)  # fmt: skip
def test_what_else_says_the_level(text: str, level: int, remark: str) -> None:
    found = read_pasted_text(text)
    assert {f"ESR_EL{level}", f"SPSR_EL{level}"} <= found.values.keys()
    assert found.remarks[0].startswith(remark)


def test_the_panic_of_kvm() -> None:
    text = "HYP panic:\nPS:600003c9 PC:0000b0c0d1e4ff00 ESR:86000007\nFAR:0000b0c0d1e4ff00 HPFAR:0000000000000000 "
    assert values_in(text + "PAR:0000000000000801\n") == {
        "SPSR_EL2": 0x600003C9,
        "PC": 0xB0C0D1E4FF00,
        "ESR_EL2": 0x86000007,
        "FAR_EL2": 0xB0C0D1E4FF00,
        "HPFAR_EL2": 0,
        "PAR_EL1": 0x801,
    }


def test_a_hashed_table_address_is_not_an_address() -> None:
    text = "user pgtable: 4k pages, 39-bit VAs, pgdp = 000000001234abcd\n[0000000800000020] pgd=0000000000000000"
    (walk,) = read_pasted_text(text).walks
    assert (walk.pgdp, walk.page_kib, walk.va_bits) == (None, 4, 39)


def test_old_kernels_print_a_star() -> None:
    (walk,) = read_pasted_text("[00000010] *pgd=00000000412ec003, *pud=00000000412ec003, *pmd=0000000000000000").walks
    assert walk.entries == (("pgd", 0x412EC003), ("pud", 0x412EC003), ("pmd", 0))
    assert walk.page_kib is None


def test_of_two_values_the_first_counts_and_it_is_said() -> None:
    found = read_pasted_text("TCR_EL2 0x80843510\nlater TCR_EL2 0x80853510\n")
    assert found.values == {"TCR_EL2": 0x80843510}
    assert found.remarks == ("TCR_EL2 is given with different values (0x80843510, 0x80853510): the first one counts.",)


def test_a_name_that_no_register_has_is_reported() -> None:
    assert read_pasted_text("TRC_EL2 0x80843510 and TCR_EL1 0x3510").unknown == ("TRC_EL2",)


_FRAGMENTS = st.sampled_from(
    ["TCR_EL2", "MAIR_EL1", "ESR", "far", "HCR_EL2=", "0x", "0x80843510", "ffff", " is the same as ", "\n", "> ", "=3D",
     "[ffff800012345678] pgd=000000007feff003", ", pud=000000007fefe003", ", pte=0068002000155f03", " pgtable: ",
     "user pgtable: 64k pages, 42-bit VAs", "swapper pgtable: 99k pages, 99-bit VAs", "pstate: 60400009", ": ", "x29: ",
     "p $x0\n$1 = ", "HYP panic", "PS:600003c9 PC:", "SPSR 0x3c9", "ESR 0x21/0x8600000f", "_ELn"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(st.one_of(_FRAGMENTS, st.text(max_size=4))).map("".join)))
def test_no_text_raises_anything(text: str) -> None:
    report = report_on({}, read_pasted_text(text))
    assert isinstance(report_text(report, Style()), str)


@given(
    st.dictionaries(
        st.sampled_from(
            ["TCR_EL1", "TCR_EL2", "TCR_EL3", "SCTLR_EL1", "SCTLR_EL2", "TTBR0_EL1", "TTBR1_EL1", "TTBR0_EL2",
             "TTBR0_EL3", "MAIR_EL1", "MAIR_EL2", "HCR_EL2", "TCR2_EL1", "TCR2_EL2", "PC", "PSTATE", "ID_AA64MMFR0_EL1",
             "ID_AA64MMFR3_EL1", "ID_AA64MMFR4_EL1", "SCR_EL3", "ESR_EL2", "FAR_EL2"]
        ),
        st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 0x80843510, 0x3C9, 2**64 - 1])),
    )
)  # fmt: skip
def test_no_register_values_raise_anything(values: dict[str, int]) -> None:
    assert isinstance(report_text(report_on(values), Style()), str)


@pytest.mark.parametrize("name", sorted(path.name for path in DATA.iterdir()))
def test_output_fits_the_line(name: str) -> None:
    lines = report_text(report_on({}, read_pasted_text(data(name))), Style()).splitlines()
    assert [line for line in lines if len(line) > WIDTH] == []
