"""QEMU's own account of the exceptions that a guest takes: its log with ``-d int``.

Sources: QEMU 7.2 and 10.0, target/arm/helper.c, arm_log_exception() and arm_cpu_do_interrupt_aarch64(). 10.0 has one
line more, SPSR; the order of the lines does not matter here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from kexecdbg.qemu.process import QemuProcess

_TAKING = re.compile(r"^Taking exception \d+ \[(?P<name>[^]]*)\] on CPU (?P<cpu>\d+)$", re.MULTILINE)
_LEVELS = re.compile(r"^\.\.\.from EL(\d) to EL(\d)$", re.MULTILINE)
_SYNDROME = re.compile(r"^\.\.\.with ESR 0x[0-9a-f]+/0x([0-9a-f]+)$", re.MULTILINE)
_REGISTER = re.compile(r"^\.\.\.with (FAR|ELR|SPSR) 0x([0-9a-f]+)$", re.MULTILINE)
_VECTOR = re.compile(r"^\.\.\.to EL\d PC 0x([0-9a-f]+) PSTATE 0x([0-9a-f]+)$", re.MULTILINE)
_NOT_TAKEN = re.compile(r"^\.\.\.handled as (PSCI call|semihosting call)", re.MULTILINE)
_ASYNCHRONOUS = frozenset({"IRQ", "FIQ", "Virtual IRQ", "Virtual FIQ", "Virtual SERR"})
"""QEMU's names of interrupts (target/arm/helper.c, arm_log_exception())."""


@dataclass(frozen=True)
class LoggedException:
    """One exception that QEMU logged.

    Attributes:
        name: QEMU's name of it, for instance ``Prefetch Abort``.
        cpu: number of the CPU.
        from_el, to_el: exception levels.
        esr, elr: syndrome registers.
        far: FAR_ELx, or ``None`` where QEMU prints none.
        spsr: SPSR_ELx, or ``None`` (QEMU 7.2 does not print it).
        pc, pstate: where the exception went, ``None`` where QEMU does not print it.
    """

    name: str
    cpu: int
    from_el: int
    to_el: int
    esr: int
    far: int | None
    elr: int
    spsr: int | None = None
    pc: int | None = None
    pstate: int | None = None

    @property
    def is_asynchronous(self) -> bool:
        """Whether it is an interrupt: no instruction caused it."""
        return self.name in _ASYNCHRONOUS


def parse_exceptions(text: str) -> Iterator[LoggedException]:
    """The exceptions in a log, in order; see :func:`find_exceptions`."""
    return (exception for _, exception in find_exceptions(text))


def find_exceptions(text: str) -> Iterator[tuple[int, LoggedException]]:
    """Position and contents of the exceptions in a log, in order.

    Calls that QEMU handles itself (PSCI, semihosting) never reach the guest and are left out, as is an exception at the
    end whose lines are not complete.
    """
    starts = list(_TAKING.finditer(text))
    for start, following in zip_longest(starts, starts[1:]):
        block = text[start.end() : following.start() if following else len(text)]
        levels, syndrome = _LEVELS.search(block), _SYNDROME.search(block)
        registers = {match[1]: int(match[2], 16) for match in _REGISTER.finditer(block)}
        if _NOT_TAKEN.search(block) or levels is None or syndrome is None or "ELR" not in registers:
            continue
        vector = _VECTOR.search(block)
        yield (
            start.start(),
            LoggedException(
                name=start["name"],
                cpu=int(start["cpu"]),
                from_el=int(levels[1]),
                to_el=int(levels[2]),
                esr=int(syndrome[1], 16),
                far=registers.get("FAR"),
                elr=registers["ELR"],
                spsr=registers.get("SPSR"),
                pc=int(vector[1], 16) if vector else None,
                pstate=int(vector[2], 16) if vector else None,
            ),
        )


class ExceptionLog:
    """The exceptions that the guest of ``qemu`` takes from here on."""

    def __init__(self, qemu: QemuProcess) -> None:
        self._path: Path = qemu.directory / "exceptions.log"
        qemu.monitor(f"logfile {self._path}")
        qemu.monitor("log int")

    def exceptions(self) -> list[LoggedException]:
        """All exceptions taken so far."""
        return list(parse_exceptions(self._path.read_text())) if self._path.exists() else []
