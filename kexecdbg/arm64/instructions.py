"""A64 instructions as far as an MMU switch needs them: text, branch targets, system register moves.

Text and branch targets come from capstone. MSR, MRS and SYS are decoded from the word itself (Arm ARM C6.2, "MSR
(register)", "MRS", "SYS"), so that a register capstone does not know is still recognised.
"""

from __future__ import annotations

import enum
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.register_names import by_encoding
from kexecdbg.errors import MemoryUnreadableError

INSTRUCTION_SIZE = 4
UNDECODED = ".inst"
"""How the text of an instruction begins that no decoder knows."""


class Flow(enum.Enum):
    """Where execution can go after an instruction."""

    NEXT = "next"
    BRANCH = "branch"
    CONDITIONAL = "conditional branch"
    CALL = "call"
    INDIRECT = "indirect branch"
    RETURN = "return"
    EXCEPTION = "exception"
    UNDEFINED = "undefined"


@dataclass(frozen=True)
class SystemMove:
    """An ``MSR`` or ``MRS`` of a system register.

    Attributes:
        register: the name in the instruction (``SCTLR_EL12`` is not resolved).
        general: the general register, ``X14``, or ``XZR``.
        is_write: ``MSR``.
    """

    register: str
    general: str
    is_write: bool


@dataclass(frozen=True)
class Instruction:
    """One decoded instruction.

    Attributes:
        address: where it was read from (the virtual address).
        word: the encoding.
        text: assembly text, ``msr sctlr_el2, x14``.
        flow: where execution goes next.
        target: of a direct branch, its target.
        system_move: set for MSR (register) and MRS.
    """

    address: int
    word: int
    text: str
    flow: Flow
    target: int | None = None
    system_move: SystemMove | None = None

    def successors(self) -> tuple[int, ...]:
        """Addresses that execution can reach directly from here; empty where only the CPU knows."""
        following = self.address + INSTRUCTION_SIZE
        if self.flow in (Flow.NEXT, Flow.EXCEPTION):
            return (following,)
        if self.target is not None:
            return (self.target,) if self.flow is Flow.BRANCH else (following, self.target)
        return (following,) if self.flow is Flow.CALL else ()


@lru_cache(maxsize=1)
def _disassembler() -> Any:
    # Imported late: capstone costs 30 ms, and most commands do not disassemble.
    import capstone

    disassembler = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    disassembler.detail = True
    return disassembler


@lru_cache(maxsize=16384)
def decode_instruction(word: int, address: int) -> Instruction:
    """The instruction ``word`` (32 bits) at virtual ``address``. Never raises: what no decoder knows is ``.inst``."""
    move = _system_move(word)
    decoded = next(iter(_disassembler().disasm(word.to_bytes(4, "little"), address, 1)), None)
    if decoded is None:
        return Instruction(address, word, f"{UNDECODED} {word:#010x}", _flow_of_unknown(word), None, move)
    text = f"{decoded.mnemonic} {decoded.op_str}".strip()
    flow, target = _flow(decoded)
    return Instruction(address, word, text, flow, target, move)


@lru_cache(maxsize=4096)
def written_registers(word: int, address: int) -> frozenset[str]:
    """The general registers and SP that ``word`` writes, as capstone has it; none when it does not know ``word``."""
    decoded = next(iter(_disassembler().disasm(word.to_bytes(4, "little"), address, 1)), None)
    if decoded is None:
        return frozenset()
    _, written = decoded.regs_access()
    names = {_GENERAL_ALIASES.get(name, name) for name in map(decoded.reg_name, written)}
    return frozenset(name.upper().replace("W", "X") for name in names if _GENERAL_NAME.fullmatch(name))


_GENERAL_ALIASES = {"fp": "x29", "lr": "x30", "wsp": "sp"}
_GENERAL_NAME = re.compile(r"[wx]\d+|sp")


def _flow_of_unknown(word: int) -> Flow:
    # UDF (Arm ARM C6.2, permanently undefined) is all zeros above the immediate; other words may be newer instructions.
    return Flow.UNDEFINED if word >> 16 == 0 else Flow.NEXT


def _flow(decoded: Any) -> tuple[Flow, int | None]:
    import capstone
    from capstone import arm64_const

    if decoded.id in (arm64_const.ARM64_INS_SVC, arm64_const.ARM64_INS_HVC, arm64_const.ARM64_INS_SMC):
        return Flow.EXCEPTION, None
    if decoded.id == arm64_const.ARM64_INS_UDF:
        return Flow.UNDEFINED, None
    if decoded.group(capstone.CS_GRP_RET) or decoded.mnemonic.startswith(("ret", "eret")):
        return Flow.RETURN, None
    if decoded.mnemonic.startswith("blr"):
        return Flow.CALL, None
    if decoded.mnemonic.startswith("br") and decoded.mnemonic != "brk":
        return Flow.INDIRECT, None
    if not decoded.group(capstone.CS_GRP_JUMP) and not decoded.group(capstone.CS_GRP_CALL):
        return Flow.NEXT, None
    target = next((op.imm for op in reversed(decoded.operands) if op.type == arm64_const.ARM64_OP_IMM), None)
    if decoded.mnemonic == "b":
        return Flow.BRANCH, target
    if decoded.mnemonic == "bl":
        return Flow.CALL, target
    return Flow.CONDITIONAL, target


def _system_move(word: int) -> SystemMove | None:
    """MSR (register) or MRS: bits 31:20 are 0xD51 or 0xD53, op0 is 2 + bit 19."""
    if bits(word, 31, 22) != 0b1101010100 or not bit(word, 20):
        return None
    register = by_encoding(
        2 + bit(word, 19), bits(word, 18, 16), bits(word, 15, 12), bits(word, 11, 8), bits(word, 7, 5)
    )
    number = bits(word, 4, 0)
    return SystemMove(register, "XZR" if number == 31 else f"X{number}", not bit(word, 21))


_REDIRECTED_AT_EL2 = frozenset(
    f"{name}_EL1"
    for name in (
        "SCTLR", "CPACR", "TTBR0", "TTBR1", "TCR", "TCR2", "SCTLR2", "AFSR0", "AFSR1", "ESR", "FAR", "MAIR", "MAIR2",
        "AMAIR", "VBAR", "CONTEXTIDR", "CNTKCTL", "SPSR", "ELR", "PIR", "PIRE0", "POR", "TFSR", "ZCR", "SMCR",
    )
)  # fmt: skip
"""EL1 names that reach the EL2 register from EL2 with E2H=1 (Arm ARM D8.13.4, "VHE register redirection")."""

_E2H_RENAMED = {"CPACR_EL2": "CPTR_EL2", "CNTKCTL_EL2": "CNTHCTL_EL2"}


def accessed_register(name: str, el: int, e2h: bool) -> str:
    """The register that an MSR or MRS of ``name`` reaches at exception level ``el`` with the effective E2H ``e2h``."""
    if name.endswith(("_EL12", "_EL02")):
        return name[:-1]
    if el == 2 and e2h and name in _REDIRECTED_AT_EL2:
        redirected = name[:-1] + "2"
        return _E2H_RENAMED.get(redirected, redirected)
    return name


@dataclass(frozen=True)
class ReachableCode:
    """Instructions that can be reached from one address through direct branches and calls.

    Attributes:
        instructions: by address, ascending.
        open_ends: addresses of indirect branches, returns and code that could not be read: the CPU may go on elsewhere.
        truncated: the limit was reached; there is more.
    """

    instructions: dict[int, Instruction]
    open_ends: tuple[int, ...]
    truncated: bool


def reachable_code(fetch: Callable[[int], int], starts: Iterable[int], limit: int = 4096) -> ReachableCode:
    """Follow direct control flow from ``starts``, breadth first, for at most ``limit`` instructions.

    ``fetch`` gives the instruction word at a virtual address and raises MemoryUnreadableError where there is none.
    """
    found: dict[int, Instruction] = {}
    open_ends: list[int] = []
    queue = deque(starts)
    while queue and len(found) < limit:
        address = queue.popleft()
        if address in found:
            continue
        try:
            instruction = decode_instruction(fetch(address), address)
        except MemoryUnreadableError:
            open_ends.append(address)
            continue
        found[address] = instruction
        successors = instruction.successors()
        if not successors or (instruction.flow is Flow.CALL and instruction.target is None):
            open_ends.append(address)
        queue.extend(successors)
    return ReachableCode(dict(sorted(found.items())), tuple(open_ends), bool(queue) and len(found) >= limit)
