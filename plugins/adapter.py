"""GDB as a debugger of ours: registers by canonical name, physical memory, stepping.

Physical memory goes straight to the file that QEMU shares the guest's RAM in, or through packets to the gdbstub.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property

import gdb

from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, accessed_register, decode_instruction
from kexecdbg.arm64.regimes import current_el
from kexecdbg.errors import CodeUnwritableError, TargetError
from kexecdbg.machine.control_registers import control_registers, keeps_what_is_written
from kexecdbg.machine.cpu_view_memory import CpuViewMemory
from kexecdbg.machine.memory import WritablePhysicalMemory
from kexecdbg.machine.memory_map import MappedMemory
from kexecdbg.machine.state import CpuState
from kexecdbg.machine.stub_memory import StubMemory
from kexecdbg.qemu.guest_memory import any_memory

from . import cpus, during_command, last_check
from .gdb_registers import GdbRegisters, register_names
from .gdb_stub import GdbStub

_STEP_ATTEMPTS = 3
"""A step on a busy host was seen to end where it began, before the instruction (QEMU 7.2, -cpu max)."""


class GdbDebugger:
    """The debugger of the selected thread; made anew for each connection (see :func:`debugger`).

    Registers that the target does not provide are what the user said (:meth:`take_as_read`), or what instructions that
    were stepped here wrote, until the machine runs unwatched.
    """

    def __init__(self) -> None:
        self._given: dict[str, int] = {}
        self._written: dict[int, dict[str, int]] = {}
        self._identification: dict[int, dict[str, int]] = {}

    @cached_property
    def memory(self) -> WritablePhysicalMemory:
        """Physical memory, by the fastest way there is."""
        return any_memory(GdbStub(), self.state)

    def state(self) -> CpuState:
        """The registers of the selected CPU."""
        thread = gdb.selected_thread().global_num
        registers = GdbRegisters(self._identification.setdefault(thread, {}))
        return CpuState(registers).with_missing({**self._given, **self._written.get(thread, {})})

    def take_as_read(self, values: Mapping[str, int]) -> None:
        """Have :meth:`state` give ``values`` for registers that the target does not provide, during this command."""
        self._given.update(values)

    def end_of_command(self) -> tuple[str, ...]:
        """Forget what was given for one command; how memory was read in it: :meth:`memory_remarks`."""
        self._given.clear()
        remarks, memory = self.memory_remarks(), self.__dict__.get("memory")
        if isinstance(memory, CpuViewMemory):
            memory.forget_uses()
        return remarks

    def memory_remarks(self) -> tuple[str, ...]:
        """How memory was read in this command, one sentence part each; empty where its physical addresses were read."""
        memory = self.__dict__.get("memory")
        remarks = memory.remarks() if isinstance(memory, CpuViewMemory) else ()
        if (
            isinstance(memory, MappedMemory)
            and memory.memory_map is None
            and (remarks or isinstance(memory, StubMemory))
        ):
            remarks += ("the target does not tell where RAM is (no QEMU monitor); an address without RAM is not found",)
        return remarks

    def ran_unwatched(self) -> None:
        """Forget what instructions were seen to write: others have been executed since."""
        self._written.clear()

    def many_reads(self) -> contextlib.AbstractContextManager[None]:
        """Around many reads of physical memory, faster where they go through the stub; registers can be read in it."""
        return self.memory.many_reads(alone=False) if isinstance(self.memory, StubMemory) else contextlib.nullcontext()

    def step(self) -> None:
        """Execute one instruction, the other CPUs held.

        Raises:
            TargetError: the CPU executes nothing: it waits in WFI, or is powered off.
        """
        cpu = cpus.selected_cpu()
        if cpu is not None and cpus.is_halted(cpu.number):
            # QEMU would not answer the step before something wakes the CPU up.
            raise TargetError("the CPU is halted, in WFI or powered off; it cannot be stepped")
        thread = gdb.selected_thread().global_num
        before, written = self._written.get(thread, {}), {} if self.has_system_registers else self._write_ahead()
        during_command.hold_other_cpus()
        with during_command.inside_command():
            gdb.execute("stepi", to_string=True)
        _check_alive()
        if written and self.state().get("PC") == written.pop("PC"):
            before = {**before, **written}
        if before:
            self._written[thread] = before

    @cached_property
    def has_system_registers(self) -> bool:
        """Whether the target provides the registers that decide about translation; those of boards often do not."""
        return "SCTLR_EL1" in register_names(gdb.newest_frame().architecture())

    def _write_ahead(self) -> dict[str, int]:
        """The system register that the next instruction writes, and the PC after it; nothing if it writes none."""
        state = self.state()
        pc = state.get("PC")
        if pc is None:
            return {}
        try:
            word = int.from_bytes(gdb.selected_inferior().read_memory(pc, INSTRUCTION_SIZE).tobytes(), "little")
        except gdb.MemoryError:
            return {}
        move = decode_instruction(word, pc).system_move
        if move is None or not move.is_write:
            return {}
        el, e2h = current_el(state), effective_e2h(state)
        reached = {accessed_register(move.register, el, each) for each in ((True, False) if e2h is None else (e2h,))}
        value = 0 if move.general == "XZR" else state.get(move.general)
        register = reached.pop()
        if reached or value is None or not keeps_what_is_written(register):
            return {}
        return {register: value, "PC": pc + INSTRUCTION_SIZE}

    def run_to(self, addresses: Collection[int], seconds: float | None = None) -> int:
        """Run until the PC is one of ``addresses``; see :class:`kexecdbg.machine.debugger.Debugger`."""
        cpu = cpus.selected_cpu()
        pc = self._run_to_breakpoints(addresses, seconds, {}, gdb.selected_thread())
        stopped = cpus.selected_cpu()
        if pc not in addresses or stopped != cpu:
            where = f"{stopped.text} at" if stopped is not None and stopped != cpu else "at"
            expected = ", ".join(f"{address:#x}" for address in sorted(addresses)[:4])
            raise TargetError(f"the machine stopped {where} {pc:#x} before it reached {expected}")
        return pc

    def run(self, stops: Collection[int], seconds: float | None, passes: Mapping[int, int]) -> int:
        """Run all CPUs; see :class:`kexecdbg.checks.relocating.control.RelocationControl`."""
        return self._run_to_breakpoints(stops, seconds, passes, None)

    def _run_to_breakpoints(
        self,
        addresses: Collection[int],
        seconds: float | None,
        passes: Mapping[int, int],
        thread: gdb.InferiorThread | None,
    ) -> int:
        """Run with hardware breakpoints, those of one thread if it is given; the PC where the machine stopped."""
        breakpoints = []
        try:
            for address in addresses:
                breakpoint = gdb.Breakpoint(f"*{address:#x}", type=gdb.BP_HARDWARE_BREAKPOINT, internal=True)
                breakpoints.append(breakpoint)
                breakpoint.ignore_count = passes.get(address, 0)
                if thread is not None:
                    breakpoint.thread = thread.global_num
            with during_command.inside_command(), _interrupted_after(seconds):
                gdb.execute("continue", to_string=True)
        except gdb.error as error:
            raise TargetError(f"the machine could not be run on: {error}") from error
        finally:
            for breakpoint in breakpoints:
                if breakpoint.is_valid():
                    breakpoint.delete()
        _check_alive()
        return self.state().require("PC", "where the machine stopped")

    def execute_instead(self, word: int) -> CpuState:
        """Execute ``word`` once; see :class:`kexecdbg.checks.relocating.control.RelocationControl`."""
        before = self.state()
        pc, x9 = before.require("PC", "which instruction to replace"), before.require("X9", "what to put back")
        inferior = gdb.selected_inferior()
        # Through GDB, not the shared file: QEMU has to notice that code has changed.
        original = inferior.read_memory(pc, INSTRUCTION_SIZE).tobytes()
        try:
            inferior.write_memory(pc, word.to_bytes(INSTRUCTION_SIZE, "little"))
        except gdb.MemoryError as error:
            raise CodeUnwritableError(f"the target lets nobody write its code, as a recording does: {error}") from error
        try:
            for _ in range(_STEP_ATTEMPTS):
                self.step()
                after = self.state()
                # Read now: the registers belong to this stop.
                values = {name: value for name in ("PC", "X9") if (value := after.get(name)) is not None}
                if values.get("PC") != pc:
                    break
        finally:
            inferior.write_memory(pc, original)
        if values.get("PC") != pc + INSTRUCTION_SIZE:
            raise TargetError(f"{word:#010x} was not executed at {pc:#x}: the PC is {values.get('PC', 0):#x} after it")
        self.write_register("X9", x9)
        self.write_register("PC", pc)
        return CpuState(values)

    def running_cpus(self) -> tuple[int, ...]:
        """The other CPUs that execute; see :class:`kexecdbg.checks.relocating.control.RelocationControl`."""
        selected = cpus.selected_cpu()
        return tuple(cpu.number for cpu in cpus.cpus() if cpu != selected and cpus.is_halted(cpu.number) is False)

    def on_cpu(self, number: int) -> contextlib.AbstractContextManager[None]:
        """Work on CPU ``number``; see :class:`kexecdbg.checks.relocating.control.RelocationControl`."""
        return cpus.on_cpu(number)

    def write_register(self, name: str, value: int) -> None:
        """Set a register and read it back; QEMU's stub drops writes to system registers."""
        gdb_name = register_names(gdb.newest_frame().architecture()).get(name)
        if gdb_name is None:
            raise TargetError(f"{name}: this target does not provide it")
        gdb.execute(f"set ${gdb_name} = {value:#x}", to_string=True)
        found = GdbRegisters().get(name)
        if found != value:
            raise TargetError(
                f"{name}: wrote {value:#x} and read back {found:#x}; QEMU's gdbstub drops writes to system registers"
                if found is not None
                else f"{name}: wrote {value:#x}, but it cannot be read back"
            )


@contextlib.contextmanager
def _interrupted_after(seconds: float | None) -> Iterator[None]:
    """Interrupt the running target after ``seconds`` as Ctrl-C would."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)) if seconds else None
    if timer:
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()


@contextlib.contextmanager
def given_away() -> Iterator[tuple[str, int]]:
    """Leave the gdbstub to somebody else for a while: its address, and the number of the selected CPU.

    The machine stays stopped where it is (QEMU 7.2 and 10.0, gdbstub.c, gdb_chr_event()). Afterwards GDB is connected
    again, with the same CPU selected, unless the machine has ended meanwhile.

    Raises:
        TargetError: there is no target that can be given away.
    """
    debugger()
    connection, cpu = gdb.selected_inferior().connection, cpus.selected_cpu()
    if not isinstance(connection, gdb.RemoteTargetConnection) or not connection.details or cpu is None:
        raise TargetError("not connected to a gdbstub; use target remote HOST:PORT or target remote PATH")
    address, how = connection.details, connection.type
    put_back = last_check.kept()
    with during_command.inside_command():
        gdb.execute("disconnect", to_string=True)
        try:
            yield address, cpu.number
        finally:
            with contextlib.suppress(gdb.error):  # the machine is gone; the next command says so
                gdb.execute(f"target {how} {address}", to_string=True)
                cpus.select(cpu.number)
                put_back()


_debuggers: dict[int, GdbDebugger] = {}


def _continued(event: gdb.ThreadEvent) -> None:
    for each in _debuggers.values():
        each.ran_unwatched()


gdb.events.cont.connect(_continued)


def lacking() -> str:
    """Which registers a target without system registers does not tell, as a clause; empty for one that has them."""
    if debugger().has_system_registers:
        return ""
    state = debugger().state()
    names = [name for name in control_registers(current_el(state)) if state.get(name) is None]
    told = f"of this exception level the target does not tell {', '.join(names)}"
    return f"{told}; kexec-step sees what the code ahead writes" if names else ""


def end_of_command() -> tuple[str, ...]:
    """See :meth:`GdbDebugger.end_of_command`; of every connection. GDB's settings are again what they were."""
    during_command.put_back()
    return tuple(remark for each in _debuggers.values() for remark in each.end_of_command())


def debugger() -> GdbDebugger:
    """The debugger of the present connection.

    Raises:
        TargetError: there is no target, it runs, or it is not AArch64.
    """
    _check_alive()
    thread = gdb.selected_thread()
    if thread.is_running():
        raise TargetError("the target is running; interrupt it first (Ctrl-C, or the command interrupt)")
    architecture = gdb.newest_frame().architecture().name()
    if not architecture.startswith("aarch64"):
        raise TargetError(f"the target is {architecture}, not AArch64")
    connection = gdb.selected_inferior().connection
    key = connection.num if connection is not None else 0
    if key not in _debuggers:
        _debuggers.clear()
        _debuggers[key] = GdbDebugger()
    return _debuggers[key]


def _check_alive() -> None:
    if gdb.selected_thread() is None:
        raise TargetError("no target; connect first: target remote HOST:PORT, or target remote PATH of a unix socket")
