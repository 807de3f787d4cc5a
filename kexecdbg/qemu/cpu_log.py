"""QEMU's log of CPU registers (``-d cpu,int``), taken apart with numpy: a quarter of a million dumps a second.

One dump is printed before each translation block; with one instruction in each block that is before each instruction.
Source: QEMU 7.2 and 10.0, target/arm/cpu.c, aarch64_cpu_dump_state()::

     PC=00000001b30b0000 X00=0000000000000000 X01=0000000000000000
    X02=0000000000000000 ...
    X29=0000000000000000 X30=0000000000000000  SP=0000000000000000
    PSTATE=400003c9 -Z-- EL2h
"""

from __future__ import annotations

from dataclasses import dataclass

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


_TEXT = np.frombuffer(_dump_text().encode(), np.uint8)
_SIZE = len(_TEXT)
_IS_DIGIT = np.equal(_TEXT, ord("_"))
_DIGIT_PLACES = np.flatnonzero(_IS_DIGIT)
_LABEL_PLACES = np.flatnonzero(~_IS_DIGIT)
_LABELS = _TEXT[_LABEL_PLACES]


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

    def first(self, count: int) -> LoggedStates:
        """The first ``count`` states, and the exceptions before the last of them."""
        return LoggedStates(
            self.pcs[:count],
            self.registers[:count],
            self.pstates[:count],
            tuple(pair for pair in self.exceptions if pair[0] < count),
        )


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
        if _EXCEPTION_START in data:
            found = list(find_exceptions(data.decode("latin-1")))
            places = np.searchsorted(starts, [position for position, _ in found])
            exceptions = tuple((int(place), each) for place, (_, each) in zip(places, found, strict=True))
        return LoggedStates(*_values(data, starts), exceptions)


def _complete(data: bytes) -> int:
    """Where the last dump or exception starts, which may go on in what comes next."""
    last_dump = max(0, data.rfind(_DUMP_START))
    return max(last_dump, data.rfind(_EXCEPTION_START, last_dump))


def _dump_starts(data: bytes) -> npt.NDArray[np.int64]:
    starts: list[int] = []
    position = data.find(_DUMP_START)
    while 0 <= position <= len(data) - _SIZE:
        starts.append(position)
        position = data.find(_DUMP_START, position + _SIZE)
    return np.array(starts, np.int64)


def _values(
    data: bytes, starts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    if not len(starts):
        return np.empty(0, np.uint64), np.empty((0, COLUMNS), np.uint64), np.empty(0, np.uint32)
    text = np.frombuffer(data, np.uint8)
    rows = np.lib.stride_tricks.sliding_window_view(text, _SIZE)[starts]
    if not np.array_equal(rows[:, _LABEL_PLACES], np.broadcast_to(_LABELS, (len(rows), len(_LABELS)))):
        raise TargetError("QEMU's log of CPU registers is not of the form that one AArch64 CPU gives (-d cpu)")
    digits = np.take(rows, _DIGIT_PLACES, axis=1)
    nibbles = (digits & 0x0F) + 9 * (digits >> 6)
    octets = nibbles[:, ::2] << 4 | nibbles[:, 1::2]
    values = np.ascontiguousarray(octets[:, : 8 * (COLUMNS + 1)]).view(">u8").astype(np.uint64)
    pstates = np.ascontiguousarray(octets[:, 8 * (COLUMNS + 1) :]).view(">u4").astype(np.uint32)
    return values[:, 0], values[:, 1:], pstates[:, 0]
