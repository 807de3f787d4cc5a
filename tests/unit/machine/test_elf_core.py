"""ELF cores: memory at its physical addresses, registers, and files that are not what they should be."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kexecdbg.errors import EnvironmentProblem, MemoryUnreadableError
from kexecdbg.machine.elf_core import ElfCore

RAM, HIGH = 0x4000_0000, 0x1_B300_0000
LOW_DATA, HIGH_DATA = bytes(range(256)) * 32, b"\xa5" * 0x1000
REGISTERS = [0x100 + number for number in range(34)]
_HEADER, _PROGRAM = struct.Struct("<16s2HI3QI6H"), struct.Struct("<2I6Q")
ET_CORE, EM_AARCH64, PT_LOAD, PT_NOTE = 4, 183, 1, 4


def note(kind: int, content: bytes, name: bytes = b"CORE\0") -> bytes:
    padded = name.ljust(-(-len(name) // 4) * 4, b"\0")
    return struct.pack("<III", len(name), len(content), kind) + padded + content.ljust(-(-len(content) // 4) * 4, b"\0")


def core(machine: int = EM_AARCH64, kind: int = ET_CORE, segments: list[tuple[int, bytes]] | None = None) -> bytes:
    """A core as QEMU lays it out: header, program headers, notes, memory."""
    loads = [(RAM, LOW_DATA), (HIGH, HIGH_DATA)] if segments is None else segments
    status = note(2, bytes(64)) + note(1, bytes(112) + struct.pack("<34Q", *REGISTERS) + bytes(8))
    notes_at = _HEADER.size + (1 + len(loads)) * _PROGRAM.size
    headers = [_PROGRAM.pack(PT_NOTE, 0, notes_at, 0, 0, len(status), len(status), 0)]
    offset, data = notes_at + len(status), b""
    for address, content in loads:
        headers.append(_PROGRAM.pack(PT_LOAD, 0, offset + len(data), 0, address, len(content), len(content), 0))
        data += content
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = _HEADER.pack(
        identity, kind, machine, 1, 0, _HEADER.size, 0, 0, _HEADER.size, _PROGRAM.size, len(headers), 64, 0, 0
    )
    return header + b"".join(headers) + status + data


def write(directory: Path, data: bytes) -> Path:
    path = directory / "guest.core"
    path.write_bytes(data)
    return path


def test_memory_and_registers(tmp_path: Path) -> None:
    with ElfCore(write(tmp_path, core())) as found:
        assert found.read(RAM + 0x10, 4) == b"\x10\x11\x12\x13"
        assert found.read(HIGH, len(HIGH_DATA)) == HIGH_DATA
        assert list(found.populated_ranges()) == [(RAM, RAM + len(LOW_DATA)), (HIGH, HIGH + len(HIGH_DATA))]
        assert found.missing == ()
        (cpu,) = found.cpus
        assert (cpu["X0"], cpu["X30"], cpu["SP"], cpu["PC"], cpu["PSTATE"]) == (0x100, 0x11E, 0x11F, 0x120, 0x121)


@pytest.mark.parametrize(("address", "size"), [(RAM - 1, 2), (RAM + len(LOW_DATA) - 1, 2), (0, 8), (HIGH - 8, 8)])
def test_what_the_core_does_not_have_is_not_zero(tmp_path: Path, address: int, size: int) -> None:
    with ElfCore(write(tmp_path, core())) as found, pytest.raises(MemoryUnreadableError):
        found.read(address, size)


def test_a_read_across_two_blocks_that_meet(tmp_path: Path) -> None:
    data = core(segments=[(RAM, b"a" * 0x1000), (RAM + 0x1000, b"b" * 0x1000)])
    with ElfCore(write(tmp_path, data)) as found:
        assert found.read(RAM + 0xFFE, 4) == b"aabb"


def test_a_truncated_core_says_what_is_missing(tmp_path: Path) -> None:
    with ElfCore(write(tmp_path, core()[:-0x800])) as found:
        assert found.missing == (f"{HIGH + 0x800:#x}-{HIGH + 0xFFF:#x}: the file ends before it",)
        assert found.read(HIGH + 0x7FF, 1) == b"\xa5"
        with pytest.raises(MemoryUnreadableError):
            found.read(HIGH + 0x7FF, 2)


def test_overlapping_blocks_are_not_mixed(tmp_path: Path) -> None:
    data = core(segments=[(RAM, b"a" * 0x1000), (RAM + 0x800, b"b" * 0x1000)])
    with ElfCore(write(tmp_path, data)) as found:
        assert found.read(RAM, 0x1000) == b"a" * 0x1000
        assert len(found.missing) == 1 and "overlaps" in found.missing[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"MZ" + bytes(100), "not a 64-bit little-endian ELF"),
        (core()[:40], "not a sound ELF"),
        (core(machine=62), "EM_X86_64"),
        (core(kind=2), "ET_EXEC"),
        (core(segments=[]), "no memory"),
        (core()[:100], "damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(EnvironmentProblem, match=message) as caught:
        ElfCore(write(tmp_path, data))
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_directory_and_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # which nobody writes to: opening it would wait for ever
    for path, said in (("none", "No such file"), (".", "not a regular file"), ("fifo", "not a regular file")):
        with pytest.raises(EnvironmentProblem, match=said):
            ElfCore(tmp_path / path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, len(core()) - 1), st.binary(min_size=1, max_size=8)), max_size=6),
    headers=st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=8)), max_size=3),
    length=st.integers(0, len(core())),
    address=st.integers(0, 1 << 64),
)
def test_a_damaged_core_gives_typed_errors(
    tmp_path: Path,
    changes: list[tuple[int, bytes]],
    headers: list[tuple[int, bytes]],
    length: int,
    address: int,
) -> None:
    data = bytearray(core())
    for place, content in (*changes, *headers):
        data[place : place + len(content)] = content
    path = write(tmp_path, bytes(data[:length]))
    try:
        found = ElfCore(path)
    except EnvironmentProblem:
        return
    with found:
        for start, end in found.populated_ranges():
            assert len(found.read(start, end - start)) == end - start
            assert end - start <= length
        with contextlib.suppress(MemoryUnreadableError):
            assert len(found.read(address, 8)) == 8
