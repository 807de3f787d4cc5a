"""GDB after ``monitor``: what it remembers of the target is forgotten, and shown again if the CPU is elsewhere.

A monitor command can move the machine (a replay's ``goto``, QEMU's ``loadvm``), and the remote protocol has no way to
tell GDB: the answer is text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import gdb

_HOOK = """\
define hookpost-monitor
python __import__("kexecdbg_plugins.monitor_hook").monitor_hook.after_monitor()
end
"""
_is_off = False


@contextlib.contextmanager
def off() -> Iterator[None]:
    """For our own monitor commands, which move nothing."""
    global _is_off
    before, _is_off = _is_off, True
    try:
        yield
    finally:
        _is_off = before


def after_monitor() -> None:
    """Called by GDB after every ``monitor`` command that did not fail."""
    thread = gdb.selected_thread()
    if _is_off or thread is None or not thread.is_stopped():
        return
    try:
        before = gdb.newest_frame().pc()
        for cache in ("register-cache", "dcache"):
            gdb.execute(f"maintenance flush {cache}", to_string=True)
        if gdb.newest_frame().pc() != before:
            gdb.execute("frame")
    except gdb.error:
        return  # the machine has ended, by "monitor quit" for instance: GDB says so when it is asked for something


def install() -> None:
    """Make GDB call :func:`after_monitor`."""
    gdb.execute(_HOOK, to_string=True)
