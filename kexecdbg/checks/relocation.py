"""The kexec relocation that the code at hand carries out: its argument, its page list, its loop, what it may not touch.

Everything is found in registers and memory; what is not there makes the rules on kexec silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.geometry import TG1_GRANULES
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.ranges import TableScan
from kexecdbg.arm64.regimes import SCTLR_M, Regime, current_el, mmu_enabled, regime_of
from kexecdbg.arm64.vectors import VECTORS_SIZE, vectors_base
from kexecdbg.arm64.walk import Walk, walk
from kexecdbg.checks.copy_loop import CopyLoop, find_copy_loop
from kexecdbg.checks.exceptions import data_abort
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.table_scans import scan_tables
from kexecdbg.errors import MemoryUnreadableError, RegisterUnknownError
from kexecdbg.kexec.argument import Addressing, RelocationArgument, Role
from kexecdbg.kexec.defects import Area, AreaKind, Audit
from kexecdbg.kexec.kimage import Segment, read_segments
from kexecdbg.kexec.page_list import PAGE_SIZE
from kexecdbg.kexec.recognise import recognise
from kexecdbg.machine.memory_map import memory_map_of
from kexecdbg.machine.state import CpuState

if TYPE_CHECKING:
    from kexecdbg.kexec.list_reader import PageList, Words

CODE_PAGE_SIZE = 4096
"""KEXEC_CONTROL_PAGE_SIZE of arm64, whatever the kernel's page size."""
_MAX_ADDRESS = (1 << 64) - 1
_ARGUMENT_REGISTERS = ("X0", "X18", *(f"X{number}" for number in range(1, 31) if number != 18))
"""Where the argument pointer is looked for: x0 is where it comes in, x18 where RFC v2 keeps it."""


@dataclass(frozen=True)
class Vectors:
    """Exception vectors that the relocation relies on.

    Attributes:
        register: what holds their address: ``VBAR_EL2``, or a field of the argument.
        el: the exception level that takes exceptions there.
        address: physical address.
        copied: they are a copy made for the relocation, which has to get along without anything around it.
    """

    register: str
    el: int
    address: int
    copied: bool


@dataclass(frozen=True)
class PageAddresses:
    """Virtual addresses at which the relocation code reaches the pages of each copy, in the order of the copies."""

    sources: Words
    destinations: Words


@dataclass(frozen=True)
class Relocation:
    """A relocation that is about to run.

    Attributes:
        argument: what the relocation code gets.
        pointers: registers that point to it at ``next_pc``.
        before: registers as they are while this code runs.
        state: registers as they will be while it copies.
        memory: physical memory.
        next_pc: the next instruction to be fetched in ``state``.
    """

    argument: RelocationArgument
    pointers: tuple[str, ...]
    before: CpuState
    state: CpuState
    memory: PhysicalMemory
    next_pc: int

    @cached_property
    def regime(self) -> Regime:
        """The translation regime of the relocation code."""
        return regime_of(current_el(self.before), self.state)

    @cached_property
    def pages(self) -> PageList:
        """The page list."""
        from kexecdbg.kexec.list_reader import read_page_list

        return read_page_list(self.argument.require(Role.HEAD), self.memory, page_size=self.page_size)

    @cached_property
    def page_size(self) -> int:
        """The kernel's PAGE_SIZE in bytes: the granule of its own tables, TTBR1's; 4 KiB where that is not told."""
        tcr = self.before.get("TCR_EL2" if self.regime is Regime.EL2_0 else "TCR_EL1")
        granule = TG1_GRANULES.get(bits(tcr, 31, 30)) if tcr is not None else None
        return PAGE_SIZE if granule is None else 1 << granule.shift

    @cached_property
    def audit(self) -> Audit:
        """What is wrong with the page list."""
        from kexecdbg.kexec.audit import audit

        return audit(self.pages, memory_map=memory_map_of(self.memory), areas=self.areas, segments=self.segments)

    @cached_property
    def segments(self) -> tuple[Segment, ...] | None:
        """The image's segments, where the argument has them."""
        if self.argument.layout.segments is None:
            return None
        return read_segments(self.memory, self.argument)

    @cached_property
    def destinations(self) -> tuple[tuple[int, int], ...]:
        """Physical memory that the copies fill: ranges (start, end), ascending and joined."""
        from kexecdbg.kexec.runs import destination_ranges

        return destination_ranges(self.pages)

    def overwritten(self, start: int, end: int) -> int | None:
        """The first physical address from ``start`` to ``end`` (exclusive) that a copy fills, or ``None``."""
        for low, high in self.destinations:
            if low < end and start < high:
                return max(low, start)
        return None

    # What the relocation uses.

    @cached_property
    def code_page(self) -> Area | None:
        """The control code page; ``None`` when it cannot be told where it is."""
        if "arch.kern_reloc" in self.argument.values:
            start = self.argument.values["arch.kern_reloc"]
        else:
            pa = self.walk_now(self.next_pc).pa
            if pa is None:
                return None
            start = pa & ~(CODE_PAGE_SIZE - 1)
        return Area(AreaKind.CODE, "the relocation code", start, start + CODE_PAGE_SIZE)

    @cached_property
    def scans(self) -> tuple[TableScan, ...]:
        """Everything that the tables map while pages are copied."""
        return scan_tables(self.state, self.memory, self.regime)

    @cached_property
    def vectors(self) -> tuple[Vectors, ...]:
        """The vectors that the relocation relies on: those of its own level, and those of EL2 when it runs below."""
        return tuple(self._vectors())

    def _vectors(self) -> Iterator[Vectors]:
        made = self.argument.get(Role.EL2_VECTORS)
        own = self.state.get(self.regime.facts.vbar)
        if own is not None:
            pa = self.locate(vectors_base(own))
            if pa is not None:
                yield Vectors(self.regime.facts.vbar, self.regime.facts.el, pa, copied=pa == made)
        if made and self.regime is Regime.EL1_0:
            yield Vectors(self.argument.layout.roles[Role.EL2_VECTORS], 2, made, copied=True)
        elif self.regime is Regime.EL1_0:
            vbar, sctlr = self.state.get("VBAR_EL2"), self.state.get("SCTLR_EL2")
            if vbar and sctlr is not None and not bit(sctlr, SCTLR_M):
                yield Vectors("VBAR_EL2", 2, vectors_base(vbar), copied=False)

    @cached_property
    def areas(self) -> tuple[Area, ...]:
        """What the relocation uses beside the list and the pages it copies, while it copies and after that."""
        found = [
            *(
                Area(AreaKind.VECTORS, f"the vectors of {each.register}", each.address, each.address + VECTORS_SIZE)
                for each in self.vectors
            ),
            *(
                Area(AreaKind.TABLES, f"a table of {scan.register}", place, place + size)
                for scan in self.scans
                if not scan.output_is_ipa
                for place, size in scan.table_places
            ),
        ]
        # Mainline loads every field before the loop, and kzalloc may well put struct kimage where a page goes.
        if self.loop is None or self.loop.argument_reads:
            found.append(Area(AreaKind.ARGUMENT, "the argument", self.argument.address, self.argument.end))
        if self.code_page is not None:
            found.append(self.code_page)
        if self.loop is not None and self.loop.uses_stack:
            stack = self.locate(self.state.require("SP", "where the stack is") - INSTRUCTION_SIZE)
            if stack is not None:
                found.append(Area(AreaKind.STACK, "the stack", stack & ~(CODE_PAGE_SIZE - 1), stack))
        return tuple(found)

    # The code.

    @cached_property
    def loop(self) -> CopyLoop | None:
        """The copy loop and what follows it, when the code can be followed there."""
        pages: dict[int, int | None] = {}

        def fetch(address: int) -> int:
            page = address & ~(CODE_PAGE_SIZE - 1)
            if page not in pages:
                pages[page] = self.locate(page, Access.FETCH)
            pa = pages[page]
            if pa is None:
                raise MemoryUnreadableError(address, INSTRUCTION_SIZE, "the address does not translate")
            return int.from_bytes(self.memory.read(pa + address - page, INSTRUCTION_SIZE), "little")

        return find_copy_loop(fetch, self.next_pc, self.pointers)

    @cached_property
    def addresses(self) -> PageAddresses:
        """Where the relocation code reaches the pages of each copy."""
        import numpy as np

        copies, values = self.pages.copies, self.argument.values
        if self.argument.layout.addressing is Addressing.IDENTITY:
            return PageAddresses(copies.sources, copies.destinations)
        if self.argument.layout.addressing is Addressing.LINEAR_MAP:
            offset = np.uint64(values["arch.phys_offset"])
            return PageAddresses(copies.sources - offset, copies.destinations - offset)
        steps = np.arange(len(copies), dtype=np.uint64) * np.uint64(self.pages.page_size)
        return PageAddresses(np.uint64(values["src_addr"]) + steps, np.uint64(values["dst_addr"]) + steps)

    def list_addresses(self, pages: Words) -> Words:
        """Virtual addresses of list pages; the relocation code that copies in one go does not read them."""
        import numpy as np

        if self.argument.layout.addressing is Addressing.LINEAR_MAP:
            return pages - np.uint64(self.argument.values["arch.phys_offset"])
        return pages

    def list_read_fault(self, address: int) -> ExceptionRecord | None:
        """The exception of reading an entry of the list at the physical ``address``; ``None`` if none is certain."""
        import numpy as np

        load = None if self.loop is None else self.loop.next_entry_load
        if load is None:
            return None
        va = int(self.list_addresses(np.array([address], np.uint64))[0])
        result = self.walk(va)
        fault = result.fault_for(Access.READ)
        if fault is None or result.unknown:
            return None
        return data_abort(fault, load, va, Access.READ, self.regime.facts.el)

    def walk(self, va: int) -> Walk:
        """Translate ``va`` as the relocation code will."""
        return walk(self.state, self.memory, va & _MAX_ADDRESS, regime=self.regime)

    def walk_now(self, va: int) -> Walk:
        """Translate ``va`` as the code that runs now does."""
        return walk(self.before, self.memory, va & _MAX_ADDRESS, regime=self.regime)

    def locate(self, va: int, access: Access = Access.READ) -> int | None:
        """Physical address of ``va`` while pages are copied, or where it is now if it is not mapped then."""
        for result in (self.walk(va), self.walk_now(va)):
            if result.pa is not None and result.fault_for(access) is None:
                return result.pa
        return None


def find_relocation(before: CpuState, after: CpuState, memory: PhysicalMemory, next_pc: int) -> Relocation | None:
    """The relocation whose argument a register points to; ``None`` when no register points to one.

    Args:
        before: registers as they are, in whose translation the argument pointer is.
        after: registers as they are when ``next_pc`` is fetched.
        memory: physical memory.
        next_pc: virtual address of the next instruction.

    Raises:
        RegisterUnknownError: PSTATE or HCR_EL2 is unknown.
    """
    regime = regime_of(current_el(before), before)
    seen: dict[int, int | None] = {}
    for name in _ARGUMENT_REGISTERS:
        value = before.get(name)
        if not value or value % 8 or value in seen:
            continue
        seen[value] = _locate_argument(before, memory, regime, value)
        pa = seen[value]
        argument = None if pa is None else recognise(memory, pa).argument
        if argument is not None:
            pointers = tuple(each for each in _ARGUMENT_REGISTERS if before.get(each) == value)
            return Relocation(argument, pointers, before, _while_copying(after, regime, argument), memory, next_pc)
    return None


def _locate_argument(state: CpuState, memory: PhysicalMemory, regime: Regime, va: int) -> int | None:
    try:
        result = walk(state, memory, va, regime=regime)
    except RegisterUnknownError:
        return None
    return result.pa if result.fault_for(Access.READ) is None else None


def _while_copying(state: CpuState, regime: Regime, argument: RelocationArgument) -> CpuState:
    """The registers once mainline's relocation code has switched to its own tables; others have done so before."""
    ttbr1 = argument.get(Role.TTBR1)
    name = regime.facts.ttbr1
    if argument.layout.addressing is not Addressing.LINEAR_MAP or ttbr1 is None or name is None:
        return state
    return state.with_values({name: ttbr1})


def copies_with_mmu_off(relocation: Relocation) -> bool:
    """Whether the pages are copied with the MMU of the relocation code's level off."""
    return not mmu_enabled(relocation.regime, relocation.state)
