"""The moment at which the relocation code of a given argument begins, made from what is known before the jump."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import Regime, current_el, regime_of
from kexecdbg.arm64.walk import walk
from kexecdbg.checks.relocation import Relocation
from kexecdbg.checks.situation import Situation, situation_at
from kexecdbg.errors import KexecdbgError, RegisterUnknownError
from kexecdbg.kexec.argument import Addressing, RelocationArgument, Role
from kexecdbg.machine.state import CpuState

_ADDRESSES = 1 << 64
_EL1H, _EL2H = 0x3C5, 0x3C9
_MMU_AND_CACHES_ON = 1 << 0 | 1 << 2 | 1 << 12
_E2H_TGE_RW = 1 << 34 | 1 << 27 | 1 << 31
_RW = 1 << 31
_T0SZ = 0x3F
_TG1_4K, _IPS_48 = 0b10 << 30, 0b101 << 32


@dataclass(frozen=True)
class RelocationEntry(Situation):
    """A situation whose relocation is known, and need not be found through a register.

    Attributes:
        known: the relocation.
    """

    known: Relocation | None = None

    @cached_property
    def relocation(self) -> Relocation | None:
        """The relocation."""
        return self.known


@dataclass(frozen=True)
class Entry:
    """The relocation of an argument.

    Attributes:
        situation: the moment it begins; its relocation is that of the argument.
        relocation: the relocation.
        assumptions: what was not read from the machine, one clause each.
    """

    situation: Situation
    relocation: Relocation
    assumptions: tuple[str, ...]


def entry_of(state: CpuState, memory: PhysicalMemory, argument: RelocationArgument) -> Entry:
    """The moment at which the code that gets ``argument`` begins.

    If the code at the PC, or what it leads to, carries this relocation out, it is that code's; otherwise the kernel's
    registers with what ``struct kimage`` says they will be.

    Raises:
        RegisterUnknownError: a register that decides is unknown.
    """
    try:
        here = situation_at(state, memory)
    except KexecdbgError:  # nothing here switches an MMU on, or it cannot be told
        here = None
    found = None if here is None else here.relocation
    if here is not None and found is not None and found.argument.address == argument.address:
        return Entry(here, found, ())
    if argument.layout.addressing is Addressing.LINEAR_MAP:
        state, assumptions = _in_the_kernel(state, argument)
    else:
        assumptions = ()
    pc = argument.values.get("arch.kern_reloc") or state.require("PC", "where the relocation code is")
    relocation = Relocation(argument, ("X0",), state, state, memory, pc)
    situation = RelocationEntry(state, state, memory, pc, pc, known=relocation)
    return Entry(situation, relocation, assumptions)


def _in_the_kernel(state: CpuState, argument: RelocationArgument) -> tuple[CpuState, tuple[str, ...]]:
    """The kernel's registers at the jump to mainline's relocation code (arch/arm64/kernel/machine_kexec.c)."""
    assumptions: list[str] = []

    def assume(name: str, value: int, why: str) -> None:
        nonlocal state
        if state.get(name) is None:
            state = state.with_values({name: value})
            assumptions.append(f"{name} = {value:#x}: {why}")

    assume("PSTATE", _EL1H, "the kernel runs at EL1")
    at_el2 = current_el(state) == 2
    assume("HCR_EL2", _E2H_TGE_RW if at_el2 else _RW, "the kernel runs at EL2 with VHE" if at_el2 else "at EL1")
    if current_el(state) == 0:
        state = state.with_values({"PSTATE": _EL2H if regime_of(0, state) is Regime.EL2_0 else _EL1H})
    facts = regime_of(current_el(state), state).facts
    assume(facts.sctlr, _MMU_AND_CACHES_ON, "the MMU is on")
    linear = (argument.require(Role.ENTRY) - argument.values["arch.phys_offset"]) % _ADDRESSES
    # The linear map is the lower half of the kernel's addresses (since 5.4): the first bit that is 0 is VA_BITS - 1.
    t1sz = 64 - (linear ^ (_ADDRESSES - 1)).bit_length()
    t0sz = argument.get(Role.T0SZ)
    assume(
        facts.tcr,
        (t1sz if t0sz is None else t0sz) | t1sz << 16 | _TG1_4K | _IPS_48,
        f"pages of 4 KiB, and T1SZ {t1sz} as the addresses of the linear map have it",
    )
    tcr = state.require(facts.tcr, "how the tables are walked")
    values = {} if t0sz is None else {facts.tcr: tcr & ~_T0SZ | t0sz & _T0SZ}
    for role, name in ((Role.TTBR0, facts.ttbr0), (Role.TTBR1, facts.ttbr1)):
        table = argument.get(role)
        if table is not None and name is not None:
            values[name] = table
    return state.with_values(values), tuple(assumptions)


def argument_here(state: CpuState, memory: PhysicalMemory) -> RelocationArgument | None:
    """The argument of the relocation code that the CPU is at or comes to; ``None`` when it is somewhere else."""
    relocation = relocation_ahead(state, memory)
    return None if relocation is None else relocation.argument


def relocation_ahead(state: CpuState, memory: PhysicalMemory) -> Relocation | None:
    """The relocation whose code the CPU is at or comes to; ``None`` when it is somewhere else."""
    try:
        situation = situation_at(state, memory)
    except KexecdbgError:  # nothing here switches an MMU on: mainline's relocation code does not
        pc = state.get("PC")
        if pc is None or state.get("PSTATE") is None:
            return None
        situation = Situation(state, state, memory, pc, pc)
    try:
        relocation = situation.relocation
        return None if relocation is None or relocation.loop is None else relocation
    except RegisterUnknownError:
        return None


def physical_addresses(state: CpuState, memory: PhysicalMemory, address: int) -> tuple[int, ...]:
    """What ``address`` may be: translated as the CPU would now, if it can be, or else physical."""
    pa = translated(state, memory, address)
    return tuple(dict.fromkeys(each for each in (pa, address) if each is not None))


def translated(state: CpuState, memory: PhysicalMemory, va: int) -> int | None:
    """The physical address of ``va`` whoever may access it; ``None`` when it is not mapped, or cannot be told."""
    try:
        return walk(state, memory, va, regime=regime_of(current_el(state), state)).pa
    except KexecdbgError:  # a register is unknown, as in a memory dump
        return None
