"""From anywhere before the jump to the first instruction of the relocation code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.regimes import current_el, regime_of
from kexecdbg.arm64.walk import walk
from kexecdbg.checks.fetching import fetched_from
from kexecdbg.checks.relocating.code_search import find_relocation_code, goes_through_page_list, is_relocation_code
from kexecdbg.checks.relocating.control import RelocationControl
from kexecdbg.checks.relocating.phases import Moment, read_counter
from kexecdbg.checks.relocation import CODE_PAGE_SIZE, Relocation, find_relocation
from kexecdbg.errors import MemoryUnreadableError, TargetError, UsageError
from kexecdbg.kexec.argument import Addressing, RelocationArgument, Role
from kexecdbg.kexec.page_list import EntryKind
from kexecdbg.kexec.recognise import recognise
from kexecdbg.machine.state import CpuState

REBOOT = "kernel_kexec"
JUMP = "machine_kexec"
LOADED = "kexec_image"
SYMBOLS = (REBOOT, JUMP, LOADED)
"""What is used of a kernel's symbols, where there are any: two functions and a variable."""
_SEVERAL_STOPS = 8


@dataclass(frozen=True)
class AtRelocationCode:
    """The relocation that the CPU is at, and the moments on the way to it."""

    relocation: Relocation
    moments: tuple[Moment, ...]


def run_to_relocation_code(
    control: RelocationControl, symbols: Mapping[str, int], seconds: float | None = None
) -> AtRelocationCode:
    """Run to the relocation code, or stay where the CPU is if it is there and has not begun to copy.

    Args:
        control: the machine.
        symbols: addresses of :data:`SYMBOLS`, those that are known.
        seconds: bound of each run.

    Raises:
        UsageError: there is nothing to relocate, or the relocation has begun already; the message says what to do.
        TargetError: the relocation code was not reached.
    """
    here = relocation_here(control)
    if here is not None:
        return AtRelocationCode(here, ())
    _check_not_begun(control)
    _check_kind(control)
    entries = set(_entries(control, symbols))
    calls = {symbols[name]: name for name in (REBOOT, JUMP) if name in symbols}
    if not entries and not calls:
        raise UsageError(
            "no relocation code is in memory and no symbols tell when there will be: load the second kernel first "
            "(kexec -l), or give GDB the kernel's symbols (symbol-file vmlinux)"
        )
    moments: list[Moment] = []
    for _ in range(_SEVERAL_STOPS):
        pc = control.run(entries | set(calls), seconds, {})
        if pc in calls:
            name = calls.pop(pc)
            moments.append(Moment(name, read_counter(control)))
            if name == JUMP:
                entries.add(_entry_of(_argument_at(control, _x0(control))))
            continue
        if pc not in entries:
            raise TargetError(f"the machine stopped at {pc:#x} before it reached the relocation code")
        here = relocation_here(control)
        if here is not None:
            return AtRelocationCode(here, tuple(moments))
        entries.discard(pc)
    raise TargetError("the relocation code was reached, but no register points to its argument")


def relocation_here(control: RelocationControl) -> Relocation | None:
    """The relocation whose code the CPU is in, before the first page is copied."""
    state = control.state()
    pc = state.require("PC", "where the relocation is")
    relocation = find_relocation(state, state, control.memory, pc)
    if relocation is None or relocation.loop is None or not goes_through_page_list(relocation.loop):
        return None
    return None if any(each.address == pc for each in relocation.loop.loop) else relocation


def _check_kind(control: RelocationControl) -> None:
    """The relocations of PATCH v1 to v9 go by ``eret`` to code that cannot be followed, and copy in one go."""
    state = control.state()
    relocation = find_relocation(state, state, control.memory, state.require("PC", "where the relocation is"))
    if relocation is not None and relocation.argument.layout.addressing is Addressing.CONTIGUOUS:
        argument = relocation.argument
        raise UsageError(
            f"{argument.layout.name}, at {argument.address:#x}: kexec-relocate follows a copy that goes through the "
            "page list (RFC v2, mainline); use kexec-image to audit this one, kexec-step for its switch"
        )


def _check_not_begun(control: RelocationControl) -> None:
    state = control.state()
    pc = state.require("PC", "where the CPU is")
    try:
        pa = fetched_from(state, control.memory, pc)
        inside = pa is not None and is_relocation_code(control.memory, pa & ~(CODE_PAGE_SIZE - 1))
    except MemoryUnreadableError:
        return
    if inside:
        raise UsageError(
            f"the CPU is in the relocation code, at {pc:#x}, and may have copied pages already: what their sources "
            "held at the start is not known; use kexec-relocate before the jump, kexec-why if the CPU is stuck"
        )


def _entries(control: RelocationControl, symbols: Mapping[str, int]) -> tuple[int, ...]:
    """Where the relocation code begins, as far as it is in memory already; its virtual address is the physical one."""
    if LOADED in symbols:
        kimage = _read_pointer(control, symbols[LOADED])
        if kimage is None and JUMP not in symbols:
            raise TargetError(
                f"kexec_image, at {symbols[LOADED]:#x}, is not mapped; do the symbols fit the running kernel (KASLR)?"
            )
        if kimage:
            return (_entry_of(_argument_at(control, kimage)),)
        if JUMP in symbols:
            return ()
        raise UsageError("kexec_image is 0, no image is loaded: load the second kernel first (kexec -l)")
    return () if JUMP in symbols else find_relocation_code(control.memory) or ()


def _entry_of(kimage: RelocationArgument) -> int:
    if kimage.require(Role.HEAD) & EntryKind.DONE:
        raise UsageError(
            f"the kimage at {kimage.address:#x} has nothing to relocate: its image lies in place (IND_DONE in head)"
        )
    return kimage.values["arch.kern_reloc"]


def _argument_at(control: RelocationControl, va: int) -> RelocationArgument:
    pa = _translate(control.state(), control, va)
    found = None if pa is None else recognise(control.memory, pa)
    if found is None or found.argument is None:
        reasons = "" if found is None else "; ".join(f"{name}: {why}" for name, why in found.refusals.items())
        raise TargetError(f"{va:#x} should point to a struct kimage and does not ({reasons or 'it is not mapped'})")
    return found.argument


def _read_pointer(control: RelocationControl, va: int) -> int | None:
    """The pointer at ``va``; ``None`` where it is not mapped: in user space with kernel page-table isolation, too."""
    pa = _translate(control.state(), control, va)
    return None if pa is None else int.from_bytes(control.memory.read(pa, 8), "little")


def _translate(state: CpuState, control: RelocationControl, va: int) -> int | None:
    result = walk(state, control.memory, va, regime=regime_of(current_el(state), state))
    return result.pa if result.fault_for(Access.READ) is None else None


def _x0(control: RelocationControl) -> int:
    return control.state().require("X0", "which kimage is executed")
