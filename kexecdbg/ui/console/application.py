"""The prompt: lines in, text out, the status bar under it."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.utils import is_dumb_terminal

from kexecdbg.ui.console.blocks import is_complete
from kexecdbg.ui.console.completion import complete
from kexecdbg.ui.console.console import Console
from kexecdbg.ui.console.history import history_path, open_history
from kexecdbg.ui.console.pane_view import PaneView
from kexecdbg.ui.console.panes import PANES, Pane
from kexecdbg.ui.console.watching import watch_machine
from kexecdbg.ui.style import Style

_LOCAL_MODES = 3
"""Index into what tcgetattr() gives (termios(3), c_lflag)."""
_PROMPT, _MORE = "(kexecdbg) ", "> "


def terminal_width() -> int:
    """Columns of the terminal itself: COLUMNS in the environment may be those of another."""
    return os.get_terminal_size(sys.stdout.fileno()).columns


def write(text: str) -> None:
    """Show text at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def color_depth(style: Style) -> ColorDepth | None:
    """Attributes only, where there is to be no colour; else what the terminal has."""
    return None if style.colour else ColorDepth.DEPTH_1_BIT


@contextmanager
def keys_kept() -> Iterator[None]:
    """Keys that are pressed while a command runs go to the next prompt, and do not show in its output; Ctrl-C works."""
    before = termios.tcgetattr(sys.stdin)
    quiet = termios.tcgetattr(sys.stdin)
    quiet[_LOCAL_MODES] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal has been closed
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


class Application:
    """Reads lines for a console until the user leaves."""

    def __init__(self, console: Console) -> None:
        self._console = console
        history, problem = open_history(history_path())
        if problem:
            write(f"{problem}\n")
        self._wanted_pane: Pane | None = None
        self._prompt: PromptSession[str] = PromptSession(
            history=history,
            completer=_ConsoleCompleter(console),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            bottom_toolbar=self._status,
            key_bindings=self._keys(),
            color_depth=color_depth(console.style),
        )

    def run(self) -> None:
        """Until Ctrl-D or ``quit``."""
        while not self._console.has_ended:
            try:
                self._round()
            except KeyboardInterrupt:
                self._console.interrupt()
            except EOFError:
                return

    def _round(self) -> None:
        typed = ""
        while True:
            typed = self._read(_PROMPT, typed)
            pane, self._wanted_pane = self._wanted_pane, None
            if pane is None:
                break
            PaneView(self._console, pane, color_depth(self._console.style)).run()
        lines = [typed]
        while not is_complete(lines):
            lines.append(self._read(_MORE))
        self._console.execute("\n".join(lines))

    def _read(self, prompt: str, default: str = "") -> str:
        if is_dumb_terminal():  # which has no place for a bar
            write(f"{self._console.status()}\n")
        self._prompt.app.erase_when_done = False
        line: str = self._prompt.prompt(prompt, default=default, pre_run=lambda: watch_machine(self._console))
        return line

    def _status(self) -> StyleAndTextTuples:
        return [("", self._console.status())]

    def _keys(self) -> KeyBindings:
        bindings = KeyBindings()

        for pane in PANES:

            def show(event: KeyPressEvent, pane: Pane = pane) -> None:
                self._wanted_pane = pane
                # The line that is being typed comes back with the prompt.
                event.app.erase_when_done = True
                event.app.exit(result=event.current_buffer.text)

            bindings.add(pane.key)(show)

        @bindings.add("c-c", filter=has_focus(DEFAULT_BUFFER))
        def _(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            else:
                event.app.exit(exception=KeyboardInterrupt)

        return bindings


class _ConsoleCompleter(Completer):
    def __init__(self, console: Console) -> None:
        self._console = console

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        for found in complete(document.current_line_before_cursor, self._console.session, self._console.snapshot):
            yield Completion(found.text, -found.replaces, display_meta=found.meaning)
