"""Copy loops in QEMU's log: wherever a piece of the log ends, a page's copy is one step, and no half of it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind
from kexecdbg.qemu.cpu_log import COLUMNS, LoggedStates
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.recording.log.reconstruction import LogReconstruction
from kexecdbg.trace.recording.log.snapshot import RamSnapshot
from kexecdbg.trace.records import EventKind
from kexecdbg.trace.step_block import PAGE_SIZE
from kexecdbg.trace.writer import TraceWriter

RAM, CODE, EL1H, EL2H = 0x4000_0000, 0x4000_0000, 0x3C5, 0x3C9
SOURCE, TARGET = RAM + 0x1_0000, RAM + 0x2_0000
PAGES = 4
WORDS = PAGE_SIZE // 8
STEPS_PER_PAGE = 4
"""add, the copy as one step, subs and b.ne."""
SYSTEM = {"SCTLR_EL1": 0, "SCTLR_EL2": 0x30C5_0830, "HCR_EL2": 0}
CODE_WORDS = (
    0x9140_0424,  # add x4, x1, #1, lsl #12
    0xF840_8423,  # 1: ldr x3, [x1], #8
    0xF800_8443,  # str x3, [x2], #8
    0xEB04_003F,  # cmp x1, x4
    0x54FF_FFA1,  # b.ne 1b
    0xF100_04A5,  # subs x5, x5, #1
    0x54FF_FF41,  # b.ne add
    0xD503_201F,  # nop
)
LAST = CODE + 4 * (len(CODE_WORDS) - 1)


class Ram(BytesMemory):
    """RAM that says what of it was ever written, as QEMU's file does."""

    memory_map = MemoryMap((Region(RAM, RAM + 0x10_0000, RegionKind.RAM, "ram"),))

    def populated_ranges(self) -> Iterator[tuple[int, int]]:
        yield CODE, CODE + PAGE_SIZE
        yield SOURCE, SOURCE + PAGES * PAGE_SIZE


def source_word(number: int) -> int:
    return number * 0x1_0001 + 1


def executed() -> list[tuple[int, dict[int, int]]]:
    """PC and general registers before each instruction, from the second on, as the CPU executes the copy."""
    registers = {1: SOURCE, 2: TARGET, 5: PAGES}
    states = []

    def goes_to(pc: int, **changes: int) -> None:
        registers.update({int(name[1:]): value for name, value in changes.items()})
        states.append((pc, dict(registers)))

    for page in range(PAGES):
        goes_to(CODE + 4, x4=registers[1] + PAGE_SIZE)
        for word in range(WORDS):
            goes_to(CODE + 8, x3=source_word(page * WORDS + word), x1=registers[1] + 8)
            goes_to(CODE + 12, x2=registers[2] + 8)
            goes_to(CODE + 16)
            goes_to(CODE + 4 if word < WORDS - 1 else CODE + 20)
        goes_to(CODE + 24, x5=registers[5] - 1)
        goes_to(CODE if page < PAGES - 1 else LAST)
    return states


def logged(states: list[tuple[int, dict[int, int]]], pstate: int) -> LoggedStates:
    rows = np.zeros((len(states), COLUMNS), np.uint64)
    for row, (_, values) in zip(rows, states, strict=True):
        for number, value in values.items():
            row[number] = value
    pcs = np.array([pc for pc, _ in states], np.uint64)
    return LoggedStates(pcs, rows, np.full(len(states), pstate, np.uint32), ())


@pytest.fixture(scope="module")
def memory() -> Ram:
    code = b"".join(word.to_bytes(4, "little") for word in CODE_WORDS)
    source = b"".join(source_word(number).to_bytes(8, "little") for number in range(PAGES * WORDS))
    image = bytearray(0x10_0000)
    image[: len(code)] = code
    image[SOURCE - RAM : SOURCE - RAM + len(source)] = source
    return Ram({RAM: bytes(image)})


def record(
    memory: Ram, path: Path, piece: int, most_steps: int | None = None, system: dict[str, int] = SYSTEM, el: int = EL2H
) -> Trace:
    """The trace of the copy, from a log that is read in pieces of so many states; ``el`` is its PSTATE."""
    general = {f"X{number}": 0 for number in range(31)} | {"X1": SOURCE, "X2": TARGET, "X5": PAGES}
    state = {**general, **system, "SP": 0, "PC": CODE, "PSTATE": el}
    header = TraceHeader(engine="log", registers=tuple(state), regions=memory.memory_map.regions)
    states = executed()
    with TraceWriter(path, header, state) as writer:
        snapshot = RamSnapshot(memory, CODE)
        reconstruction = LogReconstruction(writer, snapshot, most_repeats=4, fold=True, most_steps=most_steps)
        for start in range(0, len(states), piece):
            reconstruction.take(logged(states[start : start + piece], el), more_comes=start + piece < len(states))
    return Trace.open(path)


@pytest.mark.parametrize("piece", [1, 3, 100, 1000, 1400, 2049, 100_000])
def test_a_page_copy_is_one_step_wherever_the_log_was_cut(memory: Ram, tmp_path: Path, piece: int) -> None:
    with record(memory, tmp_path / "copy.kxt", piece) as trace:
        copies = [
            (event.source, event.destination, event.size)
            for number in range(trace.steps)
            for event in trace.step(number).events
            if event.kind is EventKind.PAGE_COPIED
        ]
        offsets = range(0, PAGES * PAGE_SIZE, PAGE_SIZE)
        assert copies == [(SOURCE + offset, TARGET + offset, PAGE_SIZE) for offset in offsets]
        # Each copied page is empty, and then what its source is.
        contents = {trace.page_at(TARGET, number) for number in range(trace.steps + 1)}
        assert contents <= {None, bytes(PAGE_SIZE), memory.read(SOURCE, PAGE_SIZE)}
        assert trace.steps == PAGES * STEPS_PER_PAGE
        assert trace.state(trace.steps).get("PC") == LAST


@pytest.mark.parametrize("most", [0, 1, 2, 3, STEPS_PER_PAGE + 2, PAGES * STEPS_PER_PAGE])
@pytest.mark.parametrize("piece", [100, 2049])
def test_so_many_steps_are_the_first_of_all(memory: Ram, tmp_path: Path, piece: int, most: int) -> None:
    with (
        record(memory, tmp_path / "all.kxt", 100_000) as whole,
        record(memory, tmp_path / "some.kxt", piece, most) as some,
    ):
        assert some.steps == most
        assert [some.step(number) for number in range(most)] == [whole.step(number) for number in range(most)]
        assert some.memory(most).read(SOURCE, 8) == whole.memory(most).read(SOURCE, 8)


def test_a_cpu_without_el2_is_followed_at_el1(memory: Ram, tmp_path: Path) -> None:
    without_el2 = {"SCTLR_EL1": 0x30D0_0800, "TCR_EL1": 0}
    with record(memory, tmp_path / "el1.kxt", 2049, system=without_el2, el=EL1H) as trace:
        assert trace.step(0).word == CODE_WORDS[0]
        assert trace.memory(trace.steps).read(TARGET, PAGE_SIZE) == memory.read(SOURCE, PAGE_SIZE)
