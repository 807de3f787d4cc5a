"""The code on both sides of the switch: from the PC to it, what is touched after it (M29, M33), and the first fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kexecdbg.arm64.faults import Access
from kexecdbg.checks.finding import DescriptorRepair, Severity
from kexecdbg.checks.fixing import plan_repairs
from kexecdbg.checks.judging import judge
from kexecdbg.checks.lead_up import ways_to
from kexecdbg.checks.predicting import predict
from kexecdbg.checks.prediction import ExceptionRecord, Outcome
from kexecdbg.checks.situation import situation_at
from kexecdbg.checks.touches import TouchKind
from kexecdbg.checks.verdict import Judgement
from kexecdbg.errors import UsageError
from kexecdbg.machine.state import CpuState
from kexecdbg.ui.style import Style
from kexecdbg.ui.verdict_text import verdict_text
from tests.unit.checks.moments import AF, AP2, CODE, EL1, EXEC, SCTLR, UXN, VECTORS
from tests.unit.checks.snippets import DATA, HOLE, TEXTBOOK, Snippet, at_el2, found

A, SA = 1 << 1, 1 << 3
SCTLR_VALUE = SCTLR & ~(A | SA)


def from_start(*lines: str, after: tuple[str, ...] = ("isb", "b ."), **registers: int | None) -> Snippet:
    """The PC is at the first of ``lines``."""
    return Snippet(("start:", *lines, "switch: msr sctlr_el2, x14", *after), registers, start="start")


# To the switch


COMPUTED = from_start(
    "mov x1, #0x3510", "movk x1, #0x8084, lsl #16", "msr tcr_el2, x1", "adr x2, value", "ldr x14, [x2]", "isb",
    after=("isb", "b .", ".balign 8", f"value: .quad {SCTLR_VALUE:#x}"), X14=None, TCR_EL2=0,
)  # fmt: skip


def test_the_switch_ahead_is_judged_with_the_values_it_will_have() -> None:
    situation = COMPUTED.situation()
    assert (situation.site, situation.next_pc) == (COMPUTED.label("switch"), COMPUTED.label("switch") + 4)
    assert situation.after.get("TCR_EL2") == 0x8084_3510
    assert situation.before.get("SCTLR_EL2") != situation.after.get("SCTLR_EL2") == SCTLR_VALUE
    assert [step.instruction.address for step in situation.approach] == list(range(CODE, CODE + 24, 4))
    assert situation.start is not None and situation.start.get("PC") == CODE
    assert COMPUTED.verdict().judgement is Judgement.SOUND


def test_it_is_the_verdict_that_one_gets_at_the_switch() -> None:
    there = replace(COMPUTED, start="switch", registers={"X14": SCTLR_VALUE, "TCR_EL2": 0x8084_3510})
    assert [(f.id, f.text) for f in COMPUTED.verdict().findings] == [(f.id, f.text) for f in there.verdict().findings]


def test_tables_that_the_code_writes_on_the_way_are_those_that_count() -> None:
    leaf = Snippet(()).tables().descriptor_address(CODE)
    snippet = from_start("str x3, [x4]", "dsb sy", X3=CODE | EXEC | UXN, X4=leaf)
    assert (predict(snippet.situation()).first or ExceptionRecord(0, 0, 0)).esr == 0x8600_000F
    assert predict(replace(snippet, registers={"X3": CODE | EXEC, "X4": leaf}).situation()).first is None


def test_a_page_of_tables_cleared_in_a_loop() -> None:
    root = Snippet(()).tables().root
    snippet = from_start("add x5, x4, #4096", "1: stp xzr, xzr, [x4], #16", "cmp x4, x5", "b.lo 1b", "dsb sy", X4=root)
    assert (predict(snippet.situation()).first or ExceptionRecord(0, 0, 0)).esr == 0x8600_0004


@pytest.mark.parametrize(
    ("lines", "registers", "why"),
    [
        (["cbz x1, switch", "nop"], {}, "a branch that depends on an unknown value"),
        (["blr x1"], {}, "a branch to an unknown address"),
        (["hvc #0"], {}, "an instruction that takes an exception, or returns from one"),
        (["1: b 2f", "2: b 1b"], {}, "too many instructions"),
    ],
)
def test_where_the_way_to_the_switch_cannot_be_told_it_says_so(
    lines: list[str], registers: dict[str, int | None], why: str
) -> None:
    with pytest.raises(UsageError, match=f"does not switch the MMU on;.*{why}; run kexec-step"):
        replace(from_start("nop", *lines), registers=registers).situation()


def test_the_switch_of_another_level_is_passed() -> None:
    snippet = from_start("mov x1, #1", "msr sctlr_el1, x1", "isb")
    assert snippet.situation().site == snippet.label("switch")


def test_down_to_el1_and_on() -> None:
    lines = (
        "start: adr x1, 1f", "msr elr_el2, x1", "mov x1, #0x3c5", "msr spsr_el2, x1", "eret", "udf #0", "1: isb",
        "switch: msr sctlr_el1, x14", "isb", "b .",
    )  # fmt: skip
    situation = Snippet(lines, {"X14": 0x30D0_1805}, start="start").situation()
    assert (situation.el, situation.regime.value) == (1, "EL1&0")


# After it


TOUCHING = at_el2(
    *TEXTBOOK,
    after=("isb", "stp x29, x30, [sp, #-16]!", "ldr x6, value", "ldr x7, [x0]", "strb w9, [x0, #8]", "b .",
           ".balign 8", "value: .quad 1"),
    SP=DATA + 0x100, X0=DATA, X9=0, X29=0, X30=0,
)  # fmt: skip


def test_touches_in_execution_order() -> None:
    touches = [(t.kind, t.address, t.access, t.executed) for t in TOUCHING.situation().touches]
    assert touches == [
        (TouchKind.FETCH, CODE + 32, Access.FETCH, 0),
        (TouchKind.STACK, DATA + 0xF0, Access.WRITE, 1),
        (TouchKind.LITERAL, TOUCHING.label("value"), Access.READ, 2),
        (TouchKind.DATA, DATA, Access.READ, 3),
        (TouchKind.DATA, DATA + 8, Access.WRITE, 4),
        (TouchKind.VECTOR, VECTORS + 0x200, Access.FETCH, 0),
    ]


def test_code_that_cannot_be_fetched_is_followed_all_the_same() -> None:
    snippet = replace(TOUCHING, adjust=lambda tables: tables.set_descriptor(CODE, 3, CODE | EXEC | UXN))
    assert len(snippet.situation().touches) == 6
    verdict = snippet.verdict()
    assert found(verdict, "M01", "M29") == ["M01"]
    assert verdict.prediction.at is not None and verdict.prediction.at.executed == 0


WRITE, READ = 1 << 6, 0
FAULTS = {
    "M29: stack": (replace(TOUCHING, data=None), 0x9600_0006 | WRITE, DATA + 0xF0, 36, 1),
    "M29: stack read-only": (replace(TOUCHING, data=EXEC | UXN | AP2), 0x9600_000F | WRITE, DATA + 0xF0, 36, 1),
    "M29: argument": (
        replace(TOUCHING, registers={**TOUCHING.registers, "X0": HOLE}), 0x9600_0007, HOLE, 44, 3,
    ),
    "M29: maintenance of an address that is not mapped": (
        at_el2(*TEXTBOOK, after=("isb", "dc civac, x4", "b ."), X4=HOLE), 0x9600_0147, HOLE, 36, 1,
    ),
    "M29: code further on": (at_el2(*TEXTBOOK, after=("isb", "br x4"), X4=HOLE), 0x8600_0007, HOLE, None, 2),
    "M29: after a loop": (
        at_el2(*TEXTBOOK, after=("isb", "mov x1, #3", "1: subs x1, x1, #1", "b.ne 1b", "ldr x0, [x4]"), X4=HOLE),
        0x9600_0007, HOLE, 48, 8,
    ),
    "M33: SCTLR.A": (
        at_el2(*TEXTBOOK, after=("isb", "ldur x0, [x4, #1]"), X4=DATA, X14=SCTLR_VALUE | A),
        0x9600_0021, DATA + 1, 36, 1,
    ),
    "M33: exclusive": (at_el2(*TEXTBOOK, after=("isb", "ldxr w0, [x4]"), X4=DATA + 2), 0x9600_0021, DATA + 2, 36, 1),
    "M33: SP": (
        at_el2(*TEXTBOOK, after=("isb", "ldr x0, [sp]"), SP=DATA + 8, X14=SCTLR_VALUE | SA), 0x9A00_0000, None, 36, 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_the_first_fault_after_the_switch(name: str) -> None:
    snippet, esr, far, offset, executed = FAULTS[name]
    verdict = snippet.verdict()
    prediction = verdict.prediction
    elr = CODE + offset if offset is not None else far
    assert prediction.first == ExceptionRecord(esr, far, elr or 0)
    assert prediction.at is not None
    assert (prediction.at.address, prediction.at.executed) == (elr, executed)
    assert (prediction.outcome, prediction.then) == (Outcome.IN_VECTOR, None)
    assert verdict.judgement is Judgement.FAULTS
    (finding,) = [f for f in verdict.findings if f.id == name[:3]][:1]
    assert finding.severity is Severity.FATAL


@pytest.mark.parametrize(
    ("wrong", "right"), [(EXEC | UXN | AP2, EXEC | UXN), (EXEC & ~AF | UXN, EXEC | UXN)], ids=["read-only", "AF"]
)
def test_m29_is_repaired_where_one_bit_does_it_and_the_run_goes_on_at_the_access(wrong: int, right: int) -> None:
    snippet = replace(TOUCHING, data=wrong)
    verdict = snippet.verdict()
    (finding,) = [finding for finding in verdict.findings if finding.id == "M29"][:1]
    assert isinstance(finding.repair, DescriptorRepair)
    assert (finding.repair.old, finding.repair.new) == (DATA | wrong, DATA | right)
    frozen = verdict.situation.after.with_values({"PC": VECTORS + 0x200, "PSTATE": 0x6000_03C9})
    plan = plan_repairs(verdict, frozen)
    assert (plan.resume_at, plan.resume_pstate) == (CODE + 36, 0x6000_03C9)
    assert replace(TOUCHING, data=right).verdict().judgement is Judgement.SOUND


def test_repairs_before_the_switch_is_reached() -> None:
    leaf = Snippet(()).tables().descriptor_address(CODE)
    snippet = replace(COMPUTED, adjust=lambda tables: tables.set_descriptor(CODE, 3, CODE | EXEC | UXN))
    verdict = snippet.verdict()
    plan = plan_repairs(verdict, snippet.situation().start or CpuState({}))
    assert [(getattr(r, "address", None), r.new, plan.operand) for r in plan.repairs] == [(leaf, CODE | EXEC, None)]
    wrong_endianness = replace(
        COMPUTED, lines=tuple(x.replace(f"{SCTLR_VALUE:#x}", "0x32e51835") for x in COMPUTED.lines)
    )
    with pytest.raises(UsageError, match="SCTLR_EL2 is not written yet; run kexec-step --before"):
        plan_repairs(wrong_endianness.verdict(), wrong_endianness.situation().start or CpuState({}))


def test_an_aligned_access_with_alignment_checking_is_no_m33() -> None:
    verdict = at_el2(*TEXTBOOK, after=("isb", "ldr x0, [x4]", "b ."), X4=DATA, X14=SCTLR_VALUE | A | SA).verdict()
    assert found(verdict, "M33", "M29") == []
    assert verdict.judgement is Judgement.SOUND


def test_what_follows_from_a_wrong_register_is_no_m29_of_its_own() -> None:
    verdict = replace(TOUCHING, registers={**TOUCHING.registers, "TCR_EL2": 0x8084_3500}).verdict()
    assert all(finding.is_consequence for finding in verdict.findings if finding.id == "M29")


def test_the_vectors_that_are_set_on_the_way_count() -> None:
    moved = ("isb", "adr x1, 1f", "msr vbar_el2, x1", "ldr x0, [x4]", "b .", ".balign 2048", "1: nop")
    verdict = at_el2(*TEXTBOOK, after=moved, X4=HOLE, VBAR_EL2=HOLE).verdict()
    assert verdict.prediction.vector == CODE + 0x800 + 0x200
    assert verdict.prediction.outcome is Outcome.IN_VECTOR
    assert found(verdict, "M05") == []
    unmoved = at_el2(*TEXTBOOK, after=("isb", "ldr x0, [x4]"), X4=HOLE, VBAR_EL2=HOLE).verdict()
    assert (unmoved.prediction.outcome, found(unmoved, "M05")) == (Outcome.SPINS, ["M05"])


def test_it_ends_where_the_translation_is_changed_again() -> None:
    situation = at_el2(*TEXTBOOK, after=("isb", "msr ttbr0_el2, x4", "isb", "ldr x0, [x4]"), X4=HOLE).situation()
    assert [step.instruction.text for step in situation.aftermath.steps] == ["isb", "msr ttbr0_el2, x4"]
    assert predict(situation).first is None


STAGE2_ROOT, STAGE2_LEVEL2 = 0x1_4100_0000, 0x1_4100_2000
STAGE2_BLOCK, TWO_MIB, GIB = 0x7FD, 1 << 21, 1 << 30
"""Normal write-back, read and write, executable, AF set."""


def second_stage() -> dict[int, bytes]:
    """Stage 2 with 40-bit IPAs from level 1: VA to PA identical for the GiB that CODE is in, but for DATA's 2 MiB."""
    start = CODE & -GIB
    blocks = [start + n * TWO_MIB for n in range(512)]
    level2 = [0 if block == DATA & -TWO_MIB else block | STAGE2_BLOCK for block in blocks]
    level1 = [STAGE2_LEVEL2 | 3 if n == CODE // GIB else 0 for n in range(1024)]
    return {
        address: b"".join(entry.to_bytes(8, "little") for entry in table)
        for address, table in ((STAGE2_ROOT, level1), (STAGE2_LEVEL2, level2))
    }


def test_a_stage_2_fault_goes_to_el2_with_its_instruction_syndrome() -> None:
    lines = ("switch: msr sctlr_el1, x14", "isb", "ldr w5, [x4, #8]", "b .")
    stage2 = {"HCR_EL2": 0x8000_0001, "VTTBR_EL2": STAGE2_ROOT, "VTCR_EL2": 0x8005_3558}
    snippet = Snippet(lines, {**EL1, **stage2, "X4": DATA}, contents=second_stage())
    prediction = predict(snippet.situation())
    assert prediction.first == ExceptionRecord(0x9385_0006, DATA + 8, CODE + 8, el=2)
    assert (prediction.vector, prediction.outcome) == (VECTORS + 0x400, Outcome.IN_VECTOR)


# How it came there


def test_ways_follow_the_branches_that_are_decided() -> None:
    snippet = at_el2(
        "mrs x1, CurrentEL", "cmp x1, #8", "b.ne 1f", "msr ttbr0_el2, x2", "b 2f", "1: msr ttbr0_el1, x2", "2: isb"
    )
    state = snippet.situation().before
    (way,) = ways_to(state, snippet.memory())
    assert [step.instruction.text.split()[0] for step in way] == ["mrs", "cmp", "b.ne", "msr", "b", "isb"]


def test_ways_fork_where_nothing_is_known_and_begin_behind_what_is_not() -> None:
    snippet = at_el2("bl 9f", "cbz x1, 1f", "msr ttbr0_el2, x2", "1: isb", after=("9: blr x1", "ret"))
    ways = ways_to(snippet.situation().before, snippet.memory())
    assert sorted(len(way) for way in ways) == [2, 3]


def test_ways_go_back_through_the_call_that_x30_remembers() -> None:
    lines = ("ret", "msr tcr_el2, x1", "bl 1f", "udf #0", "1: isb")
    snippet = at_el2(*lines, X30=CODE + 12)
    (way,) = ways_to(snippet.situation().before, snippet.memory())
    assert [step.instruction.text.split()[0] for step in way] == ["msr", "bl", "isb"]
    (short,) = ways_to(at_el2(*lines).situation().before, snippet.memory())
    assert len(short) == 1


def test_registers_that_kept_their_value_tell_addresses() -> None:
    snippet = at_el2("str x0, [x4]", "str x0, [x5]", "mov x5, #0", "str x0, [sp, #-16]!", X4=DATA, X5=0, SP=DATA)
    (way,) = ways_to(snippet.situation().before, snippet.memory())
    addresses = [getattr(effect, "address", None) for step in way for effect in step.effects]
    assert addresses == [DATA, None, DATA]


def test_too_many_ways_are_none() -> None:
    forks = [line for number in range(8) for line in (f"cbz x1, 1{number}f", "nop", f"1{number}:")]
    snippet = at_el2(*forks)
    assert ways_to(snippet.situation().before, snippet.memory()) == ()


def test_without_a_pc_there_is_no_way() -> None:
    assert ways_to(CpuState({}), at_el2("nop").memory()) == ()


# As text


def test_the_headline_says_how_far_ahead_it_is() -> None:
    first = verdict_text(COMPUTED.verdict(), Style()).splitlines()[0]
    assert first == f"SOUND: the write at {COMPUTED.label('switch'):#x}, 6 instructions ahead, switches the EL2 MMU on"
    live = Snippet(("switch: msr ttbr0_el2, x3", "isb", "b ."), {"X3": HOLE, "SCTLR_EL2": SCTLR_VALUE})
    assert verdict_text(live.verdict(), Style()).startswith(
        f"FAULTS: the write at {CODE:#x} changes the EL2 translation with the MMU on\n"
    )


def test_a_later_fault_says_where() -> None:
    text = verdict_text(replace(TOUCHING, data=None).verdict(), Style())
    where = f"at the write of {DATA + 0xF0:#x} by {CODE + 36:#x}: stp x29, x30, [sp, #-0x10]!, 1 instruction after"
    assert where in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


# Assumed


def test_an_assumed_switch_has_no_lead_up() -> None:
    snippet = at_el2("msr tcr_el2, x1", after=("next: ldr x0, [sp]", "b ."), SP=DATA)
    there = replace(snippet, start="next").state().with_values({"SCTLR_EL2": SCTLR_VALUE})
    situation = situation_at(there, snippet.memory())
    assert (situation.is_assumed, situation.is_live, situation.lead_up) == (True, False, ())
    assert found(judge(situation), "M19", "M20", "M21", "M26", "M28") == []
