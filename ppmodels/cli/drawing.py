"""What models draw: samples of every kind of model, the way to them, and pictures or tables of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from inference.ancestral import ancestral
from inference.pair import Pair, no_guide
from inference.report.outcome import Drawn
from inference.samples.distances import nearest_rows
from inference.seeds import seeded
from ppmodels.data import Dataset
from ppmodels.rbm import RBM
from ppmodels.recipes import schema

from . import pairs, pictures
from .opening import FittedRun

__all__ = ["drawn_of", "draws", "write_samples"]

WAYS = 8
"""Samples whose way is kept."""

STOPS = 9
"""States on a way, its end among them."""

FILTERS = 100
"""Hidden units whose weights are pictured, those of largest weights."""


def draws(fitted: FittedRun, n: int, *, seed: int = 0) -> Tensor:
    """Data drawn from the model, `(n, x_dim)`, whatever its kind: by Gibbs chains of an energy, down a chain, at once.

    Raises:
        ValueError: if `n` is not positive.
    """
    if n < 1:
        raise ValueError(f"`n` must be at least 1, got {n}")
    model: Any = fitted.model
    if isinstance(fitted.recipe, schema.TransitionRecipe):
        return ancestral(model, n, seed=seed).x
    with seeded(seed, fitted.device), Pair(model, no_guide, True).mode(training=False), torch.no_grad():
        if isinstance(fitted.recipe, schema.EnergyRecipe):
            return cast(Tensor, model.sample(n, sweeps=fitted.recipe.evaluation.sweeps))
        return cast(Tensor, model(n=n))


def drawn_of(fitted: FittedRun, data: Dataset, n: int, *, seed: int = 0) -> Drawn:
    """Samples of a model without a guide beside data, the training data nearest to them, and the way they came."""
    states, at = _ways(fitted, data.x_dim, seed)
    samples = draws(fitted, n, seed=seed)
    train = fitted.data("train", 0).all()
    nearest = train[nearest_rows(samples, train.double(), None)]
    x = data.head(n).all()
    shape = data.shape if len(data.shape) == 2 else (data.x_dim,)
    grey = fitted.recipe.data.protocol == "signed"
    samples_, nearest_, data_, states_ = (_array(values, signed=grey) for values in (samples, nearest, x, states))
    return Drawn(shape, samples_, nearest_, data_, states_, at, _filters(fitted))


def _ways(fitted: FittedRun, x_dim: int, seed: int) -> tuple[Tensor, np.ndarray[Any, np.dtype[np.int64]]]:
    """States of a few chains, `(steps, k, x_dim)`, and their steps: sweeps so far, or steps to go."""
    match fitted.recipe:
        case schema.TransitionRecipe():
            T = cast(Any, fitted.model).num_steps
            kept = sorted({round(t) for t in np.linspace(1, T, STOPS - 1)}, reverse=True)
            found = ancestral(fitted.model, WAYS, keep=kept, seed=seed)
            return torch.stack([*(found.states[t] for t in kept), found.x]), np.array([*kept, 0])
        case schema.EnergyRecipe(evaluation=table):
            stops = sorted({round(s) for s in np.geomspace(1, table.sweeps, STOPS)})
            return torch.stack(_after_sweeps(fitted, stops, seed)), np.array(stops)
        case _:
            return torch.zeros(0, WAYS, x_dim), np.zeros(0, dtype=np.int64)


def _after_sweeps(fitted: FittedRun, stops: list[int], seed: int) -> list[Tensor]:
    """Chains after more and more sweeps: of an RBM the same ones, as the seed is; a Boltzmann machine cools anew."""
    model: Any = fitted.model
    found = []
    for sweeps in stops:
        with seeded(seed, fitted.device):
            found.append(model.sample(WAYS, sweeps=sweeps))
    return found


def _filters(fitted: FittedRun) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The weights of hidden units, the largest first, `(units, x_dim)`."""
    if not isinstance(fitted.model, RBM):
        return np.zeros((0, 1))
    weight = fitted.model.weight.detach().T
    order = weight.norm(dim=1).argsort(descending=True)[:FILTERS]
    return _array(weight[order], signed=False)


def _array(values: Tensor, *, signed: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = (values + 1) / 2 if signed else values
    return cast("np.ndarray[Any, np.dtype[np.float64]]", values.detach().double().cpu().numpy())


# -- files ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Shown:
    """Rows of numbers, and the picture of them."""

    rows: Tensor
    figure: Callable[[], Figure]


def write_samples(fitted: FittedRun, n: int, out: Path | None = None, *, seed: int = 0) -> dict[str, Path]:
    """Write samples and what belongs to them, pictures or a .csv of numbers each; say where."""
    data = fitted.data("test", n)
    is_image = len(data.shape) == 2
    path = fitted.run.folder / f"samples{'.png' if is_image else '.csv'}" if out is None else out
    if not is_image and path.suffix != ".csv":
        raise ValueError(f"`out` must end in .csv for data of shape {data.shape}, which are no images, got {path}")
    shown = _of_pair(fitted, data, n, seed) if fitted.recipe.kind == "directed" else _of_others(fitted, data, n, seed)
    written = {}
    for name, one in shown.items():
        beside = path if name == "samples" else path.with_name(f"{_stem(path, out)}{name}{path.suffix}")
        if path.suffix == ".csv":
            beside.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(one.rows.cpu().numpy()).to_csv(beside, index=False)
        else:
            pictures.save(one.figure(), beside)
        written[name] = beside
    return written


def _stem(path: Path, out: Path | None) -> str:
    """What files beside the samples begin with: nothing in the folder of the run."""
    return "" if out is None else f"{path.stem}-"


def _of_pair(fitted: FittedRun, data: Dataset, n: int, seed: int) -> Mapping[str, _Shown]:
    title, x = f"{fitted.recipe.name}, step {fitted.step}", data.all()
    drawn = pairs.sample(fitted, n, seed=seed)
    means, told = pairs.reconstruct(fitted, x, seed=seed), f"{title}: data, reconstructions"

    def grey(values: Tensor) -> Tensor:
        return (values + 1) / 2 if fitted.recipe.data.protocol == "signed" else values

    return {
        "samples": _Shown(drawn, lambda: pictures.grid(grey(drawn), data.shape, title=f"{title}: samples")),
        "reconstructions": _Shown(
            means, lambda: pictures.reconstructions(grey(x), grey(means), data.shape, title=told)
        ),
    }


def _of_others(fitted: FittedRun, data: Dataset, n: int, seed: int) -> Mapping[str, _Shown]:
    title, drawn = f"{fitted.recipe.name}, step {fitted.step}", drawn_of(fitted, data, n, seed=seed)
    signed = fitted.recipe.data.protocol == "signed"

    def rows(grey: Tensor) -> Tensor:
        """As the model has them, not as they are pictured."""
        return 2 * grey - 1 if signed else grey

    samples, nearest, states = (torch.from_numpy(one) for one in (drawn.samples, drawn.nearest, drawn.states))
    shape = data.shape
    shown = {
        "samples": _Shown(rows(samples), lambda: pictures.grid(samples, shape, title=f"{title}: samples")),
        "nearest": _Shown(
            rows(nearest),
            lambda: pictures.reconstructions(
                samples, nearest, shape, title=f"{title}: samples, the training data nearest to them"
            ),
        ),
    }
    if len(states):
        ways = states.transpose(0, 1).flatten(0, 1)  # (k * steps, x_dim): a chain in a row
        at = ", ".join(map(str, drawn.at))
        told = f"{title}: {f'after {at} sweeps' if fitted.recipe.kind == 'energy' else f'with {at} steps to go'}"
        shown["chains"] = _Shown(rows(ways), lambda: pictures.grid(ways, shape, columns=len(drawn.at), title=told))
    if len(drawn.filters):
        filters = torch.from_numpy(drawn.filters)
        scaled = 0.5 + filters / (2 * filters.abs().amax(1, keepdim=True).clamp_min(1e-12))
        shown["filters"] = _Shown(filters, lambda: pictures.grid(scaled, shape, title=f"{title}: weights"))
    return shown
