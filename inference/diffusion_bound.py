r"""The bound of a chain on log p(x), all steps summed, each in closed form given the state it starts from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Distribution

from inference.batches import as_data, batches, device_of
from inference.display import fragment
from inference.flags import validating
from inference.pair import Pair, first_tensor, no_guide
from inference.seeds import seeded
from inference.unrolled import as_chain, drawn, end_term, step_term
from ppmodels.contracts import Batch, Data, Transition

__all__ = ["DiffusionBound", "diffusion_bound"]


@dataclass(frozen=True, eq=False)
class DiffusionBound:
    r"""The bound K of each datum, and that of knowing nothing.

    Attributes:
        value: K, `(n,)`, in nats.
        null: :math:`L_{null}`, the log density of the null law, `(n,)`, in nats.
        draws: K by draw, `(num_draws, n)`: a whole chain of independent states each.
        steps: the mean of each term over the data, `(T + 1,)`, in nats: at place t for t = 1 (the likelihood) to T, and
            that of the end at place 0. Their sum is the mean of K.
        x_dim: entries of a datum.
    """

    value: Tensor
    null: Tensor
    draws: Tensor
    steps: Tensor
    x_dim: int

    @property
    def mean(self) -> float:
        """K over the data, nats."""
        return float(self.value.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, over the data; the error of the draws is in it."""
        return float(self.value.std() / math.sqrt(len(self.value)))

    @property
    def monte_carlo_error(self) -> float:
        """Of the mean, over draws alone, as if these were all the data there are; NaN for a single draw."""
        S, n = self.draws.shape
        return float(self.draws.var(0).sum().sqrt() / (n * math.sqrt(S))) if S > 1 else math.nan

    @property
    def gain(self) -> Tensor:
        r""":math:`K - L_{null}`, `(n,)`, in nats."""
        return self.value - self.null

    @property
    def gain_bits(self) -> float:
        r""":math:`K - L_{null}` over the data, in bits a datum."""
        return float(self.gain.mean()) / math.log(2)

    @property
    def bits(self) -> float:
        """K over the data, in bits a datum."""
        return self.mean / math.log(2)

    @property
    def bits_per_dim(self) -> float:
        """Minus K over the data, in bits an entry: what a code of them would cost."""
        return -self.bits / self.x_dim

    @property
    def per_step(self) -> pd.DataFrame:
        """What each step takes from the bound, `t` and `nats`: the likelihood at t = 1, and the end at T + 1."""
        nats = torch.cat([self.steps[1:], self.steps[:1]]).cpu()
        return pd.DataFrame({"t": range(1, len(nats) + 1), "nats": nats.numpy()})

    def __str__(self) -> str:
        return (
            f"bound: {self.mean:.4g} nats ± {self.standard_error:.2g} ({self.bits_per_dim:.4g} bits an entry), "
            f"{self.gain_bits:.4g} bits above the null; {len(self.value)} data, T = {len(self.steps) - 1}"
        )

    def _repr_html_(self) -> str:
        return fragment(str(self), self.per_step)


def diffusion_bound(
    model: Any,
    data: Data | Batch,
    *,
    null: Distribution | None = None,
    num_draws: int = 1,
    batch_size: int = 500,
    seed: int = 0,
) -> DiffusionBound:
    r"""Sum the bound of a chain over all of its steps, not a random one of them, for every datum.

    .. math::
        K = E_q \log p(x_0 \mid x_1) - \sum_{t=2}^T E_q \mathrm{KL}\bigl(q(x_{t-1} \mid x_t, x_0) \| p(x_{t-1} \mid
        x_t)\bigr) - \mathrm{KL}\bigl(q(x_T \mid x_0) \| p(x_T)\bigr) \le \log p(x_0)

    The paper writes the KL of the end as :math:`H_q(X_T \mid X_0) - H_p(X_T)`, as if all were forgotten by then, and
    the first step as :math:`-H_q(X_1 \mid X_0)`, see `FirstFixed`; here neither is approximated.

    Args:
        model: a chain, such as `Diffusion`.
        data: what to bound; the first tensor of a batch.
        null: what K is compared with, a law of one datum; that of `model.end()` where not given, a standard normal or
            fair bits. Data whose levels are counted (`Discretised`) have another.
        num_draws: draws of :math:`x_t` for each step and datum.
        batch_size: data at a time.
        seed: of the draws, and of the data's own noise.

    Raises:
        TypeError: the model is no chain.
        ValueError: an argument is out of range, or the data are not the model's.

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli, *Deep Unsupervised Learning using Nonequilibrium
        Thermodynamics*, 2015, arXiv 1503.03585, equation 14. Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic
        Models*, 2020, arXiv 2006.11239, equation 5.

    >>> from ppmodels.clocks import TimeMLP, bumps
    >>> from ppmodels.diffusion import Diffusion
    >>> from ppmodels.kernels import BinomialKernel
    >>> from ppmodels.rates import harmonic
    >>> untrained = Diffusion(BinomialKernel(harmonic(10)), TimeMLP(3, (16,), times=bumps(10)))
    >>> found = diffusion_bound(untrained, torch.bernoulli(torch.full((1000, 3), 0.5)), num_draws=10)
    >>> abs(found.gain_bits) < 4 * found.monte_carlo_error / math.log(2), round(float(found.null[0]), 4)
    (True, -2.0794)
    """
    chain, data = as_chain(model), as_data(data)
    if not isinstance(num_draws, int) or num_draws < 1:
        raise ValueError(f"`num_draws` is {num_draws}, expected at least 1 for each step and datum")
    null = chain.end() if null is None else null
    with seeded(seed, device_of(data)), Pair(model, no_guide, True).mode(training=False), torch.no_grad():
        parts = [
            (first_tensor(batch), _terms(chain, first_tensor(batch), num_draws)) for batch in batches(data, batch_size)
        ]
    x = torch.cat([x for x, _ in parts])
    draws = torch.cat([draws for _, (draws, _) in parts], -1)  # (S, n)
    steps = torch.stack([steps for _, (_, steps) in parts]).sum(0) / len(x)
    return DiffusionBound(draws.mean(0), null.log_prob(x), draws, steps, x.shape[-1])


def _terms(chain: Transition, x: Tensor, num_draws: int) -> tuple[Tensor, Tensor]:
    """K of a batch by draw, `(S, n)`, and the sums of its terms over the batch, `(T + 1,)`."""
    end = end_term(chain, x)  # refuses what is no datum of this model
    draws, sums = end.repeat(num_draws, 1), [end.sum()]
    with validating(enabled=False):
        for t in torch.arange(1, chain.num_steps + 1, device=x.device):
            term = step_term(chain, x, drawn(chain.noised(x, t), num_draws), t)  # (S, n)
            draws = draws + term
            sums.append(term.sum() / num_draws)
    return draws, torch.stack(sums)
