"""How a machine is recorded."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path

from kexecdbg.trace.recording.result import Limits


class Engine(enum.Enum):
    """How a machine is recorded."""

    STEPPING = "stepping"
    """Each instruction is stepped through the gdbstub: thousands a second, on any machine."""
    LOG = "log"
    """QEMU logs each instruction: a hundred thousand a second, on one CPU, with guest RAM in a shared file."""


@dataclass(frozen=True)
class RecordingOptions:
    """How to record.

    Attributes:
        engine: by stepping or from the log.
        limits: when to end.
        fold: run simple loops to their end and record each as one step.
        whole_memory: record all RAM that was ever written; ``None`` for when that is not more than
            :data:`kexecdbg.trace.recording.start.SMALL_MEMORY`.
        command_line: QEMU's, for the header.
        symbol_file: the guest's ELF file, for its build id.
    """

    engine: Engine = Engine.LOG
    limits: Limits = field(default_factory=Limits)
    fold: bool = True
    whole_memory: bool | None = None
    command_line: tuple[str, ...] = ()
    symbol_file: Path | None = None
