"""Evaluates instructions one by one on register values that may be unknown.

What is known is exact: an instruction is carried out as the Arm ARM has it, or it makes what it writes unknown, or the
evaluation stops there. Interrupts, debug exceptions, other CPUs and traps to a higher exception level other than those
of HCR_EL2.TVM and TRVM are not considered.
"""

from __future__ import annotations

from typing import Literal

from kexecdbg.arm64.bits import bit, bits, mask, signed
from kexecdbg.arm64.evaluation.address_space import PAGE_SIZE, AddressSpace, Location
from kexecdbg.arm64.evaluation.branches import Branch, branch
from kexecdbg.arm64.evaluation.data_processing import data_processing, is_processing
from kexecdbg.arm64.evaluation.effects import (
    Effect,
    ExceptionReturn,
    Maintenance,
    MemoryAccess,
    Step,
    Stop,
    StopReason,
    SystemRead,
    SystemWrite,
)
from kexecdbg.arm64.evaluation.loads_and_stores import LoadStore, is_memory_instruction, load_store
from kexecdbg.arm64.evaluation.registers import ZERO_OR_SP, EvaluatedRegisters
from kexecdbg.arm64.evaluation.system_operations import (
    ZEROES_BLOCK,
    Hint,
    access_of,
    barrier,
    hint,
    pstate_write,
    system_instruction,
)
from kexecdbg.arm64.evaluation.system_registers import (
    changes_translation,
    depends_on,
    is_trapped,
    is_volatile,
)
from kexecdbg.arm64.faults import Access, Fault
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import (
    INSTRUCTION_SIZE,
    UNDECODED,
    Flow,
    Instruction,
    SystemMove,
    accessed_register,
    decode_instruction,
)
from kexecdbg.arm64.pstate import PSTATE_VIEWS, el_of
from kexecdbg.arm64.regimes import SCTLR_EE, current_el, regime_of
from kexecdbg.errors import MemoryUnreadableError, RegisterUnknownError

_SCTLR_A, _SCTLR_SA, _SCTLR_ENIA = 1, 3, 31
_STACK_ALIGNMENT = 16
_ADDRESS_MASK = mask(64)
_EXCEPTION_GENERATION = 0xD4
"""Bits 31:24 of SVC, HVC, SMC, BRK, HLT and DCPS (Arm ARM C4.1.66)."""

_ByteOrder = Literal["little", "big"]


class Evaluator:
    """One CPU's evaluation; see the module.

    Attributes:
        registers: as they are before the instruction at their PC.
        space: memory.
    """

    def __init__(self, registers: EvaluatedRegisters, space: AddressSpace) -> None:
        self.registers = registers
        self.space = space
        self._effects: list[Effect] = []

    def peek(self) -> Instruction | Stop:
        """The instruction at the PC, or why there is none."""
        pc = self.registers.pc
        location = self.space.locate(self.registers, pc, Access.FETCH)
        if location.fault is not None:
            return Stop(StopReason.FAULT, pc, fault=location.fault, access=Access.FETCH, target=pc)
        if location.pa is None:
            return Stop(StopReason.UNKNOWN_TRANSLATION, pc)
        try:
            return decode_instruction(self.space.fetch(location.pa), pc)
        except MemoryUnreadableError:
            return Stop(StopReason.UNREADABLE, pc)

    def step(self) -> Step | Stop:
        """Carry the instruction at the PC out, or say why not; then no register has changed."""
        instruction = self.peek()
        return instruction if isinstance(instruction, Stop) else self.execute(instruction)

    def execute(self, instruction: Instruction) -> Step | Stop:
        """Carry ``instruction``, the one at the PC, out."""
        self._effects = []
        following = self.registers.pc + INSTRUCTION_SIZE
        stop = self._carry_out(instruction)
        if stop is not None:
            return stop
        if self.registers.pc == instruction.address:
            self.registers.pc = following & _ADDRESS_MASK
        return Step(instruction, tuple(self._effects))

    def _carry_out(self, instruction: Instruction) -> Stop | None:
        word = instruction.word
        simple = data_processing(word)
        if simple is not None:
            simple(self.registers, instruction.address)
            return None
        if is_memory_instruction(word):
            access = load_store(word)
            return self._unknown(instruction) if access is None else self._load_store(instruction, access)
        jump = branch(word, instruction.address)
        if jump is not None:
            return self._branch(instruction, jump)
        if instruction.system_move is not None:
            return self._system_move(instruction, instruction.system_move)
        return self._other(instruction)

    def _stop(self, reason: StopReason, instruction: Instruction) -> Stop:
        return Stop(reason, instruction.address, instruction)

    def _unknown(self, instruction: Instruction) -> Stop:
        return self._stop(StopReason.UNKNOWN_INSTRUCTION, instruction)

    # Everything that is not data processing, a load, a store, a branch or a move of a system register

    def _other(self, instruction: Instruction) -> Stop | None:
        word = instruction.word
        kind = hint(word)
        if kind is not None:
            return self._hint(instruction, kind)
        ordering = barrier(word)
        if ordering is not None:
            self._effects.append(ordering)
            return None
        if system_instruction(word) is not None:
            return self._system_instruction(instruction)
        field = pstate_write(word)
        if field is not None:
            self._write_pstate(field.field, field.immediate)
            return None
        if instruction.flow is Flow.UNDEFINED:
            return self._stop(StopReason.UNDEFINED, instruction)
        if instruction.flow in (Flow.EXCEPTION, Flow.RETURN) or bits(word, 31, 24) == _EXCEPTION_GENERATION:
            return self._stop(StopReason.EXCEPTION, instruction)
        if not is_processing(word) or instruction.text.startswith(UNDECODED):
            return self._unknown(instruction)
        # SIMD, and what data_processing() leaves out: at most Rd and the flags among what is followed here.
        self.registers.write_or_sp(bits(word, 4, 0), None)
        self.registers.flags = None
        return None

    def _hint(self, instruction: Instruction, kind: Hint) -> Stop | None:
        if kind is Hint.WAITS:
            return self._stop(StopReason.WAITS, instruction)
        if kind is not Hint.NOTHING and self._pointer_authentication_on():
            self.registers.forget("X30" if kind is Hint.SIGNS_LINK else "X17")
        return None

    def _pointer_authentication_on(self) -> bool:
        sctlr = self._sctlr()
        return sctlr is None or bits(sctlr, _SCTLR_ENIA, _SCTLR_ENIA - 1) != 0

    def _write_pstate(self, field: str, immediate: int) -> None:
        if field in ("DAIFSet", "DAIFClr"):
            old = self.registers.read_system("DAIF")
            change = immediate << 6
            value = None if old is None else old | change if field == "DAIFSet" else old & ~change
            self.registers.write_system("DAIF", value)
        elif field == "SPSel":
            self.registers.write_system("SPSel", immediate & 1)
        elif field == "PAN":
            value = PSTATE_VIEWS["PAN"] if immediate & 1 else 0
            self._effects.append(SystemWrite("PAN", value))
            self.registers.write_system("PAN", value)
            self.space.translation_changed()

    # System registers and instructions

    def _sctlr(self) -> int | None:
        try:
            return self.registers.get(regime_of(current_el(self.registers), self.registers).facts.sctlr)
        except RegisterUnknownError:
            return None

    def _system_move(self, instruction: Instruction, move: SystemMove) -> Stop | None:
        try:
            el = current_el(self.registers)
            e2h = effective_e2h(self.registers)
        except RegisterUnknownError:
            return self._stop(StopReason.TRAPPED, instruction)
        if el == 2 and e2h is None and accessed_register(move.register, 2, True) != move.register:
            return self._stop(StopReason.TRAPPED, instruction)
        if is_trapped(move, el, bool(e2h), self.registers):
            return self._stop(StopReason.TRAPPED, instruction)
        name = accessed_register(move.register, el, bool(e2h))
        number = ZERO_OR_SP if move.general == "XZR" else int(move.general[1:])
        if not move.is_write:
            self._effects.append(SystemRead(name))
            self.registers.write(number, None if is_volatile(name) else self.registers.read_system(name))
            return None
        value = self.registers.read(number)
        self._effects.append(SystemWrite(name, value))
        self.registers.write_system(name, value)
        for dependent in depends_on(name):
            self.registers.forget(dependent)
        if changes_translation(name):
            self.space.translation_changed()
        return None

    def _system_instruction(self, instruction: Instruction) -> Stop | None:
        decoded = system_instruction(instruction.word)
        assert decoded is not None
        operand = None if decoded.register == ZERO_OR_SP else self.registers.read(decoded.register)
        if decoded.is_read:
            self.registers.write(decoded.register, None)
        if decoded.operation.startswith("AT "):
            self.registers.forget("PAR_EL1")
        pa, access = None, access_of(decoded.operation)
        if access is not None and operand is not None:
            location = self.space.locate(self.registers, operand, access)
            if location.fault is not None:
                return Stop(StopReason.FAULT, instruction.address, instruction, location.fault, access, operand)
            pa = location.pa
        if decoded.operation in ZEROES_BLOCK:
            self._zero_block(decoded.operation, pa)
        self._effects.append(Maintenance(decoded.operation, operand, pa, access))
        return None

    def _zero_block(self, operation: str, pa: int | None) -> None:
        dczid = self.registers.get("DCZID_EL0")
        if pa is None or dczid is None or operation != "DC ZVA" or bit(dczid, 4):
            self.space.store(None, 0, None)
            return
        size = 4 << bits(dczid, 3, 0)
        self.space.store(pa & ~(size - 1), size, bytes(size))

    # Branches

    def _branch(self, instruction: Instruction, jump: Branch) -> Stop | None:
        taken = jump.taken(self.registers)
        if jump.returns_from_exception:
            return self._exception_return(instruction)
        target = jump.target_of(self.registers)
        if taken is None:
            return Stop(StopReason.UNDECIDED, instruction.address, instruction, target=target)
        if not taken:
            return None
        if target is None or (jump.authenticates and self._pointer_authentication_on()):
            return self._stop(StopReason.UNKNOWN_TARGET, instruction)
        if target == instruction.address:
            return self._stop(StopReason.WAITS, instruction)
        if jump.links:
            self.registers.write(30, instruction.address + INSTRUCTION_SIZE)
        self.registers.pc = target
        return None

    def _exception_return(self, instruction: Instruction) -> Stop | None:
        try:
            el = current_el(self.registers)
        except RegisterUnknownError:
            return self._stop(StopReason.EXCEPTION, instruction)
        pstate, target = self.registers.get(f"SPSR_EL{el}"), self.registers.get(f"ELR_EL{el}")
        if pstate is None or target is None or bit(pstate, 4) or el_of(pstate) > el:
            return self._stop(StopReason.EXCEPTION, instruction)
        self.registers.return_to(pstate, target)
        self._effects.append(ExceptionReturn(el_of(pstate)))
        self.space.translation_changed()
        return None

    # Loads and stores

    def _load_store(self, instruction: Instruction, op: LoadStore) -> Stop | None:
        if op.prefetch:
            return None
        address = op.address(self.registers, instruction.address)
        if address is None:
            self._move_unknown(op)
            return None
        stop = self._alignment(instruction, op, address)
        if stop is not None:
            return stop
        parts = _pages_touched(address, op.total)
        locations = [self.space.locate(self.registers, va, op.access) for va in parts]
        made = MemoryAccess(op.access, address, op.total, op.base_name, locations[0].pa, op.ordered)
        for va, location in zip(parts, locations, strict=True):
            if location.fault is not None:
                return _data_stop(StopReason.FAULT, instruction, made, va, location.fault)
            if location.is_device and address % op.size:
                return _data_stop(StopReason.MISALIGNED, instruction, made, address)
            if location.pa is None:
                return self._stop(StopReason.UNKNOWN_TRANSLATION, instruction)
        self._effects.append(made)
        self._move(op, address, locations)
        return None

    def _alignment(self, instruction: Instruction, op: LoadStore, address: int) -> Stop | None:
        sctlr = self._sctlr()
        checks_stack = op.base == ZERO_OR_SP and sctlr is not None and bit(sctlr, _SCTLR_SA)
        if checks_stack and self.registers.sp is not None and self.registers.sp % _STACK_ALIGNMENT:
            return self._stop(StopReason.STACK_MISALIGNED, instruction)
        unit = op.total if op.ordered else op.size
        if address % unit == 0 or not (op.ordered or (sctlr is not None and bit(sctlr, _SCTLR_A))):
            return None
        made = MemoryAccess(op.access, address, op.total, op.base_name, ordered=op.ordered)
        return _data_stop(StopReason.MISALIGNED, instruction, made, address)

    def _move_unknown(self, op: LoadStore) -> None:
        """A load or store whose address cannot be told."""
        self._effects.append(MemoryAccess(op.access, None, op.total, op.base_name, ordered=op.ordered))
        if op.access is Access.WRITE:
            self.space.store(None, 0, None)
        else:
            for number in op.registers:
                self.registers.write(number, None)
        for number in op.clobbers:
            self.registers.write(number, None)
        op.move_base(self.registers)

    def _move(self, op: LoadStore, address: int, locations: list[Location]) -> None:
        # The base moves before a loaded register is written: with both the same the result is unpredictable anyway.
        sources = [self.registers.read(number) for number in op.registers]
        op.move_base(self.registers)
        pa = locations[0].pa
        assert pa is not None
        if op.access is Access.READ:
            self._load(op, self._read(pa, op.total, locations, literal=op.base is None))
        else:
            data = b"".join(self._element(value, op.size) for value in sources if value is not None)
            whole = len(data) == op.total
            if len(locations) == 1:
                self.space.store(pa, op.total, data if whole else None)
            else:
                first = PAGE_SIZE - pa % PAGE_SIZE
                self.space.store(pa, first, data[:first] if whole else None)
                self.space.store(locations[1].pa, op.total - first, data[first:] if whole else None)
        for number in op.clobbers:
            self.registers.write(number, None)

    def _read(self, pa: int, size: int, locations: list[Location], literal: bool) -> bytes | None:
        try:
            if literal and len(locations) == 1:
                return b"".join(self.space.fetch(pa + n).to_bytes(4, "little") for n in range(0, size, 4))
            if len(locations) == 1:
                return self.space.read(pa, size)
            first, second = PAGE_SIZE - pa % PAGE_SIZE, locations[1].pa
            return None if second is None else self.space.read(pa, first) + self.space.read(second, size - first)
        except MemoryUnreadableError:
            return None

    def _load(self, op: LoadStore, data: bytes | None) -> None:
        for position, number in enumerate(op.registers):
            value = None
            if data is not None:
                order = self._byte_order()
                if order is not None:
                    value = int.from_bytes(data[position * op.size : (position + 1) * op.size], order)
                    if op.sign_extend is not None:
                        value = signed(value, 8 * op.size) & mask(op.sign_extend)
            self.registers.write(number, value)

    def _element(self, value: int, size: int) -> bytes:
        order = self._byte_order()
        return b"" if order is None else (value & mask(8 * size)).to_bytes(size, order)

    def _byte_order(self) -> _ByteOrder | None:
        sctlr = self._sctlr()
        return None if sctlr is None else "big" if bit(sctlr, SCTLR_EE) else "little"


def _pages_touched(address: int, size: int) -> tuple[int, ...]:
    """The first address in each page that ``size`` bytes from ``address`` touch: one or two."""
    last = (address + size - 1) & _ADDRESS_MASK & ~(PAGE_SIZE - 1)
    return (address,) if address & ~(PAGE_SIZE - 1) == last else (address, last)


def _data_stop(
    reason: StopReason, instruction: Instruction, made: MemoryAccess, va: int, fault: Fault | None = None
) -> Stop:
    return Stop(reason, instruction.address, instruction, fault, made.access, va, made)
