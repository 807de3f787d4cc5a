"""The machine as it is at the prompt: one CPU's registers, and whether it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from kexecdbg.arm64.regimes import Regime, current_el, mmu_enabled, regime_of
from kexecdbg.errors import RegisterUnknownError, TargetError
from kexecdbg.machine.control_registers import control_registers
from kexecdbg.machine.state import CpuState
from kexecdbg.session import Session
from kexecdbg.session.documents import optional_number

CORE_REGISTERS = ("PC", "PSTATE", "SP", *(f"X{number}" for number in range(31)))
WATCHED_REGISTERS = (*(name for el in (1, 2, 3) for name in control_registers(el)), *CORE_REGISTERS)
"""What ``changed`` compares from stop to stop, in the order in which it shows it."""
_FEATURES = ("ID_AA64PFR0_EL1", "ID_AA64MMFR1_EL1", "ID_AA64MMFR4_EL1", "SCR_EL3")
"""What the regime depends on besides."""
_ASK_CPU = (
    "python from kexecdbg_plugins import cpus; _thread = gdb.selected_thread(); "
    "print('absent,,0' if _thread is None else 'running,,0' if _thread.is_running() else "
    "f'stopped,{cpus.selected_cpu().number},{len(cpus.cpus())}')"
)
"""While the machine runs, the stub does not answer which CPUs there are."""
_ANSWER = re.compile(r"^(?P<state>absent|running|stopped),(?P<number>\d*),(?P<count>\d+)$", re.MULTILINE)
_SYMBOL = re.compile(r"(?P<name>\S+)(?: \+ (?P<offset>\d+))?(?: in section .*)?")


class RunState(Enum):
    """What the machine is doing; the value is how users read it."""

    STOPPED = "stopped"
    RUNNING = "running"
    ABSENT = "no machine"


@dataclass(frozen=True)
class Snapshot:
    """One CPU at the prompt.

    Attributes:
        run_state: what the machine is doing; unless it is stopped, no registers are known.
        cpu: number of the selected CPU.
        cpus: how many CPUs the machine has.
        values: registers by canonical name; what could not be read is not there.
        symbol: where the PC is, ``turn_on_mmu+36``; empty without a symbol.
    """

    run_state: RunState
    cpu: int | None = None
    cpus: int = 0
    values: Mapping[str, int] = field(default_factory=dict)
    symbol: str = ""

    @property
    def state(self) -> CpuState:
        """The registers."""
        return CpuState(self.values)

    @property
    def pc(self) -> int | None:
        """The address of the next instruction."""
        return self.values.get("PC")

    @property
    def el(self) -> int | None:
        """The exception level."""
        try:
            return current_el(self.state)
        except RegisterUnknownError:
            return None

    @property
    def regime(self) -> Regime | None:
        """The translation regime that the CPU uses."""
        try:
            return None if self.el is None else regime_of(self.el, self.state)
        except RegisterUnknownError:
            return None

    @property
    def mmu_on(self) -> bool | None:
        """Whether stage 1 of that regime is on."""
        try:
            return None if self.regime is None else mmu_enabled(self.regime, self.state)
        except RegisterUnknownError:
            return None


NO_MACHINE = Snapshot(RunState.ABSENT)


def take_snapshot(session: Session, tell: Callable[[str], None]) -> Snapshot:
    """The selected CPU as it is now; ``tell`` hears what GDB has to say besides, of a stop that has just come.

    Raises:
        TargetError: GDB has ended.
    """
    said = session.command(_ASK_CPU)
    answer = _ANSWER.search(said)
    tell(_ANSWER.sub("", said).removesuffix("\n"))
    if answer is None or answer["state"] == "running":
        return Snapshot(RunState.RUNNING)
    if answer["state"] == "absent":
        return NO_MACHINE
    number, count = answer["number"], answer["count"]
    values = _registers(session)
    return Snapshot(RunState.STOPPED, int(number), int(count), values, symbol_at(session, values.get("PC")))


def _registers(session: Session) -> dict[str, int]:
    try:
        document = session.kexec_command(f"kexec-regs --raw {' '.join((*WATCHED_REGISTERS, *_FEATURES))}").document
    except TargetError:
        if session.gdb_has_ended:
            raise
        return {}  # not AArch64, or the stub refuses: the status shows that nothing is known
    read = {name: optional_number(entry["value"]) for name, entry in document.items()}
    return {name: value for name, value in read.items() if value is not None}


def symbol_at(session: Session, address: int | None) -> str:
    """``symbol+offset`` for an address; empty when no symbol is there."""
    if address is None:
        return ""
    printed = session.command(f"info symbol {address:#x}").strip()
    match = _SYMBOL.fullmatch(printed)
    if match is None or printed.startswith("No symbol"):
        return ""
    return match["name"] + (f"+{match['offset']}" if match["offset"] else "")
