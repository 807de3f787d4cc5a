"""What a session can run on: a lab scenario, a gdbstub, a trace, a QEMU of the user's own, a real kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypedDict, Unpack

from kexecdbg.errors import UsageError
from kexecdbg.lab.boot import LabMachine, boot
from kexecdbg.lab.linux.guest import LinuxGuest, LinuxMachine, boot_linux
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.scenarios import find_scenarios
from kexecdbg.qemu.process import CommandLine, QemuProcess

KernelStop = Literal["start", "init", "loaded"]


@dataclass(frozen=True)
class OpenTarget:
    """A target that GDB can connect to.

    Attributes:
        address: what follows ``target remote``.
        symbols: ELF file with the symbols of what runs there.
        qemu: its QEMU, when it is ours; it ends with the target.
        lab: the lab machine, when it is one.
        linux: the Linux machine, when it is one.
        recorded: it is a trace.
        start: address to run to first, or ``None``.
        resume: let the machine run on when the session ends; it is left stopped otherwise.
    """

    address: str
    symbols: Path | None = None
    qemu: QemuProcess | None = None
    lab: LabMachine[LabGuest] | None = None
    linux: LinuxMachine | None = None
    recorded: bool = False
    start: int | None = None
    resume: bool = False


class Target(Protocol):
    """The description of a target; :class:`~kexecdbg.session.Session` opens it."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def open(self) -> AbstractContextManager[OpenTarget]:
        """A context with the :class:`OpenTarget`; what was started for it ends with the context."""
        ...


@dataclass(frozen=True)
class LabTarget:
    """A scenario of the lab; see :func:`lab`."""

    scenario: str

    @property
    def name(self) -> str:
        """See :class:`Target`."""
        return f"lab {self.scenario}"

    @contextmanager
    def open(self) -> Iterator[OpenTarget]:
        """See :class:`Target`."""
        scenarios = find_scenarios([self.scenario])
        if len(scenarios) != 1:
            raise UsageError(f"{self.scenario}: {len(scenarios)} scenarios; a session runs on one")
        with boot(scenarios[0].guest.build()) as machine:
            address, start = str(machine.qemu.gdb_socket), machine.guest.judged_from
            yield OpenTarget(address, machine.symbol_file, machine.qemu, lab=machine, start=start)


@dataclass(frozen=True)
class AttachTarget:
    """A gdbstub that runs already; see :func:`attach`."""

    address: str
    symbols: Path | None
    resume: bool

    @property
    def name(self) -> str:
        """See :class:`Target`."""
        return f"the gdbstub at {self.address}"

    @contextmanager
    def open(self) -> Iterator[OpenTarget]:
        """See :class:`Target`."""
        yield OpenTarget(self.address, self.symbols, resume=self.resume)


@dataclass(frozen=True)
class TraceTarget:
    """A recorded run; see :func:`trace`."""

    file: Path
    state: str
    symbols: Path | None

    @property
    def name(self) -> str:
        """See :class:`Target`."""
        return f"trace {self.file.name}"

    @contextmanager
    def open(self) -> Iterator[OpenTarget]:
        """See :class:`Target`."""
        # Imported late: it is half of what a script's start would take, and most scripts run on no trace.
        from kexecdbg.session.replay_on_pipe import gdb_target

        yield OpenTarget(gdb_target(self.file, self.state), self.symbols, recorded=True)


@dataclass(frozen=True)
class QemuTarget:
    """A QEMU with a command line of the user's own; see :func:`qemu`."""

    arguments: tuple[str, ...]
    symbols: Path | None

    @property
    def name(self) -> str:
        """See :class:`Target`."""
        return Path(self.arguments[0]).name if self.arguments else "qemu"

    @contextmanager
    def open(self) -> Iterator[OpenTarget]:
        """See :class:`Target`."""
        with QemuProcess(CommandLine(self.arguments)) as process:
            yield OpenTarget(str(process.gdb_socket), self.symbols, process)


@dataclass(frozen=True)
class LinuxTarget:
    """A real kernel; see :func:`linux`."""

    guest: LinuxGuest
    stop: KernelStop

    @property
    def name(self) -> str:
        """See :class:`Target`."""
        return f"linux on {self.guest.cpu}"

    @contextmanager
    def open(self) -> Iterator[OpenTarget]:
        """See :class:`Target`."""
        with boot_linux(self.guest) as machine:
            if self.stop != "start":
                machine.start()
                machine.wait_init()
            if self.stop == "loaded":
                machine.load_second()
            if self.stop != "start":
                machine.qemu.command("stop")
            if self.stop == "loaded":
                machine.execute()
            # With KASLR the symbols are of no use until the kernel has placed itself.
            symbols = None if self.guest.kaslr else machine.symbol_file
            yield OpenTarget(str(machine.qemu.gdb_socket), symbols, machine.qemu, linux=machine)


def lab(scenario: str) -> LabTarget:
    """The scenario with this id (``kexecdbg lab list``) in a QEMU of its own, stopped where it is judged from."""
    return LabTarget(scenario)


def attach(address: str, *, symbols: str | Path | None = None, resume: bool = False) -> AttachTarget:
    """The gdbstub at ``address``, HOST:PORT or a unix socket's path.

    Args:
        symbols: ELF file with the symbols of what runs there.
        resume: let the machine run on when the session ends; it is left stopped otherwise.
    """
    return AttachTarget(address, _path(symbols), resume)


def trace(file: str | Path, *, state: str | int = "begin", symbols: str | Path | None = None) -> TraceTarget:
    """A trace that ``kexecdbg record`` has made.

    Args:
        state: where to start: a state's number, ``begin``, ``end`` or ``first-fault``.
        symbols: ELF file with the symbols of what was recorded.
    """
    return TraceTarget(Path(file), str(state), _path(symbols))


def qemu(arguments: Sequence[str], *, symbols: str | Path | None = None) -> QemuTarget:
    """A QEMU with this command line, the program first, stopped before its first instruction.

    The gdbstub, a monitor and a serial port, the machine's first, are added to it, on private sockets.
    """
    return QemuTarget(tuple(arguments), _path(symbols))


class LinuxOptions(TypedDict, total=False):
    """What :func:`linux` takes.

    Attributes:
        stop: where the session starts: before the first instruction (the default), in init, or with the second kernel
            loaded and ``kexec -e`` about to run.
        ram_mib: RAM in MiB.
        kaslr: the kernels place themselves at random, and symbols are not loaded.
        its: with the GIC's ITS, which the second kernel does not survive.
        append: further kernel parameters.
        no_checks: purgatory verifies no digests, which is most of the time of a kexec under TCG.
        kernel: an arm64 Image of your own.
        vmlinux: the kernel's ELF file, or ``debian`` for the one of Debian's kernel.
    """

    stop: KernelStop
    ram_mib: int
    kaslr: bool
    its: bool
    append: str
    no_checks: bool
    kernel: str | Path | None
    vmlinux: str | Path | None


def linux(cpu: str = "cortex-a57", **options: Unpack[LinuxOptions]) -> LinuxTarget:
    """A real kernel, Debian's unless another is given, with a second one to kexec; see ``kexecdbg linux --help``.

    ``cpu`` is QEMU's CPU model: ``cortex-a57`` has no VHE, ``max`` has.
    """
    guest = LinuxGuest(
        cpu=cpu,
        ram_mib=options.get("ram_mib", LinuxGuest.ram_mib),
        kaslr=options.get("kaslr", False),
        its=options.get("its", False),
        append=options.get("append", ""),
        no_checks=options.get("no_checks", False),
        kernel=_path(options.get("kernel")),
        vmlinux=_path(options.get("vmlinux")),
    )
    return LinuxTarget(guest, options.get("stop", "start"))


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
