"""The pictures of an address space and of a page list: what is drawn, in 80 columns, and in ASCII."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.scan import scan
from kexecdbg.checks.address_map import AddressMap, Point, PointKind, address_map, points_of
from kexecdbg.checks.image_entry import argument_here
from kexecdbg.checks.image_view import view_image
from kexecdbg.checks.page_map import Cell, Lane, PageMap, page_map
from kexecdbg.lab.relocation import RelocationCase
from kexecdbg.lab.scenarios import find_scenarios
from kexecdbg.ui.address_map_text import rounded, table_map_text
from kexecdbg.ui.cli import main
from kexecdbg.ui.page_map_text import COLUMNS, page_map_text
from kexecdbg.ui.style import WIDTH, Style, is_ascii
from tests.unit.arm64.tables import Words, registers
from tests.unit.checks.relocations import RAM, at_switch
from tests.unit.kexec.lists import RAM as RAM_MAP

ROOT = 0x5000_0000
NORMAL, DEVICE, READ_ONLY, XN = 0x711, 0x701, 1 << 7, 1 << 54
STATE = registers(TTBR0_EL2=ROOT, PC=0x4008_0000, VBAR_EL2=0xC000_0000, SP=0x8000_0000)
GIGABYTES = {
    ROOT: 0x5001_0003,
    0x5001_0000: DEVICE | XN,
    0x5001_0008: 0x4000_0000 | NORMAL,
    0x5001_0018: 0xC000_0000 | NORMAL | READ_ONLY | XN,
}
"""Blocks of 1 GiB: a device, memory that may be written and executed, nothing, memory that may only be read."""


def drawing(words: dict[int, int], *points: Point, ascii_only: bool = False) -> str:
    table = scan(STATE, Words(words), Regime.EL2)
    return table_map_text(table, table.ranges, (*points_of(STATE, table), *points), Style(), ascii_only=ascii_only)


def drawn(words: dict[int, int], most: int = 18) -> AddressMap:
    table = scan(STATE, Words(words), Regime.EL2)
    return address_map(table, table.ranges, points_of(STATE, table), most)


def test_an_address_space_in_ascii() -> None:
    text = drawing(GIGABYTES, Point(PointKind.DESTINATION, 0x9000_0000, 0x9000_1000, physical=True), ascii_only=True)
    assert text.splitlines()[2:] == [
        "0000000000000000 +------+",
        "                 |wwwwww|     1G  = PA           rw-  Device-nGnRnE",
        "0000000040000000 +------+",
        "                 |######|     1G  = PA           rwx  Normal WB  W+X",
        "                 |######| < PC 0x40080000",
        "                 |######| < SP 0x80000000",
        "                 |######| < 2 tables of its own: 50000000-50010fff",
        "0000000080000000 +------+",
        "                 :      :     1G  not mapped",
        "00000000c0000000 +------+",
        "                 |rrrrrr|     1G  = PA           r--  Normal WB",
        "                 |rrrrrr| < vectors 0xc0000000, not executable",
        "0000000100000000 +------+",
        "                 :      :   255T  not mapped",
        "0001000000000000 +------+",
        "not mapped   destination of the page list: 90000000-90000fff; a copy there",
        "             faults",
        "legend       ## rwx  ww rw-  rr r--; = PA where both addresses are the same",
    ]


def test_the_same_with_lines_is_as_wide() -> None:
    lines, plain = drawing(GIGABYTES).splitlines(), drawing(GIGABYTES, ascii_only=True).splitlines()
    assert [len(line) for line in lines] == [len(line) for line in plain]
    assert "\u251c\u2500\u2500\u2500\u2500\u2500\u2500\u2524" in lines[4] and "\u2588" * 6 in lines[5]


def many_pages(step: int) -> dict[int, int]:
    """512 pages, every other unmapped, with rights and places that change; then one far away."""
    words = {ROOT: 0x5001_0003, 0x5001_0008: 0x5002_0003, 0x5001_0010: 0x8000_0000 | NORMAL, 0x5002_0000: 0x5003_0003}
    for index in range(0, 512, step):
        attributes = (NORMAL | 2, DEVICE | 2 | XN, NORMAL | READ_ONLY | 2)[index // 7 % 3]
        words[0x5003_0000 + 8 * index] = 0x6000_0000 + (index * 0x3000) | attributes
    return words


@pytest.mark.parametrize("step", [1, 2, 5])
def test_any_number_of_ranges_fits(step: int) -> None:
    words = many_pages(step)
    found = drawn(words)
    assert len(found.blocks) <= 18
    assert sum(block.mapped for block in found.blocks) == len(range(0, 512, step)) * 0x1000 + 0x4000_0000
    assert all(a.end <= b.start for a, b in zip(found.blocks[:-1], found.blocks[1:], strict=True))
    assert max(map(len, drawing(words).splitlines())) <= WIDTH


def test_little_gaps_beside_big_ones_part_nothing() -> None:
    """Pages that lie close together are one block where others are far away."""
    words = {ROOT: 0x5001_0003, 0x5001_0000: 0x5002_0003, 0x5001_0018: 0xC000_0000 | NORMAL}
    words |= {0x5002_0000: 0x5003_0003, 0x5002_0000 + 8 * 256: 0x2000_0000 | NORMAL, 0x5002_0000 + 8 * 64: 0x5004_0003}
    words |= {0x5003_0000 + 8 * index: 0x1000 * index | NORMAL | 2 for index in range(0, 512, 8)}
    words[0x5004_0000] = 0x0800_0000 | NORMAL | 2
    assert [(block.start, block.ranges) for block in drawn(words).blocks] == [
        (0, 64), (0x0800_0000, 1), (0x2000_0000, 1), (0xC000_0000, 1)
    ]  # fmt: skip


def test_points_are_found_by_output_address_under_overlapping_ranges() -> None:
    """The second GiB also shows at 3 GiB: the tables are found in it, though another range starts closer."""
    words = {**GIGABYTES, 0x5001_0018: 0x4020_0003, 0x4020_0000: 0x4400_0000 | NORMAL}
    found = drawn(words)
    assert PointKind.TABLE not in {point.kind for point in found.unmapped}


def test_what_is_not_mapped_says_what_follows() -> None:
    text = " ".join(drawing({ROOT: 0}).split())
    assert "PC 0x40080000: a fetch there faults" in text
    assert "vectors 0xc0000000: an exception faults, for ever" in text


def test_what_cannot_be_read_is_not_called_unmapped() -> None:
    """The second of two tables lies in a hole: what is in its 1 GiB is unknown, the PC with it."""
    words = {ROOT: 0x5001_0003, 0x5001_0000: DEVICE | XN, 0x5001_0008: 0x5002_0003, 0x5001_0018: 0xC000_0000 | NORMAL}
    table = scan(STATE, Words(words, frozenset({0x5002_0000 >> 12})), Regime.EL2)
    lines = table_map_text(table, table.ranges, points_of(STATE, table), Style(), ascii_only=True).splitlines()
    assert "                 :      :     2G  not mapped, as far as its tables can be read" in lines
    assert not any(word in line for line in lines for word in ("PC 0x", "tables of its own"))
    nothing = scan(STATE, Words({}, frozenset({ROOT >> 12})), Regime.EL2)
    text = table_map_text(nothing, (), points_of(STATE, nothing), Style())
    assert "  256T  unknown: its tables cannot be read" in text and "0 valid descriptors" not in text


def test_a_table_that_is_not_walked_is_not_drawn() -> None:
    table = scan({**STATE, "TCR_EL2": 0}, Words(GIGABYTES), Regime.EL2)
    assert table_map_text(table, table.ranges, points_of(STATE, table), Style()).splitlines()[0].endswith("not walked")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0x1000, "4K"),
        (1 << 40, "1T"),
        (0x1234_5000, "291M"),
        (0x63F_F000, "99M"),
        (0xFFFF_8000_0000, "255T"),
        (0, "0"),
    ],
)
def test_sizes_are_short(size: int, text: str) -> None:
    assert rounded(size) == text


def test_lines_only_where_the_terminal_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        encoding = "utf-8"

    for locale, expected in (("C.UTF-8", False), ("de_DE.utf8", False), ("C", True), ("de_DE.ISO-8859-1@euro", True)):
        monkeypatch.setenv("LC_ALL", locale)
        assert is_ascii(Terminal()) is expected  # type: ignore[arg-type]
    assert is_ascii(None) is True


def map_of(scenario: str) -> PageMap:
    guest = find_scenarios([scenario])[0].guest
    assert isinstance(guest, RelocationCase)
    situation = at_switch(guest)
    argument = argument_here(situation.before, situation.memory)
    assert argument is not None
    return page_map(view_image(situation.before, situation.memory, argument), COLUMNS, RAM_MAP)


def test_the_page_list_of_2019() -> None:
    found = map_of("A")
    assert [(flow.start, flow.end, flow.runs) for flow in found.flows] == [
        (0x1_8000_0000, 0x1_8000_1000, 1), (0x1_8008_0000, 0x1_800C_0000, 64)
    ]  # fmt: skip
    low, high = found.strips
    lanes = dict(low.lanes)
    assert (low.start, low.cell, set(lanes)) == (0x1_8000_0000, 0x3000, {Lane.DESTINATIONS})
    assert lanes[Lane.DESTINATIONS][0] is Cell.PART and lanes[Lane.DESTINATIONS][-1] is Cell.ALL
    assert {Lane.SOURCES, Lane.LIST, Lane.CODE, Lane.ARGUMENT, Lane.TABLES, Lane.VECTORS} <= set(dict(high.lanes))
    assert found.overlaps == () and found.ram == ((RAM.start, RAM.end),)
    text = page_map_text(found, 4096, Style(), ascii_only=True)
    assert "64 pages in 64 runs    --> 180080000-1800bffff" in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_overlaps_are_marked() -> None:
    found = map_of("K01")
    assert Lane.ARGUMENT in {lane for _, lane in found.overlaps}
    text = page_map_text(found, 4096, Style())
    assert "is a destination, and the argument" in text
    assert any(line.startswith("overlaps") and "!" in line for line in text.splitlines())


def test_the_shell_draws_tables_from_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    files = []
    for start in (ROOT, 0x5001_0000):
        path = tmp_path / f"{start:x}"
        path.write_bytes(Words(GIGABYTES).read(start, 0x1000))
        files.append(f"--memory={path}@{start:#x}")
    known = ("TCR_EL2", "MAIR_EL2", "SCTLR_EL2", "TTBR0_EL2", "HCR_EL2", "PSTATE", "PC", "VBAR_EL2")
    machine = [*files, *(f"--assume={name}={STATE[name]:#x}" for name in known)]
    assert main(["walk", "--map", *machine]) == 0
    drawn = capsys.readouterr().out
    assert "|######|     1G  = PA           rwx  Normal WB  W+X" in drawn and "< PC 0x40080000" in drawn
    assert main(["walk", "--map", "--json", *machine]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["va"] for each in document["ranges"]] == ["0x0", "0x40000000", "0xc0000000"]
    assert main(["walk", *machine]) == 2
    assert "or --map for a picture" in capsys.readouterr().err
