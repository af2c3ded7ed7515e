r"""Log p(x) and the guide's two divergences from the posterior, exact, for latents with few states.

.. math:: \log p(x) = \log \sum_z p(x, z), \qquad
    \mathrm{KL}(q \| p) = \sum_z q(z \mid x) \log \frac{q(z \mid x)}{p(z \mid x)}, \qquad
    \mathrm{KL}(p \| q) = \sum_z p(z \mid x) \log \frac{p(z \mid x)}{q(z \mid x)}

All states of the latents are weighed, up to 2**16 of them, some at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from inference.averaging import PerDatum
from inference.batches import as_data, batches, device_of
from inference.display import fragment, spread
from inference.draws import chunks_of
from inference.estimators.enumeration import States, enumerate_latents, find_states
from inference.evaluation import inspect_for_evaluation
from inference.layout import Layout
from inference.pair import Pair, size_of
from inference.progress import progress_bar
from inference.seeds import seeded
from inference.weights import Weights
from ppmodels.contracts import Batch, Data, Program

__all__ = ["ExactLogLikelihood", "exact_log_likelihood"]


@dataclass(frozen=True, eq=False)
class ExactLogLikelihood(PerDatum):
    """Log p(x) of each of n data and what the guide misses of it, in nats; every field but the first is `(n,)`.

    Attributes:
        num_states: how many joint states the latents of a datum have.
        value: log p(x).
        standard_error: zero, as nothing is drawn.
        kl: KL(q, p) from the guide to the posterior: by so much the ELBO is below log p(x).
        reverse_kl: KL(p, q) from the posterior to the guide, what wake-sleep lowers; infinite where the guide rules
            out a state that the posterior does not.
    """

    num_states: int
    value: Tensor
    standard_error: Tensor
    kl: Tensor
    reverse_kl: Tensor

    @property
    def elbo(self) -> Tensor:
        """The ELBO, exact, `(n,)`."""
        return self.value - self.kl

    def to_frame(self) -> pd.DataFrame:
        """One row per datum."""
        return pd.DataFrame({name: getattr(self, name).cpu().numpy() for name in ("value", "kl", "reverse_kl")})

    def __str__(self) -> str:
        kl, reverse = float(self.kl.mean()), float(self.reverse_kl.mean())
        return (
            f"log p(x) = {self.mean:.4f} nats per datum, s.e. {self.mean_se:.4f} over {len(self.value)} data, by "
            f"{self.num_states} states; KL(q, p) {kl:.4f}, KL(p, q) {reverse:.4f}"
        )

    def _repr_html_(self) -> str:
        return fragment(str(self), spread(self.to_frame()))


def exact_log_likelihood(
    model: Program,
    guide: Program,
    data: Data | Batch,
    *,
    batch_size: int = 100,
    chunk: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> ExactLogLikelihood:
    """Compute log p(x) for every datum, and both divergences of the guide, by adding up all states.

    Args:
        model: any Pyro callable.
        guide: any Pyro callable over the same latent sites, all Bernoulli, categorical or one-hot.
        data: a dataset, or a tensor, tuple or mapping of tensors; each datum is read once.
        batch_size: data at a time.
        chunk: states at a time; memory is that of `batch_size * chunk` data.
        seed: seeds the data's own noise; the caller's random state is left as it is.
        progress: show a bar; by default where there is a terminal.

    Raises:
        ValueError: naming the site, if one is not discrete with finite support, or there are more than 2**16 states.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Bernoulli(0.5))
    ...         pyro.sample("x", dist.Bernoulli(0.2 + 0.6 * z), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Bernoulli(0.2 + 0.6 * x))  # the posterior
    >>> found = exact_log_likelihood(model, guide, torch.tensor([0.0, 1.0]))
    >>> found.value.exp(), found.kl.abs().max() < 1e-6
    (tensor([0.5000, 0.5000]), tensor(True))
    """
    pair, data = Pair(model, guide), as_data(data)
    rows = []
    with (
        seeded(seed, device_of(data)),
        pair.mode(training=False),
        torch.no_grad(),
        progress_bar("exact log p(x)", len(data), show=progress) as bar,
    ):
        layout: Layout | None = None
        for batch in batches(data, batch_size):
            layout = layout or inspect_for_evaluation(pair, batch)
            states = find_states(pair, batch, layout)
            rows.append(_summed(_in_chunks(pair, batch, layout, states, chunk)))
            bar.advance(size_of(batch))
    return ExactLogLikelihood(states.number, *(torch.cat(column) for column in zip(*rows, strict=True)))


def _in_chunks(pair: Pair, batch: Batch, layout: Layout, states: States, chunk: int | None) -> Iterator[Weights]:
    """The weights of all states, `(s, n)` at a time."""
    size, _ = chunks_of(batch, states.number, layout, chunk)
    for start in range(0, states.number, size):
        yield enumerate_latents(pair, batch, layout, states.part(start, start + size))


def _summed(chunks: Iterator[Weights]) -> tuple[Tensor, ...]:
    r"""Log p(x), its error, KL(q, p) and KL(p, q), each `(n,)`, as the states come by.

    With :math:`r = \log q - \log p(x, z)` the sums kept are :math:`\sum_z p(x, z)`, :math:`\sum_z q r` and, beside the
    first and on its scale, :math:`-\sum_z p(x, z) r`.
    """
    total = mean_q = mean_p = torch.zeros(())
    for i, weights in enumerate(chunks):
        log_p, log_q = weights.log_p.double(), weights.log_q.double()  # (s, n)
        ratio = log_q - log_p
        here = log_p.logsumexp(0)
        before = torch.full_like(here, -math.inf) if i == 0 else total
        total = torch.logaddexp(before, here)
        top = total.masked_fill(total == -math.inf, 0.0)
        of_p = (log_p - top).exp()
        mean_p = mean_p * (before - top).exp() - (of_p * ratio.masked_fill(of_p == 0, 0.0)).sum(0)
        q = log_q.exp()
        mean_q = mean_q + (q * ratio.masked_fill(q == 0, 0.0)).sum(0)
    found = total, torch.zeros_like(total), mean_q + total, mean_p - total
    return tuple(value.to(weights.log_p.dtype) for value in found)
