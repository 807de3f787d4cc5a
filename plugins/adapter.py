"""GDB as a debugger of ours: registers by canonical name, physical memory, stepping.

Physical memory goes straight to the file that QEMU shares the guest's RAM in, or through packets to the gdbstub.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from functools import cache, cached_property

import gdb

from kexecdbg.arm64.bits import mask
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, accessed_register, decode_instruction
from kexecdbg.arm64.interfaces import HAVE_EL2
from kexecdbg.arm64.regimes import current_el
from kexecdbg.arm64.register_names import canonical_name
from kexecdbg.errors import TargetError
from kexecdbg.machine.control_registers import control_registers, keeps_what_is_written
from kexecdbg.machine.cpu_view_memory import CpuViewMemory
from kexecdbg.machine.memory import WritablePhysicalMemory
from kexecdbg.machine.memory_map import MappedMemory
from kexecdbg.machine.state import CpuState
from kexecdbg.machine.stub_memory import StubMemory
from kexecdbg.qemu.guest_memory import any_memory

from . import cpus, last_check, monitor_hook

_STEP_ATTEMPTS = 3
"""A step on a busy host was seen to end where it began, before the instruction (QEMU 7.2, -cpu max)."""


class GdbRegisters:
    """Register values of the selected CPU at this stop, read when asked for.

    ``identification`` has what is known of the CPU's ID registers, which never change, and gets what is read of them.
    """

    def __init__(self, identification: dict[str, int] | None = None) -> None:
        self._frame = gdb.newest_frame()
        self._names = _register_names(self._frame.architecture())
        self._identification = {} if identification is None else identification
        self._values: dict[str, int | None] = {**self._identification}

    def get(self, name: str, /) -> int | None:
        """The value, or ``None`` when the target does not have the register or cannot read it."""
        if name not in self._values:
            value = self._values[name] = self._read(name)
            if value is not None and name.startswith("ID_"):
                self._identification[name] = value
        return self._values[name]

    def names(self) -> tuple[str, ...]:
        """Canonical names of all registers that the target provides."""
        return tuple(self._names)

    def _read(self, name: str) -> int | None:
        if name == HAVE_EL2:
            # QEMU describes the system registers that the CPU has (target/arm/gdbstub.c); without EL2 there is no HCR.
            # Another stub may leave registers out that the CPU has.
            lacks_hcr = "SCTLR_EL1" in self._names and "HCR_EL2" not in self._names
            return 0 if lacks_hcr and StubMemory.is_possible(GdbStub()) else None
        gdb_name = self._names.get(name)
        if gdb_name is None:
            return None
        try:
            value = self._frame.read_register(gdb_name)
            if value.is_optimized_out:
                return None
            return int(value.cast(gdb.lookup_type("unsigned long"))) & mask(8 * value.type.sizeof)
        except gdb.error as error:
            # GDB's ways to say that the target calls the value unavailable, or answers that it cannot read it
            # (gdb/remote.c, fetch_register_using_p(); OpenOCD, of a higher exception level's registers).
            refused = ("not available", "Could not fetch register")
            if isinstance(error, gdb.MemoryError) or any(text in str(error) for text in refused):
                return None
            raise


@cache
def _register_names(architecture: gdb.Architecture) -> dict[str, str]:
    """GDB's register names by canonical name, as the target describes them."""
    names: dict[str, str] = {}
    for descriptor in architecture.registers():
        canonical = canonical_name(descriptor.name)
        # QEMU has duplicates (VBAR and VBAR_EL1 on some versions); the canonical spelling wins.
        if canonical is not None and (canonical not in names or descriptor.name == canonical):
            names[canonical] = descriptor.name
    return names


def _packet(text: str) -> str:
    connection = gdb.selected_inferior().connection
    if not isinstance(connection, gdb.RemoteTargetConnection):
        raise TargetError("not connected to a gdbstub; use target remote HOST:PORT or target remote PATH")
    reply = connection.send_packet(text)
    return reply.decode("latin-1") if reply is not None else ""


def monitor(command: str) -> str:
    """What QEMU's monitor answers to ``command``.

    Raises:
        TargetError: the target has no monitor.
    """
    try:
        with monitor_hook.off():
            return gdb.execute(f"monitor {command}", to_string=True)
    except gdb.error as error:
        raise TargetError(f"'monitor {command}' failed: {error}; is the target QEMU?") from error


class GdbStub:
    """The gdbstub that GDB is connected to, for packets and monitor commands of our own."""

    def packet(self, text: str, /) -> str:
        """Send a packet and return the answer; see :func:`_packet`."""
        return _packet(text)

    def monitor(self, command: str, /) -> str:
        """See :func:`monitor`."""
        return monitor(command)


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

    def many_reads(self, alone: bool = True) -> contextlib.AbstractContextManager[None]:
        """Around many reads of physical memory, faster where they go through the stub; see StubMemory.many_reads()."""
        return self.memory.many_reads(alone) if isinstance(self.memory, StubMemory) else contextlib.nullcontext()

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
        if gdb.parameter(_LOCKING) != "on":
            # The other CPUs are held in a step: QEMU resumes the threads that a vCont packet names (gdbstub.c).
            _set_during_command(_LOCKING, "step")
        with _inside_command():
            gdb.execute("stepi", to_string=True)
        _check_alive()
        if written and self.state().get("PC") == written.pop("PC"):
            before = {**before, **written}
        if before:
            self._written[thread] = before

    @cached_property
    def has_system_registers(self) -> bool:
        """Whether the target provides the registers that decide about translation; those of boards often do not."""
        return "SCTLR_EL1" in _register_names(gdb.newest_frame().architecture())

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
            with _inside_command(), _interrupted_after(seconds):
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
            raise TargetError(f"the target lets nobody change its code, as a recording does: {error}") from error
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
        gdb_name = _register_names(gdb.newest_frame().architecture()).get(name)
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


_commands_stepping = 0


def stepping_inside_command() -> bool:
    """Whether the present stop is one of many inside a command of ours, not one that the user sees."""
    return _commands_stepping > 0


@contextlib.contextmanager
def _inside_command() -> Iterator[None]:
    global _commands_stepping
    _set_during_command(_NO_STOP_REPORTS, "on")
    _commands_stepping += 1
    try:
        yield
    finally:
        _commands_stepping -= 1


_LOCKING = "scheduler-locking"
_NO_STOP_REPORTS = "suppress-cli-notifications"
"""Keeps GDB from printing a line for each stop; GDB has it since version 12."""
_settings_before: dict[str, str] = {}


def _set_during_command(setting: str, value: str) -> None:
    """Change a setting of GDB, if it has it, until :func:`end_of_command`; each change is a line of GDB/MI output."""
    try:
        found = gdb.parameter(setting)
    except RuntimeError:
        return
    before = found if isinstance(found, str) else "on" if found else "off"
    if before != value:
        _settings_before.setdefault(setting, before)
        gdb.execute(f"set {setting} {value}", to_string=True)


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
    with _inside_command():
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
    for setting, before in tuple(_settings_before.items()):
        if setting == _LOCKING and not gdb.selected_inferior().pid:
            # A machine that has ended has no scheduler to lock: GDB refuses, and has it off (infrun.c,
            # set_schedlock_func). The next command with a machine puts it back.
            continue
        gdb.execute(f"set {setting} {before}", to_string=True)
        del _settings_before[setting]
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
