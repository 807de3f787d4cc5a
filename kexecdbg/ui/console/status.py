"""The status bar: CPU, exception level, regime, MMU, PC, what the machine does, and which one it is."""

from __future__ import annotations

from kexecdbg.ui.console.snapshot import RunState, Snapshot

UNKNOWN = "?"
_GAP = "  "
_ELLIPSIS = "..."
_SHORTEST = 8
"""Characters that a symbol or a target's name is left with in a narrow terminal."""


def status_line(snapshot: Snapshot, target: str, width: int) -> str:
    """The bar for a terminal of ``width`` columns; what is unknown is ``?``.

    Where it does not fit, the symbol is shortened first, then the target's name.
    """
    if snapshot.run_state is RunState.ABSENT:
        return _cut(f" {snapshot.run_state.value}{_GAP}{target}".rstrip(), width)
    symbol = snapshot.symbol
    excess = len(_line(snapshot, symbol, target)) - width
    if excess > 0 and symbol:
        symbol = _cut_symbol(symbol, max(_SHORTEST, len(symbol) - excess))
        excess = len(_line(snapshot, symbol, target)) - width
    if excess > 0:
        target = _cut(target, max(_SHORTEST, len(target) - excess))
    return _cut(_line(snapshot, symbol, target), width)


def _line(snapshot: Snapshot, symbol: str, target: str) -> str:
    number = UNKNOWN if snapshot.cpu is None else str(snapshot.cpu)
    pc = UNKNOWN if snapshot.pc is None else f"{snapshot.pc:#x}"
    parts = [
        f"CPU {number}" + (f" of {snapshot.cpus}" if snapshot.cpus > 1 else ""),
        f"EL{UNKNOWN if snapshot.el is None else snapshot.el}",
        f"regime {UNKNOWN if snapshot.regime is None else snapshot.regime.value}",
        f"MMU {_MMU[snapshot.mmu_on]}",
        pc + (f" <{symbol}>" if symbol else ""),
        snapshot.run_state.value,
        target,
    ]
    return " " + _GAP.join(filter(None, parts))


_MMU = {True: "on", False: "off", None: UNKNOWN}


def _cut_symbol(symbol: str, width: int) -> str:
    """The offset stays: it tells one instruction from the next."""
    name, plus, offset = symbol.partition("+")
    return _cut(name, max(len(_ELLIPSIS) + 1, width - len(plus + offset))) + plus + offset


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - len(_ELLIPSIS))] + _ELLIPSIS
