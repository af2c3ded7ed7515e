r"""Log p(x) per datum by importance sampling, with its error and a verdict on the guide.

.. math:: \log \hat p(x_i) = \log \frac{1}{K} \sum_{k=1}^K \frac{p(x_i, z_k)}{q(z_k \mid x_i)}

In expectation this is the IWAE bound of the same K: it under-reports, by about half its squared standard error.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from inference.averaging import PerDatum
from inference.batches import as_data
from inference.diagnostics.khat import Tail, khat_threshold, pareto_khat_of_tail
from inference.display import fragment, spread
from inference.draws import check_particles
from inference.evaluation import weigh_data
from inference.graph import Mode
from inference.pair import Pair
from inference.weights import Weights
from ppmodels.contracts import Batch, Data, Program

__all__ = ["FewParticlesWarning", "LogLikelihood", "log_likelihood"]


class FewParticlesWarning(UserWarning):
    """The estimate of log p(x) is low, or its error unknown, for want of draws or of a better guide."""


@dataclass(frozen=True, eq=False)
class LogLikelihood(PerDatum):
    """An estimate of log p(x) for each of n data, in nats; every field but the first is `(n,)`.

    Attributes:
        num_particles: K, the draws per datum.
        value: the estimate, a lower bound in expectation.
        standard_error: its Monte Carlo error, by the delta method.
        khat: Pareto k-hat of the weights.
        ess: effective number of draws.
    """

    num_particles: int
    value: Tensor
    standard_error: Tensor
    khat: Tensor
    ess: Tensor

    @property
    def unreliable(self) -> float:
        """Share of the data whose k-hat is above the threshold for K, or unknown."""
        return float((~(self.khat <= khat_threshold(self.num_particles))).double().mean())

    def to_frame(self) -> pd.DataFrame:
        """One row per datum."""
        columns = ("value", "standard_error", "khat", "ess")
        return pd.DataFrame({name: getattr(self, name).cpu().numpy() for name in columns})

    def __str__(self) -> str:
        return (
            f"log p(x) = {self.mean:.3f} nats per datum, s.e. {self.mean_se:.3f} over {len(self.value)} data and "
            f"{self.mean_mc_se:.3f} over draws; K = {self.num_particles}, median k-hat "
            f"{float(self.khat.nanmedian()):.2f}, k-hat too high for {self.unreliable:.0%}"
        )

    def _repr_html_(self) -> str:
        return fragment(str(self), spread(self.to_frame()))


def log_likelihood(
    model: Program,
    guide: Program,
    data: Data | Batch,
    *,
    num_particles: int = 5000,
    batch_size: int = 100,
    chunk: int | None = None,
    seed: int = 0,
    mode: Mode = "auto",
    progress: bool | None = None,
) -> LogLikelihood:
    """Estimate log p(x) for every datum with exactly K draws from the guide.

    Args:
        model: any Pyro callable.
        guide: any Pyro callable over the same latent sites.
        data: a dataset, or a tensor, tuple or mapping of tensors; each datum is read once.
        num_particles: K, draws per datum.
        batch_size: data at a time.
        chunk: draws at a time; memory is that of `batch_size * chunk` data.
        seed: seeds the draws (and the data's own noise); the caller's random state is left as it is.
        mode: how the programs are run: compiled ("inductor"), from their tensor graph ("replay"), as they are
            ("eager"), or what is quickest for this much work ("auto"); see `inference.graph`.
        progress: show a bar; by default where there is a terminal.

    Warns:
        FewParticlesWarning: if k-hat says K is too small for more than a tenth of the data, or the estimate is low
            by more than about a tenth of a nat.

    Raises:
        ValueError: see `inference.draws.log_weights` and `inference.batches.as_data`.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 1.0))
    >>> x = torch.tensor([0.0, 1.0, 2.0])
    >>> found = log_likelihood(model, guide, x, num_particles=1000)
    >>> exact = dist.Normal(0.0, 2**0.5).log_prob(x)
    >>> bool(((found.value - exact).abs() < 5 * found.standard_error).all())
    True
    """
    check_particles(num_particles)
    passes = weigh_data(
        Pair(model, guide),
        as_data(data),
        num_particles,
        partial(summarise, K=num_particles),
        label="log p(x)",
        batch_size=batch_size,
        chunk=chunk,
        seed=seed,
        mode=mode,
        progress=progress,
    )
    with closing(passes):
        rows = [row for row, _ in passes]
    found = LogLikelihood(num_particles, *(torch.cat(column) for column in zip(*rows, strict=True)))
    _warn_if_few(found)
    return found


def summarise(chunks: Iterator[Weights], K: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, standard error, k-hat and effective sample size of K draws, each `(n,)`, as the draws come by.

    Kept are the sum of the weights, that of their squares, and the largest of them, for k-hat: memory grows with the
    square root of K.
    """
    tail: Tail | None = None
    for log_w in (weights.log_w for weights in chunks):  # (k, n)
        if tail is None:
            tail, total = Tail(log_w, K), torch.full_like(log_w[0], -math.inf, dtype=torch.float64)
            squares, lowest = total, torch.full_like(log_w[0], math.inf)
        else:
            tail.add(log_w)
        total = total.logaddexp(log_w.double().logsumexp(0))
        squares = squares.logaddexp((2 * log_w.double()).logsumexp(0))
        lowest = lowest.minimum(log_w.masked_fill(~log_w.isfinite(), math.inf).amin(0))
    assert tail is not None
    ess = (2 * total - squares).exp()
    variance = (K / ess - 1).clamp_min(0) / (K - 1) if K > 1 else torch.full_like(ess, math.nan)
    value, error, ess = (found.to(lowest.dtype) for found in (total - math.log(K), variance.sqrt(), ess))
    return value, error, pareto_khat_of_tail(tail.largest(), lowest, K), ess


def _warn_if_few(found: LogLikelihood) -> None:
    K, low_by = found.num_particles, float(found.standard_error.square().mean()) / 2
    if K < 25:
        said = "k-hat needs at least 25 draws to judge the guide by"
    elif found.unreliable > 0.1 or low_by > 0.1:
        said = (
            f"k-hat is above {khat_threshold(K):.2f} for {found.unreliable:.0%} of the data and the estimate is low by "
            f"about {low_by:.2g} nats or more; raise `num_particles`, or train a better guide"
        )
    else:
        return
    warnings.warn(f"K = {K} is too small for this guide: {said}", FewParticlesWarning, stacklevel=3)
