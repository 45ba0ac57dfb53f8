"""One self-contained HTML page: what both `search report` and hwbench's reports are written on.

Everything is escaped by the template; only SVG that we drew ourselves enters as markup. No script, nothing loaded from
elsewhere, so a page can be mailed, archived and read in ten years.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a header; a cell that is None prints as an en dash, so that unknown never looks like 0.

    marks: row numbers to highlight.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | None]]
    marks: frozenset[int] = frozenset()
    caption: str = ""
    kind: str = "table"

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers only: those are set flush right."""
        return [all(_is_number(r[i]) for r in self.rows) for i in range(len(self.header))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An SVG drawing of ours with its caption; `alt` is read aloud."""

    svg: str
    caption: str
    alt: str
    kind: str = "figure"

    @property
    def markup(self) -> Markup:
        """The drawing without its XML prologue."""
        return Markup(self.svg[self.svg.index("<svg") :])


Block = Text | Table | Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One large number at the top: value with unit, what it is, and a remark such as its evidence."""

    value: str
    label: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A whole page."""

    title: str
    subtitle: str
    facts: Sequence[Fact] = ()
    sections: Sequence[Section] = field(default_factory=tuple)

    def html(self) -> str:
        """The page as one HTML document."""
        environment = Environment(
            loader=PackageLoader("hwbench"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("page.html").render(page=self)


def _is_number(cell: str | None) -> bool:
    if cell is None:
        return True
    head = cell.replace("±", " ").split(" ")[0].rstrip("%")
    try:
        float(head.replace(",", ""))
    except ValueError:
        return False
    return True
