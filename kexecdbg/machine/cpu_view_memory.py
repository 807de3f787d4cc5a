"""Physical memory through a gdbstub that has only the CPU's own addresses: those of boards, behind JTAG for instance.

A memory packet is then translated as the CPU's own accesses are. Where the MMU is off, its addresses are physical
ones; where it is on, a page counts as readable if the tables, read the same way, map it to itself.
"""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.regimes import Regime, current_el, mmu_enabled, regime_of
from kexecdbg.arm64.stage2 import stage2_enabled
from kexecdbg.arm64.walk import walk
from kexecdbg.errors import ArchitectureError, MemoryUnreadableError, RegisterUnknownError, TargetError
from kexecdbg.machine.memory_map import MemoryMap
from kexecdbg.machine.stub_memory import StubPackets, read_packet

_CHUNK = 512
"""Bytes per memory packet: every stub takes them (OpenOCD's packets hold 16 KiB, kgdb's 2 KiB)."""
_PAGE = 4096
_DECIDING = (
    "PC",
    "PSTATE",
    "SP",
    *(f"X{number}" for number in range(31)),
    "HCR_EL2",
    "VTTBR_EL2",
    *(f"{name}_EL{el}" for el in (1, 2, 3) for name in ("SCTLR", "TCR", "TTBR0", "TTBR1")),
)
"""While none of them has changed, the CPU has executed nothing."""


class CpuViewMemory:
    """Physical memory where it can be proved that the CPU's addresses are physical.

    Args:
        stub: the stopped machine.
        registers: gives the registers of the CPU that the stub's memory packets are about, as they are now.
        memory_map: the machine's, if it is known.
    """

    def __init__(
        self, stub: StubPackets, registers: Callable[[], RegisterValues], memory_map: MemoryMap | None = None
    ) -> None:
        self.memory_map = memory_map
        self._stub = stub
        self._registers = registers
        self._state: tuple[int | None, ...] = ()
        self._identical: set[int] = set()
        self._uses: dict[tuple[Regime, bool], None] = {}

    def remarks(self) -> tuple[str, ...]:
        """How memory was read since :meth:`forget_uses`, as a sentence; nothing when none was."""
        used = self._uses
        if not used:
            return ()
        ways = []
        for on, what in ((False, "past the data caches, where newer values may be"), (True, _WHERE_IDENTICAL)):
            regimes = [f"the {regime.value} MMU {'on' if on else 'off'}" for regime, was_on in used if was_on is on]
            if regimes:
                ways.append(f"with {' and '.join(regimes)}, {what}")
        return (f"the gdbstub has no physical addresses; memory was read as the CPU sees it: {'; '.join(ways)}",)

    def forget_uses(self) -> None:
        """Begin anew with what :meth:`remarks` tells."""
        self._uses.clear()

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes at the physical ``address``.

        Raises:
            MemoryUnreadableError: the CPU's address of that number is not known to be the physical one, or the stub
                cannot read it.
        """
        if self.memory_map is not None:
            self.memory_map.check_readable(address, size)
        self._check_physical(address, size)
        return self._read_as_cpu(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Write ``data`` at the physical ``address``; see :meth:`read`."""
        if self.memory_map is not None:
            self.memory_map.check_readable(address, len(data))
        self._check_physical(address, len(data))
        for start in range(0, len(data), _CHUNK):
            piece = data[start : start + _CHUNK]
            reply = self._stub.packet(f"M{address + start:x},{len(piece):x}:{piece.hex()}")
            if reply != "OK":
                raise TargetError(f"the gdbstub answered {reply!r} to a write of {address + start:#x}")

    def _read_as_cpu(self, address: int, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += read_packet(self._stub, address + len(data), min(_CHUNK, size - len(data)))
        return bytes(data)

    def _check_physical(self, address: int, size: int) -> None:
        registers = self._registers()
        try:
            regime = regime_of(current_el(registers), registers)
            self._check_stage2(regime, registers, address, size)
            if not mmu_enabled(regime, registers):
                self._uses[regime, False] = None
                return
        except RegisterUnknownError as error:
            raise MemoryUnreadableError(
                address,
                size,
                f"the gdbstub reads as the CPU does and has no physical addresses, and whether the MMU is on is not "
                f"known; type --assume {error.name}=VALUE",
            ) from error
        self._forget_if_it_ran(registers)
        for page in range(address - address % _PAGE, address + size, _PAGE):
            self._prove(page, regime, registers)
        self._uses[regime, True] = None

    def _check_stage2(self, regime: Regime, registers: RegisterValues, address: int, size: int) -> None:
        if regime is Regime.EL1_0 and stage2_enabled(registers):
            raise MemoryUnreadableError(
                address, size, "the gdbstub reads as the CPU does, and stage 2 is on: its addresses are not physical"
            )

    def _forget_if_it_ran(self, registers: RegisterValues) -> None:
        state = tuple(registers.get(name) for name in _DECIDING)
        if state != self._state:
            self._state, self._identical = state, set()

    def _prove(self, page: int, regime: Regime, registers: RegisterValues) -> None:
        """Return when ``page`` is mapped to itself, by tables whose pages are, too.

        The tables that say so are read under that very assumption: pages that were mapped elsewhere would have to hold
        tables that say the same of themselves.
        """
        pending, proved = [page], set(self._identical)
        while pending:
            wanted = pending.pop()
            if wanted in proved:
                continue
            try:
                found = walk(registers, _AsCpu(self._read_as_cpu), wanted, regime=regime)
            except (RegisterUnknownError, ArchitectureError, MemoryUnreadableError) as error:
                raise MemoryUnreadableError(page, _PAGE, f"{_NOT_IDENTICAL}: {error}") from error
            if found.pa != wanted:
                where = "nowhere" if found.pa is None else f"to {found.pa:#x}"
                raise MemoryUnreadableError(page, _PAGE, f"{_NOT_IDENTICAL}: {wanted:#x} is mapped {where}")
            proved.add(wanted)
            pending += [level.address - level.address % _PAGE for level in found.levels]
        self._identical = proved


_WHERE_IDENTICAL = "where its tables map pages to themselves"
_NOT_IDENTICAL = (
    "the gdbstub has no physical addresses and the MMU is on; it reads only what is mapped to the same address"
)


class _AsCpu:
    """The CPU's view as memory to walk tables in."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read

    def read(self, address: int, size: int) -> bytes:
        """See :class:`kexecdbg.arm64.interfaces.PhysicalMemory`."""
        return self._read(address, size)
