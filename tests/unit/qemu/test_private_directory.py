"""Private directories: made, removed, and swept when nobody holds them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from kexecdbg.errors import EnvironmentProblem
from kexecdbg.qemu.private_directory import PrivateDirectory, remove_abandoned
from kexecdbg.qemu.process import qemu_program


def abandoned(parent: Path) -> Path:
    """A directory whose owner was killed: everything of it is there but the lock."""
    directory = PrivateDirectory(str(parent))
    (directory.path / "ram").write_bytes(b"x")
    fcntl.flock(directory.lock, fcntl.LOCK_UN)
    return directory.path


def test_it_is_private_and_goes_with_the_context(tmp_path: Path) -> None:
    with PrivateDirectory(str(tmp_path)) as path:
        assert path.parent == tmp_path
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_removing_twice_is_harmless(tmp_path: Path) -> None:
    directory = PrivateDirectory(str(tmp_path))
    directory.remove()
    directory.remove()
    assert list(tmp_path.iterdir()) == []


def test_an_abandoned_one_goes_with_the_next_start(tmp_path: Path) -> None:
    old = abandoned(tmp_path)
    with PrivateDirectory(str(tmp_path)) as new:
        assert list(tmp_path.iterdir()) == [new] != [old]


def test_an_inherited_descriptor_keeps_it(tmp_path: Path) -> None:
    """As the supervisor's does after the program itself was killed."""
    directory = PrivateDirectory(str(tmp_path))
    inherited = os.dup(directory.lock)
    os.close(directory.lock)
    directory.lock = -1
    remove_abandoned(str(tmp_path))
    assert directory.path.is_dir()
    os.close(inherited)
    remove_abandoned(str(tmp_path))
    assert not directory.path.exists()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "kexecdbg-notes").mkdir()
    (tmp_path / "kexecdbg-file").touch()
    target = abandoned(tmp_path / "kexecdbg-notes")
    (tmp_path / "kexecdbg-link").symlink_to(target)
    remove_abandoned(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kexecdbg-file", "kexecdbg-link", "kexecdbg-notes"]
    assert target.is_dir()


def test_the_program_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEXECDBG_QEMU", "/bin/true")
    assert qemu_program() == "/bin/true"
    monkeypatch.setenv("KEXECDBG_QEMU", "/nonexistent/qemu")
    with pytest.raises(EnvironmentProblem, match="/nonexistent/qemu: not found; install it"):
        qemu_program()
