"""How a scripted session fails: what was expected did not happen, it took too long, or it makes no sense here."""

from __future__ import annotations

from kexecdbg.errors import KexecdbgError, TargetError


class ExpectationFailed(KexecdbgError, AssertionError):
    """An ``expect_*`` was not met. The first line says what was expected and what came, the rest is the evidence."""


class TimedOut(TargetError):
    """What was asked for was not finished in time; the machine has been interrupted and is stopped."""


class NotInterrupted(TimedOut):
    """Nor did it come to its end when it was interrupted: GDB is still busy with it, and the machine may run."""


class GdbEnded(TargetError):
    """The GDB of the session is there no more: it ended by itself, crashed, or was killed."""


class Skip(KexecdbgError):
    """Raised by a check that makes no sense here; it is reported as skipped, with the message as the reason."""


class NotOnThisTarget(Skip):
    """The target cannot do what was asked for: a recording cannot be written to, and has no console."""
