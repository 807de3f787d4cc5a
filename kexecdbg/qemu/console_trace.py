"""What a guest writes to its PL011, from QEMU's trace event ``pl011_write``: for a debugger that has no console.

QEMU hw/char/trace-events; the lines have a process id and a time in front of them, and from 8.x on a register name
behind them.
"""

from __future__ import annotations

import re

TRACE_ON = ("log trace:pl011_write",)
"""The monitor command that writes the event to the log; ``logfile`` says where that is."""
TRACE_OFF = ("trace-event pl011_write off", "log none")

_WRITE_OF_DATA_REGISTER = re.compile(r"pl011_write addr 0x0+ value 0x([0-9a-f]+)\b.*\n")


def console_text(log: str) -> str:
    """The characters that ``log`` shows being written; the last line of the log counts when it is complete."""
    return "".join(chr(int(value, 16) & 0xFF) for value in _WRITE_OF_DATA_REGISTER.findall(log))
