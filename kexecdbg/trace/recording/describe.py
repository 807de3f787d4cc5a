"""What a trace's header says of the machine that is recorded, as far as it can be found out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kexecdbg import __version__
from kexecdbg.arm64.evaluation.system_registers import is_volatile
from kexecdbg.machine.gdb_remote.description import TargetDescription
from kexecdbg.machine.memory_map import MemoryMap
from kexecdbg.qemu.guest_memory import QemuStub
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.recording.device_registers import read_device_registers
from kexecdbg.trace.recording.symbols import build_id

_CPU_TYPE = re.compile(r"child<([\w.-]+)-arm-cpu>")
_DIRECTORIES = re.compile(r"(?<![\w.])/(?:[^/,=]+/)+")
"""The directories of an absolute path, on its own or in an option (``mem-path=/dev/shm/ram,share=on``)."""
_CHANGED_ONLY_BY_INSTRUCTIONS = frozenset({"PAR_EL1"})
"""Registers that the evaluation calls volatile because other software may have used them; here every change is seen."""


def recorded_registers(names: Iterable[str]) -> tuple[str, ...]:
    """Those of ``names`` that change only by what instructions do: counters and interrupt status are left out."""
    return tuple(name for name in names if name in _CHANGED_ONLY_BY_INSTRUCTIONS or not is_volatile(name))


def describe(
    stub: QemuStub,
    description: TargetDescription,
    memory_map: MemoryMap,
    *,
    engine: str,
    whole_memory: bool,
    command_line: tuple[str, ...] = (),
    symbol_file: Path | None = None,
    cpu: int = 0,
    cpus: int = 1,
) -> TraceHeader:
    """The header of a recording of the machine behind ``stub``.

    Args:
        engine: ``stepping`` or ``log``.
        whole_memory: whether all RAM that was ever written is recorded.
        command_line: QEMU's, when it is known.
        symbol_file: the ELF file of the guest, for its build id.
        cpu, cpus: which CPU is recorded, of how many.

    Raises:
        EnvironmentProblem: the symbol file cannot be read.
    """
    cpu_type = _CPU_TYPE.search(stub.monitor("qom-list /machine/unattached"))
    return TraceHeader(
        engine=engine,
        registers=recorded_registers(description.by_canonical_name()),
        cpu_model=cpu_type[1] if cpu_type else "",
        qemu_version=stub.monitor("info version").strip(),
        command_line=command_line,
        build_id=build_id(symbol_file) if symbol_file else "",
        regions=memory_map.regions,
        device_registers=read_device_registers(stub, memory_map),
        target_description=description.files,
        whole_memory=whole_memory,
        recorder=f"kexecdbg {__version__}",
        cpu=cpu,
        cpus=cpus,
    )


def command_line_of(pid: int) -> tuple[str, ...]:
    """The command line of a running process; empty when it cannot be read, or is not QEMU's.

    Of paths it has only the files' names: a trace is made to be sent to others, and directories say who works where.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return ()
    if "qemu-system" not in Path(words[0]).name:
        return ()
    return without_directories(words)


def without_directories(words: Sequence[str]) -> tuple[str, ...]:
    """A command line of QEMU's with absolute paths cut down to the files' names, but for ``-append``."""
    pairs = zip(["", *words], words, strict=False)
    return tuple(word if before == "-append" else _DIRECTORIES.sub("", word) for before, word in pairs)
