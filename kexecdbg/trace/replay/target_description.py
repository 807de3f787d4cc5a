"""The registers that a replay offers: those of the recorded gdbstub, or made from the names in the trace."""

from __future__ import annotations

import html
from collections.abc import Iterable

from kexecdbg.errors import TraceError
from kexecdbg.machine.gdb_remote.description import TargetDescription, read_description
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.replay.stub_features import OPENOCD_32_BITS, Feature, StubFeatures, StubKind

_MOST_BYTES = 256
"""Of one register: an SVE vector of 2048 bits."""
_GENERAL = tuple(f"X{number}" for number in range(31))
_CORE = (*_GENERAL, "SP", "PC", "PSTATE")
_FEATURES = {StubKind.QEMU: "org.qemu.gdb.arm.sys.regs", StubKind.OPENOCD: "net.sourceforge.openocd.banked"}
_HEAD = '<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "gdb-target.dtd">\n<target><architecture>aarch64</architecture>'


def description_of(header: TraceHeader, features: StubFeatures | None = None) -> TargetDescription:
    """What GDB is told of the registers; with the recorded stub's own text, names and numbers are the same as live.

    A stub that does not offer all registers (``features``) has a description made from those that it does.

    Raises:
        TargetError: the description in the trace is none of AArch64 registers.
        TraceError: numbers or sizes in it are not such as registers have.
    """
    features = features or StubFeatures()
    files = dict(header.target_description)
    if not files or not features.has(Feature.SYSTEM_REGISTERS):
        offered = features.system_registers(name for name in header.registers if name not in _CORE)
        files = {"target.xml": _made_from(offered, features.kind)}
    try:
        description = read_description(files)
    except ValueError as error:
        raise TraceError(f"the trace's description of its registers is damaged: {error}") from error
    for register in description.registers:
        if not 0 < register.size <= _MOST_BYTES:
            raise TraceError(f"the trace's description of its registers is damaged: {register}")
    return description


def _made_from(others: Iterable[str], kind: StubKind) -> str:
    """A description of the core registers that GDB requires (GDB manual, "AArch64 Features") and of ``others``."""
    core = [f'<reg name="{name.lower()}" bitsize="64"/>' for name in _GENERAL]
    core += [
        '<reg name="sp" bitsize="64" type="data_ptr"/>',
        '<reg name="pc" bitsize="64" type="code_ptr"/>',
        '<reg name="cpsr" bitsize="32"/>',
    ]
    system = [_system_register(name, kind) for name in others]
    return "\n".join(
        [
            _HEAD,
            '<feature name="org.gnu.gdb.aarch64.core">',
            *core,
            "</feature>",
            f'<feature name="{_FEATURES[kind]}">',
            *system,
            "</feature>",
            "</target>\n",
        ]
    )


def _system_register(name: str, kind: StubKind) -> str:
    if kind is StubKind.OPENOCD:
        size = 'bitsize="32" type="uint32"' if name in OPENOCD_32_BITS else 'bitsize="64" type="code_ptr"'
        return f'<reg name="{name}" {size} group="banked"/>'
    return f'<reg name="{html.escape(name)}" bitsize="64" group="cp_regs"/>'
