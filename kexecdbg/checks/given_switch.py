"""The switch of a machine that is only known by what somebody gave of it: some registers, perhaps some memory.

With the PC and the memory that its instruction is in, the switch is found as on a live machine. Without, the given
values count as those that the MMU is switched on with, and what the code before it does is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.regimes import SCTLR_M, Regime, current_el, regime_of
from kexecdbg.checks.consistency import HCR_VHE_HOST, HCR_WITHOUT_VHE, Consistency, consistency_of
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.checks.partly_known import NO_ADDRESS
from kexecdbg.checks.situation import NoSwitchError, Situation, situation_at
from kexecdbg.errors import MemoryUnreadableError, RegisterUnknownError, UsageError
from kexecdbg.machine.state import CpuState

_MAX_ADDRESS = (1 << 64) - 1
_INTERRUPTS_MASKED = 0x3C0
_SP_ELX = 1
_AARCH32_USER = 0b10000
"""PSTATE.M[4:0] of a 32-bit process, whose tables are those of AArch64; larger: the modes of a 32-bit kernel."""
_DECIDING = ("SCTLR", "TTBR0", "TCR", "TTBR1", "MAIR")
"""Registers that say which exception level is meant, when the user does not; the first ones count more."""


@dataclass(frozen=True)
class GivenState:
    """Registers with what had to be assumed to make use of them.

    Attributes:
        state: the values, the assumed ones among them.
        regime: the translation regime.
        guessed: names of the registers that were assumed.
        remarks: what was assumed and why, one sentence each.
    """

    state: CpuState
    regime: Regime
    guessed: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class GivenSwitch:
    """A switch to judge.

    Attributes:
        situation: its next PC is :data:`~kexecdbg.checks.partly_known.NO_ADDRESS` when it is not known.
        consistency: what the registers alone say about each other; ``None`` when TCR_ELx is not given.
        guessed, remarks: see :class:`GivenState`.
    """

    situation: Situation
    consistency: Consistency | None
    guessed: frozenset[str]
    remarks: tuple[str, ...]


def complete_state(values: Mapping[str, int], regime: Regime | None = None) -> GivenState:
    """``values`` with an exception level, from PSTATE, ``regime`` or the registers that are given, and an HCR_EL2.

    Raises:
        UsageError: the level is not clear, or ``regime`` contradicts PSTATE or HCR_EL2.
    """
    guessed: dict[str, int] = {}
    remarks: list[str] = []
    state = CpuState(values)
    if state.get("PSTATE") is None and state.get("CurrentEL") is None:
        el, why = _level(values, regime)
        guessed["PSTATE"] = _INTERRUPTS_MASKED | el << 2 | _SP_ELX
        remarks.append(f"PSTATE is not given: EL{el}h, {why}.")
    elif state.get("PSTATE") is None:
        guessed["PSTATE"] = _INTERRUPTS_MASKED | (state.get("CurrentEL") or 0) | _SP_ELX
        remarks.append("PSTATE is not given: the level is CurrentEL's, with SP_ELx.")
    state = CpuState({**values, **guessed})
    pstate = state.get("PSTATE") or 0
    if bits(pstate, 4, 0) > _AARCH32_USER:
        raise UsageError(f"PSTATE {pstate:#x} is of an AArch32 mode (M[4] is set); only AArch64 is judged")
    el = current_el(state)
    if regime is not None and regime.facts.el != el and el != 0:
        raise UsageError(f"--regime {regime.value}: PSTATE {state.get('PSTATE'):#x} is EL{el}")
    if el < 3 and effective_e2h(state) is None:
        hcr, remark = _hcr(values, el, regime)
        guessed["HCR_EL2"] = hcr
        remarks.append(remark)
        state = CpuState({**values, **guessed})
    actual = regime_of(el, state)
    if regime is not None and actual is not regime:
        raise UsageError(
            f"--regime {regime.value}: with HCR_EL2 = {state.get('HCR_EL2') or 0:#x} EL{el} has {actual.value}"
        )
    return GivenState(state, actual, frozenset(guessed), tuple(remarks))


def _level(values: Mapping[str, int], regime: Regime | None) -> tuple[int, str]:
    """The exception level that ``values`` are of, and why."""
    if regime is not None:
        return regime.facts.el, f"that of --regime {regime.value}"
    for prefix in _DECIDING:
        levels = [el for el in (1, 2, 3) if f"{prefix}_EL{el}" in values]
        if len(levels) == 1:
            return levels[0], f"as {prefix}_EL{levels[0]} is given"
        if levels:
            names = " and ".join(f"{prefix}_EL{el}" for el in levels)
            raise UsageError(f"{names} are given and PSTATE is not: say which level it is with --regime, or PSTATE")
    raise UsageError(
        "nothing given says which MMU it is about; give SCTLR_ELx, TCR_ELx, MAIR_ELx and TTBR0_ELx, "
        "and PC and PSTATE if they are known"
    )


def _hcr(values: Mapping[str, int], el: int, regime: Regime | None) -> tuple[int, str]:
    """An HCR_EL2 for values without one, and the sentence that says so."""
    if el < 2:
        return HCR_WITHOUT_VHE, f"HCR_EL2 is not given: {HCR_WITHOUT_VHE:#x}, stage 2 off."
    if regime is not None:
        hcr = HCR_VHE_HOST if regime is Regime.EL2_0 else HCR_WITHOUT_VHE
        return hcr, f"HCR_EL2 is not given: {hcr:#x}, for --regime {regime.value}."
    judged = next((each for each in consistency_of(values) if each.regime.facts.el == el), None)
    if judged is None or "HCR_EL2" not in judged.assumed:
        return HCR_WITHOUT_VHE, f"HCR_EL2 is not given: {HCR_WITHOUT_VHE:#x}, E2H=0."
    return judged.assumed["HCR_EL2"], judged.reading


def given_switch(
    values: Mapping[str, int], memory: PhysicalMemory, regime: Regime | None = None, next_pc: int | None = None
) -> GivenSwitch:
    """The switch that ``values`` and ``memory`` are about.

    Args:
        values: registers by canonical name.
        memory: physical memory.
        regime: the translation regime, where the values do not say it.
        next_pc: the first address that is fetched after the switch: it counts as made with these values.

    Raises:
        UsageError: it is not clear which regime is meant, or the code at the PC does not switch an MMU on.
    """
    given = complete_state(values, regime)
    if next_pc is None and _has_code(given.state, memory):
        try:
            situation = situation_at(given.state, memory)
        except NoSwitchError as error:
            raise UsageError(f"{error.reason}; --next ADDRESS judges the registers as they are given") from None
        return GivenSwitch(situation, _consistency(situation.after, given), given.guessed, given.remarks)
    return _assumed(given, memory, next_pc)


def _has_code(state: CpuState, memory: PhysicalMemory) -> bool:
    """Whether the instruction at the PC is known."""
    pc = state.get("PC")
    try:
        return pc is not None and instruction_at(state, memory, pc) is not None
    except (MemoryUnreadableError, RegisterUnknownError):
        return False


def _assumed(given: GivenState, memory: PhysicalMemory, next_pc: int | None) -> GivenSwitch:
    """The write counts as made: the state as it is given, with the MMU on."""
    state, sctlr = given.state, given.regime.facts.sctlr
    remarks, guessed = list(given.remarks), given.guessed
    if next_pc is None and (pc := state.get("PC")) is not None:
        next_pc = pc + INSTRUCTION_SIZE & _MAX_ADDRESS
        remarks.append(f"The switch is taken to be at the PC: the next fetch is {next_pc:#x}.")
    before = after = state
    value = state.get(sctlr)
    if value is not None:
        if not bit(value, SCTLR_M):
            remarks.append(
                f"{sctlr} = {value:#x} has M clear: judged as if M were set and nothing else changed. "
                f"Give the value that will be written, --assume {sctlr}=VALUE."
            )
            guessed |= {sctlr}
        before = CpuState(_Changed(state, {sctlr: value & ~(1 << SCTLR_M)}))
        after = CpuState(_Changed(state, {sctlr: value | 1 << SCTLR_M}))
    address = NO_ADDRESS if next_pc is None else next_pc
    situation = Situation(before, after, memory, site=address, next_pc=address)
    fetching = after if next_pc is None else CpuState(_Changed(after, {"PC": next_pc}))
    return GivenSwitch(situation, _consistency(fetching, given), guessed, tuple(remarks))


@dataclass(frozen=True)
class _Changed:
    """Register values with some replaced; ``None`` makes one unknown. Unlike a pending write it leaves no trace."""

    registers: RegisterValues
    changes: Mapping[str, int | None]

    def get(self, name: str, /) -> int | None:
        return self.changes[name] if name in self.changes else self.registers.get(name)


def _consistency(registers: RegisterValues, given: GivenState) -> Consistency | None:
    """What the registers of the regime say about each other; a guessed HCR_EL2 counts only where it has to."""
    unguessed = _Changed(registers, {"HCR_EL2": None}) if "HCR_EL2" in given.guessed else registers
    for source in (unguessed, registers):
        for judged in consistency_of(source):
            if judged.regime is given.regime:
                return judged
    return None
