"""QEMU's log of registers and exceptions, fed in pieces."""

from __future__ import annotations

import pytest

from kexecdbg.qemu.cpu_log import SP, CpuLogParser

EXCEPTION = """\
Taking exception 1 [Undefined Instruction] on CPU 0
...from EL2 to EL2
...with ESR 0x0/0x2000000
...with ELR 0x1b3080200
...to EL2 PC 0x1b3080200 PSTATE 0x3c9
"""


def dump(pc: int) -> str:
    """As QEMU 7.2 prints it; Xn is n, SP is 31."""
    text = f" PC={pc:016x} "
    for number in range(31):
        text += f"X{number:02}={number:016x}" + (" " if (number + 2) % 3 else "\n")
    return f"{text} SP={31:016x}\nPSTATE=400003c9 -Z-- EL2h\n"


def feed(text: str, size: int) -> tuple[list[int], list[int]]:
    """The PCs, and how many states are before each exception, of ``text`` in pieces of ``size``."""
    parser = CpuLogParser()
    pcs: list[int] = []
    places: list[int] = []
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    for number, piece in enumerate(pieces, 1):
        found = parser.feed(piece.encode(), at_end=number == len(pieces))
        places += [len(pcs) + place for place, _ in found.exceptions]
        pcs += [int(pc) for pc in found.pcs]
        assert all(row[7] == 7 and row[SP] == 31 for row in found.registers.tolist())
        assert set(found.pstates.tolist()) <= {0x4000_03C9}
    return pcs, places


@pytest.mark.parametrize("size", [1, 97, 1000, 1 << 20])
def test_the_states_and_where_the_exceptions_are(size: int) -> None:
    text = dump(4) + dump(8) + EXCEPTION + dump(12) + dump(16) + dump(20) + EXCEPTION
    assert feed(text, size) == ([4, 8, 12, 16, 20], [2, 5])


def test_exceptions_at_equal_distances_are_found() -> None:
    round_ = dump(0x200) + EXCEPTION
    for cut in range(2 * len(round_), 3 * len(round_)):
        assert feed(4 * round_, cut) == ([0x200] * 4, [1, 2, 3, 4])
