"""What changed from one stop to the next, for each CPU."""

from __future__ import annotations

from collections.abc import Mapping

from kexecdbg.arm64.registers import REGISTERS, decode
from kexecdbg.arm64.registers.comparison import FieldChange, compare
from kexecdbg.arm64.registers.model import DecodedField
from kexecdbg.ui.console.snapshot import CORE_REGISTERS, WATCHED_REGISTERS, RunState, Snapshot
from kexecdbg.ui.register_text import value_text
from kexecdbg.ui.style import Style, hanging

_NAME_WIDTH, _MEANING_COLUMN = 11, 34
_REGISTER_BITS = 64
_UNKNOWN = "-"
_FIRST = "there is no stop before this one; step, or continue"
_NOT_STOPPED = "the machine is not stopped"


class StopHistory:
    """The last two stops of each CPU that were seen at the prompt."""

    def __init__(self) -> None:
        self._stops: dict[int | None, tuple[Snapshot | None, Snapshot]] = {}
        self._count = -1

    def note(self, snapshot: Snapshot, stops: int) -> bool:
        """Take in what is at the prompt now; ``stops`` is how often the machine has stopped so far.

        Returns:
            Whether it has stopped anew.
        """
        if snapshot.run_state is not RunState.STOPPED:
            return False
        before, last = self._stops.get(snapshot.cpu, (None, None))
        has_moved = stops != self._count
        self._count = stops
        self._stops[snapshot.cpu] = (last if has_moved else before, snapshot)
        return has_moved

    def earlier(self, snapshot: Snapshot) -> Snapshot | None:
        """The stop before ``snapshot`` on its CPU; ``None`` when there was none."""
        return self._stops.get(snapshot.cpu, (None, snapshot))[0]


def changes_text(earlier: Snapshot | None, now: Snapshot, style: Style) -> str:
    """The registers that changed: general ones a line each, control registers with the fields that differ."""
    if now.run_state is not RunState.STOPPED:
        return _NOT_STOPPED
    if earlier is None:
        return _FIRST
    changed = [name for name in WATCHED_REGISTERS if _differs(earlier.values, now.values, name)]
    if not changed:
        return "nothing has changed since the last stop"
    return "\n".join(_change(name, earlier, now, style) for name in changed)


def _differs(earlier: Mapping[str, int], now: Mapping[str, int], name: str) -> bool:
    # What could be read only once is not known to have changed.
    return name in earlier and name in now and earlier[name] != now[name]


def _change(name: str, earlier: Snapshot, now: Snapshot, style: Style) -> str:
    old, new = earlier.values[name], now.values[name]
    lines = [f"{style.bold(name)}{' ' * max(1, _NAME_WIDTH - len(name))}{value_text(old)} -> {value_text(new)}"]
    if name in REGISTERS and name not in CORE_REGISTERS:
        compared = compare(decode(name, old, earlier.state), decode(name, new, now.state))
        lines += [_field_change(change) for change in compared.changes if not _is_whole(change.field)]
    return "\n".join(lines)


def _is_whole(field: DecodedField) -> bool:
    """Whether the field is all of the register: nothing to add to its value."""
    return field.msb - field.lsb + 1 == _REGISTER_BITS


def _field_change(change: FieldChange) -> str:
    field = change.field
    position = f"[{field.msb}]" if field.msb == field.lsb else f"[{field.msb}:{field.lsb}]"
    old, new = (_UNKNOWN if each is None else f"{each.value:#x}" for each in (change.first, change.second))
    label = f"  {field.name:<10} {position:<8} {old} -> {new} "
    meaning = "no such field in this layout" if change.second is None else change.second.meaning
    return hanging(label, meaning, max(_MEANING_COLUMN, len(label) + 1))
