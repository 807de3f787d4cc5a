"""M05: the exception vectors cannot be fetched after the write."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import Access, FaultKind
from kexecdbg.arm64.vectors import vectors_base
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.predicting import predict, vector_after
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation


def _check(situation: Situation) -> Iterator[Finding]:
    prediction = predict(situation)
    will_be_taken = prediction.first is not None
    if will_be_taken and prediction.vector is not None:
        vector = prediction.vector
    else:
        # Code that sets VBAR_ELx right after the switch is judged by what it sets.
        vector = vector_after(situation, situation.aftermath.steps)
    fault = situation.walk(vector).fault_for(Access.FETCH)
    if fault is None or fault.kind is FaultKind.UNKNOWN or (prediction.first and prediction.first.el is not None):
        return
    vbar = situation.regime.facts.vbar
    consequence = (
        "so the exception faults on its own vector, for ever; the second one overwrites the first syndrome"
        if will_be_taken
        else "so the first exception, whatever it is, will spin there and destroy its own syndrome"
    )
    yield Finding(
        "M05",
        Severity.FATAL if will_be_taken else Severity.HAZARD,
        f"The vectors cannot be fetched: {vector:#x} ({vbar} + {vector - vectors_base(vector):#x}) takes "
        f"{fault.phrase} ({fault.cause.text}), {consequence}.",
        {
            "register": vbar,
            "vector": vector,
            "fault": fault.text,
            "address": fault.cause.address,
            "level": fault.cause.level,
            "bit": fault.cause.bit,
        },
        is_consequence=will_be_taken,
    )


RULE = Rule(
    "M05",
    "The exception vectors are out of reach",
    "The first fault after the switch is fetched from VBAR_ELx through the new tables. Where they do not map the "
    "vectors executable, the vector fetch faults, and so on for ever: silence, and ESR, FAR and ELR of the first fault "
    "are gone.",
    (
        "Arm ARM D1.3.4 (exception entry)",
        "Linux [RFC v2 0/8] 20190731153857.4045-1-pasha.tatashin@soleen.com; p1c0 issue 78",
    ),
    _check,
    symptom="Silence: ELR = FAR = PC = VBAR + 0x200, and ESR tells of the vector, not of what went wrong first.",
)
