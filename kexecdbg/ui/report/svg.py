"""Builds SVG elements; every attribute and every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

FONT = 11.5
"""Font size of drawings, in their units; templates/report.css says the same."""
CHARACTER = 7.0
"""Width of a character of the fixed-width font at that size, in units, rounded up."""

Value = str | int | float


def element(name: str, *content: Markup | str, **attributes: Value) -> Markup:
    """``<name attribute="...">content</name>``; ``class_`` and ``font_size`` stand for ``class`` and ``font-size``."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"' for key, value in attributes.items()
    )
    inside = "".join(str(escape(part)) for part in content)
    return Markup(f"<{name}{shown}>{inside}</{name}>" if inside else f"<{name}{shown}/>")


def _text(value: Value) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def group(*content: Markup, **attributes: Value) -> Markup:
    """A ``<g>``."""
    return element("g", *content, **attributes)


def text(x: float, y: float, content: str, class_: str = "", **attributes: Value) -> Markup:
    """A line of text with its baseline at ``y``."""
    classes = {"class_": class_} if class_ else {}
    return element("text", content, x=x, y=y, **classes, **attributes)


def box(x: float, y: float, width: float, height: float, class_: str, **attributes: Value) -> Markup:
    """A rectangle."""
    return element("rect", x=x, y=y, width=width, height=height, class_=class_, **attributes)


def path(d: str, class_: str, **attributes: Value) -> Markup:
    """A line or curve."""
    return element("path", d=d, class_=class_, **attributes)


def drawing(width: float, height: float, title: str, content: Iterable[Markup]) -> Markup:
    """A whole ``<svg>`` with a title for those who do not see it."""
    return element(
        "svg",
        element("title", title),
        *content,
        viewBox=f"0 0 {_text(width)} {_text(float(height))}",
        width=width,
        height=height,
        role="img",
    )


def shortened(content: str, width: float) -> str:
    """``content`` cut to what fits into ``width`` units of the fixed-width font, with an ellipsis."""
    most = max(1, int(width / CHARACTER))
    return content if len(content) <= most else content[: most - 1] + "…"
