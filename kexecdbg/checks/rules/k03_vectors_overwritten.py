"""K03: the vectors that the relocation relies on are overwritten, or are a copy that does not get along on its own."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Instruction, reachable_code
from kexecdbg.arm64.vectors import VECTOR_SIZE, VECTORS_SIZE, VectorSource
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.references import Reference, leaving
from kexecdbg.checks.relocation import Relocation, Vectors
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.kexec.defects import AreaKind, Defect

_LONGEST_HANDLER = 256


def _check(situation: Situation) -> Iterator[Finding]:
    relocation = situation.relocation
    if relocation is None:
        return
    written = {
        defect.area.start: defect
        for defect in relocation.audit.overwritten(AreaKind.VECTORS)
        if defect.area is not None
    }
    for vectors in relocation.vectors:
        call = _call(relocation, vectors)
        if vectors.el != relocation.regime.facts.el and call is None:
            continue
        if vectors.address in written:
            yield _overwritten(vectors, written[vectors.address], call)
        elif call is not None:
            yield from _handler_overwritten(relocation, vectors, call)
        if vectors.copied:
            yield from _leaves_the_copy(relocation, vectors, call)


def _call(relocation: Relocation, vectors: Vectors) -> Instruction | None:
    """The ``hvc`` after the loop that is taken through ``vectors``."""
    if relocation.loop is None or vectors.el != 2 or relocation.regime.facts.el != 1:
        return None
    return next((each for each in relocation.loop.exception_calls if each.text.startswith("hvc")), None)


def _overwritten(vectors: Vectors, defect: Defect, call: Instruction | None) -> Finding:
    first = defect.first
    what = (
        f"{call.text} at {call.address:#x} goes there when the copy is done"
        if call is not None
        else "any exception after that executes what the new image has there"
    )
    return Finding(
        "K03",
        Severity.HAZARD if call is None else Severity.FATAL,
        f"Entry {first.writer} of the page list copies {first.writer_source or 0:#x} over the EL{vectors.el} vectors "
        f"at {vectors.address:#x} ({vectors.register}): {what}.",
        {
            "register": vectors.register,
            "address": vectors.address,
            "page": first.page,
            "writer": first.writer,
            "writer_source": first.writer_source,
            "instruction": None if call is None else call.address,
        },
    )


def _handler_overwritten(relocation: Relocation, vectors: Vectors, call: Instruction) -> Iterator[Finding]:
    """The vector itself is left alone, but not the code that it branches to."""
    for instruction in _code(relocation, [vectors.address + VectorSource.LOWER_EL]):
        hit = relocation.overwritten(instruction.address, instruction.address + INSTRUCTION_SIZE)
        if hit is not None:
            yield Finding(
                "K03",
                Severity.FATAL,
                f"{call.text} at {call.address:#x} goes to the EL2 vectors at {vectors.address:#x} "
                f"({vectors.register}), and from there to {hit:#x}, where the copy has put a page of the new image.",
                {"register": vectors.register, "address": hit, "instruction": call.address},
            )
            return


def _leaves_the_copy(relocation: Relocation, vectors: Vectors, call: Instruction | None) -> Iterator[Finding]:
    """Direct references from the copied vectors to what was not copied with them."""
    start, end = vectors.address, vectors.address + VECTORS_SIZE
    found = leaving(_code(relocation, [*range(start, end, VECTOR_SIZE)]), start, end)
    if not found:
        return
    used = _code(relocation, [start + VectorSource.LOWER_EL]) if call is not None else ()
    on_the_way = [each for each in found if each.instruction in used]
    first: Reference = (on_the_way or found)[0]
    consequence = (
        f"{call.text} at {call.address:#x} comes through it"
        if call is not None and on_the_way
        else "the entries that the relocation uses stay inside"
    )
    yield Finding(
        "K03",
        Severity.FATAL if on_the_way else Severity.HAZARD,
        f"The copied EL{vectors.el} vectors at {start:#x} ({vectors.register}) do not get along on their own: "
        f"{first.instruction.text} at {first.instruction.address:#x} refers to {first.target:#x}, outside the 2 KiB "
        f"that were copied; {consequence}.",
        {
            "register": vectors.register,
            "address": start,
            "instruction": first.instruction.address,
            "target": first.target,
            "count": len(found),
        },
    )


def _code(relocation: Relocation, starts: list[int]) -> tuple[Instruction, ...]:
    """Code that can be reached from physical addresses, with the MMU off as EL2 has it then."""

    def fetch(address: int) -> int:
        return int.from_bytes(relocation.memory.read(address, INSTRUCTION_SIZE), "little")

    return tuple(reachable_code(fetch, starts, _LONGEST_HANDLER).instructions.values())


RULE = Rule(
    "K03",
    "The vectors do not survive the copy",
    "The relocation runs at EL1 and ends with an hvc, to start the new kernel at EL2. EL2 then needs vectors that the "
    "copy leaves alone: VBAR_EL2 must not point to where the new image goes. A copy of the vectors made for this "
    "purpose must not branch, or refer, to anything that was not copied with them. At the relocation's own level, any "
    "exception after the vectors were overwritten runs the new image's bytes.",
    (
        "Linux kexec series v14 and v15 (20210609004419.936873-1-pasha.tatashin@soleen.com): vectors of their own for "
        "kexec and hibernate, because a branch left the copied 2 KiB (found by Marc Zyngier)",
        "James Morse, 2019-07-26 (9f74788a-98e8-9839-2017-df64e8532026@arm.com)",
    ),
    _check,
    symptom="All pages are in place, and the machine hangs at the final hvc.",
)
