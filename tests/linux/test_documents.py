"""The command lines of README.md and docs/ that need a real kernel: they work, and print what is shown under them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.session.gdb import GdbSession
from tests.documents import ROOT, Block, documents, read_blocks
from tests.live.typist import Typist

NEEDS = "linux"


def _asks(block: Block) -> bool:
    return block.directives.get("needs") == NEEDS


DOCUMENTS = [path for path in documents() if any(map(_asks, read_blocks(path)))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line(document: Path, tmp_path: Path) -> None:
    with GdbSession() as gdb:
        typist = Typist(tmp_path, gdb)
        try:
            problems = [
                problem for block in read_blocks(document) if _asks(block) for problem in typist.type(block, NEEDS)
            ]
        finally:
            typist.close()
    assert not problems, "\n\n".join(problems)
