"""What ``kexecdbg decode`` prints: the verdict first, the evidence under it, the next command last."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.registers.model import DecodedRegister
from kexecdbg.checks.consistency import Consistency, where_to_look
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.printed_walk import Agreement, WalkJudgement
from kexecdbg.ui.decode_report import ReadSyndrome, Report
from kexecdbg.ui.register_text import brief, full, value_text
from kexecdbg.ui.style import WIDTH, Style, hanging

_COLUMN = 11
_NAME_COLUMN = 12
_ATTACH = "--attach localhost:1234"


def report_text(report: Report, style: Style, every_field: bool = False) -> str:
    """The whole report; ``every_field`` shows each register one line a field."""
    blocks = [
        *(_syndrome(found, style) for found in report.syndromes),
        *(_walk(judged, style) for judged in report.walks),
        *(_consistency(judged, style) for judged in report.consistency),
        _registers(report, style, every_field),
        "\n".join([*_code(report), *(style.warn(hanging("note", remark, _COLUMN)) for remark in report.remarks)]),
        _next(report),
    ]
    return "\n\n".join(block for block in blocks if block)


def _syndrome(found: ReadSyndrome, style: Style) -> str:
    head = f"{found.name} {found.syndrome.value:#010x}: "
    lines = [style.bold(head) + hanging("", found.syndrome.summary, len(head)).lstrip()]
    return "\n".join([*lines, *(hanging("", sentence, _COLUMN) for sentence in found.along)])


def _walk(judged: WalkJudgement, style: Style) -> str:
    emphasise = {Agreement.AGREES: style.good, Agreement.DIFFERS: style.bad, Agreement.OPEN: style.warn}
    label = {Agreement.AGREES: "TABLES AGREE", Agreement.DIFFERS: "TABLES DIFFER", Agreement.OPEN: "TABLES"}
    head = label[judged.agreement]
    text = hanging(head, f" {' '.join(judged.text)}".strip(), max(_COLUMN, len(head) + 2))
    lines = [emphasise[judged.agreement](head) + text[len(head) :]]
    owner = f"{judged.walk.owner} tables, " if judged.walk.owner else ""
    lines.append(hanging("", f"{judged.walk.va:#018x}: {owner}{judged.geometry}", _COLUMN))
    for item in judged.levels:
        leads = "" if item.output is None else f" -> {item.output:#x}"
        line = f"level {item.level:<2} {item.name:<11} {item.descriptor:#018x} {item.kind.value}{leads}"
        notes = f"  {' '.join(item.notes)}"
        if len(line + notes) + _COLUMN <= WIDTH:
            lines.append((" " * _COLUMN + line + notes).rstrip())
        else:
            lines += [" " * _COLUMN + line, hanging("", notes.strip(), _COLUMN + 9)]
    if judged.rights is not None:
        kernel, user = judged.rights
        lines.append(hanging("", f"rights: kernel {kernel}, EL0 {user}", _COLUMN))
    return "\n".join([*lines, *(style.warn(hanging("assumed", text, _COLUMN)) for text in judged.assumptions)])


def _consistency(judged: Consistency, style: Style) -> str:
    if judged.faults:
        head, emphasise = "FAULTS", style.bad
    elif judged.unjudged:
        head, emphasise = "UNKNOWN", style.warn
    else:
        head, emphasise = ("NO FAULT" if len(judged.given) == 1 else "CONSISTENT"), style.good
    lines = [emphasise(head) + hanging(head, judged.statement, _COLUMN)[len(head) :]]
    lines += [_finding(finding, style) for finding in judged.findings]
    if judged.reading:
        lines.append(hanging("layout", judged.reading, _COLUMN))
    for number, text in enumerate(judged.agreed):
        lines.append(hanging("" if number else "agreed", text, _COLUMN))
    if judged.odd:
        lines.append(style.warn(hanging("reserved", f"reserved bits or values in {', '.join(judged.odd)}", _COLUMN)))
    if not judged.faults and not judged.missing and not judged.unjudged:
        for number, text in enumerate(where_to_look(judged.regime)):
            lines.append(hanging("" if number else "look for", text, _COLUMN))
    return "\n".join(lines)


def _finding(finding: Finding, style: Style) -> str:
    label = f"{finding.id} {finding.severity.value}"
    emphasise = {Severity.FATAL: style.bad, Severity.HAZARD: style.warn, Severity.NOTE: style.dim}[finding.severity]
    return emphasise(label) + hanging(label, finding.text, _COLUMN)[len(label) :]


def _registers(report: Report, style: Style, every_field: bool) -> str:
    shown = [decoded for decoded in report.registers if decoded.fields and not _in_words(decoded, report)]
    plain = [decoded for decoded in report.registers if not decoded.fields and not decoded.name.startswith("X")]
    one = every_field or len(report.registers) == 1
    paragraphs = [(full if one else brief)(decoded, style) for decoded in (report.registers if one else shown)]
    if not one:
        paragraphs += [hanging(item.name, value_text(item.value), _NAME_COLUMN, style) for item in plain]
        general = [item for item in report.registers if item.name.startswith("X")]
        if general:
            text = f"{len(general)} general registers; --json and --full have them"
            paragraphs.append(style.dim(hanging("X0-X30", text, _NAME_COLUMN)))
    return "\n".join(paragraphs)


def _in_words(decoded: DecodedRegister, report: Report) -> bool:
    """Whether the block of the syndrome has said all that there is."""
    if decoded.name.startswith("ESR_EL"):
        return any(found.name == decoded.name for found in report.syndromes)
    return decoded.name.startswith(("FAR_EL", "ELR_EL")) and bool(report.syndromes)


def _code(report: Report) -> Iterator[str]:
    for name, symbol in report.code.items():
        yield hanging(name, symbol, _COLUMN)


def _next(report: Report) -> str:
    for judged in report.consistency:
        if not judged.faults and not judged.missing:
            regime = "" if judged.regime is Regime.EL1_0 else f" --regime {shlex.quote(judged.regime.value)}"
            return "\n".join(
                [
                    hanging("next", "with QEMU stopped before the MMU is switched on (-s -S):", _COLUMN),
                    f"{' ' * _COLUMN}kexecdbg check {_ATTACH}",
                    f"{' ' * _COLUMN}kexecdbg walk '$pc'{regime} {_ATTACH}",
                ]
            )
    for judged in report.consistency:
        if not judged.faults and len(judged.given) > 1:
            pairs = " ".join(f"{name}=VALUE" for name in judged.missing)
            return hanging("next", f"give the rest too: {pairs}", _COLUMN)
    if report.walks:
        command = f"kexecdbg walk {report.walks[0].walk.va:#x} {_ATTACH}"
        head = hanging("next", "the tables as they are, with the machine at a gdbstub:", _COLUMN)
        return f"{head}\n{' ' * _COLUMN}{command}"
    return ""
