"""JSON documents of recorded runs."""

from __future__ import annotations

from typing import Any

from kexecdbg.arm64.pstate import el_of
from kexecdbg.trace.compare import TraceDifference
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.records import ExceptionTaken, TraceStep
from kexecdbg.ui.json_form import number

Json = dict[str, Any]


def overview(trace: Trace) -> Json:
    """What a trace is, without its steps."""
    header = trace.header
    return {
        "file": str(trace.path),
        "steps": trace.steps,
        "warnings": list(trace.warnings),
        "engine": header.engine,
        "cpu_model": header.cpu_model,
        "qemu_version": header.qemu_version,
        "command_line": list(header.command_line),
        "build_id": header.build_id,
        "registers": len(header.registers),
        "pages": len(trace.pages()),
        "whole_memory": header.whole_memory,
    }


def step(trace: Trace, recorded: TraceStep) -> Json:
    """One step."""
    pstate = trace.state(recorded.number).get("PSTATE")
    instruction = recorded.instruction
    return {
        "step": recorded.number,
        "el": None if pstate is None else el_of(pstate),
        "pc": number(recorded.pc),
        "next_pc": number(recorded.next_pc),
        "text": None if instruction is None else instruction.text,
        "changes": [
            {"name": change.name, "old": number(change.old), "new": number(change.new)} for change in recorded.changes
        ],
        "writes": [
            {
                "va": number(write.va),
                "pa": number(write.pa),
                "size": write.size,
                "data": None if write.data is None else write.data.hex(),
            }
            for write in recorded.writes
        ],
        "exception": None if recorded.exception is None else exception(recorded.exception),
        "events": [
            {
                "kind": event.kind.name.lower(),
                "source": number(event.source) if event.size else None,
                "destination": number(event.destination) if event.size else None,
                "size": event.size,
                "instructions": event.instructions,
            }
            for event in recorded.events
        ],
    }


def exception(taken: ExceptionTaken) -> Json:
    """An exception."""
    return {
        "from_el": taken.from_el,
        "to_el": taken.to_el,
        "esr": number(taken.esr),
        "far": number(taken.far),
        "elr": number(taken.elr),
        "spsr": number(taken.spsr),
    }


def difference(found: TraceDifference) -> Json:
    """How two traces differ."""
    return {
        "same": found.same,
        "headers": {name: list(pair) for name, pair in found.headers.items()},
        "registers_at_start": [
            {"name": name, "first": number(first), "second": number(second)} for name, first, second in found.registers
        ],
        "first_data_difference": found.data_step,
        "parted_at": found.parted_step,
        "memory": [
            {"address": number(word.address), "first": number(word.first), "second": number(word.second)}
            for word in found.words
        ],
        "more_memory": found.more_words,
    }
