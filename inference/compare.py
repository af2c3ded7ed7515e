r"""The bound ladder: several bounds, one pair, one set of draws, one table with errors."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from inference.batches import as_data
from inference.bounds import ELBO, Bound, Direction, Estimate, estimate, parse_bound
from inference.diagnostics.khat import pareto_khat
from inference.draws import check_particles, gather
from inference.evaluation import weigh_data
from inference.graph import Mode
from inference.pair import Pair
from inference.weights import Weights
from ppmodels.contracts import Batch, Data, Program

__all__ = ["BoundSpec", "CrossedBoundsError", "Ladder", "compare_bounds", "paired_difference"]

BoundSpec = str | Bound | tuple[Bound, int]
"""`"iwae:50"`, a bound (at the table's largest K), or a bound and its K."""

DEFAULT_BOUNDS = ("elbo", "iwae:5", "iwae:50", "renyi:0.5:50", "vrmax:50")


class CrossedBoundsError(ArithmeticError):
    """A lower bound lies above an upper one by more than chance allows: one of the two is wrong.

    The numbers are not lost: `error.ladder` holds them.
    """

    def __init__(self, message: str, ladder: Ladder) -> None:
        super().__init__(message)
        self.ladder = ladder


@dataclass(frozen=True)
class Row:
    """One bound at one K, for every datum."""

    label: str
    direction: Direction
    num_particles: int
    value: Tensor  # (n,)
    standard_error: Tensor  # (n,), of the draws
    seconds: float


def row_label(bound: Bound, num_particles: int) -> str:
    """`IWAE-50`, `ELBO`: the name a row goes by."""
    return bound.name if isinstance(bound, ELBO) else f"{bound.name}-{num_particles}"


@dataclass(frozen=True, eq=False)
class Ladder:
    """Bounds on log p(x) side by side.

    Attributes:
        rows: the bounds with their values per datum.
        khat: Pareto k-hat per datum of the largest set of weights, `(n,)`.
    """

    rows: tuple[Row, ...]
    khat: Tensor

    @property
    def table(self) -> pd.DataFrame:
        """One row per bound, in nats per datum.

        `se` is the standard error of the mean if the data are a sample of a population (draws included), `mc_se` for
        these very data (draws alone); `seconds` is what the row's share of the draws took; `khat` is the median.
        """
        n = len(self.khat)
        return pd.DataFrame(
            {
                "bound": row.label,
                "K": row.num_particles,
                "direction": row.direction,
                "value": float(row.value.mean()),
                "se": float(row.value.std()) / math.sqrt(n) if n > 1 else math.nan,
                "mc_se": float(row.standard_error.square().sum().sqrt()) / n,
                "seconds": row.seconds,
                "khat": float(self.khat.nanmedian()),
            }
            for row in self.rows
        )

    @property
    def per_datum(self) -> pd.DataFrame:
        """One column per bound, one row per datum."""
        columns = {row.label: row.value.cpu().numpy() for row in self.rows}
        return pd.DataFrame(columns | {"khat": self.khat.cpu().numpy()})

    @property
    def differences(self) -> pd.DataFrame:
        """Each bound less the one above it in the table, paired by datum, with the error of the mean."""
        pairs = zip(self.rows[1:], self.rows, strict=False)
        found = [(f"{b.label} - {a.label}", *paired_difference(b.value, a.value)) for b, a in pairs]
        return pd.DataFrame(found, columns=["difference", "value", "se"])

    def row(self, label: str) -> Row:
        """The row of a name, such as `IWAE-50`."""
        for row in self.rows:
            if row.label == label:
                return row
        raise KeyError(f"`label` is {label!r}, expected one of {', '.join(row.label for row in self.rows)}")

    def check(self) -> Ladder:
        """Raise where a lower bound exceeds an upper one by more than 4 standard errors; else return the ladder."""
        for low in self._rows("lower"):
            for high in self._rows("upper"):
                gap, se = paired_difference(low.value, high.value)
                noise = torch.stack([low.standard_error, high.standard_error]).nan_to_num().square().sum().sqrt()
                error = max(float(noise) / len(self.khat), 0.0 if math.isnan(se) else se)
                if gap > 4 * error + 1e-12 * abs(float(high.value.mean())):
                    raise CrossedBoundsError(
                        f"`{low.label}` (lower) is above `{high.label}` (upper) by {gap:.4g} nats with a standard "
                        f"error of {error:.2g}: one of the two does not bound log p(x) here",
                        self,
                    )
        return self

    def _rows(self, direction: Direction) -> list[Row]:
        return [row for row in self.rows if row.direction == direction]

    def __str__(self) -> str:
        return self.table.to_string(index=False, float_format=lambda v: f"{v:.3f}")

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False, float_format=lambda v: f"{v:.3f}")


def paired_difference(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Mean of `a - b` over the data, and its standard error (NaN for one datum)."""
    d = a - b
    return float(d.mean()), float(d.std()) / math.sqrt(len(d)) if len(d) > 1 else math.nan


def compare_bounds(
    model: Program,
    guide: Program,
    data: Data | Batch,
    bounds: str | Iterable[BoundSpec] = DEFAULT_BOUNDS,
    *,
    num_particles: int | None = None,
    batch_size: int = 100,
    chunk: int | None = None,
    seed: int = 0,
    mode: Mode = "auto",
    progress: bool | None = None,
) -> Ladder:
    """Evaluate several bounds of one pair on one set of weights.

    Args:
        model: any Pyro callable.
        guide: any Pyro callable over the same latent sites.
        data: a dataset, or a tensor, tuple or mapping of tensors.
        bounds: `"elbo"`, `"iwae:50"`, `"renyi:0.5:50"`, any bound, or a bound and its K; your own are as good.
        num_particles: draws per datum; by default the largest K asked for. A bound without a K of its own uses all.
        batch_size: data at a time.
        chunk: draws at a time.
        seed: seeds the draws (and the data's own noise).
        mode: how the programs are run: compiled ("inductor"), from their tensor graph ("replay"), as they are
            ("eager"), or what is quickest for this much work ("auto"); see `inference.graph`.
        progress: show a bar; by default where there is a terminal.

    Raises:
        CrossedBoundsError: if a lower bound exceeds an upper one by more than 4 standard errors.
        ValueError: if a bound is not known, or two rows would have the same name; see also `log_weights`.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 3, 1.0))
    >>> ladder = compare_bounds(model, guide, torch.randn(50), ["elbo", "iwae:10", "iwae:100"])
    >>> list(ladder.table["bound"])
    ['ELBO', 'IWAE-10', 'IWAE-100']
    >>> bool(ladder.table["value"].is_monotonic_increasing)
    True
    """
    specs = [_read(spec) for spec in ([bounds] if isinstance(bounds, str) else bounds)]
    if not specs:
        raise ValueError("`bounds` is empty, expected at least one row")
    if num_particles is not None:
        check_particles(num_particles)
    K = max([num_particles or 1, *(k or 1 for _, k in specs)])
    rows = [_Row(bound, k or K) for bound, k in specs]
    _check_labels([row.label for row in rows])
    khat: list[Tensor] = []
    passes = weigh_data(
        Pair(model, guide),
        as_data(data),
        K,
        partial(gather, K=K),
        label="bounds",
        batch_size=batch_size,
        chunk=chunk,
        seed=seed,
        mode=mode,
        progress=progress,
        analytic_kl=any(isinstance(row.bound, ELBO) and row.bound.kl == "analytic" for row in rows),
    )
    with closing(passes):
        for weights, seconds in passes:
            for row in rows:
                row.add(weights, seconds * row.num_particles / K)
            khat.append(pareto_khat(weights.log_w))
    return Ladder(tuple(row.done() for row in rows), torch.cat(khat)).check()


def _read(spec: BoundSpec) -> tuple[Bound, int | None]:
    if isinstance(spec, str):
        return parse_bound(spec)
    bound, K = spec if isinstance(spec, tuple) else (spec, 1 if isinstance(spec, ELBO) else None)
    if not isinstance(bound, Bound):
        raise TypeError(
            f"`bounds` has a {type(bound).__name__}, expected a string, a bound, or a bound and its K: a bound is a "
            "callable with `name` and `direction`"
        )
    if K is not None and K < 1:
        raise ValueError(f"`bounds` has {bound.name} whose K is {K}, expected at least 1")
    return bound, K


def _check_labels(labels: list[str]) -> None:
    twice = [label for label in dict.fromkeys(labels) if labels.count(label) > 1]
    if twice:
        raise ValueError(f"`bounds` has {twice[0]} twice, expected each row once: drop one, or give it another K")


class _Row:
    """A row while batches come in."""

    def __init__(self, bound: Bound, num_particles: int) -> None:
        self.bound, self.num_particles = bound, num_particles
        self.parts: list[Estimate] = []
        self.seconds = 0.0

    @property
    def label(self) -> str:
        return row_label(self.bound, self.num_particles)

    def add(self, weights: Weights, drawing: float) -> None:
        start = time.perf_counter()
        self.parts.append(estimate(self.bound, weights, self.num_particles))
        self.seconds += drawing + time.perf_counter() - start

    def done(self) -> Row:
        value, error = (torch.cat(column) for column in zip(*self.parts, strict=True))
        return Row(self.label, self.bound.direction, self.num_particles, value, error, self.seconds)
