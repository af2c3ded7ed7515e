r"""Training a pair as an autoencoder: the likelihood of a datum at its own code, without a prior or an entropy.

.. math:: \frac1n \sum_i \log p(x_i \mid z_i), \qquad z_i = \mathbb{E}_q[z \mid x_i] \quad\text{or}\quad
    z_i \sim q(z \mid x_i)

No bound on log p(x): what training may begin with, where the prior's parameters are to come from the codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from inference.layout import Layout
from inference.objectives import LossParts, Phase, Task, Variational
from inference.pair import Pair, first_tensor
from inference.particles import inspect_pair, run_particles
from inference.seeds import seeded
from inference.sites import sample_sites
from inference.weights import weigh_traces
from ppmodels.contracts import Batch

__all__ = ["Means", "Reconstruction"]


class Means(Messenger):
    """Puts the mean of its distribution in the place of every draw of a guide."""

    def _pyro_sample(self, msg: Any) -> None:
        if not (msg["done"] or msg["is_observed"] or poutine.util.site_is_subsample(msg)):
            msg["value"], msg["done"] = msg["fn"].mean, True


@dataclass(frozen=True)
class Reconstruction:
    r"""Maximise the log-likelihood of each datum at its code, over the parameters of model and guide at once.

    Only observed sites count. Sites that the model sums out may stand beside the code, as the cluster of a mixture
    prior does; what is observed must not depend on them.

    Attributes:
        at: the guide's "mean", which makes an autoencoder, or one "draw", which makes a noisy one.

    References:
        Jiang, Zheng, Tan, Tang and Zhou, *Variational Deep Embedding*, 2017, arXiv 1611.05148, section 4.3.

    >>> import pyro, pyro.distributions as dist
    >>> from inference.fit import fit
    >>> from inference.optim import adam
    >>> class Line(torch.nn.Module):  # x = a z, and z = b x
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.a, self.b = (torch.nn.Parameter(torch.tensor(0.5)) for _ in range(2))
    ...     def model(self, x):
    ...         with pyro.plate("data", len(x)):
    ...             z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...             pyro.sample("x", dist.Normal(self.a * z, 1.0), obs=x)
    ...     def guide(self, x):
    ...         with pyro.plate("data", len(x)):
    ...             pyro.sample("z", dist.Normal(self.b * x, 1.0))
    >>> line = Line()
    >>> fitted = fit(line.model, line.guide, torch.randn(50), Reconstruction(), steps=300, optimizer=adam(0.02))
    >>> round((line.a * line.b).item(), 2)
    1.0
    """

    at: Literal["mean", "draw"] = "mean"

    def __post_init__(self) -> None:
        if self.at not in ("mean", "draw"):
            raise ValueError(f'`at` is {self.at!r}, expected "mean" or "draw"')

    def task(self, pair: Pair, batch: Batch) -> Task:
        """Inspect the pair and return the one phase; refuse by site what has no code, or no likelihood of its own."""
        layout = inspect_pair(pair, batch)
        with seeded(None, first_tensor(batch).device), pair.mode(training=False), torch.no_grad():
            self._check_guide(pair, batch)
            if self._log_likelihood(pair, layout, batch, keep_scale=False) is None:
                raise ValueError(
                    f"site `{layout.enumerated[0]}` is summed out and what is observed depends on it, so there is no "
                    "likelihood at a code alone: sample it in the guide, or train with `Variational()`"
                )
        whole = Variational().task(pair, batch)
        find = partial(self._log_likelihood, pair, layout)

        def loss(batch: Batch, step: Tensor) -> LossParts:
            found = find(batch, keep_scale=True)
            assert found is not None
            value = found.mean()
            return LossParts(-value, {"loss": -value.detach(), "log_likelihood": value.detach()})

        def score(batch: Batch) -> Tensor:
            found = find(batch, keep_scale=False)
            assert found is not None
            return found

        phase = Phase("reconstruction", whole.phases[0].parameters, loss)
        return Task((phase,), None if layout.subsamples else score, layout)

    def _log_likelihood(self, pair: Pair, layout: Layout, batch: Batch, *, keep_scale: bool) -> Tensor | None:
        """Log p(x | z) per datum, `(n,)`; `None` where a site that is summed out has a part in it."""
        at = Pair(pair.model, Means()(pair.guide)) if self.at == "mean" else pair
        traces = run_particles(at, batch, 1, layout)
        found = weigh_traces(*traces, 1, layout, frozenset(), keep_scale=keep_scale).log_likelihood
        return None if found is None else found.squeeze(0)

    def _check_guide(self, pair: Pair, batch: Batch) -> None:
        for name, site in sample_sites(pair.traces(batch)[0]).items():
            fn = site["fn"]
            if fn.support.is_discrete:
                raise ValueError(
                    f"site `{name}` is discrete ({type(fn).__name__}), expected codes that gradients reach"
                )
            if self.at == "mean" and not (fn.has_rsample and _knows_mean(fn)):
                raise ValueError(
                    f"site `{name}` is {type(fn).__name__}, whose mean is not known or gives no gradient: expected a "
                    'distribution such as Normal, or Reconstruction(at="draw")'
                )


def _knows_mean(fn: Any) -> bool:
    try:
        return isinstance(fn.mean, Tensor)
    except NotImplementedError:
        return False
