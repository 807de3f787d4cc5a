"""Code around a switch, assembled: the tables map it, its vectors, a page of data, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kexecdbg.checks.judging import judge
from kexecdbg.checks.situation import Situation, situation_at
from kexecdbg.checks.verdict import Verdict
from kexecdbg.lab.tables import TableBuilder
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.state import CpuState
from tests.unit.assembly import assemble
from tests.unit.checks.moments import CODE, CORTEX_A57, EXEC, ROOT, SCTLR, UXN, VECTORS

DATA = 0x1_4060_0000
HOLE = 0x1_4061_0000
"""A page of RAM that is not mapped."""
_NOP = 0xD503_201F
_UNKNOWN = {f"X{number}": None for number in range(31)}


@dataclass(frozen=True)
class Snippet:
    """Lines of assembly from CODE on.

    Attributes:
        lines: a label ``switch`` marks the write that is judged; X14 holds what is written to SCTLR.
        registers: changed registers; general registers are unknown unless given.
        start: label of the PC.
        data: attributes of the data page, ``None`` when it is not mapped.
        adjust: further changes to the tables.
        contents: more memory, by address.
    """

    lines: tuple[str, ...]
    registers: Mapping[str, int | None] = field(default_factory=dict)
    start: str = "switch"
    data: int | None = EXEC | UXN
    adjust: Callable[[TableBuilder], None] = field(default=lambda tables: None)
    contents: Mapping[int, bytes] = field(default_factory=dict)

    def tables(self) -> TableBuilder:
        free = iter(range(ROOT, CODE, 0x1000))
        tables = TableBuilder(lambda size: next(free))
        tables.map_page(CODE, CODE, EXEC)
        tables.map_page(VECTORS, VECTORS, EXEC)
        if self.data is not None:
            tables.map_page(DATA, DATA, self.data)
        self.adjust(tables)
        return tables

    def label(self, name: str) -> int:
        """Address of a label."""
        return CODE + assemble(*self.lines)[1][name]

    def memory(self) -> BytesMemory:
        text, _ = assemble(*self.lines)
        pages = {CODE: text.ljust(0x1000, b"\0"), VECTORS: _NOP.to_bytes(4, "little") * 1024}
        return BytesMemory(
            {**self.tables().pages(), **pages, DATA: bytes(0x1000), HOLE: bytes(0x1000), **self.contents}
        )

    def state(self) -> CpuState:
        values = {**CORTEX_A57, **_UNKNOWN, "X14": SCTLR & ~0b1010, "PC": self.label(self.start), **self.registers}
        return CpuState({name: value for name, value in values.items() if value is not None})

    def situation(self) -> Situation:
        return situation_at(self.state(), self.memory())

    def verdict(self) -> Verdict:
        return judge(self.situation())


def at_el2(*lines: str, after: tuple[str, ...] = ("isb", "b ."), **registers: int | None) -> Snippet:
    """``lines``, the switch of the EL2 MMU, and ``after``."""
    return Snippet((*lines, "switch: msr sctlr_el2, x14", *after), registers)


TEXTBOOK = (
    "msr mair_el2, x1",
    "msr tcr_el2, x2",
    "msr ttbr0_el2, x3",
    "isb",
    "tlbi alle2",
    "dsb nsh",
    "isb",
)


def found(verdict: Verdict, *ids: str) -> list[str]:
    """Ids of the findings, of ``ids`` only if there are any."""
    return [finding.id for finding in verdict.findings if not ids or finding.id in ids]
