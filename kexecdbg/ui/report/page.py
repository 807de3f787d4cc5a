"""Puts the report together: a subject in, one self-contained HTML page out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import jinja2

from kexecdbg import __version__
from kexecdbg.errors import KexecdbgError
from kexecdbg.ui.report.address_space_view import AddressSpaceView, address_spaces
from kexecdbg.ui.report.moment import Moment, Probe, moment_of
from kexecdbg.ui.report.registers_view import RegistersView, registers_view
from kexecdbg.ui.report.relocation_view import RelocationView, relocation_view
from kexecdbg.ui.report.subject import StepKind, Subject
from kexecdbg.ui.report.verdict_view import verdict_view
from kexecdbg.ui.report.walk_view import WalkView, walk_view

_NOT_IN_HTML = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no escape can write in HTML (WHATWG, "Preprocessing the input stream"), and symbols and file names may have."""


def report_html(subject: Subject) -> str:
    """The page; the same subject gives the same text.

    What cannot be told for want of a register or of memory is said in its place.
    """
    try:
        moment = moment_of(subject)
    except KexecdbgError as error:
        return _page(subject, walks=[str(error)], relocation=_relocation(subject))
    return _page(
        subject,
        remark=moment.remark,
        walks=[_walk(moment, probe) for probe in moment.probes],
        spaces=address_spaces(moment),
        relocation=_relocation(subject),
        registers=registers_view(moment),
    )


def _walk(moment: Moment, probe: Probe) -> WalkView | str:
    try:
        return walk_view(moment, probe)
    except KexecdbgError as error:
        return str(error)


def _relocation(subject: Subject) -> RelocationView | str | None:
    state = subject.state
    if subject.verdict is not None:
        # A machine that is stuck after the switch may have lost the pointer to the argument since.
        state = subject.verdict.situation.start or subject.verdict.situation.before
    try:
        return relocation_view(state, subject.memory)
    except KexecdbgError as error:
        return str(error)


def _page(
    subject: Subject,
    *,
    walks: Sequence[WalkView | str],
    relocation: RelocationView | str | None,
    remark: str = "",
    spaces: Sequence[AddressSpaceView] = (),
    registers: RegistersView | None = None,
) -> str:
    """The page from its parts; a string in place of a part is why that part cannot be told."""
    verdict = verdict_view(subject)
    sentences = [f"{part[0].upper()}{part[1:]}." for part in subject.memory_remarks()]
    html = _template().render(
        version=__version__,
        origin=subject.origin,
        verdict=verdict,
        remarks=[*subject.origin.remarks, *sentences],
        remark=remark,
        walks=walks,
        spaces=spaces,
        relocation=relocation,
        registers=registers,
        steps=subject.steps,
        steps_left_out=subject.steps_left_out,
        symbol_of=subject.symbol_of,
        StepKind=StepKind,
    )
    return _NOT_IN_HTML.sub("\N{REPLACEMENT CHARACTER}", html)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kexecdbg.ui.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["text"] = lambda value: isinstance(value, str)
    return environment.get_template("report.html")
