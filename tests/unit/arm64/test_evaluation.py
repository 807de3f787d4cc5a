"""What evaluated code does, and that nothing is said that is not known. tests/live/test_evaluation.py asks QEMU."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kexecdbg.arm64.evaluation import (
    Barrier,
    BarrierKind,
    Domain,
    Effect,
    EvaluatedRegisters,
    Evaluation,
    Evaluator,
    ExceptionReturn,
    Maintenance,
    MemoryAccess,
    Stop,
    StopReason,
    SystemRead,
    SystemWrite,
    TranslatedMemory,
    evaluate,
)
from kexecdbg.arm64.evaluation.written_registers import EVERY_REGISTER, written_registers
from kexecdbg.arm64.faults import Access, FaultKind
from kexecdbg.arm64.instructions import decode_instruction
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.state import CpuState
from tests.unit.arm64.tables import DEFAULTS, MAX_CPU, Words, page_path
from tests.unit.assembly import assemble, word

CODE, DATA = 0x4008_0000, 0x4010_0000
MMU_OFF = 0x30C5_0830
AT_EL1, AT_EL2 = 0x3C5, 0x3C9
N, Z, C, V = 8, 4, 2, 1


class Run:
    """A snippet that has been evaluated from CODE, with the MMU off and memory at DATA."""

    def __init__(
        self,
        *lines: str,
        limit: int = 1000,
        data: bytes = bytes(4096),
        also: Mapping[str, int | None] | None = None,
        **registers: int | None,
    ) -> None:
        text, self.labels = assemble(*lines)
        values = {
            **DEFAULTS,
            **MAX_CPU,
            "SCTLR_EL1": 0x30D0_0800,
            "SCTLR_EL2": MMU_OFF,
            "PC": CODE,
            **(also or {}),
            **registers,
        }
        known = {name: value for name, value in values.items() if value is not None}
        self.memory = TranslatedMemory(BytesMemory({CODE: text, DATA: data}))
        self.evaluator = Evaluator(EvaluatedRegisters(CpuState(known)), self.memory)
        self.result: Evaluation = evaluate(self.evaluator, limit)

    def __getitem__(self, name: str) -> int | None:
        return self.evaluator.registers.get(name)

    @property
    def flags(self) -> int | None:
        return self.evaluator.registers.flags

    @property
    def stop(self) -> Stop:
        return self.result.stop

    @property
    def effects(self) -> list[Effect]:
        return [effect for step in self.result.steps for effect in step.effects]

    @property
    def texts(self) -> list[str]:
        return [step.instruction.text.split()[0] for step in self.result.steps]


# Values


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (["movz x0, #0x1234, lsl #16"], 0x1234_0000),
        (["movn x0, #0"], (1 << 64) - 1),
        (["movn w0, #0"], 0xFFFF_FFFF),
        (["movz x0, #1", "movk x0, #0xbeef, lsl #48"], 0xBEEF_0000_0000_0001),
        (["mov x0, #0x80800000"], 0x8080_0000),
        (["mov x0, #5", "bfi x0, x0, #16, #3"], 0x5_0005),
        (["mov x1, #0x1124", "ubfx x0, x1, #4, #8"], 0x12),
        (["mov x1, #0x80", "sxtb x0, w1"], 0xFFFF_FFFF_FFFF_FF80),
        (["adr x0, ."], CODE),
        (["adrp x0, ."], CODE),
        (["mov x1, #3", "mov x2, #7", "madd x0, x1, x2, x2"], 28),
        (["mov x1, #1", "cmp x1, #2", "csel x0, x1, xzr, lo"], 1),
        (["mov x1, #-1", "cmp x1, #0", "cset x0, lt"], 1),
        (["mov x1, #-1", "adds x1, x1, #1", "adc x0, xzr, xzr"], 1),
        (["mov x1, #0x10", "rev x0, x1"], 0x1000_0000_0000_0000),
        (["mov x1, #0x10", "clz x0, x1"], 59),
        (["mov x1, #0xff", "bic x0, x1, #0xf"], 0xF0),
        (["mrs x0, CurrentEL"], 8),
        (["mrs x0, id_aa64mmfr0_el1"], MAX_CPU["ID_AA64MMFR0_EL1"]),
        (["mov x1, #5", "msr tpidr_el2, x1", "mrs x0, tpidr_el2"], 5),
        (["mov x1, #0", "cbz x1, 1f", "mov x0, #1", "1: mov x0, #2"], 2),
        (["mov x1, #8", "tbnz x1, #3, 1f", "mov x0, #1", "b 2f", "1: mov x0, #2", "2: nop"], 2),
        (["bl 1f", "b 2f", "1: mov x0, #7", "ret", "2: nop"], 7),
        (["adr x1, 1f", "br x1", "mov x0, #1", "1: mov x0, #2"], 2),
        (["ldr x0, 1f", "b 2f", ".balign 8", "1: .quad 0x123456789", "2: nop"], 0x1_2345_6789),
        (["mov x1, #10", "mov x0, #0", "1: add x0, x0, x1", "subs x1, x1, #1", "b.ne 1b"], 55),
    ],
)
def test_values(lines: list[str], value: int) -> None:
    assert Run(*lines)["X0"] == value


@pytest.mark.parametrize(
    ("lines", "flags"),
    [
        (["mov x1, #1", "cmp x1, #1"], Z | C),
        (["mov x1, #1", "cmp x1, #2"], N),
        (["mov w1, #0x7fffffff", "adds w1, w1, #1"], N | V),
        (["mov x1, #0", "tst x1, #1"], Z),
        (["mov x1, #1", "cmp x1, #1", "ccmp x1, #0, #4, eq"], C),
        (["mov x1, #1", "cmp x1, #1", "ccmp x1, #0, #9, ne"], N | V),
    ],
)
def test_flags(lines: list[str], flags: int) -> None:
    assert Run(*lines).flags == flags


@pytest.mark.parametrize(
    "lines",
    [
        ["add x0, x1, #1"],
        ["mov x0, #1", "movk x1, #5", "orr x0, x0, x1"],
        ["mov x0, #1", "mrs x0, cntvct_el0"],
        ["mov x0, #1", "at s1e2r, x0", "mrs x0, par_el1"],
        ["mov x0, #1", "ldr x0, [x1]"],
        ["mov x0, #1", "fmov x0, d0"],
        ["mov x0, #1", "crc32b w0, w0, w0"],
        ["cmp x1, #1", "cset x0, eq"],
        ["mov x2, #1", "msr csselr_el1, x2", "mrs x0, ccsidr_el1"],
    ],
)
def test_what_depends_on_the_unknown_is_unknown(lines: list[str]) -> None:
    run = Run(*lines, X0=3, CCSIDR_EL1=0x700F_E01A)
    assert run["X0"] is None
    assert run.stop.reason is StopReason.UNREADABLE  # it went to the end


def test_a_choice_between_equal_values_is_known() -> None:
    assert Run("mov x1, #4", "mov x2, #4", "cmp x3, #1", "csel x0, x1, x2, eq")["X0"] == 4


def test_unknown_flags_stay_unknown_and_a_condition_that_fails_sets_them() -> None:
    assert Run("cmp x1, #1", "ccmp x1, #1, #0, eq").flags is None
    assert Run("mov x2, #1", "cmp x2, #1", "ccmp x1, #1, #8, ne").flags == N


# Memory


def test_what_was_stored_is_loaded() -> None:
    run = Run("mov x1, #0x1234", "stp x1, x0, [x9]", "ldrh w2, [x9], #8", "ldr x3, [x9]", X0=7, X9=DATA)
    assert (run["X2"], run["X3"], run["X9"]) == (0x1234, 7, DATA + 8)
    assert run.memory.read(DATA, 16) == (0x1234).to_bytes(8, "little") + (7).to_bytes(8, "little")
    assert run.effects == [
        MemoryAccess(Access.WRITE, DATA, 16, "X9", DATA),
        MemoryAccess(Access.READ, DATA, 2, "X9", DATA),
        MemoryAccess(Access.READ, DATA + 8, 8, "X9", DATA + 8),
    ]


def test_unknown_data_makes_only_its_bytes_unknown() -> None:
    run = Run("str x1, [x9]", "ldr x2, [x9]", "ldr x3, [x9, #8]", X9=DATA, X2=1, data=bytes(8) + b"\5" + bytes(4087))
    assert (run["X2"], run["X3"]) == (None, 5)
    with pytest.raises(MemoryUnreadableError, match="cannot be told"):
        run.memory.read(DATA, 8)


def test_a_store_to_an_unknown_address_makes_memory_unknown_but_not_code_and_literals() -> None:
    run = Run("str x0, [x1]", "ldr x2, [x9]", "ldr x3, 1f", "b 2f", ".balign 8", "1: .quad 5", "2: nop", X9=DATA, X2=1)
    assert (run["X2"], run["X3"], run.memory.lost) == (None, 5, True)
    assert run.effects[0] == MemoryAccess(Access.WRITE, None, 8, "X1")


def test_atomics_and_exclusives_write_what_is_not_followed() -> None:
    run = Run("stxr w3, x0, [x9]", "ldr x2, [x9]", "ldadd x0, x4, [x9]", X0=1, X2=1, X3=1, X4=1, X9=DATA)
    assert (run["X2"], run["X3"]) == (None, None)


def test_zeroing_a_block() -> None:
    run = Run("dc zva, x9", "ldr x2, [x9, #56]", X9=DATA + 64, data=b"\1" * 4096, DCZID_EL0=4)
    assert run["X2"] == 0
    assert run.memory.read(DATA + 56, 8) == b"\1" * 8
    assert Run("dc zva, x9", X9=DATA).memory.lost  # how much it is, is not known


def test_the_byte_order_is_that_of_the_exception_level() -> None:
    run = Run("ldr x2, [x9]", "str x2, [x9, #8]", X9=DATA, data=bytes(range(4096 % 256, 256)) * 16, SCTLR_EL2=1 << 25)
    assert run["X2"] == 0x0001_0203_0405_0607
    assert run.memory.read(DATA + 8, 8) == bytes(range(8))


@pytest.mark.parametrize(
    ("line", "kind", "size"),
    [
        ("ldr x0, [sp, #-16]!", "SP", 8),
        ("ldp x0, x1, [sp], #32", "SP", 16),
        ("ldrsw x0, [x9, x8, lsl #2]", "X9", 4),
        ("ldp q0, q1, [x9]", "X9", 32),
        ("ldrb w0, [x9, w8, sxtw]", "X9", 1),
        ("ldar w0, [x9]", "X9", 4),
        ("ldaxp x0, x1, [x9]", "X9", 16),
    ],
)
def test_addresses_and_sizes(line: str, kind: str, size: int) -> None:
    run = Run(line, SP=DATA + 64, X9=DATA + 64, X8=0xFFFF_FFF0 if "sxtw" in line else 4)
    offset = {"ldr x0, [sp, #-16]!": -16, "ldrsw x0, [x9, x8, lsl #2]": 16, "ldrb w0, [x9, w8, sxtw]": -16}.get(line, 0)
    (access,) = run.effects
    assert isinstance(access, MemoryAccess)
    assert (access.address, access.base, access.size) == (DATA + 64 + offset, kind, size)
    assert access.ordered is line.startswith("lda")


# System instructions


def test_system_registers_by_level_and_e2h() -> None:
    vhe = {"HCR_EL2": 1 << 34, "X1": 5}
    assert Run("msr tcr_el1, x1", also=vhe).effects == [SystemWrite("TCR_EL2", 5)]
    assert Run("msr tcr_el1, x1", X1=5).effects == [SystemWrite("TCR_EL1", 5)]
    assert Run(".inst 0xd51d2041", also=vhe).effects == [SystemWrite("TCR_EL1", 5)]  # msr tcr_el12, x1
    assert Run("mrs x1, tcr_el1", also=vhe).effects == [SystemRead("TCR_EL2")]
    assert Run("msr tcr_el1, x2").effects == [SystemWrite("TCR_EL1", None)]


@pytest.mark.parametrize(
    ("line", "registers"),
    [
        ("msr tcr_el2, x1", {"PSTATE": AT_EL1}),
        ("msr sctlr_el1, x1", {"PSTATE": AT_EL1, "HCR_EL2": 1 << 26}),
        ("mrs x1, sctlr_el1", {"PSTATE": AT_EL1, "HCR_EL2": 1 << 30}),
        (".inst 0xd51d2041", {}),
    ],
)
def test_what_is_trapped_undefined_or_ambiguous_ends_it(line: str, registers: dict[str, int | None]) -> None:
    run = Run(line, X1=1, also=registers)
    assert run.stop.reason is StopReason.TRAPPED
    assert run["TCR_EL1"] == DEFAULTS["TCR_EL1"]


def test_with_an_unknown_regime_nothing_can_be_fetched() -> None:
    run = Run("nop", also={"HCR_EL2": None, "ID_AA64MMFR4_EL1": None})
    assert (run.stop.reason, run.result.steps) == (StopReason.UNKNOWN_TRANSLATION, ())


def test_barriers_and_maintenance() -> None:
    run = Run("isb", "dsb nsh", "dsb ishst", "dsb ld", "dmb osh", "tlbi alle2", "dc civac, x9", "ic iallu", X9=DATA)
    assert run.effects == [
        Barrier(BarrierKind.ISB),
        Barrier(BarrierKind.DSB, Domain.NON_SHAREABLE),
        Barrier(BarrierKind.DSB, Domain.INNER_SHAREABLE, reads=False),
        Barrier(BarrierKind.DSB, Domain.FULL_SYSTEM, writes=False),
        Barrier(BarrierKind.DMB, Domain.OUTER_SHAREABLE),
        Maintenance("TLBI ALLE2", None),
        Maintenance("DC CIVAC", DATA, DATA, Access.READ),
        Maintenance("IC IALLU", None),
    ]


def test_pstate_and_stack_pointers() -> None:
    run = Run("msr spsel, #0", "mov x0, sp", "mov x1, #0x40", "mov sp, x1", "msr spsel, #1", "mov x2, sp",
              "mrs x3, sp_el0", "msr daifset, #2", "mrs x4, daif", SP=0x100, SP_EL0=0x200, PSTATE=0x349)  # fmt: skip
    assert [run[f"X{number}"] for number in (0, 2, 3, 4)] == [0x200, 0x100, 0x40, 0x3C0 & ~0x80 | 0x80]


def test_an_exception_return_goes_on_at_the_lower_level() -> None:
    run = Run("adr x1, 1f", "msr elr_el2, x1", "mov x1, #0x3c5", "msr spsr_el2, x1", "eret", "brk #0",
              "1: mrs x0, CurrentEL", "mov x2, sp", SP=0x100, SP_EL1=0x300)  # fmt: skip
    assert (run["X0"], run["X2"], run["SP_EL2"]) == (4, 0x300, 0x100)
    assert ExceptionReturn(1) in run.effects


def test_pointer_authentication_that_is_off_does_nothing_and_that_is_on_is_not_followed() -> None:
    lines = ("bl 1f", "b 2f", "1: paciasp", "mov x0, x30", "autiasp", "ret", "2: nop")
    assert Run(*lines)["X0"] == CODE + 4
    on = Run(*lines, SCTLR_EL2=MMU_OFF | 1 << 31)
    assert on["X0"] is None
    assert on.stop.reason is StopReason.UNKNOWN_TARGET


# Where it ends


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["cbz x1, 1f", "nop", "1: nop"], StopReason.UNDECIDED),
        (["cmp x1, #0", "b.eq 1f", "nop", "1: nop"], StopReason.UNDECIDED),
        (["br x1"], StopReason.UNKNOWN_TARGET),
        (["b ."], StopReason.WAITS),
        (["wfi"], StopReason.WAITS),
        (["svc #0"], StopReason.EXCEPTION),
        (["hvc #0"], StopReason.EXCEPTION),
        (["brk #1"], StopReason.EXCEPTION),
        (["eret"], StopReason.EXCEPTION),
        ([".inst 0"], StopReason.UNDEFINED),
        ([".inst 0xffffffff"], StopReason.UNKNOWN_INSTRUCTION),
        (["ldtr x0, [x9]"], StopReason.UNKNOWN_INSTRUCTION),
        (["ldur x0, [x9, #1]"], StopReason.MISALIGNED),
        (["1: b 2f", "2: b 1b"], StopReason.LIMIT),
        (["nop"], StopReason.UNREADABLE),
    ],
)
def test_where_it_stops(lines: list[str], reason: StopReason) -> None:
    run = Run(*lines, X9=DATA)
    assert run.stop.reason is reason
    assert run.evaluator.registers.pc == run.stop.address


def test_a_stop_says_where_and_why() -> None:
    assert Run("nop", "cbz x1, 1f", "1: nop").stop.text == (
        f"{CODE + 4:#x}: cbz x1, #{CODE + 8:#x}: a branch that depends on an unknown value"
    )


def test_the_alignment_of_the_stack_pointer() -> None:
    assert Run("ldr x0, [sp]", SP=DATA + 8, SCTLR_EL2=MMU_OFF | 8).stop.reason is StopReason.STACK_MISALIGNED
    assert Run("ldr x0, [sp]", SP=DATA + 8).stop.reason is StopReason.UNREADABLE


def test_a_loop_of_unknown_length_that_changes_registers_only_is_passed_over() -> None:
    lines = ("1: dc cisw, x1", "ldr x3, [x9]", "subs x1, x1, #1", "b.ge 1b", "mov x2, #3")
    run = Run(*lines, X9=DATA, X3=1, X4=7)
    assert (run["X1"], run["X2"], run["X3"], run["X4"], run["X9"]) == (None, 3, None, 7, DATA)
    assert Maintenance("DC CISW", None) in run.effects
    assert MemoryAccess(Access.READ, None, 8, "X9") in run.effects


@pytest.mark.parametrize("line", ["str x0, [x9]", "msr tpidr_el2, x0", "bl 2f", "dc zva, x9", "svc #0", "isb\n ret"])
def test_a_loop_that_may_change_more_ends_it(line: str) -> None:
    run = Run("1: subs x1, x1, #1", "b.eq 2f", line, "b 1b", "2: mov x2, #3", X9=DATA)
    assert (run.stop.reason, run["X2"]) == (StopReason.UNDECIDED, None)


# With the MMU on


def mapped(*lines: str, data_leaf: int = 0, more: Mapping[int, int] | None = None, **registers: int) -> Run:
    """A snippet run with the MMU on: code executable, DATA by ``data_leaf``, and ``more`` descriptors by address."""
    run = Run(*lines)
    text, _ = assemble(*lines)
    tables = page_path(CODE | 0x713, CODE)
    tables |= page_path(data_leaf, DATA) | dict(more or {})
    words = Words(tables)

    class Memory:
        def read(self, address: int, size: int) -> bytes:
            if CODE <= address < CODE + len(text):
                return text[address - CODE : address - CODE + size]
            return words.read(address, size)

    values = {**DEFAULTS, **MAX_CPU, "PC": CODE, "TTBR0_EL2": 0x5000_0000, "SCTLR_EL2": 0x30C5_1835, **registers}
    run.memory = TranslatedMemory(Memory())
    run.evaluator = Evaluator(EvaluatedRegisters(CpuState(values)), run.memory)
    run.result = evaluate(run.evaluator, 100)
    return run


@pytest.mark.parametrize(
    ("line", "leaf", "kind", "access"),
    [
        ("ldr x0, [x9]", 0, FaultKind.TRANSLATION, Access.READ),
        ("str x0, [x9]", DATA | 0x793, FaultKind.PERMISSION, Access.WRITE),
        ("ldr x0, [x9]", DATA | 0x313, FaultKind.ACCESS_FLAG, Access.READ),
        ("dc civac, x9", 0, FaultKind.TRANSLATION, Access.READ),
        ("dc ivac, x9", DATA | 0x793, FaultKind.PERMISSION, Access.WRITE),
        ("br x9", DATA | 1 << 54 | 0x713, FaultKind.PERMISSION, Access.FETCH),
    ],
)
def test_the_fault_of_an_access(line: str, leaf: int, kind: FaultKind, access: Access) -> None:
    run = mapped("nop", line, data_leaf=leaf, X9=DATA, X0=1)
    assert run.stop.reason is StopReason.FAULT
    assert run.stop.fault is not None
    assert (run.stop.fault.kind, run.stop.access, run.stop.target) == (kind, access, DATA)
    assert run.stop.address == (DATA if line == "br x9" else CODE + 4)


def test_device_memory_has_to_be_aligned() -> None:
    normal, device = (DATA | 0x713 | 1 << 54, DATA | 0x703 | 1 << 54)
    assert mapped("ldur x0, [x9, #1]", data_leaf=normal, X9=DATA).stop.reason is not StopReason.MISALIGNED
    assert mapped("ldur x0, [x9, #1]", data_leaf=device, X9=DATA).stop.reason is StopReason.MISALIGNED


def test_an_access_across_a_page_boundary_faults_where_the_second_page_is() -> None:
    run = mapped("ldr x0, [x9]", data_leaf=DATA | 0x713, X9=DATA + 0xFFC)
    assert (run.stop.reason, run.stop.target) == (StopReason.FAULT, DATA + 0x1000)


def test_changed_tables_are_walked_anew() -> None:
    tables = 0x4018_0000
    leaf_of_data = tables + 8 * (DATA >> 12 & 511)
    leaf_table = 0x5003_0000
    lines = ("ldr x0, [x9]", "str xzr, [x2]", "ldr x0, [x9]")
    run = mapped(*lines, data_leaf=DATA | 0x713, more=page_path(leaf_table | 0x713, tables), X9=DATA, X2=leaf_of_data)
    assert run.stop.reason is StopReason.FAULT
    assert run.stop.fault is not None
    assert (run.stop.fault.fsc, run.stop.address, run.stop.target) == (0x07, CODE + 8, DATA)


# Registers that an instruction writes


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("add x3, x4, x5", {3}),
        ("ldp x1, x2, [x9], #16", {1, 2, 9}),
        ("str x1, [x9]", set()),
        ("str x1, [sp, #-16]!", {31}),
        ("stxr w3, x1, [x9]", {3}),
        ("bl .", {30}),
        ("b.eq .", set()),
        ("mrs x7, tcr_el2", {7}),
        ("msr tcr_el2, x7", set()),
        ("dsb sy", set()),
        ("dc civac, x3", set()),
        ("paciasp", {30}),
        ("fmov x6, d0", {6}),
    ],
)
def test_written_registers(line: str, numbers: set[int]) -> None:
    assert written_registers(decode_instruction(word(line), CODE)) == numbers


@pytest.mark.parametrize("encoding", [0x0400_0000, word("ldtr x1, [x2]"), word("svc #0")])
def test_what_is_not_known_may_write_every_register(encoding: int) -> None:
    assert written_registers(decode_instruction(encoding, CODE)) == EVERY_REGISTER
