"""What ``walk-ttbr0``, ``walk-ttbr1`` and ``walk-vttbr`` share: one address, or the whole table with filters."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kexecdbg.errors import UsageError
from kexecdbg.ui.style import Style, hanging, is_ascii

from .command import Command, add_assume_option, evaluate_range

if TYPE_CHECKING:
    from kexecdbg.arm64.ranges import MappedRange, TableScan
    from kexecdbg.checks.address_map import Point

_NOTE_COLUMN = 11


class WalkCommand(Command):
    """Addresses, filters and formats; subclasses walk and scan."""

    ANY_CPU = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "addresses", nargs="*", metavar="ADDR-EXPR", help="addresses ($pc+4); without any, the whole table"
        )
        filters = parser.add_argument_group("filters of the whole table")
        filters.add_argument("--range", metavar="START-END", help="only ranges that touch these input addresses")
        filters.add_argument("--pa", metavar="START-END", help="only ranges that map to these addresses")
        filters.add_argument("--perm", metavar="RWX", help="only these rights: r-x, or ?wx with ? for either")
        filters.add_argument("--el0-perm", metavar="RWX", help="the same for EL0")
        filters.add_argument("--type", metavar="TEXT", help="only this memory type: device, non-cacheable")
        parser.add_argument("--map", action="store_true", help="draw the address space of the whole table")
        parser.add_argument("--format", choices=("text", "ptdump", "json"), default="text", help="of the whole table")
        add_assume_option(parser)

    def select(self, arguments: argparse.Namespace, ranges: Sequence[MappedRange]) -> tuple[MappedRange, ...]:
        """The ranges that the filter options ask for."""
        from kexecdbg.arm64.ranges import select_ranges

        return select_ranges(
            ranges,
            within=None if arguments.range is None else evaluate_range("--range", arguments.range),
            maps=None if arguments.pa is None else evaluate_range("--pa", arguments.pa),
            privileged=_rights("--perm", arguments.perm),
            user=_rights("--el0-perm", arguments.el0_perm),
            memory_type=arguments.type,
        )

    def show_table(
        self, arguments: argparse.Namespace, scan: TableScan, remark: str, style: Style, points: Sequence[Point] = ()
    ) -> tuple[Any, str]:
        """The document and the text of a whole table; ``points`` are for its picture."""
        from kexecdbg.ui.address_map_text import table_map_text
        from kexecdbg.ui.ptdump import ptdump_text
        from kexecdbg.ui.table_json import table_json
        from kexecdbg.ui.table_text import table_text

        ranges = self.select(arguments, scan.ranges)
        document = table_json(scan, ranges) | {"remark": remark or None}
        if arguments.format == "json":
            arguments.json = True
        if arguments.format == "ptdump":
            return document, ptdump_text(scan, ranges)
        if arguments.map:
            text = table_map_text(scan, ranges, points, style, ascii_only=is_ascii(sys.__stdout__))
        else:
            text = table_text(scan, ranges, style)
        return document, f"{text}\n{hanging('note', remark, _NOTE_COLUMN)}" if remark else text


def _rights(option: str, text: str | None) -> str | None:
    if text is None:
        return None
    letters = text.lower()
    if len(letters) != 3 or any(
        letter not in (wanted, "-", "?") for letter, wanted in zip(letters, "rwx", strict=True)
    ):
        raise UsageError(f"{option} {text}: write three letters, for instance r-x, or ?wx with ? for either")
    return letters
