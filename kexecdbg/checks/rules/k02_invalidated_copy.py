"""K02: what was copied is invalidated in the cache instead of cleaned."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.evaluation import Maintenance, MemoryAccess
from kexecdbg.arm64.evaluation.system_operations import system_instruction
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import reachable_code
from kexecdbg.checks.evaluated_code import aftermath
from kexecdbg.checks.fetching import code_reader
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.set_up import LINE
from kexecdbg.checks.situation import Situation

_INVALIDATES = "DC IVAC"
_CLEANS = frozenset({"DC CVAC", "DC CIVAC", "DC CVAP", "DC CVADP"})
_LOOKED_AT = 512
"""Instructions of the code after the switch that are searched for an invalidation."""
_FOLLOWED = 8192
"""Instructions that are evaluated, if there is one: a page is copied in some thousand."""


def _check(situation: Situation) -> Iterator[Finding]:
    if situation.fetch_fault is None and not situation.finds_intended_code(situation.fetch):
        return
    if not _has_invalidation(situation):
        return
    followed = aftermath(situation.before, situation.after, situation.memory, situation.next_pc, _FOLLOWED)
    stored: dict[int, str] = {}
    for step in followed.steps:
        text = f"{step.instruction.address:#x}: {step.instruction.text}"
        for effect in step.effects:
            if isinstance(effect, MemoryAccess) and effect.access is Access.WRITE and effect.pa is not None:
                stored[effect.pa // LINE] = text
            elif isinstance(effect, Maintenance) and effect.pa is not None:
                line = effect.pa // LINE
                if effect.operation in _CLEANS:
                    stored.pop(line, None)
                elif effect.operation == _INVALIDATES and line in stored:
                    yield _finding(text, line * LINE, stored[line])
                    return


def _has_invalidation(situation: Situation) -> bool:
    code = reachable_code(code_reader(situation.before, situation.memory), [situation.next_pc], _LOOKED_AT)
    found = (system_instruction(instruction.word) for instruction in code.instructions.values())
    return any(decoded is not None and decoded.operation == _INVALIDATES for decoded in found)


def _finding(invalidation: str, address: int, store: str) -> Finding:
    return Finding(
        "K02",
        Severity.HAZARD,
        f"{invalidation} invalidates the line at {address:#x}, which {store} has written through the cache: the copy "
        f"may be lost before it reaches memory. Use dc civac.{remark('K02')}",
        {"instruction": invalidation, "store": store, "target": address},
    )


RULE = Rule(
    "K02",
    "The copied image is invalidated instead of cleaned",
    "The destination pages are written with the caches on and read by the new kernel with the caches off: they have to "
    "be cleaned to the point of coherency. DC IVAC discards dirty lines (some CPUs clean them all the same, which "
    "hides it). The code after the switch is evaluated until a line is invalidated that it has stored to.",
    (
        "Arm ARM D7.5.9.3 (DC IVAC)",
        "Linux kexec v13 20210408040537.2703241-1-pasha.tatashin@soleen.com (ThunderX2 hangs; civac instead of ivac)",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="The new kernel hangs or crashes at its start, on some CPUs only.",
)
