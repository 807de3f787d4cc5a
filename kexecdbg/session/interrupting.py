"""How often a command in GDB has to be interrupted before it ends.

GDB passes an interrupt on to the machine, and where a step has just ended it is lost there: QEMU takes no notice of one
while the CPU is stopped (gdbstub.c, gdb_read_byte()), and GDB goes on to the next step. Of those in ``stepi 1000000``
most are lost. A machine that runs freely is not to be interrupted again: GDB takes that for giving the machine up, and
disconnects (remote.c, remote_target::interrupt_query()). Over a call, ``next`` and ``nexti`` have it run freely; on a
busy host, a step of one instruction takes its time too. GDB only waits then, and uses no processor.
"""

from __future__ import annotations

import math

from kexecdbg.session.marks import is_ours


def _both_ways(*commands: str) -> frozenset[str]:
    return frozenset(f"{backwards}{command}" for backwards in ("", "r", "reverse-") for command in commands)


_INSTRUCTION_STEPS = _both_ways("si", "stepi", "ni", "nexti")
STEPPING_COMMANDS = _INSTRUCTION_STEPS | _both_ways("s", "step", "n", "next")
"""GDB's commands that step as often as they are told; an empty line repeats them (GDB manual, "Command Syntax")."""
_MAY_STEP = STEPPING_COMMANDS | {"until", "u", "source", "python", "py", "while"}
_STEPPING_SECONDS = 0.1
_STOPPED_SECONDS = 0.02
_USED_SECONDS = 0.02
"""More than one step takes GDB: it has gone on to others."""
_OURS_SECONDS = 2.0
"""Long enough for them to put in order what they must, which another interrupt would break off."""
_END_SECONDS = 10.0
_STEPPING_END_SECONDS = 60.0
"""Hundreds of interrupts: that all are lost is not to happen."""


def seconds_to_next_interrupt(line: str, has_stopped: bool, used: float) -> float:
    """How long after an interrupt a command that has not ended gets another; infinite where one is enough.

    Args:
        has_stopped: the machine has stopped since, and yet the command goes on.
        used: seconds that GDB has used a processor since.
    """
    if is_ours(line):
        return _OURS_SECONDS
    name = _name(line)
    if has_stopped and name in _MAY_STEP:
        return _STOPPED_SECONDS
    return _STEPPING_SECONDS if name in _INSTRUCTION_STEPS and used > _USED_SECONDS else math.inf


def seconds_to_end(line: str) -> float:
    """How long a command that is interrupted may take to come to its end before it is said to take no notice."""
    return _STEPPING_END_SECONDS if _name(line) in _INSTRUCTION_STEPS else _END_SECONDS


def _name(line: str) -> str:
    return "".join(line.split(None, 1)[:1])
