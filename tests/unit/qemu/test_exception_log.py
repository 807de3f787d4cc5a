"""QEMU's log of exceptions as 7.2.22 and 10.0.13 printed it (tests/data/qemu)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.qemu.exception_log import LoggedException, parse_exceptions

SAMPLES = Path(__file__).parents[2] / "data/qemu"
EXPECTED = [
    LoggedException("Undefined Instruction", 0, 2, 2, esr=0x0200_0000, far=None, elr=0x1_B308_0124),
    LoggedException("Prefetch Abort", 0, 2, 2, esr=0x8600_0007, far=0x1_B30A_0200, elr=0x1_B30A_0200),
    LoggedException("Prefetch Abort", 0, 1, 1, esr=0x8600_000F, far=0x1_8000_0028, elr=0x1_8000_0028),
]
"""What both versions have after a PSCI call, which the guest does not notice."""


@pytest.fixture(params=["7.2", "10.0"])
def log(request: pytest.FixtureRequest) -> str:
    return (SAMPLES / f"exceptions-{request.param}.txt").read_text()


def test_the_exceptions_that_reach_the_guest_in_order(log: str) -> None:
    assert list(parse_exceptions(log)) == EXPECTED


def test_a_log_that_is_still_being_written_has_the_exceptions_that_are_complete(log: str) -> None:
    cut = log.rindex("...with ELR")
    assert list(parse_exceptions(log[:cut])) == EXPECTED[:-1]


def test_other_cpus_are_told_apart(log: str) -> None:
    assert [e.cpu for e in parse_exceptions(log.replace("on CPU 0", "on CPU 13"))] == [13, 13, 13]


def test_nothing_logged() -> None:
    assert list(parse_exceptions("")) == []
