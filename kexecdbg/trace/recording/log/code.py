"""Which instruction is at an address, and where addresses lead, in the state that a recording has come to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.trace.recording.address_spaces import AddressSpaces
from kexecdbg.trace.recording.log.memory import LoggedMemory
from kexecdbg.trace.recording.plan import Plan, plan_for
from kexecdbg.trace.step_block import PAGE_SIZE, U64

_EL_BITS = 3
_PSTATE_EL = 0b11 << 2
NOWHERE = (1 << 64) - 1
"""The physical page of an address that does not translate."""


def address_keys(addresses: U64, pstates: npt.NDArray[np.uint32]) -> U64:
    """Addresses (multiples of 4) with the exception level in the two low bits: what an address means depends on it."""
    keys: U64 = addresses | (pstates >> np.uint32(2) & np.uint32(_EL_BITS)).astype(np.uint64)
    return keys


class CodeMap:
    """Instructions and translations by address and exception level, kept until they can have changed.

    Args:
        memory: in the state that the recording has come to.
        values: registers in that state; the one who changes a register that translations depend on calls
            :meth:`translations_changed`.
    """

    def __init__(self, memory: LoggedMemory, values: Mapping[str, int]) -> None:
        self._memory = memory
        self._values = values
        self._spaces = AddressSpaces(memory)
        self._plans: dict[int, Plan | None] = {}
        self._pages: dict[int, int] = {}
        self._code_pages: set[int] = set()

    def plan(self, key: int) -> Plan | None:
        """The instruction at an address (see :func:`address_keys`); ``None`` when it cannot be told."""
        if key not in self._plans:
            self._plans[key] = self._decode(key)
        return self._plans[key]

    def _decode(self, key: int) -> Plan | None:
        pc = key & ~_EL_BITS
        pa = self._locate(pc, key & _EL_BITS, Access.FETCH)
        if pa is None:
            return None
        try:
            word = int.from_bytes(self._memory.read(pa, INSTRUCTION_SIZE), "little")
        except MemoryUnreadableError:
            return None
        self._code_pages.add(pa & -PAGE_SIZE)
        return plan_for(word, pc)

    def _locate(self, va: int, el: int, access: Access) -> int | None:
        pstate = self._values.get("PSTATE", 0) & ~_PSTATE_EL | el << 2
        return self._spaces.locate({**self._values, "PSTATE": pstate}, pstate, va, access)

    def physical_pages(self, keys: U64) -> U64:
        """The physical page of each virtual page (with its level, see :func:`address_keys`); NOWHERE if it has none."""
        unique, inverse = np.unique(keys, return_inverse=True)
        pages = np.array([self._physical_page(key) for key in unique.tolist()], np.uint64)
        found: U64 = pages[inverse]
        return found

    def _physical_page(self, key: int) -> int:
        page = self._pages.get(key)
        if page is None:
            # With READ: a write that faults is followed by an exception, and never comes here.
            pa = self._locate(key & -PAGE_SIZE, key & _EL_BITS, Access.READ)
            page = self._pages[key] = NOWHERE if pa is None else pa
        return page

    def is_table_or_code(self, pages: U64) -> npt.NDArray[np.bool_]:
        """Which physical pages hold translation tables that were read, or instructions that were decoded."""
        known = self._spaces.table_pages() | self._code_pages
        return np.isin(pages, np.fromiter(known, np.uint64, len(known)))

    def translations_changed(self) -> None:
        """A register, a table or a TLB may have changed: nothing is known of any address."""
        self._spaces.changed()
        self._pages.clear()
        self._plans.clear()
        self._code_pages.clear()
