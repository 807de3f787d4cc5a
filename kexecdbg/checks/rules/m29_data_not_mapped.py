"""M29: what the code needs right after the switch is not mapped: stack, literal, argument, data, code further on."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.descriptors import AF_BIT, AP2_BIT
from kexecdbg.arm64.evaluation.address_space import PAGE_SIZE
from kexecdbg.arm64.faults import Access, CauseKind, Fault, FaultKind
from kexecdbg.checks.alternatives import alternatives
from kexecdbg.checks.finding import DescriptorRepair, Finding, Severity
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.touches import Touch, TouchKind, after_the_write

_DOES = {Access.READ: "loads", Access.WRITE: "stores to", Access.FETCH: "goes on at"}


def _check(situation: Situation) -> Iterator[Finding]:
    fetch_fault = situation.fetch_fault
    reported: set[tuple[TouchKind, int]] = set()
    for touch in situation.touches:
        is_next_fetch = touch.executed == 0 and _is_fetch(touch)
        if touch.kind is TouchKind.VECTOR or is_next_fetch:
            continue
        fault = situation.walk(touch.address).fault_for(touch.access)
        place = (touch.kind, touch.address // PAGE_SIZE)
        if fault is None or fault.kind is FaultKind.UNKNOWN or place in reported:
            continue
        reported.add(place)
        yield _finding(situation, touch, fault, _follows_from(situation, fault, fetch_fault))


def _is_fetch(touch: Touch) -> bool:
    return touch.kind is TouchKind.FETCH


def _follows_from(situation: Situation, fault: Fault, fetch_fault: Fault | None) -> bool:
    """Whether what stops the next fetch, the rule for which says so, stops this too."""
    if fetch_fault is None:
        return False
    same = fault.cause.kind is fetch_fault.cause.kind or fault.cause.address == fetch_fault.cause.address
    return same or fault.cause.register is not None or bool(alternatives(situation))


def _finding(situation: Situation, touch: Touch, fault: Fault, is_consequence: bool) -> Finding:
    instruction = touch.instruction
    where = "the code" if instruction is None else f"{instruction.address:#x}: {instruction.text}"
    what = f"{touch.address:#x}" if _is_fetch(touch) else f"the {touch.kind.value} at {touch.address:#x}"
    who = "the code" if _is_fetch(touch) else where
    result = situation.walk(touch.address)
    return Finding(
        "M29",
        Severity.FATAL,
        f"{after_the_write(touch.executed).capitalize()}, {who} {_DOES[touch.access]} {what}, and takes "
        f"{fault.phrase}: {fault.cause.text}.",
        {
            "kind": touch.kind.value,
            "target": touch.address,
            "instruction": None if instruction is None else where,
            "address": fault.cause.address,
            "level": fault.cause.level,
            "bit": fault.cause.bit,
            "descriptor": result.levels[-1].descriptor if result.levels else None,
            "register": fault.cause.register,
            "field": fault.cause.field,
        },
        None if is_consequence else _repair(situation, touch, fault),
        is_consequence=is_consequence,
    )


_CURES = {
    CauseKind.ACCESS_FLAG: (0, 1 << AF_BIT, "sets bit 10, AF"),
    CauseKind.READ_ONLY: (1 << AP2_BIT, 0, "clears bit 7, AP[2]: the page is writable"),
}
"""What to do about a descriptor that maps the address, but not for this access: bits to clear, to set, and why."""


def _repair(situation: Situation, touch: Touch, fault: Fault) -> DescriptorRepair | None:
    cause = fault.cause
    cure = _CURES.get(cause.kind)
    level = next((found for found in situation.walk(touch.address).levels if found.address == cause.address), None)
    if cure is None or level is None or level.descriptor is None:
        return None
    clear, set_bits, text = cure
    new = level.descriptor & ~clear | set_bits
    if situation.walk(touch.address, words={level.address: new}).fault_for(touch.access) is not None:
        return None
    return DescriptorRepair(level.address, level.descriptor, new, text)


RULE = Rule(
    "M29",
    "What the code needs right after the switch is not mapped",
    "The next instruction is fetched, and one of the following touches something that the new tables do not map, or "
    "not for this access: the stack, a literal pool, the argument, the device tree, the UART, or the code that it "
    "branches to. The code after the write is evaluated as far as its values are known.",
    (
        "Xen de22e0dd0d, f3f6c500e2 (the UART); OP-TEE issue 7414 (the stack); TF-A 5654972c4",
        "Linux kexec v9 20200326032420.27220-1-pasha.tatashin@soleen.com (the argument is read before the MMU is on)",
    ),
    _check,
    symptom="A data abort a few instructions after the switch, 0x96000004 to 0x96000007.",
)
