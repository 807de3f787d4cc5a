"""What tests/documents.py takes for a command line, and for what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import GDB, LINUX, NOT_TYPED, SET_UP, SHELL, documents, prints, read_blocks

PAGE = """\
Text.

<!-- machine: A -->
<!-- needs: linux -->

```console
$ kexecdbg check \\
    --attach :1234
FAULTS
(gdb) stepi
```

```c
int no_command;
```

```console
$ true
```

<!-- file: oops.txt -->
```text
$ not a command
```
"""


def test_blocks_with_their_directives(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    first, second, file = read_blocks(path)
    assert first.directives == {"machine": "A", "needs": "linux"}
    assert [(line.prompt, line.text, line.printed) for line in first.lines] == [
        (SHELL, "kexecdbg check --attach :1234", ["FAULTS"]),
        (GDB, "stepi", []),
    ]
    assert (second.directives, second.lines[0].text, second.lines[0].where) == ({}, "true", "page.md:18")
    assert (file.directives["file"], file.text, file.lines) == ("oops.txt", ["$ not a command"], [])


@pytest.mark.parametrize(
    ("shown", "printed", "fits"),
    [
        ([], "anything", True),
        (["a"], "a\n", True),
        (["a"], "a\nb\n", False),
        (["a", "..."], "a\nb\nc\n", True),
        (["...", "c"], "a\nb\nc\n", True),
        (["..."], "", True),
        (["took ... s"], "took 3.1 s\n", True),
        (["took ... s"], "took 3.1 min\n", False),
        (["a", "...", "d"], "a\nb\nc\n", False),
    ],
)
def test_what_is_shown_and_what_is_printed(shown: list[str], printed: str, fits: bool) -> None:
    assert prints(shown, printed) is fits


def test_the_documents_are_found() -> None:
    names = [path.name for path in documents()]
    assert {"README.md", "sessions.md", "explanation.md"} <= set(names)


def test_every_prompt_is_in_a_block_that_is_run() -> None:
    for path in documents():
        known = sum(line.lstrip().startswith((SHELL, GDB)) for block in read_blocks(path) for line in block.text)
        prompts = [line for line in path.read_text().splitlines() if line.lstrip().startswith((SHELL, GDB))]
        assert len(prompts) == known, f"{path.name} has prompts outside of console blocks"


def test_all_lines_are_typed_but_for_those_that_cannot_be() -> None:
    blocks = [block for path in documents() for block in read_blocks(path)]
    assert {block.directives["needs"] for block in blocks if "needs" in block.directives} == {LINUX, SET_UP}
    not_typed = [line for block in blocks if block.directives.get("needs") == SET_UP for line in block.lines]
    assert {line.text.split("#")[0].strip() for line in not_typed if line.prompt == SHELL} == set(NOT_TYPED)


def test_every_link_to_a_file_leads_to_one() -> None:
    for path in documents():
        links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
        broken = [link for link in links if not (path.parent / link).exists()]
        assert broken == [], path.name
