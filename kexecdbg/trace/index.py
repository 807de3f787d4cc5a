"""Where in a trace file which steps, and which versions of which pages, are."""

from __future__ import annotations

from bisect import bisect_right

from kexecdbg.errors import TraceError
from kexecdbg.trace.frames import Frame, FrameType
from kexecdbg.trace.page_frame import UNKNOWN_CONTENT, PageFrame
from kexecdbg.trace.search_frame import SearchFrame
from kexecdbg.trace.step_block import PAGE_SIZE, StepBlock


class TraceIndex:
    """What the frames of a trace hold, as far as it takes to find a step or a page.

    Attributes:
        steps: how many steps are intact.
        places: offset and size of each block of steps, in the order of the file.
        page_frames: offset and size of each frame of pages, in the order of the file.
        versions: state and content of each version of a page, by its physical address.
        searches: state of each search of all memory, and offset and size of its frame.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.places: list[tuple[int, int]] = []
        self.page_frames: list[tuple[int, int]] = []
        self.versions: dict[int, list[tuple[int, int]]] = {}
        self.searches: list[tuple[int, tuple[int, int]]] = []
        self._firsts: list[int] = []
        self._first_contents: list[int] = []
        self._contents = 0

    def add(self, frame: Frame) -> None:
        """Take note of ``frame``.

        Raises:
            TraceError: it does not go on where the frames before it ended.
        """
        location = (frame.offset, len(frame.payload))
        if frame.kind == FrameType.STEPS:
            first, count = StepBlock.span(frame.payload)
            if first != self.steps:
                raise TraceError(f"a block of steps starts at {first}, the one before it ended at {self.steps}")
            self._firsts.append(first)
            self.places.append(location)
            self.steps += count
        elif frame.kind == FrameType.PAGES:
            pages = PageFrame.unpack(frame.payload)
            if pages.first_content != self._contents:
                raise TraceError(f"a frame of pages starts at content {pages.first_content}, not {self._contents}")
            self._first_contents.append(pages.first_content)
            self.page_frames.append(location)
            self._contents += pages.contents
            for version in pages.versions:
                self.versions.setdefault(version.address, []).append((version.step, version.content))
        elif frame.kind == FrameType.SEARCH:
            self.searches.append((SearchFrame.state_of(frame.payload), location))

    def sort(self) -> None:
        """Put versions and searches in order; of those for the same state, the last in the file counts."""
        for rows in self.versions.values():
            rows.sort(key=_state)
        self.searches.sort(key=_state)

    def place_of(self, number: int) -> int:
        """Place of the block that holds step ``number``; for the number after the last step, of the last block."""
        return max(0, bisect_right(self._firsts, number) - 1)

    def spans(self, first: int, last: int) -> range:
        """Places of the blocks with steps of ``first`` to ``last`` (exclusive)."""
        if not self.places or first >= last:
            return range(0)
        return range(self.place_of(max(first, 0)), self.place_of(last - 1) + 1)

    def search_at(self, number: int) -> tuple[int, int] | None:
        """Offset and size of the frame of the last search up to state ``number``."""
        place = bisect_right(self.searches, number, key=_state)
        return self.searches[place - 1][1] if place else None

    def version_step(self, page: int, number: int) -> int | None:
        """State of the last version of ``page`` up to state ``number``."""
        row = self._version(page, number)
        return row[0] if row else None

    def content_of(self, page: int, number: int) -> int | None:
        """Content of the last version of ``page`` up to state ``number``; ``None`` when it is not known."""
        row = self._version(page, number)
        return None if row is None or row[1] == UNKNOWN_CONTENT else row[1]

    def _version(self, page: int, number: int) -> tuple[int, int] | None:
        rows = self.versions.get(page, [])
        place = _place_after(rows, number)
        return rows[place - 1] if place else None

    def locate_content(self, content: int) -> tuple[int, int]:
        """Place of the frame that has ``content``, and its offset in the frame's contents."""
        place = bisect_right(self._first_contents, content) - 1
        return place, (content - self._first_contents[place]) * PAGE_SIZE


def _place_after(rows: list[tuple[int, int]], number: int) -> int:
    return bisect_right(rows, number, key=_state)


def _state(row: tuple[int, object]) -> int:
    return row[0]
