"""The report of recorded runs (tests/traces): which switch it finds in each, and what it shows of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.trace.reader import Trace
from kexecdbg.ui.report.of_trace import subject_of_trace
from kexecdbg.ui.report.page import report_html
from tests.unit.ui.freeze import Page

TRACES = Path(__file__).parents[2] / "traces"


@pytest.mark.parametrize(
    ("name", "title", "shown"),
    [
        ("freeze-2019", "FAULTS", ["✓ as predicted", "bit 54, XN, is 1: this decides", "65 pages of 4K are copied"]),
        ("repaired-2019", "SOUND", ["✓ as predicted. The CPU ran on", "✓ No destination overlaps a source"]),
        ("K01", "FAULTS", ["✓ as predicted. Recorded in step"]),
        ("K06", "FAULTS", ["✕ overlap, 4 KiB", "0x1b324b000 to 0x1b324bfff is filled, and is a source"]),
        ("M04", "FAULTS", ["WXN: this decides"]),
        ("M06", "FAULTS", ["BADDR: this decides", "takes an Address size fault"]),
        ("M13", "FAULTS", ["✕ not as predicted. The recorded CPU ran on", "QEMU lets some things pass"]),
        ("M30", "SOUND", ["M30 The MMU is on already", "msr sctlr_el2, x5"]),
        ("vhe-jump", "SOUND", ["changes the EL2&0 translation with the MMU on", "more runs; kexec-image --list"]),
        ("nvhe-exit", "UNKNOWN", ["Nothing in this recording switches an MMU on"]),
    ],
)
def test_recordings(name: str, title: str, shown: list[str]) -> None:
    with Trace.open(TRACES / f"{name}.kxt") as trace:
        html = report_html(subject_of_trace(trace))
    page = Page(html)
    assert page.text.startswith(f"{title}: {name}.kxt")
    assert [words for words in shown if words not in page.text] == []
    assert "This cannot be told" not in page.text
    assert len(html) < 130_000


def first_finding(path: Path) -> str:
    with Trace.open(path) as trace:
        verdict = subject_of_trace(trace).verdict
    return verdict.findings[0].id if verdict is not None and verdict.findings else "none"


def test_of_every_defect_its_own_finding_comes_first() -> None:
    recorded = sorted(TRACES.glob("[KM][0-9][0-9].kxt"))
    assert len(recorded) >= 44
    assert {path.stem: first_finding(path) for path in recorded} == {path.stem: path.stem for path in recorded}
