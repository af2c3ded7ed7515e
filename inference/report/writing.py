"""`report`: the evidence of one or several runs, judged, and written as one page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import xarray as xr

from inference.checkpoint import write_atomically
from inference.diagnostics import Calibration
from inference.display import fragment
from inference.fit import Fitted
from inference.report.blocks import Page, Section
from inference.report.evidence import Evidence
from inference.report.glossary import glossary
from inference.report.html import render
from inference.report.judging import judge
from inference.report.reading import Source, read_evidence
from inference.report.sections import comparison, sections_of
from inference.report.verdict import Judgement, Verdict
from inference.runs import Run

__all__ = ["Report", "check_path", "report"]


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        path: of the file.
        verdicts: on each run, by its name.
        seconds: what it took.
    """

    path: Path
    verdicts: tuple[tuple[str, Verdict], ...]
    seconds: float

    @property
    def colour(self) -> str:
        """The worst of the verdicts': "red", "amber" or "green"."""
        colours = {verdict.colour for _, verdict in self.verdicts}
        return next(colour for colour in ("red", "amber", "green") if colour in colours)

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        lines = []
        for name, verdict in self.verdicts:
            lines.append(f"{name}: {verdict.colour}")
            lines += [f"  {one.topic} ({one.state}): {one.sentence}" for one in _told(verdict)]
        return "\n".join([*lines, str(self.path)])

    def _repr_html_(self) -> str:
        return "".join(
            fragment(
                f"{name}: {verdict.colour} ({self.path})",
                notes=[f"{one.topic} ({one.state}): {one.sentence}" for one in _told(verdict)],
            )
            for name, verdict in self.verdicts
        )


def report(
    source: Source | Sequence[Source],
    path: str | Path = "report.html",
    *,
    title: str | None = None,
    calibration: Calibration | None = None,
    reload: int | None = None,
) -> Report:
    """Write one HTML file on a run, a posterior, or several beside each other, that says first what is wrong.

    The file opens offline and asks nothing of any network. It shows what there is, and names what is not: nothing is
    green that nobody has looked at. What a run's folder can hold is listed at `Evidence`.

    Args:
        source: a run folder, what `fit` returned, a tree of draws or a `.nc` or `.zarr` of one, an `Evidence`; or
            several of these, of which the first is what the others are compared with.
        path: the file to write, whole or not at all.
        title: of the page; by default the name of what it is on.
        calibration: what `sbc` found, for a source that does not hold it.
        reload: seconds after which the page loads itself again, while a run goes on.

    Raises:
        TypeError: if a source is nothing that can be reported on.
        ValueError: if a source is not there or empty, or `path` is no .html.
        OSError: if the file cannot be written.

    >>> import numpy as np, tempfile
    >>> draws = np.random.default_rng(0).normal(size=(4, 500))
    >>> tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"mu": (("chain", "draw"), draws)})})
    >>> found = report(tree, Path(tempfile.mkdtemp()) / "report.html")
    >>> found.colour, found.path.read_text().startswith("<!DOCTYPE html>")
    ('amber', True)
    """
    begun = time.perf_counter()
    path = check_path(path)
    evidence = _read_all(source, calibration)
    runs = [(one, judge(one)) for one in evidence]
    sections = [
        _renamed(list(sections_of(*run)), i) if len(runs) > 1 else list(sections_of(*run))
        for i, run in enumerate(runs, 1)
    ]
    verdicts = tuple(
        (one.name, _relinked(verdict, i) if len(runs) > 1 else verdict) for i, (one, verdict) in enumerate(runs, 1)
    )
    first = [comparison(runs)] if len(runs) > 1 else []
    page = Page(
        title=title or " and ".join(one.name for one in evidence),
        verdicts=verdicts,
        sections=(*first, *(section for part in sections for section in part)),
        glossary=glossary(),
        made=f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, ppmodels {version('ppmodels')}",
        reload=reload,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render(page))
    return Report(path, tuple((one.name, verdict) for one, verdict in runs), time.perf_counter() - begun)


def check_path(path: str | Path) -> Path:
    """Refuse a path that no page can be written to, before the work is done."""
    path = Path(path)
    if path.suffix not in (".html", ".htm"):
        raise ValueError(f"`path` is {path}, expected a name that ends in .html")
    return path


def _read_all(source: Source | Sequence[Source], calibration: Calibration | None) -> list[Evidence]:
    """The evidence of each source, under names that differ."""
    alone = isinstance(source, str | Path | Run | Fitted | Evidence | xr.DataTree)
    sources: Sequence[Source] = [source] if alone or not isinstance(source, Sequence) else source  # type: ignore[list-item]
    if not sources:
        raise ValueError("`source` is empty, expected at least one run or tree")
    found = [read_evidence(one) for one in sources]
    if calibration is not None:
        if len(found) > 1:
            raise ValueError(f"`calibration` is of one source, but there are {len(found)}: put it into an `Evidence`")
        found = [replace(found[0], calibration=calibration)]
    names: dict[str, int] = {}
    for one in found:
        names[one.name] = names.get(one.name, 0) + 1
    if all(count == 1 for count in names.values()):
        return found
    return [replace(one, name=f"{one.name} ({i})") for i, one in enumerate(found, 1)]


def _renamed(sections: list[Section], number: int) -> list[Section]:
    """Sections of one of several runs, whose anchors differ from the others'."""
    return [replace(section, id=_anchor(section.id, number)) for section in sections]


def _relinked(verdict: Verdict, number: int) -> Verdict:
    def moved(judgements: tuple[Judgement, ...]) -> tuple[Judgement, ...]:
        return tuple(replace(one, section=_anchor(one.section, number)) for one in judgements)

    return Verdict(moved(verdict.judgements), moved(verdict.others))


def _anchor(name: str, number: int) -> str:
    return f"{name}-of-{number}"


def _told(verdict: Verdict) -> list[Judgement]:
    """The three that matter, and what else is wrong or doubtful."""
    return [*verdict.judgements, *(one for one in verdict.others if one.state in ("bad", "doubt"))]
