"""The command lines in README.md and docs/, and what they are said to print.

A ``console`` block has lines for the shell (``$ ``) and for GDB (``(gdb) ``), each followed by what it prints, or by
nothing where that is not shown. ``...`` on a line of its own stands for any lines, within a line for any text. Comments
in front of a block say what it takes to run it:

``<!-- machine: A -->``
    a machine of the lab that is ``:1234`` in this block and the next ones, and its symbols ``vmlinux``; it stands for
    the reader's own.
``<!-- stub: openocd -->``
    a recording of the freeze, served as that gdbstub would, is ``:3333`` in this block; it stands for a board.
``<!-- recording: freeze.kxt -->``
    a recording of the freeze lies in this file.
``<!-- status: 1 -->``
    the exit status of the block's shell lines; 0 when it is not said.
``<!-- file: oops.txt -->``
    not a block to run (it need not be a ``console`` block), but the text of this file for the blocks that follow.
``<!-- needs: linux -->``
    a real kernel: run by tests/linux.
``<!-- needs: set-up -->``
    not run: the lines are those of NOT_TYPED.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHELL, GDB = "$ ", "(gdb) "
ELIDED = "..."
_GENERATED = "reference"
NOT_TYPED = {
    "qemu-scripts/demo": "tests/live/test_demo.py types it, and compares README.md with what it prints",
    "tests/run": "it runs what would type it",
}
"""The command lines that are not typed with the others, and why."""
LINUX, SET_UP = "linux", "set-up"
"""What blocks need."""
_DIRECTIVE = re.compile(r"<!-- (machine|stub|recording|status|file|needs): (.*?) -->")
_FENCE = re.compile(r"```(\w*)$")


@dataclass
class CommandLine:
    """One line to type.

    Attributes:
        prompt: SHELL or GDB.
        text: what is typed.
        where: file and line, for messages.
        printed: the lines that the document shows under it.
    """

    prompt: str
    text: str
    where: str
    printed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Block:
    """A fenced block that has a part in the run of its document.

    Attributes:
        directives: what the comments in front of it say.
        text: the lines between its fences.
        lines: the commands in it, of a console block that is not a file.
    """

    directives: Mapping[str, str]
    text: Sequence[str]
    lines: Sequence[CommandLine]


def documents() -> list[Path]:
    """README.md and what is written by hand in docs/."""
    return [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if _GENERATED not in path.parts)]


def read_blocks(path: Path) -> list[Block]:
    """The console blocks and the files of a document, in order."""
    return list(_blocks(path.read_text().splitlines(), path.name))


def _blocks(lines: Sequence[str], name: str) -> Iterator[Block]:
    before: list[str] = []
    numbered = iter(enumerate(lines, 1))
    for _, line in numbered:
        fence = _FENCE.match(line)
        if fence is None:
            before = [] if line.strip() and not _in_comment(before, line) else [*before, line]
            continue
        inside: list[tuple[int, str]] = []
        for number, text in numbered:
            if text == "```":
                break
            inside.append((number, text))
        directives = dict(_DIRECTIVE.findall("\n".join(before)))
        before = []
        if "file" in directives or fence[1] == "console":
            commands = [] if "file" in directives else list(_commands(inside, name))
            yield Block(directives, [text for _, text in inside], commands)


def _in_comment(before: Sequence[str], line: str) -> bool:
    return line.startswith("<!--") or ("\n".join(before).count("<!--") > "\n".join(before).count("-->"))


def _commands(numbered: Sequence[tuple[int, str]], name: str) -> Iterator[CommandLine]:
    command: CommandLine | None = None
    for number, line in numbered:
        prompt = next((prompt for prompt in (SHELL, GDB) if line.startswith(prompt)), None)
        if prompt is None:
            assert command is not None, f"{name}:{number}: output without a command"
            if command.text.endswith("\\"):
                command.text = f"{command.text[:-1].rstrip()} {line.strip()}"
            else:
                command.printed.append(line)
            continue
        if command is not None:
            yield command
        command = CommandLine(prompt, line[len(prompt) :], f"{name}:{number}")
    if command is not None:
        yield command


def prints(shown: Sequence[str], printed: str) -> bool:
    """Whether ``printed`` is what a document shows; anything is when it shows nothing."""
    wanted = "\n".join(shown).rstrip()
    got = "\n".join(line.rstrip() for line in printed.splitlines()).strip("\n")
    return not wanted or re.fullmatch(_pattern(wanted.splitlines()), f"{got}\n") is not None


def _pattern(lines: Sequence[str]) -> str:
    return "".join(
        r"(?:.*\n)*?" if line.strip() == ELIDED else ".*?".join(map(re.escape, line.rstrip().split(ELIDED))) + r"\n"
        for line in lines
    )
