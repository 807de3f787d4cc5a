"""The evaluator against QEMU's CPU: thousands of random instructions, each with random registers, flags and memory."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from kexecdbg.arm64.evaluation import (
    EvaluatedRegisters,
    Evaluation,
    Evaluator,
    MemoryAccess,
    TranslatedMemory,
    evaluate,
)
from kexecdbg.arm64.evaluation.data_processing import data_processing
from kexecdbg.arm64.evaluation.loads_and_stores import load_store
from kexecdbg.arm64.instructions import UNDECODED, decode_instruction
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.state import CpuState
from kexecdbg.qemu.process import MachineOptions, QemuProcess
from tests.live.machines import SECONDS

RAM = 0x4000_0000
PROGRAM, CASES, SCRATCH = 0x4100_0000, 0x4200_0000, 0x4300_0000
SCRATCH_SIZE, SCRATCH_MIDDLE = 0x4_0000, 0x2_0000
COUNT = 800
REGISTERS = 16
"""Registers that an instruction works on. Of the others X17 points into the scratch memory, X18 is a small index, X19
becomes SP, and X30 points to the case's values, which the program loads before and stores after the instruction."""
SLOTS = 24
CASE_SIZE = 8 * SLOTS
POINTER, INDEX, STACK, FLAGS = 16, 17, 18, 19
"""Slots behind those of the registers: X17, X18, X19 (SP) and NZCV."""

LDP, STP = 0xA940_0000, 0xA900_0000
MSR_NZCV, MRS_NZCV = 0xD51B_4214, 0xD53B_4214  # X20
MOV_SP_X19, MOV_X19_SP = 0x9100_027F, 0x9100_03F3
NEXT_CASE = 0x9100_03DE | CASE_SIZE << 10  # ADD X30, X30, #CASE_SIZE
POINT_X30_TO_CASES = 0xD2A0_001E | CASES >> 16 << 5  # MOVZ X30, #CASES >> 16, LSL 16
PRINT_DOT = (0xD2A1_2000, 0x5280_05C1, 0x3900_0001)  # X0 = the UART, W1 = '.', STRB W1, [X0]
PARK = 0x1400_0000

DATA_PROCESSING = (
    (0x1F00_0000, 0x1000_0000), (0x1F80_0000, 0x1100_0000), (0x1F80_0000, 0x1200_0000), (0x1F80_0000, 0x1280_0000),
    (0x1F80_0000, 0x1300_0000), (0x7FA0_0000, 0x1380_0000), (0x1F00_0000, 0x0A00_0000), (0x1F20_0000, 0x0B00_0000),
    (0x1F20_0000, 0x0B20_0000), (0x1FE0_FC00, 0x1A00_0000), (0x3FE0_0410, 0x3A40_0000), (0x3FE0_0800, 0x1A80_0000),
    (0x7FE0_C000, 0x1AC0_0000), (0x7FFF_E000, 0x5AC0_0000), (0x7F00_0000, 0x1B00_0000),
)  # fmt: skip
LOADS_AND_STORES = (
    (0x3B20_0000, 0x3800_0000), (0x3B00_0000, 0x3900_0000), (0x3B20_0C00, 0x3820_0800), (0x3A00_0000, 0x2800_0000),
    (0x3FE0_8000, 0x0880_8000), (0x3B20_0C00, 0x3820_0000),
)  # fmt: skip
BRANCHES = ((0xFF00_0010, 0x5400_0000), (0x7E00_0000, 0x3400_0000), (0x7E00_0000, 0x3600_0000))
"""Fixed bits and their values; the others are random."""


@dataclass(frozen=True)
class Program:
    """Instructions under test, the code that runs them, and the values they start with."""

    words: Sequence[Sequence[int]]
    code: bytes
    cases: bytes
    scratch: bytes

    def memory(self) -> dict[int, bytes]:
        """Everything by address."""
        return {PROGRAM: self.code, CASES: self.cases, SCRATCH: self.scratch}


def pair(opcode: int, first: int, slot: int, base: int = 30) -> int:
    """LDP or STP of two registers at a slot of the case."""
    return opcode | slot << 15 | (first + 1) << 10 | base << 5 | first


def around(words: Sequence[int]) -> list[int]:
    """The instructions with what loads and stores the registers of one case."""
    general = range(0, REGISTERS, 2)
    load = [0xF940_03C0 | FLAGS << 10 | 20, MSR_NZCV, *(pair(LDP, first, first) for first in general)]
    load += [0xF940_03C0 | slot << 10 | number for number, slot in ((17, POINTER), (18, INDEX), (19, STACK))]
    store = [0xF900_03C0 | slot << 10 | number for number, slot in ((17, POINTER), (18, INDEX))]
    store += [*(pair(STP, first, first) for first in general), MOV_X19_SP, 0xF900_03C0 | STACK << 10 | 19]
    store += [MRS_NZCV, 0xF900_03C0 | FLAGS << 10 | 20, NEXT_CASE]
    return [*load, MOV_SP_X19, *words, *store]


def some_value(source: random.Random) -> int:
    """A register value: anything, or one near a corner."""
    corner = source.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, (1 << 64) - 1))
    return source.choice((source.getrandbits(64), corner, source.getrandbits(6)))


def program(kind: str, seed: int) -> Program:
    source = random.Random(seed)
    scratch = source.randbytes(SCRATCH_SIZE)
    words: list[list[int]] = []
    cases, code = b"", [POINT_X30_TO_CASES]
    while len(words) < COUNT:
        case = [some_value(source) for _ in range(REGISTERS)]
        case += [SCRATCH + SCRATCH_MIDDLE, source.choice((0, 8, 64, 0xFFFF_FFF0)), SCRATCH + SCRATCH_MIDDLE]
        case += [source.getrandbits(4) << 28, *[0] * (SLOTS - len(case) - 1)]
        candidate = instruction(kind, source)
        if candidate is not None and runs(candidate, case, scratch):
            words.append(candidate)
            code += around(candidate)
            cases += b"".join(value.to_bytes(8, "little") for value in case)
    code += [*PRINT_DOT, PARK]
    text = b"".join(word.to_bytes(4, "little") for word in code)
    return Program(words, text, cases, scratch)


def instruction(kind: str, source: random.Random) -> list[int] | None:
    """One random instruction with registers that the program allows for, and what it jumps over; or ``None``."""
    make = {"arithmetic": arithmetic, "memory": load_or_store, "branch": conditional_branch}[kind]
    words = make(source)
    return None if words is None or decode_instruction(words[0], 0).text.startswith(UNDECODED) else words


def random_word(forms: Sequence[tuple[int, int]], source: random.Random) -> int:
    """A word of one of ``forms``, everything else in it random."""
    fixed, value = source.choice(forms)
    return source.getrandbits(32) & ~fixed | value


def arithmetic(source: random.Random) -> list[int] | None:
    word = random_word(DATA_PROCESSING, source)
    if data_processing(word) is None:
        return None
    word = word & ~0x10 if source.random() < 0.9 else word | 0x1F
    moves_sp = word & 0x1F == 0x1F and word & 0x1F80_0000 == 0x1100_0000 and not word & 1 << 29
    return None if moves_sp else [word]


def load_or_store(source: random.Random) -> list[int] | None:
    """X17 is the base, X18 the index."""
    first, second = source.sample(range(REGISTERS), 2)
    word = random_word(LOADS_AND_STORES, source) & ~0x3FF | 17 << 5 | first
    if word & 0x3A00_0000 == 0x2800_0000:
        word = word & ~(0x1F << 10) | second << 10
    elif word & 0x3B20_0000 == 0x3820_0000:
        word = word & ~(0x1F << 16) | 18 << 16
    decoded = load_store(word)
    is_simd = bool(word & 1 << 26)
    return None if decoded is None or decoded.prefetch or is_simd or decoded.clobbers else [word]


def conditional_branch(source: random.Random) -> list[int]:
    """Over one MOVZ."""
    word = random_word(BRANCHES, source)
    is_test, has_register = word & 0x7E00_0000 == 0x3600_0000, word & 0xFF00_0000 != 0x5400_0000
    word = word & ~((0x3FFF if is_test else 0x7_FFFF) << 5) | 2 << 5
    word = word & ~0x10 if has_register else word
    return [word, 0xD280_0540 | source.randrange(REGISTERS)]  # MOVZ Xn, #42


def runs(words: Sequence[int], case: list[int], scratch: bytes) -> bool:
    """Whether the evaluator carries the instruction out, within the scratch memory."""
    code = b"".join(word.to_bytes(4, "little") for word in [*words, PARK])
    values = {f"X{number}": case[number] for number in range(REGISTERS)}
    values |= {"X17": case[POINTER], "X18": case[INDEX], "SP": case[STACK], "PSTATE": 0x3C9 | case[FLAGS]}
    space = TranslatedMemory(BytesMemory({PROGRAM: code, SCRATCH: scratch}))
    machine = Evaluator(EvaluatedRegisters(CpuState({**START, **values})), space)
    found = evaluate(machine, len(words))
    inside = (
        SCRATCH <= effect.address < SCRATCH + SCRATCH_SIZE - 64
        for step in found.steps
        for effect in step.effects
        if isinstance(effect, MemoryAccess) and effect.address is not None
    )
    known = all(machine.registers.read(number) is not None for number in range(REGISTERS))
    return len(found.steps) > 0 and machine.registers.pc >= PROGRAM + 4 and all(inside) and known


START = {
    "PC": PROGRAM, "PSTATE": 0x3C9, "SP": 0, "SCTLR_EL2": 0x30C5_0830, "HCR_EL2": 0, "ID_AA64MMFR0_EL1": 0x1124,
    "ID_AA64MMFR1_EL1": 0, "ID_AA64PFR0_EL1": 0x1111, **{f"X{number}": 0 for number in range(31)},
}  # fmt: skip


def on_qemu(given: Program) -> bytes:
    """What the program leaves in memory: the cases, then the scratch memory."""

    def prepare(directory: Path) -> list[str]:
        arguments = []
        for address, data in given.memory().items():
            path = directory / f"load-{address:x}"
            path.write_bytes(data)
            arguments += ["-device", f"loader,file={path},addr={address:#x},force-raw=on"]
        return [*arguments, "-device", f"loader,addr={PROGRAM:#x},cpu-num=0"]

    with QemuProcess(MachineOptions(cpu="max", ram_mib=256, prepare=prepare)) as qemu:
        qemu.command("cont")
        qemu.console.wait_for(r"\.", SECONDS)
        descriptor = os.open(qemu.ram_file, os.O_RDONLY)
        try:
            with closing(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)) as ram:
                return b"".join(
                    ram[start - RAM : start - RAM + size]
                    for start, size in ((CASES, len(given.cases)), (SCRATCH, SCRATCH_SIZE))
                )
        finally:
            os.close(descriptor)


def evaluated(given: Program) -> tuple[Evaluation, bytes]:
    """How the evaluation ended, and what it leaves in memory."""
    space = TranslatedMemory(BytesMemory(given.memory()))
    machine = Evaluator(EvaluatedRegisters(CpuState(START)), space)
    found = evaluate(machine, 1_000_000)
    return found, space.read(CASES, len(given.cases)) + space.read(SCRATCH, SCRATCH_SIZE)


def differences(given: Program, ours: bytes, theirs: bytes) -> Iterator[str]:
    """One line for each case that ends differently."""
    for number, words in enumerate(given.words):
        where = slice(number * CASE_SIZE, (number + 1) * CASE_SIZE)
        if ours[where] != theirs[where]:
            text = "; ".join(decode_instruction(word, 0).text for word in words)
            slots = [
                f"slot {slot}: {mine.hex()} not {real.hex()}"
                for slot in range(SLOTS)
                if (mine := ours[where][8 * slot : 8 * slot + 8]) != (real := theirs[where][8 * slot : 8 * slot + 8])
            ]
            yield f"{text}: {slots}"


@pytest.mark.parametrize(("kind", "seed"), [("arithmetic", 1), ("arithmetic", 2), ("memory", 3), ("branch", 4)])
def test_the_evaluator_does_what_the_cpu_does(kind: str, seed: int) -> None:
    given = program(kind, seed)
    found, ours = evaluated(given)
    assert found.stop.instruction is not None and found.stop.instruction.word == PARK
    theirs = on_qemu(given)
    assert list(differences(given, ours, theirs))[:10] == []
    assert ours == theirs
