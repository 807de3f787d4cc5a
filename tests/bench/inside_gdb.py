"""Sourced into GDB by ``tests.bench.kernel``: times the tool where it runs, in GDB's own Python, and prints JSON."""

from __future__ import annotations

import json

import gdb
from kexecdbg_plugins.adapter import debugger  # type: ignore[import-not-found]
from kexecdbg_plugins.gdb_registers import GdbRegisters  # type: ignore[import-not-found]
from kexecdbg_plugins.gdb_stub import GdbStub, monitor  # type: ignore[import-not-found]

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import current_el, regime_of
from kexecdbg.arm64.scan import scan
from kexecdbg.arm64.walk import walk
from kexecdbg.machine.state import CpuState
from kexecdbg.machine.stub_memory import StubMemory
from kexecdbg.qemu.memory_tree import parse_flat_memory_tree
from tests.bench.measure import median_seconds


class _CountingMemory:
    """Remembers which tables a scan reads, so that reading them alone can be timed."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self.memory = memory
        self.reads: list[tuple[int, int]] = []

    def read(self, address: int, size: int) -> bytes:
        self.reads.append((address, size))
        return self.memory.read(address, size)


def kexecdbg_benchmark() -> None:
    """Print seconds by name as JSON."""
    target = debugger()
    shared = target.memory
    stub = StubMemory(GdbStub(), parse_flat_memory_tree(monitor("info mtree -f")))
    state = CpuState(GdbRegisters())
    regime = regime_of(current_el(state), state)
    counting = _CountingMemory(shared)
    table = scan(state, counting, regime, ttbr=1)
    pc = state.require("PC", "the walk")

    def read_tables(memory: PhysicalMemory) -> None:
        for address, size in counting.reads:
            memory.read(address, size)

    def read_through_stub() -> None:
        with stub.many_reads():
            read_tables(stub)

    def scan_through_stub() -> None:
        fresh = CpuState(GdbRegisters())
        with stub.many_reads():
            scan(fresh, stub, regime, ttbr=1)

    def one_walk() -> None:
        walk(CpuState(GdbRegisters()), shared, pc, regime=regime)

    print(
        json.dumps(
            {
                "entries": table.entries,
                "tables": table.tables,
                "ranges": len(table.ranges),
                "shared_file": type(shared).__name__ == "SharedRamFile",
                "read shared": median_seconds(lambda: read_tables(shared), 7),
                "read stub": median_seconds(read_through_stub, 3),
                "scan shared": median_seconds(lambda: scan(CpuState(GdbRegisters()), shared, regime, ttbr=1), 7),
                "scan stub": median_seconds(scan_through_stub, 3),
                "gdb x": median_seconds(lambda: gdb.execute("x/gx $pc", to_string=True), 50),
                "walk": median_seconds(one_walk, 50),
                "command walk": median_seconds(lambda: gdb.execute("walk-ttbr1 $pc", to_string=True), 20),
                "one register": median_seconds(lambda: GdbRegisters().get("TCR_EL1"), 50),
                "regs all": median_seconds(lambda: gdb.execute("kexec-regs --all --raw", to_string=True), 10),
                "regs all decoded": median_seconds(lambda: gdb.execute("kexec-regs --all", to_string=True), 10),
            }
        )
    )
