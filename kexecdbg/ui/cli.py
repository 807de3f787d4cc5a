"""The shell command ``kexecdbg``.

Exit status: 0 sound, 1 a finding that would fault, 2 usage or environment.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType, ModuleType

from kexecdbg import __version__
from kexecdbg.errors import KexecdbgError

EXIT_SOUND, EXIT_FAULTS, EXIT_PROBLEM = 0, 1, 2

COMMANDS = {
    "demo": "see the freeze of 2019 happen in QEMU, explained and repaired",
    "decode": "decode register values given on the command line or pasted as text",
    "check": "the verdict before the MMU is switched on: live, or from files",
    "checks": "list and explain what kexec-check knows can go wrong",
    "why": "why a CPU at a gdbstub is stuck, after the fact",
    "image": "show and audit the image that kexec has loaded, in a memory dump",
    "walk": "walk the translation tables of a live machine, or of files",
    "regs": "control registers of a live machine, or of files, field by field",
    "record": "record what a CPU executes into a trace file",
    "trace": "list, search and compare recorded runs",
    "replay": "serve a recorded run to GDB: forwards and backwards, without QEMU",
    "report": "write one HTML file that shows a switch to somebody else",
    "run": "run scripts of checks, for CI: text, KTAP, JUnit, JSON",
    "console": "a prompt over a machine: status bar, completion, panes",
    "lab": "built-in scenarios: predicted against observed, or kept for GDB",
    "linux": "boot a real kernel and have it kexec a second one",
    "doctor": "check that every part that is needed is there and works",
    "gdbinit": "print the path of the file to source in GDB",
}
"""Shell commands and what they do; a command is imported only when it is used, for a fast start."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and return the exit status."""
    signal.signal(signal.SIGTERM, _raise_exit)
    signal.signal(signal.SIGHUP, _raise_exit)
    # numpy's OpenBLAS starts a thread a processor, which multiply no matrix here and cost 30 ms at each start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _prepare_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()  # what cannot be written is found out here, not when Python ends
        return status
    except KexecdbgError as error:
        print(f"kexecdbg: {error}", file=sys.stderr)
        return EXIT_PROBLEM
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "kexecdbg"):
            raise
        advice = "in a clone remove .venv and run qemu-scripts/setup; kexecdbg doctor says what else is missing"
        print(f"kexecdbg: {sys.executable} has no Python module {error.name!r}; {advice}", file=sys.stderr)
        return EXIT_PROBLEM
    except KeyboardInterrupt:
        print("kexecdbg: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader (head, less) went away; what it did not read is not missed.
        _drop_output()
        return EXIT_PROBLEM
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        print("kexecdbg: the output could not be written: no space is left; write it elsewhere", file=sys.stderr)
        return EXIT_PROBLEM


def _prepare_streams() -> None:
    """Give standard streams that were closed (``>&-``) somewhere to go, and let no character fail to be printed."""
    # In this order: os.open takes the lowest free descriptor, so that nothing started later gets 0, 1 or 2 for its own.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode))
    # Names from files and pasted text need not exist in the locale's encoding.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Send what standard output still holds nowhere, so that Python's end does not try to write it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    parser = _parser()
    if not arguments:
        parser.print_help()
        return EXIT_PROBLEM
    name = arguments[0]
    if name not in COMMANDS:
        parser.parse_args(arguments)  # --help, --version, or an unknown command: argparse ends here
        return EXIT_PROBLEM
    status: int = _module(name).run(command_parser(name).parse_intermixed_args(arguments[1:]))
    return status


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of the arguments of ``kexecdbg NAME``."""
    module = _module(name)
    command = argparse.ArgumentParser(prog=f"kexecdbg {name}", description=module.SUMMARY)
    module.add_arguments(command)
    return command


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"kexecdbg.ui.commands.{'gdb_init' if name == 'gdbinit' else name}")


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="kexecdbg",
        description="Says why an arm64 machine freezes when its MMU is switched on.",
        epilog=f"commands:\n{listing}\n\nEach has --help. In GDB: source the file that `kexecdbg gdbinit` prints.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="kexecdbg COMMAND [ARGUMENT...]",
    )
    parser.add_argument("--version", action=_ShowVersion, help="show this package's version, and what it runs on")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    return parser


class _ShowVersion(argparse.Action):
    """The version on the first line, what it runs on on the second; ``kexecdbg doctor`` has QEMU's and GDB's."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        from importlib.metadata import PackageNotFoundError, version
        from platform import python_version

        parts = [f"Python {python_version()}"]
        for package in ("capstone", "numpy", "pyelftools", "pygdbmi"):
            try:
                parts.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                parts.append(f"{package} missing")
        print(f"kexecdbg {__version__}\n{', '.join(parts)}")
        parser.exit()


def _raise_exit(number: int, frame: FrameType | None) -> None:
    # As an exception, so that contexts end what they started.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
