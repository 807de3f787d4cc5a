"""K01: the argument is read after the copy has gone over it."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.checks.copy_loop import ArgumentRead
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.relocation import Relocation
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.kexec.defects import AreaKind

_FIELD_SIZE = 8


def _check(situation: Situation) -> Iterator[Finding]:
    relocation = situation.relocation
    if relocation is None or not relocation.audit.overwritten(AreaKind.ARGUMENT):
        return
    if relocation.loop is None:
        yield _cannot_tell(relocation)
        return
    for read in relocation.loop.argument_reads:
        yield from _read_too_late(relocation, read)


def _read_too_late(relocation: Relocation, read: ArgumentRead) -> Iterator[Finding]:
    """A finding for each field of ``read`` that has another value by then."""
    argument = relocation.argument
    for offset in range(read.offset, read.offset + read.size, _FIELD_SIZE):
        address = argument.address + offset
        written = _last_write(relocation, address)
        if written is None:
            continue
        entry, source = written
        old, new = _word(relocation, address), _word(relocation, source + address % relocation.pages.page_size)
        if new is not None and old == new:
            continue
        name = argument.layout.field_at(offset) or f"offset {offset:#x}"
        becomes = "something else" if new is None else f"{new:#x}"
        yield Finding(
            "K01",
            Severity.FATAL,
            f"{read.instruction.text} at {read.instruction.address:#x} reads {name} from the argument at {address:#x} "
            f"after entry {entry} of the page list has copied {source:#x} over it: it gets {becomes} instead of "
            f"{old or 0:#x}. Load all fields before the copy loop.",
            {
                "instruction": read.instruction.address,
                "field": name,
                "address": address,
                "value": old,
                "becomes": new,
                "writer": entry,
                "writer_source": source,
            },
        )


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
