"""GDB's remote serial protocol: a client of a gdbstub, and the framing that a server needs too.

The protocol is described in the GDB manual, appendix "GDB Remote Serial Protocol".
"""

from kexecdbg.machine.gdb_remote.client import GdbRemote, StopReply
from kexecdbg.machine.gdb_remote.errors import MachineEndedError, RemoteError

__all__ = ["GdbRemote", "MachineEndedError", "RemoteError", "StopReply"]
