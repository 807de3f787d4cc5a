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
