"""``qemu-scripts/demo`` as a user runs it: piped, as JSON, and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from typing import Any

import pytest

from tests.documents import ROOT, prints, read_blocks
from tests.live.machines import SECONDS

DEMO = [str(ROOT / "qemu-scripts" / "demo")]
ESCAPE = "\x1b["


@pytest.fixture(scope="module")
def piped() -> str:
    result = subprocess.run(DEMO, capture_output=True, text=True, timeout=SECONDS)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.fixture(scope="module")
def document() -> Any:
    result = subprocess.run([*DEMO, "--json"], capture_output=True, text=True, timeout=SECONDS)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_the_sections_come_in_the_order_of_the_story(piped: str) -> None:
    story = [
        "kexec-regs --assume SCTLR_EL2=$x14",
        "TCR_EL2     0x80843510",
        "TTBR0_EL2   0x00000001b3069000",
        "walk-ttbr0 $pc+4",
        "level 3   0x1b306c400: 0x00c80001b3080713 page",
        "execute  NO   bit 54",
        "(gdb) kexec-check",
        "FAULTS",
        "M01 fatal",
        "M05 fatal",
        "predicted",
        "kexec-step --follow",
        "msr sctlr_el2, x14",
        "ESR_EL2=0x8600000f",
        "ESR_EL2=0x86000007",
        "prediction and observation agree",
        "kexec-fix --yes",
        "0x00880001b3080713 to 0x1b306c400",
        "(gdb) continue",
        "new kernel: arrived whole: 64 pages",
        "Bit 54 of one descriptor",
        "gdb-multiarch -x $(kexecdbg gdbinit)",  # what to do next, also where there is no README: in a wheel
    ]
    position = 0
    for part in story:
        found = piped.find(part, position)
        assert found >= 0, f"{part!r} does not follow {piped[max(0, position - 80) : position]!r}"
        position = found


def test_piped_it_has_no_colour_and_fits_80_columns(piped: str) -> None:
    assert "\x1b" not in piped
    assert [line for line in piped.splitlines() if len(line) > 80] == []


def test_the_document_says_what_was_predicted_and_seen(document: Any) -> None:
    first = {"esr": "0x8600000f", "far": "0x1b3080124", "elr": "0x1b3080124"}
    then = {"esr": "0x86000007", "far": "0x1b30a0200", "elr": "0x1b30a0200"}
    predicted, observed = document["check"]["predicted"], document["observed"]
    assert (predicted["first"], predicted["then"]) == (first, then)
    assert (observed["first"], observed["then"]) == (first, then)
    assert (document["agrees"], document["arrived"]) == (True, True)
    assert [finding["id"] for finding in document["check"]["findings"]] == ["M01", "M05", "M20", "M21"]
    assert document["registers"]["SCTLR_EL2"]["value"] == "0x30e5183f"
    assert document["walk"]["levels"][3]["descriptor"] == "0xc80001b3080713"
    assert document["repair"]["applied"] is True
    assert re.fullmatch(
        r"new kernel: arrived whole: 64 pages, checksum 0x[0-9a-f]{16}, at EL2", document["console"].strip()
    )


def on_terminal(environment: dict[str, str]) -> tuple[int, str]:
    """Exit status and output of the demo on a pseudo-terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        DEMO, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", **environment}
    )
    os.close(theirs)
    output = b""
    try:
        while data := os.read(ours, 65536):
            output += data
    except OSError:
        pass  # Linux answers EIO when the last writer has closed the other side
    finally:
        os.close(ours)
    return process.wait(SECONDS), output.decode().replace("\r\n", "\n")


def test_on_a_terminal_it_is_coloured_and_says_the_same(piped: str) -> None:
    status, coloured = on_terminal({})
    assert status == 0
    assert f"{ESCAPE}1;31mFAULTS" in coloured and f"{ESCAPE}32mprediction and observation agree" in coloured
    bare = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert without_duration(bare) == without_duration(piped)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "TERM=dumb"])
def test_colour_can_be_refused(environment: dict[str, str]) -> None:
    status, output = on_terminal(environment)
    assert status == 0
    assert ESCAPE not in output


def without_duration(text: str) -> str:
    return re.sub(r"^[0-9.]+ s\.", "? s.", text, flags=re.MULTILINE)


def test_the_readme_shows_what_it_prints(piped: str) -> None:
    shown = [block.text for block in read_blocks(ROOT / "README.md") if block.text[0] == "$ qemu-scripts/demo"]
    assert len(shown) == 1
    assert prints(shown[0][1:], piped)
