"""Loads and stores decoded from the word (Arm ARM C4.1, "Loads and Stores"): where, how much, which registers.

Covered are general and SIMD registers with every addressing mode, pairs, literals, exclusives, acquire/release and
the atomics. What is not covered (unprivileged, tag, SVE, SME and memory copy instructions) gives ``None``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache

from kexecdbg.arm64.bits import bit, bits, signed
from kexecdbg.arm64.evaluation.arithmetic import extend
from kexecdbg.arm64.evaluation.registers import ZERO_OR_SP, EvaluatedRegisters
from kexecdbg.arm64.faults import Access


class Indexing(enum.Enum):
    """What happens to the base register."""

    NONE = "unchanged"
    PRE = "moved before the access"
    POST = "moved after the access"


@dataclass(frozen=True)
class LoadStore:
    """One load or store.

    Attributes:
        access: READ or WRITE; a WRITE for atomics and exclusive stores.
        size: bytes of one element.
        registers: register numbers of the elements in memory order: general ones (31 is XZR), or empty for SIMD.
        base: number of the base register, 31 being SP; ``None`` for a literal.
        offset: bytes added to the base; of a literal, to the address of the instruction.
        elements: how many elements are moved; ``size * elements`` bytes in all.
        index: number of the register that is added to the base, or ``None``.
        index_option, index_shift: how the index is extended and shifted.
        indexing: whether the base moves by ``offset``.
        sign_extend: width in bits to which a loaded element is sign-extended; ``None`` for zero extension.
        clobbers: general registers that get a value that is not followed (the status of a store-exclusive, what an
            atomic found).
        ordered: acquire, release, exclusive or atomic: the address has to be aligned.
        prefetch: nothing is moved, and no fault is taken.
    """

    access: Access
    size: int
    registers: tuple[int, ...]
    base: int | None
    offset: int = 0
    elements: int = 1
    index: int | None = None
    index_option: int = 0b011
    index_shift: int = 0
    indexing: Indexing = Indexing.NONE
    sign_extend: int | None = None
    clobbers: tuple[int, ...] = ()
    ordered: bool = False
    prefetch: bool = False

    @property
    def total(self) -> int:
        """Bytes that are moved."""
        return self.size * self.elements

    @property
    def base_name(self) -> str:
        """``X2``, ``SP``, or ``PC`` for a literal."""
        if self.base is None:
            return "PC"
        return "SP" if self.base == ZERO_OR_SP else f"X{self.base}"

    def address(self, registers: EvaluatedRegisters, instruction_address: int) -> int | None:
        """The virtual address; ``None`` when it cannot be told."""
        if self.base is None:
            return (instruction_address + self.offset) & _WORD
        address = registers.read_or_sp(self.base)
        if address is None:
            return None
        if self.index is not None:
            index = extend(registers.read(self.index), self.index_option, self.index_shift)
            return None if index is None else (address + index) & _WORD
        return address if self.indexing is Indexing.POST else (address + self.offset) & _WORD

    def move_base(self, registers: EvaluatedRegisters) -> None:
        """Do the write-back."""
        if self.indexing is Indexing.NONE or self.base is None:
            return
        value = registers.read_or_sp(self.base)
        step = self.offset if self.index is None else registers.read(self.index)
        registers.write_or_sp(self.base, None if value is None or step is None else value + step)


_WORD = (1 << 64) - 1


@lru_cache(maxsize=4096)
def load_store(word: int) -> LoadStore | None:
    """The load or store that ``word`` encodes; ``None`` when it is none, or not covered here."""
    if not bit(word, 27) or bit(word, 25):
        return None
    family = bits(word, 29, 28)
    if family == 0b00:
        return None if bit(word, 26) or bit(word, 24) else _exclusive_or_ordered(word)
    if family == 0b01:
        return None if bit(word, 24) else _literal(word)
    if family == 0b10:
        return _pair(word)
    return _single(word)


def is_memory_instruction(word: int) -> bool:
    """Whether ``word`` is in the encoding space of loads and stores."""
    return bool(bit(word, 27)) and not bit(word, 25)


def _moved(word: int) -> tuple[Access, int]:
    return (Access.READ if bit(word, 22) else Access.WRITE), bits(word, 4, 0)


def _exclusive_or_ordered(word: int) -> LoadStore | None:
    """LDXR, STXR, LDXP, STXP, LDAR, STLR, LDLAR, STLLR, CAS, CASP: bits 29:24 are 001000."""
    access, target = _moved(word)
    size, base = 1 << bits(word, 31, 30), bits(word, 9, 5)
    status, second = bits(word, 20, 16), bits(word, 14, 10)
    ordered, pair = bit(word, 23), bit(word, 21)
    if ordered and not pair:
        return LoadStore(access, size, (target,), base, ordered=True)
    if ordered:  # CAS: the compared register takes what was found
        return LoadStore(Access.WRITE, size, (), base, clobbers=(status,), ordered=True)
    if pair and size < 4:  # CASP, 4 or 8 byte elements by bit 30
        size = 8 if bit(word, 30) else 4
        return LoadStore(Access.WRITE, size, (), base, elements=2, clobbers=(status, status + 1), ordered=True)
    moved = (target, second) if pair else (target,)
    if access is Access.READ:
        return LoadStore(access, size, moved, base, elements=len(moved), ordered=True)
    return LoadStore(access, size, (), base, elements=len(moved), clobbers=(status,), ordered=True)


def _literal(word: int) -> LoadStore | None:
    offset = signed(bits(word, 23, 5), 19) * 4
    option, target = bits(word, 31, 30), bits(word, 4, 0)
    if bit(word, 26):
        return None if option == 0b11 else LoadStore(Access.READ, 4 << option, (), None, offset)
    if option == 0b11:
        return LoadStore(Access.READ, 0, (), None, offset, prefetch=True)
    size, sign_extend = ((4, None), (8, None), (4, 64))[option]
    return LoadStore(Access.READ, size, (target,), None, offset, sign_extend=sign_extend)


_PAIR_INDEXING = (Indexing.NONE, Indexing.POST, Indexing.NONE, Indexing.PRE)


def _pair(word: int) -> LoadStore | None:
    access, first = _moved(word)
    option, mode = bits(word, 31, 30), bits(word, 24, 23)
    second, base = bits(word, 14, 10), bits(word, 9, 5)
    moved: tuple[int, ...] = (first, second)
    sign_extend = None
    if bit(word, 26):
        if option == 0b11:
            return None
        size, moved = 4 << option, ()
    elif option == 0b01:
        if access is Access.WRITE or mode == 0:
            return None  # STGP; LDPSW has no non-temporal form
        size, sign_extend = 4, 64
    elif option == 0b11:
        return None
    else:
        size = 8 if option else 4
    offset = signed(bits(word, 21, 15), 7) * size
    return LoadStore(
        access, size, moved, base, offset, elements=2, indexing=_PAIR_INDEXING[mode], sign_extend=sign_extend
    )


def _single(word: int) -> LoadStore | None:
    """LDR, STR and their sizes: bits 29:28 are 11. Bits 24, 21 and 11:10 pick the addressing mode."""
    shape = _single_shape(word)
    if shape is None:
        return None
    access, size, moved, sign_extend, prefetch = shape
    base = bits(word, 9, 5)
    if bit(word, 24):
        offset, index, indexing = bits(word, 21, 10) * size, None, Indexing.NONE
    elif not bit(word, 21):
        if bits(word, 11, 10) == 0b10:
            return None  # LDTR and STTR act as EL0 would
        offset, index = signed(bits(word, 20, 12), 9), None
        indexing = (Indexing.NONE, Indexing.POST, Indexing.NONE, Indexing.PRE)[bits(word, 11, 10)]
    elif bits(word, 11, 10) == 0b10 and bit(word, 14):
        offset, index, indexing = 0, bits(word, 20, 16), Indexing.NONE
    elif bits(word, 11, 10) == 0b00 and not bit(word, 26):
        return _atomic(word)
    else:
        return None
    return LoadStore(
        access,
        size,
        moved,
        base,
        offset,
        index=index,
        index_option=bits(word, 15, 13),
        index_shift=size.bit_length() - 1 if bit(word, 12) else 0,
        indexing=indexing,
        sign_extend=sign_extend,
        prefetch=prefetch,
    )


def _single_shape(word: int) -> tuple[Access, int, tuple[int, ...], int | None, bool] | None:
    """Access, size, registers, sign extension and whether it is a prefetch, by bits 31:30, 26 and 23:22."""
    size, option, target = 1 << bits(word, 31, 30), bits(word, 23, 22), bits(word, 4, 0)
    if bit(word, 26):
        if option & 0b10:
            if size != 1:
                return None
            size = 16
        return (Access.READ if option & 1 else Access.WRITE), size, (), None, False
    if option == 0b00:
        return Access.WRITE, size, (target,), None, False
    if option == 0b01:
        return Access.READ, size, (target,), None, False
    if size == 8:
        return None if option == 0b11 else (Access.READ, 8, (), None, True)
    if size == 4 and option == 0b11:
        return None
    return Access.READ, size, (target,), (64 if option == 0b10 else 32), False


def _atomic(word: int) -> LoadStore:
    """LDADD, SWP and the like, and LDAPR: bits 11:10 are 00 with bit 21 set."""
    size, target, base = 1 << bits(word, 31, 30), bits(word, 4, 0), bits(word, 9, 5)
    if bits(word, 15, 12) == 0b1100:  # LDAPR
        return LoadStore(Access.READ, size, (target,), base, ordered=True)
    return LoadStore(Access.WRITE, size, (), base, clobbers=(target,), ordered=True)


def syndrome_of(moved: LoadStore, word: int) -> int | None:
    """ESR_ELx.ISS[23:14] of a stage 2 fault of this load or store: SAS, SSE, SRT, SF, AR.

    ``None`` when ISV is 0: pairs, exclusives, atomics, SIMD and write-back (Arm ARM D24.2.42, "ISV").
    """
    acquires = moved.ordered and bits(word, 29, 24) == 0b001000 and bool(bit(word, 23)) and not bit(word, 21)
    if len(moved.registers) != 1 or moved.indexing is not Indexing.NONE or (moved.ordered and not acquires):
        return None
    wide = moved.size == 8 or moved.sign_extend == 64
    return (
        (moved.size.bit_length() - 1) << 22
        | (moved.sign_extend is not None) << 21
        | moved.registers[0] << 16
        | wide << 15
        | acquires << 14
    )
