"""A debug session for scripts: a machine, GDB with the kexecdbg commands, and nothing left behind."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TypedDict, Unpack

from kexecdbg.errors import EnvironmentProblem, TargetError, UsageError
from kexecdbg.session import target as targets
from kexecdbg.session.expectations import Expectations
from kexecdbg.session.failures import Skip
from kexecdbg.session.gdb import GdbSession
from kexecdbg.session.target import LinuxOptions, OpenTarget, Target

DEFAULT_TIMEOUT = 60.0
"""Seconds that an action may take; most take a fraction of one."""
_LOGS_PREFIX = "kexecdbg-logs-"
_NO_FAILURE = (Skip, KeyboardInterrupt, SystemExit, GeneratorExit)


class SessionOptions(TypedDict, total=False):
    """What every constructor of :class:`Session` takes; see there."""

    timeout: float
    logs: Path | None


class Session(Expectations):
    """A machine under GDB, from the start of the ``with`` block to its end.

    >>> with Session.lab("M01") as session:                                     # doctest: +SKIP
    ...     session.run_to_switch()
    ...     session.expect_faults("M01", esr=0x8600000F)

    When the block ends with an exception, what GDB was told and answered, the guest's console and QEMU's messages are
    kept in a folder that a note on the exception names. Nothing else is left behind, however the script ends.

    Args:
        target: what to run on: :func:`~kexecdbg.session.lab` and its like make it.
        timeout: seconds that each action may take, unless it is given a time of its own.
        logs: where to make the folder of a failed session; the temporary directory by default.

    Attributes:
        target: as given.
    """

    def __init__(self, target: Target, *, timeout: float = DEFAULT_TIMEOUT, logs: Path | None = None) -> None:
        self.target = target
        self.timeout = timeout
        self._logs = logs
        self._resources = ExitStack()
        self._transcript = io.StringIO()
        self._opened: tuple[OpenTarget, GdbSession] | None = None

    @classmethod
    def lab(cls, scenario: str, **options: Unpack[SessionOptions]) -> Session:
        """On a scenario of the lab; see :func:`kexecdbg.session.lab`."""
        return cls(targets.lab(scenario), **options)

    @classmethod
    def attach(
        cls, address: str, *, symbols: str | Path | None = None, resume: bool = False, **options: Unpack[SessionOptions]
    ) -> Session:
        """On a gdbstub that runs already; see :func:`kexecdbg.session.attach`."""
        return cls(targets.attach(address, symbols=symbols, resume=resume), **options)

    @classmethod
    def trace(
        cls,
        file: str | Path,
        *,
        state: str | int = "begin",
        symbols: str | Path | None = None,
        **options: Unpack[SessionOptions],
    ) -> Session:
        """On a recorded run; see :func:`kexecdbg.session.trace`."""
        return cls(targets.trace(file, state=state, symbols=symbols), **options)

    @classmethod
    def qemu(
        cls, arguments: Sequence[str], *, symbols: str | Path | None = None, **options: Unpack[SessionOptions]
    ) -> Session:
        """On a QEMU of its own; see :func:`kexecdbg.session.qemu`."""
        return cls(targets.qemu(arguments, symbols=symbols), **options)

    @classmethod
    def linux(
        cls,
        cpu: str = "cortex-a57",
        *,
        timeout: float = DEFAULT_TIMEOUT,
        logs: Path | None = None,
        **guest: Unpack[LinuxOptions],
    ) -> Session:
        """On a real kernel; see :func:`kexecdbg.session.linux`."""
        return cls(targets.linux(cpu, **guest), timeout=timeout, logs=logs)

    @property
    def _gdb(self) -> GdbSession:
        return self._both[1]

    @property
    def _target(self) -> OpenTarget:
        return self._both[0]

    @property
    def _both(self) -> tuple[OpenTarget, GdbSession]:
        if self._opened is None:
            raise UsageError(f"the session on {self.target.name} is not open; use it in a with statement")
        return self._opened

    def open(self) -> None:
        """Start what is needed and connect; a ``with`` statement does it.

        Raises:
            EnvironmentProblem: QEMU, GDB or another program is missing.
            TargetError: nothing answers at the target.
            TraceError: the file is no trace.
        """
        with ExitStack() as stack:
            stack.callback(self._forget)
            machine = stack.enter_context(self.target.open())
            gdb = stack.enter_context(GdbSession(transcript=self._transcript))
            self._connect(machine, gdb)
            if machine.qemu is None:
                stack.callback(self._leave, machine.resume)
            self._opened = machine, gdb
            if machine.symbols is not None:
                gdb.load_symbols(machine.symbols, seconds=self.timeout)
            if machine.start is not None:
                self.run_to(machine.start)
            self._resources = stack.pop_all()

    def _connect(self, machine: OpenTarget, gdb: GdbSession) -> None:
        try:
            gdb.connect(machine.address, self.timeout)
        except TargetError as error:
            # A QEMU that does not like its command line has ended by now, and has said why.
            if machine.qemu is None or not machine.qemu.log():
                raise
            raise EnvironmentProblem(f"QEMU did not start: {machine.qemu.log()}") from error

    def _leave(self, resume: bool) -> None:
        """Leave a machine that is not ours, which may have ended."""
        if not self.interrupt().ended:
            self._gdb.disconnect(resume)

    def close(self) -> None:
        """End GDB and what was started; harmless when that is done."""
        self._resources.close()

    def _forget(self) -> None:
        self._opened = None

    def _logs_or_why_not(self) -> str:
        try:
            return str(self._keep_logs())
        except OSError as error:
            return f"not kept: {error.filename}: {error.strerror}"

    def _keep_logs(self) -> Path:
        """Write down what was said, in a folder of its own."""
        if self._logs is not None:
            self._logs.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_LOGS_PREFIX, dir=self._logs))
        (folder / "gdb.txt").write_text(self._transcript.getvalue())
        if self._opened is not None and (qemu := self._target.qemu) is not None:
            (folder / "console.txt").write_text(qemu.console.text)
            (folder / "qemu.txt").write_text(qemu.log())
        return folder

    def __enter__(self) -> Session:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, _NO_FAILURE):
            error.add_note(f"logs of {self.target.name}: {self._logs_or_why_not()}")
        try:
            self.close()
        except TargetError:
            # GDB or the machine has gone already: the block's own error, if there is one, says more.
            if error is None:
                raise
