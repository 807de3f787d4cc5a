"""K06: page lists that are broken, or overwrite what is still needed."""

from __future__ import annotations

from kexecdbg.kexec.page_list import EntryKind, PageCopy, entry
from kexecdbg.lab.new_kernel import CORRUPT, SOURCES
from kexecdbg.lab.relocation import RelocationCase, RelocationSetup
from kexecdbg.lab.relocation_scenarios import EXECUTABLE_AT_EL2, relocation_scenario


def _stray_copy(copies: list[PageCopy]) -> None:
    """The first copy goes over the source of the kernel's last page."""
    copies.insert(0, PageCopy(copies[0].source, copies[-2].source))


def _destination_twice(copies: list[PageCopy]) -> None:
    copies.append(PageCopy(copies[3].source, copies[4].destination))


def _early_end(setup: RelocationSetup) -> None:
    setup.entries[40] |= EntryKind.DONE


def _no_end(setup: RelocationSetup) -> None:
    assert setup.entries.pop() == entry(EntryKind.DONE)


def _link_to_nowhere(setup: RelocationSetup) -> None:
    setup.entries[-1] = entry(EntryKind.INDIRECTION, SOURCES + (64 << 20))


SCENARIOS = (
    relocation_scenario(
        "K06",
        "a source page is overwritten before it is copied",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, change_copies=_stray_copy, console=CORRUPT),
        "K06",
    ),
    relocation_scenario(
        "K06-twice",
        "a destination page is filled twice",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, change_copies=_destination_twice, console=CORRUPT),
        "K06",
    ),
    relocation_scenario(
        "K06-flags",
        "an entry has two flags, of which IND_DONE is obeyed",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, defect=_early_end, console=CORRUPT),
        "K06",
    ),
    relocation_scenario(
        "K06-end",
        "the list has no end: it is read on to the next page, which is not mapped",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, defect=_no_end),
        "K06",
    ),
    relocation_scenario(
        "K06-link",
        "the list goes on in a page that is empty and not mapped",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, defect=_link_to_nowhere),
        "K06",
    ),
)
