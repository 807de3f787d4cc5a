"""Repairs, each tried on a copy of the machine before it is proposed."""

from __future__ import annotations

from kexecdbg.arm64.faults import Access, Cause, CauseKind
from kexecdbg.arm64.ranges import MappedRange
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


_EXECUTE_NEVER = frozenset(
    {
        CauseKind.LEAF_XN,
        CauseKind.LEAF_PXN,
        CauseKind.LEAF_UXN,
        CauseKind.TABLE_XN,
        CauseKind.TABLE_PXN,
        CauseKind.TABLE_UXN,
    }
)
_AP1, _AP2 = 6, 7


def permit_fetch(situation: Situation) -> dict[int, DescriptorRepair]:
    """The writes, by descriptor address, that together take away every denial of the next fetch.

    Empty when no change of descriptors does it.
    """
    words: dict[int, int] = {}
    texts: dict[int, list[str]] = {}
    result = situation.fetch
    while result.fault_for(Access.FETCH) is not None:
        before = dict(words)
        for cause in result.privileged.execute.causes:
            _permit(cause, result, words, texts)
        if words == before:
            return {}
        result = situation.walk(situation.next_pc, words=words)
    if not situation.finds_intended_code(result):
        return {}
    return {
        address: DescriptorRepair(
            address, _descriptor_at(situation.fetch, address) or 0, new, " and ".join(texts[address])
        )
        for address, new in words.items()
    }


def _permit(cause: Cause, result: Walk, words: dict[int, int], texts: dict[int, list[str]]) -> None:
    """Add the change of one descriptor bit that takes ``cause`` away, if there is one, to ``words``."""
    address, leaf = cause.address, result.levels[-1].address if result.levels else None
    if cause.kind in _EXECUTE_NEVER and cause.bit is not None:
        bit, value, text = cause.bit, 0, f"clears bit {cause.bit}, {execute_never_name(cause)}"
    elif cause.kind is CauseKind.EL0_WRITABLE:
        address, bit, value, text = leaf, _AP1, 0, "clears bit 6, AP[1]: no access from EL0"
    elif cause.kind is CauseKind.WXN:
        address, bit, value, text = leaf, _AP2, 1, "sets bit 7, AP[2]: the page is read-only"
    else:
        return
    descriptor = _descriptor_at(result, address)
    if address is None or descriptor is None or descriptor >> bit & 1 == value:
        return
    words[address] = words.get(address, descriptor) & ~(1 << bit) | value << bit
    texts.setdefault(address, []).append(text)


def execute_never_name(cause: Cause) -> str:
    """The architecture's name of the bit behind an execute-never cause: ``XN``, ``PXNTable``."""
    return cause.kind.name.split("_")[1] + ("Table" if cause.kind.name.startswith("TABLE") else "")


def change_register(situation: Situation, register: str, new: int, what: str) -> RegisterRepair | None:
    """The write of ``new`` to ``register``, if the next fetch then works; else ``None``."""
    old = situation.after.get(register)
    if old is None or not situation.cures_fetch(registers={register: new}):
        return None
    return RegisterRepair(register, old, new, what)


def change_leaf(situation: Situation, item: MappedRange, what: str, *, set_bits: int) -> DescriptorRepair | None:
    """The write that sets bits of the leaf of ``item``; ``None`` when it is not one leaf, or the fetch suffers."""
    leaf = situation.walk(item.va).levels[-1]
    return _leaf_repair(situation, item, leaf.address, leaf.descriptor, (leaf.descriptor or 0) | set_bits, what)


def unmap(situation: Situation, item: MappedRange) -> DescriptorRepair | None:
    """The write that makes the leaf of ``item`` invalid; ``None`` when it is not one leaf, or the fetch suffers."""
    leaf = situation.walk(item.va).levels[-1]
    return _leaf_repair(situation, item, leaf.address, leaf.descriptor, 0, "unmaps it")


def _leaf_repair(
    situation: Situation, item: MappedRange, address: int, old: int | None, new: int, what: str
) -> DescriptorRepair | None:
    if item.size != item.page_size or old is None or not situation.cures_fetch(words={address: new}):
        return None
    return DescriptorRepair(address, old, new, what)


def fetch_denials(situation: Situation) -> tuple[Cause, ...]:
    """What denies the next fetch its permission; empty when permission is not what stops it."""
    fault = situation.fetch_fault
    if fault is None or situation.fetch.fault_for(Access.READ) is not None:
        return ()
    return situation.fetch.privileged.execute.causes


def _descriptor_at(walk: Walk, address: int | None) -> int | None:
    return next((level.descriptor for level in walk.levels if level.address == address), None)
