"""The CPUs of the machine as GDB knows them: each is a thread, and a command works on the selected one's.

QEMU gives CPU N the thread id N + 1 (gdbstub.c, cpu_gdb_index()), which GDB shows as ``Thread 1.2``; GDB's own number
of the thread, for its command ``thread``, may be another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import gdb

from kexecdbg.errors import UsageError


@dataclass(frozen=True)
class Cpu:
    """One CPU.

    Attributes:
        number: QEMU's index of the CPU, from 0.
        thread: GDB's number of its thread.
    """

    number: int
    thread: int

    @property
    def text(self) -> str:
        """How users are told which CPU it is."""
        return f"CPU {self.number} (thread {self.thread})"


def cpus() -> tuple[Cpu, ...]:
    """The machine's CPUs by number; none without a target."""
    found = (_cpu_of(thread) for thread in gdb.selected_inferior().threads())
    return tuple(sorted(found, key=lambda cpu: cpu.number))


def selected_cpu() -> Cpu | None:
    """The CPU that commands work on; ``None`` without a target."""
    thread = gdb.selected_thread()
    return None if thread is None else _cpu_of(thread)


def selected_of_several() -> Cpu | None:
    """The CPU that commands work on, when the machine has more than one, or had as it was recorded."""
    threads = len(gdb.selected_inferior().threads())
    return selected_cpu() if threads > 1 or (threads == 1 and _recorded_cpus() > 1) else None


def _recorded_cpus() -> int:
    """How many CPUs the machine had that this is a replay of; 1 when it is none."""
    from kexecdbg.machine.replayed_memory import CPUS

    connection = gdb.selected_inferior().connection
    if not isinstance(connection, gdb.RemoteTargetConnection):
        return 1
    try:
        reply = connection.send_packet(CPUS) or b""
        return 1 if reply.startswith(b"E") else int(reply, 16)
    except (gdb.error, ValueError):
        return 1  # the machine runs, or has ended; or it is no replay, which answers nothing


@contextlib.contextmanager
def on_cpu(number: int | None) -> Iterator[None]:
    """Work on CPU ``number`` (``None``: the selected one), and go back to the thread and frame that were selected.

    Raises:
        UsageError: there is no such CPU; the message lists those that there are.
    """
    before = gdb.selected_thread()
    if number is None or before is None or _cpu_of(before).number == number:
        yield
        return
    for thread in gdb.selected_inferior().threads():
        if _cpu_of(thread).number == number:
            break
    else:
        raise UsageError(f"there is no CPU {number}; this machine has {_list(cpus())}")
    frame = gdb.selected_frame()
    thread.switch()
    try:
        yield
    finally:
        if before.is_valid():
            before.switch()
            if frame.is_valid():
                frame.select()


def select(number: int) -> None:
    """Make commands work on CPU ``number`` from now on, if there is one."""
    for thread in gdb.selected_inferior().threads():
        if _cpu_of(thread).number == number:
            thread.switch()


def is_halted(number: int) -> bool | None:
    """Whether QEMU's CPU ``number`` executes nothing: it waits in WFI, or is powered off.

    ``None`` when the stub does not say. QEMU says it in the thread's description (gdbstub.c,
    handle_query_thread_extra()); GDB would ask for that only once.
    """
    connection = gdb.selected_inferior().connection
    if not isinstance(connection, gdb.RemoteTargetConnection):
        return None
    reply = connection.send_packet(f"qThreadExtraInfo,{number + 1:x}")
    try:
        text = bytes.fromhex((reply or b"").decode("ascii")).decode("ascii", "replace")
    except ValueError:
        return None  # an error packet, E and a number: a stub that is not QEMU
    return "[halted" in text if "[halted" in text or "[running" in text else None


def _cpu_of(thread: gdb.InferiorThread) -> Cpu:
    _, thread_id, _ = thread.ptid
    # A stub without threads has the id 0.
    return Cpu(max(thread_id, 1) - 1, thread.num)


def _list(machine: tuple[Cpu, ...]) -> str:
    names = [str(cpu.number) for cpu in machine]
    return f"only CPU {names[0]}" if len(names) == 1 else f"CPUs {', '.join(names[:-1])} and {names[-1]}"
