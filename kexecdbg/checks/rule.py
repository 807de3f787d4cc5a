"""What an entry of the catalogue is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.situation import Situation


@dataclass(frozen=True)
class Rule:
    """One entry of the catalogue.

    Attributes:
        id: ``M01``; ids are kept for ever.
        title: what is wrong, as a heading.
        explanation: why it is wrong and how it shows, for ``kexecdbg checks M01``.
        sources: where it was seen or is written down.
        check: yields the findings of this rule in a situation.
        severity: the worst that it reports.
        symptom: what somebody sees who does not know the cause yet.
    """

    id: str
    title: str
    explanation: str
    sources: tuple[str, ...]
    check: Callable[[Situation], Iterable[Finding]]
    severity: Severity = field(default=Severity.FATAL, kw_only=True)
    symptom: str = field(kw_only=True)
