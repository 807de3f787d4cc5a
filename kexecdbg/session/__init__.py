"""Debug sessions driven from outside: GDB with our commands loaded, through GDB/MI.

For scripts: :class:`Session`, what it runs on (:func:`lab`, :func:`attach`, :func:`trace`, :func:`qemu`,
:func:`linux`), what it answers, and how it fails. ``docs/sessions.md`` says how to write a script.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kexecdbg.checks.finding import Finding, Severity
    from kexecdbg.checks.prediction import ExceptionRecord, Outcome, Prediction
    from kexecdbg.checks.verdict import Judgement
    from kexecdbg.session.failures import ExpectationFailed, NotOnThisTarget, Skip, TimedOut
    from kexecdbg.session.registers import Registers
    from kexecdbg.session.results import (
        Diagnosis,
        ExecutedInstruction,
        Fix,
        LoadedImage,
        MappedRange,
        Observation,
        Relocation,
        Stop,
        Switch,
        TableSummary,
        Verdict,
        Walk,
        WalkLevel,
    )
    from kexecdbg.session.session import Session
    from kexecdbg.session.target import Target, attach, lab, linux, qemu, trace

_RESULTS = "kexecdbg.session.results"
_TARGET = "kexecdbg.session.target"
_FAILURES = "kexecdbg.session.failures"
_HOMES = {
    "Diagnosis": _RESULTS,
    "ExceptionRecord": "kexecdbg.checks.exceptions",
    "ExecutedInstruction": _RESULTS,
    "ExpectationFailed": _FAILURES,
    "Finding": "kexecdbg.checks.finding",
    "Fix": _RESULTS,
    "Judgement": "kexecdbg.checks.verdict",
    "LoadedImage": _RESULTS,
    "MappedRange": _RESULTS,
    "NotOnThisTarget": _FAILURES,
    "Observation": _RESULTS,
    "Outcome": "kexecdbg.checks.prediction",
    "Prediction": "kexecdbg.checks.prediction",
    "Registers": "kexecdbg.session.registers",
    "Relocation": _RESULTS,
    "Session": "kexecdbg.session.session",
    "Severity": "kexecdbg.checks.finding",
    "Skip": _FAILURES,
    "Stop": _RESULTS,
    "Switch": _RESULTS,
    "TableSummary": _RESULTS,
    "Target": _TARGET,
    "TimedOut": _FAILURES,
    "Verdict": _RESULTS,
    "Walk": _RESULTS,
    "WalkLevel": _RESULTS,
    "attach": _TARGET,
    "lab": _TARGET,
    "linux": _TARGET,
    "qemu": _TARGET,
    "trace": _TARGET,
}
"""Where each public name is defined. It is imported when it is asked for: GDB loads the commands, which share a
constant with this package, without waiting for all of it."""

__all__ = [
    "Diagnosis",
    "ExceptionRecord",
    "ExecutedInstruction",
    "ExpectationFailed",
    "Finding",
    "Fix",
    "Judgement",
    "LoadedImage",
    "MappedRange",
    "NotOnThisTarget",
    "Observation",
    "Outcome",
    "Prediction",
    "Registers",
    "Relocation",
    "Session",
    "Severity",
    "Skip",
    "Stop",
    "Switch",
    "TableSummary",
    "Target",
    "TimedOut",
    "Verdict",
    "Walk",
    "WalkLevel",
    "attach",
    "lab",
    "linux",
    "qemu",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
