"""A user's own QEMU: what its command line must not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.errors import EnvironmentProblem, UsageError
from kexecdbg.qemu.process import CommandLine, MachineOptions, QemuProcess

MORE_THAN_THERE_IS = 1 << 40


@pytest.mark.parametrize("option", ["-S", "-s", "-gdb", "--gdb", "--daemonize"])
def test_what_is_added_is_to_be_left_out(option: str) -> None:
    with pytest.raises(UsageError, match=f"leave {option} out of QEMU's command line"):
        CommandLine(["sh", "-m", "1G", option]).command(Path("unused"))


def test_a_program_is_needed() -> None:
    with pytest.raises(UsageError, match="is empty"):
        CommandLine([]).command(Path("unused"))
    with pytest.raises(EnvironmentProblem, match="no-such-qemu: not found"):
        CommandLine(["no-such-qemu"]).command(Path("unused"))


@pytest.mark.parametrize(
    ("name", "problem"), [("a" * 90, "too long for the path of a unix socket"), ("a,b", "a comma")]
)
def test_a_temporary_directory_that_will_not_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, problem: str
) -> None:
    directory = tmp_path / name
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    with pytest.raises(EnvironmentProblem, match=rf"/{name}: {problem}.*; set TMPDIR to another folder"):
        QemuProcess(MachineOptions(room_mib=MORE_THAN_THERE_IS))
    assert list(directory.iterdir()) == []
