"""What can go wrong between us and a gdbstub."""

from __future__ import annotations

from kexecdbg.errors import TargetError

_SHOWN = 80


class RemoteError(TargetError):
    """The stub answered something else than it should, or nothing.

    Attributes:
        sent: the packet that was sent, without framing.
        received: what came back; ``None`` when nothing did.
    """

    def __init__(self, sent: str, received: str | None, problem: str) -> None:
        self.sent = sent
        self.received = received
        came = "nothing came back" if received is None else f"{_shortened(received)!r} came back"
        super().__init__(f"gdbstub: {problem} (sent {_shortened(sent)!r}, {came})")


class MachineEndedError(RemoteError):
    """The machine has ended: it was powered off, or its QEMU or the connection to it is gone."""


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
