"""What ``kexecdbg decode`` finds out, before it is text or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kexecdbg.arm64.registers import decode
from kexecdbg.arm64.registers.model import DecodedRegister
from kexecdbg.arm64.syndromes import Syndrome, decode_syndrome, read_along
from kexecdbg.arm64.syndromes.ec import ABORTS
from kexecdbg.checks.consistency import Consistency, consistency_of
from kexecdbg.checks.printed_walk import WalkJudgement, judge_walk
from kexecdbg.machine.pasted_text import PastedText
from kexecdbg.machine.state import CpuState


@dataclass(frozen=True)
class ReadSyndrome:
    """An ESR_ELx value in words.

    Attributes:
        name: the register.
        along: sentences on the registers that go with it (FAR, HPFAR, ELR).
    """

    name: str
    syndrome: Syndrome
    along: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Everything that the given values say.

    Attributes:
        registers: decoded, in the order given; registers without fields (X0, PC) too.
        consistency: one judgement for each translation regime that has control registers.
        code: where the kernel says it was, as symbols.
        remarks: how the input was read.
    """

    registers: tuple[DecodedRegister, ...]
    syndromes: tuple[ReadSyndrome, ...]
    consistency: tuple[Consistency, ...]
    walks: tuple[WalkJudgement, ...]
    code: Mapping[str, str]
    remarks: tuple[str, ...]

    @property
    def faults(self) -> bool:
        """Whether the registers make an access fault, or the text reports an abort with its table entries."""
        aborted = any(found.syndrome.ec in ABORTS for found in self.syndromes)
        stopped = any(walk.stop is not None for walk in self.walks)
        return stopped or bool(self.walks and aborted) or any(judged.faults for judged in self.consistency)


def report_on(pairs: Mapping[str, int], pasted: PastedText | None = None) -> Report:
    """Decode ``pairs`` and what was found in ``pasted``; a pair replaces a value of the text."""
    values = {**(pasted.values if pasted else {}), **pairs}
    consistency = consistency_of(values)
    assumed = {name: value for judged in consistency for name, value in judged.assumed.items()}
    context = CpuState(values, assumed)
    syndromes = tuple(
        ReadSyndrome(name, decode_syndrome(value), read_along(value, values, int(name[-1])))
        for name, value in values.items()
        if name.startswith("ESR_EL")
    )
    esr = syndromes[0].syndrome.value if syndromes else None
    unknown = tuple(
        f"{name} has a value, but no register has that name." for name in (pasted.unknown if pasted else ())
    )
    return Report(
        tuple(decode(name, value, context) for name, value in values.items()),
        syndromes,
        consistency,
        tuple(judge_walk(walk, esr, values) for walk in (pasted.walks if pasted else ())),
        pasted.code if pasted else {},
        (*(pasted.remarks if pasted else ()), *unknown),
    )
