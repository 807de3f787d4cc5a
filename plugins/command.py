"""What every command of ours shares: arguments, help, completion, and errors that end in one line."""

from __future__ import annotations

import abc
import argparse
import json
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import gdb

from kexecdbg.errors import KexecdbgError, RegisterUnknownError, UsageError
from kexecdbg.session.marks import OUTPUT_MARK
from kexecdbg.ui.style import WIDTH, Style, hanging

from . import cpus, stop_history

# What reads registers, walks and judges is imported by the commands when they run: GDB starts without waiting for it.
if TYPE_CHECKING:
    from kexecdbg.machine.state import CpuState

    from .adapter import GdbDebugger


_REMARK_COLUMN = 13
_TOO_LONG = re.compile(r"0[xX]0*[1-9a-fA-F][0-9a-fA-F]{16,}")
"""A number of more than 64 bits, of which GDB would drop the upper ones."""
_E2H = 34
"""The bit of HCR_EL2."""


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of ending GDB."""

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise UsageError(f"{message}; usage: {usage}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise UsageError(message or "")


class _MarkOutput(gdb.Parameter):
    """Whether kexecdbg commands print both their JSON document and their text, each after an ASCII record separator.

    For programs that drive GDB through GDB/MI: it reports the stops inside a command on the same stream as the
    command's output (GDB mi/mi-interp.c, mi_on_normal_stop), and this tells the two apart. The driver also decides
    about colour, with ``set style enabled``.
    """

    set_doc = "Set whether kexecdbg commands print JSON and text, each after a record separator."
    show_doc = "Show whether kexecdbg commands print JSON and text, each after a record separator."

    def __init__(self) -> None:
        super().__init__("kexecdbg-mark-output", gdb.COMMAND_MAINTENANCE, gdb.PARAM_BOOLEAN)
        self.value = False

    def get_set_string(self) -> str:
        return ""


_mark_output = _MarkOutput()


class Command(abc.ABC, gdb.Command):
    """A GDB command.

    Subclasses set :attr:`NAME` and :attr:`SUMMARY`, add their arguments and implement :meth:`run`, which returns the
    JSON document and the text; which of them is printed is decided here.

    It works on the CPU of the selected thread, or with :attr:`ANY_CPU` on the one of ``--cpu``. Where the machine has
    several, the text's first line and the document's ``cpu`` say which one it was.
    """

    NAME: ClassVar[str]
    SUMMARY: ClassVar[str]
    REPEATS: ClassVar[bool] = False
    ANY_CPU: ClassVar[bool] = False

    def __init__(self) -> None:
        # gdb.Command makes its objects without object.__new__(), which would refuse an abstract class.
        if missing := type(self).__abstractmethods__:
            raise TypeError(f"{type(self).__name__} lacks {', '.join(sorted(missing))}")
        self.parser = _Parser(prog=self.NAME, add_help=False, allow_abbrev=False)
        self.add_arguments(self.parser)
        if self.ANY_CPU:
            self.parser.add_argument("--cpu", type=int, metavar="N", help="of CPU N, not that of the selected thread")
        self.parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
        type(self).__doc__ = f"{textwrap.fill(self.SUMMARY, WIDTH)}\n\n{self.parser.format_help()}"
        super().__init__(self.NAME, gdb.COMMAND_DATA)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""

    @abc.abstractmethod
    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        """Do the work: the JSON document and the text to print."""

    def cpu(self, arguments: argparse.Namespace) -> int | None:
        """The number of the CPU to work on; ``None`` for that of the selected thread."""
        return arguments.cpu if self.ANY_CPU else None

    def name_cpu(self, document: Any, number: int) -> Any:
        """``document`` with the CPU's number in it, in each entry where it is a list."""
        if isinstance(document, list):
            return [self.name_cpu(entry, number) for entry in document]
        return {"cpu": number, **document}

    def add_remarks(self, document: Any, remarks: Sequence[str]) -> Any:
        """``document`` with how memory was read, in each entry where it is a list."""
        if isinstance(document, list):
            return [self.add_remarks(entry, remarks) for entry in document]
        return document | {"remarks": [*document.get("remarks", ()), *remarks]}

    def values(self) -> Sequence[str]:
        """What completion offers besides the options."""
        return ()

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by GDB."""
        if not self.REPEATS:
            self.dont_repeat()
        try:
            words = gdb.string_to_argv(argument)
            if {"-h", "--help"} & set(words):
                gdb.write(f"{self.__doc__}")
                return
            arguments = self.parser.parse_args(words)
            with cpus.on_cpu(self.cpu(arguments)):
                document, text = self._run_here(arguments, _style())
        except KexecdbgError as error:
            raise gdb.GdbError(f"{self.NAME}: {error}") from None
        except gdb.error as error:
            raise gdb.GdbError(f"{self.NAME}: GDB says: {error}") from None
        text = text.rstrip("\n")
        if _mark_output.value:
            gdb.write(f"{OUTPUT_MARK}{json.dumps(document)}{OUTPUT_MARK}{text}\n")
        else:
            gdb.write((json.dumps(document, indent=1) if arguments.json else text) + "\n")

    def _run_here(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        """Run on the CPU that is selected now, and say which one it is if there are several."""
        from . import adapter

        cpu = cpus.selected_of_several()
        remarks: tuple[str, ...] = ()
        try:
            document, text = self.run(arguments, style)
        except KexecdbgError as error:
            more = f"; {adapter.lacking()}" if isinstance(error, RegisterUnknownError) and adapter.lacking() else ""
            raise KexecdbgError(f"{cpu.text}: {error}{more}" if cpu else f"{error}{more}") from None
        finally:
            stop_history.after_command()
            remarks = adapter.end_of_command()
        if remarks:
            document = self.add_remarks(document, remarks)
            text = "\n".join([text, *(hanging("memory", remark, _REMARK_COLUMN) for remark in remarks)])
        if cpu is None or "cpus" in document:
            return document, text
        return self.name_cpu(document, cpu.number), f"{cpu.text}\n{text}"

    def complete(self, text: str, word: str | None) -> list[str]:
        """Called by GDB: completions of the last word, option or value."""
        if word is None:  # GDB only asks how words break (GDB 16; gdb/python/py-cmd.c, cmdpy_completer_helper)
            return []
        # GDB breaks words at characters such as '-'; what it wants back starts where `word` starts.
        typed = text.split()[-1] if text and not text[-1].isspace() else ""
        options = [option for action in self.parser._actions for option in action.option_strings]
        candidates = options if typed.startswith("-") else self.values()
        cut = len(typed) - len(word)
        return [c[cut:] for c in candidates if c.lower().startswith(typed.lower())]


def _style() -> Style:
    on_terminal = sys.__stdout__ is not None and sys.__stdout__.isatty()
    return Style(colour=bool(gdb.parameter("style enabled")) and (on_terminal or bool(_mark_output.value)))


def selected_debugger() -> GdbDebugger:
    """The debugger of the selected CPU; see :func:`plugins.adapter.debugger`."""
    from .adapter import debugger

    return debugger()


def evaluate_address(expression: str) -> int:
    """The value of a GDB expression (``$pc+4``, ``&symbol``, ``0x1b3080000``), unsigned 64 bits.

    Raises:
        UsageError: GDB cannot evaluate it, it has no value, as a misspelt ``$register`` has, or one of more than 64
            bits; the message says why.
    """
    if _TOO_LONG.fullmatch(expression):
        raise UsageError(f"{expression} has more than 64 bits")
    try:
        value = gdb.parse_and_eval(expression)
        if value.type.code == gdb.TYPE_CODE_VOID:
            raise UsageError(f"cannot evaluate {expression!r}: it has no value; is it the name of a register?")
        if value.type.strip_typedefs().code in (gdb.TYPE_CODE_ARRAY, gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
            value = gdb.parse_and_eval(f"&({expression})")
        return int(value.cast(gdb.lookup_type("unsigned long")))
    except gdb.error as error:
        quotes = "" if any(map(str.isalnum, expression)) else "; put an expression that has spaces into quotes"
        raise UsageError(f"cannot evaluate {expression!r}: {error}{quotes}") from None


def evaluate_range(option: str, text: str) -> tuple[int, int]:
    """Start and end (exclusive) of ``START-END``, two GDB expressions, as the value of ``option``.

    Raises:
        UsageError: it is not two expressions, GDB cannot evaluate them, or the range is empty.
    """
    start, dash, end = text.partition("-")
    if not dash:
        raise UsageError(f"{option} {text}: write it as START-END, for instance 0x80000000-0x80200000")
    first, after = evaluate_address(start), evaluate_address(end)
    if after <= first:
        raise UsageError(f"{option} {text}: the end, {after:#x}, has to be after the start, {first:#x}")
    return first, after


def add_assume_option(parser: argparse.ArgumentParser) -> None:
    """``--assume REG=VALUE``, for a state that is not yet, or a register that cannot be read."""
    parser.add_argument(
        "--assume",
        metavar="REG=VALUE",
        action="append",
        default=[],
        help="take this register value instead of the target's, or where it provides none (may be repeated)",
    )


def add_given_option(parser: argparse.ArgumentParser) -> None:
    """``--assume REG=VALUE`` of a command that runs or changes the machine as it is; see :func:`take_as_read`."""
    parser.add_argument(
        "--assume",
        metavar="REG=VALUE",
        action="append",
        default=[],
        help="what the CPU has in a register that the target does not provide (may be repeated)",
    )


def take_as_read(target: GdbDebugger, assumptions: Sequence[str]) -> None:
    """Have ``target`` give the values of such options, until the end of the command.

    Raises:
        UsageError: the target provides the register, or it is about to be written.
    """
    before = target.state()
    assumed = with_assumptions(before, assumptions).assumed
    known = [name for name in assumed if before.get(name) is not None]
    if known:
        raise UsageError(f"--assume {known[0]}: the target provides it, and the machine is taken as it is")
    if assumed:
        raise UsageError(f"--assume {next(iter(assumed))}: with M set there is no switch to come; give its value now")


def with_assumptions(state: CpuState, assumptions: Sequence[str]) -> CpuState:
    """``state``, of the selected debugger, with the values of ``--assume`` options.

    A value for a register that the target does not provide is what the CPU has, and tells how its memory is read; but
    an SCTLR_ELx with M set is one that is about to be written.

    Raises:
        UsageError: an option is not REG=VALUE, or names no register, or asks for VHE of a CPU without.
    """
    from kexecdbg.arm64.features import effective_e2h
    from kexecdbg.arm64.register_names import canonical_name

    values = {}
    for assumption in assumptions:
        name, equals, expression = assumption.partition("=")
        canonical = canonical_name(name)
        if not equals or canonical is None:
            raise UsageError(f"--assume {assumption}: write it as REGISTER=VALUE, for instance HCR_EL2=0x80000000")
        values[canonical] = evaluate_address(expression)
    missing = {name: value for name, value in values.items() if state.get(name) is None}
    selected_debugger().take_as_read(missing)
    ahead = {name for name, value in missing.items() if name.startswith("SCTLR_EL") and value & 1}
    present = {name: value for name, value in missing.items() if name not in ahead}
    assumed = state.with_missing(present).with_values({n: v for n, v in values.items() if n not in present})
    if values.get("HCR_EL2", 0) >> _E2H & 1 and effective_e2h(assumed) is False:
        raise UsageError(
            f"--assume HCR_EL2={values['HCR_EL2']:#x}: this CPU has no VHE, its E2H counts as 0 whatever is written; "
            "for one that has: --assume ID_AA64MMFR1_EL1=0x100"
        )
    return assumed
