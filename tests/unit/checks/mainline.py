"""Mainline's relocation code of 5.16 and later at its first instruction: MMU on, struct kimage in the linear map."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from kexecdbg.checks.situation import Situation
from kexecdbg.kexec.kimage import KIMAGE_5_16
from kexecdbg.kexec.page_list import PageCopy, build_page_list
from kexecdbg.lab.tables import Arena, TableBuilder
from kexecdbg.machine.state import CpuState
from tests.unit.assembly import assemble
from tests.unit.checks.relocations import RESET, SparseRam

CODE = 0x1_4000_0000
KIMAGE = 0x1_4000_2000
LIST = 0x1_4000_3000
VECTORS = 0x1_4000_4000
EL2_VECTORS = 0x1_5FF0_0000
ZERO_PAGE = 0x1_4000_7000
IDENTITY_MAP, LINEAR_MAP, COPY_OF_LINEAR_MAP = 0x1_4001_0000, 0x1_4002_0000, 0x1_4003_0000
SOURCE, NEW_KERNEL = 0x1_5000_0000, 0x1_6000_0000
PHYS_OFFSET = 0x1_0001_4000_0000
"""Linear map: virtual address = physical address - PHYS_OFFSET, modulo 2^64."""
_PARKED = 0x1400_0000
"""``b .``"""
NORMAL, READ_ONLY, EXECUTABLE = 0x0060_0000_0000_0703, 1 << 7, 0x0040_0000_0000_0703
COPIES = tuple(PageCopy(SOURCE + number * 0x2000, NEW_KERNEL + number * 0x1000) for number in range(8))

_LOADS = """
    ldr x28, [x0, #24]
    ldr x27, [x0, #664]
    ldr x26, [x0, #648]
    ldr x18, [x0, #688]
    ldr x17, [x0, #680]
    ldr x16, [x0]
    ldr x22, [x0, #696]
"""
_COPY = """
    msr ttbr1_el1, x18
    isb
    tlbi vmalle1
    dsb nsh
    msr ttbr1_el1, x17
    isb
    mov x13, xzr
    mov x14, xzr
loop:
    and x12, x16, #0xfffffffffffff000
    sub x12, x12, x22
    tbz x16, #3, 1f
    mov x1, x13
    add x3, x12, #4096
2:  ldp x4, x5, [x12]
    ldp x6, x7, [x12, #16]
    stnp x4, x5, [x13]
    stnp x6, x7, [x13, #16]
    add x12, x12, #32
    add x13, x13, #32
    cmp x12, x3
    b.lo 2b
    b 3f
1:  tbz x16, #1, 4f
    mov x14, x12
    b 3f
4:  tbz x16, #0, 3f
    mov x13, x12
3:  ldr x16, [x14], #8
    tbz x16, #2, loop
    dsb nsh
    ic iallu
    dsb nsh
    isb
    mrs x12, sctlr_el1
    bic x12, x12, #1
    msr sctlr_el1, x12
    isb
"""
_END = """
    cbz x27, 5f
    mov x1, x28
    mov x0, #1
    mov x2, x26
    hvc #0
5:  mov x0, x26
    br x28
"""
_LATE_LOAD = "    ldr x28, [x0, #24]\n"


@dataclass
class Mainline:
    """A relocation at its entry; the defaults are sound.

    Attributes:
        kimage: fields that differ.
        copies: the page copies.
        spoil: changes the copy of the linear map.
        late_load: start is loaded from struct kimage after the loop, as before the fix of 2022.
        kimage_at: physical address of struct kimage.
        el2_vectors: contents of the EL2 vectors by offset, where they are not parked.
    """

    kimage: dict[str, int] = field(default_factory=dict)
    copies: tuple[PageCopy, ...] = COPIES
    spoil: Callable[[TableBuilder], None] = field(default=lambda tables: None)
    late_load: bool = False
    kimage_at: int = KIMAGE
    el2_vectors: dict[int, int] = field(default_factory=dict)

    def situation(self) -> Situation:
        """The situation at the entry; nothing is switched on from here."""
        code, _ = assemble(*(_LOADS + _COPY + (_LATE_LOAD if self.late_load else "") + _END).splitlines())
        head, listed = build_page_list(self.copies, lambda: LIST)
        identity = TableBuilder(Arena(IDENTITY_MAP, LINEAR_MAP).allocate)
        identity.map_page(CODE, CODE, EXECUTABLE)
        old = TableBuilder(Arena(LINEAR_MAP, COPY_OF_LINEAR_MAP).allocate)
        old.map_page(linear(self.kimage_at), self.kimage_at, NORMAL)
        old.map_page(linear(VECTORS), VECTORS, EXECUTABLE)
        new = TableBuilder(Arena(COPY_OF_LINEAR_MAP, COPY_OF_LINEAR_MAP + 0x1_0000).allocate)
        for page in (self.kimage_at, LIST, VECTORS, *(page for copy in self.copies for page in _both(copy))):
            new.map_page(linear(page), page, NORMAL)
        self.spoil(new)
        contents = {
            CODE: code,
            self.kimage_at: self._kimage(head, identity.root, new.root),
            EL2_VECTORS: struct.pack("<512I", *(self.el2_vectors.get(4 * n, _PARKED) for n in range(512))),
            SOURCE: bytes(range(256)) * 256,
            **listed,
            **{a: d for tables in (identity, old, new) for a, d in tables.pages().items()},
        }
        state = CpuState(
            {
                **RESET,
                "PC": CODE,
                "PSTATE": 0x3C5,
                "HCR_EL2": 0x8000_0000,
                "SCTLR_EL1": 0x30D0_1805,
                "TCR_EL1": 0x4_B510_3510,
                "MAIR_EL1": 0xFF,
                "TTBR0_EL1": identity.root,
                "TTBR1_EL1": old.root,
                "VBAR_EL1": linear(VECTORS),
                "VBAR_EL2": EL2_VECTORS,
                "X0": linear(self.kimage_at),
            }
        )
        return Situation(state, state, SparseRam(contents), CODE, CODE)

    def _kimage(self, head: int, ttbr0: int, ttbr1: int) -> bytes:
        end = max(copy.destination for copy in self.copies) + 0x1000 if self.copies else NEW_KERNEL + 0x1000
        values = {
            "head": head,
            "entry": linear(LIST),
            "last_entry": linear(LIST) + 0xFF8,
            "start": NEW_KERNEL,
            "control_code_page": 0xFFFF_FC00_0123_4000,
            "nr_segments": 1,
            "control_pages": linear(self.kimage_at) + KIMAGE_5_16.offsets["control_pages"],
            "arch.kern_reloc": CODE,
            "arch.el2_vectors": EL2_VECTORS,
            "arch.ttbr0": ttbr0,
            "arch.ttbr1": ttbr1,
            "arch.zero_page": ZERO_PAGE,
            "arch.phys_offset": PHYS_OFFSET,
            "arch.t0sz": 16,
        }
        data = bytearray(KIMAGE_5_16.pack({**values, **self.kimage}))
        struct.pack_into("<4Q", data, 64, 0, end - NEW_KERNEL, NEW_KERNEL, end - NEW_KERNEL)
        return bytes(data)


def linear(pa: int) -> int:
    """The linear map's address of ``pa``."""
    return (pa - PHYS_OFFSET) % (1 << 64)


def _both(copy: PageCopy) -> tuple[int, int]:
    return copy.source, copy.destination
