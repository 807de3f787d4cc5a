"""Shows what the machine does by itself while a key is waited for: it runs, and stops at a breakpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prompt_toolkit.application import get_app, run_in_terminal

from kexecdbg.ui.console.console import Console


def watch_machine(console: Console, shown: Callable[[], None] = lambda: None) -> None:
    """From now on, until the application that runs ends, show what comes; ``shown`` is called after each time.

    To be called in the application's event loop (``pre_run``), which ends with it.
    """
    session = console.session
    if session is None:
        return
    loop, descriptor = asyncio.get_running_loop(), session.output_descriptor

    def show() -> None:
        console.show_stop()
        shown()

    def take() -> None:
        if not console.take_unasked_output():
            return
        if session.gdb_has_ended:
            loop.remove_reader(descriptor)  # at its end it can be read for ever
        run_in_terminal(show)
        get_app().invalidate()

    loop.add_reader(descriptor, take)
