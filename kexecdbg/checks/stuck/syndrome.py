"""What the syndrome registers of a stopped CPU's level hold: of which exception, and whether it still adds up."""

from __future__ import annotations

import enum
from collections.abc import Container
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, decode_instruction
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.pstate import el_of
from kexecdbg.arm64.regimes import RegimeFacts, regime_of
from kexecdbg.arm64.syndromes.ec import DATA_ABORTS, HAVE_FNV, INSTRUCTION_ABORTS, UNKNOWN_REASON, WRITE_FAR, ec_of
from kexecdbg.arm64.walk import walk
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.stuck.vectors import vector_entry
from kexecdbg.errors import ArchitectureError, MemoryUnreadableError, RegisterUnknownError
from kexecdbg.machine.state import CpuState

_ESR_CM, _ESR_WNR, _ESR_FNV = 8, 6, 10
_ALIGNMENT_FAULT = 0x21
_SPSR_AARCH32 = 4
_ZERO_PAGE = bytes(4096)
_ZEROS_SEARCHED = 16
"""How many pages of zeros are followed in each direction."""


class Standing(enum.Enum):
    """Which exception the syndrome registers are about."""

    FIRST = "the exception that brought the CPU here"
    OVERWRITTEN = "an exception in the exception handling itself; the first one is overwritten"
    EARLIER = "earlier exceptions; nothing says that they have to do with where the CPU is"


@dataclass(frozen=True)
class HeldSyndrome:
    """ESR, FAR, ELR and SPSR of one exception level.

    Attributes:
        el: the level.
        standing: which exception it is about.
        esr, elr: register values.
        far: register value; ``None`` when it is unknown or this exception class does not write it.
        spsr: register value, or ``None`` when it is unknown.
        source_el: the exception level that the exception was taken from; ``None`` when unknown, or AArch32.
        meaning: what it is about, as far as registers and memory still say, as a clause; may be empty.
    """

    el: int
    standing: Standing
    esr: int
    far: int | None
    elr: int
    spsr: int | None
    source_el: int | None
    meaning: str

    @property
    def exception_class(self) -> int:
        """ESR_ELx.EC."""
        return ec_of(self.esr)

    @property
    def record(self) -> ExceptionRecord:
        """The exception as predictions have it."""
        return ExceptionRecord(self.esr, self.far, self.elr)


def held_syndrome(
    state: CpuState, memory: PhysicalMemory, facts: RegimeFacts, pc: int, handler: Container[int]
) -> HeldSyndrome | None:
    """The syndrome of the level that controls the regime of ``facts``; ``None`` when it is unknown or there is none.

    ``handler`` holds the addresses of the level's exception handler; see
    :func:`kexecdbg.checks.stuck.vectors.handler_code`.
    """
    esr, elr = state.get(facts.esr), state.get(facts.elr)
    if esr is None or elr is None or (esr == 0 and elr == 0):
        return None  # as after reset
    far = state.get(facts.far) if ec_of(esr) in WRITE_FAR and not _far_invalid(esr) else None
    spsr = state.get(facts.spsr)
    source_el = None if spsr is None or bit(spsr, _SPSR_AARCH32) else el_of(spsr)
    entry = vector_entry(state, facts, pc)
    if pc not in handler and (entry is None or not entry.has_syndrome):
        standing = Standing.EARLIER
    elif source_el in (None, facts.el) and (elr in handler or vector_entry(state, facts, elr) is not None):
        standing = Standing.OVERWRITTEN
    else:
        standing = Standing.FIRST
    meaning = _meaning(state, memory, esr, far, elr, spsr if source_el is not None else None)
    return HeldSyndrome(facts.el, standing, esr, far, elr, spsr, source_el, meaning)


def _far_invalid(esr: int) -> bool:
    return ec_of(esr) in HAVE_FNV and bool(bit(esr, _ESR_FNV))


def _meaning(state: CpuState, memory: PhysicalMemory, esr: int, far: int | None, elr: int, spsr: int | None) -> str:
    source = state if spsr is None else state.with_values({"PSTATE": spsr})
    exception_class = ec_of(esr)
    try:
        if exception_class in INSTRUCTION_ABORTS and far is not None:
            return _compare_with_tables(source, memory, far, Access.FETCH, bits(esr, 5, 0))
        if exception_class in DATA_ABORTS and far is not None and not bit(esr, _ESR_CM):
            access = Access.WRITE if bit(esr, _ESR_WNR) else Access.READ
            return _compare_with_tables(source, memory, far, access, bits(esr, 5, 0))
        if exception_class == UNKNOWN_REASON:
            return undefined_code(source, memory, elr)
    except (RegisterUnknownError, ArchitectureError) as error:
        return f"not compared with the tables: {error}"
    return ""


def _compare_with_tables(state: CpuState, memory: PhysicalMemory, va: int, access: Access, status: int) -> str:
    """What the tables say now about the access that faulted with ``status``."""
    el = el_of(state.require("PSTATE", "which tables translate"))
    regime = regime_of(el, state)
    if status == _ALIGNMENT_FAULT:
        return f"{va:#x} is not aligned as {regime.facts.sctlr}.A, the instruction or the type of the memory asks"
    result = walk(state, memory, va, regime=regime)
    fault = result.fault_for(access, privileged=el != 0)
    if fault is None:
        return f"a {access.value} of {va:#x} would work now: the tables are not what they were, or a TLB kept others"
    if fault.fsc == status:
        return fault.cause.text
    return f"the tables say something else now: {fault.text}, {fault.cause.text}"


def undefined_code(state: CpuState, memory: PhysicalMemory, va: int) -> str:
    """What is at ``va``, if it is not code: zeros and how far they go, or an undefined word; else empty."""
    el = el_of(state.require("PSTATE", "which tables translate"))
    pa = walk(state, memory, va, regime=regime_of(el, state)).pa
    if pa is None:
        return f"{va:#x} does not translate, as the tables are now"
    try:
        word = int.from_bytes(memory.read(pa, INSTRUCTION_SIZE), "little")
    except MemoryUnreadableError as error:
        return f"{va:#x}: {error.reason}"
    if decode_instruction(word, va).flow is not Flow.UNDEFINED:
        return ""
    if word:
        return f"the word at {va:#x}, {word:#010x}, is permanently undefined (UDF): it is data, not code"
    start, end = _zeros_around(memory, pa)
    return f"no code is at {va:#x}: memory holds zeros there, at least from {start:#x} to {end - 1:#x}"


def _zeros_around(memory: PhysicalMemory, pa: int) -> tuple[int, int]:
    """The run of zero words around ``pa``: start and end (exclusive), physical, followed for a bounded way."""
    size = len(_ZERO_PAGE)
    page = pa & ~(size - 1)
    data = _page(memory, page)
    offset = pa - page
    start = page + len(data[:offset].rstrip(b"\0")) + 3 & ~3
    rest = data[offset:]
    end = pa + (len(rest) - len(rest.lstrip(b"\0")) & ~3)
    for _ in range(_ZEROS_SEARCHED):
        if start % size or (below := _page(memory, start - size)) == b"":
            break
        start = start - size + (len(below.rstrip(b"\0")) + 3 & ~3)
    for _ in range(_ZEROS_SEARCHED):
        if end % size or (above := _page(memory, end)) == b"":
            break
        end += len(above) - len(above.lstrip(b"\0")) & ~3
    return start, end


def _page(memory: PhysicalMemory, address: int) -> bytes:
    """The page at ``address``, or nothing where no memory answers."""
    try:
        return memory.read(address, len(_ZERO_PAGE))
    except MemoryUnreadableError:
        return b""
