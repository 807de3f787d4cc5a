"""What the report says of the accesses that decide: a drawing of each walk, and what decides each right."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from kexecdbg.arm64.faults import Access, Cause, Fault
from kexecdbg.arm64.registers import REGISTERS, decode
from kexecdbg.arm64.rights import Rights
from kexecdbg.arm64.syndromes import abort_esr
from kexecdbg.arm64.walk import Walk
from kexecdbg.ui.report.bit_strip import WIDTH, StripField, bit_strip
from kexecdbg.ui.report.descriptor_fields import stage1_tables, stage2_tables
from kexecdbg.ui.report.moment import Moment, Probe
from kexecdbg.ui.report.svg import drawing, text
from kexecdbg.ui.report.walk_drawing import DrawnWalk, WalkEnd, draw_walk, outcome_text, output_details
from kexecdbg.ui.report.words import with_article

_MARGIN = 8


@dataclass(frozen=True)
class RightView:
    """A right, whether it is granted, and what decides it."""

    name: str
    allowed: bool
    because: str


@dataclass(frozen=True)
class WalkView:
    """A walk, for the page.

    Attributes:
        title: what is accessed.
        address: where.
        faults: whether that access fails.
        outcome: what becomes of it, in a sentence.
        drawings: stage 1, stage 2, and the register that decides, as far as there are such.
        rights: what decides each right; empty without an output address.
        notes: warnings and assumptions.
    """

    title: str
    address: int
    faults: bool
    outcome: str
    drawings: tuple[Markup, ...]
    rights: tuple[RightView, ...]
    notes: tuple[str, ...]


def walk_view(moment: Moment, probe: Probe) -> WalkView:
    """The walk of one access.

    Raises:
        RegisterUnknownError, ArchitectureError: it cannot be walked; the message says why.
    """
    walk = moment.walk(probe.address)
    fault = walk.fault_for(probe.access)
    notes = [cause.text for cause in walk.warnings]
    if not walk.enabled:
        notes.insert(0, f"stage 1 of {walk.regime.value} is off: the output address is the input address")
    notes += walk.assumptions
    return WalkView(
        probe.title,
        probe.address,
        fault is not None,
        _outcome(walk, probe.access, fault),
        tuple(_drawings(moment, walk, probe.access, fault)),
        _rights(walk),
        tuple(notes),
    )


def _outcome(walk: Walk, access: Access, fault: Fault | None) -> str:
    if fault is None:
        return f"The {access.value} succeeds" + (f" at PA {walk.pa:#x}." if walk.pa is not None else ".")
    if walk.unknown:
        return f"It cannot be told: {fault.cause.text}."
    esr = walk.regime.facts.esr if fault.stage == 1 else "ESR_EL2"
    taken = f"{with_article(fault.text)}, {esr} {abort_esr(fault, access):#010x}"
    return f"The {access.value} takes {taken}: {fault.cause.text}."


def _drawings(moment: Moment, walk: Walk, access: Access, fault: Fault | None) -> list[Markup]:
    cause = None if fault is None else fault.cause
    details = output_details(walk.page_size, walk.leaf_level, walk.memory_type.text if walk.memory_type else None)
    drawings = []
    if walk.enabled:
        tables = stage1_tables(moment.state, walk.regime, walk.va)
        first = DrawnWalk("VA", walk.va, walk.levels, tables, cause)
        if walk.stage2 is not None and (fault is None or fault.stage == 2):
            drawings.append(draw_walk(first, WalkEnd("IPA", walk.ipa, "goes on in stage 2")))
        else:
            outcome = outcome_text(access, fault)
            drawings.append(
                draw_walk(first, WalkEnd("PA", walk.pa, outcome, fault is not None, walk.privileged, details))
            )
    if walk.stage2 is not None:
        second = walk.stage2
        drawn = DrawnWalk("IPA", second.ipa, second.levels, stage2_tables(moment.state), cause)
        outcome = outcome_text(access, fault)
        drawings.append(
            draw_walk(drawn, WalkEnd("PA", second.pa, outcome, fault is not None, walk.privileged, details))
        )
    if cause is not None and (register := _register(moment, cause)) is not None:
        drawings.append(register)
    return drawings


def _register(moment: Moment, cause: Cause) -> Markup | None:
    """The register that decides, with its field marked; ``None`` when no register does."""
    value = None if cause.register is None else moment.state.get(cause.register)
    if cause.register is None or value is None or cause.register not in REGISTERS:
        return None
    decoded = decode(cause.register, value, moment.state)
    fields = [StripField(field.name, field.msb, field.lsb) for field in decoded.fields]
    marked = next(((field.msb, field.lsb) for field in fields if field.name == cause.field), None)
    remark = "" if marked is None else f"{cause.field}: this decides"
    strip = bit_strip(_MARGIN, 16, value, _apart(fields), marked, remark)
    heading = text(_MARGIN, 16, f"{cause.register} {value:#x}", "heading")
    return drawing(WIDTH + 2 * _MARGIN, 20 + strip.height, f"{cause.register} bit by bit", [heading, strip.content])


def _apart(fields: list[StripField]) -> list[StripField]:
    """Without fields that share bits with one before them."""
    kept: list[StripField] = []
    for field in fields:
        if not kept or field.msb < kept[-1].lsb:
            kept.append(field)
    return kept


def _rights(walk: Walk) -> tuple[RightView, ...]:
    if walk.pa is None:
        return ()
    own = f"EL{walk.regime.facts.el}" if walk.user is not None else ""
    views = _rights_of(walk.privileged, own)
    return views if walk.user is None else views + _rights_of(walk.user, "EL0")


def _rights_of(rights: Rights, who: str) -> tuple[RightView, ...]:
    named = (("read", rights.read), ("write", rights.write), ("execute", rights.execute))
    return tuple(RightView(f"{who} {name}".strip(), right.allowed, right.because) for name, right in named)
