"""Repairs, each tried on a copy of the machine before it is proposed."""

from __future__ import annotations

from kexecdbg.arm64.faults import Access, Cause
from kexecdbg.arm64.walk import Walk
from kexecdbg.checks.finding import DescriptorRepair, RegisterRepair
from kexecdbg.checks.situation import Situation


def change_descriptor(
    situation: Situation, cause: Cause, *, clear: int = 0, set_bits: int = 0, what: str
) -> DescriptorRepair | None:
    """The write to the descriptor that ``cause`` names, if the next fetch then works; else ``None``.

    ``clear`` and ``set_bits`` are masks of descriptor bits; ``what`` says what changes.
    """
    descriptor = _descriptor_at(situation.fetch, cause.address)
    if descriptor is None or cause.address is None:
        return None
    new = (descriptor & ~clear) | set_bits
    if not situation.cures_fetch(words={cause.address: new}):
        return None
    return DescriptorRepair(cause.address, descriptor, new, what)


def clear_execute_never(situation: Situation) -> tuple[DescriptorRepair, ...]:
    """Clear every execute-never bit on the path, when several descriptors together deny the fetch and this cures it."""
    changes: dict[int, int] = {}
    for cause in situation.fetch.privileged.execute.causes:
        if cause.address is None or cause.bit is None:
            return ()
        changes[cause.address] = changes.get(cause.address, 0) | 1 << cause.bit
    words = {}
    for address, mask in changes.items():
        descriptor = _descriptor_at(situation.fetch, address)
        if descriptor is None:
            return ()
        words[address] = descriptor & ~mask
    if not words or not situation.cures_fetch(words=words):
        return ()
    return tuple(
        DescriptorRepair(address, _descriptor_at(situation.fetch, address) or 0, new, "clears its execute-never bit")
        for address, new in words.items()
    )


def change_register(situation: Situation, register: str, new: int, what: str) -> RegisterRepair | None:
    """The write of ``new`` to ``register``, if the next fetch then works; else ``None``."""
    old = situation.after.get(register)
    if old is None or not situation.cures_fetch(registers={register: new}):
        return None
    return RegisterRepair(register, old, new, what)


def fetch_denials(situation: Situation) -> tuple[Cause, ...]:
    """What denies the next fetch its permission; empty when permission is not what stops it."""
    fault = situation.fetch_fault
    if fault is None or situation.fetch.fault_for(Access.READ) is not None:
        return ()
    return situation.fetch.privileged.execute.causes


def _descriptor_at(walk: Walk, address: int | None) -> int | None:
    return next((level.descriptor for level in walk.levels if level.address == address), None)
