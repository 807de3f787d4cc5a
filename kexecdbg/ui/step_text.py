"""Executed instructions and the comparison of prediction and observation as text."""

from __future__ import annotations

from kexecdbg.arm64.syndromes import decode_syndrome
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.stepping import Observation, RegisterChange, StepRecord
from kexecdbg.checks.verdict import Verdict
from kexecdbg.ui.register_text import change_text
from kexecdbg.ui.style import WIDTH, Style, hanging

_TEXT_COLUMN = 45
_BELOW_COLUMN = 13


def step_text(record: StepRecord, style: Style) -> str:
    """One instruction: address, text, and beside or below it what it changed; system registers stand out."""
    head = f"{record.instruction.address:#x}  {record.instruction.text}"
    changes = [_change(change, style) for change in record.changes]
    plain = [_change(change, Style()) for change in record.changes]
    if not changes:
        return head
    lines, width = [head.ljust(_TEXT_COLUMN - 1)], max(len(head) + 1, _TEXT_COLUMN)
    for text, bare in zip(changes, plain, strict=True):
        if width + len(bare) > WIDTH and width > _TEXT_COLUMN:
            lines.append(" " * (_BELOW_COLUMN - 1))
            width = _BELOW_COLUMN
        lines[-1] += f" {text}"
        width += len(bare) + 1
    return "\n".join(line.rstrip() for line in lines)


def _change(change: RegisterChange, style: Style) -> str:
    text = change_text(change.name, change.old, change.new)
    return style.bold(text) if "_EL" in change.name else text


def comparison_text(verdict: Verdict, observed: Observation, style: Style) -> str:
    """Prediction and observation side by side, and whether they agree."""
    predicted = verdict.prediction
    lines = [style.bold(f"{'':<17} {'predicted':<30} observed")]
    lines += _rows("1st", predicted.first, observed.first, unread=bool(observed.unread and observed.first is None))
    if observed.followed and (predicted.then or observed.then):
        lines += _rows("2nd", predicted.then, observed.then, unread=bool(observed.unread))
    if observed.first is not None:
        lines.append(f"1st syndrome: {decode_syndrome(observed.first.esr).summary}")
    agrees = observed.agrees_with(verdict)
    if agrees is None:
        lines.append(style.warn(hanging("not compared:", observed.unread, 14)))
    elif agrees:
        lines.append(style.good("prediction and observation agree"))
    else:
        lines.append(style.bad("prediction and observation DIFFER"))
    return "\n".join(lines)


def _rows(
    label: str, predicted: ExceptionRecord | None, observed: ExceptionRecord | None, *, unread: bool
) -> list[str]:
    if predicted is None and observed is None:
        if unread:
            return [f"{label:<17} {'no exception: runs on':<30} an exception, unread"]
        return [f"{label:<17} {'no exception: runs on':<30} no exception: ran on"]
    cells = {
        name: (_cell(predicted, name), "unread" if unread else _cell(observed, name).replace("-", "unread"))
        for name in ("esr", "far", "elr")
    }
    # An aborted fetch has the same address in both, in most cases on both sides.
    far_is_elr = cells["far"] == cells["elr"]
    rows = []
    for name, (left, right) in cells.items():
        if left != "-" and not (name == "far" and far_is_elr):
            title = "FAR = ELR" if name == "elr" and far_is_elr else name.upper()
            rows.append(f"{label if name == 'esr' else '':<4} {title:<12} {left:<30} {right}".rstrip())
    return rows


def _cell(record: ExceptionRecord | None, name: str) -> str:
    if record is None:
        return "no exception"
    value: int | None = getattr(record, name)
    return "-" if value is None else f"{value:#x}"
