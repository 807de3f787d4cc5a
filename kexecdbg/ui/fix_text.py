"""What kexec-fix writes, and the verdict afterwards, as text."""

from __future__ import annotations

from collections.abc import Sequence

from kexecdbg.checks.code_corrections import CodeCorrection, Position
from kexecdbg.checks.finding import DescriptorRepair, Severity
from kexecdbg.checks.fixing import RepairPlan
from kexecdbg.checks.repair_changes import ChangedField, RepairChange
from kexecdbg.checks.verdict import Judgement, Verdict
from kexecdbg.ui.style import Style, hanging
from kexecdbg.ui.verdict_text import prediction_text, repair_text

COLUMN = 11
_WIDEST_DECIMAL = 7
"""Fields up to this many bits are numbers people know in decimal, as kexec-regs shows them."""
_NOT_WRITTEN = "the gdbstub drops writes to system registers, so the code has to be corrected"


def changes_text(plan: RepairPlan, changes: Sequence[RepairChange], label: str, style: Style) -> str:
    """What is written, ``label`` before it: each change old to new, with the fields; then the PC."""
    lines = []
    for change in changes:
        lines.append(hanging(label, f"{', '.join(change.findings)}: {repair_text(change.repair)}", COLUMN, style))
        lines.append(hanging("", _old_and_new(plan, change), COLUMN))
    if plan.resume_at is not None:
        lines.append(hanging(label, f"PC = {plan.resume_at:#x}, the instruction that faulted", COLUMN, style))
    return "\n".join(lines)


def _old_and_new(plan: RepairPlan, change: RepairChange) -> str:
    repair = change.repair
    if isinstance(repair, DescriptorRepair):
        place = "" if change.level is None else f"level {change.level}: "
        values = f"{repair.old:#018x} -> {repair.new:#018x}"
    else:
        place, values = f"pending in {plan.operand}: ", f"{repair.old:#x} -> {repair.new:#x}"
    return f"{place}{values}; {fields_text(change.fields)}"


def fields_text(fields: Sequence[ChangedField]) -> str:
    """``XN (bit 54) 1 -> 0, AP[2] (bit 7) 0 -> 1``."""
    return ", ".join(_field(field) for field in fields)


def _field(field: ChangedField) -> str:
    if field.msb == field.lsb:
        name = f"{field.name} (bit {field.msb})" if field.name else f"bit {field.msb}"
    else:
        name = f"{field.name} ({field.msb}:{field.lsb})"
    form = "d" if field.msb - field.lsb < _WIDEST_DECIMAL else "#x"
    return f"{name} {field.old:{form}} -> {field.new:{form}}"


def correction_text(change: RepairChange, correction: CodeCorrection, style: Style) -> str:
    """A repair that only the code can make: which instruction to change, or to execute."""
    repair, write, operand = correction.repair, correction.write, correction.operand
    lines = [
        hanging("not done", f"{', '.join(change.findings)}: {repair_text(repair)}; {_NOT_WRITTEN}", COLUMN, style),
        hanging("", f"{repair.register} {repair.old:#x} -> {repair.new:#x}: {fields_text(change.fields)}", COLUMN),
    ]
    if write is None or operand is None:
        code = f"insert msr {repair.register.lower()}, x0 and isb before {correction.site:#x}, x0 = {repair.new:#x}"
        return "\n".join([*lines, hanging("correct", code, COLUMN, style)])
    made = [f"{instruction.address:#x}: {instruction.text}" for instruction in correction.made_by]
    if correction.literal is not None:
        made[0] += f" (the {correction.literal.size} bytes at {correction.literal.address:#x})"
    register = operand.lower()
    value = "; ".join(made) if made else f"what makes {register} before {write.address:#x}"
    lines.append(hanging("correct", f"{value}, so that {register} = {repair.new:#x}", COLUMN, style))
    lines.append(hanging("", f"at {write.address:#x}: {write.text}", COLUMN))
    lines += [hanging("or now" if not number else "", step, COLUMN) for number, step in enumerate(_by_hand(correction))]
    return "\n".join(lines)


def _by_hand(correction: CodeCorrection) -> list[str]:
    """GDB commands that do it in this run."""
    write, operand, new = correction.write, correction.operand, correction.repair.new
    if write is None or operand in (None, "XZR"):
        return []
    register = f"${(operand or '').lower()}"
    if correction.position is Position.BEFORE_WRITE:
        return [f"thbreak *{write.address:#x}", "continue", f"set {register} = {new:#x}"]
    if correction.position is Position.BEYOND:
        return ["the MMU is on: start the machine again, and repair before the switch"]
    back = "" if correction.operand_at_switch is None else f"{correction.operand_at_switch:#x}"
    return [
        f"set $pc = {write.address:#x}",
        f"set {register} = {new:#x}",
        "stepi",
        f"set $pc = {correction.site:#x}",
        *([f"set {register} = {back}"] if back else []),
    ]


def held_back_text(ids: Sequence[str], style: Style) -> str:
    """What could be written and was not."""
    names = " ".join(ids)
    text = f"half a repair faults as before, so nothing was written; kexec-fix {names} writes what can be written"
    return hanging("held back", text, COLUMN, style)


def recheck_text(verdict: Verdict, style: Style) -> str:
    """The verdict after the repair, in two or three lines."""
    fatal, hazards = (
        ", ".join(dict.fromkeys(finding.id for finding in verdict.findings if finding.severity is severity))
        for severity in (Severity.FATAL, Severity.HAZARD)
    )
    if verdict.judgement is Judgement.SOUND:
        headline = style.good("SOUND") + " now" + (f"; hazards that remain: {hazards}" if hazards else "")
    elif verdict.judgement is Judgement.FAULTS:
        headline = style.bad("FAULTS") + " still" + (f": {fatal}" if fatal else "")
    else:
        headline = style.warn("UNKNOWN") + ": it cannot be told what happens now"
    label = style.bold("checked") if style.colour else "checked"
    return "\n".join(
        [label + " " * (COLUMN - len("checked")) + headline, prediction_text(verdict.prediction, verdict, style)]
    )
