"""Exceptions in QEMU's log, several of which can follow one another without a state in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kexecdbg.machine.memory import BytesMemory
from kexecdbg.qemu.cpu_log import COLUMNS, SP, LoggedStates
from kexecdbg.qemu.exception_log import LoggedException
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.recording.log.reconstruction import LogReconstruction
from kexecdbg.trace.recording.log.snapshot import RamSnapshot
from kexecdbg.trace.writer import TraceWriter
from tests.unit.trace.test_log_loops import CODE, EL2H, RAM, SYSTEM, Ram

STACK, VECTOR = RAM + 0x8000, RAM + 0x2200


def exception(elr: int) -> LoggedException:
    """An Instruction Abort at ``elr``, from EL2 to EL2 on the same stack."""
    return LoggedException("Prefetch Abort", 0, 2, 2, 0x8600_000F, elr, elr, pc=VECTOR, pstate=EL2H)


def test_the_stack_stays_when_a_vector_cannot_be_fetched(tmp_path: Path) -> None:
    # What QEMU has in SP_EL2 while the CPU is on that stack is stale.
    state = {f"X{number}": 0 for number in range(31)} | SYSTEM
    state |= {"SP": STACK, "SP_EL2": 0, "ESR_EL2": 0, "PC": CODE, "PSTATE": EL2H}
    memory: BytesMemory = Ram({RAM: bytes(0x10_0000)})
    registers = np.zeros((1, COLUMNS), np.uint64)
    registers[0, SP] = STACK
    logged = LoggedStates(
        np.array([VECTOR], np.uint64),
        registers,
        np.array([EL2H], np.uint32),
        ((0, exception(CODE)), (0, exception(VECTOR))),
    )
    header = TraceHeader(engine="log", registers=tuple(state), regions=Ram.memory_map.regions)
    with TraceWriter(tmp_path / "spins.kxt", header, state) as writer:
        LogReconstruction(writer, RamSnapshot(memory, CODE), most_repeats=4, fold=True).take(logged, more_comes=False)
    with Trace.open(tmp_path / "spins.kxt") as trace:
        assert trace.steps == 2
        assert [trace.state(number).get("SP") for number in range(3)] == [STACK] * 3
