"""QEMU's log of exceptions as 7.2.22 and 10.0.13 printed it (tests/data/qemu)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kexecdbg.qemu.exception_log import LoggedException, parse_exceptions

SAMPLES = Path(__file__).parents[2] / "data/qemu"
EXPECTED = [
    LoggedException(
        "Undefined Instruction", 0, 2, 2, 0x0200_0000, None, 0x1_B308_0124, 0x8000_03C9, 0x1_B30A_0200, 0x3C9
    ),
    LoggedException("Prefetch Abort", 0, 2, 2, 0x8600_0007, 0x1_B30A_0200, 0x1_B30A_0200, 0x3C9, 0x1_B30A_0200, 0x3C9),
    LoggedException("Prefetch Abort", 0, 1, 1, 0x8600_000F, 0x1_8000_0028, 0x1_8000_0028, 0x3C5, 0x1_8002_0200, 0x3C5),
]
"""What both versions have after a PSCI call, which the guest does not notice; 7.2 without the SPSR."""


@pytest.fixture(params=["7.2", "10.0"])
def version(request: pytest.FixtureRequest) -> str:
    version: str = request.param
    return version


@pytest.fixture
def log(version: str) -> str:
    return (SAMPLES / f"exceptions-{version}.txt").read_text()


@pytest.fixture
def expected(version: str) -> list[LoggedException]:
    return EXPECTED if version == "10.0" else [replace(exception, spsr=None) for exception in EXPECTED]


def test_the_exceptions_that_reach_the_guest_in_order(log: str, expected: list[LoggedException]) -> None:
    assert list(parse_exceptions(log)) == expected


def test_a_log_that_is_still_being_written_has_the_exceptions_that_are_complete(
    log: str, expected: list[LoggedException]
) -> None:
    cut = log.rindex("...with ELR")
    assert list(parse_exceptions(log[:cut])) == expected[:-1]


def test_other_cpus_are_told_apart(log: str) -> None:
    assert [e.cpu for e in parse_exceptions(log.replace("on CPU 0", "on CPU 13"))] == [13, 13, 13]


def test_nothing_logged() -> None:
    assert list(parse_exceptions("")) == []
