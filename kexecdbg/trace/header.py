"""What a trace says of itself: the machine that was recorded, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kexecdbg.errors import TraceError
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind
from kexecdbg.trace.frames import compress, decompress

_MAX_CPUS = 1 << 16
_MAX_REGISTERS = 4096
_MAX_REGIONS = 65536
_LENGTH_BYTES = 4
_MAX_TEXT = 2 << 20
"""Bytes of JSON at most; what is made of it takes up thirty times as much."""


@dataclass(frozen=True)
class TraceHeader:
    """The header of a trace.

    Attributes:
        engine: how it was recorded: ``stepping`` or ``log``.
        registers: canonical names of the registers that are recorded, ``PC`` and ``PSTATE`` among them; steps refer to
            them by their index.
        cpu_model: what QEMU calls the CPU, ``cortex-a57``; empty when it could not be found out.
        qemu_version: ``7.2.22``, with the distribution's addition; empty when it could not be found out.
        command_line: QEMU's, as far as it could be found out.
        build_id: of the symbol file, hexadecimal; empty without one.
        regions: the machine's memory map.
        device_registers: what device registers held when the recording began: physical address, bytes, value.
        target_description: the gdbstub's own description of the registers, XML text by file name (``target.xml``);
            a replay serves it again, so that GDB sees the names and numbers of the recorded QEMU.
        whole_memory: all RAM that anything had ever been written to was recorded, not only what was looked at.
        recorder: program and version that wrote the file.
        cpu: number of the recorded CPU, from 0.
        cpus: how many CPUs the machine has.
    """

    engine: str
    registers: tuple[str, ...]
    cpu_model: str = ""
    qemu_version: str = ""
    command_line: tuple[str, ...] = ()
    build_id: str = ""
    regions: tuple[Region, ...] = ()
    device_registers: tuple[tuple[int, int, int], ...] = ()
    target_description: Mapping[str, str] = field(default_factory=dict)
    whole_memory: bool = False
    recorder: str = ""
    cpu: int = 0
    cpus: int = 1

    @property
    def memory_map(self) -> MemoryMap | None:
        """The machine's memory map, ``None`` when it was not recorded."""
        return MemoryMap(self.regions) if self.regions else None

    def pack(self) -> bytes:
        """The payload of the header frame."""
        document = asdict(self)
        document["regions"] = [
            [region.start, region.end, region.kind.value, region.name, region.backing_offset] for region in self.regions
        ]
        text = json.dumps(document, separators=(",", ":")).encode()
        return len(text).to_bytes(_LENGTH_BYTES, "little") + compress(text)

    @classmethod
    def unpack(cls, payload: bytes) -> TraceHeader:
        """The header in ``payload``.

        Raises:
            TraceError: it is damaged, or not what a header looks like.
        """
        size = int.from_bytes(payload[:_LENGTH_BYTES], "little")
        if size > _MAX_TEXT:
            raise TraceError(f"the trace's header is damaged: it should have {size:,} bytes, and none has that many")
        text = decompress(payload[_LENGTH_BYTES:], size, "the trace's header")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise TraceError(f"the trace's header is not JSON: {error}") from error
        return _from_document(document)


def _from_document(document: Any) -> TraceHeader:
    try:
        header = TraceHeader(
            engine=_line(document["engine"]),
            registers=tuple(_line(name) for name in _bounded(document["registers"], _MAX_REGISTERS)),
            cpu_model=_line(document["cpu_model"]),
            qemu_version=_line(document["qemu_version"]),
            command_line=tuple(_line(word) for word in document["command_line"]),
            build_id=_line(document["build_id"]),
            device_registers=tuple(
                _device_register(row) for row in _bounded(document.get("device_registers", []), _MAX_REGIONS)
            ),
            regions=tuple(_region(row) for row in _bounded(document["regions"], _MAX_REGIONS)),
            target_description={_text(k): _text(v) for k, v in document["target_description"].items()},
            whole_memory=document["whole_memory"] is True,
            recorder=_line(document["recorder"]),
            cpu=int(document.get("cpu", 0)),
            cpus=int(document.get("cpus", 1)),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise TraceError(f"the trace's header is not what a header looks like: {error!r}") from error
    if len(set(header.registers)) != len(header.registers) or not {"PC", "PSTATE"} <= set(header.registers):
        raise TraceError("the trace's header names no PC or PSTATE, or a register twice")
    if not 0 <= header.cpu < header.cpus <= _MAX_CPUS:
        raise TraceError(f"the trace's header is of CPU {header.cpu} of {header.cpus}, which cannot be")
    return header


def _line(value: Any) -> str:
    """A text that is shown: what a terminal would act on, in a file that somebody else made, is a question mark."""
    return "".join(character if character.isprintable() else "?" for character in _text(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _bounded(values: Any, limit: int) -> list[Any]:
    if not isinstance(values, list) or len(values) > limit:
        raise ValueError(f"not a list of at most {limit}")
    return values


def _region(row: Any) -> Region:
    start, end, kind, name, backing_offset = row
    if not 0 <= int(start) < int(end) <= 1 << 64:
        raise ValueError(f"region {row!r}")
    return Region(int(start), int(end), RegionKind(kind), _line(name), int(backing_offset))


def _device_register(row: Any) -> tuple[int, int, int]:
    address, size, value = map(int, row)
    if size not in (1, 2, 4, 8) or not 0 <= address < 1 << 64 or not 0 <= value < 1 << 8 * size:
        raise ValueError(f"device register {row!r}")
    return address, size, value
