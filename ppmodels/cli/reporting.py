"""Reports of runs: what is missing of a run is reckoned first, and kept in its folder for the next time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from inference.bounds import Bound, ReverseAIS
from inference.compare import CrossedBoundsError, Ladder, compare_bounds
from inference.mcmc import sbc
from inference.report import Evidence, Report, examine, examine_worst, read_evidence, report
from inference.report.examination import worst_index
from inference.report.keeping import save_calibration, save_ladder
from inference.report.writing import check_path
from inference.runs import Run
from inference.schedule import Annealing
from ppmodels.data import Dataset
from ppmodels.programs import program
from ppmodels.recipes.posterior import load_posterior

from . import experiment, posterior
from .experiment import FittedRun
from .outcomes import evaluate_outcome

__all__ = ["Wanted", "default_path", "document", "watch", "write_report"]

UPPER = [ReverseAIS(Annealing(100, 8)), ReverseAIS(Annealing(400, 8, start="prior"))]
"""The upper side of the bracket, on data from the model, where it holds in expectation: from the guide, or, where that
has no density of the latents alone, from the prior, which is further away."""

SIMULATED = 50
"""Data from the model, to bracket log p(x) on."""

TREES = (".nc", ".zarr")

KEPT = ("examination.nc", "bounds.nc", "worst.nc", "calibration.nc", "outcome.nc")
"""What is reckoned of a run's parameters."""


@dataclass(frozen=True)
class Wanted:
    """What a command line asks of a report.

    Attributes:
        as_is: take what the folders hold, and reckon nothing.
        num_worst: data of highest k-hat that are looked at closely.
        calibrate: data sets to simulate for a check of calibration; 0 for none.
        device: where what is missing is reckoned.
        title: of the page.
    """

    as_is: bool = False
    num_worst: int = 10
    calibrate: int = 0
    device: torch.device | str = "cpu"
    title: str | None = None


def write_report(sources: Sequence[Path], path: Path, wanted: Wanted) -> Report:
    """Write the report of one or several runs, or files of draws."""
    check_path(path)
    found = [evidence_of(source, wanted) for source in sources]
    return report(found, path, title=wanted.title)


def watch(source: Path, path: Path, wanted: Wanted, every: float, said: Callable[[Report], None]) -> Report:
    """Write the report of a run again and again while it goes on, and once whole when it has ended."""
    while experiment.begun(source).manifest.get("status") in ("started", None):
        said(report(read_evidence(source), path, title=wanted.title, reload=max(1, round(every))))
        time.sleep(every)
    return write_report([source], path, wanted)


def default_path(sources: Sequence[Path]) -> Path:
    """`report.html` in the folder of one run, beside a file of draws, or here for several."""
    if len(sources) > 1:
        return Path("report.html")
    return sources[0].with_suffix(".html") if sources[0].suffix in TREES else sources[0] / "report.html"


def document(written: Report) -> dict[str, Any]:
    """Everything, for a script."""
    runs = [
        {
            "run": name,
            "colour": verdict.colour,
            "judgements": [
                {"topic": one.topic, "state": one.state, "sentence": one.sentence}
                for one in (*verdict.judgements, *verdict.others)
            ],
        }
        for name, verdict in written.verdicts
    ]
    return {"path": str(written.path), "colour": written.colour, "seconds": written.seconds, "runs": runs}


# -- what is missing -----------------------------------------------------------------------------------------


def evidence_of(source: Path, wanted: Wanted) -> Evidence:
    """All that a folder or file holds, and what can be reckoned of a run that a recipe began."""
    if wanted.as_is or source.suffix in TREES or not (source / "manifest.json").is_file():
        return read_evidence(source)
    run = Run(source)
    if not (source / "recipe.toml").is_file():
        return read_evidence(source)
    if posterior.is_posterior(run):
        if wanted.calibrate:
            _calibrate_program(run, wanted)
        return read_evidence(source)
    fitted, why = _opened(source, wanted.device)
    if fitted is None:
        found = read_evidence(source)
        return replace(found, missing={**found.missing, "pair": why})
    missing = _complete(fitted, wanted)
    found = read_evidence(source)
    return replace(found, missing={**found.missing, **missing})


def _opened(source: Path, device: torch.device | str) -> tuple[FittedRun | None, str]:
    """The run with its pair, or why there is none yet."""
    try:
        return experiment.open_run(source, device=device), ""
    except (ValueError, OSError) as error:
        return None, str(error)


def _complete(fitted: FittedRun, wanted: Wanted) -> dict[str, str]:
    """Reckon what the folder lacks of these very parameters; say what cannot be had, and why."""
    run, stale = fitted.run, fitted.run.manifest.get("examined") != fitted.step
    if stale:  # what there is belongs to other parameters
        for name in KEPT:
            (run.folder / name).unlink(missing_ok=True)
    missing: dict[str, str] = {} if stale else dict(run.manifest.get("missing", {}))
    if fitted.recipe.kind != "directed":
        return _complete_outcome(fitted, missing, wanted)
    data = fitted.data("test")
    if not (run.folder / "examination.nc").exists():
        _examine(fitted, data, wanted.num_worst)
    if not (run.folder / "bounds.nc").exists():
        missing |= _climb(fitted, data)
    for part, reckon in {"posterior of the worst data": _sample_worst, "calibration": _calibrate_pair}.items():
        missing.pop(part, None)
        try:
            reckon(fitted, data, wanted)
        except ValueError as error:
            missing[part] = str(error)
    run.update(examined=fitted.step, missing=missing)
    return missing


def _complete_outcome(fitted: FittedRun, missing: dict[str, str], wanted: Wanted) -> dict[str, str]:
    """Reckon what a model without a guide is judged by, unless it is there."""
    missing.pop("calibration", None)
    outcome = read_evidence(fitted.run.folder).outcome
    of = None if outcome is None else {key: outcome.data.get(key) for key in ("split", "sha256")}
    test = fitted.describe(fitted.data("test"))
    if outcome is None or outcome.samples is None or of != {key: test[key] for key in ("split", "sha256")}:
        evaluate_outcome(fitted, samples=True)
    if wanted.calibrate:
        missing["calibration"] = f"a model of the kind {fitted.recipe.kind!r} has no guide to calibrate"
    fitted.run.update(examined=fitted.step, missing=missing)
    return missing


def _examine(fitted: FittedRun, data: Dataset, num_worst: int) -> None:
    table = fitted.pair_recipe.evaluation
    examine(
        fitted.model,
        fitted.guide,
        data,
        train=fitted.data("train", len(data)),
        num_particles=table.num_particles,
        num_worst=num_worst,
        shares=experiment.stick_shares(fitted),
        batch_size=table.batch_size,
        seed=table.seed,
        mode=table.mode,
        out=fitted.run.folder,
    )


def _sample_worst(fitted: FittedRun, data: Dataset, wanted: Wanted) -> None:
    """The posterior of as many data as are wanted, unless it is there."""
    found = read_evidence(fitted.run.folder)
    assert found.examination is not None
    index = worst_index(found.examination.per_datum["khat"].to_numpy(), wanted.num_worst).tolist()
    kept = [] if found.worst is None else json.loads(found.worst.attrs["examined"])
    if kept[: len(index)] != index:
        seed = fitted.pair_recipe.evaluation.seed
        examine_worst(fitted.model, fitted.guide, data, index, seed=seed, out=fitted.run.folder)


def _calibrate_pair(fitted: FittedRun, data: Dataset, wanted: Wanted) -> None:
    if wanted.calibrate:
        batch, seed = data.batch(torch.arange(min(len(data), wanted.calibrate))), fitted.pair_recipe.evaluation.seed
        found = sbc(fitted.model, batch, guide=fitted.guide, num_datasets=wanted.calibrate, seed=seed)
        save_calibration(found, fitted.run.folder)


def _climb(fitted: FittedRun, data: Dataset) -> dict[str, str]:
    """The recipe's bounds, and an upper one where the pair can be annealed; why there is none where it cannot."""
    given = list(fitted.pair_recipe.evaluation.bounds)
    own, why = any(bound.startswith("bdmc") for bound in given), ""
    for upper in () if own else UPPER:
        try:
            save_ladder(_ladder(fitted, data, [*given, upper], SIMULATED), fitted.run.folder, data)
        except ValueError as error:
            why = str(error)
        else:
            return {}
    save_ladder(_ladder(fitted, data, given, SIMULATED if own else None), fitted.run.folder, data)
    return {"upper bound": why} if why else {}


def _ladder(fitted: FittedRun, data: Dataset, bounds: Sequence[str | Bound], num_simulated: int | None) -> Ladder:
    """A ladder; one whose bounds crossed is kept, and the verdict says what is wrong with it."""
    table = fitted.pair_recipe.evaluation
    how: dict[str, Any] = {"batch_size": table.batch_size, "seed": table.seed, "mode": table.mode}
    try:
        return compare_bounds(fitted.model, fitted.guide, data, bounds, num_simulated=num_simulated, **how)
    except CrossedBoundsError as error:
        return error.ladder


def _calibrate_program(run: Run, wanted: Wanted) -> None:
    """Simulation-based calibration of the sampler on the program of a posterior."""
    recipe = load_posterior(run.folder / "recipe.toml")
    if recipe.program is None:
        raise ValueError(
            f"`calibrate` is {wanted.calibrate}, but `{run.folder}` is of the latents of data: calibrate the pair"
        )
    data = posterior.study_of(recipe).to(torch.device(wanted.device))
    kwargs = {**data.values, **recipe.program.model_dump(exclude={"name"})}
    found = sbc(
        program(recipe.program.name).call, model_kwargs=kwargs, num_datasets=wanted.calibrate, seed=recipe.sampler.seed
    )
    save_calibration(found, run.folder)
