"""Raw files as physical memory: what is read, what is refused, and with which words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kexecdbg.errors import EnvironmentProblem, KexecdbgError, MemoryUnreadableError, UsageError
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.memory_files import MemoryFile, MemoryFiles, parse_memory_file

BASE = 0x4000_0000


def stored(directory: Path, data: bytes, name: str = "ram.bin") -> Path:
    path = directory / name
    path.write_bytes(data)
    return path


def test_the_last_at_sign_counts() -> None:
    assert parse_memory_file("dumps@home/ram.bin@0x40000000") == MemoryFile(Path("dumps@home/ram.bin"), BASE)


@pytest.mark.parametrize(
    "text", ["ram.bin", "@0x40000000", "ram.bin@", "ram.bin@40g", "ram.bin@-1", f"ram.bin@{1 << 56}"]
)
def test_what_is_no_file_and_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--memory ") as refusal:
        parse_memory_file(text)
    assert "\n" not in str(refusal.value)


def test_files_next_to_each_other_read_as_one(tmp_path: Path) -> None:
    first, second = stored(tmp_path, b"\x11" * 0x1000), stored(tmp_path, b"\x22" * 0x1000, "more.bin")
    with MemoryFiles([MemoryFile(second, BASE + 0x1000), MemoryFile(first, BASE)]) as memory:
        assert memory.read(BASE + 0xFFC, 8) == b"\x11" * 4 + b"\x22" * 4


@pytest.mark.parametrize("address", [BASE - 1, BASE + 0xFF9, BASE + 0x1000, 0])
def test_what_is_not_in_a_file_is_unread_not_zero(tmp_path: Path, address: int) -> None:
    memory = MemoryFiles([MemoryFile(stored(tmp_path, bytes(0x1000)), BASE)])
    with memory, pytest.raises(MemoryUnreadableError, match="not part of what was given"):
        memory.read(address, 8)


def test_what_no_file_has_comes_from_the_memory_behind(tmp_path: Path) -> None:
    behind = BytesMemory({BASE: b"\x33" * 0x2000})
    with MemoryFiles([MemoryFile(stored(tmp_path, b"\x11" * 0x1000), BASE)], behind) as memory:
        assert (memory.read(BASE, 4), memory.read(BASE + 0x1000, 4)) == (b"\x11" * 4, b"\x33" * 4)


def test_a_sparse_file_of_a_terabyte(tmp_path: Path) -> None:
    path = tmp_path / "ram.bin"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
        os.pwrite(stream.fileno(), b"descript", 1 << 39)
    with MemoryFiles([MemoryFile(path, BASE)]) as memory:
        assert memory.read(BASE + (1 << 39), 8) == b"descript"


def test_files_that_overlap_are_refused(tmp_path: Path) -> None:
    files = [MemoryFile(stored(tmp_path, bytes(0x1000), name), BASE + 0x800 * n) for n, name in enumerate(("a", "b"))]
    with pytest.raises(UsageError, match=r"b@0x40000800: it overlaps .*a, which holds 0x40000000-0x40000fff"):
        MemoryFiles(files)


def unusable(tmp_path: Path) -> dict[str, Path]:
    """Paths of what no memory can be read from."""
    os.mkfifo(tmp_path / "fifo")
    return {
        "No such file": tmp_path / "missing.bin",
        "the file is empty": stored(tmp_path, b"", "empty.bin"),
        "not a regular file": tmp_path,
        "a regular file": tmp_path / "fifo",
    }


@pytest.mark.parametrize("reason", ["No such file", "the file is empty", "not a regular file", "a regular file"])
def test_what_is_no_memory_is_refused_in_one_line(tmp_path: Path, reason: str) -> None:
    with pytest.raises(EnvironmentProblem, match=reason) as refusal:
        MemoryFiles([MemoryFile(unusable(tmp_path)[reason], BASE)])
    assert "\n" not in str(refusal.value)


def test_a_file_beyond_all_addresses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KexecdbgError, match="beyond all addresses"):
        MemoryFiles([MemoryFile(stored(tmp_path, bytes(0x1000)), (1 << 56) - 0x800)])
