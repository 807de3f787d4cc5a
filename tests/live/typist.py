"""Types the command lines of a document: into a shell, and into GDB on a machine that stands for the reader's."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from kexecdbg.errors import TargetError
from kexecdbg.lab.boot import boot
from kexecdbg.lab.scenarios import find_scenarios
from kexecdbg.qemu.process import qemu_program
from kexecdbg.resources import data_root
from kexecdbg.session.gdb import GdbSession
from kexecdbg.session.marks import OUTPUT_MARK
from kexecdbg.ui.cli import COMMANDS, command_parser, main
from tests.documents import ROOT, SHELL, Block, CommandLine, prints

SECONDS = 120.0
"""A bound for every line, so that one that would hang fails instead."""
OWN_MACHINE, OWN_SYMBOLS = ":1234", "vmlinux"
INTERRUPTED = "^C"
"""Shown under a line that resumes the machine: the reader's Ctrl-C, once the machine has frozen."""
_STAY = re.compile(r"kexecdbg (lab start|replay|linux .*--gdb)\b")
"""Commands that stay in their terminal and keep a machine, whose address they print."""
_ADDRESS = re.compile(r"target remote (\S+)")
_FOR_THE_SHELL = re.compile(r"[|&;<>$*?`()~]|^\w+=")
_PROGRAM = re.compile(r"^(\.venv/bin/)?kexecdbg ")
_OPERATORS = {"|", "||", "&&", "&", ";", ">", ">>", "<"}
_QEMU = "qemu-system-aarch64"
_OURS = ("kexec-", "walk-")
"""How the names of our GDB commands begin."""


class Typist:
    """Types into one shell folder and one GDB, document by document.

    Args:
        directory: the folder to work in; what lies in a clone is made to lie there.
        gdb: with the commands; not connected.
    """

    def __init__(self, directory: Path, gdb: GdbSession) -> None:
        self._directory = directory
        self._gdb = gdb
        self._machine = ExitStack()
        self._address: str | None = None
        for name in ("README.md", "docs", "examples", "gdbinit", "plugins", "qemu-scripts", "tests", ".venv"):
            if (ROOT / name).exists() and not (directory / name).exists():
                (directory / name).symlink_to(ROOT / name)

    def type(self, block: Block, present: str = "") -> list[str]:
        """Run ``block``, or only read its arguments where it needs what is not ``present``; what went wrong."""
        if "file" in block.directives:
            (self._directory / block.directives["file"]).write_text("\n".join([*block.text, ""]))
        if "needs" in block.directives and block.directives["needs"] != present:
            return [problem for line in block.lines if (problem := self._arguments_problem(line))]
        if scenario := block.directives.get("machine"):
            self._start_own(scenario)
        status = int(block.directives.get("status", "0"))
        return [problem for line in block.lines if (problem := self._problem(line, status))]

    def close(self) -> None:
        """Leave the machine, and end it."""
        self._gdb.forget_target()
        self._gdb.command("symbol-file")
        self._address = None
        self._machine.close()

    def _start_own(self, scenario: str) -> None:
        self.close()
        machine = self._machine.enter_context(boot(find_scenarios([scenario])[0].guest.build()))
        (self._directory / OWN_SYMBOLS).write_bytes(machine.guest.program.elf)
        self._address = str(machine.qemu.gdb_socket)

    def _problem(self, line: CommandLine, status: int) -> str | None:
        try:
            got, printed = self._in_shell(line.text) if line.prompt == SHELL else self._in_gdb(line)
        except TargetError as error:
            got, printed = (0, str(error)) if line.printed else (1, str(error))
        if got != (status if line.prompt == SHELL else 0):
            return f"{line.where}: {line.text}: exit status {got}, and it printed:\n{printed}"
        if not prints(line.printed, printed):
            return f"{line.where}: {line.text}: it printed:\n{printed}"
        return None

    def _in_shell(self, text: str) -> tuple[int, str]:
        text = _PROGRAM.sub("kexecdbg ", text)
        if self._address is not None:
            text = text.replace(f"--attach {OWN_MACHINE}", f"--attach {self._address}")
        if text.startswith("gdb-multiarch "):
            return self._start_gdb(text)
        if text.startswith(_QEMU):
            return _unknown_qemu_options(text)
        if _STAY.match(text):
            return self._stay(text)
        if text.startswith("kexecdbg ") and not _FOR_THE_SHELL.search(re.sub("'[^']*'", "", text)):
            return self._in_process(shlex.split(text)[1:])
        result = self._bash(text)
        return result.returncode, result.stdout + result.stderr

    def _bash(self, text: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", text],
            cwd=self._directory,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def _in_process(self, arguments: list[str]) -> tuple[int, str]:
        """The shell command without the time that a Python takes to start."""
        printed = io.StringIO()
        with (
            contextlib.chdir(self._directory),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            try:
                status = main(arguments)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
        return status, printed.getvalue()

    def _stay(self, text: str) -> tuple[int, str]:
        """Start a command that keeps a machine; what it prints until it has said where the machine is."""
        self.close()
        command = [sys.executable, "-m", *shlex.split(text)]
        server = subprocess.Popen(command, cwd=self._directory, env=_WITH_US, stdout=subprocess.PIPE, text=True)
        self._machine.callback(_end, server)
        assert server.stdout is not None
        printed = ""
        for line in server.stdout:
            printed += line
            if address := _ADDRESS.search(line):
                self._address = address[1]
                return 0, printed
        return server.wait(), printed

    def _start_gdb(self, text: str) -> tuple[int, str]:
        """GDB is there already: it has to be the right file that it is told to read."""
        words = self._bash(f"printf '%s\\n' {text.removeprefix('gdb-multiarch ')}").stdout.splitlines()
        option, commands, *symbols = words
        if option != "-x" or (self._directory / commands).resolve() != (data_root() / "gdbinit").resolve():
            return 2, f"does not load {data_root() / 'gdbinit'}"
        for name in symbols:
            self._gdb.command(f"symbol-file {self._directory / name}")
        return 0, ""

    def _in_gdb(self, line: CommandLine) -> tuple[int, str]:
        text = line.text
        if text.startswith("target remote ") and self._address is not None:
            self._gdb.connect(self._address, SECONDS)
            return 0, ""
        if line.printed[:1] == [INTERRUPTED]:
            return 0, self._until_frozen()
        with contextlib.chdir(self._directory):
            self._gdb.command(f"cd {self._directory}")
        printed = self._gdb.command(text, SECONDS)
        if OUTPUT_MARK not in printed:
            return 0, printed
        _, document, shown = printed.split(OUTPUT_MARK)
        return 0, document if "--json" in text else shown

    def _until_frozen(self) -> str:
        """Let the machine run until it is at the same instruction twice."""
        before = None
        while before != (here := self._gdb.command("output/x $pc")):
            before = here
            self._gdb.resume()
            self._gdb.stop()
        return f"{INTERRUPTED}\n"

    def _arguments_problem(self, line: CommandLine) -> str | None:
        """What the command's own parser does not understand."""
        if line.prompt != SHELL:
            return self._gdb_arguments_problem(line)
        words = shlex.split(_PROGRAM.sub("kexecdbg ", line.text), comments=True)
        program, *arguments = itertools.takewhile(lambda word: word not in _OPERATORS, words)
        if program == _QEMU and (unknown := _unknown_qemu_options(line.text)[1]):
            return f"{line.where}: {line.text}: {unknown}"
        if program != "kexecdbg" or arguments[:1] == ["--help"]:
            return None
        if arguments[0] not in COMMANDS:
            return f"{line.where}: {line.text}: there is no such command"
        complaint = io.StringIO()
        with contextlib.redirect_stderr(complaint):
            try:
                command_parser(arguments[0]).parse_intermixed_args(arguments[1:])
            except SystemExit:
                return f"{line.where}: {line.text}: {complaint.getvalue()}"
        return None

    def _gdb_arguments_problem(self, line: CommandLine) -> str | None:
        name, *arguments = line.text.split()
        module = name.replace("-", "_")
        if not name.startswith(_OURS):
            return None
        if not (ROOT / "plugins" / "commands" / f"{module}.py").exists():
            return f"{line.where}: {line.text}: there is no such command"
        self._gdb.command(f"python from kexecdbg_plugins.commands.{module} import COMMAND")
        try:
            self._gdb.command(f"python COMMAND().parser.parse_args({arguments!r})")
        except TargetError as error:
            return f"{line.where}: {line.text}: {error}"
        return None


_WITH_US = {**os.environ, "PYTHONPATH": str(Path(importlib.import_module("kexecdbg").__path__[0]).parent)}


def _end(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=SECONDS)


def _unknown_qemu_options(text: str) -> tuple[int, str]:
    """The options of the reader's own QEMU have to be QEMU's."""
    known = subprocess.run([qemu_program(), "-help"], capture_output=True, text=True, timeout=SECONDS).stdout
    options = [word for word in shlex.split(text) if word.startswith("-")]
    unknown = [option for option in options if not re.search(rf"^{re.escape(option)}\b", known, re.MULTILINE)]
    return len(unknown), f"QEMU has no {', '.join(unknown)}" if unknown else ""
