"""M19, M20, M21, M26, M28 and K02: what the code around the switch does, read off the code."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kexecdbg.checks.finding import Severity
from kexecdbg.lab.tables import TableBuilder
from tests.unit.checks.moments import CODE, EL1, EXEC, NARROW, ROOT, VHE
from tests.unit.checks.snippets import DATA, HOLE, TEXTBOOK, Snippet, at_el2

ORDER = ("M19", "M20", "M21", "M26", "M28", "K02")
SET_UP = ("msr mair_el2, x1", "msr tcr_el2, x2", "msr ttbr0_el2, x3", "isb")
TLBI = ("tlbi alle2", "dsb nsh", "isb")
OFF = ("mrs x9, sctlr_el2", "bic x9, x9, #1", "msr sctlr_el2, x9", "isb")
VHE_EL1_NAMES = {**VHE, "SCTLR_EL2": 0x30D0_0800}
EPD1 = 1 << 23
POP = ("isb", "ldr x0, [sp]", "b .")
CHANGED = ("isb", "msr ttbr0_el2, x3", "isb", "b .")
LEAF_OF_DATA = Snippet(()).tables().descriptor_address(DATA)


def el1(*lines: str, after: tuple[str, ...] = ("isb", "b ."), **registers: int | None) -> Snippet:
    values = {**EL1, "TCR_EL1": 0x5_B510_3510, **registers}
    return Snippet((*lines, "switch: msr sctlr_el1, x14", *after), values)


KVM = at_el2(
    "ldr x1, [x0]", "msr tpidr_el2, x1", "ldr x1, [x0, #8]", "mov sp, x1", "ldr x1, [x0, #16]", "msr mair_el2, x1",
    "ldr x1, [x0, #24]", "msr hcr_el2, x1", "ldr x1, [x0, #32]", "msr vttbr_el2, x1", "ldr x1, [x0, #40]",
    "msr vtcr_el2, x1", "ldr x1, [x0, #48]", "msr ttbr0_el2, x1", "ldr x1, [x0, #56]", "msr tcr_el2, x1", "isb",
    "tlbi alle2", "tlbi vmalls12e1", "dsb sy",
    after=("isb", "adr x0, switch", "msr vbar_el2, x0", "ret"),
)  # fmt: skip
"""The order of ___kvm_hyp_init, Linux 6.1 arch/arm64/kvm/hyp/nvhe/hyp-init.S."""

ENABLE_MMU = el1(
    "mrs x3, id_aa64mmfr0_el1", "ubfx x3, x3, #28, #4", "cmp x3, #0", "b.lt 9f", "cmp x3, #7", "b.gt 9f",
    "msr ttbr0_el1, x2", "msr ttbr1_el1, x1", "isb",
    after=("isb", "ic iallu", "dsb nsh", "isb", "ret", "9: wfi", "b 9b"),
)  # fmt: skip
"""__enable_mmu and set_sctlr, Linux 6.1 arch/arm64/kernel/head.S and include/asm/assembler.h."""

ENTER_VHE = Snippet(
    (
        "mrs x0, S3_5_C2_C0_2", "msr tcr_el1, x0", "mrs x0, S3_5_C2_C0_0", "msr ttbr0_el1, x0",
        "mrs x0, S3_5_C2_C0_1", "msr ttbr1_el1, x0", "mrs x0, S3_5_C10_C2_0", "msr mair_el1, x0", "isb",
        "mrs x0, spsr_el1", "and x0, x0, #~0xc", "mov x1, #8", "orr x0, x0, x1", "msr spsr_el1, x0", "b 1f", "udf #0",
        "1: tlbi vmalle1", "dsb nsh", "isb", "mrs x9, S3_5_C1_C0_0",
        "switch: msr sctlr_el1, x14", "isb", "ic iallu", "dsb nsh", "isb", "mov x0, #0x30d00000",
        "msr S3_5_C1_C0_0, x0", "mov x0, xzr", "eret",
    ),
    {**VHE_EL1_NAMES, "TTBR1_EL2": ROOT, "HCR_EL2": 0x4_8800_0000},
)  # fmt: skip
"""__finalise_el2 and enter_vhe, Linux 6.1 arch/arm64/kernel/hyp-stub.S."""

V9 = el1(
    "msr ttbr0_el1, x14", "msr ttbr1_el1, x13", "isb", "tlbi vmalle1", "dsb nsh", "isb", "mrs x12, sctlr_el1",
    "orr x12, x12, #1",
    after=("ic iallu", "dsb nsh", "isb", "b ."),
)  # fmt: skip
"""The turn_on_mmu of the later kexec series: IC, DSB, ISB behind the switch, code mapped where it runs."""

SOUND = {
    "textbook": at_el2(*TEXTBOOK),
    "textbook, right after OFF": at_el2(*OFF, *TEXTBOOK),
    "KVM": KVM,
    "__enable_mmu": ENABLE_MMU,
    "enter_vhe": ENTER_VHE,
    "kexec v9": V9,
    "M19: invalidated before the registers are set, as __cpu_setup does": at_el2(*TLBI, *SET_UP),
    "M19: off and on with the same tables": at_el2(*OFF),
    "M19: nothing visible": at_el2("ret", *SET_UP),
    "M19: invalidated in a function": at_el2(
        "b 1f", "2: tlbi alle2", "dsb nsh", "isb", "ret", "1:", *OFF, *SET_UP, "bl 2b"
    ),
    "M19: maybe invalidated, on one of two ways": at_el2(*OFF, *SET_UP, "cbz x9, 1f", *TLBI, "1:"),
    "M19: all of EL1 by VMALLE1 at EL1": el1("msr ttbr0_el1, x1", "isb", "tlbi vmalle1", "dsb nsh", "isb"),
    "M20: an exception return synchronizes": at_el2("nop", "isb"),
    "M20: the branch and the IC of the 2019 series": at_el2(
        *TEXTBOOK, after=("b 1f", "nop", "1: ic iallu", "dsb nsh", "isb", "b .")
    ),
    "M20: DSB with another access type too": at_el2(*SET_UP, "tlbi alle2", "dsb ishst", "dsb ish", "isb"),
    "M21: invalidated after the store": at_el2(
        "ldr x11, [x4]", "str x11, [x4]", "dc ivac, x4", "dsb sy", *TEXTBOOK, after=POP, X4=LEAF_OF_DATA, SP=DATA
    ),
    "M21: cleaned and invalidated": at_el2(
        "str x11, [x4]", "dc civac, x4", "dsb sy", *TEXTBOOK, after=POP, X4=LEAF_OF_DATA, SP=DATA
    ),
    "M21: a loop over lines that cannot be told": at_el2(
        "str x11, [x4]", "1: dc ivac, x9", "add x9, x9, #64", "cmp x9, x10", "b.lo 1b", "dsb sy", *TEXTBOOK,
        after=POP, X4=LEAF_OF_DATA, SP=DATA,
    ),
    "M21: written through the caches before": at_el2(
        "str x11, [x4]", *OFF, *TEXTBOOK, after=POP, X4=LEAF_OF_DATA, SP=DATA
    ),
    "M21: memory that nothing reads": at_el2("str x11, [x4]", "dsb sy", *TEXTBOOK, X4=HOLE),
    "M21: by set and way before any MMU was on": at_el2("dc isw, x9", "dsb sy", *TEXTBOOK),
    "M26: the same tables again": at_el2(*TEXTBOOK, after=CHANGED, X3=ROOT),
    "M26: to a table where nothing is valid": at_el2(*TEXTBOOK, after=CHANGED, X3=HOLE),
    "M28: EPD1 is set": el1("msr tcr_el1, x1", "msr ttbr0_el1, x2", "isb", TTBR1_EL1=0, TCR_EL1=0x5_B510_3510 | EPD1),
    "M28: TTBR1 is written": el1("msr tcr_el1, x1", "msr ttbr0_el1, x2", "msr ttbr1_el1, xzr", "isb", TTBR1_EL1=0),
    "M28: only half of it is seen": el1("msr ttbr0_el1, x2", "isb", TTBR1_EL1=0),
    "K02: cleaned and invalidated": at_el2(
        *TEXTBOOK, after=("isb", "str x11, [x4]", "dc civac, x4", "dc ivac, x4", "b ."), X4=DATA
    ),
    "K02: something else is invalidated": at_el2(
        *TEXTBOOK, after=("isb", "str x11, [x4]", "dc ivac, x5", "b ."), X4=DATA, X5=DATA + 64
    ),
}  # fmt: skip


@pytest.mark.parametrize("snippet", SOUND.values(), ids=list(SOUND))
def test_what_is_sound_or_cannot_be_told_is_left_alone(snippet: Snippet) -> None:
    assert [f"{f.id}: {f.text}" for f in snippet.verdict().findings if f.id in ORDER] == []


@dataclass(frozen=True)
class Wrong:
    """A defect: the code, the findings, and what the first of them has as evidence."""

    snippet: Snippet
    ids: tuple[str, ...]
    evidence: dict[str, int | str | None] = field(default_factory=dict)
    text: str = ""


def wrong(snippet: Snippet, *ids: str, text: str = "", **evidence: int | str | None) -> Wrong:
    return Wrong(snippet, ids, evidence, text)


WRONG = {
    "M19: another regime": wrong(
        at_el2(*SET_UP, "tlbi vmalls12e1", "dsb nsh", "isb"), "M19", missing="tlbi alle2", text="vmalls12e1"
    ),
    "M19: EL1's from EL2 with E2H": wrong(
        Snippet(
            (
                "msr tcr_el1, x1",
                "msr ttbr0_el1, x2",
                "isb",
                "tlbi vmalls12e1",
                "dsb nsh",
                "isb",
                "switch: msr sctlr_el1, x14",
                "isb",
                "b .",
            ),
            VHE_EL1_NAMES,
        ),
        "M19",
    ),
    "M19: VMALLE1 at EL2 without TGE": wrong(
        Snippet(
            (
                "msr tcr_el1, x1",
                "msr ttbr0_el1, x2",
                "isb",
                "tlbi vmalle1",
                "dsb nsh",
                "isb",
                "switch: msr sctlr_el1, x14",
                "isb",
                "b .",
            ),
            {**VHE_EL1_NAMES, "HCR_EL2": 0x4_8000_0000},
        ),
        "M19",
    ),
    "M19: off, other tables, on": wrong(at_el2(*OFF, *SET_UP), "M19", missing="tlbi alle2", text="no TLBI"),
    "M19: invalidated too early": wrong(at_el2(*TLBI, *OFF, *SET_UP), "M19"),
    "M20: no ISB before, as in the 2019 series": wrong(
        at_el2("msr ttbr0_el2, x3", "isb", "msr tcr_el2, x2", "msr mair_el2, x1"),
        "M20",
        missing="isb",
        after=f"{CODE + 12:#x}: msr mair_el2, x1",
        before=CODE + 16,
        text="TCR_EL2 and MAIR_EL2",
    ),
    "M20: no ISB before, TTBR": wrong(at_el2("isb", "msr ttbr0_el2, x3"), "M20", missing="isb"),
    "M20: HCR_EL2 is written last": wrong(at_el2(*TEXTBOOK, "msr hcr_el2, x3"), "M20", text="HCR_EL2"),
    "M20: no DSB after TLBI": wrong(at_el2(*SET_UP, "tlbi alle2", "isb"), "M20", missing="dsb"),
    "M20: DSB for stores only": wrong(at_el2(*SET_UP, "tlbi alle2", "dsb ishst", "isb"), "M20", missing="dsb"),
    "M20: no DSB after a store to the tables": wrong(
        at_el2("dc ivac, x4", "str x11, [x4]", *SET_UP, X4=LEAF_OF_DATA, SP=DATA + 64, after=POP),
        "M20",
        missing="dsb",
        address=LEAF_OF_DATA,
    ),
    "M20: stack used before the ISB": wrong(
        at_el2(*TEXTBOOK, after=("ldr x0, [sp]", "isb", "b ."), SP=DATA), "M20", missing="isb", after=CODE + 28
    ),
    "M20: no ISB at all": wrong(at_el2(*TEXTBOOK, after=("nop", "nop", "str x0, [x4]", "b ."), X4=DATA), "M20"),
    "M21: a descriptor, MMU off": wrong(
        at_el2("str x11, [x4]", "dsb sy", *TEXTBOOK, X4=LEAF_OF_DATA, SP=DATA + 64, after=POP),
        "M21",
        address=LEAF_OF_DATA,
        missing="dc ivac",
    ),
    "M21: cleaned only": wrong(
        at_el2(
            "str x11, [x4]",
            "dc cvac, x4",
            "dsb sy",
            *TEXTBOOK,
            X4=LEAF_OF_DATA,
            SP=DATA + 64,
            after=("isb", "ldr x0, [sp]"),
        ),
        "M21",
    ),
    "M21: pushed before, popped after": wrong(
        at_el2("str x0, [sp, #-16]!", *TEXTBOOK, after=("isb", "ldr x0, [sp], #16", "b ."), SP=DATA + 64),
        "M21",
        address=DATA + 64,
        text="The stack",
    ),
    "M21: code": wrong(
        at_el2("str w11, [x4]", "dsb sy", *TEXTBOOK, X4=CODE + 0x100), "M21", missing="ic iallu", address=CODE + 0x100
    ),
    "M21: to the point of unification only": wrong(
        at_el2(
            "dc cvau, x4",
            "dsb sy",
            *TEXTBOOK,
            X4=LEAF_OF_DATA,
            TCR_EL2=NARROW & ~0xF00,
            SP=DATA,
            after=("isb", "ldr x0, [sp]"),
        ),
        "M21",
        missing="dc cvac",
    ),
    "M21: thrown away": wrong(
        at_el2("str x11, [x4]", "dc ivac, x4", "dsb sy", *OFF, *TEXTBOOK, X4=HOLE),
        "M21",
        missing="dc civac",
        address=HOLE,
    ),
    "M21: by set and way": wrong(
        at_el2(*OFF, "1: dc cisw, x9", "subs x9, x9, #1", "b.ge 1b", "dsb sy", *TEXTBOOK), "M21", text="set and way"
    ),
    "M28: TTBR1 with EPD1 clear": wrong(
        el1("msr tcr_el1, x1", "msr ttbr0_el1, x2", "isb", "tlbi vmalle1", "dsb nsh", "isb", TTBR1_EL1=0),
        "M28",
        register="TTBR1_EL1",
        field="EPD1",
    ),
    "M28: MAIR": wrong(at_el2(*TEXTBOOK[1:], MAIR_EL2=0), "M28", register="MAIR_EL2"),
    "K02: a line of the copy": wrong(
        at_el2(*TEXTBOOK, after=("isb", "str x11, [x4]", "dc ivac, x4", "dsb sy", "b ."), X4=DATA),
        "K02",
        target=DATA,
        store=f"{CODE + 36:#x}: str x11, [x4]",
    ),
    "K02: in loops": wrong(
        at_el2(
            *TEXTBOOK,
            after=(
                "isb",
                "mov x9, x4",
                "add x10, x4, #512",
                "1: str xzr, [x9], #8",
                "cmp x9, x10",
                "b.lo 1b",
                "2: dc ivac, x4",
                "add x4, x4, #64",
                "cmp x4, x10",
                "b.lo 2b",
                "b .",
            ),
            X4=DATA,
        ),
        "K02",
        target=DATA,
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_is_found_and_nothing_else(case: Wrong) -> None:
    findings = [finding for finding in case.snippet.verdict().findings if finding.id in ORDER]
    assert [finding.id for finding in findings] == list(case.ids)
    assert {finding.severity for finding in findings} == {Severity.HAZARD}
    first = findings[0]
    assert {name: first.evidence.get(name) for name in case.evidence} == case.evidence
    assert case.text in first.text
    assert "QEMU" in first.text  # it says that QEMU lets it pass


def test_upper_half_walks_are_repaired_by_epd1() -> None:
    verdict = WRONG["M28: TTBR1 with EPD1 clear"].snippet.verdict()
    (finding,) = [finding for finding in verdict.findings if finding.id == "M28"]
    assert finding.repair is not None
    assert finding.repair.new == 0x5_B510_3510 | EPD1


# M26: second tables, which map the code as the first do, or somewhere else


OTHER_ROOT, COPY = ROOT + 0x8_0000, CODE + 0x8000
NG, READ_ONLY = 1 << 11, 1 << 7


def second_tables(code: int) -> dict[int, bytes]:
    """Tables at OTHER_ROOT in which the descriptor of the code's page is ``code``."""
    free = iter(range(OTHER_ROOT, OTHER_ROOT + 0x1_0000, 0x1000))
    tables = TableBuilder(lambda size: next(free))
    tables.map_page(CODE, 0, code)
    return tables.pages()


def changed_after(code: int, *, at_el1: bool = False, first: int = EXEC, asid: int = 0) -> Snippet:
    """TTBR0 is set to the second tables right after the switch."""
    el = 1 if at_el1 else 2
    lines = (f"switch: msr sctlr_el{el}, x14", "isb", f"msr ttbr0_el{el}, x3", "isb", "b .")
    return Snippet(
        lines,
        {**(EL1 if at_el1 else {}), "X3": OTHER_ROOT | asid << 48},
        adjust=lambda tables: tables.set_descriptor(CODE, 3, CODE | first),
        contents=second_tables(code),
    )


@pytest.mark.parametrize(
    ("snippet", "is_found"),
    [
        (changed_after(COPY | EXEC), True),
        (changed_after(CODE | EXEC), False),
        (changed_after(CODE | EXEC | READ_ONLY), True),
        (changed_after(0), False),
        (changed_after(COPY | EXEC, at_el1=True), True),
        (changed_after(COPY | EXEC, at_el1=True, asid=5), True),
        (changed_after(COPY | EXEC, at_el1=True, first=EXEC | NG), True),
        (changed_after(COPY | EXEC, at_el1=True, first=EXEC | NG, asid=5), False),
    ],
    ids=["moved", "same", "other rights", "invalid", "EL1, global", "EL1, global, other ASID", "nG", "nG, other ASID"],
)
def test_m26_other_tables_right_after_the_switch(snippet: Snippet, is_found: bool) -> None:
    findings = [finding for finding in snippet.verdict().findings if finding.id == "M26"]
    assert len(findings) == is_found
    if is_found:
        value = snippet.registers["X3"]
        assert (findings[0].evidence["value"], findings[0].evidence["va"]) == (value, CODE + 4)


def test_m26_the_write_that_is_judged_changes_live_tables() -> None:
    snippet = Snippet(
        ("switch: msr ttbr0_el2, x3", "isb", "b ."),
        {"X3": OTHER_ROOT, "SCTLR_EL2": 0x30C5_1835},
        contents=second_tables(COPY | EXEC),
    )
    situation = snippet.situation()
    assert situation.is_live
    (finding,) = [finding for finding in snippet.verdict().findings if finding.id == "M26"]
    assert (finding.evidence["old_pa"], finding.evidence["new_pa"]) == (CODE + 4, COPY + 4)
