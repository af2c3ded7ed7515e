"""The bound ladders of several runs under one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from inference.bounds import SPELLINGS
from inference.compare import CrossedBoundsError, Ladder, compare_bounds, paired_difference
from inference.figures import ladder_figure

from .experiment import FittedRun
from .pictures import save
from .show import markdown, to_json

__all__ = [
    "Rungs",
    "brackets",
    "check_figure",
    "check_suffix",
    "climb",
    "differences",
    "document",
    "draw",
    "printed",
    "rows",
    "sort_out",
    "write",
]


@dataclass(frozen=True, eq=False)
class Rungs:
    """The bound ladder of one run, and the data it stands on."""

    run: str
    data: dict[str, Any]
    ladder: Ladder

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per bound, the run and the data in front."""
        stands_on = {"run": self.run, "data": f"{self.data['name']} {self.data['split']}"}
        stands_on |= {key: self.data[key] for key in ("protocol", "n")}
        return [stands_on | {str(k): v for k, v in row.items()} for row in self.ladder.table.to_dict("records")]


def climb(
    fitted: FittedRun,
    bounds: Sequence[str] = (),
    *,
    split: str = "test",
    num_data: int | None = None,
    num_simulated: int | None = None,
    num_seeds: int = 1,
) -> Rungs:
    """Evaluate bounds, the recipe's if none are named, on draws they share; writes `bounds.csv`.

    Annealed chains cut short go on from what `annealing` in the run folder holds.
    """
    table, data = fitted.pair_recipe.evaluation, fitted.data(split, num_data)
    try:
        ladder = compare_bounds(
            fitted.model,
            fitted.guide,
            data,
            bounds or table.bounds,
            batch_size=table.batch_size,
            seed=[table.seed + i for i in range(num_seeds)],
            num_simulated=num_simulated,
            checkpoint=fitted.run.folder / "annealing",
            mode=table.mode,
        )
    except CrossedBoundsError as error:  # the numbers took minutes: they are kept
        fitted.run.write("bounds.csv", error.ladder.table.to_csv(index=False))
        raise
    rungs = Rungs(str(fitted.run.folder), fitted.describe(data), ladder)
    fitted.run.write("bounds.csv", pd.DataFrame(rungs.rows).to_csv(index=False))
    return rungs


def sort_out(words: Sequence[Path], bounds: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Tell runs from bounds: of `runs/a --bounds elbo iwae:50` a command line hands over `iwae:50` with the runs.

    >>> sort_out([Path("runs/a"), Path("iwae:50")], ["elbo"])
    ([PosixPath('runs/a')], ['elbo', 'iwae:50'])
    """
    stray = [word for word in words if bounds and not word.is_dir() and _is_meant_as_a_bound(str(word))]
    named = " ".join([*bounds, *map(str, stray)]).replace(",", " ").split()
    return [word for word in words if word not in stray], named


def _is_meant_as_a_bound(text: str) -> bool:
    """Whether it is one, or looks like one misspelt."""
    heads = [spelling.partition(":")[0].partition("[")[0] for spelling in SPELLINGS]
    return ":" in text or bool(get_close_matches(text.split(",")[0].lower(), heads, cutoff=0.6))


def rows(rungs: Sequence[Rungs]) -> list[dict[str, Any]]:
    """All ladders, one under the other."""
    return [row for one in rungs for row in one.rows]


def printed(rungs: Sequence[Rungs]) -> str:
    """What a person is shown: each run's ladder under its name, narrower than the rows in a file."""
    heads = (
        f"{one.run}: {one.data['name']} {one.data['split']}, {one.data['protocol']}, n = {one.data['n']}"
        for one in rungs
    )
    return "\n\n".join(f"{head}\n{one.ladder}" for head, one in zip(heads, rungs, strict=True))


def brackets(rungs: Sequence[Rungs]) -> list[dict[str, Any]]:
    """What each ladder that has an upper bound says of log p(x)."""
    found = []
    for one in rungs:
        for on, part in one.ladder.parts():
            bracket = part.bracket()
            if bracket.upper and bracket.lower:
                ends = {"low": bracket.low, "high": bracket.high, "gap": bracket.gap, "level": bracket.level}
                by = {"lower": bracket.lower.label, "upper": bracket.upper.label, "certified": bracket.certified}
                found.append({"run": one.run, "on": on, **ends, **by})
    return found


def differences(rungs: Sequence[Rungs]) -> list[dict[str, Any]]:
    """Each run less the first, bound by bound, paired by datum, where both were judged on the same data."""
    first, *others = rungs
    before = {row.label: row.value for row in first.ladder.rows}
    found = []
    for other in others:
        if other.data["sha256"] != first.data["sha256"]:
            continue
        for row in other.ladder.rows:
            if row.label in before:
                value, se = paired_difference(row.value, before[row.label])
                found.append({"run": other.run, "minus": first.run, "bound": row.label, "value": value, "se": se})
    return found


def document(rungs: Sequence[Rungs]) -> dict[str, Any]:
    """Everything, for a script."""
    return {
        "data": [one.data for one in rungs],
        "ladder": rows(rungs),
        "brackets": brackets(rungs),
        "differences": differences(rungs),
        "warnings": [
            {"run": one.run, "on": on, "said": w} for one in rungs for on, p in one.ladder.parts() for w in p.warnings
        ],
    }


def check_suffix(path: Path) -> None:
    """Refuse a path that no table can be written to, before the work is done."""
    if path.suffix not in (".csv", ".json", ".md", ".parquet"):
        raise ValueError(f"`out` must end in .csv, .json, .md or .parquet, got {path}")
    if path.suffix == ".parquet" and not find_spec("pyarrow"):
        raise ValueError("`out` as .parquet needs pyarrow, which is not installed: `pip install pyarrow`, or use .csv")


def write(path: Path, rungs: Sequence[Rungs]) -> None:
    """Write ladders in the format the path ends in; a .csv or .parquet has differences and brackets beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    apart = differences(rungs)
    if path.suffix == ".json":
        path.write_text(to_json(document(rungs)) + "\n")
    elif path.suffix == ".md":
        path.write_text("\n".join(markdown(table) for table in (rows(rungs), brackets(rungs), apart) if table))
    else:
        _write_frame(path, rows(rungs))
        for name, table in {"differences": apart, "brackets": brackets(rungs)}.items():
            if table:
                _write_frame(path.with_stem(f"{path.stem}-{name}"), table)


def check_figure(path: Path) -> None:
    """Refuse a path that no figure can be written to, before the work is done."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"`plot` must end in .png, .svg or .pdf, got {path}")


def draw(path: Path, rungs: Sequence[Rungs]) -> None:
    """Draw the ladders under one another."""
    save(ladder_figure([(one.run, one.ladder) for one in rungs]), path)


def _write_frame(path: Path, table: list[dict[str, Any]]) -> None:
    frame = pd.DataFrame(table)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
