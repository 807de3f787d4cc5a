"""The verdict on a machine that is only partly known, as text: the verdict first, what is needed last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kexecdbg.checks.assessment import Assessment, Needed
from kexecdbg.checks.finding import Severity
from kexecdbg.checks.partly_known import NO_ADDRESS
from kexecdbg.checks.prediction import Outcome
from kexecdbg.checks.rule_status import Standing
from kexecdbg.checks.verdict import Judgement, Verdict
from kexecdbg.ui.style import Style, hanging
from kexecdbg.ui.verdict_text import exception_text, finding_text, prediction_text

_COLUMN = 11
_PAGE = 4096
_FEW = 6


def assessment_text(assessment: Assessment, remarks: Sequence[str], style: Style) -> str:
    """What ``kexecdbg check`` prints without a live machine; ``remarks`` are those on how the input was read."""
    lines = [_headline(assessment, style)]
    lines += [finding_text(finding, style) for finding in assessment.findings]
    fatal = any(finding.severity is Severity.FATAL for finding in assessment.findings)
    if assessment.consistency is not None and not fatal:
        lines.append(hanging("registers", assessment.consistency.statement, _COLUMN, style))
    lines += _predicted(assessment, style)
    lines += _paragraphs("assumed", (*remarks, *assessment.remarks), style)
    for label, standing in (("excluded", Standing.EXCLUDED), ("open", Standing.OPEN)):
        ids = assessment.ids(standing)
        if ids:
            lines.append(hanging(label, ", ".join(_ranges(ids)), _COLUMN, style))
    lines += _paragraphs("needed", [_needed(item) for item in assessment.needed], style)
    commands = list(_next(assessment))
    lines.append(hanging("next", commands[0], _COLUMN))
    return "\n".join([*lines, *(" " * _COLUMN + command for command in commands[1:])])


def _paragraphs(label: str, texts: Sequence[str], style: Style) -> list[str]:
    """``texts`` under one another, the first with the label."""
    return [hanging("" if number else label, text, _COLUMN, style) for number, text in enumerate(texts)]


def _ranges(names: Sequence[str]) -> Iterator[str]:
    """Names of a letter and a number, in order, with three and more that follow each other as ``M10-M16``."""
    runs: list[list[str]] = []
    for name in names:
        previous = runs[-1][-1] if runs else ""
        if previous[:1] == name[0] and int(previous[1:]) + 1 == int(name[1:]):
            runs[-1].append(name)
        else:
            runs.append([name])
    for run in runs:
        yield from (run if len(run) < 3 else [f"{run[0]}-{run[-1]}"])


def _headline(assessment: Assessment, style: Style) -> str:
    emphasise = {Judgement.FAULTS: style.bad, Judgement.SOUND: style.good, Judgement.UNKNOWN: style.warn}
    word = assessment.judgement.name
    situation = assessment.situation
    if situation.next_pc == NO_ADDRESS:
        what = f"switching the {situation.regime.value} MMU on with these registers"
    elif situation.is_assumed:
        what = (
            f"switching the {situation.regime.value} MMU on with these registers; "
            f"the next fetch is {situation.next_pc:#x}"
        )
    else:
        count = len(situation.approach)
        ahead = f", {count} instruction{'' if count == 1 else 's'} ahead," if count else ""
        what = f"the write at {situation.site:#x}{ahead} switches the {situation.regime.value} MMU on"
    if assessment.judgement is Judgement.UNKNOWN:
        what += "; it depends on what is not given"
    text = hanging(f"{word}:", what, len(word) + 2)
    return emphasise[assessment.judgement](word) + text[len(word) :]


def _predicted(assessment: Assessment, style: Style) -> list[str]:
    """The prediction, as far as there is one."""
    prediction, situation = assessment.prediction, assessment.situation
    if prediction.outcome is not Outcome.UNKNOWN:
        verdict = Verdict(situation, assessment.judgement, assessment.findings, prediction)
        return [prediction_text(prediction, verdict, style)]
    if prediction.first is None:
        return []
    facts = situation.regime.facts
    return [
        hanging("predicted", f"1st exception: {exception_text(prediction.first, facts)}", _COLUMN, style),
        hanging("", "what its vector does cannot be told", _COLUMN),
    ]


def _needed(item: Needed) -> str:
    """One thing, with the rules that wait for it where they are few."""
    if item.address is not None:
        text = f"{item.address:#x}, {item.size} bytes: {item.purpose}"
    elif item.registers and item.registers != ("PC",):
        text = f"{_listed(item.registers)}: {item.purpose}"
    else:
        text = item.purpose
    rules = list(_ranges(sorted(item.rules)))
    return f"{text} ({', '.join(rules)})" if 0 < len(rules) <= _FEW else text


def _listed(names: Sequence[str]) -> str:
    """Register names, general ones first and as ranges."""
    general = sorted((name for name in names if name[0] == "X"), key=lambda name: int(name[1:]))
    return ", ".join([*_ranges(general), *(name for name in names if name[0] != "X")])


def _next(assessment: Assessment) -> Iterator[str]:
    """How to get the first memory that a verdict takes, or what to type now."""
    missing = next((item for item in assessment.needed if item.address is not None), None)
    unknown = assessment.judgement is Judgement.UNKNOWN
    if unknown and missing is not None and missing.address is not None:
        start = missing.address & ~(_PAGE - 1)
        size = max(_PAGE, missing.size or 0)
        name = f"{start:x}.bin"
        yield f"dump_image {name} {start:#x} {size:#x}  (OpenOCD)"
        yield f'pmemsave {start:#x} {size} "{name}"  (QEMU\'s monitor)'
        yield f"kexecdbg check ... --memory {name}@{start:#x}"
        return
    if unknown and any(item.registers for item in assessment.needed):
        yield "kexecdbg check ... --assume REGISTER=VALUE  for what is needed"
    next_pc = assessment.situation.next_pc
    if next_pc != NO_ADDRESS:
        table = "--ttbr 1 " if assessment.situation.regime.facts.is_upper(next_pc) else ""
        yield f"kexecdbg walk ... {table}{next_pc:#x}  the walk behind it"
    else:
        yield "kexecdbg check ... --next ADDRESS"
