"""Figures as SVG elements that stand in a page: text stays text, colours follow the page, nothing else comes along."""

from __future__ import annotations

import io
import re
import warnings
from html import escape
from typing import TYPE_CHECKING

from inference.report.figures.style import VARIABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["inline_svg"]

RC = {"svg.fonttype": "none", "svg.hashsalt": "figure", "svg.image_inline": True}

DPI = 110.0
"""Of what is drawn in points."""

TAG = re.compile(r"<[^>]*>")
REFERENCES = re.compile(r'(url\(#|href="#)([^)"]+)')
NUMBERS = re.compile(r"-?\d+\.\d{3,}")
COLOUR = re.compile("|".join(map(re.escape, VARIABLES)), flags=re.IGNORECASE)
PAINT = re.compile(r"(fill|stroke)=\"(var\([^)]*\))\"")
FONT = re.compile(r"\bfont: ?[^;\"]*?(\d+(?:\.\d+)?)px [^;\"]*")
FAMILY = re.compile(r" ?\bfont-family: ?[^;\"]*;?")
ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that no page may have."""


def inline_svg(figure: Figure, *, prefix: str, title: str, description: str = "") -> str:
    """A figure as an `<svg>` element of HTML, as wide as its place, in the colours of its page.

    Args:
        figure: drawn under `styled`; colours of its palette become the page's variables. Its layout is settled once,
            so that it gives the same bytes however often it is asked.
        prefix: goes before every id, so that no two figures of a page share one.
        title: what it shows, for those who cannot see it.
        description: more of it.

    >>> from inference.report.figures.style import new_figure, styled
    >>> with styled():
    ...     figure = new_figure(2, 1)
    ...     _ = figure.subplots().plot([0, 1])
    >>> svg = inline_svg(figure, prefix="f1", title="a < b")
    >>> svg[:4], "a &lt; b" in svg, "var(--c0)" in svg, "DOCTYPE" in svg
    ('<svg', True, True, False)
    """
    import matplotlib as mpl

    with mpl.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the page has fonts of its own
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        _lay_out(figure)
        text = _drawn(figure)
    width = figure.get_figwidth() * 96
    return ODD.sub("\ufffd", _open(_clean(text, prefix), prefix, title, description, width))


def _lay_out(figure: Figure) -> None:
    """Place everything now, by the quicker measure of text: while saving it would be done twice, and slowly."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def _drawn(figure: Figure) -> str:
    """The figure as matplotlib writes it, drawn once, where `savefig` would draw it twice."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    before, dpi, buffer = figure.canvas, figure.dpi, io.StringIO()
    try:
        figure.dpi = DPI
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    finally:
        figure.set_canvas(before)
        figure.dpi = dpi
    return buffer.getvalue()


def _clean(text: str, prefix: str) -> str:
    """The element alone: no prologue, no comments, no metadata; ids that are referred to, and no others."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<style type="text/css">.*?</style>', "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>", "", text)
    text = re.sub(r">\s*\n\s*<", "><", text)
    used = {name for tag in TAG.findall(text) for _, name in REFERENCES.findall(tag)}
    return TAG.sub(lambda m: _tag(m[0], prefix, used), text).strip()  # what stands between tags stays as it is


def _tag(text: str, prefix: str, used: set[str]) -> str:
    """A tag with the page's ids, colours and font, and with short numbers."""
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", text)
    text = REFERENCES.sub(lambda m: f"{m[1]}{prefix}-{m[2]}", text)
    text = NUMBERS.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), text)
    text = COLOUR.sub(lambda m: VARIABLES[m[0].upper()], text)
    text = PAINT.sub(r'style="\1: \2"', text)
    return FAMILY.sub("", FONT.sub(lambda m: f"font-size: {m[1]}px", text))


def _open(text: str, prefix: str, title: str, description: str, width: float) -> str:
    """The element with its box, its name, and no size of its own but the widest it may be."""
    box = re.search(r'viewBox="([^"]*)"', text)
    assert box is not None
    body = text[text.index(">", text.index("<svg")) + 1 :]
    told = f'<title id="{prefix}-title">{escape(title)}</title>'
    told += f'<desc id="{prefix}-desc">{escape(description)}</desc>' if description else ""
    by = f"{prefix}-title {prefix}-desc" if description else f"{prefix}-title"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box[1]}" '
        f'role="img" aria-labelledby="{by}" style="max-width: {width:.0f}px">{told}{body}'
    )
