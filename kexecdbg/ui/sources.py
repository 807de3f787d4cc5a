"""Where the shell commands take a machine from: a gdbstub, or files and values that somebody handed in."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.register_names import canonical_name, known_name
from kexecdbg.errors import EnvironmentProblem, UsageError
from kexecdbg.machine.elf_core import ElfCore
from kexecdbg.machine.memory_files import MemoryFiles, parse_memory_file
from kexecdbg.machine.register_value import parse_register_value
from kexecdbg.machine.state import CpuState
from kexecdbg.machine.state_file import GivenRegisters, read_registers
from kexecdbg.ui.attach import add_target_arguments

_ADDRESS = re.compile(r"\$?(?P<name>[A-Za-z]\w*)\s*(?:(?P<sign>[+-])\s*(?P<offset>\w+))?")
STATE_HELP = (
    'registers: {"SCTLR_EL2": "0x...", "PC": "0x..."}, the output of kexec-regs --json, or pasted text (a mail, an '
    "oops, a debugger's list); - is standard input"
)
_GDBSTUB = "--attach HOST:PORT (QEMU's -s is localhost:1234)"


@dataclass(frozen=True)
class GivenMachine:
    """A machine without a debugger at it.

    Attributes:
        values: registers by canonical name.
        memory: physical memory; what was not given cannot be read.
        remarks: how the input was read, one sentence each.
    """

    values: dict[str, int]
    memory: PhysicalMemory
    remarks: tuple[str, ...]

    @property
    def state(self) -> CpuState:
        """The registers."""
        return CpuState(self.values)

    def address(self, text: str) -> int:
        """The meaning of an address argument: a number, or a register with an offset (``$pc+4``).

        Raises:
            UsageError: it is neither, or the register is not given.
        """
        with contextlib.suppress(ValueError):
            value = int(text, 0)
            if 0 <= value < 1 << 64:
                return value
        match = _ADDRESS.fullmatch(text.strip())
        name = None if match is None else canonical_name(match["name"])
        if match is None or name is None:
            raise UsageError(f"{text!r} is no address; give a number, 0x1b3080000, or a register: '$pc+4'")
        if name not in self.values:
            raise UsageError(f"{text}: {name} is not given; add --assume {name}=VALUE")
        try:
            offset = int(match["offset"] or "0", 0)
        except ValueError:
            raise UsageError(f"{text}: {match['offset']!r} is not a number") from None
        return self.values[name] + (-offset if match["sign"] == "-" else offset) & 0xFFFF_FFFF_FFFF_FFFF


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which machine, and ``--json``."""
    group = parser.add_argument_group("the machine", "A gdbstub, or what is known of a machine, from anywhere.")
    add_target_arguments(group, required=False)
    group.add_argument("--state", metavar="FILE", help=STATE_HELP)
    group.add_argument(
        "--memory",
        metavar="FILE@ADDRESS",
        action="append",
        default=[],
        help="physical memory: a raw file and the address of its first byte (may be repeated)",
    )
    group.add_argument("--core", type=Path, metavar="FILE", help="the ELF file of QEMU's dump-guest-memory")
    group.add_argument("--cpu", type=int, metavar="N", help="of CPU N (default: the first)")
    group.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="REG=VALUE",
        help="take this register value, whatever else says (may be repeated)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def is_attached(arguments: argparse.Namespace) -> bool:
    """Whether the machine is at a gdbstub; else it is given (:func:`given_machine`).

    Raises:
        UsageError: it is neither, or both.
    """
    given = [f"--{name}" for name in ("state", "memory", "core") if getattr(arguments, name) not in (None, [])]
    if arguments.attach is not None:
        if not arguments.attach.strip():
            raise UsageError(f"which gdbstub? {_GDBSTUB}")
        if given:
            raise UsageError(f"--attach and {given[0]}: a machine at a gdbstub has its own registers and memory")
        return True
    if arguments.resume:
        raise UsageError("--resume goes with --attach")
    if arguments.cpu is not None and arguments.core is None:
        raise UsageError("--cpu goes with --attach or --core")
    if not given and not arguments.assume:
        raise UsageError(f"which machine? {_GDBSTUB}, --state FILE, --core FILE, or --assume REG=VALUE")
    return False


def attached_options(arguments: argparse.Namespace) -> list[str]:
    """The options here that the GDB command has too."""
    return [] if arguments.cpu is None else [f"--cpu={arguments.cpu}"]


@contextlib.contextmanager
def given_machine(arguments: argparse.Namespace) -> Iterator[GivenMachine]:
    """The machine that the options give; ``--assume`` counts more than ``--state``, and that more than ``--core``.

    Raises:
        UsageError, EnvironmentProblem: an option or a file is not what it should be.
    """
    files = [parse_memory_file(text) for text in arguments.memory]
    assumed, notes = assumed_values(arguments.assume)
    with contextlib.ExitStack() as stack:
        values: dict[str, int] = {}
        remarks = list(notes)
        core = None
        if arguments.core is not None:
            core = stack.enter_context(ElfCore(arguments.core))
            values |= core_registers(core, arguments.cpu or 0)
            remarks += [f"The core lacks {clause}." for clause in core.missing]
        if arguments.state is not None:
            found = registers_of_file(arguments.state)
            values |= found.values
            remarks += found.remarks
        yield GivenMachine(values | assumed, stack.enter_context(MemoryFiles(files, core)), tuple(remarks))


def registers_of_file(source: str) -> GivenRegisters:
    """The registers of ``--state``: a file, or standard input where it is ``-``.

    Raises:
        EnvironmentProblem: it cannot be read.
        UsageError: it has no registers.
    """
    return read_registers(_text_of(source), _name_of(source))


def core_registers(core: ElfCore, cpu: int) -> dict[str, int]:
    """The registers of a CPU that the core has; none when it has none of any.

    Raises:
        UsageError: it has those of other CPUs only.
    """
    if not core.cpus:
        return {}
    if not 0 <= cpu < len(core.cpus):
        raise UsageError(f"--cpu {cpu}: the core has the registers of CPUs 0 to {len(core.cpus) - 1}")
    return dict(core.cpus[cpu])


def assumed_values(assumptions: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """The registers of ``--assume`` options, and notes on how their values were read.

    Raises:
        UsageError: one is not REG=VALUE, names no register, or has no value that a register can have.
    """
    values: dict[str, int] = {}
    notes: list[str] = []
    for assumption in assumptions:
        name, equals, text = assumption.partition("=")
        if not equals:
            raise UsageError(f"--assume {assumption}: write it as REGISTER=VALUE, for instance TCR_EL2=0x80843510")
        canonical = known_name(name)
        values[canonical], note = parse_register_value(canonical, text.strip())
        notes += [note] if note else []
    return values, notes


def _text_of(source: str) -> str:
    if source == "-":
        if sys.stdin.isatty():
            print("kexecdbg: paste the registers, then press Ctrl-D", file=sys.stderr)
        return sys.stdin.buffer.read().decode(errors="replace")
    try:
        return Path(source).read_bytes().decode(errors="replace")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EnvironmentProblem(f"--state {source}: cannot read it: {reason}") from None


def _name_of(source: str) -> str:
    return "standard input" if source == "-" else source
