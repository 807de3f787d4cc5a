"""The initramfs, read back by a reader written from the format's description."""

from __future__ import annotations

import stat
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from kexecdbg.lab.linux.initramfs import (
    Entry,
    character_device,
    concatenate,
    directory,
    executable,
    pack,
    regular,
)

NAMES = st.lists(st.text("abcz-_", min_size=1, max_size=9), min_size=1, max_size=4).map("/".join)


@dataclass(frozen=True)
class Record:
    """One record of an archive: its header's fields by number, as the format's description counts them."""

    fields: tuple[int, ...]
    name: str
    data: bytes

    @property
    def mode(self) -> int:
        return self.fields[1]


def read_back(archive: bytes) -> tuple[list[Record], int]:
    """The records up to the trailer and the offset after it, everything in its place checked."""
    records: list[Record] = []
    offset = 0
    while True:
        assert offset % 4 == 0
        assert archive[offset : offset + 6] == b"070701"
        digits = archive[offset + 6 : offset + 110].decode("ascii")
        assert digits == digits.upper() and len(digits) == 13 * 8
        fields = tuple(int(digits[at : at + 8], 16) for at in range(0, len(digits), 8))
        name_size, data_size = fields[11], fields[6]
        end_of_name = offset + 110 + name_size
        raw_name = archive[offset + 110 : end_of_name]
        assert raw_name.endswith(b"\0") and raw_name.count(b"\0") == 1
        start = end_of_name + -end_of_name % 4
        end = start + data_size
        assert not any(archive[end_of_name:start])
        offset = end + -end % 4
        assert not any(archive[end:offset]) and offset <= len(archive)
        if raw_name == b"TRAILER!!!\0":
            return records, offset
        records.append(Record(fields, raw_name[:-1].decode(), archive[start:end]))


def test_one_file_byte_for_byte() -> None:
    expected = (
        b"070701" b"00000001" b"000081A4" b"00000000" b"00000000" b"00000001" b"00000000" b"00000003"
        b"00000000" b"00000000" b"00000000" b"00000000" b"00000002" b"00000000" b"f\0" b"abc\0"
        b"070701" b"00000002" b"00000000" b"00000000" b"00000000" b"00000001" b"00000000" b"00000000"
        b"00000000" b"00000000" b"00000000" b"00000000" b"0000000B" b"00000000" b"TRAILER!!!\0" b"\0\0\0"
    )  # fmt: skip
    assert pack([regular("f", b"abc")]) == expected


def test_kinds_of_files() -> None:
    records, _ = read_back(pack([directory("d"), executable("d/x", b"#!"), character_device("console", 5, 1)]))
    assert [(record.name, stat.filemode(record.mode)) for record in records] == [
        ("d", "drwxr-xr-x"),
        ("d/x", "-rwxr-xr-x"),
        ("console", "crw-------"),
    ]
    assert records[2].fields[9:11] == (5, 1)
    assert all(record.fields[2:4] == (0, 0) for record in records), "root owns everything"


def test_directories_come_before_what_is_in_them_and_once() -> None:
    records, _ = read_back(pack([regular("a/b/c", b""), regular("a/b/d", b""), regular("a/e", b"")]))
    assert [record.name for record in records] == ["a", "a/b", "a/b/c", "a/b/d", "a/e"]


def test_an_archive_on_top_of_another_begins_aligned() -> None:
    # The kernel skips zeros between archives and looks for the next at a multiple of four.
    below = b"\x1f\x8b" + bytes(range(1, 10))
    whole = concatenate(below, pack([regular("f", b"x")]))
    assert whole.startswith(below + b"\0")
    records, end = read_back(whole[12:])
    assert [record.name for record in records] == ["f"]
    assert end == len(whole) - 12


@given(st.dictionaries(NAMES, st.binary(max_size=40), max_size=8))
def test_any_archive_reads_back(files: dict[str, bytes]) -> None:
    # A name cannot be a file and a directory at once.
    files = {name: data for name, data in files.items() if not any(other.startswith(f"{name}/") for other in files)}
    archive = pack(Entry(name, stat.S_IFREG | 0o644, data) for name, data in files.items())
    records, end = read_back(archive)
    assert end == len(archive)
    assert {record.name: record.data for record in records if stat.S_ISREG(record.mode)} == files
    assert len({record.fields[0] for record in records}) == len(records), "no two share an inode: they would be links"
    seen = {""}
    for record in records:
        assert record.name.rpartition("/")[0] in seen
        seen.add(record.name)
