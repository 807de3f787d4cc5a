"""A made-up recording of the freeze of 2019, and the page that is made of it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.records import ExceptionTaken
from kexecdbg.trace.writer import TraceWriter
from tests.unit.checks.moments import CODE, EXEC, NEXT, SCTLR, SITE, UXN, VECTORS, Moment

FROZEN = Moment(code=EXEC | UXN, vectors=None)
MSR_SCTLR_EL2 = 0xD51C_100E
PERMISSION, TRANSLATION = 0x8600_000F, 0x8600_0007
_PAGE = 4096
_VOID = {"br", "col", "hr", "img", "input", "link", "meta"}


def write_freeze(path: Path, header: TraceHeader, moment: Moment = FROZEN) -> None:
    """Record the switch of ``moment``, the first exception, and the same one on the vector twice."""
    values, memory = moment.values(), moment.memory()
    vector = VECTORS + 0x200
    with TraceWriter(path, header, values) as writer:
        for page in (CODE, *moment.tables().pages()):
            writer.see(page, memory.read(page, _PAGE))
        writer.step(NEXT, MSR_SCTLR_EL2, {"SCTLR_EL2": SCTLR})
        writer.step(vector, None, {}, exception=ExceptionTaken(2, 2, PERMISSION, NEXT, NEXT, values["PSTATE"]))
        for _ in range(2):
            again = ExceptionTaken(2, 2, TRANSLATION, vector, vector, values["PSTATE"])
            writer.step(vector, None, {}, exception=again)


def header_of(moment: Moment = FROZEN, text: str = "plain") -> TraceHeader:
    """A header with ``text`` in every place that takes one."""
    return TraceHeader(
        "log",
        tuple(moment.values()),
        cpu_model=text,
        qemu_version=text,
        command_line=("qemu", text),
        build_id=text,
        recorder=text,
    )


class Page(HTMLParser):
    """A page as a browser reads it; made only of elements that are opened and closed in order.

    Attributes:
        tags: names with their attributes, in the order of the page.
        ids: in the order of the page.
        text: what is to be read, spaces joined.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self._words: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []
        self.text = " ".join(" ".join(self._words).split())

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def count(self, tag: str, class_: str = "") -> int:
        """How many elements there are of a name and, if it is given, a class."""
        return sum(name == tag and (not class_ or class_ in at.get("class", "").split()) for name, at in self.tags)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self._words.append(data)


def site_in_words() -> str:
    """The headline of :data:`FROZEN`."""
    return f"The write at {SITE:#x} switches the EL2 MMU on."
