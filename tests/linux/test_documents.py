"""The command lines of README.md and docs/ that need a real kernel: they work, and print what is shown under them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.lab.linux.packages import fetch_kernel, fetch_symbols
from kexecdbg.session.gdb import GdbSession
from tests.documents import LINUX, ROOT, documents, read_blocks
from tests.live.typist import OWN_SYMBOLS, Typist

DOCUMENTS = [path for path in documents() if any(block.directives.get("needs") == LINUX for block in read_blocks(path))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line(document: Path, tmp_path: Path) -> None:
    kernel = fetch_kernel()
    (tmp_path / "Image").symlink_to(kernel.image)
    (tmp_path / OWN_SYMBOLS).symlink_to(fetch_symbols(kernel))
    with GdbSession() as gdb:
        typist = Typist(tmp_path, gdb)
        try:
            problems = [problem for block in read_blocks(document) for problem in typist.type(block, LINUX)]
        finally:
            typist.close()
            for dump in tmp_path.glob("*.core"):
                dump.unlink()
    assert not problems, "\n\n".join(problems)
