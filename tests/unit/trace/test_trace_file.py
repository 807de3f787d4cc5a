"""A trace file that is cut off, damaged or hostile: what is intact is read, the rest is a typed error or a warning."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kexecdbg.errors import MemoryUnreadableError, TraceError
from kexecdbg.machine.memory_map import Region, RegionKind
from kexecdbg.machine.word_search import FoundWords, WordPattern
from kexecdbg.trace.frames import MAGIC, MAX_BLOCK, VERSION
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.records import Event, EventKind, ExceptionTaken, MemoryWrite
from kexecdbg.trace.step_block import PAGE_SIZE
from kexecdbg.trace.writer import TraceWriter

PC, PAGE = 0x4000_0000, 0x4000_1000
BLOCKS, STEPS_IN_BLOCK = 3, 5
STEPS = BLOCKS * STEPS_IN_BLOCK
NOT_RECORDED = 0x4080_0000
SEARCHED_FOR = [WordPattern(0xFFFF_FFE0, 0xD518_1000)]
PREAMBLE, FRAME = 12, struct.Struct("<B3xII")
HEADER = TraceHeader(
    engine="stepping",
    registers=("X0", "SCTLR_EL2", "PC", "PSTATE"),
    regions=(Region(0x4000_0000, 0x4100_0000, RegionKind.RAM, "ram"),),
    whole_memory=True,
)


def write(path: Path) -> None:
    """Blocks with each kind of step: a store, an exception, a folded one, one whose result is not known."""
    with TraceWriter(path, HEADER, {"PC": PC, "PSTATE": 0x3C9, "X0": 0, "SCTLR_EL2": 0x30C5_0830}) as writer:
        writer.see(PC, bytes(PAGE_SIZE))
        writer.see(PAGE, b"\x11" * PAGE_SIZE)
        writer.searched(SEARCHED_FOR, ((PAGE, PAGE + PAGE_SIZE), (NOT_RECORDED, NOT_RECORDED + 3 * PAGE_SIZE)))
        for _ in range(BLOCKS):
            number = writer.steps
            writer.step(PC + 4, 0xF900_0001, {"X0": number}, [MemoryWrite(PAGE, PAGE, 8, bytes([number] * 8))])
            writer.step(PC + 8, 0xD518_1000, {"SCTLR_EL2": None}, [MemoryWrite(PAGE + 64, PAGE + 64, 16, None)])
            writer.step(PC + 0x200, None, {}, (), ExceptionTaken(2, 2, 0x8600_000F, PC + 8, None, 0x3C9))
            writer.step(PC + 12, 0x5400_0001, {}, events=[Event(EventKind.PAGE_COPIED, PC, PAGE, PAGE_SIZE)])
            writer.see(PAGE, bytes(PAGE_SIZE))
            writer.step(PC, 0xD69F_03E0, {"X0": number + 1, "PSTATE": 0x3C5})
            writer.searched(SEARCHED_FOR, ((NOT_RECORDED, NOT_RECORDED + 3 * PAGE_SIZE),))
            writer.flush()


@lru_cache(maxsize=1)
def intact() -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "run.kxt"
        write(path)
        return path.read_bytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to write over; hypothesis makes no new directory for each example."""
    return tmp_path_factory.mktemp("trace") / "run.kxt"


def read_everything(trace: Trace) -> None:
    """Everything that a trace has; what is damaged raises TraceError, what was not recorded MemoryUnreadableError."""
    for number in range(min(trace.steps, 2 * STEPS) + 1):
        with suppress(TraceError):
            state = trace.state(number)
            assert all(value is None or 0 <= value < 1 << 64 for value in map(state.get, trace.header.registers))
        for page in trace.pages()[:8]:
            with suppress(TraceError, MemoryUnreadableError):
                assert len(trace.memory(number).read(page, PAGE_SIZE)) == PAGE_SIZE
        with suppress(TraceError):
            trace.step(number)
        with suppress(TraceError):
            found = trace.memory(number).find_words(SEARCHED_FOR)
            assert found is None or found.size >= 0
    with suppress(TraceError):
        list(trace.exceptions())
    with suppress(TraceError):
        list(trace.blocks(backwards=True))


def test_all_of_it(path: Path) -> None:
    path.write_bytes(intact())
    with Trace.open(path) as trace:
        assert (trace.steps, trace.warnings, trace.header) == (STEPS, (), HEADER)
        assert trace.state(STEPS_IN_BLOCK + 1).get("X0") == STEPS_IN_BLOCK
        assert trace.state(2).get("SCTLR_EL2") is None
        assert trace.memory(1).read(PAGE, 16) == bytes(8) + b"\x11" * 8
        assert trace.memory(STEPS_IN_BLOCK + 1).read(PAGE, 9) == bytes([STEPS_IN_BLOCK] * 8) + b"\0"
        with pytest.raises(MemoryUnreadableError):
            trace.memory(2).read(PAGE + 64, 1)
        assert [number for number, _ in trace.exceptions()] == [2, 7, 12]
        assert trace.step(3).events[0].destination == PAGE
        assert trace.memory(1).find_words(SEARCHED_FOR) == FoundWords((), 4 * PAGE_SIZE)
        assert trace.memory(2).find_words(SEARCHED_FOR) == FoundWords((), 3 * PAGE_SIZE, complete=False)
        assert trace.memory(STEPS).find_words(SEARCHED_FOR) == FoundWords((), 3 * PAGE_SIZE)
        with pytest.raises(TraceError):
            trace.state(STEPS + 1)


def test_what_a_terminal_would_act_on_is_a_question_mark() -> None:
    header = replace(HEADER, cpu_model="max\x1b[2J", command_line=("a\nb",), target_description={"target.xml": "<a>\n"})
    found = TraceHeader.unpack(header.pack())
    assert (found.cpu_model, found.command_line) == ("max?[2J", ("a?b",))
    assert found.target_description == header.target_description  # XML, which no terminal is shown


def test_cut_off_at_any_byte(path: Path) -> None:
    data, reached = intact(), -1
    for size in range(len(data)):
        path.write_bytes(data[:size])
        try:
            trace = Trace.open(path)
        except TraceError:
            assert reached < 0, "what could be read once is not lost by more of the file"
            continue
        with trace:
            (warning,) = trace.warnings
            assert f"{trace.steps} steps are intact, how many are missing is not known" in warning
            assert trace.steps >= reached
            if trace.steps > reached:
                read_everything(trace)
            reached = trace.steps
    assert reached == STEPS


def frames(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Position and length of each frame's payload."""
    position = PREAMBLE
    while position < len(data):
        length = FRAME.unpack_from(data, position)[1]
        yield position + FRAME.size, length
        position += FRAME.size + length


def test_damaged_in_the_middle_it_says_how_much_is_missing(path: Path) -> None:
    data = bytearray(intact())
    steps = [place for place, _ in frames(data) if data[place - FRAME.size] == 3]
    data[steps[2] + 40] ^= 1  # the second block that has steps
    path.write_bytes(data)
    with Trace.open(path) as trace:
        assert trace.steps == STEPS_IN_BLOCK
        assert f"5 of {STEPS} steps are intact, {STEPS - 5} are missing" in trace.warnings[0]


changes = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8)


@given(changes, st.integers(0, 1 << 20), st.binary(max_size=40))
def test_mutated_files(path: Path, changes: list[tuple[int, int]], cut: int, more: bytes) -> None:
    data = bytearray(intact())
    for place, value in changes:
        data[place % len(data)] = value
    cut %= 2 * len(data)
    path.write_bytes(bytes(data[:cut]) + more + bytes(data[cut:]))
    with suppress(TraceError), Trace.open(path) as trace:
        read_everything(trace)


@given(changes, st.integers(0, 100))
def test_mutated_frames_with_a_checksum_that_fits(path: Path, changes: list[tuple[int, int]], which: int) -> None:
    data = bytearray(intact())
    places = list(frames(data))
    start, length = places[which % len(places)]
    for place, value in changes:
        data[start + place % length] = value
    path.write_bytes(with_checksum(bytes(data), start, length))
    with suppress(TraceError), Trace.open(path) as trace:
        read_everything(trace)


@given(changes, st.integers(0, 100))
def test_mutated_columns(path: Path, changes: list[tuple[int, int]], which: int) -> None:
    """Blocks that decompress well, with contents that nobody wrote."""
    data = intact()
    blocks = [(place, length) for place, length in frames(data) if data[place - FRAME.size] == 3]
    start, length = blocks[which % len(blocks)]
    block = bytearray(zstandard.ZstdDecompressor().decompress(data[start + 16 : start + length]))
    for place, value in changes:
        block[place % len(block)] = value
    payload = data[start : start + 16] + zstandard.ZstdCompressor().compress(bytes(block))
    path.write_bytes(data[: start - FRAME.size] + frame(3, payload) + data[start + length :])
    with suppress(TraceError), Trace.open(path) as trace:
        read_everything(trace)


def with_checksum(data: bytes, start: int, length: int) -> bytes:
    """``data`` with the checksum of the frame whose payload is at ``start`` made right."""
    kind = data[start - FRAME.size]
    return data[: start - FRAME.size] + frame(kind, data[start : start + length]) + data[start + length :]


def frame(kind: int, payload: bytes) -> bytes:
    checksum = zlib.crc32(payload, zlib.crc32(struct.pack("<BI", kind, len(payload))))
    return FRAME.pack(kind, len(payload), checksum) + payload


BOMB = 256 << 20


def bomb() -> bytearray:
    """Zeros, compressed a thousandfold and more."""
    compressor = zstandard.ZstdCompressor().compressobj(size=BOMB)
    return bytearray(b"".join(compressor.compress(bytes(1 << 20)) for _ in range(BOMB >> 20)) + compressor.flush())


@pytest.mark.parametrize("lies", [False, True], ids=["honest", "lying"])
def test_a_block_that_decompresses_to_a_lot_is_refused(path: Path, lies: bool) -> None:
    data, block = intact(), bomb()
    if lies:
        # The content size follows the window descriptor (RFC 8878, 3.1.1.1), of four bytes here.
        struct.pack_into("<I", block, 6, MAX_BLOCK)
        assert zstandard.frame_content_size(bytes(block)) == MAX_BLOCK
    header = PREAMBLE + FRAME.size + next(length for _, length in frames(data))
    payload = struct.pack("<QII", 0, 1, MAX_BLOCK) + block
    path.write_bytes(data[:header] + frame(3, payload))
    tracemalloc.start()
    try:
        message = "cannot be decompressed" if lies else f"decompresses to {BOMB} bytes"
        with Trace.open(path) as trace, pytest.raises(TraceError, match=message):
            trace.state(0)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BLOCK
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a kexecdbg trace"),
        (b"\x7fELF" + bytes(60), "not a kexecdbg trace"),
        (MAGIC + struct.pack("<HH", VERSION + 1, 0), f"format version {VERSION + 1}"),
        (MAGIC + struct.pack("<HH", VERSION, 0), "nothing in this trace is intact"),
        (MAGIC + struct.pack("<HH", VERSION, 0) + frame(1, struct.pack("<I", MAX_BLOCK)), "none has that many"),
    ],
    ids=["empty", "foreign", "another version", "no header", "a header of 16 MiB"],
)
def test_files_that_are_no_trace_of_ours(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(TraceError, match=message):
        Trace.open(path)
