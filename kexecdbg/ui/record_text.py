"""What a recording comes to, as text and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kexecdbg.trace.recording.result import EndReason, RecordingResult
from kexecdbg.ui.style import Style, hanging

_COLUMN = 10


def result_json(file: Path, result: RecordingResult) -> dict[str, Any]:
    """A finished recording."""
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "steps": result.steps,
        "ended": result.reason.name.lower(),
        "remarks": list(result.remarks),
    }


def result_text(file: Path, result: RecordingResult, style: Style) -> str:
    """A finished recording, what is missing in it, and what can be done with it."""
    size = file.stat().st_size
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} KB"
    lines = [
        f"{style.bold(str(file))}: {result.steps:,} steps, {shown}",
        hanging("ended", result.reason.value, _COLUMN, style),
        *(hanging("missing", remark, _COLUMN, style) for remark in result.remarks),
        f"{'next':<{_COLUMN}}kexecdbg trace {file}",
        f"{'':<{_COLUMN}}kexecdbg replay {file}",
    ]
    return "\n".join(lines)


def open_json(file: Path, steps: int, reason: EndReason | None) -> dict[str, Any]:
    """A recording that goes on; ``reason`` is why nothing more is recorded, if that is so."""
    return {
        "file": str(file),
        "recording": True,
        "steps": steps,
        "ended": None if reason is None else reason.name.lower(),
    }


def open_text(file: Path, steps: int, reason: EndReason | None, style: Style) -> str:
    """A recording that goes on, and how to end it."""
    state = "recording" if reason is None else f"nothing more is recorded: {reason.value}"
    return "\n".join(
        [
            f"{style.bold(str(file))}: {steps:,} steps so far; {state}",
            f"{'next':<{_COLUMN}}continue and step as usual, then: kexec-record stop",
        ]
    )
