"""All there is to say about an image that kexec has loaded: struct kimage, its page list, where it goes, the audit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import Regime, current_el, mmu_enabled, regime_of
from kexecdbg.arm64.vectors import VECTORS_SIZE
from kexecdbg.arm64.walk import walk
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.image_entry import Entry, entry_of
from kexecdbg.checks.judging import by_severity
from kexecdbg.checks.relocating.code_search import find_relocation_code
from kexecdbg.checks.relocation import CODE_PAGE_SIZE, Relocation
from kexecdbg.checks.rules import all_rules
from kexecdbg.checks.situation import Situation
from kexecdbg.errors import KexecdbgError, MemoryUnreadableError, RegisterUnknownError, UsageError
from kexecdbg.kexec.argument import Addressing, ArgumentLayout, RelocationArgument, Role
from kexecdbg.kexec.audit import audit
from kexecdbg.kexec.control_pages import ControlPages, read_control_pages
from kexecdbg.kexec.defects import HARMLESS, Area, AreaKind, Audit, DefectKind
from kexecdbg.kexec.kimage import Segment, read_segments
from kexecdbg.kexec.kimage_loads import layout_by_loads
from kexecdbg.kexec.list_reader import PageList, read_page_list
from kexecdbg.kexec.page_list import PAGE_SIZE
from kexecdbg.kexec.recognise import LAYOUTS, recognise
from kexecdbg.kexec.runs import CopyRun, ListSummary, copy_runs, summarize
from kexecdbg.machine.memory_map import memory_map_of
from kexecdbg.machine.state import CpuState


@dataclass(frozen=True)
class Destination:
    """Pages in a row that are filled.

    Attributes:
        start, end: physical addresses, ``end`` exclusive.
        va: where the relocation code writes them; ``None`` when that cannot be told, or it runs with the MMU off.
        mapped: bytes that the tables map writable from ``va`` on and to the right place; ``None`` as ``va``.
    """

    start: int
    end: int
    va: int | None
    mapped: int | None


@dataclass(frozen=True)
class KimageView:
    """An image that kexec has loaded.

    Attributes:
        argument: struct kimage, or what the relocation code gets in its place.
        pages: its page list.
        summary, runs: the list in short.
        segments: the image's segments; ``None`` where the structure has none, or nobody knows where.
        areas: what the relocation uses beside the list: code, argument, tables, vectors.
        control_pages: what the kernel set aside for the relocation; ``None`` when it cannot be told.
        destinations: where the pages go, ascending.
        regime: whose tables are used; ``None`` when that cannot be told.
        audit: what is wrong with the list.
        findings: what the rules on kexec say, the worst first.
        applied: ids of the rules that could be applied.
        unchecked: what could not be checked and why, one clause each.
        assumptions: register values that were not read from the machine, one clause each.
    """

    argument: RelocationArgument
    pages: PageList
    summary: ListSummary
    runs: tuple[CopyRun, ...]
    segments: tuple[Segment, ...] | None
    areas: tuple[Area, ...]
    control_pages: ControlPages | None
    destinations: tuple[Destination, ...]
    regime: Regime | None
    audit: Audit
    findings: tuple[Finding, ...]
    applied: tuple[str, ...]
    unchecked: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def in_place(self) -> bool:
        """Whether there is nothing to relocate: the image was loaded where it will run (IND_DONE in head)."""
        return not self.summary.copies and not self.audit.defects

    @property
    def sound(self) -> bool:
        """Whether nothing was found that makes the relocation fail; without the rules, in the list alone."""
        fatal = any(finding.severity is Severity.FATAL for finding in self.findings)
        kinds = {defect.kind for defect in self.audit.defects}
        judged = kinds <= HARMLESS if "K06" not in self.applied else DefectKind.CONTROL_OVERWRITTEN not in kinds
        return judged and not fatal


def find_argument(
    memory: PhysicalMemory, addresses: Sequence[int], kernel: ArgumentLayout | None = None
) -> RelocationArgument:
    """The argument at the first of the physical ``addresses`` that has one.

    Args:
        memory: physical memory; where it can be searched, the loads in relocation code found there help out.
        addresses: where it may be.
        kernel: the layout of struct kimage in the kernel that runs, where it is known.

    Raises:
        UsageError: nothing there is an argument; the message says why for each layout.
    """
    layouts = LAYOUTS if kernel is None else (*LAYOUTS[:-1], kernel)
    tried = [recognise(memory, address, layouts) for address in addresses]
    for found in tried:
        if found.argument is not None:
            return found.argument
    for layout in _layouts_in_code(memory):
        for address in addresses:
            argument = recognise(memory, address, (layout,)).argument
            if argument is not None:
                return argument
    where = " or ".join(f"{address:#x}" for address in addresses) or "an unmapped address"
    why = "; ".join(f"{name}: {reason}" for found in tried[:1] for name, reason in found.refusals.items())
    raise UsageError(
        f"at physical {where} there is neither a struct kimage nor a kern_reloc_arg ({why or 'not mapped'}); "
        "for a kernel of another version give its --vmlinux"
    )


def _layouts_in_code(memory: PhysicalMemory) -> Iterator[ArgumentLayout]:
    for page in find_relocation_code(memory) or ():
        try:
            yield layout_by_loads(memory.read(page, CODE_PAGE_SIZE))
        except (UsageError, MemoryUnreadableError):
            continue


def view_image(state: CpuState, memory: PhysicalMemory, argument: RelocationArgument) -> KimageView:
    """Read and audit the image of ``argument``; what cannot be told for want of a register is said to be unchecked.

    Args:
        state: registers of the CPU that will carry the relocation out, as they are now.
        memory: physical memory.
        argument: from :func:`find_argument`.
    """
    unchecked: list[str] = []
    entry: Entry | None = None
    regime: Regime | None = None
    areas = _areas_of_argument(argument)
    try:
        entry = entry_of(state, memory, argument)
        regime = entry.relocation.regime
        areas = entry.relocation.areas
    except KexecdbgError as error:
        unchecked.append(f"whether tables and stack are overwritten: {error}")
    # The regime says which TCR is the kernel's.
    page_size = PAGE_SIZE if entry is None or regime is None else entry.relocation.page_size
    pages = read_page_list(argument.require(Role.HEAD), memory, page_size=page_size)
    segments = None if argument.layout.segments is None else read_segments(memory, argument)
    control_pages, problem = _control_pages(state, memory, argument, page_size)
    unchecked += [problem] if problem else []
    control = (
        [Area(AreaKind.CONTROL, "a control page", *each) for each in control_pages.ranges] if control_pages else []
    )
    audited = audit(pages, memory_map=memory_map_of(memory), areas=(*areas, *control), segments=segments)
    destinations, problem = _destinations(pages, None if entry is None else entry.relocation)
    findings, applied, refusals = ([], [], []) if entry is None else _kexec_rules(entry.situation)
    return KimageView(
        argument=argument,
        pages=pages,
        summary=summarize(pages),
        runs=copy_runs(pages),
        segments=segments,
        areas=areas,
        control_pages=control_pages,
        destinations=destinations,
        regime=regime,
        audit=audited,
        findings=by_severity(findings),
        applied=tuple(applied),
        unchecked=(*audited.unchecked, *unchecked, *refusals, *([problem] if problem else ())),
        assumptions=() if entry is None else entry.assumptions,
    )


def _kexec_rules(situation: Situation) -> tuple[list[Finding], list[str], list[str]]:
    """What the rules on kexec find, the ids of those that could be applied whole, and why the others could not."""
    findings: list[Finding] = []
    applied: list[str] = []
    refusals: list[str] = []
    for rule in all_rules():
        if rule.id.startswith("K"):
            try:
                findings.extend(rule.check(situation))  # what was found before something is missing counts
                applied.append(rule.id)
            except (RegisterUnknownError, MemoryUnreadableError) as error:
                refusals.append(f"{rule.id}: {error}")
    return findings, applied, refusals


def _areas_of_argument(argument: RelocationArgument) -> tuple[Area, ...]:
    """What the argument alone says is used."""
    found = [Area(AreaKind.ARGUMENT, "the argument", argument.address, argument.end)]
    code = argument.values.get("arch.kern_reloc")
    if code:
        found.append(Area(AreaKind.CODE, "the relocation code", code, code + CODE_PAGE_SIZE))
    vectors = argument.get(Role.EL2_VECTORS)
    if vectors:
        name = f"the vectors of {argument.layout.roles[Role.EL2_VECTORS]}"
        found.append(Area(AreaKind.VECTORS, name, vectors, vectors + VECTORS_SIZE))
    return tuple(found)


def _control_pages(
    state: CpuState, memory: PhysicalMemory, argument: RelocationArgument, page_size: int
) -> tuple[ControlPages | None, str | None]:
    """The control pages of a struct kimage, or why they are not known; neither where there is no such structure."""
    if argument.layout.addressing is not Addressing.LINEAR_MAP:
        return None, None
    pages_of_kernel: dict[int, int | None] = {}

    def locate(va: int) -> int | None:
        page, offset = va - va % page_size, va % page_size
        if page not in pages_of_kernel:
            pages_of_kernel[page] = walk(state, memory, page, regime=regime).pa
        start = pages_of_kernel[page]
        return None if start is None else start + offset

    try:
        regime = regime_of(current_el(state), state)
        return read_control_pages(memory, locate, argument, page_size), None
    except KexecdbgError as error:
        return None, f"whether destinations cover control pages: {error}"


def _destinations(pages: PageList, relocation: Relocation | None) -> tuple[tuple[Destination, ...], str | None]:
    """Where the pages go, and why it cannot be told where they are mapped, if it cannot."""
    physical, first = np.unique(pages.copies.destinations, return_index=True)
    virtual, problem = None, "where destinations are mapped: the registers are not known"
    if relocation is not None:
        try:
            on = mmu_enabled(relocation.regime, relocation.state)
            scans = relocation.scans
        except KexecdbgError as error:
            problem = f"where destinations are mapped: {error}"
        else:
            problem = "" if on else "where destinations are mapped: the MMU is off as the registers are now"
            virtual = relocation.addresses.destinations[first] if on else None
    if not len(physical):
        return (), None
    size = np.uint64(pages.page_size)
    breaks = physical[1:] != physical[:-1] + size
    if virtual is not None:
        breaks |= virtual[1:] != virtual[:-1] + size
    starts = np.flatnonzero(np.concatenate([[True], breaks]))
    found = []
    for start, count in zip(starts.tolist(), np.diff(starts, append=len(physical)).tolist(), strict=True):
        pa, length = int(physical[start]), count * pages.page_size
        va = None if virtual is None else int(virtual[start])
        mapped = None
        if va is not None:
            ranges = (each for scan in scans for each in scan.ranges if each.privileged.write)
            mapped = sum(
                max(0, min(va + length, each.end) - max(va, each.va)) for each in ranges if each.pa - each.va == pa - va
            )
        found.append(Destination(pa, pa + length, va, mapped))
    return tuple(found), problem or None
