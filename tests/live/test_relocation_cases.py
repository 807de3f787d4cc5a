"""Every case of the lab with a known outcome: predicted by us, observed by stepping, witnessed by QEMU's own log.

The table is what was measured of the relocation of 2019 on QEMU 7.2.22 (docs/explanation.md, "Why it is bit 54").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from kexecdbg.lab.relocation import VECTORS
from kexecdbg.lab.scenarios import relocation_2019
from kexecdbg.qemu.exception_log import ExceptionLog, LoggedException
from tests.live.machines import ARRIVED, SECONDS, bench


@dataclass(frozen=True)
class Expected:
    """What a case does.

    Attributes:
        first: ESR of the first exception, at the instruction after the msr; ``None`` when it runs.
        then: ESR of every following one, at VBAR+0x200; ``None`` when the CPU rests in the vector, or runs.
        fatal: ids of the fatal findings that are no consequences of others.
        cured_by_descriptors: whether the repair is made in the tables.
    """

    first: int | None
    then: int | None
    fatal: tuple[str, ...]
    cured_by_descriptors: bool


def runs() -> Expected:
    return Expected(None, None, (), False)


def tables(first: int, then: int | None, *fatal: str) -> Expected:
    return Expected(first, then, fatal, True)


def registers(first: int, then: int, *fatal: str) -> Expected:
    return Expected(first, then, fatal, False)


EXPECTED = {
    "A": tables(0x8600_000F, 0x8600_0007, "M01"),
    "B": runs(),
    "C": runs(),
    "D": runs(),
    "E": runs(),
    "F": tables(0x8600_000F, 0x8600_0007, "M02", "M02", "M02"),
    "G": runs(),
    "H": tables(0x8600_000F, None, "M01"),
    "I": tables(0x8600_000F, 0x8600_000F, "M01"),
    "J": tables(0x8600_000F, 0x8600_0007, "M04"),
    "K": runs(),
    "L": tables(0x8600_000B, 0x8600_0007, "M15"),
    "M": registers(0x8600_0005, 0x8600_0005, "M10"),
    "N": registers(0x8600_0006, 0x8600_0006, "M12"),
    "O": registers(0x8600_0000, 0x8600_0000, "M08"),
    "Q": tables(0x8600_0007, 0x8600_0007, "M14"),
    "R": tables(0x0200_0000, 0x8600_0007, "M16"),
    "Y": registers(0x8600_0004, 0x8600_0004, "M34"),
    "w7": registers(0x8600_0004, 0x8600_0004, "M10"),
    "w8": registers(0x8600_0004, 0x8600_0004, "M10"),
    "w9": registers(0x8600_0005, 0x8600_0005, "M10"),
    "w10": registers(0x8600_0004, 0x8600_0004, "M10"),
    "w13": tables(0x8600_0009, 0x8600_0009, "M14"),
    "V1": registers(0x8600_0000, 0x8600_0000, "M06", "M08"),
    "V2": runs(),
    "V3": tables(0x8600_000F, 0x8600_0007, "M03"),
    "V4": tables(0x8600_000F, 0x8600_0007, "M01"),
    "EL1": runs(),
}
NO_FAR = frozenset({0x0200_0000})
"""Syndromes of exceptions that leave FAR_ELx alone."""
RUNS = [name for name, expected in EXPECTED.items() if expected.first is None]
REPAIRABLE = [name for name, expected in EXPECTED.items() if expected.cured_by_descriptors]
REPAIRABLE_WHEN_FROZEN = [name for name in REPAIRABLE if name != "R"]
"""In case R the fetch succeeds, through the wrong translation: the TLB keeps it, whatever the tables say later."""
EXTRA_STEPS = 3
AT_EL1 = "EL1"
"""The one case that runs at EL1."""


@dataclass(frozen=True)
class Course:
    """What one case did, from the start to where it ended up."""

    name: str
    site: int
    before: Any
    check: Any
    stepped: Any
    log: list[LoggedException]
    repaired: Any
    console: str

    @property
    def expected(self) -> Expected:
        return EXPECTED[self.name]

    def first(self) -> dict[str, str] | None:
        """The first exception as the table has it."""
        return exception(self.expected.first, self.site + 4)

    def then(self) -> dict[str, str] | None:
        """The following ones."""
        return exception(self.expected.then, VECTORS + 0x200)


def exception(esr: int | None, address: int) -> dict[str, str] | None:
    """An exception of the table in the form of the JSON documents, FAR left out where it does not count."""
    if esr is None:
        return None
    syndrome = {"esr": f"{esr:#x}", "elr": f"{address:#x}"}
    return syndrome if esr in NO_FAR else {**syndrome, "far": f"{address:#x}"}


def without_idle_far(document: dict[str, str] | None) -> dict[str, str] | None:
    """``document`` without the FAR of an exception that does not write it."""
    if document is None or int(document["esr"], 16) not in NO_FAR:
        return document
    return {name: value for name, value in document.items() if name != "far"}


@pytest.fixture(scope="module", params=EXPECTED)
def course(request: pytest.FixtureRequest) -> Iterator[Course]:
    with bench(request.param) as lab:
        log = ExceptionLog(lab.machine.qemu)
        before = lab.run("kexec-step --before --timeout 30")
        check = lab.run("kexec-check")
        stepped = lab.run("kexec-step --follow")
        repaired, console = None, ""
        if EXPECTED[request.param].first is not None:
            lab.gdb.command(f"stepi {EXTRA_STEPS}", SECONDS)
        exceptions = log.exceptions()
        if request.param in REPAIRABLE_WHEN_FROZEN:
            repaired = lab.run("kexec-fix --yes")
        if repaired is not None or request.param in RUNS:
            console = lab.go_on()
        site = lab.symbol("turn_on_mmu_done") - 4 if request.param == AT_EL1 else lab.symbol("turn_on_mmu_sctlr_write")
    yield Course(request.param, site, before, check, stepped, exceptions, repaired, console)


def test_every_case_of_the_lab_has_an_expectation() -> None:
    assert list(EXPECTED) == [scenario.id for scenario in relocation_2019.SCENARIOS]


def test_the_switch_is_found_by_decoding(course: Course) -> None:
    assert course.before["site"] == course.check["site"] == f"{course.site:#x}"
    assert course.before["check"] == course.check


def test_the_verdict(course: Course) -> None:
    assert course.check["verdict"] == ("sound" if course.expected.first is None else "faults")


def test_the_prediction_is_what_is_known(course: Course) -> None:
    predicted = course.check["predicted"]
    assert without_idle_far(predicted["first"]) == course.first()
    assert predicted["then"] == course.then()
    if course.expected.first is None:
        assert predicted["outcome"] == "runs_on"
    else:
        assert predicted["outcome"] == ("in_vector" if course.expected.then is None else "spins")


def test_the_observation_is_what_is_known_and_agrees(course: Course) -> None:
    observed = course.stepped["observed"]
    assert without_idle_far(observed["first"]) == course.first()
    assert observed["then"] == course.then()
    assert course.stepped["agrees"] is True


def test_qemu_logs_the_same_exceptions(course: Course) -> None:
    """The first one once; the following one at every step after it, for ever."""
    logged = [
        {"esr": f"{e.esr:#x}", "elr": f"{e.elr:#x}", **({} if e.far is None else {"far": f"{e.far:#x}"})}
        for e in course.log
    ]
    first, then = course.first(), course.then()
    assert logged == [*([first] if first else []), *([then] * (1 + EXTRA_STEPS) if then else [])]


def test_the_fatal_findings(course: Course) -> None:
    """All findings, hazards too, are compared by test_scenarios.py."""
    fatal = [f for f in course.check["findings"] if f["severity"] == "fatal"]
    assert tuple(f["id"] for f in fatal if not f["consequence"]) == course.expected.fatal
    vectors = [f for f in fatal if f["id"] == "M05"]
    assert len(vectors) == (course.expected.then is not None)
    assert all(f["consequence"] for f in vectors)


@pytest.mark.parametrize("course", [*RUNS, *REPAIRABLE_WHEN_FROZEN], indirect=True)
def test_where_it_runs_or_was_repaired_after_the_freeze_the_new_kernel_arrives(course: Course) -> None:
    level = "EL1" if course.name == AT_EL1 else "EL2"
    (line,) = course.console.splitlines()
    assert line.startswith(ARRIVED) and line.endswith(f", at {level}")


@pytest.mark.parametrize("course", REPAIRABLE_WHEN_FROZEN, indirect=True)
def test_the_repair_resumes_at_the_instruction_that_faulted(course: Course) -> None:
    assert course.repaired["applied"] is True
    assert course.repaired["resume_at"] == course.repaired["recheck"]["site"] == f"{course.site + 4:#x}"
    assert course.repaired["recheck"]["verdict"] == "sound"
    assert {repair["kind"] for repair in course.repaired["repairs"]} == {"write_descriptor"}


def test_a_translation_that_the_tlb_keeps_is_not_repaired_after_the_fetch() -> None:
    with bench("R") as lab:
        lab.run("kexec-step --timeout 30")
        message = lab.refused("kexec-fix --yes")
        assert "may keep it in its TLB" in message and "repair before the switch" in message


@pytest.mark.parametrize("name", REPAIRABLE)
def test_repaired_before_the_switch_it_runs(name: str) -> None:
    with bench(name) as lab:
        log = ExceptionLog(lab.machine.qemu)
        lab.run("kexec-step --before --timeout 30")
        assert lab.run("kexec-fix --yes")["resume_at"] is None
        assert lab.run("kexec-check")["verdict"] == "sound"
        stepped = lab.run("kexec-step --follow")
        assert (stepped["agrees"], stepped["observed"]["first"]) == (True, None)
        assert log.exceptions() == []
        assert lab.go_on().startswith(ARRIVED)


def test_a_pending_register_value_is_repaired_in_the_operand_of_the_msr() -> None:
    with bench("Y") as lab:
        lab.run("kexec-step --before --timeout 30")
        fixed = lab.run("kexec-fix --yes")
        assert fixed["repairs"] == [
            {
                "kind": "write_register",
                "register": "SCTLR_EL2",
                "old": "0x32e5183f",
                "new": "0x30e5183f",
                "text": "sets EE to 0 (it was 1)",
                "findings": ["M34"],
                "level": None,
                "fields": [{"name": "EE", "msb": 25, "lsb": 25, "old": "0x1", "new": "0x0"}],
            }
        ]
        assert fixed["recheck"] == lab.run("kexec-check")
        assert int(lab.gdb.command("output/x $x14"), 16) == 0x30E5_183F
        assert lab.run("kexec-check")["verdict"] == "sound"
        assert lab.go_on().startswith(ARRIVED)


@pytest.mark.parametrize("name", ["O", "V1", "M"])
def test_a_register_that_is_already_written_is_left_to_the_code(name: str) -> None:
    """The gdbstub drops writes to system registers; the msr, executed again with the value that is named, does it."""
    with bench(name) as lab:
        check = lab.run("kexec-step --before --timeout 30")["check"]
        repair = next(f["repair"] for f in check["findings"] if f["repair"])
        fixed = lab.gdb.run("kexec-fix --yes", SECONDS)
        (correction,) = fixed.document["corrections"]
        assert (fixed.document["applied"], fixed.document["repairs"], fixed.document["recheck"]) == (False, [], None)
        assert (correction["register"], correction["new"], correction["position"]) == (
            "TCR_EL2", repair["new"], "at_switch",
        )  # fmt: skip
        made_by = [made["text"] for made in correction["made_by"]]
        if name == "M":
            # T0SZ is ORed onto a value that holds another: the line to correct is among them.
            assert (made_by[0], "orr x14, x14, #0x10" in made_by) == ("mrs x14, tcr_el1", True)
        else:
            assert made_by == [f"ldr x14, #{correction['literal']}"]
        assert (correction["write"]["text"], correction["operand"]) == ("msr tcr_el2, x14", "X14")
        assert [line for line in fixed.text.splitlines() if len(line) > 80] == []
        by_hand = fixed.text.partition("or now")[2].strip().splitlines()
        assert [line.split()[0] for line in by_hand] == ["set", "set", "stepi", "set", "set"]
        for line in by_hand:
            lab.gdb.command(line.strip(), SECONDS)
        assert lab.run("kexec-check")["predicted"]["first"] != check["predicted"]["first"]
        if name == "O":
            assert lab.go_on().startswith(ARRIVED)


def test_a_register_that_is_not_written_yet_is_corrected_at_its_msr() -> None:
    with bench("O") as lab:
        assert "kexec-fix   repair it, or see which instruction makes the value" in lab.text("kexec-check")
        fixed = lab.gdb.run("kexec-fix --yes", SECONDS)
        assert [correction["position"] for correction in fixed.document["corrections"]] == ["before_write"]
        for line in fixed.text.partition("or now")[2].strip().splitlines():
            lab.gdb.command(line.strip(), SECONDS)
        assert lab.run("kexec-check")["verdict"] == "sound"
        assert lab.go_on().startswith(ARRIVED)
