"""Executed instructions and the comparison of prediction and observation as text."""

from __future__ import annotations

from kexecdbg.arm64.syndromes import decode_syndrome
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.stepping import Observation, RegisterChange, StepRecord
from kexecdbg.checks.verdict import Verdict
from kexecdbg.ui.style import WIDTH, Style, hanging

_TEXT_COLUMN = 45
_FLAGS = ((31, "N"), (30, "Z"), (29, "C"), (28, "V"))


def step_text(record: StepRecord, style: Style) -> str:
    """One instruction: address, text, and what it changed; system registers stand out."""
    head = f"{record.instruction.address:#x}  {record.instruction.text}"
    changes = [_change(change, style) for change in record.changes]
    plain = [_change(change, Style()) for change in record.changes]
    if not changes:
        return head
    lines, width = [head.ljust(_TEXT_COLUMN - 1)], max(len(head) + 1, _TEXT_COLUMN)
    for text, bare in zip(changes, plain, strict=True):
        if width + len(bare) > WIDTH and width > _TEXT_COLUMN:
            lines.append(" " * (_TEXT_COLUMN - 1))
            width = _TEXT_COLUMN
        lines[-1] += f" {text}"
        width += len(bare) + 1
    return "\n".join(line.rstrip() for line in lines)


def _change(change: RegisterChange, style: Style) -> str:
    if change.name == "PSTATE" and change.old is not None:
        return _pstate_change(change.old, change.new)
    text = f"{change.name}={change.new:#x}"
    return style.bold(text) if "_EL" in change.name else text


def _pstate_change(old: int, new: int) -> str:
    flags = "".join(letter if new >> position & 1 else letter.lower() for position, letter in _FLAGS)
    return f"nzcv={flags}" if (old ^ new) & ~(0xF << 28) == 0 else f"PSTATE={new:#x}"


def comparison_text(verdict: Verdict, observed: Observation, style: Style) -> str:
    """Prediction and observation side by side, and whether they agree."""
    predicted = verdict.prediction
    lines = [style.bold(f"{'':<10} {'predicted':<34} observed")]
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
            return [f"{label:<10} {'no exception: runs on':<34} an exception, unread"]
        return [f"{label:<10} {'no exception: runs on':<34} {'no exception: ran on':<34}".rstrip()]
    rows = []
    for name in ("esr", "far", "elr"):
        values = [_cell(predicted, name), "unread" if unread else _cell(observed, name).replace("-", "unread")]
        if values[0] != "-":
            rows.append(
                f"{label if name == 'esr' else '':<4} {name.upper():<5} {values[0]:<34} {values[1]:<34}".rstrip()
            )
    return rows


def _cell(record: ExceptionRecord | None, name: str) -> str:
    if record is None:
        return "no exception"
    value: int | None = getattr(record, name)
    return "-" if value is None else f"{value:#x}"
