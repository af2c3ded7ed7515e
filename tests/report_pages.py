"""Pages for the tests of the report's HTML: an ordinary one, one of several runs, an empty, a nasty and a large one.

`python -m tests.report_pages` writes `tests/golden/report_structure.json` anew, after a change of the templates that
is meant; what changed is then seen in its diff.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from inference.report.blocks import Note, Page, Picture, Section, Table, Text
from inference.report.figures.style import new_figure, styled
from inference.report.html import render
from inference.report.verdict import Judgement, Verdict

__all__ = ["GOLDEN", "NASTY", "empty", "large", "nasty", "ordinary", "parsed", "several", "structure"]

GOLDEN = Path(__file__).parent / "golden" / "report_structure.json"
HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"

NASTY = (
    "<script>window.pwned = 1</script>",
    '"><img src=x onerror=window.pwned=1>',
    "</script><script>window.pwned = 1</script>",
    "</title></style></textarea><!--",
    "{{7*7}}{% raw %}",
    "' onmouseover='window.pwned=1",
    "`<b>`& &lt;&#60;\u2028\u2029\x00\x1b\u202e",
    "javascript:window.pwned=1",
    "x" * 300,
)
"""Names that a page must only show."""

GLOSSARY = {
    "R-hat": "How much wider the chains are together than each is alone; at most 1.01 where they agree.",
    "ESS": "Effective sample size: how many independent draws would give a mean as precise as these do.",
    "k-hat": "Pareto k-hat, the shape of the upper tail of the importance weights of a datum. Above 0.7 no practical "
    "number of draws makes averages over the guide's draws reliable for it.",
    "standard error": "How far a mean would move, by one standard deviation, were the data drawn again.",
    "bound": "A number that is, in expectation or in the limit, on one side of `log p(x)`.",
}


def curve(seed: int = 0) -> Figure:
    """Two lines with a name each."""
    with styled():
        figure = new_figure(7, 3)
        axes = figure.subplots()
        steps = np.arange(0, 2000, 20)
        noise = np.random.default_rng(seed).normal(size=(2, len(steps)))
        for i, name in enumerate(("training", "validation")):
            axes.plot(steps, -25 - 60 * np.exp(-steps / 300) - i + noise[i] / 2, label=name)
        axes.set(xlabel="step", ylabel="ELBO, nats per datum")
        axes.legend()
    return figure


def picture(seed: int = 0) -> Picture:
    """The figure of `curve`."""
    return Picture(
        partial(curve, seed),
        "Two rising curves over 2,000 steps: training ends at -25.1 nats, validation at -26.0.",
        "The bound in training and on held-out data. They should rise together and level off.",
    )


def parameters(rows: int, columns: int = 10) -> pd.DataFrame:
    """A parameter a row with its numbers, at full precision."""
    rng = np.random.default_rng(rows)
    numbers = {f"q{i}": rng.normal(size=rows) * 10 ** float(i - 4) for i in range(columns - 3)}
    names = [f"theta[{i}]" for i in range(rows)]
    return pd.DataFrame(
        {"name": names, "r_hat": 1 + rng.gamma(1, 0.01, rows), "ess": rng.integers(9, 4000, rows), **numbers}
    )


def edges() -> pd.DataFrame:
    """Cells that are no ordinary numbers, in an order that sorting changes."""
    return pd.DataFrame(
        {
            "site": ["z[10]", "z[2]", "w", 'a, "b"', None],
            "k-hat": [0.3, float("nan"), float("inf"), -float("inf"), 0.123456789012345],
            "n": [10, 12345, 7, 1234567, 2**40],
            "small": [1.23456e-9, 4e12, 0.0, -1234.5678, 999.96],
            "kept": [True, False, True, None, True],
            "seed": [2**63, 5, None, 1.5, "none"],
        }
    )


def ordinary() -> Page:
    """A run that is not to be relied on, with every kind of block."""
    judgements = (
        Judgement(
            "Convergence",
            "good",
            "The bound has levelled off: it rose by 0.02 ± 0.03 nats in the last fifth.",
            "training",
        ),
        Judgement(
            "Guide",
            "bad",
            "k-hat is above 0.7 for 12.3 ± 1.5 % of 500 held-out data: do not average over draws of the guide there; "
            "try a wider `guide`, or more draws.",
            "guide",
        ),
        Judgement(
            "Bracket", "doubt", "log p(x) is between -25.13 ± 0.08 and -24.31 ± 0.22 nats, a gap of 0.82.", "ladder"
        ),
    )
    others = (
        Judgement("Latents", "good", "14 of 16 units of `z` are active.", "latents"),
        Judgement(
            "Calibration", "absent", "Nobody has simulated from the model and fitted again: run `sbc`.", "calibration"
        ),
        Judgement("Clusters", "not applicable", "The model has no discrete latent.", "nowhere"),
    )
    bounds = pd.DataFrame(
        {
            "bound": ["ELBO", "IWAE-64", "IWAE-5000", "EUBO"],
            "direction": ["lower", "lower", "lower", "upper"],
            "K": [1, 64, 5000, 5000],
            "value": [-27.4512345, -25.63, -25.1312, -24.3123],
            "se": [0.1123, 0.09, 0.0831, 0.2212],
        }
    )
    terms = {"r_hat": "R-hat", "ess": "ESS", "bound": "bound", "se": "standard error", "k-hat": "k-hat"}
    sections = (
        Section(
            "training",
            "Training",
            (Text("It was trained for 2,000 steps on 1,437 digits.\nThe last was best."), picture()),
        ),
        Section(
            "ladder", "The bracket on log p(x)", (Table("bounds", "Bounds on log p(x), nats per datum", bounds, terms),)
        ),
        Section(
            "guide",
            "The guide",
            (
                Note("Importance weights are heavy-tailed for 61 data: see the table.", "bad"),
                Table("edges", "The data the guide does worst on", edges(), terms),
                picture(1),
            ),
        ),
        Section("latents", "Latents", (Table("parameters", "Every parameter", parameters(300), terms, top=10),)),
        Section("calibration", "Calibration", (Note("Not in this report: no calibration was given."),)),
        Section("provenance", "Provenance", (Note("The commit is not known.", "doubt"),)),
    )
    verdict = Verdict(judgements, others)
    return Page(
        "digits-vae", (("runs/digits-vae", verdict),), sections, GLOSSARY, "2025-11-26 18:40 UTC, ppmodels 0.1.0"
    )


def several() -> Page:
    """Three runs, one of each colour, that is loaded again."""
    one = ordinary()
    good = Verdict((Judgement("Convergence", "good", "R-hat is at most 1.003 for all 12 parameters.", "chains-of-2"),))
    open_ = Verdict((Judgement("Convergence", "absent", "There are no chains.", "chains-of-3"),))
    chains = (
        Section("chains-of-2", "Chains", (Text("All is well."),), run="posterior"),
        Section("chains-of-3", "Chains", (), run="other"),
    )
    first = Section("comparison", "The runs beside each other", (Text("They differ."),))
    sections = (first, *(Section(s.id, s.title, s.blocks, run="runs/digits-vae") for s in one.sections), *chains)
    verdicts = (*one.verdicts, ("posterior", good), ("other", open_))
    return Page("Three runs", verdicts, sections, one.glossary, one.made, reload=30)


def empty() -> Page:
    """Nothing at all."""
    return Page("", (), (), {}, "")


def nasty() -> Page:
    """Every text of a page is hostile."""
    blocks = [Text("\n".join(NASTY)), *(Note(name, "bad") for name in NASTY), picture()]
    frame = pd.DataFrame({name: [*NASTY] for name in NASTY})
    frame[NASTY[0] + " "] = np.nan
    for name in NASTY:
        terms = dict.fromkeys(NASTY, name)
        blocks.append(Picture(curve, name, name))
        blocks.append(Table(name, name, frame, terms, top=2))
    blocks += [
        Table("none", "No rows", frame[:0]),
        Table("nothing", "No columns", pd.DataFrame()),
        Table("rows", "Rows without columns", pd.DataFrame(index=range(3))),
        Table("twins", "Two columns of one name", pd.DataFrame([[1, "a"]], columns=["x", "x"])),
        Table("holes", "Only holes", pd.DataFrame({"nan": [np.nan] * 3, "none": [None] * 3, 3: [pd.NaT] * 3}), top=1),
        Table("edges", "Odd cells", edges()),
    ]
    verdicts = tuple(
        (name, Verdict((Judgement(name, "bad", name, name), Judgement(name, "absent", name, "all")))) for name in NASTY
    )
    sections = (
        Section("all", NASTY[0], tuple(blocks), run=NASTY[1]),
        *(Section(f"s{i}", n, ()) for i, n in enumerate(NASTY)),
    )
    return Page(NASTY[2] + NASTY[3], verdicts, sections, {name: name for name in NASTY}, "".join(NASTY) + "\ud800")


def large() -> Page:
    """1,000 parameters and 10,000 data."""
    tables = Table("parameters", "Parameters", parameters(1000)), Table("data", "Data", parameters(10_000, 5))
    return Page("Large", (), (Section("chains", "Chains", tables),), GLOSSARY, "now")


def parsed(html: str) -> Element:
    """The document as a tree; an error where it is not as the standard has it."""
    return html5lib.HTMLParser(tree=html5lib.treebuilders.getTreeBuilder("etree"), strict=True).parse(html)


def structure(html: str) -> list[str]:
    """A line for each element, indented under its parent, with its id and classes; words only of headings and heads."""
    return list(_lines(parsed(html), 0))


def _lines(element: Element, depth: int) -> Iterator[str]:
    tag = element.tag.removeprefix(HTML).removeprefix(SVG) if isinstance(element.tag, str) else "comment"
    classes = "".join(f".{name}" for name in element.get("class", "").split())
    anchor = f"#{element.get('id')}" if element.get("id") else ""
    words = f": {' '.join(''.join(element.itertext()).split())}" if tag in ("h1", "h2", "h3", "h4", "th") else ""
    yield f"{'  ' * depth}{tag}{anchor}{classes}{words}"
    for child in () if tag == "svg" else element:
        yield from _lines(child, depth + 1)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(structure(render(ordinary())), indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
