"""One QEMU process: RAM in a shared file, gdbstub and monitor on private sockets, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from kexecdbg.errors import EnvironmentProblem, TargetError, UsageError
from kexecdbg.qemu import supervisor
from kexecdbg.qemu.private_directory import PrivateDirectory
from kexecdbg.qemu.serial_console import SerialConsole

_RAM = "ram"
_LONGEST_PARENT = 107 - len("/kexecdbg-12345678/gdb.sock")
"""Bytes of the folder's path: a unix socket's has 107 (unix(7), sun_path)."""
_SECONDS_TO_END = 0.5
"""From QEMU's sockets being closed to its end."""
_SECONDS_TO_BE_REPORTED = 30.0
"""From QEMU's end to the supervisor's word on it."""


def qemu_program() -> str:
    """The QEMU to run: ``KEXECDBG_QEMU`` (a program) when set, else ``qemu-system-aarch64`` on the path.

    Raises:
        EnvironmentProblem: there is none; the message says what to install.
    """
    wanted = os.environ.get("KEXECDBG_QEMU", "qemu-system-aarch64")
    found = shutil.which(wanted)
    if found is None:
        raise EnvironmentProblem(f"{wanted}: not found; install it (Debian: apt-get install qemu-system-arm)")
    return found


@dataclass(frozen=True)
class MachineOptions:
    """What to emulate.

    Attributes:
        cpu: QEMU's CPU model, for instance ``cortex-a57`` (no VHE) or ``max``.
        ram_mib: RAM in MiB, from 0x40000000 up.
        machine: further properties of the ``virt`` machine.
        room_mib: MiB that must be free where the RAM file goes, which is sparse: what the guest will touch.
        prepare: called with the private directory before QEMU starts; puts files there and returns further QEMU
            arguments (loader devices).
    """

    cpu: str = "cortex-a57"
    ram_mib: int = 8192
    machine: str = "virtualization=on"
    room_mib: int = 256
    prepare: Callable[[Path], Sequence[str]] = field(default=lambda directory: ())

    def command(self, directory: Path) -> list[str]:
        """QEMU's command line, but for what :class:`QemuProcess` adds, with RAM in a shared file in ``directory``."""
        return [
            qemu_program(),
            # ACPI tables take time to make, and there is no firmware that would pass them on.
            "-machine", f"virt,acpi=off,memory-backend=ram,{self.machine}",
            "-cpu", self.cpu,
            "-m", f"{self.ram_mib}M",
            "-object", f"memory-backend-file,id=ram,size={self.ram_mib}M,mem-path={directory / _RAM},share=on",
            "-nodefaults", "-no-user-config", "-no-reboot",
            *self.prepare(directory),
        ]  # fmt: skip


_OURS = {"-S", "-s", "-gdb", "-qmp", "-daemonize"}


@dataclass(frozen=True)
class CommandLine:
    """A machine of the user's own.

    Attributes:
        arguments: QEMU's command line, the program first; without ``-S``, ``-gdb`` and ``-qmp``, which are added.
        room_mib: MiB that must be free where QEMU's sockets and log go.
    """

    arguments: Sequence[str]
    room_mib: int = 1

    def command(self, directory: Path) -> list[str]:
        """The command line.

        Raises:
            UsageError: it is empty, or has an option that is added here.
            EnvironmentProblem: there is no such program.
        """
        if not self.arguments:
            raise UsageError("QEMU's command line is empty; give the program and its arguments")
        # QEMU takes --gdb for -gdb.
        taken = [argument for argument in self.arguments if {argument, argument.removeprefix("-")} & _OURS]
        if taken:
            raise UsageError(f"leave {' '.join(taken)} out of QEMU's command line; what has to be there is added")
        program, *arguments = self.arguments
        found = shutil.which(program)
        if found is None:
            raise EnvironmentProblem(f"{program}: not found; give QEMU's program first, then its arguments")
        return [found, *arguments]


class QemuProcess:
    """A QEMU with the ``virt`` machine, stopped before its first instruction (use as a context manager).

    When the target fails in the context because QEMU has ended with an error, that is what the context's error says.

    >>> with QemuProcess(MachineOptions(cpu="cortex-a57")) as qemu:          # doctest: +SKIP
    ...     print(qemu.gdb_socket, qemu.monitor("info version"))

    Attributes:
        directory: private directory (mode 0700) with the RAM file, the gdbstub's socket and QEMU's log.
        gdb_socket: path of the gdbstub's unix socket.
        ram_file: path of the file that holds the guest's RAM, shared; not there with a :class:`CommandLine`.
        console: what the guest prints.
    """

    def __init__(self, options: MachineOptions | CommandLine) -> None:
        self._private = PrivateDirectory(_directory_for_ram(options.room_mib << 20))
        self.directory = self._private.path
        self.gdb_socket = self.directory / "gdb.sock"
        self.ram_file = self.directory / _RAM
        self._exit_status: int | None = None
        self._qmp: Any = None
        qmp_ours, qmp_theirs = socket.socketpair()
        console_ours, console_theirs = socket.socketpair()
        gdb_listener = socket.socket(socket.AF_UNIX)
        try:
            gdb_listener.bind(str(self.gdb_socket))
            gdb_listener.listen(1)
            theirs = (qmp_theirs, console_theirs, gdb_listener)
            self._supervisor = self._start(options, [part.fileno() for part in theirs])
        except BaseException:
            qmp_ours.close()
            console_ours.close()
            self._private.remove()
            raise
        finally:
            for part in (qmp_theirs, console_theirs, gdb_listener):
                part.close()
        self._qmp_socket = qmp_ours
        self.console = SerialConsole(console_ours)
        self._pidfd: int | None = None
        self.pid = self._await_pid()
        with contextlib.suppress(ProcessLookupError):  # it has ended, and the supervisor has taken note of that
            self._pidfd = os.pidfd_open(self.pid)

    def _start(self, options: MachineOptions | CommandLine, descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
        qmp, console, gdb = descriptors
        program, *arguments = options.command(self.directory)
        # First: of several serial ports the guest's console is the first one, and of several displays the last counts.
        command = [
            program,
            "-S", "-display", "none",
            "-chardev", f"socket,id=qmp,fd={qmp}", "-mon", "chardev=qmp,mode=control",
            "-chardev", f"socket,id=console,fd={console}", "-serial", "chardev:console",
            "-chardev", f"socket,id=gdb,fd={gdb},server=on,wait=off", "-gdb", "chardev:gdb",
            *arguments,
        ]  # fmt: skip
        fds = ",".join(str(number) for number in descriptors)
        return subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", supervisor.__file__),
                *(str(self.directory), str(self._private.lock), fds),
                *command,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a line that has come is seen by poll() until it is read
            pass_fds=[*descriptors, self._private.lock],
            start_new_session=True,
        )

    def _await_pid(self) -> int:
        assert self._supervisor.stdout is not None
        word, _, number = self._supervisor.stdout.readline().decode().partition(" ")
        if word == "pid":
            return int(number)
        log = self.log()
        self.close()
        raise EnvironmentProblem(f"QEMU did not start: {log or 'no message'}")

    def log(self) -> str:
        """What QEMU itself printed (its errors), on one line."""
        try:
            return "; ".join((self.directory / "qemu.log").read_text(errors="replace").split("\n")).strip("; ")
        except FileNotFoundError:
            return ""

    def _connection(self) -> Any:
        if self._qmp is None:
            # Imported late: asyncio costs 60 ms, and a debug session may never need the monitor.
            from qemu.qmp import QMPError
            from qemu.qmp.legacy import QEMUMonitorProtocol

            qmp = QEMUMonitorProtocol(self._qmp_socket)
            try:
                qmp.connect()
            except (QMPError, OSError, EOFError) as error:
                raise EnvironmentProblem(f"QEMU did not start: {self.log() or error}") from error
            self._qmp = qmp
        return self._qmp

    def command(self, name: str, arguments: dict[str, object] | None = None) -> Any:
        """Run a QMP command and return its ``return`` member.

        Raises:
            TargetError: QEMU answered with an error, or has ended.
        """
        from qemu.qmp import QMPError

        try:
            reply = self._connection().cmd_obj({"execute": name, "arguments": arguments or {}})
        except (QMPError, OSError, EOFError) as error:
            raise TargetError(f"QMP command {name} failed: {error}; QEMU says: {self.log() or 'nothing'}") from error
        if "error" in reply:
            raise TargetError(f"QMP command {name} {arguments}: {reply['error']['desc']}")
        return reply["return"]

    def monitor(self, line: str) -> str:
        """The answer of the human monitor to ``line``."""
        return str(self.command("human-monitor-command", {"command-line": line}))

    def wait_exit(self, seconds: float) -> int:
        """QEMU's exit status, waiting at most ``seconds`` for it.

        Raises:
            TargetError: it still runs, or nobody can tell.
        """
        if self._exit_status is None:
            assert self._supervisor.stdout is not None
            word = select.poll()
            word.register(self._supervisor.stdout, select.POLLIN)
            if not word.poll(seconds * 1000):
                self._supervisor.terminate()
                raise TargetError(f"QEMU still ran after {seconds:g} s; it was ended")
            line = self._supervisor.stdout.readline().decode()
            if not line.startswith("exit "):
                raise TargetError("the process that watches over QEMU was killed, and QEMU with it")
            self._exit_status = int(line.split()[1])
        return self._exit_status

    def close(self) -> None:
        """End QEMU and remove the private directory; harmless when it has ended already."""
        if self._qmp is not None:
            qmp, self._qmp = self._qmp, None
            # QEMU has closed it already when GDB ended the machine.
            with contextlib.suppress(EOFError, OSError):
                qmp.close()
        if self._supervisor.stdin and not self._supervisor.stdin.closed:
            self._supervisor.stdin.close()
        self._supervisor.wait()
        if self._supervisor.stdout:
            self._supervisor.stdout.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        self.console.close()
        self._qmp_socket.close()
        self._private.remove()

    def _own_end(self) -> str:
        """How QEMU has ended, if with an error, and what it said; else nothing."""
        is_closed = self._supervisor.stdout is None or self._supervisor.stdout.closed
        if is_closed or not self._has_ended():
            return ""
        try:
            status = self.wait_exit(_SECONDS_TO_BE_REPORTED)
        except TargetError as problem:
            return str(problem)
        if not status:
            return ""
        how = f"ended with status {status}"
        if status < 0:
            how = f"was killed by signal {-status} ({signal.strsignal(-status)})"
        return f"QEMU {how}: {self.log() or 'it said nothing'}"

    def _has_ended(self) -> bool:
        """Whether it has; its sockets, by which its end is noticed, close a little earlier."""
        if self._pidfd is None:
            return True
        end = select.poll()
        end.register(self._pidfd, select.POLLIN)
        return bool(end.poll(_SECONDS_TO_END * 1000))

    def __enter__(self) -> QemuProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end = self._own_end() if isinstance(error, TargetError) else ""
        self.close()
        if end:
            raise TargetError(end) from error


def _directory_for_ram(room: int) -> str:
    """Where to put the RAM file: /dev/shm when it is writable and has ``room`` bytes, else the temporary directory.

    Raises:
        EnvironmentProblem: nothing of ours can be in the temporary directory, for its name.
    """
    shm = "/dev/shm"
    if os.access(shm, os.W_OK | os.X_OK):
        status = os.statvfs(shm)
        if status.f_bavail * status.f_frsize >= room:
            return shm
    directory = tempfile.gettempdir()
    problem = ""
    if "," in directory:
        problem = "a comma ends QEMU's options"
    elif len(os.fsencode(directory)) > _LONGEST_PARENT:
        problem = "too long for the path of a unix socket in it"
    if problem:
        raise EnvironmentProblem(
            f"{directory}: {problem}; set TMPDIR to another folder, for instance /tmp ({shm} has too little room)"
        )
    return directory
