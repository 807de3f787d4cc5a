"""``kexec-relocate``: the relocation, driven to its end and verified."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

import gdb

from kexecdbg.errors import UsageError
from kexecdbg.ui.argument_types import positive_seconds
from kexecdbg.ui.style import Style

from .. import last_check
from ..command import Command, add_given_option, evaluate_address, selected_debugger, take_as_read
from ..relocation_progress import progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kexecdbg.checks.relocating.run import Corruption, RelocationRun

    from ..adapter import GdbDebugger

_SECONDS = 600.0


class KexecRelocate(Command):
    """See SUMMARY."""

    NAME = "kexec-relocate"
    SUMMARY = (
        "Run from anywhere before the jump to the relocation code, check the tables before each switch, let it copy, "
        "compare every page with what its source held at the start, and stop at the new kernel's first instruction "
        "with the boot registers checked. Given again, it goes on from where it stopped."
    )

    def __init__(self) -> None:
        super().__init__()
        self._run: RelocationRun | None = None
        self._target: GdbDebugger | None = None
        gdb.events.exited.connect(self._forget)

    def _forget(self, event: gdb.ExitedEvent) -> None:
        self._run = self._target = None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--symbol",
            action="append",
            default=[],
            metavar="NAME=ADDRESS",
            help="where /proc/kallsyms has kernel_kexec, machine_kexec or kexec_image, if GDB has no symbols",
        )
        parser.add_argument("--pages", type=int, metavar="N", help="stop again when N more pages are copied")
        parser.add_argument("--force", action="store_true", help="execute also a switch that the CPU will not survive")
        parser.add_argument(
            "--corrupt",
            metavar="PAGE[+OFFSET]",
            help="invert a byte of page number PAGE (from 0) when all is copied, to see that it is found",
        )
        parser.add_argument(
            "--continue",
            dest="follow",
            action="store_true",
            help="then run on until the new kernel has printed a line (uses QEMU's log)",
        )
        parser.add_argument(
            "--icount", type=int, metavar="SHIFT", help="QEMU runs with -icount shift=SHIFT: count instructions too"
        )
        parser.add_argument(
            "--timeout",
            type=positive_seconds,
            metavar="SECONDS",
            default=_SECONDS,
            help="stop when the next landmark is not reached by then (default: %(default)g)",
        )
        add_given_option(parser)

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.checks.relocating.report import Outcome
        from kexecdbg.ui.relocate_json import relocation_json
        from kexecdbg.ui.relocate_text import relocation_text

        if arguments.pages is not None and arguments.pages < 1:
            raise UsageError(f"--pages {arguments.pages}: give a number of pages, 1 or more")
        given = _given_symbols(arguments.symbol)
        target = selected_debugger()
        take_as_read(target, arguments.assume)
        run = self._current(target, given, arguments.timeout)
        if arguments.corrupt is not None:
            run.corrupt(_corruption(arguments.corrupt))
        report = run.proceed(
            pages=arguments.pages,
            force=arguments.force,
            seconds=arguments.timeout,
            watch=partial(progress, run, target.memory),
        )
        if run.blocking is not None:
            last_check.remember(run.blocking)
        console = None
        if arguments.follow and report.outcome is Outcome.ARRIVED:
            from ..console_watch import run_to_console_line

            console = run_to_console_line(target, arguments.timeout)
            if console.machine_runs:
                report = run.at_console()
        line = console.line if console else None
        text = relocation_text(report, style, arguments.icount, line)
        return relocation_json(report, arguments.icount) | {"console": line}, text

    def _current(self, target: GdbDebugger, given: Mapping[str, int], seconds: float) -> RelocationRun:
        """The relocation that is under way, or a new one from the relocation code's first instruction."""
        from kexecdbg.checks.relocating.run import RelocationRun
        from kexecdbg.checks.relocating.run_to_code import SYMBOLS, run_to_relocation_code

        run = self._run
        if run is not None and self._target is target and (not run.ended or run.end == target.state().get("PC")):
            return run
        symbols = {name: address for name in SYMBOLS if (address := _symbol(name)) is not None}
        found = run_to_relocation_code(target, {**symbols, **given}, seconds)
        self._run, self._target = RelocationRun(target, found), target
        return self._run


def _symbol(name: str) -> int | None:
    """The address of a function or variable; ``None`` when GDB does not know the name."""
    try:
        return evaluate_address(f"&{name}")
    except UsageError:
        return None


def _given_symbols(texts: Sequence[str]) -> dict[str, int]:
    from kexecdbg.checks.relocating.run_to_code import SYMBOLS

    symbols = {}
    for text in texts:
        name, _, address = text.partition("=")
        try:
            symbols[name] = int(address, 16)
        except ValueError:
            raise UsageError(f"--symbol {text}: write it as NAME=ADDRESS, the address hexadecimal") from None
        if not 0 <= symbols[name] < 1 << 64:
            raise UsageError(f"--symbol {text}: an address has 64 bits at most")
        if name not in SYMBOLS:
            raise UsageError(f"--symbol {text}: of use are {', '.join(SYMBOLS)}")
    return symbols


def _corruption(text: str) -> Corruption:
    from kexecdbg.checks.relocating.run import Corruption

    page, plus, offset = text.partition("+")
    try:
        return Corruption(int(page, 0), int(offset, 0) if plus else 0)
    except ValueError:
        raise UsageError(f"--corrupt {text}: write it as PAGE or PAGE+OFFSET, for instance 17+0x123") from None


COMMAND = KexecRelocate
