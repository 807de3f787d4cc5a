"""A question about one address, the answer, and the record in which the guest program takes one and gives the other.

The record's layout is that of ``qemu-scripts/guest/oracle.s``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.regimes import Regime
from kexecdbg.errors import MemoryUnreadableError

RAM_START, RAM_END = 0x4000_0000, 0x2_4000_0000
PROGRAM = 0x4020_0000
EL1_VECTORS, EL2_VECTORS = 0x4030_0000, 0x4031_0000
EL3_TABLE_LITTLE, EL3_TABLE_BIG = 0x4040_0000, 0x4040_1000
MAILBOX, RECORDS = 0x4050_0000, 0x4060_0000
RESERVED_END = 0x4100_0000
"""Below it is what belongs to QEMU (the device tree) and to the guest program; no case has anything there."""

HOLE = range(0x3_0000_0000, 0x4_0000_0000)
"""Addresses where nothing answers: a table there is an External abort."""

LANDING = 0x5A5A
"""Immediate of the SMC, or SVC at EL0, that a fetch probe finds when it gets where it should."""
SMC_LANDING = 0xD400_0003 | LANDING << 5
SVC_LANDING = 0xD400_0001 | LANDING << 5


@dataclass(frozen=True)
class OperationFacts:
    """What an operation asks.

    Attributes:
        code: its number in the record.
        access: what the translation is for.
        el: the exception level whose rights count.
        both_stages: an AT that also translates by stage 2; the fetches do, too.
        pan: an AT that heeds PSTATE.PAN.
        instruction: an AT, not a fetch.
    """

    code: int
    access: Access
    el: int
    both_stages: bool = False
    pan: bool = False
    instruction: bool = True


class Operation(Enum):
    """What the guest is asked to do with the address; the values are the instructions' names."""

    S1E1R = "AT S1E1R"
    S1E1W = "AT S1E1W"
    S1E0R = "AT S1E0R"
    S1E0W = "AT S1E0W"
    S1E1RP = "AT S1E1RP"
    S1E1WP = "AT S1E1WP"
    S1E2R = "AT S1E2R"
    S1E2W = "AT S1E2W"
    S12E1R = "AT S12E1R"
    S12E1W = "AT S12E1W"
    S12E0R = "AT S12E0R"
    S12E0W = "AT S12E0W"
    S1E3R = "AT S1E3R"
    S1E3W = "AT S1E3W"
    FETCH_EL0 = "fetch at EL0"
    FETCH_EL1 = "fetch at EL1"
    FETCH_EL2 = "fetch at EL2"
    FETCH_EL3 = "fetch at EL3"

    @property
    def facts(self) -> OperationFacts:
        """What it asks."""
        return _FACTS[self]

    @property
    def is_fetch(self) -> bool:
        """Whether it really executes at the address."""
        return not self.facts.instruction


_R, _W, _X = Access.READ, Access.WRITE, Access.FETCH
_FACTS = {
    Operation.S1E1R: OperationFacts(0, _R, 1),
    Operation.S1E1W: OperationFacts(1, _W, 1),
    Operation.S1E0R: OperationFacts(2, _R, 0),
    Operation.S1E0W: OperationFacts(3, _W, 0),
    Operation.S1E1RP: OperationFacts(4, _R, 1, pan=True),
    Operation.S1E1WP: OperationFacts(5, _W, 1, pan=True),
    Operation.S1E2R: OperationFacts(6, _R, 2),
    Operation.S1E2W: OperationFacts(7, _W, 2),
    Operation.S12E1R: OperationFacts(8, _R, 1, both_stages=True),
    Operation.S12E1W: OperationFacts(9, _W, 1, both_stages=True),
    Operation.S12E0R: OperationFacts(10, _R, 0, both_stages=True),
    Operation.S12E0W: OperationFacts(11, _W, 0, both_stages=True),
    Operation.FETCH_EL0: OperationFacts(14, _X, 0, both_stages=True, instruction=False),
    Operation.FETCH_EL1: OperationFacts(14, _X, 1, both_stages=True, instruction=False),
    Operation.FETCH_EL2: OperationFacts(14, _X, 2, instruction=False),
    Operation.S1E3R: OperationFacts(15, _R, 3),
    Operation.S1E3W: OperationFacts(16, _W, 3),
    Operation.FETCH_EL3: OperationFacts(17, _X, 3, instruction=False),
}

REGISTERS = (
    "HCR_EL2", "SCTLR_EL1", "TCR_EL1", "TTBR0_EL1", "TTBR1_EL1", "MAIR_EL1", "VBAR_EL1",
    "SCTLR_EL2", "TCR_EL2", "TTBR0_EL2", "TTBR1_EL2", "MAIR_EL2", "VBAR_EL2", "VTCR_EL2", "VTTBR_EL2",
    "SCTLR_EL3", "TCR_EL3", "TTBR0_EL3", "MAIR_EL3",
)  # fmt: skip
"""The registers that a case gives, in the order of the record."""

SCR_EL3 = 0x535
"""What the guest program puts there: Non-secure, AArch64, FIQ to EL3."""


@dataclass(frozen=True)
class Case:
    """One question.

    Attributes:
        cpu: QEMU's CPU model.
        regime: the stage 1 regime that the operation translates in.
        operation: what is asked.
        va: about which address.
        pan: PSTATE.PAN, for the operations that heed it.
        registers: the values of :data:`REGISTERS`; one that is missing is 0.
        memory: 64-bit words, as a little-endian read gives them, by physical address: tables and instructions.
        seed: where it came from, for the report.
    """

    cpu: str
    regime: Regime
    operation: Operation
    va: int
    registers: Mapping[str, int]
    memory: Mapping[int, int]
    pan: bool = False
    seed: str = ""

    def document(self) -> dict[str, Any]:
        """The case as JSON has it."""
        return {
            "seed": self.seed,
            "cpu": self.cpu,
            "regime": self.regime.value,
            "operation": self.operation.value,
            "va": f"{self.va:#x}",
            "pan": self.pan,
            "registers": {name: f"{value:#x}" for name, value in self.registers.items() if value},
            "memory": {f"{address:#x}": f"{word:#x}" for address, word in sorted(self.memory.items())},
        }


class NotAskableError(Exception):
    """A translation would touch a device or the guest program itself: no question to put to a live machine."""


class CaseMemory:
    """The guest's RAM as a case sees it: its words, zeros elsewhere, and a hole where nothing answers.

    Attributes:
        reads: addresses of the descriptors that were read.
    """

    def __init__(self, words: Mapping[int, int]) -> None:
        self._words = words
        self.reads: list[int] = []

    def read(self, address: int, size: int) -> bytes:
        """Bytes of RAM; MemoryUnreadableError in the hole, NotAskableError for what must be left alone."""
        if RESERVED_END <= address < RAM_END - size:
            if size == 8:
                self.reads.append(address)
                return self._words.get(address, 0).to_bytes(8, "little")
            words = (self._words.get(place, 0) for place in range(address, address + size, 8))
            return b"".join(word.to_bytes(8, "little") for word in words)
        if address in HOLE:
            raise MemoryUnreadableError(address, size, "nothing answers there")
        raise NotAskableError(f"{address:#x}")


class Status(IntEnum):
    """How an operation ended, in the guest's words."""

    NOT_DONE = 0
    PAR = 1
    FROM_LOWER = 2
    NEVER_ENDED = 3
    FROM_EL3 = 4
    UNEXPECTED = 5


@dataclass(frozen=True)
class Answer:
    """What the guest wrote down; for an AT ``par`` counts, else the syndromes.

    The ESRs of EL1 and EL2 are :data:`UNTOUCHED` when no exception went there.
    """

    status: Status
    par: int
    esr_el3: int
    elr_el3: int
    far_el3: int
    esr_el1: int
    far_el1: int
    elr_el1: int
    esr_el2: int
    far_el2: int
    elr_el2: int
    hpfar_el2: int


UNTOUCHED = 0xFFFF_FFFF_FFFF_FFFF

_QUESTION = struct.Struct("<4Q19QQ")
_ANSWER = struct.Struct("<12Q")
ANSWER_OFFSET = _QUESTION.size
RECORD_SIZE = 320
_SPSR_MASKED = 0x3C0
_SPSR_MODE = (0b0000, 0b0101, 0b1001, 0b1101)
_SCTLR_EE = 25


def pack_question(case: Case) -> bytes:
    """The first part of the record."""
    facts = case.operation.facts
    registers = [case.registers.get(name, 0) for name in REGISTERS]
    big_endian = case.registers.get("SCTLR_EL3", 0) >> _SCTLR_EE & 1
    return _QUESTION.pack(
        facts.code,
        case.va,
        int(case.pan and facts.pan),
        _SPSR_MASKED | _SPSR_MODE[facts.el],
        *registers,
        EL3_TABLE_BIG if big_endian else EL3_TABLE_LITTLE,
    )


def unpack_answer(data: bytes) -> Answer:
    """The answer in the second part of a record; ``data`` starts there."""
    status, *values = _ANSWER.unpack(data[: _ANSWER.size])
    answer = Answer(Status(status), *values)
    return answer
