"""A driven relocation as text: the verdict first, the way it took, what arrived, the time, the next command."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.checks.finding import Severity
from kexecdbg.checks.relocating.landmarks import LandmarkKind
from kexecdbg.checks.relocating.phases import relocation_share
from kexecdbg.checks.relocating.report import Outcome, Report, Stop
from kexecdbg.checks.relocating.switch_check import SwitchCheck
from kexecdbg.kexec.defects import Defect
from kexecdbg.kexec.page_contents import PageComparison, PageDifference
from kexecdbg.ui.style import WIDTH, Style, hanging
from kexecdbg.ui.verdict_text import finding_text
from kexecdbg.ui.why_text import summary, why_text

_COLUMN = 11
_SHOWN_DIFFERENCES = 8
_MIB = 1 << 20
_BAR = 30


def progress_line(copied: int, pages: int, seconds: float, page_size: int) -> str:
    """The progress bar while pages are copied, one line without its end; ``seconds`` is what has passed."""
    filled = _BAR * copied // pages if pages else _BAR
    rate = copied * page_size / _MIB / seconds if seconds > 0 else 0.0
    line = f"[{'#' * filled}{'.' * (_BAR - filled)}] {copied}/{pages} pages  {rate:.1f} MiB/s"
    return line[: WIDTH - 1]


def _defect(defect: Defect) -> str:
    area = f": {defect.area.name}" if defect.area is not None else ""
    return f"the page list {defect.kind.value}{area} ({defect.count})"


def relocation_text(report: Report, style: Style, icount_shift: int | None = None, console: str | None = None) -> str:
    """What kexec-relocate prints; ``console`` is the first line that the new kernel printed."""
    lines = [hanging(*_headline(report, style), style=None)]
    lines += [hanging("list", _defect(defect), _COLUMN, style) for defect in report.audit.defects]
    lines += _running_cpus(report, style)
    lines += _way(report, style)
    lines += comparison_text(report.comparison, style) if report.comparison is not None else []
    lines += _boot(report, style)
    lines += _phases(report, style, icount_shift)
    if report.wrong_turn is not None:
        lines += ["", report.wrong_turn.text, why_text(report.wrong_turn.diagnosis, None, style)]
        return "\n".join(lines)
    if console is not None:
        return "\n".join([*lines, hanging("console", console, _COLUMN, style)])
    return "\n".join([*lines, *_next(report)])


def _headline(report: Report, style: Style) -> tuple[str, str, int]:
    label, emphasise = ("RELOCATED:", style.good) if report.sound else ("WRONG:", style.bad)
    if report.outcome is Outcome.UNDER_WAY and report.sound:
        label = "COPYING:"
    elif report.outcome is Outcome.INTERRUPTED:
        label, emphasise = "STOPPED:", style.warn
    return emphasise(label), _what(report), len(label) + 1


def _what(report: Report) -> str:
    comparison = report.comparison
    pages = f"{report.copied} of {report.pages} pages" if report.copied < report.pages else f"{report.pages} pages"
    if report.outcome is Outcome.BLOCKED:
        return f"{report.outcome.value}, {report.stops[-1].text} at {report.stops[-1].landmark.address:#x}"
    if report.wrong_turn is not None or comparison is None:
        return f"the relocation {report.outcome.value}; {pages} copied"
    if comparison.differing:
        count = "1 page differs" if comparison.differing == 1 else f"{comparison.differing} pages differ"
        return f"{count} from what the source held at the start; {pages} copied"
    failed = [check.name for check in report.boot if check.met is False]
    in_the_way = [f"CPU {cpu.number}" for cpu in report.running_cpus if cpu.overwritten is not None]
    unknown = [f"CPU {cpu.number}" for cpu in report.running_cpus if cpu.executes is None]
    if in_the_way and not failed:
        return f"{pages} arrived whole, over the code that {', '.join(in_the_way)} still executes"
    if unknown and not failed:
        return f"{pages} arrived whole, but what {', '.join(unknown)} still executes cannot be told"
    if failed:
        return f"{pages} arrived whole, but the new kernel gets {', '.join(failed)} wrong"
    return f"{pages} copied, each is what its source held at the start"


def _running_cpus(report: Report, style: Style) -> Iterator[str]:
    """The CPUs that should have been stopped, each with what kexec-why says in short."""
    for index, cpu in enumerate(report.running_cpus):
        text = f"CPU {cpu.number} still runs and sees memory change under it"
        if cpu.overwritten is not None:
            text += f": the image overwrites its code, {cpu.overwritten:#x}"
        elif cpu.executes is None:
            text += ": where its code is cannot be told"
        yield hanging("CPUs" if not index else "", text, _COLUMN, None if index else style)
        if cpu.diagnosis is not None:
            yield hanging("", summary(cpu.diagnosis, style), _COLUMN)
        yield hanging("", f"kexec-why --cpu {cpu.number}  says more", _COLUMN)


def _way(report: Report, style: Style) -> list[str]:
    lines = [hanging("argument", f"{report.argument.layout.name}, at {report.argument.address:#x}", _COLUMN, style)]
    for index, stop in enumerate(report.stops):
        lines.append(hanging("way" if not index else "", _stop(stop), _COLUMN, None if index else style))
        if stop.check is not None:
            lines += _check(stop.check, style, last=index == len(report.stops) - 1)
    return lines


def _stop(stop: Stop) -> str:
    mmu = "on" if stop.mmu else "off"
    code = f"  {stop.text}" if stop.landmark.kind not in (LandmarkKind.CODE, LandmarkKind.LOOP_END) else ""
    return f"{stop.landmark.address:#x}  EL{stop.el}, MMU {mmu}  {stop.landmark.kind.value}{code}"


def _check(check: SwitchCheck, style: Style, last: bool) -> Iterator[str]:
    word = {True: style.good("sound"), False: style.bad("FAULTS"), None: style.warn("unknown")}[check.sound]
    after = "" if check.mmu else ", MMU off"
    yield f"{'':<{_COLUMN}}  {check.register} = {check.value:#x}{after}: {word}"
    if check.verdict is None:
        return
    if last:
        yield from (finding_text(item, style) for item in check.reasons_to_stop)
    others = dict.fromkeys(item.id for item in check.verdict.findings if item.severity is Severity.HAZARD)
    if others:
        yield hanging("", f"  hazards: {', '.join(others)}", _COLUMN)


def comparison_text(comparison: PageComparison, style: Style) -> list[str]:
    """Destination pages against what their sources held, the first that differ by address and byte."""
    text = f"{comparison.pages - comparison.differing} of {comparison.pages} pages are what their sources held"
    if comparison.superseded:
        text += f"; {comparison.superseded} copies were overwritten by later ones"
    lines = [hanging("verified", text, _COLUMN, style)]
    lines += [hanging("", _difference(item), _COLUMN) for item in comparison.differences[:_SHOWN_DIFFERENCES]]
    if comparison.differing > _SHOWN_DIFFERENCES:
        lines.append(f"{'':<{_COLUMN}}and {comparison.differing - _SHOWN_DIFFERENCES} more; --json has the first 64")
    return lines


def _difference(item: PageDifference) -> str:
    return (
        f"copy {item.copy}: {item.destination:#x} is not {item.source:#x}; {item.differing_bytes} bytes differ, first "
        f"{item.destination_byte:#x}: {item.found:#04x} instead of {item.expected:#04x} from {item.source_byte:#x}"
    )


def _boot(report: Report, style: Style) -> list[str]:
    words = {True: ("", style.good), False: ("WRONG", style.bad), None: ("unknown", style.warn)}
    lines = []
    for index, check in enumerate(report.boot):
        word, emphasise = words[check.met]
        text = f"{check.name}: {check.text}  {word}".rstrip()
        line = hanging("boot" if not index else "", text, _COLUMN, None if index else style)
        lines.append(line.removesuffix(word) + (emphasise(word) if word else ""))
    return lines


def _phases(report: Report, style: Style, icount_shift: int | None) -> list[str]:
    lines = []
    for index, phase in enumerate(report.phases):
        text = f"{phase.name:<12}{phase.seconds:10.6f} s"
        if phase.name == "copy" and phase.seconds > 0:
            text += f"  {report.pages * report.page_size / _MIB / phase.seconds:.1f} MiB/s"
        if icount_shift is not None:
            text += f"  {phase.instructions(icount_shift)} instructions"
        lines.append((style.bold("time") + " " * 7 if not index else " " * _COLUMN) + text)
    if lines and any(stop.landmark.kind is LandmarkKind.LOOP_END and not stop.mmu for stop in report.stops):
        note = "copied with the MMU off: a CPU without its caches is many times slower, QEMU is not"
        lines.append(hanging("", note, _COLUMN))
    share = relocation_share(report.phases)
    if share is not None:
        lines.append(f"{'':<{_COLUMN}}the relocation is {share:.0%} of the reboot so far")
    return lines


def _next(report: Report) -> list[str]:
    if report.outcome is Outcome.ARRIVED:
        return [hanging("next", "kexec-step  to the new kernel's own switch of the MMU, or continue", _COLUMN)]
    if report.outcome is Outcome.BLOCKED:
        return [
            hanging("next", "kexec-fix   repair it, then kexec-relocate again", _COLUMN),
            hanging("", "kexec-relocate --force  to see it happen", _COLUMN),
        ]
    return [hanging("next", "kexec-relocate  to go on", _COLUMN)]
