"""The verdict on a situation."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kexecdbg.checks.finding import Finding
from kexecdbg.checks.prediction import Prediction

# What a verdict is made of; who only reads verdicts need not import all that makes them.
if TYPE_CHECKING:
    from kexecdbg.checks.situation import Situation


class Judgement(enum.Enum):
    """The verdict in one word."""

    FAULTS = "faults"
    SOUND = "sound"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """What is known about a write before it is made.

    Attributes:
        situation: what was judged.
        judgement: whether the CPU will fault, at the switch or later, or run something else than intended.
        findings: the worst first.
        prediction: what the CPU will do.
    """

    situation: Situation
    judgement: Judgement
    findings: tuple[Finding, ...]
    prediction: Prediction
