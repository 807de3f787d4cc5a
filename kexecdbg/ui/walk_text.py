"""The walk of one address as text."""

from __future__ import annotations

from kexecdbg.arm64.descent import WalkLevel
from kexecdbg.arm64.faults import Access, Fault
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.rights import Right, Rights
from kexecdbg.arm64.stage2 import Stage2Walk
from kexecdbg.arm64.syndromes import abort_esr
from kexecdbg.arm64.walk_result import Walk
from kexecdbg.ui.style import Style, hanging

_COLUMN = 11


def walk_command(regime: Regime, va: int, options: str = "") -> str:
    """What to type in GDB for the walk of ``va``: ``walk-ttbr1 0xffff800008000000``; ``options`` begin with a blank."""
    return f"walk-ttbr{int(regime.facts.is_upper(va))}{options} {va:#x}"


def walk_text(result: Walk, style: Style) -> str:
    """Every level, then where it leads, each right with the bit that decides it, and the faults."""
    lines = [f"{style.bold(f'{result.va:#x}')} in the {result.regime.value} regime"]
    if not result.enabled:
        lines.append("  stage 1 is off: the output address is the input address")
    lines += [_level(level) for level in result.levels]
    lines += _uncached_tables(result)
    if result.stage2 is not None:
        lines.append(f"  IPA      {result.stage2.ipa:#x}, translated by stage 2:")
        lines += [_level(level) for level in result.stage2.levels]
    if result.unknown and result.fault is not None:
        lines.append(hanging("  unknown", result.fault.cause.text, _COLUMN, style))
    elif result.fault is not None:
        lines.append(style.bad(_fault("fault", result.fault, Access.READ, result)))
    else:
        lines.append(_output(result))
        lines += [
            _right("read", result.privileged.read, style),
            _right("write", result.privileged.write, style),
            _right("execute", result.privileged.execute, style),
        ]
        if result.user is not None:
            lines.append(_el0(result.user))
        fetch = result.fault_for(Access.FETCH)
        if fetch is not None:
            lines.append(style.bad(_fault("fetch", fetch, Access.FETCH, result)))
    lines += [style.warn(hanging("  warning", cause.text, _COLUMN)) for cause in result.warnings]
    if result.debugger_hides:
        lines.append(hanging("  note", "a debugger reads this address without checking any of it", _COLUMN))
    lines += [style.dim(hanging("  assumed", text, _COLUMN)) for text in result.assumptions]
    return "\n".join(lines)


def _uncached_tables(result: Walk) -> list[str]:
    """A line when the walk reads memory and not the caches, where what was written last may still be."""
    if result.table_access is None or not result.levels or result.table_access[0].is_cacheable:
        return []
    memory_type, shareability = result.table_access
    return [hanging("  tables", f"read as {memory_type.text}, {shareability.text}: not from the caches", _COLUMN)]


def stage2_text(result: Stage2Walk, style: Style) -> str:
    """The stage 2 walk of one intermediate physical address."""
    lines = [f"IPA {style.bold(f'{result.ipa:#x}')} by stage 2", *(_level(level) for level in result.levels)]
    if result.fault is not None:
        hpfar = "" if result.fault.hpfar is None else f", HPFAR_EL2 {result.fault.hpfar:#x}"
        text = f"{result.fault.text} (status code {result.fault.fsc:#04x}{hpfar}): {result.fault.cause.text}"
        lines.append(style.bad(hanging("  fault", text, _COLUMN)))
    else:
        details = [f"{result.pa:#x}", f"{_size(result.page_size or 0)} {'page' if result.leaf_level == 3 else 'block'}"]
        if result.memory_type is not None:
            details.append(result.memory_type.text)
        lines.append(hanging("  output", ", ".join(details), _COLUMN))
        lines += [
            _right("read", result.privileged.read, style),
            _right("write", result.privileged.write, style),
            _right("execute", result.privileged.execute, style),
            _el0(result.user),
        ]
    lines += [style.warn(hanging("  warning", cause.text, _COLUMN)) for cause in result.warnings]
    lines += [style.dim(hanging("  assumed", text, _COLUMN)) for text in result.assumptions]
    return "\n".join(lines)


def _level(level: WalkLevel) -> str:
    descriptor = "unreadable        " if level.descriptor is None else f"{level.descriptor:#018x}"
    leads = f" -> {level.output:#x}" if level.output is not None else ""
    notes = f"  {' '.join(level.notes)}" if level.notes else ""
    line = f"  level {level.level:<3} {level.address:#x}: {descriptor} {level.kind.name.lower()}{leads}"
    return line + notes if len(line + notes) <= 80 else f"{line}\n{' ' * _COLUMN}{notes.strip()}"


def _output(result: Walk) -> str:
    if result.pa is None:
        return hanging("  output", "unknown", _COLUMN)
    details = [f"{result.pa:#x}"]
    if result.page_size is not None:
        details.append(f"{_size(result.page_size)} {'page' if result.leaf_level == 3 else 'block'}")
    if result.memory_type is not None:
        details.append(result.memory_type.text)
    if result.shareability is not None:
        details.append(result.shareability.text)
    return hanging("  output", ", ".join(details), _COLUMN)


def _size(size: int) -> str:
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >> shift:
            return f"{size >> shift} {unit}"
    return f"{size} B"


def _right(name: str, right: Right, style: Style) -> str:
    text = hanging(f"  {name}", f"{'yes' if right.allowed else 'NO '}  {right.because}", _COLUMN)
    return text if right.allowed else style.bad(text)


def _el0(rights: Rights) -> str:
    """The rights of EL0 on one line, and what decides each; accesses with the same reason together."""
    named = {"read": rights.read, "write": rights.write, "execute": rights.execute}
    accesses: dict[str, list[str]] = {}
    for name, right in named.items():
        accesses.setdefault(right.because, []).append(name)
    first, *others = (f"{', '.join(names)}: {because}" for because, names in accesses.items())
    lines = [hanging("  EL0", f"{rights.text}  {first}", _COLUMN)]
    return "\n".join(lines + [hanging("", each, _COLUMN) for each in others])


def _fault(label: str, fault: Fault, access: Access, result: Walk) -> str:
    esr_name = result.regime.facts.esr if fault.stage == 1 else "ESR_EL2"
    fetch = f"{esr_name} {abort_esr(fault, Access.FETCH):#010x}"
    hpfar = "" if fault.hpfar is None else f", HPFAR_EL2 {fault.hpfar:#x}"
    if access is Access.FETCH:
        text = f"{fault.text}: {fetch}{hpfar}"
    else:
        read = abort_esr(fault, Access.READ)
        text = f"{fault.text}: {fetch} on a fetch, {read:#010x} on a read{hpfar}; {fault.cause.text}"
    return hanging(f"  {label}", text, _COLUMN)
