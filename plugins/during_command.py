"""What is different in GDB while one of our commands steps the target, and put back after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import gdb

_LOCKING = "scheduler-locking"
_NO_STOP_REPORTS = "suppress-cli-notifications"
"""Keeps GDB from printing a line for each stop; GDB has it since version 12."""
_settings_before: dict[str, str] = {}
_commands_stepping = 0


def stepping_inside_command() -> bool:
    """Whether the present stop is one of many inside a command of ours, not one that the user sees."""
    return _commands_stepping > 0


@contextlib.contextmanager
def inside_command() -> Iterator[None]:
    """Around what makes the target stop inside a command of ours: GDB and our hooks say nothing of such stops."""
    global _commands_stepping
    _set(_NO_STOP_REPORTS, "on")
    _commands_stepping += 1
    try:
        yield
    finally:
        _commands_stepping -= 1


def hold_other_cpus() -> None:
    """Steps are of the selected CPU alone, until :func:`put_back`: QEMU resumes the threads that a vCont packet names.

    Source: QEMU gdbstub.c, gdb_handle_vcont().
    """
    if gdb.parameter(_LOCKING) != "on":
        _set(_LOCKING, "step")


def _set(setting: str, value: str) -> None:
    """Change a setting of GDB, if it has it, until :func:`put_back`; each change is a line of GDB/MI output."""
    try:
        found = gdb.parameter(setting)
    except RuntimeError:
        return
    before = found if isinstance(found, str) else "on" if found else "off"
    if before != value:
        _settings_before.setdefault(setting, before)
        gdb.execute(f"set {setting} {value}", to_string=True)


def put_back() -> None:
    """The end of a command: GDB's settings are again what they were."""
    for setting, before in tuple(_settings_before.items()):
        if setting == _LOCKING and not gdb.selected_inferior().pid:
            # A machine that has ended has no scheduler to lock: GDB refuses, and has it off (infrun.c,
            # set_schedlock_func). The next command with a machine puts it back.
            continue
        gdb.execute(f"set {setting} {before}", to_string=True)
        del _settings_before[setting]
