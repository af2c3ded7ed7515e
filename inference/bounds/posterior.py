r"""Bounds from draws that the guide alone cannot give: of the posterior, or on the way there and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from inference.bounds.base import Direction, Guarantee, log_mean_exp, refuse_other_draws
from inference.schedule import Annealing
from inference.weights import Source, Weights

__all__ = ["AIS", "EUBO", "ReverseAIS"]


@dataclass(frozen=True)
class EUBO:
    r"""The evidence upper bound, the mean of the log weights under the posterior.

    .. math:: \mathrm{EUBO} = \mathbb{E}_{p(z \mid x)} [\log p(x, z) - \log q(z \mid x)]
              = \log p(x) + \mathrm{KL}(p(z \mid x) \,\|\, q(z \mid x)) \ge \log p(x)

    It holds in expectation where the draws are of the posterior itself, as those a datum was simulated from, and only
    in the limit of long chains where they come from MCMC.

    Attributes:
        exact: whether the draws are of the posterior itself.

    References:
        Ji and Shen, *Stochastic Variational Inference via Upper Bound*, 2019, arXiv 1912.00650.
    """

    exact: bool = False
    direction: ClassVar[Direction] = "upper"
    source: ClassVar[Source] = "posterior"
    paper: ClassVar[str] = "Ji and Shen 2019, arXiv 1912.00650"

    @property
    def guarantee(self) -> Guarantee:
        return "expectation" if self.exact else "limit"

    @property
    def name(self) -> str:
        return "EUBO"

    def __call__(self, weights: Weights) -> Tensor:
        refuse_other_draws(self, weights)
        return weights.log_w.mean(0)


@dataclass(frozen=True)
class AIS:
    r"""Annealed importance sampling: the log of the mean weight of chains from the guide to the posterior.

    .. math:: \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log \frac{p(x, z_{t-1})}{q(z_{t-1} \mid x)}

    with :math:`z_t` one transition from :math:`z_{t-1}` that leaves :math:`\pi_{\beta_t}` as it is. A lower bound in
    expectation, whose gap closes with temperatures and chains.

    References:
        Neal, *Annealed Importance Sampling*, 2001. Wu, Burda, Salakhutdinov and Grosse, *On the Quantitative Analysis
        of Decoder-Based Generative Models*, 2017, arXiv 1611.04273.
    """

    annealing: Annealing = field(default_factory=Annealing)
    direction: ClassVar[Direction] = "lower"
    source: ClassVar[Source] = "annealing"
    paper: ClassVar[str] = "Neal 2001; Wu et al. 2017, arXiv 1611.04273"

    @property
    def name(self) -> str:
        return f"AIS-{self.annealing.num_temperatures}{_beginning(self.annealing)}"

    def label(self, num_particles: int) -> str:
        return f"AIS-{self.annealing.num_temperatures}x{num_particles}{_beginning(self.annealing)}"

    def __call__(self, weights: Weights) -> Tensor:
        refuse_other_draws(self, weights)
        return log_mean_exp(weights.log_w)


@dataclass(frozen=True)
class ReverseAIS:
    r"""The same chains run backwards from an exact draw of the posterior: an upper bound in expectation.

    .. math:: \log p(x) \le \mathbb{E} \Bigl[ -\log \frac{1}{K} \sum_{k=1}^K w_k^{-1} \Bigr]

    Exact draws of the posterior are known for data simulated from the model alone: with `AIS` on the same data this is
    bidirectional Monte Carlo, and it certifies what is said of the model's own samples.

    References:
        Grosse, Ghahramani and Adams, *Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo*, 2015,
        arXiv 1511.02543.
    """

    annealing: Annealing = field(default_factory=Annealing)
    direction: ClassVar[Direction] = "upper"
    source: ClassVar[Source] = "reverse annealing"
    paper: ClassVar[str] = "Grosse, Ghahramani and Adams 2015, arXiv 1511.02543"

    @property
    def name(self) -> str:
        return f"reverse AIS-{self.annealing.num_temperatures}{_beginning(self.annealing)}"

    def label(self, num_particles: int) -> str:
        return f"reverse AIS-{self.annealing.num_temperatures}x{num_particles}{_beginning(self.annealing)}"

    def __call__(self, weights: Weights) -> Tensor:
        refuse_other_draws(self, weights)
        return -log_mean_exp(-weights.log_w)


def _beginning(annealing: Annealing) -> str:
    """Where the path begins, if not at the guide."""
    return "" if annealing.start == "guide" else f" from the {annealing.start}"
