"""The catalogue as text: one line an entry, or one entry explained."""

from __future__ import annotations

from collections.abc import Sequence

from kexecdbg.checks.finding import Severity
from kexecdbg.checks.qemu_laxity import LAXITY, Extent
from kexecdbg.checks.rule import Rule
from kexecdbg.lab.scenario import Scenario
from kexecdbg.ui.style import Style, hanging

_COLUMN = 14
_SEVERITIES = {
    Severity.FATAL: "the CPU faults, or runs something else",
    Severity.HAZARD: "no fault is certain: the architecture is violated, or it depends on the hardware",
    Severity.NOTE: "worth knowing; nothing is wrong",
}
_IN_QEMU = {None: "shown", Extent.PARTLY: "partly", Extent.NO: "not shown"}


def catalogue_text(rules: Sequence[Rule], style: Style) -> str:
    """One line for each entry: id, severity, whether QEMU shows it, title."""
    lines = [style.bold(f"{'id':<5}{'severity':<9}{'in QEMU':<11}what is wrong")]
    for rule in rules:
        severity = f"{rule.severity.value:<9}"
        label = f"{rule.id:<5}{severity}{_IN_QEMU[_extent(rule)]:<11}"
        line = hanging(label, rule.title, len(label))
        lines.append(line.replace(severity, _emphasised(rule.severity, severity, style), 1))
    lines.append(f"{len(rules)} entries; `kexecdbg checks M01` explains one")
    return "\n".join(lines)


def entry_text(rule: Rule, scenarios: Sequence[Scenario], style: Style) -> str:
    """One entry explained: the question that brings somebody here first, sources last."""
    severity = _emphasised(rule.severity, rule.severity.value, style)
    lines = [
        f"{style.bold(rule.id)}  {rule.title}: {severity}",
        hanging("  looks like", rule.symptom, _COLUMN, style),
        hanging("  why", rule.explanation, _COLUMN, style),
        hanging("  severity", f"{rule.severity.value}: {_SEVERITIES[rule.severity]}", _COLUMN, style),
        hanging("  in QEMU", _qemu_text(rule), _COLUMN, style),
    ]
    for number, source in enumerate((*rule.sources, *(_qemu_sources(rule)))):
        label = "  sources" if not number else ""
        lines.append(hanging(label, source, _COLUMN, style if label else None))
    if scenarios:
        lines.append(hanging("  see it", f"kexecdbg lab run {scenarios[0].id}", _COLUMN, style))
        others = ", ".join(scenario.id for scenario in scenarios[1:])
        if others:
            lines.append(hanging("", f"also: {others}", _COLUMN))
    return "\n".join(lines)


def _extent(rule: Rule) -> Extent | None:
    laxity = LAXITY.get(rule.id)
    return laxity.extent if laxity else None


def _qemu_text(rule: Rule) -> str:
    laxity = LAXITY.get(rule.id)
    if laxity is None:
        return "QEMU shows it as hardware does."
    return f"{_IN_QEMU[laxity.extent]}. {laxity.text}"


def _qemu_sources(rule: Rule) -> tuple[str, ...]:
    laxity = LAXITY.get(rule.id)
    return tuple(f"on QEMU: {source}" for source in laxity.sources) if laxity else ()


def _emphasised(severity: Severity, text: str, style: Style) -> str:
    return {Severity.FATAL: style.bad, Severity.HAZARD: style.warn, Severity.NOTE: style.dim}[severity](text)
