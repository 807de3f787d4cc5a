"""What a recording starts from: the machine's registers and memory, and a new trace file with its header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kexecdbg.errors import TargetError
from kexecdbg.machine.gdb_remote import GdbRemote
from kexecdbg.machine.memory import PopulatedMemory, WritablePhysicalMemory
from kexecdbg.machine.memory_map import MemoryMap, memory_map_of
from kexecdbg.qemu.guest_memory import guest_memory
from kexecdbg.trace.recording.describe import describe
from kexecdbg.trace.recording.options import Engine, RecordingOptions
from kexecdbg.trace.writer import TraceWriter

SMALL_MEMORY = 64 << 20
"""Bytes of RAM ever written up to which all of it is recorded when nothing else is asked for."""

CPU_IS_HALTED = "the CPU is halted, in WFI or powered off"


@dataclass(frozen=True)
class Start:
    """A machine that is stopped where a recording starts, and the file that it goes to.

    Attributes:
        memory: the machine's physical memory.
        whole_memory: whether all of it that was ever written is to be recorded.
        writer: the file, with no steps yet.
    """

    memory: WritablePhysicalMemory
    whole_memory: bool
    writer: TraceWriter


def start_file(remote: GdbRemote, path: Path, options: RecordingOptions) -> Start:
    """Make the file for a recording of the machine behind ``remote``.

    Raises:
        TargetError: the machine does not answer, or is not QEMU's; or the CPU is to be stepped and cannot be.
        TraceError: the file exists or cannot be written.
    """
    registers = remote.read_registers(remote.register_names)
    memory = guest_memory(remote, registers)
    if options.engine is Engine.STEPPING and remote.is_halted(remote.thread):
        # QEMU would not answer the step before something wakes the CPU up.
        raise TargetError(f"{CPU_IS_HALTED}; it cannot be stepped")
    whole = options.whole_memory
    if whole is None:
        populated = memory.populated_ranges() if isinstance(memory, PopulatedMemory) else None
        whole = populated is not None and sum(end - begin for begin, end in populated) <= SMALL_MEMORY
    header = describe(
        remote,
        remote.description,
        memory_map_of(memory) or MemoryMap(()),
        engine=options.engine.value,
        whole_memory=whole,
        command_line=options.command_line,
        symbol_file=options.symbol_file,
        cpu=remote.threads.index(remote.thread),
        cpus=len(remote.threads),
    )
    state = {name: value for name, value in registers.items() if name in header.registers}
    return Start(memory, whole, TraceWriter(path, header, state))
