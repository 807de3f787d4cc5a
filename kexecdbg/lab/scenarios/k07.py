"""K07: the tables are older than the page list."""

from __future__ import annotations

from kexecdbg.kexec.page_list import EntryKind
from kexecdbg.lab.new_kernel import CORRUPT, NEW_KERNEL, SOURCES
from kexecdbg.lab.relocation import RelocationCase, RelocationSetup
from kexecdbg.lab.relocation_scenarios import EXECUTABLE_AT_EL2, relocation_scenario
from kexecdbg.lab.tables import PAGE_KERNEL

_READ_ONLY = 1 << 7
_PAGE = 0x1000
_COPY = 40
"""The copy that is spoilt: far enough from the first for the switch itself to go well."""


def _source(setup: RelocationSetup) -> int:
    sources = [each for each in setup.entries if each & EntryKind.SOURCE]
    return sources[_COPY] & ~(_PAGE - 1)


def _source_not_mapped(setup: RelocationSetup) -> None:
    setup.tables.set_descriptor(_source(setup), 3, 0)


def _destination_read_only(setup: RelocationSetup) -> None:
    setup.tables.change_descriptor(NEW_KERNEL + _COPY * _PAGE, 3, set_bits=_READ_ONLY)


def _source_moved(setup: RelocationSetup) -> None:
    """The table still leads to the page that was there before memory was moved: an empty one."""
    setup.tables.map_page(_source(setup), SOURCES + (2 << 20), PAGE_KERNEL)


SCENARIOS = (
    relocation_scenario(
        "K07",
        "a source page is not mapped",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, defect=_source_not_mapped),
        "K07",
    ),
    relocation_scenario(
        "K07-write",
        "a destination page is mapped read-only",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, defect=_destination_read_only),
        "K07",
    ),
    relocation_scenario(
        "K07-moved",
        "a source page is mapped to another physical page",
        RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2, defect=_source_moved, console=CORRUPT),
        "K07",
    ),
)
