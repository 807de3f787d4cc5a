"""Every command line of README.md and docs/: it works, and prints what is shown under it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kexecdbg.session.gdb import GdbSession
from tests.documents import ROOT, documents, read_blocks
from tests.live.typist import Typist


@pytest.fixture(scope="module")
def gdb() -> Iterator[GdbSession]:
    with GdbSession() as gdb:
        yield gdb


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line(document: Path, gdb: GdbSession, tmp_path: Path) -> None:
    typist = Typist(tmp_path, gdb)
    try:
        problems = [problem for block in read_blocks(document) for problem in typist.type(block)]
    finally:
        typist.close()
    assert not problems, "\n\n".join(problems)


WRONG = """\
```console
$ kexecdbg checks M99
$ kexecdbg checks M01
M02 ...
(gdb) output 6 * 7
43
(gdb) no-such-command
$ qemu-system-aarch64 -M virt -no-such-option -s -S
```
"""


def test_every_line_that_is_wrong_is_found(gdb: GdbSession, tmp_path: Path) -> None:
    page = tmp_path / "wrong.md"
    page.write_text(WRONG)
    typist = Typist(tmp_path, gdb)
    blocks = read_blocks(page)
    found = [problem.split(":")[1] for block in blocks for problem in typist.type(block)]
    typist.close()
    assert found == ["2", "3", "5", "7", "8"]
