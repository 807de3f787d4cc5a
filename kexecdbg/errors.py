"""The package's own exceptions.

Everything that can go wrong for a user is one of these. A message says what was tried, what came back and,
where there is something to do, what to do next; it is printed as it stands, on one line.
"""

from __future__ import annotations


class KexecdbgError(Exception):
    """Base of every error that is meant for the user."""


class UsageError(KexecdbgError):
    """The command line or an address expression cannot be understood; the message says what to type."""


class EnvironmentProblem(KexecdbgError):
    """A program, package or file that is needed is missing or does not work; the message says what to install."""


class PackagesUnavailable(EnvironmentProblem):
    """Packages that are fetched on first use cannot be had here: no archive, no network, no room for them."""


class TargetError(KexecdbgError):
    """The debugged machine did not do what was asked: no connection, it died, or it is not AArch64."""


class CodeUnwritableError(TargetError):
    """The target lets nobody write its code, as a recording does; nothing has been changed."""


class RegisterUnknownError(KexecdbgError):
    """A register that the answer depends on could not be read.

    Attributes:
        name: the canonical Arm name, for instance ``HCR_EL2``.
    """

    def __init__(self, name: str, needed_for: str, remedy: str = "") -> None:
        self.name = name
        remedy = remedy or f"give its value with --assume {name}=VALUE"
        super().__init__(f"{name} is unknown and {needed_for} depends on it; {remedy}")


class MemoryUnreadableError(KexecdbgError):
    """Physical memory that could not be read: a hole, a device, or a read that failed.

    Attributes:
        address: first physical address that was asked for.
        size: number of bytes that were asked for.
        reason: why it cannot be read, as a phrase.
    """

    def __init__(self, address: int, size: int, reason: str) -> None:
        self.address = address
        self.size = size
        self.reason = reason
        super().__init__(f"physical memory {address:#x}, {size} bytes: {reason}")


class ArchitectureError(KexecdbgError):
    """A configuration the architecture reserves, or one this tool does not decode (for instance D128)."""


class TraceError(KexecdbgError):
    """A trace file that cannot be written, or is foreign, of another version, or damaged where it matters."""
