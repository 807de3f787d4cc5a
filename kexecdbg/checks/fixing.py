"""Applies the repairs of a verdict to the live machine."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.regimes import SCTLR_EE
from kexecdbg.checks.enable_site import pending_write
from kexecdbg.checks.finding import DescriptorRepair, RegisterRepair, Repair, Severity
from kexecdbg.checks.situation import instruction_at
from kexecdbg.checks.verdict import Verdict
from kexecdbg.errors import MemoryUnreadableError, TargetError, UsageError
from kexecdbg.machine.debugger import Debugger
from kexecdbg.machine.memory import write_and_verify
from kexecdbg.machine.state import CpuState

_NZCV = 0xF << 28


@dataclass(frozen=True)
class RepairPlan:
    """What is going to be written.

    Attributes:
        repairs: the writes, descriptors first.
        operand: the general register that the pending ``msr`` writes from, when a repair changes the value.
        resume_at: where to set the PC back to after the freeze; ``None`` while the switch is still ahead.
        resume_pstate: PSTATE to restore with it.
    """

    verdict: Verdict
    repairs: tuple[Repair, ...]
    operand: str | None
    resume_at: int | None
    resume_pstate: int | None


def plan_repairs(verdict: Verdict, state: CpuState) -> RepairPlan:
    """What to write so that the machine in ``state`` runs on, given the ``verdict`` on its switch.

    Raises:
        UsageError: nothing can be repaired from here; the message says why.
    """
    fatal = [finding for finding in verdict.findings if finding.severity is Severity.FATAL]
    # Two findings about one descriptor propose the same write.
    # Several findings can propose a write to the same place; the worst finding, which comes first, knows best.
    by_place: dict[int | str, Repair] = {}
    for finding in fatal:
        if finding.repair is not None:
            by_place.setdefault(_place(finding.repair), finding.repair)
    repairs = list(by_place.values())
    if not fatal:
        raise UsageError("the verdict has no fatal finding: there is nothing to repair")
    if not repairs:
        raise UsageError(f"no single write cures {', '.join(finding.id for finding in fatal)}")
    situation = verdict.situation
    pc = state.get("PC")
    at_switch = pc == situation.site
    ahead = situation.start is not None and pc == situation.start.get("PC")
    operand = _operand(verdict, state) if at_switch else None
    for repair in repairs:
        if isinstance(repair, RegisterRepair) and not _is_pending(repair, verdict, operand):
            if ahead:
                raise UsageError(f"{repair.register} is not written yet; run kexec-step --before to get to the switch")
            raise UsageError(
                f"{repair.register} cannot be written from the debugger; correct the code: "
                f"{repair.register} = {repair.new:#x}"
            )
    if at_switch or ahead:
        return RepairPlan(verdict, tuple(repairs), operand, None, None)
    prediction = verdict.prediction
    if prediction.first is None or pc not in (prediction.vector, prediction.first.elr):
        raise UsageError(f"the CPU is at {pc:#x}, not at the switch or stuck after it; run kexec-check again")
    if situation.fetch_fault is None and prediction.first.elr == situation.next_pc:
        raise UsageError(
            f"the CPU fetched {situation.next_pc:#x} through the wrong translation and may keep it in its TLB, which a "
            "debugger cannot invalidate; start the machine again and repair before the switch"
        )
    return RepairPlan(verdict, tuple(repairs), None, prediction.first.elr, _pstate_before_exception(verdict, state))


def _pstate_before_exception(verdict: Verdict, state: CpuState) -> int | None:
    """PSTATE of the code that faulted; the flags are those of now: an exception leaves them alone."""
    situation, first = verdict.situation, verdict.prediction.first
    code, now = situation.before.get("PSTATE"), state.get("PSTATE")
    if first is None or first.elr == situation.next_pc or code is None or now is None:
        return code
    return code & ~_NZCV | now & _NZCV


def _place(repair: Repair) -> int | str:
    """What a repair writes: a descriptor's address or a register's name."""
    return repair.address if isinstance(repair, DescriptorRepair) else repair.register


def _operand(verdict: Verdict, state: CpuState) -> str | None:
    try:
        instruction = instruction_at(state, verdict.situation.memory, verdict.situation.site)
    except MemoryUnreadableError:
        return None
    return instruction.system_move.general if instruction.system_move else None


def _is_pending(repair: RegisterRepair, verdict: Verdict, operand: str | None) -> bool:
    if operand is None or operand == "XZR":
        return False
    situation = verdict.situation
    instruction = instruction_at(situation.before, situation.memory, situation.site)
    write = pending_write(instruction, situation.before)
    return write is not None and write.register == repair.register


def apply_repairs(debugger: Debugger, plan: RepairPlan) -> None:
    """Write the plan into the machine, each write read back.

    Raises:
        TargetError: a descriptor has changed since it was judged, or a write did not take.
    """
    situation = plan.verdict.situation
    big_endian = bit(situation.after.get(situation.regime.facts.sctlr) or 0, SCTLR_EE)
    word = struct.Struct(">Q" if big_endian else "<Q")
    for repair in plan.repairs:
        if isinstance(repair, DescriptorRepair):
            (found,) = word.unpack(debugger.memory.read(repair.address, word.size))
            if found != repair.old:
                raise TargetError(
                    f"the descriptor at {repair.address:#x} is {found:#x}, not {repair.old:#x} any more; "
                    "run kexec-check again"
                )
            write_and_verify(debugger.memory, repair.address, word.pack(repair.new))
        elif plan.operand is not None:
            debugger.write_register(plan.operand, repair.new)
    if plan.resume_at is not None:
        if plan.resume_pstate is not None:
            debugger.write_register("PSTATE", plan.resume_pstate)
        debugger.write_register("PC", plan.resume_at)
