r"""How good a gradient is: signal-to-noise ratio and bias, by estimator and number of particles.

.. math:: \mathrm{SNR} = \frac{|\mathbb{E}[g]|}{\sqrt{\mathrm{Var}[g]}}

for each entry g of the gradient of the bound, averaged over the data as in training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from inference.bounds import IWAE, Bound
from inference.display import fragment
from inference.draws import check_particles
from inference.estimators import DReG, Estimator, Pathwise
from inference.estimators.trial import buffers_kept
from inference.flags import validating
from inference.graph import Graphed, Mode, check_mode
from inference.layout import Layout
from inference.objectives import Variational
from inference.pair import Pair, first_tensor
from inference.particles import run_guide, site_log_prob
from inference.seeds import seeded
from inference.sites import sample_sites
from ppmodels.contracts import Batch, Program

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GradientSNR", "gradient_snr"]

MORE_REPEATS = 10
"""How many times the repeats of a row its reference gets."""

Gradient = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class GradientSNR:
    """What `gradient_snr` found.

    Attributes:
        table: a row for each `(estimator, K, part)`, part "decoder" or "encoder". Columns: `snr`, `bias`, `bias_se`,
            `norm` of the mean, `seconds` for one gradient, and `entries`, how many parameter entries have any noise,
            over which `snr` is the mean.
        bound: the bound's name.
        num_repeats: gradients behind each row.
        reference: what `bias` is measured from.
    """

    table: pd.DataFrame
    bound: str
    num_repeats: int
    reference: str

    def plot(self) -> Figure:
        """SNR against K on logarithmic axes: a panel for the encoder and one for the decoder, a line per estimator."""
        from matplotlib.figure import Figure  # it takes a second to import: only those who plot pay

        figure = Figure(figsize=(9, 4), layout="constrained")
        axes = figure.subplots(1, 2, sharex=True, squeeze=False)[0]
        for axis, part in zip(axes, ("encoder", "decoder"), strict=True):
            rows = self.table[self.table.index.get_level_values("part") == part].droplevel("part")
            for i, name in enumerate(dict.fromkeys(rows.index.get_level_values("estimator"))):
                line = rows.xs(name, level="estimator")["snr"]
                color, marker = _COLORS[i % len(_COLORS)], _MARKERS[i % len(_MARKERS)]
                axis.loglog(line.index, line.to_numpy(), color=color, marker=marker, label=name)
            axis.set(title=part, xlabel="particles K", ylabel=f"SNR of the gradient of {self.bound}")
        axes[0].legend()
        return figure

    def __str__(self) -> str:
        return f"{self._headline()}\n{self.table.to_string(float_format='{:.4g}'.format)}"

    def _repr_html_(self) -> str:
        return fragment(self._headline(), self.table, most=None)

    def _headline(self) -> str:
        return f"gradient of {self.bound}, {self.num_repeats:,} repeats; bias from {self.reference}"


_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito's
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def gradient_snr(
    model: Program,
    guide: Program,
    x: Batch,
    bound: Bound | None = None,
    *,
    estimators: Sequence[Estimator] = (Pathwise(), DReG()),  # frozen, without state
    num_particles: Sequence[int] = (1, 5, 50),
    num_repeats: int = 200,
    reference: Gradient | None = None,
    seed: int = 0,
    mode: Mode = "auto",
) -> GradientSNR:
    r"""Measure the gradients of a bound: how large is their signal beside their noise, and are they right?

    For every estimator and K the gradient is taken `num_repeats` times with fresh draws. An entry's SNR is
    :math:`|\bar g| / s`, mean over standard deviation; a row has the mean over the entries of its part. Entries without
    any noise (dead units, exact gradients) are left out and `entries` says how many are not; of pure noise about
    :math:`0.8 / \sqrt{R}` is found with R repeats. Bias is the norm of the mean less the reference, relative to the
    reference's; where there is none it still has the size of `bias_se`, the root of the expected square of the noise of
    both.

    Args:
        model: any Pyro callable.
        guide: any Pyro callable over the same latent sites.
        x: a batch, over which gradients are averaged.
        bound: the bound; by default the IWAE's.
        estimators: the estimators to compare.
        num_particles: the Ks.
        num_repeats: R, gradients for each row.
        reference: the true gradient of the bound (which rises) by parameter, named as `Pair.parameters` does. By
            default, at each K, the mean of ten times as many repeats of the first of the estimators that is unbiased;
            without one bias is NaN.
        seed: seeds the draws; the caller's random state is left as it is.
        mode: how the programs are run, see `inference.graph`.

    Returns:
        The table, which plots itself. A parameter is the encoder's if the guide's module holds it, or the guide's draws
        or their density depend on it; all others are the decoder's.

    Raises:
        ValueError: if an estimator does not suit the bound or the pair, or an argument is out of range.

    References:
        Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, 2018, arXiv 1802.04537.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     weight = pyro.param("weight", torch.tensor(1.0))
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(weight * z, 1.0), obs=x)
    >>> def guide(x):
    ...     slope = pyro.param("slope", torch.tensor(0.3))
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(slope * x, 1.0))
    >>> found = gradient_snr(model, guide, torch.tensor([1.0, -2.0]), num_particles=(1, 5), num_repeats=5)
    >>> found.table.index.get_level_values("part").unique().tolist()
    ['decoder', 'encoder']
    >>> pyro.clear_param_store()
    """
    bound = IWAE() if bound is None else bound
    check_mode(mode)
    if not isinstance(num_repeats, int) or num_repeats < 2:
        raise ValueError(f"`num_repeats` is {num_repeats}, expected a whole number, at least 2: noise shows in repeats")
    if isinstance(num_particles, int):
        raise TypeError(f"`num_particles` is {num_particles}, expected several: ({num_particles},)")
    if not num_particles:
        raise ValueError("`num_particles` is empty, expected at least one K")
    for K in num_particles:
        check_particles(K)
    pair, names = Pair(model, guide), [estimator.name for estimator in estimators]
    rows: list[dict[str, Any]] = []
    with seeded(seed, first_tensor(x).device), buffers_kept(pair), validating(enabled=False):
        parameters = pair.parameters(x)
        known = None if reference is None else _given(reference, parameters)
        origin = "nothing: none is unbiased" if known is None else "the gradient given"
        for K in num_particles:
            runs = [_Runs(pair, x, Variational(bound, K, estimator=each), num_repeats, mode) for each in estimators]
            true, unbiased = known, [run for run in runs if run.estimator.is_unbiased_for(bound, K)]
            if true is None and unbiased:
                true = unbiased[0](MORE_REPEATS * num_repeats)
                origin = f"{unbiased[0].estimator.name}, {MORE_REPEATS * num_repeats:,} repeats"
            for run in runs:
                found = run(num_repeats)
                for part, places in _parts(pair, x, run.layout, parameters).items():
                    row = {"estimator": run.estimator.name, "K": K, "part": part}
                    rows.append(row | _row(found, true, places))
    rows.sort(key=lambda row: names.index(row["estimator"]))
    return GradientSNR(pd.DataFrame(rows).set_index(["estimator", "K", "part"]), bound.name, num_repeats, origin)


@dataclass(frozen=True, eq=False)
class _Moments:
    """Mean and variance of each entry of each parameter's gradient, after so many repeats, and the seconds for one."""

    mean: Sequence[Tensor]
    variance: Sequence[Tensor]
    repeats: float
    seconds: float


class _Runs:
    """Gradients of one objective, as many as are asked for; what is kept of them are running sums."""

    def __init__(self, pair: Pair, x: Batch, objective: Variational, num_repeats: int, mode: Mode) -> None:
        task = objective.task(pair, x)
        assert task.layout is not None
        self.estimator, self.layout, self.x = objective.estimator, task.layout, x
        self.loss, self.parameters = task.phases[0].loss, list(task.phases[0].parameters.values())
        self.step = torch.zeros((), device=first_tensor(x).device)
        self.graph = Graphed(pair, self._gradients, mode, calls=lambda n: num_repeats)

    def __call__(self, repeats: int) -> _Moments:
        self.graph(self.x, self.step)  # capture, if that is to be, is not of the time
        mean = [torch.zeros_like(p, dtype=torch.float64) for p in self.parameters]
        squares = [torch.zeros_like(m) for m in mean]
        started = time.perf_counter()
        for r in range(1, repeats + 1):
            for m, s, gradient in zip(mean, squares, self.graph(self.x, self.step)[0], strict=True):
                away = gradient.double() - m
                m += away / r
                s += away * (gradient.double() - m)  # Welford's update
        seconds = (time.perf_counter() - started) / repeats
        return _Moments(mean, [s / (repeats - 1) for s in squares], repeats, seconds)

    def _gradients(self, batch: Batch, step: Tensor) -> tuple[list[Tensor], None]:
        loss = self.loss(batch, step).loss
        found = torch.autograd.grad(-loss, self.parameters, allow_unused=True, materialize_grads=True)
        return list(found), None


def _row(found: _Moments, true: _Moments | None, places: Sequence[int]) -> dict[str, float]:
    """One row's numbers."""
    mean, variance = (torch.cat([t[i].flatten() for i in places]) for t in (found.mean, found.variance))
    noisy = variance > 0
    ratios = mean[noisy].abs() / variance[noisy].sqrt()
    row = {"snr": float(ratios.mean()), "bias": math.nan, "bias_se": math.nan}
    if true is not None:
        target, spread = (torch.cat([t[i].flatten() for i in places]) for t in (true.mean, true.variance))
        noise = variance.sum() / found.repeats + spread.sum() / true.repeats
        size = target.norm()
        row |= {"bias": float((mean - target).norm() / size), "bias_se": float(noise.sqrt() / size)}
    return row | {"norm": float(mean.norm()), "seconds": found.seconds, "entries": int(noisy.sum())}


def _parts(pair: Pair, x: Batch, layout: Layout, parameters: Gradient) -> dict[str, list[int]]:
    """The places of the decoder's and of the encoder's parameters."""
    terms = []
    for site in sample_sites(run_guide(pair, x, 1, layout)).values():
        terms += [site_log_prob(site).sum(), site["value"].sum()]
    terms = [term for term in terms if term.requires_grad]
    touched = torch.autograd.grad(terms, list(parameters.values()), allow_unused=True) if terms else ()
    of_guide = [name.startswith("guide.") for name in parameters]
    of_guide = [here or found is not None for here, found in zip_longest(of_guide, touched)]
    every = range(len(of_guide))
    parts = {"decoder": [i for i in every if not of_guide[i]], "encoder": [i for i in every if of_guide[i]]}
    return {part: places for part, places in parts.items() if places}


def _given(reference: Gradient, parameters: Gradient) -> _Moments:
    """A reference that is known, without noise; checked against the parameters."""
    if reference.keys() != parameters.keys():
        odd = sorted(reference.keys() ^ parameters.keys())
        raise ValueError(
            f"`reference` has gradients of {sorted(reference)[:3]}, expected one for each of the {len(parameters)} "
            f"parameters, named as `Pair.parameters` does; `{odd[0]}` is in one of the two alone"
        )
    for name, value in parameters.items():
        if reference[name].shape != value.shape:
            raise ValueError(
                f"`reference` has shape {tuple(reference[name].shape)} for `{name}`, expected {tuple(value.shape)}"
            )
    mean = [reference[name].to(value.device, torch.float64) for name, value in parameters.items()]
    return _Moments(mean, [torch.zeros_like(m) for m in mean], math.inf, 0.0)
