"""The HTML report of made-up recordings: its order, that it is self-contained and escaped, and what it says."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexecdbg.checks.judging import judge
from kexecdbg.checks.situation import situation_at
from kexecdbg.errors import KexecdbgError
from kexecdbg.lab.tables import TableBuilder
from kexecdbg.machine.state import CpuState
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.writer import TraceWriter
from kexecdbg.ui.cli import main
from kexecdbg.ui.report.address_space_view import MOST_RANGES
from kexecdbg.ui.report.of_trace import subject_of_trace
from kexecdbg.ui.report.page import report_html
from kexecdbg.ui.report.subject import Origin, Subject, SymbolOf, no_symbols
from tests.unit.checks.moments import AF, CODE, EXEC, NEXT, ROOT, UXN, VHE, Moment
from tests.unit.ui.freeze import FROZEN, PERMISSION, Page, header_of, site_in_words, write_freeze

HOSTILE = "</style></svg>\"'><script>alert(1)</script><img src=x onerror=alert(1)>&lt;{{ 7 * 7 }}"
SECTIONS = ["verdict", "findings", "walk", "address-space", "relocation", "registers", "time-line", "about"]
NOP = 0xD503_201F


@pytest.fixture
def html_of(tmp_path: Path) -> Callable[..., str]:
    def make(
        moment: Moment = FROZEN, text: str = "plain", symbol_of: SymbolOf = no_symbols, name: str = "freeze.kxt"
    ) -> str:
        path = tmp_path / name
        write_freeze(path, header_of(moment, text), moment)
        with Trace.open(path) as trace:
            html = report_html(subject_of_trace(trace, symbol_of=symbol_of))
        path.unlink()
        return html

    return make


def test_the_verdict_comes_before_its_evidence(html_of: Callable[..., str]) -> None:
    page = Page(html_of())
    assert [name for name in page.ids if not name.startswith("pattern-") and name != "tip"] == SECTIONS
    assert page.text.index("FAULTS") < page.text.index(site_in_words()) < page.text.index("Findings and repair")
    assert page.text.index("M01") < page.text.index("The address space")


def test_ids_are_unique_and_links_lead_somewhere(html_of: Callable[..., str]) -> None:
    html = html_of()
    page = Page(html)
    assert len(set(page.ids)) == len(page.ids)
    links = [attributes["href"] for name, attributes in page.tags if name == "a"]
    references = re.findall(r"url\(([^)]*)\)", html)
    assert links and references
    assert {link.removeprefix("#") for link in (*links, *references)} <= set(page.ids)


def test_nothing_is_fetched_and_nothing_is_executed(html_of: Callable[..., str]) -> None:
    html = html_of()
    page = Page(html)
    names = {name for name, _ in page.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use"})
    attributes = {attribute for _, found in page.tags for attribute in found}
    assert attributes.isdisjoint({"src", "srcset", "action", "xlink:href", "style"})
    assert not [attribute for attribute in attributes if attribute.startswith("on")]
    assert "://" not in html and "@import" not in html


def test_what_the_target_says_is_shown_and_never_obeyed(html_of: Callable[..., str]) -> None:
    calm = Page(html_of(symbol_of=lambda address: "plain"))
    file = HOSTILE.replace("/", "") + ".kxt"
    page = Page(html_of(text=HOSTILE, symbol_of=lambda address: HOSTILE, name=file))
    # The same elements with the same attributes: the strings are text and nothing else.
    assert [(name, sorted(found)) for name, found in page.tags] == [(name, sorted(found)) for name, found in calm.tags]
    assert page.text.count(HOSTILE) >= 7 and file in page.text


def test_control_characters_do_not_get_onto_the_page(html_of: Callable[..., str]) -> None:
    html = html_of(symbol_of=lambda address: "name\x1b[31m\0\x85\udcff")
    assert "name\ufffd[31m\ufffd\ufffd\ufffd" in html
    assert all(character.isprintable() or character == "\n" for character in html.replace("\ufffd", ""))


def test_the_same_recording_gives_the_same_bytes(html_of: Callable[..., str]) -> None:
    assert html_of() == html_of()


def test_the_deciding_bit_is_marked_in_its_place(html_of: Callable[..., str]) -> None:
    page = Page(html_of())
    marks = [found for name, found in page.tags if name == "rect" and found.get("class") == "mark"]
    # The strip begins at 8 and a bit is 11 wide: bit 54 of the leaf, bit 0 of the vector's invalid descriptor.
    assert [float(mark["x"]) for mark in marks] == [8 + 11 * (63 - 54) - 1, 8 + 11 * 63 - 1]
    assert "bit 54, XN, is 1: this decides" in page.text
    assert page.text.index("bits 47:39 = 0x0, entry 0") < page.text.index("bits 38:30 = 0x5, entry 5")


def test_prediction_and_recording_are_compared(html_of: Callable[..., str]) -> None:
    text = Page(html_of()).text
    assert f"predicted {PERMISSION:#010x} {NEXT:#x} {NEXT:#x}" in text
    assert f"recorded {PERMISSION:#010x} {NEXT:#x} {NEXT:#x}" in text
    assert "✓ as predicted. Recorded in step 1, 1 step after the switch." in text


def test_a_recording_that_contradicts_says_so(html_of: Callable[..., str]) -> None:
    text = Page(html_of(replace(FROZEN, code=EXEC & ~(1 << 10)))).text
    assert "✕ not as predicted. Recorded in step 1" in text and "M15" in text


def test_the_time_line_marks_the_switch_and_the_exceptions(html_of: Callable[..., str]) -> None:
    page = Page(html_of())
    assert (page.count("li", "switch"), page.count("li", "exception")) == (1, 3)
    assert "msr sctlr_el2, x14" in page.text
    # Two different ones, and the second again.
    assert page.text.count("exception to EL2: ESR") == 2 and page.text.count("the same exception again") == 1


def test_the_repair_shows_the_bit_that_changes(html_of: Callable[..., str]) -> None:
    page = Page(html_of())
    old, new = f"{CODE | EXEC | UXN:#018x}", f"{CODE | EXEC:#018x}"
    assert f"{old} → {new} bit 54: 1 → 0" in page.text


def test_reserved_bits_of_registers_are_pointed_out(html_of: Callable[..., str]) -> None:
    page = Page(html_of())
    assert "SCTLR_EL2 bit 21" in page.text and "written by the switch; before it 0x30c50830" in page.text


def test_a_table_of_thousands_of_ranges_is_capped(html_of: Callable[..., str]) -> None:
    count = 5000

    def scatter(tables: TableBuilder) -> None:
        for number in range(count):
            address = 0x2_0000_0000 + 0x2000 * number
            tables.map_page(address, address, EXEC if number % 3 else EXEC | UXN)

    html = html_of(replace(FROZEN, adjust=scatter))
    page = Page(html)
    assert len(html) < 120_000
    assert f"{count + 1 - MOST_RANGES:,} more ranges; walk-ttbr0 lists all of them." in page.text
    # Rows of the map: at most 18, however much there is.
    assert page.count("rect", "swatch") < 60


def test_what_is_unknown_is_said_in_its_place(html_of: Callable[..., str]) -> None:
    page = Page(html_of(replace(FROZEN, registers={"TTBR0_EL2": None})))
    assert "UNKNOWN" in page.text and "This cannot be told: TTBR0_EL2 is unknown" in page.text


def test_both_stages_are_drawn() -> None:
    block = ROOT | 1 << 54 | AF | 0b11 << 6 | 0xF << 2 | 1  # 1 GiB, XN
    table = bytes(8 * (ROOT >> 30)) + block.to_bytes(8, "little") + bytes(4000)
    stage2 = {"HCR_EL2": 0x8000_0001, "VTCR_EL2": 0x8002_0059, "VTTBR_EL2": 0x2_0000_0000}
    moment = Moment(registers={"PSTATE": 0x3C5, **stage2}, extra={0x2_0000_0000: table})
    subject = Subject(Origin("made up", ()), CpuState(moment.values()), moment.memory(), None, "No switch.")
    text = Page(report_html(subject)).text
    assert "IPA 0x140100120 ✓ goes on in stage 2" in text
    assert "bit 54, XN[1], is 1: this decides" in text and "Permission fault, level 1, stage 2" in text


@given(
    code=st.integers(0, 63).map(lambda position: EXEC ^ 1 << position),
    register=st.sampled_from(["TCR_EL2", "TTBR0_EL2", "HCR_EL2", "VBAR_EL2", "MAIR_EL2", "X14", "ID_AA64MMFR0_EL1"]),
    value=st.none() | st.integers(0, (1 << 64) - 1),
)
@settings(max_examples=30)
def test_no_descriptor_and_no_register_breaks_the_page(code: int, register: str, value: int | None) -> None:
    moment = Moment(code=code, registers={register: value})
    state, memory = CpuState(moment.values()), moment.memory()
    subject = Subject(Origin("made up", ()), state, memory, None, "No switch.")
    with contextlib.suppress(KexecdbgError):  # it cannot be judged: the report shows what there is
        subject = replace(subject, verdict=judge(situation_at(state, memory)))
    assert Page(report_html(subject)).ids


def test_a_regime_with_two_ranges_shows_both(html_of: Callable[..., str]) -> None:
    page = Page(html_of(Moment(registers={**VHE, "TCR_EL2": 0x4_B510_3510, "TTBR1_EL2": ROOT})))
    assert page.text.index("TTBR0_EL2 0x") < page.text.index("TTBR1_EL2 0x")


# The command


@pytest.fixture
def freeze(tmp_path: Path) -> Path:
    path = tmp_path / "freeze.kxt"
    write_freeze(path, header_of())
    return path


def report(*arguments: str | Path) -> int:
    return main(["report", *map(str, arguments)])


def test_exit_status_and_document(freeze: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "report.html"
    assert report(freeze, "-o", output, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["findings"][0]) == ("faults", "M01")
    assert document["bytes"] == output.stat().st_size
    Page(output.read_text())


def test_text_of_the_command(freeze: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(freeze, "--step", "0", "-o", tmp_path / "r.html") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAULTS: the write at") and lines[1].startswith("findings  M01")
    assert lines[-1].startswith("report")


def test_a_recording_without_a_switch_has_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moment, path, output = Moment(), tmp_path / "quiet.kxt", tmp_path / "quiet.html"
    with TraceWriter(path, TraceHeader("stepping", tuple(moment.values())), moment.values()) as writer:
        writer.step(NEXT, NOP, {})
    assert report(path, "-o", output) == 1
    assert capsys.readouterr().out.startswith("UNKNOWN: Nothing in this recording switches an MMU on")
    page = Page(output.read_text())
    assert "UNKNOWN" in page.text and "The instruction at the PC" in page.text
    assert "written by the switch" not in page.text  # the walk assumes SCTLR_ELx.M, the machine does not have it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "report of what? Give one of TRACE, --attach TARGET and --lab ID"),
        (["--lab", "M01", "--attach", ":1"], "report of what?"),
        (["--lab", "M01", "--step", "3"], "--step and --symbols go with a TRACE"),
        (["FREEZE", "--assume", "X0=1"], "--assume, --cpu and --resume go with --attach"),
        (["FREEZE", "--step", "9"], "there is no state 9"),
        (["FREEZE", "--symbols", "FREEZE"], "cannot read its symbols"),
        (["absent.kxt"], "absent.kxt"),
    ],
)
def test_refusals(
    freeze: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    output = tmp_path / "no.html"
    assert report(*(freeze if each == "FREEZE" else each for each in arguments), "-o", output) == 2
    assert message in capsys.readouterr().err and not output.exists()


def test_a_file_that_cannot_be_written(freeze: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(freeze, "-o", tmp_path / "absent" / "r.html") == 2
    assert "cannot write the report: No such file or directory; choose another -o FILE" in capsys.readouterr().err


def test_the_template_engine_is_imported_only_for_a_report() -> None:
    code = "import kexecdbg.ui.cli, kexecdbg.ui.commands.report, sys; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
