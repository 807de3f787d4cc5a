"""Recorded runs as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

import numpy as np

from kexecdbg.arm64.pstate import el_of
from kexecdbg.arm64.syndromes import decode_syndrome
from kexecdbg.trace.compare import TraceDifference, WordDifference
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.records import Event, EventKind, ExceptionTaken, MemoryWrite, RegisterChange, TraceStep
from kexecdbg.trace.search import StepFilter, find_steps
from kexecdbg.ui.register_text import change_text
from kexecdbg.ui.style import WIDTH, Style, hanging

_COLUMN = 11
_TEXT_COLUMN = 56
_SHOWN_COPIES = 16
_SHOWN_WORDS = 8
_SHOWN_REGISTERS = 12


def overview_text(trace: Trace, style: Style) -> str:
    """What was recorded, what happened in it, and what is missing."""
    header = trace.header
    how = "by stepping" if header.engine == "stepping" else "from QEMU's log"
    qemu = f"QEMU {header.qemu_version.split('Debian')[0]}" if header.qemu_version else "an unknown QEMU"
    machine = f"{header.cpu_model or 'an unknown CPU'} on {qemu}"
    lines = [f"{style.bold(trace.path.name)}: {trace.steps:,} steps of {machine}, {how}"]
    lines += [hanging("warning", warning, _COLUMN, style) for warning in trace.warnings]
    exceptions = list(_first_and_count(trace))
    in_intact = " in what is intact" if trace.warnings else ""
    lines += [hanging("exceptions", text, _COLUMN) for text in exceptions] or [
        f"{'exceptions':<{_COLUMN}}none{in_intact}"
    ]
    folded = list(_folded(trace))
    if folded:
        lines.append(hanging("folded", "; ".join(folded), _COLUMN))
    lines.append(hanging("memory", memory_text(trace), _COLUMN))
    return "\n".join(lines)


def memory_text(trace: Trace) -> str:
    """How much of memory there is in a trace."""
    pages = f"{len(trace.pages()):,} pages"
    if trace.warnings:
        return f"{pages} intact; how many are missing is not known"
    if trace.header.whole_memory:
        return f"{pages}, all that was ever written"
    searched = "" if trace.is_searchable else "; kexec-why can search no more than that"
    return f"{pages}, what the run and the checks touched{searched}"


def _first_and_count(trace: Trace) -> Iterator[str]:
    found = iter(trace.exceptions())
    first = next(found, None)
    if first is None:
        return
    number, exception = first
    others = sum(1 for _ in found)
    more = f"; {others:,} more" if others else ""
    yield f"the first in step {number:,}, to EL{exception.to_el}: {_syndrome(exception)}{more}"


def _syndrome(exception: ExceptionTaken) -> str:
    if exception.esr is None:
        return "ESR not known"
    return f"ESR {exception.esr:#x}: {decode_syndrome(exception.esr).summary}"


def _folded(trace: Trace) -> Iterator[str]:
    steps = instructions = uncounted = copied = 0
    for block in trace.blocks():
        ran = block.events[block.events["kind"] == EventKind.RAN.value]
        steps += len(set(block.events["step"].tolist()))
        instructions += int(ran["instructions"].sum())
        uncounted += int(np.count_nonzero(ran["counted"] == 0))
        copied += int(block.events["size"].sum())
    if steps:
        counts = [f"{instructions:,} instructions"] if instructions else []
        counts += ["instructions that nobody counted"] if uncounted else []
        yield f"{steps:,} {'step stands' if steps == 1 else 'steps stand'} for {' and '.join(counts)}"
    if copied:
        yield f"{copied:,} bytes copied"


def step_lines(trace: Trace, numbers: Iterable[int], style: Style) -> Iterator[str]:
    """Steps in a list; an exception that is taken again and again, as by a CPU that spins, only once."""
    previous: TraceStep | None = None
    again = 0
    for number in numbers:
        step = trace.step(number)
        if previous is not None and number == previous.number + again + 1 and _is_same_exception(step, previous):
            again += 1
            continue
        if again:
            yield _again(again)
        yield step_line(trace, step, style)
        previous, again = step, 0
    if again:
        yield _again(again)


def _is_same_exception(step: TraceStep, previous: TraceStep) -> bool:
    return step.exception is not None and (step.pc, step.exception) == (previous.pc, previous.exception)


def _again(count: int) -> str:
    return f"{'':<{_COLUMN}}{f'the same in the next {count:,} steps' if count > 1 else 'and once more'}"


def step_line(trace: Trace, step: TraceStep, style: Style) -> str:
    """One step in a list: number, level, address, text, and what it changed; system registers stand out."""
    pstate = trace.state(step.number).get("PSTATE")
    level = "EL?" if pstate is None else f"EL{el_of(pstate)}"
    head = f"{step.number:>7} {level} {step.pc:#x}  {_what(step)}"
    notes = [(change_text(change.name, change.old, change.new), "_EL" in change.name) for change in step.changes]
    if step.exception is not None:
        exception = step.exception
        notes = [(f"exception to EL{exception.to_el}: {_syndrome(exception)}", True)]
    notes += [(_write(write), False) for write in step.writes]
    lines, width = [head.ljust(_TEXT_COLUMN - 1)], max(len(head) + 1, _TEXT_COLUMN)
    for text, stands_out in notes:
        shown = style.bold(text) if stands_out else text
        if width + len(text) > WIDTH:
            lines.append(hanging("", shown, _COLUMN))
            width = _COLUMN + len(text) + 1
        else:
            lines[-1] += f" {shown}"
            width += len(text) + 1
    return "\n".join(line.rstrip() for line in lines)


def _what(step: TraceStep) -> str:
    if step.is_folded:
        copies = [event for event in step.events if event.kind is EventKind.PAGE_COPIED]
        if len(copies) > 1:
            return f"copied {sum(event.size for event in copies):,} bytes in {len(copies):,} pages"
        return _event(copies[0]) if copies else _ran(step)
    return step.text


def _ran(step: TraceStep) -> str:
    counts = [event.instructions for event in step.events if event.kind is EventKind.RAN]
    return "(ran)" if None in counts or not counts else f"({sum(count or 0 for count in counts):,} instructions)"


def _event(event: Event) -> str:
    return f"copied {event.size} bytes {event.source:#x} -> {event.destination:#x}"


def _write(write: MemoryWrite) -> str:
    return f"[{write.va:#x}]={'unknown' if write.data is None else _numbers(write.data)}"


def _numbers(data: bytes) -> str:
    """Stored bytes as the numbers that they are, 8 bytes each: a pair of registers is two."""
    return " ".join(f"{int.from_bytes(data[at : at + 8], 'little'):#x}" for at in range(0, len(data), 8))


def step_detail(trace: Trace, step: TraceStep, style: Style) -> str:
    """Everything about one step."""
    pstate = trace.state(step.number).get("PSTATE")
    level = "EL unknown" if pstate is None else f"EL{el_of(pstate)}"
    lines = [style.bold(f"step {step.number:,}: {level}, {step.pc:#x}: {_what(step)}")]
    if step.events:
        copies = [_event(event) for event in step.events if event.size]
        more = [f"and {len(copies) - _SHOWN_COPIES:,} pages more"] if len(copies) > _SHOWN_COPIES else []
        lines += _labelled("folded", [_ran(step), *copies[:_SHOWN_COPIES], *more])
    if step.exception is not None:
        lines += _exception_lines(step.exception, step.next_pc, style)
    lines += _labelled("changes", [_full_change(change) for change in step.changes])
    lines += _labelled("writes", [line for write in step.writes for line in _full_write(write)])
    lines.append(f"{'then':<{_COLUMN}}{step.next_pc:#x}")
    return "\n".join(lines)


def _full_change(change: RegisterChange) -> str:
    old, new = ("unknown" if value is None else f"{value:#x}" for value in (change.old, change.new))
    return f"{change.name:<12} {old} -> {new}"


def _full_write(write: MemoryWrite) -> list[str]:
    data = "data not known" if write.data is None else _numbers(write.data)
    where = f"{write.va:#x}" if write.va == write.pa else f"{write.va:#x} (physical {write.pa:#x})"
    return [
        f"{write.size} bytes at {where}",
        *textwrap.wrap(data, WIDTH - _COLUMN - 2, initial_indent="  ", subsequent_indent="  "),
    ]


def _exception_lines(exception: ExceptionTaken, vector: int, style: Style) -> list[str]:
    values = {"FAR": exception.far, "ELR": exception.elr, "SPSR": exception.spsr}
    shown = "  ".join(f"{name} {value:#x}" for name, value in values.items() if value is not None)
    where = f"from EL{exception.from_el} to EL{exception.to_el}, vector {vector:#x}"
    return [
        f"{'exception':<{_COLUMN}}{style.bad(where)}",
        hanging("", _syndrome(exception), _COLUMN),
        f"{'':<{_COLUMN}}{shown}",
    ]


def landmarks(trace: Trace, registers: Iterable[str]) -> list[int]:
    """The steps that matter most: those that change one of ``registers``, and the exceptions."""
    changed = find_steps(trace, StepFilter(changes=tuple(registers)))
    return sorted({*changed, *(number for number, _ in trace.exceptions())})


def difference_text(first: Trace, second: Trace, found: TraceDifference, style: Style) -> str:
    """Where two traces part, what differed before that, and what each does there."""
    names = (first.path.name, second.path.name)
    if found.same:
        lines = [
            style.good(f"{names[0]} and {names[1]} are the same"),
            f"{first.steps:,} steps, and the same memory",
        ]
    elif found.parted_step is None:
        lines = [style.warn(f"{names[0]} and {names[1]} execute the same {first.steps:,} instructions")]
    else:
        lines = [style.bad(f"{names[0]} and {names[1]} part in step {found.parted_step:,}")]
        lines += [
            hanging(name, _at(trace, found.parted_step, style), _COLUMN, style)
            for name, trace in (("first", first), ("second", second))
        ]
    lines += [hanging("warning", warning, _COLUMN, style) for warning in (*first.warnings, *second.warnings)]
    if found.data_step is not None and found.data_step != found.parted_step:
        lines.append(
            hanging("data", f"a step changes registers differently first in step {found.data_step:,}", _COLUMN)
        )
    lines += [
        hanging("header", f"{name}: {one or 'unknown'}; {other or 'unknown'}", _COLUMN)
        for name, (one, other) in found.headers.items()
    ]
    lines += _register_lines(found)
    lines += _word_lines(found)
    if found.parted_step is not None:
        longer = first if found.parted_step < first.steps else second
        lines.append(f"{'next':<{_COLUMN}}kexecdbg trace {longer.path} --step {found.parted_step}")
    return "\n".join(lines)


def _at(trace: Trace, number: int, style: Style) -> str:
    if number >= trace.steps:
        return f"ends after {trace.steps:,} steps"
    step = trace.step(number)
    if step.exception is not None:
        return f"{step.pc:#x}: exception to EL{step.exception.to_el}: {_syndrome(step.exception)}"
    return f"{step.pc:#x}: {_what(step)}, then {step.next_pc:#x}"


def _register_lines(found: TraceDifference) -> list[str]:
    rows = []
    for name, one, other in found.registers[:_SHOWN_REGISTERS]:
        values = ["unknown" if value is None else f"{value:#x}" for value in (one, other)]
        rows.append(f"{name:<12} {values[0]}  {values[1]}")
    more = len(found.registers) - _SHOWN_REGISTERS
    return _labelled("at start", [*rows, f"and {more} registers more"] if more > 0 else rows)


def _word_lines(found: TraceDifference) -> list[str]:
    # A descriptor that is wrong differs in a bit or two; what is random in a device tree differs in half of them.
    likely = sorted(found.words, key=lambda word: (_distance(word), word.address))
    rows = [
        f"{word.address:#x}  {word.first:#018x}  {word.second:#018x}  {_bits(word)}" for word in likely[:_SHOWN_WORDS]
    ]
    more = len(found.words) - _SHOWN_WORDS
    at_least = "at least " if found.more_words else ""
    return _labelled("memory", [*rows, f"and {at_least}{more:,} words more"] if more > 0 else rows)


def _labelled(label: str, rows: list[str]) -> list[str]:
    """The rows under one label."""
    return [f"{label if number == 0 else '':<{_COLUMN}}{row}" for number, row in enumerate(rows)]


def _distance(word: WordDifference) -> int:
    """How many bits differ."""
    return (word.first ^ word.second).bit_count()


def _bits(word: WordDifference) -> str:
    different = word.first ^ word.second
    count = _distance(word)
    return f"bit {different.bit_length() - 1}" if count == 1 else f"{count} bits"
