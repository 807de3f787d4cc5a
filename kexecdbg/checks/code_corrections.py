"""Where the code has to be corrected, for repairs that a debugger cannot make.

QEMU's gdbstub drops writes to system registers. The ``msr`` that wrote the register, and the instructions that made
its value, are on the way to the switch.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from kexecdbg.arm64.evaluation import MemoryAccess, Step, SystemWrite
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import Instruction, written_registers
from kexecdbg.checks.finding import RegisterRepair
from kexecdbg.checks.situation import Situation

_KEEPS_BITS = frozenset({"movk", "bfi", "bfxil", "bfc"})
"""Instructions that change part of a register and name it only as the destination (Arm ARM C6.2)."""


class Position(enum.Enum):
    """Where the CPU is."""

    BEFORE_WRITE = "before the msr that writes the register"
    AT_SWITCH = "at the switch, the register written"
    BEYOND = "beyond the switch"


@dataclass(frozen=True)
class Literal:
    """Memory that a value is loaded from: virtual address, and bytes."""

    address: int
    size: int


@dataclass(frozen=True)
class CodeCorrection:
    """A register whose value the code has to make differently.

    Attributes:
        repair: the register, its value and the right one.
        write: the ``msr`` that writes it; ``None`` when no way to the switch is known to have one.
        operand: the general register that ``write`` takes the value from.
        made_by: the instructions that make the value in ``operand``, in the order they are executed.
        literal: what the first of them loads; ``None`` when it is not a load whose address is known.
        site: address of the switch.
        operand_at_switch: value of ``operand`` there.
        position: where the CPU is.
    """

    repair: RegisterRepair
    write: Instruction | None
    operand: str | None
    made_by: tuple[Instruction, ...]
    literal: Literal | None
    site: int
    operand_at_switch: int | None
    position: Position

    @property
    def summary(self) -> str:
        """One clause for those who cannot show more."""
        register, new = self.repair.register, self.repair.new
        return f"{register} cannot be written from the debugger; correct the code: {register} = {new:#x}"


def code_correction(situation: Situation, repair: RegisterRepair, pc: int | None, beyond: bool) -> CodeCorrection:
    """Where ``repair`` has to be made in the code; the CPU is at ``pc``, ``beyond`` the switch or not."""
    way, position = _way_with_write(situation, repair.register)
    if way is None:
        at = Position.BEYOND if beyond else Position.AT_SWITCH
        return CodeCorrection(repair, None, None, (), None, situation.site, None, at)
    write = way[position].instruction
    operand = write.system_move.general if write.system_move else None
    makers = _made_by(way[:position], operand) if operand is not None else ()
    literal = _loaded_from(makers[0]) if makers else None
    if beyond:
        at = Position.BEYOND
    elif pc != situation.site and any(step.instruction.address == write.address for step in situation.approach):
        at = Position.BEFORE_WRITE
    else:
        at = Position.AT_SWITCH
    return CodeCorrection(
        repair,
        write,
        operand,
        tuple(step.instruction for step in makers),
        literal,
        situation.site,
        situation.before.get(operand) if operand is not None else None,
        at,
    )


def _way_with_write(situation: Situation, register: str) -> tuple[Sequence[Step] | None, int]:
    """The first way to the switch on which ``register`` is written, and the place of its last ``msr`` there."""
    for way in situation.lead_up:
        for number in range(len(way) - 1, -1, -1):
            move = way[number].instruction.system_move
            if move is None or not move.is_write:
                continue
            if any(isinstance(effect, SystemWrite) and effect.register == register for effect in way[number].effects):
                return way, number
    return None, 0


def _made_by(way: Sequence[Step], operand: str) -> tuple[Step, ...]:
    """The steps that make the value in ``operand``: back to the one that does not build on what it held before."""
    found: list[Step] = []
    for step in reversed(way):
        instruction = step.instruction
        if operand not in written_registers(instruction.word, instruction.address):
            continue
        found.append(step)
        mnemonic, _, operands = instruction.text.partition(" ")
        sources = {part.strip(" []!").upper().replace("W", "X") for part in operands.split(",")[1:]}
        if mnemonic not in _KEEPS_BITS and operand not in sources:
            break
    return tuple(reversed(found))


def _loaded_from(step: Step) -> Literal | None:
    loads = (effect for effect in step.effects if isinstance(effect, MemoryAccess) and effect.access is Access.READ)
    load = next(loads, None)
    return None if load is None or load.address is None else Literal(load.address, load.size)
