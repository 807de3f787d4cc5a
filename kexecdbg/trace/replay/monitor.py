"""The ``monitor`` commands of a replay: where it is, going elsewhere, and what is asked of QEMU's monitor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from kexecdbg.arm64.pstate import el_of
from kexecdbg.errors import TraceError
from kexecdbg.machine.memory_map import Region, RegionKind
from kexecdbg.qemu.memory_tree import flat_memory_tree_text
from kexecdbg.trace.replay.cursor import Cursor, state_named
from kexecdbg.trace.step_block import PAGE_SIZE

_HELP = """\
This is a recorded run, not a machine: step and continue, forwards and backwards
(reverse-stepi, reverse-continue); nothing can be written.

  monitor where         the state, of how many
  monitor goto STATE    go to a state: a number, begin, end or first-fault
                        (a GDB without kexecdbg's gdbinit shows it after
                        maintenance flush register-cache)
  monitor info version  what was recorded
  monitor info mtree -f the recorded machine's memory map
  monitor help          this text
"""


def monitor(cursor: Cursor, command: str) -> str:
    """What the monitor prints for ``command``; an error is text too, as with QEMU's."""
    words = command.split()
    line, argument = " ".join(words), " ".join(words[1:])
    if line in _COMMANDS:
        return _COMMANDS[line](cursor)
    if words[:1] == ["goto"]:
        return _goto(cursor, argument)
    return f"unknown command: '{line}'; this is a replay, 'monitor help' lists what there is\n"


def openocd_monitor(command: str) -> str:
    """What OpenOCD's interpreter prints for a command that it does not have (helper/command.c, Jim Tcl)."""
    return f'invalid command name "{command.split()[0] if command.split() else ""}"\n'


def _goto(cursor: Cursor, place: str) -> str:
    try:
        cursor.go(state_named(cursor.trace, place))
    except TraceError as error:
        return f"{error}\n"
    return _where(cursor)


def _where(cursor: Cursor) -> str:
    state, trace = cursor.state, cursor.trace
    pstate = state.get("PSTATE")
    el = "EL unknown" if pstate is None else f"EL{el_of(pstate)}"
    here = f"state {cursor.number} of {trace.steps}: PC {state.get('PC') or 0:#x}, {el}"
    if cursor.number == trace.steps:
        return f"{here}, the end of the trace\n"
    step = trace.step(cursor.number)
    if step.is_folded:
        return f"{here}, a loop recorded as one step is next\n"
    if step.instruction is None and step.exception is None:
        return f"{here}, an instruction that is not known is next\n"
    if step.instruction is None:
        return f"{here}, an instruction that cannot be fetched is next\n"
    return f"{here}, next is {step.instruction.text}\n"


def _version(cursor: Cursor) -> str:
    header = cursor.trace.header
    recorded = f"QEMU {header.qemu_version or '(version not recorded)'}, CPU {header.cpu_model or 'not recorded'}"
    return f"{cursor.trace.path.name}: recorded by {header.recorder or 'an unnamed recorder'} from {recorded}\n"


def _memory_tree(cursor: Cursor) -> str:
    return flat_memory_tree_text(cursor.trace.header.regions or _recorded_pages(cursor.trace.pages()))


def _recorded_pages(pages: Iterable[int]) -> list[Region]:
    """What is known to be memory when no memory map was recorded; ``pages`` ascend."""
    regions: list[Region] = []
    for page in pages:
        if regions and regions[-1].end == page:
            regions[-1] = replace(regions[-1], end=page + PAGE_SIZE)
        else:
            regions.append(Region(page, page + PAGE_SIZE, RegionKind.RAM, "recorded pages"))
    return regions


_COMMANDS: Mapping[str, Callable[[Cursor], str]] = {
    "help": lambda cursor: _HELP,
    "where": _where,
    "info version": _version,
    "info mtree -f": _memory_tree,
}
