"""What the audit of a page list finds."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class DefectKind(enum.Enum):
    """What is wrong with a page list; the value says it as a clause about the list."""

    CYCLE = "leads back to a page that has been read: the relocation never ends"
    UNREADABLE = "leads to memory that cannot be read"
    NO_END = "has no IND_DONE entry: the relocation reads on through whatever follows"
    TOO_LONG = "is longer than any image"
    NO_FLAG = "has entries without a flag, which are passed over"
    SEVERAL_FLAGS = "has entries with several flags, of which one is obeyed"
    ODD_BITS = "has entries with low bits that are no flags: addresses off a page boundary"
    NO_DESTINATION = "has sources before any destination: they are copied to address 0 and on"
    LIST_OUTSIDE_RAM = "has list pages outside RAM"
    SOURCE_OUTSIDE_RAM = "has source pages outside RAM"
    DESTINATION_OUTSIDE_RAM = "has destination pages outside RAM"
    DESTINATION_TWICE = "fills destination pages twice from different sources: the first copy is lost"
    SOURCE_OVERWRITTEN = "overwrites source pages before they are copied"
    SOURCE_WRITTEN_LATER = "has source pages that are destinations later; harmless in this order"
    LIST_OVERWRITTEN = "overwrites its own pages before they are read"
    LIST_WRITTEN_LATER = "overwrites its own pages after they are read; harmless in this order"
    AREA_OVERWRITTEN = "overwrites what the relocation itself still uses"
    CONTROL_OVERWRITTEN = "fills control pages, which the kernel keeps out of every image's place"
    OUTSIDE_SEGMENTS = "has destination pages outside the image's segments"
    SEGMENT_NOT_FILLED = "leaves pages of the image's segments unfilled"


HARMLESS = frozenset({DefectKind.SOURCE_WRITTEN_LATER, DefectKind.LIST_WRITTEN_LATER})
"""What is odd, and does no harm in the order in which pages are copied."""


class AreaKind(enum.Enum):
    """Memory that the relocation uses beside the list and the pages it copies."""

    CODE = "relocation code"
    TABLES = "translation tables"
    VECTORS = "exception vectors"
    ARGUMENT = "argument"
    STACK = "stack"
    CONTROL = "control pages"


@dataclass(frozen=True)
class Area:
    """Physical addresses ``start`` to ``end`` (exclusive) that the relocation uses; ``name`` says what is there."""

    kind: AreaKind
    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Occurrence:
    """One place where a defect shows.

    Attributes:
        index: index of the entry in the order the list is read; the head has 0.
        address: physical address of the entry, or ``None`` for the head and where no entry is concerned.
        entry: its value, or ``None``.
        page: the page that is concerned: a source, a destination, a list page.
        writer: index of the SOURCE entry that writes ``page``, where one does.
        writer_source: the page that is written there.
    """

    index: int
    address: int | None
    entry: int | None
    page: int
    writer: int | None = None
    writer_source: int | None = None


@dataclass(frozen=True)
class Defect:
    """One kind of defect.

    Attributes:
        kind: what is wrong.
        count: how often; ``occurrences`` holds the first ones.
        occurrences: in the order the relocation comes to them.
        area: what is overwritten, for AREA_OVERWRITTEN.
        detail: what else there is to say, as a clause.
    """

    kind: DefectKind
    count: int
    occurrences: tuple[Occurrence, ...]
    area: Area | None = None
    detail: str = ""

    @property
    def first(self) -> Occurrence:
        """Where it shows first."""
        return self.occurrences[0]


@dataclass(frozen=True)
class Audit:
    """The audit of a page list.

    Attributes:
        defects: what was found; empty for a sound list.
        unchecked: what could not be checked and why, one clause each.
    """

    defects: tuple[Defect, ...]
    unchecked: tuple[str, ...]

    def of(self, kind: DefectKind) -> tuple[Defect, ...]:
        """The defects of one kind."""
        return tuple(defect for defect in self.defects if defect.kind is kind)

    def overwritten(self, kind: AreaKind) -> tuple[Defect, ...]:
        """The overwritten areas of one kind."""
        return tuple(defect for defect in self.defects if defect.area is not None and defect.area.kind is kind)
