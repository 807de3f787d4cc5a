"""What all tests share: the folder a test lies in says what it needs, and Hypothesis does not watch the clock."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

TESTS = Path(__file__).parent
MARKERS_BY_FOLDER = {"live": ["live"], "linux": ["live", "linux"]}
ONE_BY_ONE = {"test_scenarios.py", "test_flipped_bits.py"}
"""Live tests that share nothing; those of any other file share its fixtures and stay on one worker."""
COURSE = re.compile(r"with(out)? VHE")
"""The parameter of tests/linux that a whole session's fixture goes by (tests/linux/course.py)."""

settings.register_profile("kexecdbg", deadline=None, print_blob=True)
settings.load_profile("kexecdbg")


def pytest_configure() -> None:
    """Have what tests start not depend on the shell that runs the tests.

    A shell without job control has what it runs in its background ignore SIGINT; programs hand that down, and Python
    leaves it so. COLUMNS, where it is exported, is the width of help texts.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("COLUMNS", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        for marker in MARKERS_BY_FOLDER.get(folder, []):
            item.add_marker(marker)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """With ``--dist loadgroup``, our own groups: pytest-xdist 3.8 does not see its marks with pytest 9.2."""
    return _Groups(config, log) if config.getvalue("dist") == "loadgroup" else None


class _Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Sends tests that share a fixture to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, test = nodeid.partition("::")
        _, folder, *_, file = path.split("/")
        course = COURSE.search(test)
        if folder == "linux" and course is not None:
            return course.group()
        return nodeid if folder == "linux" or file in ONE_BY_ONE else path
