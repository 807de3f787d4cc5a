"""One scenario of the lab: a guest that is built right or wrong on purpose, and what must be found in it."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.lab.recipe import GuestRecipe

SOUND = "sound"
"""The entry of scenarios in which nothing is wrong: no fatal finding, no hazard."""


@dataclass(frozen=True)
class Scenario:
    """A guest and what the check must say of it.

    Attributes:
        id: what ``kexecdbg lab run`` calls it; kept for ever. The main scenario of a catalogue entry has the entry's
            id, further ones add to it: ``M01``, ``M01-EL3``.
        entry: the catalogue entry it shows, ``M01``, or :data:`SOUND`.
        summary: what is special about it, one line.
        guest: what the guest is made from.
        expected: ids of the fatal and hazard findings, each of them and no others. Findings that only follow from
            another one (vectors out of reach when all of the table is) are not listed.
        qemu_lets_it_pass: empty when QEMU shows the defect; else why its CPU runs on, with the source. The check must
            find it all the same.
    """

    id: str
    entry: str
    summary: str
    guest: GuestRecipe
    expected: frozenset[str] = frozenset()
    qemu_lets_it_pass: str = ""

    @property
    def qemu_shows(self) -> bool:
        """Whether QEMU's CPU shows the defect."""
        return not self.qemu_lets_it_pass
