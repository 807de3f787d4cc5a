"""Applies the repairs of a verdict to the live machine."""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.pstate import flags_of, with_flags
from kexecdbg.arm64.regimes import SCTLR_EE
from kexecdbg.checks.code_corrections import CodeCorrection, code_correction
from kexecdbg.checks.enable_site import pending_write
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.checks.finding import DescriptorRepair, Finding, RegisterRepair, Repair, Severity
from kexecdbg.checks.judging import judge
from kexecdbg.checks.situation import situation_at
from kexecdbg.checks.verdict import Verdict
from kexecdbg.errors import MemoryUnreadableError, TargetError, UsageError
from kexecdbg.machine.debugger import Debugger
from kexecdbg.machine.memory import write_and_verify
from kexecdbg.machine.state import CpuState


@dataclass(frozen=True)
class RepairPlan:
    """What is going to be written.

    Attributes:
        repairs: the writes, descriptors first; none when nothing is to be written before the code is corrected.
        operand: the general register that the pending ``msr`` writes from, when a repair changes the value.
        resume_at: where to set the PC back to after the freeze; ``None`` while the switch is still ahead.
        resume_pstate: PSTATE to restore with it.
        corrections: repairs that only the code can make, and where in it.
        held_back: what could be written and is not, because of the corrections.
    """

    verdict: Verdict
    repairs: tuple[Repair, ...]
    operand: str | None
    resume_at: int | None
    resume_pstate: int | None
    corrections: tuple[CodeCorrection, ...] = ()
    held_back: tuple[Repair, ...] = ()


def plan_repairs(verdict: Verdict, state: CpuState, ids: Collection[str] = ()) -> RepairPlan:
    """What to write so that the machine in ``state`` runs on, given the ``verdict`` on its switch.

    Without ``ids`` that is every repair of a fatal finding, and nothing where one of them cannot be written from the
    debugger: a machine that is half repaired faults as before. With ``ids`` it is what can be written of the repairs
    of those findings, whatever their severity.

    Raises:
        UsageError: nothing can be repaired from here; the message says why.
    """
    chosen = _chosen(verdict, ids)
    # Several findings can propose a write to the same place; the worst finding, which comes first, knows best.
    by_place: dict[int | str, Repair] = {}
    for finding in chosen:
        if finding.repair is not None:
            by_place.setdefault(_place(finding.repair), finding.repair)
    situation, pc = verdict.situation, state.get("PC")
    at_switch = pc == situation.site
    ahead = situation.start is not None and pc == situation.start.get("PC")
    beyond = not at_switch and not ahead
    operand = _operand(verdict, state) if at_switch else None
    repairs: list[Repair] = []
    corrections: list[CodeCorrection] = []
    for repair in by_place.values():
        if isinstance(repair, DescriptorRepair) or _is_pending(repair, verdict, operand):
            repairs.append(repair)
        elif ahead and repair.register == situation.regime.facts.sctlr:
            raise UsageError(f"{repair.register} is not written yet; run kexec-step --before to get to the switch")
        else:
            corrections.append(code_correction(situation, repair, pc, beyond))
    writable = tuple(repairs) if ids or not corrections else ()
    held_back = () if writable else tuple(repairs)
    if not writable or not beyond:
        return RepairPlan(verdict, writable, operand, None, None, tuple(corrections), held_back)
    resume_at, pstate = None, None
    if any(finding.severity is Severity.FATAL for finding in chosen):
        resume_at, pstate = _way_back(verdict, state)
    return RepairPlan(verdict, writable, None, resume_at, pstate, tuple(corrections))


def repairable_ids(verdict: Verdict) -> tuple[str, ...]:
    """Ids of the findings that have a repair, the worst first."""
    return tuple(dict.fromkeys(finding.id for finding in verdict.findings if finding.repair is not None))


def _chosen(verdict: Verdict, ids: Collection[str]) -> list[Finding]:
    """The findings to repair: those with ``ids``, or else the fatal ones."""
    found, repairable = {finding.id for finding in verdict.findings}, repairable_ids(verdict)
    for wanted in ids:
        if wanted not in repairable:
            problem = f"no single write cures {wanted}" if wanted in found else f"{wanted} is not among the findings"
            others = f"there are repairs for {', '.join(repairable)}" if repairable else "no finding has a repair"
            raise UsageError(f"{problem}; {others}")
    if ids:
        return [finding for finding in verdict.findings if finding.id in ids]
    fatal = [finding for finding in verdict.findings if finding.severity is Severity.FATAL]
    if not fatal:
        hint = f"; for what is no more than a hazard, kexec-fix {repairable[0]}" if repairable else ""
        raise UsageError(f"the verdict has no fatal finding: there is nothing to repair{hint}")
    if all(finding.repair is None for finding in fatal):
        raise UsageError(f"no single write cures {', '.join(finding.id for finding in fatal)}")
    return fatal


def _way_back(verdict: Verdict, state: CpuState) -> tuple[int, int | None]:
    """Where the CPU, stuck after the switch, goes on once it is repaired, and with which PSTATE."""
    situation, prediction, pc = verdict.situation, verdict.prediction, state.require("PC", "where the CPU is stuck")
    if prediction.first is None or pc not in (prediction.vector, prediction.first.elr):
        raise UsageError(f"the CPU is at {pc:#x}, not at the switch or stuck after it; run kexec-check again")
    if situation.fetch_fault is None and prediction.first.elr == situation.next_pc:
        raise UsageError(
            f"the CPU fetched {situation.next_pc:#x} through the wrong translation and may keep it in its TLB, which a "
            "debugger cannot invalidate; start the machine again and repair before the switch"
        )
    return prediction.first.elr, _pstate_before_exception(verdict, state)


def _pstate_before_exception(verdict: Verdict, state: CpuState) -> int | None:
    """PSTATE of the code that faulted; the flags are those of now: an exception leaves them alone."""
    situation, first = verdict.situation, verdict.prediction.first
    code, now = situation.before.get("PSTATE"), state.get("PSTATE")
    if first is None or first.elr == situation.next_pc or code is None or now is None:
        return code
    return with_flags(code, flags_of(now))


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


def judge_again(debugger: Debugger, plan: RepairPlan) -> Verdict:
    """The verdict on the machine as it is after ``plan`` was applied.

    Where the PC was set back the switch lies behind: what is judged then is the translation that is on, from the
    instruction at the PC on.
    """
    situation, state = plan.verdict.situation, debugger.state()
    if plan.resume_at is None:
        # What the user gave with --assume still counts.
        return judge(situation_at(state.with_values((situation.start or situation.before).assumed), debugger.memory))
    sctlr = situation.regime.facts.sctlr
    return judge(situation_at(state.with_values({sctlr: state.require(sctlr, "the verdict")}), debugger.memory))
