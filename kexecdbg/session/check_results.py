"""What became of checks, and how a script's process tells it to the one that started it."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


class CheckOutcome(enum.Enum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    TIMED_OUT = "timed out"
    ERROR = "error"
    """It could not be run: the script or the environment is at fault."""

    @property
    def is_good(self) -> bool:
        """Whether it does not make its script fail."""
        return self in (CheckOutcome.PASSED, CheckOutcome.SKIPPED)


@dataclass(frozen=True)
class CheckResult:
    """What became of one check.

    Attributes:
        name: the check's; empty when the script as a whole could not be run.
        outcome: how it ended.
        reason: the error's first line, or why it was skipped; empty when it passed.
        details: the evidence, and where in the script it happened, line by line.
        output: what the check printed, line by line.
        seconds: how long it took.
    """

    name: str
    outcome: CheckOutcome
    reason: str = ""
    details: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class ScriptResult:
    """What became of one script.

    Attributes:
        name: the script, as it was given.
        checks: the results so far, all of them at the end.
    """

    name: str
    checks: tuple[CheckResult, ...]

    @property
    def outcome(self) -> CheckOutcome:
        """The worst of its checks: an error, else a failure; skipped when all were skipped."""
        outcomes = {check.outcome for check in self.checks}
        for bad in (CheckOutcome.ERROR, CheckOutcome.TIMED_OUT, CheckOutcome.FAILED):
            if bad in outcomes:
                return bad
        return CheckOutcome.SKIPPED if outcomes == {CheckOutcome.SKIPPED} else CheckOutcome.PASSED


@dataclass(frozen=True)
class Plan:
    """What a script will do: the names of its checks, in order."""

    checks: tuple[str, ...]


Message = Plan | CheckResult


def pack(message: Message) -> bytes:
    """One line that :func:`unpack` reads."""
    if isinstance(message, Plan):
        document: dict[str, Any] = {"plan": message.checks}
    else:
        document = asdict(message) | {"outcome": message.outcome.name}
    return json.dumps(document).encode() + b"\n"


def unpack(line: bytes) -> Message:
    """The message in a line."""
    document = json.loads(line)
    if "plan" in document:
        return Plan(tuple(document["plan"]))
    lines: dict[str, Sequence[str]] = {name: tuple(document.pop(name)) for name in ("details", "output")}
    return CheckResult(**document | lines | {"outcome": CheckOutcome[document["outcome"]]})
