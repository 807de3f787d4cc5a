"""The reference pages say what the commands and the catalogue say now."""

from __future__ import annotations

import argparse

import pytest

from kexecdbg.ui.cli import COMMANDS, command_parser
from kexecdbg.ui.reference import Argument, describe, pages
from tests.documents import ROOT

REFERENCE = ROOT / "docs" / "reference"


def test_the_committed_pages_are_up_to_date() -> None:
    committed = {path.name: path.read_text() for path in REFERENCE.glob("*.md")}
    fresh = pages()
    outdated = [name for name in {**committed, **fresh} if committed.get(name) != fresh.get(name)]
    assert outdated == [], "run: python -m kexecdbg.ui.reference docs/reference"


@pytest.mark.parametrize(
    ("names", "options", "argument"),
    [
        (["names"], {"nargs": "*", "metavar": "NAME", "help": "h"}, Argument("NAME", "[NAME...]", "h")),
        (["file"], {"metavar": "FILE", "help": "h"}, Argument("FILE", "FILE", "h")),
        (["--el"], {"type": int, "choices": (1, 2), "help": "h"}, Argument("--el {1,2}", "[--el {1,2}]", "h")),
        (["--all"], {"action": "store_true", "help": "h"}, Argument("--all", "[--all]", "h")),
        (["--gdb"], {"nargs": "?", "metavar": "W", "help": "h"}, Argument("--gdb [W]", "[--gdb [W]]", "h")),
        (["--to"], {"required": True, "help": "h"}, Argument("--to TO", "--to TO", "h")),
        (["-n"], {"default": 3, "help": "by %(default)s"}, Argument("-n N", "[-n N]", "by 3")),
    ],
)
def test_arguments(names: list[str], options: dict[str, object], argument: Argument) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(*names, **options)  # type: ignore[arg-type]
    assert describe("command", "does", parser).arguments == [argument]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_shell_command_is_80_columns_wide(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    parsers = [command_parser(command)]
    for parser in parsers:
        assert [line for line in parser.format_help().splitlines() if len(line) > 80] == []
        subcommands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        parsers += [each for action in subcommands for each in action.choices.values()]
