"""What a page is made of, before it is HTML: sections of paragraphs, tables, figures and notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import pandas as pd

from inference.report.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Block", "Note", "Page", "Picture", "Section", "Table", "Text"]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Note:
    """Something a reader must not miss: what is wrong, what is doubtful, or what is not there and why."""

    text: str
    kind: Literal["bad", "doubt", "absent"] = "absent"


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of numbers, sorted and searched in the page, copied from it as CSV.

    Attributes:
        name: of the file that a copy would have, unique in its section: `parameters`.
        caption: what the rows are.
        frame: the rows; every column is shown, the index is not.
        terms: by column, the term of the glossary that defines it, where there is one.
        top: rows that are shown at first; all of them can be searched and copied.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    terms: Mapping[str, str] = field(default_factory=dict)
    top: int = 20


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure.

    Attributes:
        figure: what draws it, called when the page is rendered, so that one that fails costs no other.
        alt: what it shows, in words, for those who cannot see it: numbers, not "a plot".
        caption: how to read it.
    """

    figure: Callable[[], Figure]
    alt: str
    caption: str


Block: TypeAlias = Text | Note | Table | Picture


@dataclass(frozen=True, eq=False)
class Section:
    """One part of a page.

    Attributes:
        id: its anchor, unique in the page, which verdicts link to.
        title: in a few words.
        blocks: in their order.
        run: the run that it is of, where a page has several.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]
    run: str = ""


@dataclass(frozen=True, eq=False)
class Page:
    """The report.

    Attributes:
        title: of the page.
        verdicts: of each run, by its name; the links of their judgements are anchors of sections.
        sections: in their order.
        glossary: what terms mean.
        made: when, and with what.
        reload: seconds until the page loads itself again, for one that is watched; `None` for never.
    """

    title: str
    verdicts: tuple[tuple[str, Verdict], ...]
    sections: tuple[Section, ...]
    glossary: Mapping[str, str]
    made: str
    reload: int | None = None
