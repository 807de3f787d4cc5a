"""M16: the code's address translates, but to other memory than the code that is running."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.checks.fetching import fetched_from
from kexecdbg.checks.finding import DescriptorRepair, Finding, Severity
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.rules.m31_lpa2 import ds_decides
from kexecdbg.checks.situation import Situation


def _check(situation: Situation) -> Iterator[Finding]:
    fetch = situation.fetch
    if situation.fetch_fault is not None or situation.intended_code is None:
        return
    if fetch.pa is None or situation.finds_intended_code(fetch) or ds_decides(situation):
        return
    intended = fetched_from(situation.before, situation.memory, situation.next_pc)
    assert intended is not None
    memory_map = situation.memory_map
    if memory_map is not None and not memory_map.is_memory(fetch.pa):
        text = f"translates to {fetch.pa:#x}, where there is no memory; the code that runs now is at {intended:#x}."
    else:
        text = (
            f"succeeds but reads other memory: it translates to {fetch.pa:#x}, while the code that runs now is at "
            f"{intended:#x}, and their contents differ."
        )
    yield Finding(
        "M16",
        Severity.FATAL,
        f"The next fetch, {situation.next_pc:#x}, {text}",
        {
            "pa": fetch.pa,
            "intended": intended,
            "address": fetch.levels[-1].address if fetch.levels else None,
            "level": fetch.leaf_level,
            "descriptor": fetch.levels[-1].descriptor if fetch.levels else None,
        },
        _repair(situation, intended),
    )


def _repair(situation: Situation, intended: int) -> DescriptorRepair | None:
    fetch = situation.fetch
    if not fetch.levels or fetch.page_size is None or fetch.pa is None:
        return None
    leaf = fetch.levels[-1]
    if leaf.descriptor is None:
        return None
    new = leaf.descriptor ^ ((fetch.pa ^ intended) & ~(fetch.page_size - 1))
    if not situation.cures_fetch(words={leaf.address: new}):
        return None
    return DescriptorRepair(leaf.address, leaf.descriptor, new, f"points it to {intended & ~(fetch.page_size - 1):#x}")


RULE = Rule(
    "M16",
    "The code's address leads to other memory",
    "The page is mapped and executable, but to another physical page: a shift that is off, an address cut to 32 bits, "
    "a table filled with the wrong base. The CPU runs on into whatever is there, often an undefined instruction.",
    ("Xen d600fcea49; EDK2 41f890164b; TF-A aa447b9c5, 444281cc4; rust-raspberrypi 977343de",),
    _check,
    symptom="Undefined instructions (ESR 0x02000000) or random behaviour right after the write.",
)
