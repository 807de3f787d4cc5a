"""What the commands answer, as values: the JSON documents with types, addresses as integers.

Every result keeps in ``text`` what the command prints for a person; it is the evidence when an expectation fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.finding import Finding, Repair, Severity
from kexecdbg.checks.prediction import ExceptionRecord, Prediction
from kexecdbg.checks.verdict import Judgement


@dataclass(frozen=True)
class Stop:
    """Where the machine stopped.

    Attributes:
        pc: address of the next instruction; ``None`` when the machine has ended.
        instruction: that instruction, ``msr sctlr_el2, x14``; empty when it cannot be read.
    """

    pc: int | None
    instruction: str = ""

    @property
    def ended(self) -> bool:
        """Whether the machine has ended: it powered itself off, or was reset."""
        return self.pc is None

    def __str__(self) -> str:
        return "the machine has ended" if self.pc is None else f"{self.pc:#x}: {self.instruction or '(unreadable)'}"


@dataclass(frozen=True)
class Verdict:
    """What kexec-check says of the write that switches the MMU on.

    Attributes:
        judgement: faults, sound, or unknown.
        site: address of the write.
        regime: translation regime that it switches on.
        el: exception level that it executes at.
        next_pc: address of the instruction after it.
        findings: what is wrong or worth knowing, the worst first.
        prediction: the exceptions that follow, and where that ends.
    """

    judgement: Judgement
    site: int
    regime: Regime
    el: int
    next_pc: int
    findings: tuple[Finding, ...]
    prediction: Prediction
    text: str = field(default="", repr=False, compare=False)

    @property
    def is_sound(self) -> bool:
        """Whether nothing fatal was found and the CPU will run on."""
        return self.judgement is Judgement.SOUND

    @property
    def causes(self) -> tuple[Finding, ...]:
        """Findings that are fatal and follow from no other."""
        return tuple(f for f in self.findings if f.severity is Severity.FATAL and not f.is_consequence)

    def finding(self, identifier: str) -> Finding | None:
        """The first finding with the id, ``M01``; ``None`` when there is none."""
        return next((found for found in self.findings if found.id == identifier), None)


@dataclass(frozen=True)
class ExecutedInstruction:
    """An instruction that was stepped, and the registers that it changed, with their new values."""

    pc: int
    text: str
    changes: Mapping[str, int]


@dataclass(frozen=True)
class Observation:
    """What the CPU did at the switch.

    Attributes:
        first: the first exception, ``None`` when there was none.
        then: the second one; ``None`` when there was none, or it was not looked for.
        agrees: whether it is what was predicted.
        steps: the write and what was executed after it.
    """

    first: ExceptionRecord | None
    then: ExceptionRecord | None
    agrees: bool
    steps: tuple[ExecutedInstruction, ...]


@dataclass(frozen=True)
class Switch:
    """A write that switches the MMU on: the steps that led to it, the verdict, and what happened.

    Attributes:
        set_up: instructions that were stepped on the way, from the first write of a translation register on.
        verdict: the verdict before it executed.
        observed: what the CPU did; ``None`` when it is still to be executed.
    """

    set_up: tuple[ExecutedInstruction, ...]
    verdict: Verdict
    observed: Observation | None = None
    text: str = field(default="", repr=False, compare=False)

    @property
    def site(self) -> int:
        """Address of the write."""
        return self.verdict.site


@dataclass(frozen=True)
class WalkLevel:
    """One descriptor on the way: its level, where it lies, its value, and its kind (table, block, page, ...)."""

    level: int
    address: int
    descriptor: int | None
    kind: str


@dataclass(frozen=True)
class Walk:
    """How one address translates; rights are those of the regime's own exception level, ``None`` where unknown.

    Attributes:
        va: the address; at stage 2 an intermediate physical address.
        regime: the translation regime, or ``stage 2``.
        levels: the descriptors, from the root down.
        pa: the output address; ``None`` when there is none.
        read, write, execute: what is allowed.
        because: why, by ``read``, ``write`` and ``execute``; empty at stage 2.
        memory_type: Normal or Device with its attributes; ``None`` without a translation.
        page_size: bytes that the last descriptor maps; ``None`` without a translation.
        fault: the fault that any access takes, as a phrase; ``None`` when the address is mapped.
    """

    va: int
    regime: str
    levels: tuple[WalkLevel, ...]
    pa: int | None
    read: bool | None
    write: bool | None
    execute: bool | None
    because: Mapping[str, str]
    memory_type: str | None
    page_size: int | None
    fault: str | None
    text: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class MappedRange:
    """Input addresses ``va`` up to ``end`` (exclusive) that map to ``pa`` on, all with the same attributes."""

    va: int
    end: int
    pa: int
    read: bool | None
    write: bool | None
    execute: bool | None
    memory_type: str | None


@dataclass(frozen=True)
class TableSummary:
    """A whole translation table.

    Attributes:
        regime: the translation regime, or ``stage 2``.
        root: physical address of its first table.
        ranges: what it maps, merged.
        entries: valid descriptors.
        problems: what is wrong with the tables themselves, one phrase each.
    """

    regime: str
    root: int | None
    ranges: tuple[MappedRange, ...]
    entries: int
    problems: tuple[str, ...]
    text: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class Relocation:
    """How a kexec relocation went.

    Attributes:
        outcome: ``arrived``, ``under_way``, ``blocked``, ``interrupted`` or ``wrong_turn``.
        is_sound: it arrived, every page as it should be and every boot register right.
        pages: pages of the list.
        verified: pages that were compared; ``None`` when it did not come to that.
        differing: pages that differ.
        unmet: rules of the boot protocol that are not met, one phrase each.
    """

    outcome: str
    is_sound: bool
    pages: int
    verified: int | None
    differing: int | None
    unmet: tuple[str, ...]
    text: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class Diagnosis:
    """Why the CPU is stuck, as kexec-why says.

    Attributes:
        is_stuck: ``None`` when it cannot be told.
        condition: its name, for instance ``vector_fault``.
        reason: why, as a sentence; empty when there is nothing to say.
        switch: address of the write that it comes from; ``None`` when none was found.
        verdict: the verdict on that write; ``None`` without one.
    """

    is_stuck: bool | None
    condition: str
    reason: str
    switch: int | None
    verdict: Verdict | None
    text: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class Fix:
    """The repairs that were written, and where the PC was set back to (``None``: it was left alone)."""

    repairs: tuple[Repair, ...]
    resume_at: int | None
    text: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class LoadedImage:
    """The image that kexec has loaded.

    Attributes:
        layout: what the argument was recognised as.
        address: where it lies.
        pages: pages that the list copies.
        defects: what is wrong with the list, one phrase each.
        findings: what is wrong with how it is mapped.
        is_sound: nothing is wrong.
    """

    layout: str
    address: int
    pages: int
    defects: tuple[str, ...]
    findings: tuple[Finding, ...]
    is_sound: bool
    text: str = field(default="", repr=False, compare=False)
