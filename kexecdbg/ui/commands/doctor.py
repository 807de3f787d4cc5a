"""``kexecdbg doctor``: is everything that is needed there, and does it work?"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from kexecdbg.errors import KexecdbgError
from kexecdbg.ui.style import Style, hanging, style_for

# What each part needs is imported where it is examined: a package that is missing is what is to be reported.

SUMMARY = (
    "Check every part that kexecdbg needs, by using it: it starts GDB, assembles the lab guest and runs it in QEMU."
)

_PACKAGES = {
    "capstone": "capstone",
    "jinja2": "jinja2",
    "junitparser": "junitparser",
    "numpy": "numpy",
    "pyelftools": "elftools",
    "pygdbmi": "pygdbmi",
    "prompt_toolkit": "prompt_toolkit",
    "qemu.qmp": "qemu.qmp",
    "zstandard": "zstandard",
}
_COLUMN = 29


@dataclass(frozen=True)
class Result:
    """One part: whether it works, its version, and what is wrong or what was seen."""

    part: str
    works: bool
    version: str
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when everything works, else 2."""
    style = style_for(sys.stdout)
    results = []
    for result in _examine():
        results.append(result)
        if not arguments.json:
            print(_line(result, style), flush=True)
    if arguments.json:
        print(json.dumps({"parts": [asdict(result) for result in results]}, indent=1))
    failed = sum(not result.works for result in results)
    if not arguments.json:
        count = f"{failed} of {len(results)} parts do not work: see FAILED above"
        print(style.bad(count) if failed else style.good("everything works"))
    return 2 if failed else 0


def _examine() -> Iterator[Result]:
    yield Result("Python", True, platform.python_version(), sys.executable)
    yield from (_package(name, module) for name, module in _PACKAGES.items())
    yield _attempt("cross binutils", _binutils)
    yield _attempt("GDB", _gdb)
    yield _attempt("GDB's Python", _gdb_python)
    yield _attempt("GDB commands", _gdb_commands)
    yield _attempt("QEMU", _qemu)
    yield _attempt("QEMU and GDB together", _together)


def _attempt(part: str, examine: Callable[[], tuple[str, str]]) -> Result:
    try:
        version, detail = examine()
    except (KexecdbgError, ImportError) as error:
        return Result(part, False, "", str(error))
    return Result(part, True, version, detail)


def _package(name: str, module: str) -> Result:
    try:
        importlib.import_module(module)
    except ImportError as error:
        return Result(name, False, "", f"{error}; remove .venv and run qemu-scripts/setup")
    return Result(name, True, importlib.metadata.version(name), "imports")


def _binutils() -> tuple[str, str]:
    from kexecdbg.lab.guest import binutils_version, build_program
    from kexecdbg.lab.new_kernel import NEW_KERNEL

    program = build_program("new_kernel", {"new_kernel_address": NEW_KERNEL})
    return binutils_version(), f"assemble and link the lab guest ({sum(map(len, program.segments.values()))} bytes)"


def _gdb() -> tuple[str, str]:
    from kexecdbg.session.gdb import GdbSession, gdb_program

    with GdbSession(load_commands=False) as gdb:
        match = re.search(r"GNU gdb .*?(\d+(?:\.\d+)+)", gdb.command("show version"))
    return match.group(1) if match else "", gdb_program()


def _gdb_python() -> tuple[str, str]:
    from kexecdbg.session.gdb import GdbSession

    with GdbSession(load_commands=False) as gdb:
        embedded = gdb.command("python import sys; print('%d.%d.%d' % sys.version_info[:3])").strip()
    ours = platform.python_version()
    if embedded.rpartition(".")[0] != ours.rpartition(".")[0]:
        raise KexecdbgError(
            f"GDB embeds Python {embedded}, but kexecdbg is installed for {ours}; "
            "remove .venv and run qemu-scripts/setup, which makes it with GDB's version"
        )
    return embedded, f"the same major and minor version as ours, {ours}"


def _gdb_commands() -> tuple[str, str]:
    from kexecdbg.session.gdb import GdbSession

    with GdbSession() as gdb:
        known = [name for name in ("kexec-check", "kexec-regs", "walk-ttbr0") if gdb.command(f"help {name}")]
    return "", f"{', '.join(known)}, ... load"


def _qemu() -> tuple[str, str]:
    from kexecdbg.qemu.process import MachineOptions, QemuProcess

    with QemuProcess(MachineOptions(ram_mib=64)) as qemu:
        version = qemu.command("query-version")["qemu"]
    return f"{version['major']}.{version['minor']}.{version['micro']}", "starts and answers on its monitor"


def _together() -> tuple[str, str]:
    from kexecdbg.lab.boot import boot
    from kexecdbg.lab.scenarios import find_scenarios
    from kexecdbg.session.gdb import GdbSession

    (scenario,) = find_scenarios(["B"])
    with boot(scenario.guest.build()) as machine, GdbSession() as gdb:
        gdb.connect(str(machine.qemu.gdb_socket))
        registers = gdb.run("kexec-regs --all").document
        verdict = gdb.run("kexec-step --timeout 30").document
    if not verdict["agrees"]:
        raise KexecdbgError("the lab guest did not do what was predicted; run kexecdbg lab run B")
    return "", f"{len(registers)} registers known; the lab guest does what was predicted"


def _line(result: Result, style: Style) -> str:
    mark, paint = ("ok", style.good) if result.works else ("FAILED", style.bad)
    label = f"{mark:<6} {result.part} {result.version}".rstrip()
    return hanging(label, result.detail, _COLUMN).replace(mark, paint(mark), 1)
