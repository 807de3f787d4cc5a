"""The console's own commands and keys, and the screen that lists them."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.ui.style import Style


@dataclass(frozen=True)
class ConsoleCommand:
    """What help and completion say of a command."""

    arguments: str
    summary: str


COMMANDS = {
    "changed": ConsoleCommand("", "registers that changed since the last stop"),
    "walk": ConsoleCommand("[ADDRESS]", "how an address translates; without one, the next fetch"),
    "code": ConsoleCommand("[ADDRESS]", "the code there; M marks writes of SCTLR_ELx"),
    "lab": ConsoleCommand("ID", "another machine: a scenario of the lab (Tab lists them)"),
    "attach": ConsoleCommand("TARGET", "another machine: a gdbstub, HOST:PORT or PATH"),
    "replay": ConsoleCommand("FILE", "another machine: a recorded run"),
    "help": ConsoleCommand("[COMMAND]", "this screen; with a command, GDB's help on it"),
    "quit": ConsoleCommand("", "leave; Ctrl-D too"),
}
"""A GDB command of the same name is not reachable but for ``attach PID``; GDB has none of the others."""
KEYS = (
    ("F2 F3 F4 F5", "full screen: changed, walk, code, verdict"),
    ("Tab, Ctrl-R", "complete; search the history"),
    ("Ctrl-C", "interrupt the machine; at the prompt, clear the line"),
    ("Enter", "on an empty line after a step: step again"),
)
OUR_GDB_COMMANDS = (
    "kexec-check kexec-step kexec-fix kexec-why kexec-regs kexec-record",
    "kexec-image kexec-relocate kexec-report walk-ttbr0 walk-ttbr1 walk-vttbr",
)
_COLUMN = 18


def help_screen(style: Style) -> str:
    """One screen of 80x24."""
    lines = [style.bold("Every GDB command, and:")]
    lines += [f"  {f'{name} {command.arguments}':<{_COLUMN}}{command.summary}" for name, command in COMMANDS.items()]
    lines += [f"  {'TCR_EL2':<{_COLUMN}}a register, field by field; TCR_EL2.PS is one field"]
    lines += [style.bold("kexecdbg's commands (help kexec-step):")]
    lines += [f"  {line}" for line in OUR_GDB_COMMANDS]
    lines += [style.bold("Keys:")]
    lines += [f"  {keys:<{_COLUMN}}{summary}" for keys, summary in KEYS]
    return "\n".join(lines)
