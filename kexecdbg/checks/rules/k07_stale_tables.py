"""K07: the tables do not map the pages that the relocation is going to copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kexecdbg.arm64.faults import Access, Fault
from kexecdbg.arm64.geometry import LAST_LEVEL
from kexecdbg.arm64.walk_result import Walk
from kexecdbg.checks.exceptions import data_abort
from kexecdbg.checks.finding import DescriptorRepair, Finding, Severity
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.relocation import Relocation, copies_with_mmu_off
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.kexec.argument import Addressing

if TYPE_CHECKING:
    from kexecdbg.kexec.list_reader import Flags, Indices, Words

_LISTED = "page of the list"
_TRIED = 64
"""How many pages that the scan did not find mapped are walked to learn the fault."""


@dataclass(frozen=True)
class _Pages:
    """Pages that are reached for one purpose.

    Attributes:
        name: what they are.
        access: how they are accessed.
        addresses: virtual addresses.
        expected: physical addresses that they should lead to.
    """

    name: str
    access: Access
    addresses: Words
    expected: Words


def _check(situation: Situation) -> Iterator[Finding]:
    relocation = situation.relocation
    if relocation is None or copies_with_mmu_off(relocation) or any(each.output_is_ipa for each in relocation.scans):
        return
    if not situation.finds_intended_code(situation.fetch):
        return  # Tables that do not even lead to the code are read wrong, and there are rules on that.
    mapped = _Mapped(relocation)
    for pages in _needed(relocation):
        yield from _not_mapped(relocation, pages, mapped)
        yield from _mapped_elsewhere(relocation, pages, mapped)


def _needed(relocation: Relocation) -> Iterator[_Pages]:
    import numpy as np

    copies, addresses = relocation.pages.copies, relocation.addresses
    if relocation.argument.layout.addressing is not Addressing.CONTIGUOUS:
        flags = relocation.pages.flags
        used = [page.address for page in relocation.pages.pages if flags[page.first : page.last + 1].any()]
        listed = np.array(used, np.uint64)
        yield _Pages(_LISTED, Access.READ, relocation.list_addresses(listed), listed)
    yield _Pages("source page", Access.READ, addresses.sources, copies.sources)
    yield _Pages("destination page", Access.WRITE, addresses.destinations, copies.destinations)


class _Mapped:
    """What the tables map, to be asked for many addresses at once."""

    def __init__(self, relocation: Relocation) -> None:
        import numpy as np

        ranges = sorted((each for scan in relocation.scans for each in scan.ranges), key=lambda each: each.va)
        self._starts = np.array([each.va for each in ranges], np.uint64)
        self._last = np.array([each.end - 1 for each in ranges], np.uint64)
        self._outputs = np.array([each.pa for each in ranges], np.uint64)
        self._rights = {
            Access.READ: np.array([each.privileged.read for each in ranges], np.bool_),
            Access.WRITE: np.array([each.privileged.write for each in ranges], np.bool_),
        }

    def denied(self, pages: _Pages) -> list[int]:
        """Numbers of the pages that are not mapped, or not with the right that is needed."""
        import numpy as np

        if not len(self._starts):
            return list(range(len(pages.addresses)))
        at, inside = self._find(pages.addresses)
        denied: list[int] = np.flatnonzero(~(inside & self._rights[pages.access][at])).tolist()
        return denied

    def elsewhere(self, pages: _Pages) -> list[int]:
        """Numbers of the pages that are mapped to another physical page than expected."""
        import numpy as np

        if not len(self._starts):
            return []
        at, inside = self._find(pages.addresses)
        outputs = self._outputs[at] + (pages.addresses - self._starts[at])
        found: list[int] = np.flatnonzero(inside & (outputs != pages.expected)).tolist()
        return found

    def _find(self, addresses: Words) -> tuple[Indices, Flags]:
        import numpy as np

        at = np.searchsorted(self._starts, addresses, side="right") - 1
        inside = (at >= 0) & (addresses <= self._last[np.maximum(at, 0)])
        return np.maximum(at, 0), inside


def _not_mapped(relocation: Relocation, pages: _Pages, mapped: _Mapped) -> Iterator[Finding]:
    denied = mapped.denied(pages)
    for number in denied[:_TRIED]:
        va, pa = int(pages.addresses[number]), int(pages.expected[number])
        result = relocation.walk(va)
        fault = result.fault_for(pages.access)
        if fault is None or result.unknown:
            continue
        yield Finding(
            "K07",
            Severity.FATAL,
            f"The relocation will {pages.access.value} {pages.name} {pa:#x} through tables that do not let it: "
            f"{va:#x} takes {fault.phrase} ({fault.cause.text})"
            f"{f', and so do {len(denied) - 1} more' if len(denied) > 1 else ''}. The tables are older than the list.",
            {
                "va": va,
                "page": pa,
                "count": len(denied),
                "address": fault.cause.address,
                "level": fault.cause.level,
                "descriptor": result.levels[-1].descriptor if result.levels else None,
            },
            _repair(relocation, pages, mapped, result, pa),
            leads_to=_exception(relocation, pages, va, fault),
        )
        return


def _exception(relocation: Relocation, pages: _Pages, va: int, fault: Fault) -> ExceptionRecord | None:
    """The exception that the copy takes there, if the instruction is known."""
    if relocation.loop is None:
        return None
    listed = pages.name == _LISTED
    instruction = relocation.loop.next_entry_load if listed else relocation.loop.first_access(pages.access)
    if instruction is None:
        return None
    return data_abort(fault, instruction, va, pages.access, relocation.regime.facts.el)


def _repair(relocation: Relocation, pages: _Pages, mapped: _Mapped, result: Walk, pa: int) -> DescriptorRepair | None:
    """The missing leaf, with the attributes of another page of its kind; ``None`` when a table is missing too."""
    leaf = result.levels[-1] if result.levels else None
    if leaf is None or leaf.level != LAST_LEVEL or leaf.descriptor is None:
        return None
    denied = set(mapped.denied(pages))
    model = next((number for number in range(len(pages.addresses)) if number not in denied), None)
    if model is None:
        return None
    other = relocation.walk(int(pages.addresses[model]))
    if not other.levels or other.levels[-1].level != LAST_LEVEL or other.pa is None:
        return None
    attributes = (other.levels[-1].descriptor or 0) ^ (other.pa & ~(relocation.pages.page_size - 1))
    return DescriptorRepair(leaf.address, leaf.descriptor, pa | attributes, f"maps {pa:#x} as the other pages are")


def _mapped_elsewhere(relocation: Relocation, pages: _Pages, mapped: _Mapped) -> Iterator[Finding]:
    wrong = mapped.elsewhere(pages)
    if not wrong:
        return
    va, pa = int(pages.addresses[wrong[0]]), int(pages.expected[wrong[0]])
    result = relocation.walk(va)
    if result.pa is None or not result.levels:
        return
    leaf = result.levels[-1]
    repair = None
    if leaf.level == LAST_LEVEL and leaf.descriptor is not None:
        new = leaf.descriptor ^ ((result.pa ^ pa) & ~(relocation.pages.page_size - 1))
        repair = DescriptorRepair(leaf.address, leaf.descriptor, new, f"points it to {pa:#x}")
    yield Finding(
        "K07",
        Severity.FATAL,
        f"The relocation will {pages.access.value} {pages.name} {pa:#x} at {va:#x}, which the tables map to "
        f"{result.pa:#x}{f', and {len(wrong) - 1} more elsewhere' if len(wrong) > 1 else ''}: the image will not be "
        "what was loaded.",
        {
            "va": va,
            "page": pa,
            "pa": result.pa,
            "count": len(wrong),
            "address": leaf.address,
            "level": leaf.level,
            "descriptor": leaf.descriptor,
        },
        repair,
    )


RULE = Rule(
    "K07",
    "The tables do not map what is copied",
    "The tables for the relocation are made when the image is loaded, which may be long before the jump. Pages of the "
    "list, sources and destinations have to be mapped when it comes: sources readable, destinations writable, each at "
    "the address that the relocation code computes for it. Memory that was added, removed or remapped in between is "
    "not, and the copy faults in the middle, where no vectors help.",
    (
        "James Morse, 2019-08-15 (ba8a2519-ed95-2518-d0e8-66e8e0c14ff5@arm.com): the tables are built too early",
        "Linux arch/arm64/mm/trans_pgd.c: trans_pgd_create_copy() (read-only pages are made writable)",
    ),
    _check,
    symptom="The relocation freezes after some of the pages.",
)
