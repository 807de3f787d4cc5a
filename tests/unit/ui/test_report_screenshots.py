"""The report in a browser: light, dark, on a phone and on paper. The pictures stay in tests/output/report."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from kexecdbg.trace.reader import Trace
from kexecdbg.ui.report.of_trace import subject_of_trace
from kexecdbg.ui.report.page import report_html

TESTS = Path(__file__).parents[2]
FREEZE, OUTPUT = TESTS / "traces" / "freeze-2019.kxt", TESTS / "output" / "report"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 60.0
WIDE, PHONE = (1000, 3000), (390, 3000)
_COLOURS = 3

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome here")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    output = tmp_path_factory.mktemp("freeze") / "freeze.html"
    with Trace.open(FREEZE) as trace:
        output.write_text(report_html(subject_of_trace(trace)))
    return output


def browse(page: Path, profile: Path, *options: str) -> None:
    assert BROWSER is not None
    sandbox = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
    command = [BROWSER, *sandbox, *options, page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)


def corner(png: bytes) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Width and height, and the colour of the upper left pixel, which no filter changes (PNG, 9.2)."""
    width, height, _, colour_type = struct.unpack_from(">IIBB", png, 16)
    assert colour_type in (2, 6)  # RGB, RGBA
    data, position = b"", 8
    while position < len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        data += png[position + 8 : position + 8 + length] if kind == b"IDAT" else b""
        position += 12 + length
    return (width, height), tuple(zlib.decompressobj().decompress(data, 1 + _COLOURS)[1:])


@pytest.mark.parametrize(
    ("name", "size", "options", "background"),
    [
        ("light", WIDE, [], (0xFF, 0xFF, 0xFF)),
        ("dark", WIDE, ["--blink-settings=preferredColorScheme=0"], (0x15, 0x17, 0x1A)),
        ("phone", PHONE, [], (0xFF, 0xFF, 0xFF)),
    ],
)
def test_on_screen(
    page: Path, tmp_path: Path, name: str, size: tuple[int, int], options: list[str], background: tuple[int, ...]
) -> None:
    picture = OUTPUT / f"{name}.png"
    picture.unlink(missing_ok=True)
    browse(page, tmp_path, f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}", *options)
    assert corner(picture.read_bytes()) == (size, background)
    assert picture.stat().st_size > 50_000  # an empty page has some thousand bytes


def test_on_paper(page: Path, tmp_path: Path) -> None:
    document = OUTPUT / "print.pdf"
    document.unlink(missing_ok=True)
    browse(page, tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={document}")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", document.read_bytes())) <= 16
    assert document.stat().st_size < 2_000_000  # patterns that are printed as pictures make it several times as large
