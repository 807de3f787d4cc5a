"""Ends what the live tests of this process share."""

from __future__ import annotations

from tests.live.machines import AT_THE_END


def pytest_sessionfinish() -> None:
    AT_THE_END.close()
