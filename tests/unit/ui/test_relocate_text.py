"""The progress bar of a relocation."""

from __future__ import annotations

import pytest

from kexecdbg.ui.relocate_text import progress_line

PAGE = 4096


@pytest.mark.parametrize(
    ("copied", "pages", "seconds", "expected"),
    [
        (0, 7290, 0.0, f"[{'.' * 30}] 0/7290 pages  0.0 MiB/s"),
        (3645, 7290, 0.5, f"[{'#' * 15}{'.' * 15}] 3645/7290 pages  28.5 MiB/s"),
        (7290, 7290, 1.0, f"[{'#' * 30}] 7290/7290 pages  28.5 MiB/s"),
    ],
)
def test_progress(copied: int, pages: int, seconds: float, expected: str) -> None:
    assert progress_line(copied, pages, seconds, PAGE) == expected


def test_the_bar_stays_on_one_line() -> None:
    assert len(progress_line(10**12, 10**12, 0.001, PAGE)) < 80
