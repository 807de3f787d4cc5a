"""A landing pad as text and as JSON: where it is, what was written, and how to take it away."""

from __future__ import annotations

from kexecdbg.checks.landing_pad import B_SELF, LandingPad, PadKind
from kexecdbg.checks.pad_placement import Removal
from kexecdbg.ui.json_form import Json, number
from kexecdbg.ui.style import Style, hanging

_COLUMN = 11
_WHERE = {
    PadKind.VECTORS: "in the memory of the vectors",
    PadKind.FREE_CODE: "in memory that the tables map executable and that held only zeros",
    PadKind.MAPPED_VECTORS: "in the memory of the vectors, which are mapped executable for it",
}


def placed_text(pad: LandingPad, style: Style) -> str:
    """The pad, everything that was written for it, and what takes it away."""
    lines = [
        hanging(
            "pad",
            f"a landing pad is in place: a synchronous exception stays at {pad.vector:#x}, {_WHERE[pad.kind]}, with "
            "its ESR, FAR and ELR, also when the machine runs freely",
            _COLUMN,
            style,
        ),
        hanging(
            "written",
            f"b . at each of the {len(pad.saved)} vectors from physical {pad.physical:#x} on",
            _COLUMN,
            style,
        ),
    ]
    if pad.descriptor is not None:
        repair = pad.descriptor
        change = f"{repair.old:#018x} -> {repair.new:#018x}: {repair.text}"
        lines.append(hanging("", f"level {pad.level} descriptor at {repair.address:#x}: {change}", _COLUMN))
    if pad.moves_vectors:
        lines.append(
            hanging("", f"{pad.vbar} {pad.old_base:#x} -> {pad.base:#x}, by an msr that was executed", _COLUMN)
        )
    lines.append(
        hanging("undo", "kexec-fix does when it sets the PC back; else kexec-step --remove-landing-pad", _COLUMN, style)
    )
    return "\n".join(lines)


def removed_text(pad: LandingPad, removal: Removal, style: Style) -> str:
    """What was put back, and what was not."""
    vbar = "unknown" if removal.vbar is None else f"{removal.vbar:#x}"
    back = f"taken away from {pad.base:#x}; what it replaced is back, and {pad.vbar} is {vbar}"
    if removal.kept:
        back = f"taken away from {pad.base:#x}, but not all of it: {'; '.join(removal.kept)}"
    lines = [hanging("pad", back, _COLUMN, style)]
    if pad.descriptor is not None:
        cached = "the TLB may keep the translation of the vectors' page that was mapped for it"
        lines.append(hanging("note", cached, _COLUMN, style))
    if removal.parked:
        lines.append(hanging("note", "the PC is still where it was: set it before the machine runs on", _COLUMN, style))
    return "\n".join(lines)


def landing_pad_json(pad: LandingPad, parked: bool) -> Json:
    """The pad that is in place; ``parked`` says whether the CPU is in it."""
    repair = pad.descriptor
    return {
        "where": pad.kind.name.lower(),
        "address": number(pad.base),
        "physical": number(pad.physical),
        "vector": number(pad.vector),
        "written": [
            {"address": number(address), "old": f"0x{saved[::-1].hex()}", "new": f"0x{B_SELF[::-1].hex()}"}
            for address, saved in pad.places()
        ],
        "descriptor": None
        if repair is None
        else {
            "address": number(repair.address),
            "level": pad.level,
            "old": number(repair.old),
            "new": number(repair.new),
            "text": repair.text,
        },
        "vbar": {"register": pad.vbar, "old": number(pad.old_base), "new": number(pad.base)}
        if pad.moves_vectors
        else None,
        "parked": parked,
    }


def removal_json(pad: LandingPad, removal: Removal) -> Json:
    """What became of a pad that was taken away."""
    return {
        "address": number(pad.base),
        "kept": list(removal.kept),
        "vbar": {"register": pad.vbar, "value": number(removal.vbar)},
        "parked": removal.parked,
    }
