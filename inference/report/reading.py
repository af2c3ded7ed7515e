"""Evidence from what people have: a run folder, a tree of draws in memory or in a file, or the parts themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pandas as pd

from inference.diagnostics import Diagnosis, PredictiveCheck, diagnose, load_tree, ppc
from inference.fit import Fitted
from inference.report.evidence import Evidence
from inference.report.examination import Examination
from inference.report.keeping import load_calibration, load_examination, load_ladder
from inference.report.outcome import load_outcome
from inference.report.sensitivity import sensitivity_of
from inference.runs import Run

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Source", "identified", "read_evidence"]

Source: TypeAlias = "str | Path | Run | Fitted | Evidence | xr.DataTree"
"""A run folder, a `.nc` or `.zarr` of draws, a run, what `fit` returned, evidence, or a tree of draws."""

PARTS = (
    "manifest.json",
    "metrics.jsonl",
    "bounds.csv",
    "bounds.nc",
    "examination.nc",
    "outcome.nc",
    "per_datum.csv",
    "posterior.nc",
)

_T = TypeVar("_T")


class _Reader:
    """Reads parts, and remembers which could not be read and why."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}

    def __call__(self, part: str, read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except (ValueError, TypeError, KeyError, OSError, ArithmeticError, RuntimeError, ImportError) as error:
            self.missing[part] = str(error) or type(error).__name__
            return None


def read_evidence(source: Source, name: str | None = None) -> Evidence:
    """All that a source knows.

    What is damaged or unfinished is left out and named in `missing`; a run that crashed has a report too.

    Args:
        source: a run folder, a `.nc` or `.zarr` of draws, a run, what `fit` returned, evidence, or a tree of draws.
        name: what to call it; by default the folder's name, or the file's.

    Raises:
        TypeError: if the source is nothing of the kind.
        ValueError: if it is not there, or there is nothing in it to report.
    """
    import xarray as xr

    if isinstance(source, Evidence):
        return source if name is None else replace(source, name=name)
    if isinstance(source, xr.DataTree):
        if "posterior" not in source.children:
            raise ValueError(f"`source` has {', '.join(source.children) or 'nothing'}, expected a group `posterior`")
        return _of_tree(Evidence(name or "posterior"), source, _Reader())
    if isinstance(source, Fitted):
        if source.run is None:
            raise ValueError("`source` was fitted without a run folder: fit it with `out=`, or pass an `Evidence`")
        source = source.run
    if isinstance(source, Run):
        source = source.folder
    if not isinstance(source, str | Path):
        raise TypeError(
            f"`source` is a {type(source).__name__}, expected a run folder, a .nc or .zarr file, an "
            "`xarray.DataTree`, what `fit` returned, or an `Evidence`"
        )
    path = Path(source)
    if path.suffix in (".nc", ".zarr"):
        return _of_tree(Evidence(name or path.stem), load_tree(path), _Reader())
    return _of_folder(path, name or path.resolve().name)


# -- folders -------------------------------------------------------------------------------------------------


def _of_folder(folder: Path, name: str) -> Evidence:
    if not any((folder / part).exists() for part in PARTS):
        what = "is not there" if not folder.exists() else "has nothing to report"
        raise ValueError(
            f"`source` {folder} {what}: expected a run folder that `fit` or `ppmodels mcmc` wrote, or a tree"
        )
    read = _Reader()
    ladder, of = _if_there(folder / "bounds.nc", read, "bounds", lambda path: load_ladder(path.parent)) or (None, {})
    found = Evidence(
        name,
        manifest=_if_there(folder / "manifest.json", read, "manifest", lambda path: json.loads(path.read_text())) or {},
        recipe=_if_there(folder / "recipe.toml", read, "recipe", Path.read_text),
        metrics=_if_there(folder / "metrics.jsonl", read, "metrics", _metrics),
        ladder=ladder,
        ladder_data=of,
        bounds=_if_there(folder / "bounds.csv", read, "table of bounds", pd.read_csv),
        examination=_if_there(folder / "examination.nc", read, "examination", lambda p: load_examination(p.parent))
        or _if_there(folder / "per_datum.csv", read, "evaluation", _evaluated),
        outcome=_if_there(folder / "outcome.nc", read, "outcome", lambda path: load_outcome(path.parent)),
        calibration=_if_there(folder / "calibration.nc", read, "calibration", lambda p: load_calibration(p.parent)),
    )
    worst = _if_there(folder / "worst.nc", read, "posterior of the worst data", load_tree)
    if worst is not None:
        verdict = read("verdict on the worst data's chains", lambda: _diagnosis(worst))
        found = replace(found, worst=worst, worst_diagnosis=verdict)
    tree = _if_there(folder / "posterior.nc", read, "posterior", load_tree)
    if tree is not None:
        return _of_tree(found, tree, read)
    return replace(found, missing=read.missing)


def _if_there(path: Path, read: _Reader, part: str, reading: Callable[[Path], _T]) -> _T | None:
    return read(part, lambda: reading(path)) if path.exists() else None


def _metrics(path: Path) -> pd.DataFrame:
    """The reports of a training; numbers that JSON could not hold are numbers again."""
    folder = path.parent
    frame = Run(folder).metrics() if (folder / "manifest.json").is_file() else pd.read_json(path, lines=True)
    if frame.empty:
        raise ValueError("nothing was reported yet")
    numbers: pd.DataFrame = frame.apply(pd.to_numeric, errors="coerce")
    return numbers


def _evaluated(path: Path) -> Examination:
    """What `ppmodels evaluate` left, which is less than `examine` sees."""
    frame, beside = pd.read_csv(path), path.with_name("evaluation.json")
    told: dict[str, Any] = json.loads(beside.read_text()) if beside.exists() else {}
    if not {"value", "standard_error", "khat", "ess"} <= set(frame) or "num_particles" not in told:
        raise ValueError(f"`{path}` and evaluation.json are not what `ppmodels evaluate` wrote: evaluate the run again")
    data = told.get("data", {})
    return Examination(frame.drop(columns="datum", errors="ignore"), int(told["num_particles"]), data)


# -- trees ---------------------------------------------------------------------------------------------------


def _of_tree(found: Evidence, tree: xr.DataTree, read: _Reader) -> Evidence:
    diagnosis = read("verdict on the draws", lambda: _diagnosis(tree))
    has_data = {"posterior_predictive", "observed_data"} <= set(tree.children)
    has_parts = {"log_prior", "log_likelihood"} <= set(tree.children)
    sensitivity = read("sensitivity", lambda: sensitivity_of(tree, diagnosis)) if has_parts and diagnosis else None
    predictive: PredictiveCheck | None = read("predictive check", lambda: ppc(tree)) if has_data else None
    return replace(
        found,
        posterior=tree,
        diagnosis=diagnosis,
        predictive=predictive,
        sensitivity=sensitivity,
        missing={**found.missing, **read.missing},
    )


def identified(tree: xr.DataTree) -> list[str] | None:
    """The variables that can be compared between chains, where the tree says which."""
    text = tree.attrs.get("identified")
    return None if text is None else [name for name in json.loads(text) if name in tree["posterior"]]


def _diagnosis(tree: xr.DataTree) -> Diagnosis:
    return diagnose(tree, var_names=identified(tree))
