"""K01: the argument is read after the copy has gone over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, Instruction, decode_instruction
from kexecdbg.arm64.syndromes.ec import PC_ALIGNMENT
from kexecdbg.checks.copy_loop import ArgumentRead
from kexecdbg.checks.exceptions import undefined_instruction
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.relocation import Relocation
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.kexec.argument import Role
from kexecdbg.kexec.defects import AreaKind

_FIELD_SIZE = 8
_ESR_PC_ALIGNMENT = PC_ALIGNMENT << 26 | 1 << 25
"""With IL 1."""


def _check(situation: Situation) -> Iterator[Finding]:
    relocation = situation.relocation
    if relocation is None or not relocation.audit.overwritten(AreaKind.ARGUMENT):
        return
    if relocation.loop is None:
        yield _cannot_tell(relocation)
        return
    late = [field for read in relocation.loop.argument_reads for field in _changed_fields(relocation, read)]
    if late:
        yield _read_too_late(relocation, late)


@dataclass(frozen=True)
class _Field:
    """A field that is read when it has another value.

    Attributes:
        name: its name in the layout.
        instruction: the load.
        address: physical address of the field.
        old, new: its value now and then; ``new`` is ``None`` when it cannot be told.
        writer, source: index of the entry that copies over it, and the page it copies.
    """

    name: str
    instruction: Instruction
    address: int
    old: int | None
    new: int | None
    writer: int
    source: int


def _changed_fields(relocation: Relocation, read: ArgumentRead) -> Iterator[_Field]:
    argument = relocation.argument
    for offset in range(read.offset, read.offset + read.size, _FIELD_SIZE):
        address = argument.address + offset
        written = _last_write(relocation, address)
        if written is None:
            continue
        writer, source = written
        old, new = _word(relocation, address), _word(relocation, source + address % relocation.pages.page_size)
        if new is None or old != new:
            name = argument.layout.field_at(offset) or f"offset {offset:#x}"
            yield _Field(name, read.instruction, address, old, new, writer, source)


def _read_too_late(relocation: Relocation, late: list[_Field]) -> Finding:
    entry = relocation.argument.layout.roles[Role.ENTRY]
    field = next((each for each in late if each.name == entry), late[0])
    becomes = "something else" if field.new is None else f"{field.new:#x}"
    others = [each.name for each in late if each is not field]
    more = f"; the same goes for {', '.join(others)}" if others else ""
    record = _jump(relocation, field.new) if field.name == entry and field.new is not None else None
    return Finding(
        "K01",
        Severity.FATAL,
        f"{field.instruction.text} at {field.instruction.address:#x} reads {field.name} from the argument at "
        f"{field.address:#x} after entry {field.writer} of the page list has copied {field.source:#x} over it: it gets "
        f"{becomes} instead of {field.old or 0:#x}{more}. Load all fields before the copy loop.",
        {
            "instruction": field.instruction.address,
            "field": field.name,
            "address": field.address,
            "value": field.old,
            "becomes": field.new,
            "writer": field.writer,
            "writer_source": field.source,
        },
        leads_to=record,
    )


def _jump(relocation: Relocation, address: int) -> ExceptionRecord | None:
    """The exception of the final branch to ``address``, with the MMU off, where one is certain."""
    if address % INSTRUCTION_SIZE:
        return ExceptionRecord(_ESR_PC_ALIGNMENT, address, address)
    try:
        word = int.from_bytes(relocation.memory.read(address, INSTRUCTION_SIZE), "little")
    except MemoryUnreadableError:
        return None
    undefined = decode_instruction(word, address).flow is Flow.UNDEFINED
    return undefined_instruction(address) if undefined else None


def _last_write(relocation: Relocation, address: int) -> tuple[int, int] | None:
    """Index of the last entry that copies over ``address``, and the page it copies."""
    copies = relocation.pages.copies
    page = address & ~(relocation.pages.page_size - 1)
    chosen = ((copies.destinations == page) & (copies.sources != page)).nonzero()[0]
    return (int(copies.entries[chosen[-1]]), int(copies.sources[chosen[-1]])) if len(chosen) else None


def _word(relocation: Relocation, address: int) -> int | None:
    try:
        return int.from_bytes(relocation.memory.read(address, _FIELD_SIZE), "little")
    except MemoryUnreadableError:
        return None


def _cannot_tell(relocation: Relocation) -> Finding:
    first = relocation.audit.overwritten(AreaKind.ARGUMENT)[0].first
    return Finding(
        "K01",
        Severity.HAZARD,
        f"Entry {first.writer} of the page list copies {first.writer_source or 0:#x} over the argument at "
        f"{relocation.argument.address:#x}. The copy loop was not found in the code ahead, so whether the argument is "
        "read after that cannot be told.",
        {"address": relocation.argument.address, "writer": first.writer, "writer_source": first.writer_source},
    )


RULE = Rule(
    "K01",
    "The argument is read after it was overwritten",
    "The relocation code may put a page of the new image where its own argument is, or struct kimage: the old kernel's "
    "data has no rights any more. What is loaded from there after the copy loop, the address of the new kernel above "
    "all, is then part of the new image. All fields have to be loaded before the loop.",
    ("Linux 20220516160735.731404-1-mark.rutland@arm.com (arm64: kexec: load from kimage prior to clobbering)",),
    _check,
    symptom="All pages are in place, and the final branch goes somewhere else.",
)
