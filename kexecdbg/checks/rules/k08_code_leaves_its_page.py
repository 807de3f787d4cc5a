"""K08: the relocation code needs more than the page it was copied to."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, decode_instruction
from kexecdbg.checks.exceptions import data_abort, fetch_abort, undefined_instruction
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.references import Reference, leaving
from kexecdbg.checks.relocation import CODE_PAGE_SIZE, Relocation
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.errors import MemoryUnreadableError


def _check(situation: Situation) -> Iterator[Finding]:
    relocation = situation.relocation
    if relocation is None or relocation.loop is None or relocation.code_page is None:
        return
    start = situation.next_pc & ~(CODE_PAGE_SIZE - 1)
    found = leaving(relocation.loop.code.instructions.values(), start, start + CODE_PAGE_SIZE)
    if not found:
        return
    failures = [(each, failure) for each in found if (failure := _failure(relocation, each)) is not None]
    reference, failure = failures[0] if failures else (found[0], None)
    text, record = failure if failure is not None else ("what lies there now was not copied with the code", None)
    verb = {Access.FETCH: "goes on at", Access.READ: "loads", None: "computes"}[reference.access]
    more = f" ({len(found)} references leave the page)" if len(found) > 1 else ""
    yield Finding(
        "K08",
        Severity.HAZARD if failure is None else Severity.FATAL,
        f"The relocation code leaves the page it was copied to, {start:#x}: {reference.instruction.text} at "
        f"{reference.instruction.address:#x} {verb} {reference.target:#x}; {text}{more}.",
        {
            "instruction": reference.instruction.address,
            "target": reference.target,
            "page": start,
            "count": len(found),
        },
        leads_to=record,
    )


def _failure(relocation: Relocation, reference: Reference) -> tuple[str, ExceptionRecord] | None:
    """How the reference fails, in words and as an exception; ``None`` if it does not, or that cannot be told."""
    if reference.access is None:
        return None
    el = relocation.regime.facts.el
    result = relocation.walk(reference.target)
    fault = result.fault_for(reference.access)
    if fault is not None:
        text = f"that takes {fault.phrase}"
        if reference.access is Access.FETCH:
            return text, fetch_abort(fault, reference.target, el)
        return text, data_abort(fault, reference.instruction, reference.target, Access.READ, el)
    if reference.access is Access.READ or result.pa is None:
        return None
    try:
        word = int.from_bytes(relocation.memory.read(result.pa, INSTRUCTION_SIZE), "little")
    except MemoryUnreadableError:
        return None
    if decode_instruction(word, reference.target).flow is Flow.UNDEFINED:
        return "no instruction is there", undefined_instruction(reference.target)
    return None


RULE = Rule(
    "K08",
    "The relocation code does not fit its page",
    "The relocation code is copied to one page of 4 KiB and runs there, somewhere else than it was linked. What it "
    "refers to by its own address has to be in that page: code behind the end of the page, a literal or a function "
    "that stayed in the kernel is something else there, or nothing.",
    (
        "Linux arch/arm64/kernel/vmlinux.lds.S: the relocation code is asserted to fit 4 KiB",
        "arch/arm64/include/asm/kexec.h: KEXEC_CONTROL_PAGE_SIZE",
    ),
    _check,
    symptom="The copy stops in the middle, or the machine hangs right after it.",
)
