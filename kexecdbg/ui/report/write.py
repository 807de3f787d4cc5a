"""Writes a report to a file, and says what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kexecdbg.errors import EnvironmentProblem
from kexecdbg.ui.json_form import number
from kexecdbg.ui.report.page import report_html
from kexecdbg.ui.report.subject import Subject
from kexecdbg.ui.style import Style, hanging
from kexecdbg.ui.verdict_text import what_is_judged

_COLUMN = 10


def write_report(subject: Subject, path: Path, style: Style) -> tuple[dict[str, Any], str]:
    """Write the report on ``subject`` to ``path``, over what is there; the JSON document and the text about it.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    page = report_html(subject).encode()
    try:
        path.write_bytes(page)
    except OSError as error:
        raise EnvironmentProblem(
            f"{path}: cannot write the report: {error.strerror}; choose another -o FILE"
        ) from error
    verdict = subject.verdict
    word = subject.judgement.name
    document: dict[str, Any] = {
        "file": str(path),
        "bytes": len(page),
        "reason": subject.reason or None,
        "verdict": subject.judgement.value,
    }
    if verdict is None:
        document |= {"site": None, "findings": []}
        lines = [hanging(f"{word}:", subject.reason, len(word) + 2)]
    else:
        findings = [finding.id for finding in verdict.findings]
        document |= {"site": number(verdict.situation.site), "findings": findings}
        lines = [hanging(f"{word}:", what_is_judged(verdict.situation), len(word) + 2)]
        if findings:
            lines.append(hanging("findings", " ".join(findings), _COLUMN, style))
    label = style.bold("report") + " " * (_COLUMN - len("report"))
    lines.append(f"{label}{path}, {len(page) / 1000:,.0f} KB, for a browser")  # a path is not wrapped
    return document, "\n".join(lines)
