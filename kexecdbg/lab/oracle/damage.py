"""Things that go wrong in tables, registers and addresses; a case gets none, one or two of them."""

from __future__ import annotations

import random
from collections.abc import Callable

from kexecdbg.arm64.bits import mask
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.oracle.cases import HOLE
from kexecdbg.lab.oracle.draft import Draft
from kexecdbg.lab.oracle.sparse_tables import Entry
from kexecdbg.lab.tables import encode_address

_COUNTS = (0, 0, 0, 0, 1, 1, 1, 1, 2)
_ATTRIBUTE_BITS = (*range(2, 12), *range(50, 55), *range(59, 64))
_ADDRESS_BITS = tuple(range(12, 50))
_HCR_BITS = (0, 2, 12, 32, 33, 46)
_SCTLR_BITS = (2, 12, 19, 25)


def damage(draft: Draft) -> None:
    """Do up to two random things to a sound draft."""
    for _ in range(draft.rng.choice(_COUNTS)):
        draft.rng.choice(_KINDS)(draft)


def _some_entry(draft: Draft) -> Entry | None:
    """A descriptor on the way of the tested address."""
    path = draft.path2 if draft.path2 and draft.rng.random() < 0.4 else draft.path
    if not path:
        return None
    if draft.rng.random() < 0.4:
        return draft.entries[path[-1]]
    return draft.entries[draft.rng.choice(path)]


def _flip_attribute(draft: Draft) -> None:
    entry = _some_entry(draft)
    if entry is not None:
        entry.value ^= 1 << draft.rng.choice(_ATTRIBUTE_BITS)


def _flip_address(draft: Draft) -> None:
    entry = _some_entry(draft)
    if entry is not None:
        entry.value ^= 1 << draft.rng.choice(_ADDRESS_BITS)


def _change_kind(draft: Draft) -> None:
    """Invalid, or a block where a table was, or the other way round."""
    entry = _some_entry(draft)
    if entry is not None:
        entry.value ^= draft.rng.choice((1, 2, 2, 2, 3))


def _clear_access_flag(draft: Draft) -> None:
    entry = _some_entry(draft)
    if entry is not None:
        entry.value &= ~(1 << 10)


def _beyond_output_size(draft: Draft) -> None:
    entry = _some_entry(draft)
    if entry is None:
        return
    table = entry.table
    highest = 52 if table.ds or table.lpa else 48
    if table.output_bits < highest:
        address = 1 << draft.rng.randrange(table.output_bits, highest)
        entry.value ^= encode_address(table, address)


def _into_the_hole(draft: Draft) -> None:
    """A table where nothing answers: External abort."""
    if len(draft.path) > 1 and not draft.path2:
        entry = draft.entries[draft.rng.choice(draft.path[:-1])]
        shift = entry.table.granule.shift
        place = HOLE.start + (draft.rng.getrandbits(31) >> shift << shift)
        entry.value = entry.value & ~mask(48) | 3 | place


def _flip_va(draft: Draft) -> None:
    draft.va ^= 1 << draft.rng.randrange(2 if draft.operation.is_fetch else 0, 64)


def _flip_high_va(draft: Draft) -> None:
    draft.va ^= 1 << draft.rng.randrange(36, 64)


def _flip_tcr(draft: Draft) -> None:
    draft.registers[draft.regime.facts.tcr] ^= 1 << draft.rng.choice(_tcr_bits(draft))


def _tcr_bits(draft: Draft) -> list[int]:
    layout = draft.regime.facts.tcr_layout
    bits = [layout.ds, layout.ps[1], layout.ps[1] + 1, layout.ps[1] + 2]
    for fields in layout.ranges:
        bits += [fields.txsz[1] + position for position in range(6)]
        bits += [*fields.tg, fields.sh[0], fields.sh[1], fields.tbi, fields.hpd]
        bits += [position for position in (fields.epd, fields.e0pd) if position is not None]
    return bits


def _flip_ttbr(draft: Draft) -> None:
    facts = draft.regime.facts
    names = [name for name in (facts.ttbr0, facts.ttbr1) if name is not None]
    if draft.regime is Regime.EL1_0:
        names.append("VTTBR_EL2")
    draft.registers[draft.rng.choice(names)] ^= 1 << draft.rng.choice((*range(0, 14), *range(40, 48)))


def _flip_stage2(draft: Draft) -> None:
    if draft.regime is Regime.EL1_0:
        draft.registers["VTCR_EL2"] ^= 1 << draft.rng.choice((*range(0, 8), 14, 15, 16, 17, 18, 32, 33))


def _flip_hcr(draft: Draft) -> None:
    draft.registers["HCR_EL2"] ^= 1 << draft.rng.choice(_HCR_BITS)


def _flip_sctlr(draft: Draft) -> None:
    draft.registers[draft.regime.facts.sctlr] ^= 1 << draft.rng.choice(_SCTLR_BITS)


def _random_descriptor(draft: Draft) -> None:
    entry = _some_entry(draft)
    if entry is not None:
        entry.value = _random_bits(draft.rng, entry)


def _random_bits(rng: random.Random, entry: Entry) -> int:
    """All the attributes at random, the address as it was."""
    address = encode_address(entry.table, mask(52))
    return entry.value & (address | 3) | rng.getrandbits(64) & ~(address | 3)


_KINDS: tuple[Callable[[Draft], None], ...] = (
    _flip_attribute,
    _flip_attribute,
    _flip_attribute,
    _flip_address,
    _change_kind,
    _change_kind,
    _clear_access_flag,
    _beyond_output_size,
    _into_the_hole,
    _flip_va,
    _flip_high_va,
    _flip_tcr,
    _flip_tcr,
    _flip_ttbr,
    _flip_stage2,
    _flip_hcr,
    _flip_sctlr,
    _random_descriptor,
)
