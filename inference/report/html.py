"""The page as HTML: one document that fetches nothing and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import count, groupby

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from inference.report.blocks import Block, Note, Page, Picture, Section, Table
from inference.report.grid import Grid, grid_of
from inference.report.svg import inline_svg
from inference.report.verdict import State, Verdict

__all__ = ["render"]

WORDS: dict[State, str] = {
    "bad": "Bad",
    "doubt": "Doubtful",
    "absent": "Not looked at",
    "good": "Good",
    "not applicable": "Not applicable",
}
"""Each state in words, the worst first."""
HEADLINES = {
    "green": "Green: every check that applies has passed",
    "amber": "Amber: read before relying on it",
    "red": "Red: do not rely on this run",
}
OWN_IDS = re.compile(r"(verdict|contents|glossary|main|tip|theme|top)$|(table|figure|term|run)-\d|shape-|.*-title$")
UNFIT = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that a document may not have."""


@dataclass(frozen=True, eq=False)
class _Part:
    """A block with what it takes to show it: its number, its drawing or its cells."""

    kind: str
    block: Block
    number: int = 0
    svg: str = ""
    grid: Grid | None = None


@dataclass(frozen=True, eq=False)
class _Chapter:
    """A section with its number and the worst that the verdicts say of it."""

    section: Section
    number: int
    state: State | None
    parts: tuple[_Part, ...]


def render(page: Page) -> str:
    """The page as one HTML document."""
    _check_anchors(page.sections)
    chapters = list(_chapters(page))
    script = (files("inference.report") / "templates" / "page.js").read_text(encoding="utf-8")
    html = (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            runs=[(name, list(of)) for name, of in groupby(chapters, key=lambda one: one.section.run)],
            several=len(page.verdicts) > 1,
            chapters={one.section.id: one for one in chapters},
            terms={term: f"term-{i}" for i, term in enumerate(page.glossary, 1)},
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return UNFIT.sub("\N{REPLACEMENT CHARACTER}", html)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("inference.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    environment.globals.update(words=WORDS, headlines=HEADLINES)
    return environment


def _prose(text: str) -> Markup:
    """Text whose words between backticks are code."""
    return Markup(re.sub("`([^`\n]+)`", r"<code>\1</code>", str(escape(text))))


def _chapters(page: Page) -> Iterator[_Chapter]:
    tables, figures = count(1), count(1)
    for i, section in enumerate(page.sections, 1):
        parts = tuple(_part(block, page, tables, figures) for block in section.blocks)
        yield _Chapter(section, i, _worst(page.verdicts, section.id), parts)


def _part(block: Block, page: Page, tables: Iterator[int], figures: Iterator[int]) -> _Part:
    kind = type(block).__name__.lower()
    if isinstance(block, Picture):
        number = next(figures)
        try:
            drawn = inline_svg(block.figure(), prefix=f"figure-{number}", title=block.alt)
        except Exception as error:  # whatever the numbers of a broken run do to a plot, the page is written
            return _Part("note", Note(f"Figure {number} could not be made ({type(error).__name__}: {error})", "doubt"))
        return _Part(kind, block, number, svg=drawn)
    if isinstance(block, Table):
        return _Part(kind, block, next(tables), grid=grid_of(block, page.glossary))
    return _Part(kind, block)


def _worst(verdicts: Iterable[tuple[str, Verdict]], section: str) -> State | None:
    judgements = [one for _, verdict in verdicts for one in (*verdict.judgements, *verdict.others)]
    states = {one.state for one in judgements if one.section == section}
    return next((state for state in WORDS if state in states), None)


def _check_anchors(sections: Sequence[Section]) -> None:
    ids = [section.id for section in sections]
    for i, one in enumerate(ids):
        if not re.fullmatch(r"[A-Za-z][\w.-]*", one, re.ASCII) or OWN_IDS.match(one) or one in ids[:i]:
            raise ValueError(
                "`sections` should each have an id of ASCII letters, digits, `-`, `_` and `.` that nothing else on "
                f"the page has, got {one!r}: give the section another"
            )
