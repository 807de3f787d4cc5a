"""When a command that goes on is interrupted again: else it never ends, or GDB gives the machine up."""

from __future__ import annotations

import math

import pytest

from kexecdbg.session.interrupting import seconds_to_end, seconds_to_next_interrupt
from kexecdbg.session.marks import is_ours

ONCE = math.inf


@pytest.mark.parametrize(
    ("lines", "without_a_stop", "after_a_stop"),
    [
        (["stepi", "si", "nexti", "ni", "reverse-stepi", "rsi", "reverse-nexti", "rni"], 0.1, 0.02),
        (["step", "s", "next", "n", "until", "u", "reverse-step", "rs", "reverse-next", "rn"], ONCE, 0.02),
        (["source", "python", "py", "while"], ONCE, 0.02),
        (["continue", "c", "finish", "advance", "x/i", "stepinto", ""], ONCE, ONCE),
        (["kexec-why", "walk-ttbr0"], 2.0, 2.0),
    ],
)
def test_when_it_is_interrupted_again(lines: list[str], without_a_stop: float, after_a_stop: float) -> None:
    for line in lines:
        for written in (line, f"{line} 1000", f" \t{line}\t1000" if line else " \t"):
            assert seconds_to_next_interrupt(written, has_stopped=False, used=0.05) == without_a_stop, written
            assert seconds_to_next_interrupt(written, has_stopped=True, used=0) == after_a_stop, written


def test_a_command_that_loses_interrupts_has_time_for_many() -> None:
    between = seconds_to_next_interrupt("stepi 1000000", has_stopped=False, used=0.05)
    assert seconds_to_end(" stepi 1000000") >= 100 * between
    assert seconds_to_end("continue") < seconds_to_end("stepi")


def test_gdb_that_only_waits_for_the_machine_is_not_interrupted_again() -> None:
    for line in ("stepi 1000000", "nexti"):
        assert seconds_to_next_interrupt(line, has_stopped=False, used=0.001) == ONCE


def test_blanks_do_not_hide_a_command_of_ours() -> None:
    assert is_ours("\t kexec-why") and is_ours("walk-ttbr0 $pc")
    assert not is_ours("echo kexec-why") and not is_ours("")
