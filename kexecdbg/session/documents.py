"""Reads the commands' JSON documents (the ``*_json.py`` of :mod:`kexecdbg.ui` write them) into results."""

from __future__ import annotations

import re
from typing import Any

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.finding import DescriptorRepair, Finding, RegisterRepair, Repair, Severity
from kexecdbg.checks.prediction import ExceptionRecord, Outcome, Place, Prediction
from kexecdbg.checks.verdict import Judgement
from kexecdbg.session.gdb import CommandResult
from kexecdbg.session.results import (
    Diagnosis,
    ExecutedInstruction,
    Fix,
    LoadedImage,
    MappedRange,
    Observation,
    Relocation,
    Switch,
    TableSummary,
    Verdict,
    Walk,
    WalkLevel,
)

Json = Any

_NUMBER = re.compile(r"0x[0-9a-f]+")


def number(text: str) -> int:
    """An address or register value as JSON shows it."""
    return int(text, 16)


def optional_number(text: str | None) -> int | None:
    """The same where null stands for unknown."""
    return None if text is None else number(text)


def verdict(result: CommandResult) -> Verdict:
    """What kexec-check says."""
    return verdict_of(result.document, result.text)


def verdict_of(document: Json, text: str = "") -> Verdict:
    """A verdict inside another command's document."""
    return Verdict(
        Judgement(document["verdict"]),
        number(document["site"]),
        Regime(document["regime"]),
        document["el"],
        number(document["next_pc"]),
        tuple(map(_finding, document["findings"])),
        _prediction(document["predicted"]),
        text,
    )


def _finding(document: Json) -> Finding:
    evidence = {
        key: number(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        for key, value in document["evidence"].items()
    }
    return Finding(
        document["id"],
        Severity(document["severity"]),
        document["text"],
        evidence,
        None if document["repair"] is None else _repair(document["repair"]),
        document["consequence"],
        exception(document["leads_to"]),
    )


def _repair(document: Json) -> Repair:
    old, new, text = number(document["old"]), number(document["new"]), document["text"]
    if document["kind"] == "write_descriptor":
        return DescriptorRepair(number(document["address"]), old, new, text)
    return RegisterRepair(document["register"], old, new, text)


def _prediction(document: Json) -> Prediction:
    at = document["at"]
    place = None
    if at is not None:
        access = None if at["access"] is None else Access(at["access"])
        place = Place(number(at["pc"]), at["text"], access, optional_number(at["address"]), at["executed"])
    first, then = exception(document["first"]), exception(document["then"])
    return Prediction(first, then, Outcome[document["outcome"].upper()], place)


def exception(document: Json) -> ExceptionRecord | None:
    """An exception's syndrome registers; null stands for no exception."""
    if document is None:
        return None
    return ExceptionRecord(number(document["esr"]), optional_number(document["far"]), number(document["elr"]))


def switch(result: CommandResult) -> Switch:
    """What kexec-step says."""
    document = result.document
    seen = document.get("observed")
    observed = seen and Observation(
        exception(seen["first"]), exception(seen["then"]), document["agrees"], _steps(seen["steps"])
    )
    return Switch(_steps(document["steps"]), verdict_of(document["check"], result.text), observed, result.text)


def _steps(documents: Json) -> tuple[ExecutedInstruction, ...]:
    return tuple(
        ExecutedInstruction(
            number(step["pc"]), step["text"], {name: number(to["new"]) for name, to in step["changes"].items()}
        )
        for step in documents
    )


def walk(result: CommandResult) -> Walk:
    """What walk-ttbr0, walk-ttbr1 or walk-vttbr says of one address."""
    document = result.document
    found = document["result"]
    levels = tuple(
        WalkLevel(each["level"], number(each["address"]), optional_number(each["descriptor"]), each["kind"])
        for each in document["levels"]
    )
    return Walk(
        number(document["va"] if "va" in document else document["ipa"]),
        document["regime"],
        levels,
        optional_number(found["pa"]),
        found["read"],
        found["write"],
        found["execute"],
        found.get("because", {}),
        found["memory_type"],
        found["page_size"],
        None if found["fault"] is None else found["fault"]["text"],
        result.text,
    )


def table(result: CommandResult) -> TableSummary:
    """What walk-ttbr0, walk-ttbr1 or walk-vttbr says of the whole table."""
    document = result.document
    ranges = tuple(
        MappedRange(
            number(each["va"]),
            number(each["end"]),
            number(each["pa"]),
            each["read"],
            each["write"],
            each["execute"],
            each["memory_type"],
        )
        for each in document["ranges"]
    )
    problems = tuple(problem["text"] for problem in document["problems"])
    root = optional_number(document["root"])
    return TableSummary(document["regime"], root, ranges, document["entries"], problems, result.text)


def relocation(result: CommandResult) -> Relocation:
    """What kexec-relocate says."""
    document = result.document
    compared = document["verified"]
    return Relocation(
        document["outcome"],
        document["sound"],
        document["pages"],
        None if compared is None else compared["pages"],
        None if compared is None else compared["differing"],
        tuple(check["text"] for check in document["boot"] if check["met"] is False),
        result.text,
    )


def diagnosis(result: CommandResult) -> Diagnosis:
    """What kexec-why says of one CPU."""
    document = result.document
    origin = document["switch"]
    return Diagnosis(
        document["stuck"],
        document["condition"],
        document["reason"] or "",
        None if origin is None else number(origin["site"]),
        None if origin is None else verdict_of(origin["check"]),
        result.text,
    )


def fix(result: CommandResult) -> Fix:
    """What kexec-fix says."""
    document = result.document
    return Fix(tuple(map(_repair, document["repairs"])), optional_number(document["resume_at"]), result.text)


def image(result: CommandResult) -> LoadedImage:
    """What kexec-image says."""
    document = result.document
    return LoadedImage(
        document["argument"]["layout"],
        number(document["argument"]["address"]),
        document["list"]["pages"],
        tuple(defect["text"] for defect in document["audit"]),
        tuple(map(_finding, document["findings"])),
        document["sound"],
        result.text,
    )
