"""QEMU's log of CPU registers (``-d cpu,int``), taken apart with numpy: a quarter of a million dumps a second.

One dump is printed before each translation block; with one instruction in each block that is before each instruction.
Source: QEMU 7.2 and 10.0, target/arm/cpu.c, aarch64_cpu_dump_state()::

     PC=00000001b30b0000 X00=0000000000000000 X01=0000000000000000
    X02=0000000000000000 ...
    X29=0000000000000000 X30=0000000000000000  SP=0000000000000000
    PSTATE=400003c9 -Z-- EL2h
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kexecdbg.errors import TargetError
from kexecdbg.qemu.exception_log import LoggedException, find_exceptions

GENERAL = 31
SP = 31
"""Column of SP; columns 0 to 30 are X0 to X30."""
COLUMNS = 32

_DUMP_START = b" PC="
_EXCEPTION_START = b"Taking exception"
_DIGITS = 16


def _dump_text() -> str:
    """A dump up to the value of PSTATE, with a blank for each digit."""
    blank = "_" * _DIGITS
    text = f" PC={blank} "
    for number in range(GENERAL):
        text += f"X{number:02}={blank}" + (" " if (number + 2) % 3 else "\n")
    return f"{text} SP={blank}\nPSTATE={'_' * 8}"


_TEXT = _dump_text()
_SIZE = len(_TEXT)
_PLACES = tuple(match.start() for match in re.finditer(f"_{{{_DIGITS}}}", _TEXT))
"""Where the values of the PC, X0 to X30 and SP are in a dump; that of PSTATE, eight digits, is its end."""
_PSTATE_PLACE = _SIZE - 8
_LABELS = tuple(
    (place - 4, int.from_bytes(_TEXT[place - 4 : place].encode(), "little")) for place in (*_PLACES, _PSTATE_PLACE)
)
"""The four characters before each value, as a number."""


def _octets_of_digits() -> npt.NDArray[np.uint8]:
    """For two hexadecimal digits, as a little-endian number: the octet that they say."""
    octets = np.zeros(1 << 16, np.uint8)
    for value in range(1 << 8):
        octets[int.from_bytes(b"%02x" % value, "little")] = value
    return octets


_OCTETS = _octets_of_digits()


@dataclass(frozen=True)
class LoggedStates:
    """States in the order of the log, and the exceptions between them.

    Attributes:
        pcs: the PC of each.
        registers: one row for each state: X0 to X30 and SP.
        pstates: PSTATE of each.
        exceptions: each with the number of states before it.
    """

    pcs: npt.NDArray[np.uint64]
    registers: npt.NDArray[np.uint64]
    pstates: npt.NDArray[np.uint32]
    exceptions: tuple[tuple[int, LoggedException], ...]

    def __len__(self) -> int:
        return len(self.pcs)


class CpuLogParser:
    """Takes a log apart piece by piece, as it is written."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes, at_end: bool = False) -> LoggedStates:
        """The states in ``data`` and what was left over before; what is not complete is kept for the next call.

        Raises:
            TargetError: the log has dumps of another form: another QEMU, another architecture, or several CPUs at once.
        """
        data = self._rest + data
        cut = len(data) if at_end else _complete(data)
        self._rest, data = data[cut:], data[:cut]
        starts = _dump_starts(data)
        exceptions: tuple[tuple[int, LoggedException], ...] = ()
        if _has_exceptions(data, starts):
            found = list(find_exceptions(data.decode("latin-1")))
            places = np.searchsorted(starts, [position for position, _ in found])
            exceptions = tuple((int(place), each) for place, (_, each) in zip(places, found, strict=True))
        return LoggedStates(*_values(data, starts), exceptions)


def _has_exceptions(data: bytes, starts: npt.NDArray[np.int64]) -> bool:
    # Searching everything takes as long as all the rest; between dumps at equal distances is in each gap what is in
    # the first: nothing, or an exception of the same length, as of a CPU that spins in a vector.
    if len(starts) > 1 and (np.diff(starts) == starts[1] - starts[0]).all():
        before, after = data.find(_EXCEPTION_START, 0, int(starts[1])), data.find(_EXCEPTION_START, int(starts[-1]))
        return before >= 0 or after >= 0
    return _EXCEPTION_START in data


def _complete(data: bytes) -> int:
    """Where the last dump or exception starts, which may go on in what comes next."""
    last_dump = max(0, data.rfind(_DUMP_START))
    return max(last_dump, data.rfind(_EXCEPTION_START, last_dump))


def _dump_starts(data: bytes) -> npt.NDArray[np.int64]:
    """Where the dumps start that are there in full."""
    starts: list[npt.NDArray[np.int64]] = []
    position = data.find(_DUMP_START)
    while 0 <= position <= len(data) - _SIZE:
        run = _regular(data, position)
        starts.append(run)
        position = data.find(_DUMP_START, int(run[-1]) + _SIZE)
    return np.concatenate(starts) if starts else np.empty(0, np.int64)


def _regular(data: bytes, first: int) -> npt.NDArray[np.int64]:
    """The dumps from ``first`` on that follow each other at the same distance: nothing was logged between them."""
    second = data.find(_DUMP_START, first + _SIZE)
    distance = second - first
    if second < 0 or data.find(_DUMP_START, second + _SIZE, second + distance + len(_DUMP_START)) != second + distance:
        return np.array([first])
    count = (len(data) - _SIZE - first) // distance + 1
    starts = first + distance * np.arange(count)
    is_dump = _column(data, starts, distance, 0, "<u4") == int.from_bytes(_DUMP_START, "little")
    return starts if is_dump.all() else starts[: int(is_dump.argmin())]


def _column(data: bytes, starts: npt.NDArray[np.int64], distance: int, offset: int, kind: str) -> npt.NDArray[Any]:
    """What is ``offset`` bytes behind each of ``starts``, which are ``distance`` apart."""
    return np.ndarray(len(starts), kind, data, int(starts[0]) + offset, (distance,))


def _values(
    data: bytes, starts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """The PC, the general registers with SP, and PSTATE of each dump."""
    if not len(starts):
        return np.empty(0, np.uint64), np.empty((0, COLUMNS), np.uint64), np.empty(0, np.uint32)
    text, distance = data, _SIZE
    if len(starts) > 1 and (np.diff(starts) == starts[1] - starts[0]).all():
        distance = int(starts[1] - starts[0])
    else:
        rows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), _SIZE)[starts]
        text, starts = rows.tobytes(), _SIZE * np.arange(len(starts))
    if not all((_column(text, starts, distance, place, "<u4") == label).all() for place, label in _LABELS):
        raise TargetError("QEMU's log of CPU registers is not of the form that one AArch64 CPU gives (-d cpu)")
    digits = np.empty((len(_PLACES), len(starts)), "V16")
    for number, place in enumerate(_PLACES):
        digits[number] = _column(text, starts, distance, place, "V16")
    values = np.take(_OCTETS, digits.view("<u2")).view(">u8").astype(np.uint64)
    pstates = np.ascontiguousarray(_column(text, starts, distance, _PSTATE_PLACE, "V8")).view("<u2")
    return values[0], np.ascontiguousarray(values[1:].T), np.take(_OCTETS, pstates).view(">u4").astype(np.uint32)
