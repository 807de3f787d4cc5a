"""The progress bar of a relocation, drawn while the machine runs.

How far the copy has got is read from the guest's RAM by another thread; the machine is not stopped for it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kexecdbg.machine.memory import PopulatedMemory

if TYPE_CHECKING:
    from kexecdbg.checks.relocating.run import RelocationRun
    from kexecdbg.machine.memory import WritablePhysicalMemory

_INTERVAL_SECONDS = 0.1


@contextlib.contextmanager
def progress(run: RelocationRun, memory: WritablePhysicalMemory) -> Iterator[None]:
    """Draw the bar inside the context; nothing without a terminal, or where RAM can be read only at a stop."""
    terminal = sys.__stdout__
    if terminal is None or not terminal.isatty() or not isinstance(memory, PopulatedMemory):
        yield
        return
    from kexecdbg.ui.relocate_text import progress_line

    ended = threading.Event()
    started = time.monotonic()

    def draw() -> None:
        while not ended.wait(_INTERVAL_SECONDS):
            copied = run.contents.copied(memory)
            line = progress_line(copied, run.pages, time.monotonic() - started, run.page_size)
            terminal.write(f"\r{line}\x1b[K")
            terminal.flush()

    thread = threading.Thread(target=draw, name="relocation progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        terminal.write("\r\x1b[K")
        terminal.flush()
