"""Debian's packages, without which these tests are skipped; and the course of a guest on each CPU."""

from __future__ import annotations

import os

import pytest

from kexecdbg.errors import PackagesUnavailable
from kexecdbg.lab.linux.packages import fetch_kernel, fetch_symbols
from tests.linux.course import COURSES, Course, take


@pytest.fixture(scope="session", autouse=True)
def packages() -> None:
    """Fetch what is not in the cache yet; where it cannot be had the tests are skipped, and say why."""
    try:
        fetch_symbols(fetch_kernel())
    except PackagesUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=COURSES)
def course(request: pytest.FixtureRequest, packages: None, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """What happened on one CPU from the first kernel's first instruction to the second one's init."""
    directory = tmp_path_factory.mktemp("dumps")
    try:
        return take(request.param, directory)
    finally:
        for dump in directory.iterdir():
            os.unlink(dump)
