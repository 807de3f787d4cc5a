"""A user's own QEMU: what its command line must not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.errors import EnvironmentProblem, UsageError
from kexecdbg.qemu.process import CommandLine


@pytest.mark.parametrize("option", ["-S", "-s", "-gdb", "--gdb", "--daemonize"])
def test_what_is_added_is_to_be_left_out(option: str) -> None:
    with pytest.raises(UsageError, match=f"leave {option} out of QEMU's command line"):
        CommandLine(["sh", "-m", "1G", option]).command(Path("unused"))


def test_a_program_is_needed() -> None:
    with pytest.raises(UsageError, match="is empty"):
        CommandLine([]).command(Path("unused"))
    with pytest.raises(EnvironmentProblem, match="no-such-qemu: not found"):
        CommandLine(["no-such-qemu"]).command(Path("unused"))
