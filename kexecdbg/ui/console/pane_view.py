"""The full-screen view: one pane at a time, or all of them side by side where the terminal is wide enough."""

from __future__ import annotations

from prompt_toolkit import Application
from prompt_toolkit.formatted_text import ANSI, StyleAndTextTuples, to_formatted_text
from prompt_toolkit.formatted_text.utils import split_lines
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import DynamicContainer, FormattedTextControl, HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.containers import AnyContainer
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.output import ColorDepth

from kexecdbg.errors import KexecdbgError
from kexecdbg.ui.console.console import Console
from kexecdbg.ui.console.panes import PANES, SIDE_BY_SIDE_COLUMNS, Pane, tab_line
from kexecdbg.ui.console.watching import watch_machine
from kexecdbg.ui.style import WIDTH

_KEYS = "s step  up/down PgUp/PgDn scroll  q back"
_PAGE = 10
_COLUMNS = ((2, 0), (1, 3))
"""Indices of the panes on the left, from the top, and on the right, whose text is as wide as a line of ours."""


class PaneView:
    """Shows panes of a console until the user goes back to the prompt."""

    def __init__(self, console: Console, shown: Pane, depth: ColorDepth | None) -> None:
        self._console = console
        self._shown = shown
        self._first_line = 0
        self._problem = ""
        self._texts: dict[str, list[StyleAndTextTuples]] = {}
        self._application: Application[None] = Application(
            layout=Layout(self._layout()), key_bindings=self._keys(), full_screen=True, color_depth=depth
        )

    def run(self) -> None:
        """Show it."""
        self._application.run(pre_run=lambda: watch_machine(self._console, self._texts.clear))

    @property
    def _is_wide(self) -> bool:
        return self._console.width() >= SIDE_BY_SIDE_COLUMNS

    def _layout(self) -> AnyContainer:
        narrow = self._window(None)
        right_width = Dimension(preferred=WIDTH, min=WIDTH)
        left, right = (HSplit([part for index in column for part in self._titled(PANES[index])]) for column in _COLUMNS)
        right.width = right_width
        wide = VSplit([left, Window(char="|", width=1), right])
        return HSplit(
            [
                Window(FormattedTextControl(lambda: [("bold", tab_line(self._visible))]), height=1),
                DynamicContainer(lambda: wide if self._is_wide else narrow),
                Window(FormattedTextControl(lambda: [("", self._problem or _KEYS)]), height=1),
                Window(
                    FormattedTextControl(lambda: [("", self._console.status())]), height=1, style="class:bottom-toolbar"
                ),
            ]
        )

    @property
    def _visible(self) -> Pane | None:
        return None if self._is_wide else self._shown

    def _titled(self, pane: Pane) -> list[AnyContainer]:
        title = Window(FormattedTextControl(lambda: self._title(pane)), height=1, char="-")
        return [title, self._window(pane)]

    def _title(self, pane: Pane) -> StyleAndTextTuples:
        return [("bold", f"{'>' if pane is self._shown else '-'} {pane.title} ")]

    def _window(self, pane: Pane | None) -> Window:
        """A window on ``pane``, or on the one that is shown."""
        return Window(FormattedTextControl(lambda: self._lines(pane or self._shown)), wrap_lines=True)

    def _lines(self, pane: Pane) -> StyleAndTextTuples:
        if pane.key not in self._texts:
            try:
                text = pane.text(self._console)
            except KexecdbgError as error:
                text = str(error)
            self._texts[pane.key] = list(split_lines(to_formatted_text(ANSI(text))))
        lines = self._texts[pane.key]
        first = min(self._first_line, len(lines) - 1) if pane is self._shown else 0
        shown: StyleAndTextTuples = []
        for line in lines[first:]:
            shown += [*line, ("", "\n")]
        return shown

    def _keys(self) -> KeyBindings:
        bindings = KeyBindings()

        for pane in PANES:

            def show(event: KeyPressEvent, pane: Pane = pane) -> None:
                if pane is self._shown and not self._is_wide:
                    event.app.exit()
                self._shown, self._first_line = pane, 0

            bindings.add(pane.key)(show)

        for key, lines in (("up", -1), ("down", 1), ("pageup", -_PAGE), ("pagedown", _PAGE), ("k", -1), ("j", 1)):

            def scroll(event: KeyPressEvent, lines: int = lines) -> None:
                last = len(self._texts.get(self._shown.key, [])) - 1
                self._first_line = max(0, min(self._first_line + lines, last))

            bindings.add(key)(scroll)

        @bindings.add("s")
        def _(event: KeyPressEvent) -> None:
            self._problem = ""
            try:
                self._console.step()
            except KexecdbgError as error:
                self._problem = str(error)
            self._texts.clear()

        @bindings.add("q")
        @bindings.add("escape", eager=True)
        @bindings.add("c-c")
        @bindings.add("c-d")
        def _(event: KeyPressEvent) -> None:
            event.app.exit()

        return bindings
