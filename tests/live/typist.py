"""Types the command lines of a document: into a shell, and into GDB on a machine that stands for the reader's."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from kexecdbg.errors import KexecdbgError
from kexecdbg.lab.boot import LabMachine, boot
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.scenarios import find_scenarios
from kexecdbg.machine.gdb_remote import GdbRemote
from kexecdbg.qemu import process as qemu
from kexecdbg.resources import data_root
from kexecdbg.session.gdb import GdbSession
from kexecdbg.session.marks import OUTPUT_MARK
from kexecdbg.ui.cli import main
from tests.documents import ROOT, SHELL, Block, CommandLine, prints
from tests.live.frozen import wait_until_at
from tests.live.terminal import Terminal
from tests.traces.corpus import FREEZE, path_of

SECONDS = 120.0
"""A bound for every line, so that one that would hang fails instead."""
OWN_SYMBOLS = "vmlinux"
_OWN_MACHINE = re.compile(r"(?<=--attach )(localhost)?:1234")
INTERRUPTED = "^C"
"""Shown under a line that resumes the machine: the reader's Ctrl-C, once the machine has frozen."""
_STAY = re.compile(r"kexecdbg (lab start|replay|linux .*--gdb)\b")
"""Commands that stay in their terminal and keep a machine, whose address they print."""
_ADDRESS = re.compile(r"target remote (\S+)")
_CONNECT = re.compile(r"(target (?:extended-)?remote) \S+")
_DUMP = re.compile(r"(?<=monitor dump-guest-memory )(?=\w)")
_FOR_THE_SHELL = re.compile(r"[|&;<>$*?`()~]|^\w+=")
_PROGRAM = re.compile(r"^(\.venv/bin/)?kexecdbg ")
_QEMU = "qemu-system-aarch64"
_ITS_FILES = {"-kernel": "Image", "-bios": "firmware.bin"}
_BRANCH_TO_ITSELF = (0x1400_0000).to_bytes(4, "little")
_PROMPT, _END_OF_INPUT = "(kexecdbg)", "\x04"
_MAKE = "#!/bin/sh\ncp source Image\n"
"""Stands for the reader's make, and Image for a kernel."""
_CHECK = "def check_image(): assert open('Image').read() == 'good'\n"


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
        self._own: LabMachine[LabGuest] | None = None
        for name in ("README.md", "docs", "examples", "gdbinit", "plugins", "qemu-scripts", "tests", ".venv"):
            if (ROOT / name).exists() and not (directory / name).exists():
                (directory / name).symlink_to(ROOT / name)

    def type(self, block: Block, present: str | None = None) -> list[str]:
        """Run ``block`` if what it needs is ``present``; what went wrong."""
        directives = block.directives
        if "file" in directives:
            (self._directory / directives["file"]).write_text("\n".join([*block.text, ""]))
        if directives.get("needs") != present:
            return []
        if recording := directives.get("recording"):
            (self._directory / recording).unlink(missing_ok=True)
            (self._directory / recording).symlink_to(path_of(FREEZE))
        if stub := directives.get("stub"):
            self._stay(f"kexecdbg replay {path_of(FREEZE)} --stub {stub}")
        if scenario := directives.get("machine"):
            self._start_own(scenario)
        status = int(directives.get("status", "0"))
        return [problem for line in block.lines if (problem := self._problem(line, status))]

    def close(self) -> None:
        """Leave the machine, and end it."""
        self._gdb.forget_target()
        self._gdb.command("symbol-file")
        self._address = self._own = None
        self._machine.close()

    def _start_own(self, scenario: str) -> None:
        self.close()
        self._own = self._machine.enter_context(boot(find_scenarios([scenario])[0].guest.build()))
        (self._directory / OWN_SYMBOLS).write_bytes(self._own.guest.program.elf)
        self._address = str(self._own.qemu.gdb_socket)

    def _problem(self, line: CommandLine, status: int) -> str | None:
        try:
            got, printed = self._in_shell(line.text) if line.prompt == SHELL else self._in_gdb(line)
        except KexecdbgError as error:
            got, printed = (0, str(error)) if line.printed else (1, str(error))
        if got != (status if line.prompt == SHELL else 0):
            return f"{line.where}: {line.text}: exit status {got}, and it printed:\n{printed}"
        if not prints(line.printed, printed):
            return f"{line.where}: {line.text}: it printed:\n{printed}"
        return None

    def _in_shell(self, text: str) -> tuple[int, str]:
        text = _PROGRAM.sub("kexecdbg ", text)
        if self._address is not None:
            text = _OWN_MACHINE.sub(self._address, text)
        if text.startswith("gdb-multiarch "):
            return self._start_gdb(text)
        if text.startswith(_QEMU):
            return self._start_qemu(text)
        if text.startswith("git bisect "):
            return self._bisect(text)
        if text.startswith("kexecdbg console"):
            return self._in_terminal(text)
        if _STAY.match(text):
            return self._stay(text)
        if text.startswith("kexecdbg ") and not _FOR_THE_SHELL.search(re.sub("'[^']*'", "", text)):
            return self._in_process(shlex.split(text)[1:])
        result = self._bash(text)
        return result.returncode, result.stdout + result.stderr

    def _start_qemu(self, text: str) -> tuple[int, str]:
        """The reader's own QEMU, which has a gdbstub of its own in place of ``-s``: it starts, stopped."""
        words = shlex.split(text)
        for option, name in _ITS_FILES.items():
            if option in words:
                assert words[words.index(option) + 1] == name
                (self._directory / name).write_bytes(_BRANCH_TO_ITSELF)
        words.remove("-s")
        words.remove("-S")  # the gdbstub and the stop are added again: on a private socket
        with (
            contextlib.chdir(self._directory),
            qemu.QemuProcess(qemu.CommandLine((qemu.qemu_program(), *words[1:]))) as process,
            GdbRemote(str(process.gdb_socket)) as remote,
        ):
            return int(not remote.read_core()), process.log()

    def _bisect(self, text: str) -> tuple[int, str]:
        """``git bisect run`` in a repository whose second commit is the bad one, and whose Image takes no time."""
        folder = self._directory / "bisected"
        folder.mkdir()
        (folder / "check.py").write_text(_CHECK)
        (folder / "make").write_text(_MAKE)
        (folder / "make").chmod(0o755)
        commits = "".join(
            f"printf {content} >source && git add source && git commit -qm {content} && "
            for content in ("good", "bad", "worse")
        )
        begin = "git init -q && git config user.name reader && git config user.email reader@localhost && "
        result = self._bash(f"cd bisected && PATH=$PWD:$PATH && {begin}{commits}git bisect start HEAD HEAD~2 && {text}")
        found = re.search(r"is the first bad commit\n(?:.*\n)+\s+bad\n", result.stdout)
        return result.returncode or int(found is None), result.stdout + result.stderr

    def _in_terminal(self, text: str) -> tuple[int, str]:
        """The console: its prompt and its status bar come, and it is left."""
        command = [sys.executable, "-m", *shlex.split(text)]
        environment = {**_WITH_US, "XDG_STATE_HOME": str(self._directory)}
        with Terminal(command, environment, directory=self._directory) as terminal:
            terminal.wait_for(_PROMPT, " CPU 0  EL2  regime EL2  MMU off" if "--" in text else " no machine")
            terminal.press(_END_OF_INPUT)
            return terminal.wait_for_end(), terminal.text

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
        server = subprocess.Popen(
            command, cwd=self._directory, env=_WITH_US, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
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
        if _CONNECT.match(text) and self._address is not None:
            text = _CONNECT.sub(rf"\1 {self._address}", text)
            self._gdb.command(text, SECONDS)
            return 0, ""
        text = _DUMP.sub(f"{self._directory}/", text)  # QEMU writes to the folder that it was started in
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
        """Let the machine run until it is in its vectors.

        Being at the same instruction at two stops would not do: a machine that has not been given a processor is, too.
        """
        assert self._own is not None, "which machine froze is not known"
        self._gdb.resume()
        wait_until_at(self._own, self._own.guest.vectors + 0x200)
        self._gdb.stop()
        return f"{INTERRUPTED}\n"


_WITH_US = {**os.environ, "PYTHONPATH": str(Path(importlib.import_module("kexecdbg").__path__[0]).parent)}


def _end(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=SECONDS)
