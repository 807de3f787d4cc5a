"""GDB as a debugger of ours: registers by canonical name, physical memory, stepping.

Physical memory goes through QEMU's ``PhyMemMode`` packets (QEMU gdbstub.c, since 4.1), or straight to the file that
QEMU shares the guest's RAM in, found through the monitor.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path

import gdb

from kexecdbg.arm64.bits import mask
from kexecdbg.arm64.interfaces import HAVE_EL2
from kexecdbg.arm64.registers import canonical_name
from kexecdbg.errors import EnvironmentProblem, TargetError
from kexecdbg.machine.device_registers import check_is_register
from kexecdbg.machine.memory import SharedRamFile, WritablePhysicalMemory
from kexecdbg.machine.memory_map import MemoryMap
from kexecdbg.machine.state import CpuState
from kexecdbg.qemu.memory_tree import parse_flat_memory_tree

from . import cpus

_READ_CHUNK = 2048
"""Bytes per memory packet, the most that QEMU answers: its packets hold 4096 characters, two for each byte."""


class GdbRegisters:
    """Register values of the selected CPU at this stop, read when asked for."""

    def __init__(self) -> None:
        self._frame = gdb.newest_frame()
        self._names = _register_names(self._frame.architecture())
        self._values: dict[str, int | None] = {}

    def get(self, name: str, /) -> int | None:
        """The value, or ``None`` when the target does not have the register or cannot read it."""
        if name not in self._values:
            self._values[name] = self._read(name)
        return self._values[name]

    def names(self) -> tuple[str, ...]:
        """Canonical names of all registers that the target provides."""
        return tuple(self._names)

    def _read(self, name: str) -> int | None:
        if name == HAVE_EL2:
            # QEMU describes the system registers that the CPU has (target/arm/gdbstub.c); without EL2 there is no HCR.
            return 0 if "SCTLR_EL1" in self._names and "HCR_EL2" not in self._names else None
        gdb_name = self._names.get(name)
        if gdb_name is None:
            return None
        value = self._frame.read_register(gdb_name)
        if value.is_optimized_out:
            return None
        try:
            return int(value.cast(gdb.lookup_type("unsigned long"))) & mask(8 * value.type.sizeof)
        except gdb.MemoryError:
            return None  # GDB's way to say that the target calls the value unavailable


_names_of_architecture: dict[tuple[str, ...], dict[str, str]] = {}


def _register_names(architecture: gdb.Architecture) -> dict[str, str]:
    """GDB's register names by canonical name, as the target describes them."""
    gdb_names = tuple(descriptor.name for descriptor in architecture.registers())
    names = _names_of_architecture.get(gdb_names)
    if names is None:
        names = {}
        for gdb_name in gdb_names:
            canonical = canonical_name(gdb_name)
            # QEMU has duplicates (VBAR and VBAR_EL1 on some versions); the canonical spelling wins.
            if canonical is not None and (canonical not in names or gdb_name == canonical):
                names[canonical] = gdb_name
        _names_of_architecture[gdb_names] = names
    return names


class StubMemory:
    """Physical memory through the gdbstub, checked against the machine's memory map before each access."""

    def __init__(self, memory_map: MemoryMap) -> None:
        self.memory_map = memory_map
        self._mode: Callable[[], contextlib.AbstractContextManager[None]] = _physical_mode

    @contextlib.contextmanager
    def many_reads(self) -> Iterator[None]:
        """Switch the stub to physical addresses once for all reads inside; GDB must not read memory meanwhile."""
        with _physical_mode():
            self._mode = contextlib.nullcontext
            try:
                yield
            finally:
                self._mode = _physical_mode

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes; MemoryUnreadableError for a hole or a device."""
        self.memory_map.check_readable(address, size)
        data = bytearray()
        with self._mode():
            while len(data) < size:
                length = min(_READ_CHUNK, size - len(data))
                position = address + len(data)
                reply = _packet(f"m{position:x},{length:x}")
                if len(reply) != 2 * length:
                    raise TargetError(f"the gdbstub answered {reply!r} to a read of physical {position:#x}")
                data += bytes.fromhex(reply)
        return bytes(data)

    def read_device_register(self, address: int, size: int) -> int:
        """The device register at the physical address; MemoryUnreadableError where no device has one."""
        check_is_register(self.memory_map, address, size)
        with self._mode():
            reply = _packet(f"m{address:x},{size:x}")
        if len(reply) != 2 * size:
            raise TargetError(f"the gdbstub answered {reply!r} to a read of the device register at {address:#x}")
        return int.from_bytes(bytes.fromhex(reply), "little")

    def write(self, address: int, data: bytes) -> None:
        """Write RAM; MemoryUnreadableError for a hole or a device."""
        self.memory_map.check_readable(address, len(data))
        with self._mode():
            reply = _packet(f"M{address:x},{len(data):x}:{data.hex()}")
        if reply != "OK":
            raise TargetError(f"the gdbstub answered {reply!r} to a write of physical {address:#x}")


@contextlib.contextmanager
def _physical_mode() -> Iterator[None]:
    """Make the stub's memory packets use physical addresses, and go back to the mode it had."""
    mode = _packet("qqemu.PhyMemMode")
    if mode not in ("0", "1"):
        raise TargetError(
            f"this gdbstub cannot read physical memory: it answered {mode!r} to qqemu.PhyMemMode; QEMU has it since 4.1"
        )
    if mode == "0":
        _packet("Qqemu.PhyMemMode:1")
    try:
        yield
    finally:
        if mode == "0":
            _packet("Qqemu.PhyMemMode:0")


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
        return gdb.execute(f"monitor {command}", to_string=True)
    except gdb.error as error:
        raise TargetError(f"'monitor {command}' failed: {error}; is the target QEMU?") from error


def _shared_ram_file(fallback: StubMemory) -> WritablePhysicalMemory:
    """The file QEMU shares its RAM in, when there is one that we can open; else ``fallback``.

    The file is compared with what the stub reads, so that a file of the same name in another container is not used.
    """
    block = monitor("qom-get /machine memory-backend").strip().strip('"')
    name = block.rsplit("/", 1)[-1]
    if not block.startswith("/") or monitor(f"qom-get {block} share").strip() != "true":
        return fallback
    path = Path(monitor(f"qom-get {block} mem-path").strip().strip('"'))
    if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
        return fallback
    try:
        shared = SharedRamFile(path, name, fallback.memory_map, fallback)
    except EnvironmentProblem:
        return fallback
    if _same_memory(shared, fallback):
        return shared
    shared.close()
    return fallback


def _same_memory(shared: SharedRamFile, stub: StubMemory) -> bool:
    """Whether the file and the stub show the same RAM, compared where the CPU is working."""
    registers = GdbRegisters()
    addresses = [registers.get(name) for name in ("PC", "VBAR_EL1", "VBAR_EL2", "TTBR0_EL1", "TTBR1_EL1", "TTBR0_EL2")]
    samples = [a & 0x0000_FFFF_FFFF_F000 for a in addresses if a is not None]
    readable = [address for address in samples if stub.memory_map.is_memory(address)]
    return all(shared.read(address, 64) == stub.read(address, 64) for address in readable)


class GdbDebugger:
    """The debugger of the selected thread; made anew for each connection (see :func:`debugger`)."""

    @cached_property
    def memory(self) -> WritablePhysicalMemory:
        """Physical memory, by the fastest way there is."""
        return _shared_ram_file(StubMemory(parse_flat_memory_tree(monitor("info mtree -f"))))

    def state(self) -> CpuState:
        """The registers of the selected CPU."""
        return CpuState(GdbRegisters())

    def many_reads(self) -> contextlib.AbstractContextManager[None]:
        """Around many reads of physical memory without any other use of GDB: faster where they go through the stub."""
        return self.memory.many_reads() if isinstance(self.memory, StubMemory) else contextlib.nullcontext()

    def step(self) -> None:
        """Execute one instruction, the other CPUs held.

        Raises:
            TargetError: the CPU executes nothing: it waits in WFI, or is powered off.
        """
        cpu = cpus.selected_cpu()
        if cpu is not None and cpus.is_halted(cpu.number):
            # QEMU would not answer the step before something wakes the CPU up.
            raise TargetError("the CPU is halted, in WFI or powered off; it cannot be stepped")
        with _inside_command(), _other_cpus_held():
            gdb.execute("stepi", to_string=True)
        _check_alive()

    def run_to(self, addresses: Collection[int], seconds: float | None = None) -> int:
        """Run until the PC is one of ``addresses``; see :class:`kexecdbg.machine.debugger.Debugger`."""
        cpu = cpus.selected_cpu()
        breakpoints = [
            gdb.Breakpoint(f"*{address:#x}", type=gdb.BP_HARDWARE_BREAKPOINT, internal=True) for address in addresses
        ]
        try:
            for breakpoint in breakpoints:
                breakpoint.thread = gdb.selected_thread().global_num
            with _inside_command(), _interrupted_after(seconds):
                gdb.execute("continue", to_string=True)
        finally:
            for breakpoint in breakpoints:
                if breakpoint.is_valid():
                    breakpoint.delete()
        _check_alive()
        pc = self.state().require("PC", "where the machine stopped")
        stopped = cpus.selected_cpu()
        if pc not in addresses or stopped != cpu:
            where = f"{stopped.text} at" if stopped is not None and stopped != cpu else "at"
            expected = ", ".join(f"{address:#x}" for address in sorted(addresses)[:4])
            raise TargetError(f"the machine stopped {where} {pc:#x} before it reached {expected}")
        return pc

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
    _commands_stepping += 1
    try:
        with _no_stop_reports():
            yield
    finally:
        _commands_stepping -= 1


@contextlib.contextmanager
def _no_stop_reports() -> Iterator[None]:
    """Keep GDB from printing a line for each stop, where it has the setting (GDB 12 and later)."""
    setting = "suppress-cli-notifications"
    try:
        before = gdb.parameter(setting)
    except RuntimeError:
        yield
        return
    gdb.execute(f"set {setting} on", to_string=True)
    try:
        yield
    finally:
        gdb.execute(f"set {setting} {'on' if before else 'off'}", to_string=True)


@contextlib.contextmanager
def _other_cpus_held() -> Iterator[None]:
    """Let only the selected CPU execute: QEMU resumes the threads that a vCont packet names (gdbstub.c)."""
    before = gdb.parameter("scheduler-locking")
    if len(gdb.selected_inferior().threads()) == 1 or before == "on":
        yield
        return
    gdb.execute("set scheduler-locking on", to_string=True)
    try:
        yield
    finally:
        gdb.execute(f"set scheduler-locking {before}", to_string=True)


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


_debuggers: dict[int, GdbDebugger] = {}


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
