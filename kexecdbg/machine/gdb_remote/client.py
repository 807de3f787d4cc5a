"""A client of a gdbstub: registers by canonical name, stepping at the stub's own speed, QEMU's monitor."""

from __future__ import annotations

import struct
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType

from kexecdbg.errors import TargetError
from kexecdbg.machine.gdb_remote.connection import Connection
from kexecdbg.machine.gdb_remote.description import (
    DescribedRegister,
    TargetDescription,
    included_files,
    read_description,
)
from kexecdbg.machine.gdb_remote.errors import MachineEndedError, RemoteError

_BATCH = 64
"""Register reads sent ahead of their answers."""
_XML_CHUNK = 0xF00
_MAX_XML = 1 << 22
_SIGTRAP = 5
_SIGQUIT = 3
"""QEMU stops with it when the guest has powered itself off (gdbstub.c, gdb_vm_state_change)."""
_STRUCT_CODES = {4: "I", 8: "Q"}


@dataclass(frozen=True)
class StopReply:
    """Why the target stopped.

    Attributes:
        signal: the signal's number, 5 (SIGTRAP) after a step or at a breakpoint.
        thread: the stub's name of the CPU that stopped, empty when it does not say.
        ended: the machine is gone.
    """

    signal: int
    thread: str = ""
    ended: bool = False


class GdbRemote:
    """One CPU of a machine behind a gdbstub (use as a context manager).

    >>> with GdbRemote("localhost:1234") as remote:                                 # doctest: +SKIP
    ...     remote.step()
    ...     print(hex(remote.read_register("PC")), remote.monitor("info version"))

    Args:
        target: HOST:PORT, or the path of a unix socket.
        cpu: which CPU, counted from 0.
        seconds: how long to wait for an answer.

    Raises:
        TargetError: nobody listens there, it is no gdbstub, not AArch64, or has no such CPU.
    """

    def __init__(self, target: str, cpu: int = 0, seconds: float = 10.0) -> None:
        self._connection = Connection(target, seconds)
        try:
            self.features = self._negotiate()
            # QEMU answers register packets only once the description has been fetched.
            self.description = self._fetch_description()
            self._by_name = self.description.by_canonical_name()
            self.threads = self._threads()
            if not 0 <= cpu < len(self.threads):
                raise TargetError(f"{target}: there is no CPU {cpu}; the machine has {len(self.threads)}")
            self.thread = self.threads[cpu]
            self.expect_ok(f"Hg{self.thread}")
        except BaseException:
            self._connection.close()
            raise

    @property
    def process(self) -> int | None:
        """Process id of the stub, as far as the connection tells: who made the unix socket."""
        return self._connection.peer_process()

    # Packets

    def packet(self, text: str, /, seconds: float | None = None) -> str:
        """Send ``text`` and return the answer; empty when the stub does not know the packet.

        Physical memory is :class:`kexecdbg.machine.stub_memory.StubMemory` on top of this.
        """
        self._connection.send(text.encode("latin-1"))
        return self._answer(text, seconds).decode("latin-1")

    def _answer(self, sent: str, seconds: float | None = None) -> bytes:
        """The answer to what was sent; QEMU may report its end instead, some time after the last step."""
        reply = self._connection.receive(seconds)
        if reply[:1] in (b"W", b"X"):
            raise MachineEndedError(sent, reply.decode("latin-1"), "the machine has ended")
        return reply

    def expect_ok(self, text: str) -> None:
        """Send ``text``, which has to be answered with OK.

        Raises:
            RemoteError: it is not.
        """
        reply = self.packet(text)
        if reply != "OK":
            raise RemoteError(text, reply, "refused" if reply else "not supported by this stub")

    def _negotiate(self) -> dict[str, str]:
        reply = self.packet("qSupported:multiprocess-;swbreak+;hwbreak+;vContSupported+;xmlRegisters=aarch64")
        # QEMU 7.2 stops a running machine for who connects, and says so unasked (gdbstub.c, gdb_vm_state_change()).
        while reply[:1] in ("T", "S"):
            reply = self._answer("qSupported").decode("latin-1")
        features = dict(_feature(part) for part in reply.split(";") if part)
        # QEMU has neither no-ack mode in 7.2 nor in 10.0; other stubs do.
        if features.get("QStartNoAckMode") == "+":
            self.expect_ok("QStartNoAckMode")
            self._connection.stop_acknowledging()
        return features

    def _fetch_description(self) -> TargetDescription:
        files: dict[str, str] = {}
        wanted = ["target.xml"]
        while wanted:
            name = wanted.pop(0)
            if name not in files:
                files[name] = self._transfer("features", name)
                wanted += included_files(files[name])
        return read_description(files)

    def _transfer(self, kind: str, name: str) -> str:
        text = ""
        while len(text) <= _MAX_XML:
            request = f"qXfer:{kind}:read:{name}:{len(text):x},{_XML_CHUNK:x}"
            reply = self.packet(request)
            if reply[:1] not in ("m", "l"):
                raise RemoteError(request, reply, f"cannot read its {kind}; is it QEMU's gdbstub?")
            text += reply[1:]
            if reply[0] == "l":
                return text
        raise TargetError(f"gdbstub: its description {name} does not end")

    def _threads(self) -> tuple[str, ...]:
        names: list[str] = []
        request = "qfThreadInfo"
        while (reply := self.packet(request)).startswith("m"):
            names += reply[1:].split(",")
            request = "qsThreadInfo"
        if reply != "l":
            raise RemoteError(request, reply, "does not list its CPUs")
        return tuple(names)

    def is_halted(self, thread: str) -> bool:
        """Whether a CPU executes nothing, in WFI or powered off (QEMU gdbstub.c, handle_query_thread_extra)."""
        text = bytes.fromhex(self.packet(f"qThreadExtraInfo,{thread}"))
        return b"[halted" in text

    # Registers

    @property
    def register_names(self) -> tuple[str, ...]:
        """Canonical names of all registers that the stub has."""
        return tuple(self._by_name)

    @cached_property
    def core_names(self) -> tuple[str, ...]:
        """Names of the registers that :meth:`read_core` gives: X0 to X30, SP, PC, PSTATE."""
        return tuple(register.canonical or register.gdb_name for register in self._core)

    @cached_property
    def _core(self) -> tuple[DescribedRegister, ...]:
        return tuple(register for register in self.description.registers if register.is_core)

    @cached_property
    def _core_layout(self) -> struct.Struct:
        return struct.Struct("<" + "".join(_STRUCT_CODES[register.size] for register in self._core))

    def read_core(self) -> tuple[int, ...]:
        """The general registers, SP, PC and PSTATE in one packet, in the order of :attr:`core_names`.

        Raises:
            RemoteError: the stub does not give them.
        """
        self._connection.send(b"g")
        return self._core_of(self._answer("g"))

    def _core_of(self, reply: bytes) -> tuple[int, ...]:
        try:
            return self._core_layout.unpack_from(bytes.fromhex(reply.decode("ascii")))
        except (ValueError, struct.error) as error:
            raise RemoteError("g", reply.decode("latin-1"), "gives no registers") from error

    def read_core_and_start_step(self) -> tuple[int, ...]:
        """:meth:`read_core`, then :meth:`start_step`, both asked for at once: one way there and back is saved."""
        self._connection.send(b"g", self._step_packet)
        reply = self._answer("g")
        self._connection.drop_acknowledgement()
        return self._core_of(reply)

    def read_register(self, name: str) -> int | None:
        """The value of one register; ``None`` when the stub has none of that name or cannot read it."""
        return self.read_registers([name]).get(name)

    def read_registers(self, names: Iterable[str]) -> dict[str, int]:
        """The values of the registers that the stub has and can read; the reads are sent ahead of their answers."""
        known = [(name, self._by_name[name]) for name in names if name in self._by_name]
        values: dict[str, int] = {}
        for start in range(0, len(known), _BATCH):
            batch = known[start : start + _BATCH]
            self._connection.send(*(b"p%x" % register.number for _, register in batch))
            for name, register in batch:
                value = _value(self._answer(f"p{register.number:x}"), register)
                if value is not None:
                    values[name] = value
        return values

    def write_register(self, name: str, value: int) -> None:
        """Set a register and read it back.

        Raises:
            TargetError: the stub has no such register, or the write did not take (QEMU drops those of system
                registers).
        """
        register = self._by_name.get(name)
        if register is None:
            raise TargetError(f"gdbstub: it has no register {name}")
        self.expect_ok(f"P{register.number:x}={value.to_bytes(register.size, 'little').hex()}")
        found = self.read_register(name)
        if found != value:
            shown = "nothing" if found is None else f"{found:#x}"
            raise TargetError(f"{name}: wrote {value:#x} and read back {shown}; QEMU drops writes to system registers")

    # Running

    def start_step(self) -> None:
        """Let this CPU execute one instruction, the others stand still; :meth:`wait_stop` waits for it."""
        self._connection.send(self._step_packet)

    @cached_property
    def _step_packet(self) -> bytes:
        return b"vCont;s:%b" % self.thread.encode()

    def step(self) -> StopReply:
        """Execute one instruction on this CPU."""
        self.start_step()
        return self.wait_stop()

    def start(self, alone: bool = False) -> None:
        """Let all CPUs run, or this one ``alone``; :meth:`wait_stop` waits for a stop."""
        self._connection.send(b"vCont;c:%b" % self.thread.encode() if alone else b"vCont;c")

    def wait_stop(self, seconds: float | None = None) -> StopReply:
        """The stop of the target, waiting at most ``seconds``.

        Raises:
            RemoteError: it did not stop by then.
        """
        reply = self.poll_stop(self._connection.seconds if seconds is None else seconds)
        if reply is None:
            raise RemoteError("vCont", None, f"{self._connection.target}: no stop in time")
        return reply

    def poll_stop(self, seconds: float) -> StopReply | None:
        """The stop of the target if it comes within ``seconds``; ``None`` while it runs."""
        try:
            packet = self._connection.poll(seconds)
        except MachineEndedError:
            return StopReply(0, ended=True)
        return None if packet is None else _stop_reply(packet.decode("latin-1"))

    def interrupt(self, seconds: float = 10.0) -> StopReply:
        """Stop the running target."""
        self._connection.interrupt()
        return self.wait_stop(seconds)

    def set_breakpoint(self, address: int) -> None:
        """A hardware breakpoint at the virtual ``address``; it holds whatever the translation.

        Raises:
            RemoteError: the stub refuses.
        """
        self.expect_ok(f"Z1,{address:x},4")

    def remove_breakpoint(self, address: int) -> None:
        """Take the breakpoint away."""
        self.expect_ok(f"z1,{address:x},4")

    def run_to(self, addresses: Collection[int], seconds: float | None = None) -> int:
        """Run until the PC is one of ``addresses``, the other CPUs stand still; the PC.

        Raises:
            MachineEndedError: the machine ended.
            TargetError: it stopped elsewhere, or ``seconds`` passed first and it was interrupted.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        for address in addresses:
            self.set_breakpoint(address)
        self.start(alone=True)
        reply = self._wait_until(deadline)
        if reply.ended:
            raise MachineEndedError("vCont;c", None, "the machine has ended")
        for address in addresses:
            self.remove_breakpoint(address)
        pc = self.read_register("PC")
        if reply.signal != _SIGTRAP or pc is None or pc not in addresses:
            wanted = ", ".join(f"{address:#x}" for address in sorted(addresses)[:4])
            raise TargetError(f"the machine stopped at {pc or 0:#x} before it reached {wanted}")
        return pc

    def _wait_until(self, deadline: float | None) -> StopReply:
        if deadline is None:
            return self.wait_stop(float("inf"))
        return self.poll_stop(max(0.0, deadline - time.monotonic())) or self.interrupt()

    # QEMU's monitor

    def monitor(self, command: str, /) -> str:
        """What the monitor answers to ``command``.

        Raises:
            RemoteError: the stub has no monitor.
        """
        self._connection.send(b"qRcmd," + command.encode().hex().encode())
        text = bytearray()
        while True:
            reply = self._answer(f"qRcmd {command}")
            if reply == b"OK":
                return text.decode(errors="replace").replace("\r\n", "\n")
            if not reply.startswith(b"O"):
                raise RemoteError(f"qRcmd {command}", reply.decode("latin-1"), "has no monitor; is the target QEMU?")
            text += bytes.fromhex(reply[1:].decode("ascii"))

    def detach(self) -> None:
        """Let the machine run on without a debugger, and end the connection."""
        # QEMU goes on naming processes when an earlier client asked for it (gdbstub.c, handle_detach()).
        process = self.thread[1:].partition(".")[0] if self.thread.startswith("p") else ""
        self.expect_ok(f"D;{process}" if process else "D")
        self._connection.close()

    def close(self) -> None:
        """End the connection; the machine stays as it is (QEMU 7.2 and 10.0 leave a stopped one stopped)."""
        self._connection.close()

    def __enter__(self) -> GdbRemote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _stop_reply(reply: str) -> StopReply:
    if reply[:1] in ("W", "X"):
        return StopReply(0, ended=True)
    if reply[:1] not in ("T", "S"):
        raise RemoteError("vCont", reply, "is not a stop")
    fields = dict(field.split(":", 1) for field in reply[3:].split(";") if ":" in field)
    signal = int(reply[1:3], 16)
    return StopReply(signal, fields.get("thread", ""), ended=signal == _SIGQUIT)


def _feature(part: str) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    return (name, value) if equals else (part[:-1], part[-1:])


def _value(reply: bytes, register: DescribedRegister) -> int | None:
    """The value in the answer to a ``p`` packet; ``None`` for an error, an empty answer, or ``xxxx`` (unavailable)."""
    if len(reply) != 2 * register.size:
        return None
    try:
        return int.from_bytes(bytes.fromhex(reply.decode("ascii")), "little")
    except ValueError:
        return None
