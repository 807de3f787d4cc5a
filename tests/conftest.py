"""What all tests share: the folder a test lies in says what it needs, and Hypothesis does not watch the clock."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
MARKERS_BY_FOLDER = {"live": ["live"], "linux": ["live", "linux"]}
ONE_BY_ONE = {"test_scenarios.py", "test_flipped_bits.py"}
"""Live tests that share nothing; those of any other file share its fixtures and stay on one worker."""

settings.register_profile("kexecdbg", deadline=None, print_blob=True)
settings.load_profile("kexecdbg")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        for marker in MARKERS_BY_FOLDER.get(folder, []):
            item.add_marker(marker)
        if folder == "live" and item.path.name not in ONE_BY_ONE:
            item.add_marker(pytest.mark.xdist_group(item.path.name))
