"""Answers GDB's packets from a trace (GDB manual, "GDB Remote Serial Protocol", and QEMU's gdbstub.c)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from kexecdbg.errors import KexecdbgError, MemoryUnreadableError
from kexecdbg.machine.gdb_remote.description import DescribedRegister, TargetDescription
from kexecdbg.machine.replayed_memory import CPUS, FIND, IS_REPLAY, answer_to_search, asked_words
from kexecdbg.trace.replay.cursor import Cursor, Stop, StopReason
from kexecdbg.trace.replay.monitor import monitor, openocd_monitor
from kexecdbg.trace.replay.stub_features import Feature, StubFeatures, StubKind
from kexecdbg.trace.replay.watchpoints import WatchKind, Watchpoint

MOST_BYTES = 0x8000
"""Of memory in one packet; a longer read is answered with fewer bytes, as the protocol allows."""
_ADDRESSES = 1 << 64
_MONITOR_CHUNK = 0x1000
_READ_ONLY = b"E.a trace is read only"
_MALFORMED = b"E.the packet cannot be understood"
_UNREADABLE = b"E14"
"""What QEMU answers, EFAULT. GDB 13 takes no text for an error of an ``m`` packet."""
_SUPPORTED = b"PacketSize=10000;qXfer:features:read+;vContSupported+;QStartNoAckMode+"
_REVERSE = b";ReverseStep+;ReverseContinue+"
_WATCHES = {"2": WatchKind.WRITE, "3": WatchKind.READ, "4": WatchKind.ACCESS}
_TRANSFER = re.compile(r"qXfer:features:read:([^:]*):([0-9a-fA-F]{1,8}),([0-9a-fA-F]{1,8})\Z")
_RANGE = re.compile(r"([0-9a-fA-F]{1,16}),([0-9a-fA-F]{1,16})\Z")
_INSERT = re.compile(r"[Zz]([0-9]),([0-9a-fA-F]{1,16}),([0-9a-fA-F]{1,8})(;.*)?\Z")
_REGISTER = re.compile(r"[0-9a-fA-F]{1,8}\Z")
_HEXADECIMAL = re.compile(r"([0-9a-fA-F]{2})*\Z")


class _MalformedPacketError(Exception):
    """The packet is not what the protocol says it looks like."""


class PacketAnswers:
    """What a client has been told and may ask next; each client has its own, with its own place in the trace.

    Attributes:
        cursor: the client's place.
        ended: the client has said that it leaves.
        acknowledges: packets are acknowledged; until the client asks to leave it.
    """

    def __init__(self, cursor: Cursor, description: TargetDescription, features: StubFeatures | None = None) -> None:
        self.cursor = cursor
        self.features = features or StubFeatures()
        self.ended = False
        self.acknowledges = True
        self._description = description
        self._registers = {register.number: register for register in description.registers}
        self._physical = False
        self._start = cursor.number
        self._stays = self._is_gone = False
        # As QEMU numbers them (gdbstub.c, gdb_append_thread_id()).
        self._thread = b"%02x" % (cursor.trace.header.cpu + 1)

    def answer(self, packet: bytes) -> tuple[bytes, ...]:
        """The packets to send for ``packet``; an empty one when it is not known, none when nobody waits."""
        text = packet.decode("latin-1")
        handler = _handler_of(text)
        if handler is None or any(
            text.startswith(beginning) and not self.features.has(feature) for beginning, feature in _PART_OF.items()
        ):
            return (b"",)
        try:
            reply = handler(self, text)
        except _MalformedPacketError:
            return (_MALFORMED,)
        except MemoryUnreadableError:
            return (_UNREADABLE,)
        except KexecdbgError as error:
            return (b"E." + str(error).encode("ascii", "replace"),)
        return (reply,) if isinstance(reply, bytes) else reply

    # What there is

    def _supported(self, text: str) -> bytes:
        offered = _SUPPORTED + (_REVERSE if self.features.has(Feature.REVERSE) else b"")
        if self.features.kind is not StubKind.QEMU:
            return offered
        # GDB 13 to 16 end with an internal error after "record" at a stub whose threads have no process.
        if "multiprocess+" in text:
            self._thread = b"p01.%02x" % (self.cursor.trace.header.cpu + 1)
        return offered + b";multiprocess+"

    def _without_acknowledgement(self, text: str) -> bytes:
        self.acknowledges = False
        return b"OK"

    def _ok(self, text: str) -> bytes:
        return b"OK"

    def _attached(self, text: str) -> bytes:
        return b"1"

    def _threads(self, text: str) -> bytes:
        return b"l" if self._is_gone else b"m" + self._thread

    def _no_more_threads(self, text: str) -> bytes:
        return b"l"

    def _current_thread(self, text: str) -> bytes:
        return b"QC" + self._thread

    def _thread_description(self, text: str) -> bytes:
        # As QEMU words it (gdbstub.c, handle_query_thread_extra()): plugins/cpus.py reads it.
        return (b"CPU#%d [running]" % self.cursor.trace.header.cpu).hex().encode()

    def _number_of_cpus(self, text: str) -> bytes:
        return b"%x" % self.cursor.trace.header.cpus

    def _transfer(self, text: str) -> bytes:
        name, offset, length = _matched(_TRANSFER, text)
        file = self._description.files.get(name)
        if file is None:
            return b"E00"
        data = file.encode()
        start, end = int(offset, 16), int(offset, 16) + int(length, 16)
        return (b"l" if end >= len(data) else b"m") + data[start:end]

    # Registers

    def _core_registers(self, text: str) -> bytes:
        return b"".join(self._value(register) for register in self._description.registers if register.is_core)

    def _register(self, text: str) -> bytes:
        if not _REGISTER.match(text[1:]):
            raise _MalformedPacketError
        register = self._registers.get(int(text[1:], 16))
        return self._value(register) if register is not None else b"E14"

    def _value(self, register: DescribedRegister) -> bytes:
        value = self.cursor.state.get(register.canonical) if register.canonical is not None else None
        if value is None or value >> 8 * register.size:
            return b"xx" * register.size
        return value.to_bytes(register.size, "little").hex().encode()

    # Memory

    def _memory(self, text: str) -> bytes:
        start, length = _matched(_RANGE, text[1:])
        address, size = int(start, 16), min(int(length, 16), MOST_BYTES)
        if address + size > _ADDRESSES:
            raise _MalformedPacketError
        read = self.cursor.read_physical if self._physical else self.cursor.read_virtual
        return read(address, size).hex().encode()

    def _ask_physical(self, text: str) -> bytes:
        return b"%d" % self._physical

    def _set_physical(self, text: str) -> bytes:
        self._physical = text.endswith(":1")
        return b"OK"

    def _find(self, text: str) -> bytes:
        asked = asked_words(text)
        if asked is None:
            raise _MalformedPacketError
        number, patterns = asked
        return answer_to_search(self.cursor.find_words(patterns), number).encode()

    def _refuse_write(self, text: str) -> bytes:
        return _READ_ONLY

    # Breakpoints and watchpoints

    def _insert(self, text: str) -> bytes:
        kind, start, length, _ = _matched(_INSERT, text)
        address, size = int(start, 16), int(length, 16)
        if kind in ("0", "1"):
            if text[0] == "Z":
                self.cursor.breakpoints.add(address)
            else:
                self.cursor.breakpoints.discard(address)
            return b"OK"
        if kind not in _WATCHES:
            return b""
        if not 0 < size <= MOST_BYTES or address + size > _ADDRESSES:
            raise _MalformedPacketError
        watchpoint = Watchpoint(_WATCHES[kind], address, address + size)
        if text[0] == "Z":
            self.cursor.watchpoints.add(watchpoint)
        else:
            self.cursor.watchpoints.discard(watchpoint)
        return b"OK"

    # Running

    def _why_stopped(self, text: str) -> bytes:
        return b"W00" if self._is_gone else b"T05" + self._stopped_thread

    def _actions(self, text: str) -> bytes:
        return b"vCont;c;C;s;S"

    def _resume(self, text: str) -> bytes:
        # There is one thread: the first action is its, whatever thread it names (GDB sends the stepped one first).
        action = text.removeprefix("vCont;")[:1]
        if action not in ("c", "C", "s", "S"):
            raise _MalformedPacketError
        return self._stop_reply(self.cursor.step() if action in ("s", "S") else self.cursor.run())

    def _step(self, text: str) -> bytes:
        return self._stop_reply(self.cursor.step())

    def _continue(self, text: str) -> bytes:
        return self._stop_reply(self.cursor.run())

    def _step_back(self, text: str) -> bytes:
        return self._stop_reply(self.cursor.step_back())

    def _run_back(self, text: str) -> bytes:
        return self._stop_reply(self.cursor.run_back())

    def _stop_reply(self, stop: Stop) -> bytes:
        if stop.watchpoint is not None:
            return b"T05%b:%x;" % (stop.watchpoint.kind.value.encode(), stop.watchpoint.start) + self._stopped_thread
        ends = {StopReason.BEGIN: b"replaylog:begin;", StopReason.END: b"replaylog:end;"}
        signal = b"T02" if stop.reason is StopReason.INTERRUPTED else b"T05"
        return signal + ends.get(stop.reason, b"") + self._stopped_thread

    @property
    def _stopped_thread(self) -> bytes:
        return b"thread:%b;" % self._thread

    # The end, and the monitor

    def _detach(self, text: str) -> bytes:
        # After target extended-remote, GDB is still there, with nothing to debug until it sends vRun.
        self._is_gone, self.ended = self._stays, not self._stays
        return b"OK"

    def _stay(self, text: str) -> bytes:
        self._stays = True
        return b"OK"

    def _begin_again(self, text: str) -> bytes:
        self._is_gone = False
        self.cursor.go(self._start)
        return self._why_stopped(text)

    def _kill(self, text: str) -> tuple[bytes, ...]:
        # GDB waits for no answer to k. The trace stays; only this client is gone.
        self.ended = True
        return ()

    def _monitor(self, text: str) -> tuple[bytes, ...]:
        if not self.features.has(Feature.MONITOR) and not self.features.has_openocd_monitor:
            return (b"",)
        command = text.removeprefix("qRcmd,")
        if not _HEXADECIMAL.match(command):
            raise _MalformedPacketError
        line = bytes.fromhex(command).decode("utf-8", "replace")
        answer = openocd_monitor(line) if self.features.has_openocd_monitor else monitor(self.cursor, line)
        output = answer.encode()
        pieces = (output[start : start + _MONITOR_CHUNK] for start in range(0, len(output), _MONITOR_CHUNK))
        return (*(b"O" + piece.hex().encode() for piece in pieces), b"OK")


def _matched(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    match = pattern.match(text)
    if match is None:
        raise _MalformedPacketError
    return match.groups()


_Handler = Callable[[PacketAnswers, str], bytes | tuple[bytes, ...]]

_WHOLE: Mapping[str, _Handler] = {
    "!": PacketAnswers._stay,
    "?": PacketAnswers._why_stopped,
    "g": PacketAnswers._core_registers,
    "s": PacketAnswers._step,
    "c": PacketAnswers._continue,
    "bs": PacketAnswers._step_back,
    "bc": PacketAnswers._run_back,
    "vCont?": PacketAnswers._actions,
    "qC": PacketAnswers._current_thread,
    IS_REPLAY: PacketAnswers._ok,
    CPUS: PacketAnswers._number_of_cpus,
    "qfThreadInfo": PacketAnswers._threads,
    "qsThreadInfo": PacketAnswers._no_more_threads,
    "qqemu.PhyMemMode": PacketAnswers._ask_physical,
    "QStartNoAckMode": PacketAnswers._without_acknowledgement,
    "k": PacketAnswers._kill,
}
_BEGINNINGS: Mapping[str, _Handler] = {
    "qSupported": PacketAnswers._supported,
    "qAttached": PacketAnswers._attached,
    "qThreadExtraInfo,": PacketAnswers._thread_description,
    "qXfer:features:read:": PacketAnswers._transfer,
    "qRcmd,": PacketAnswers._monitor,
    "Qqemu.PhyMemMode:": PacketAnswers._set_physical,
    FIND: PacketAnswers._find,
    "vCont;": PacketAnswers._resume,
    "vKill;": PacketAnswers._detach,
    "vRun;": PacketAnswers._begin_again,
    "D": PacketAnswers._detach,
    "H": PacketAnswers._ok,
    "T": PacketAnswers._ok,
    "p": PacketAnswers._register,
    "m": PacketAnswers._memory,
    "Z": PacketAnswers._insert,
    "z": PacketAnswers._insert,
    "P": PacketAnswers._refuse_write,
    "G": PacketAnswers._refuse_write,
    "M": PacketAnswers._refuse_write,
}
"""X, a write in binary, is left out: GDB then uses M."""
_PART_OF: Mapping[str, Feature] = {
    "qqemu.PhyMemMode": Feature.PHYSICAL_MEMORY,
    "Qqemu.PhyMemMode:": Feature.PHYSICAL_MEMORY,
    IS_REPLAY: Feature.PHYSICAL_MEMORY,
    CPUS: Feature.MONITOR,
    FIND: Feature.PHYSICAL_MEMORY,
    "qThreadExtraInfo,": Feature.MONITOR,
    "bs": Feature.REVERSE,
    "bc": Feature.REVERSE,
}
"""Packets that a stub does not know without the feature. Only QEMU's describes threads as it does."""


def _handler_of(text: str) -> _Handler | None:
    whole = _WHOLE.get(text)
    if whole is not None:
        return whole
    return next((handler for beginning, handler in _BEGINNINGS.items() if text.startswith(beginning)), None)
