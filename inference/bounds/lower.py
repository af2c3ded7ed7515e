r"""Lower bounds on log p(x) from draws of the guide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from inference.bounds.base import Bound, Direction, Guarantee, guarantee_of, label_of, log_mean_exp, source_of, tilted
from inference.weights import Weights

__all__ = ["CIWAE", "ELBO", "IWAE", "MIWAE", "PIWAE", "Split"]


@dataclass(frozen=True)
class ELBO:
    r"""The evidence lower bound, the mean of the log weights.

    .. math:: \mathcal{L} = \mathbb{E}_{q(z \mid x)} [\log p(x, z) - \log q(z \mid x)] \le \log p(x)

    `kl="analytic"` puts closed-form KL terms in place of their draws for the sites the weights carry them for: the
    same mean, less noise.

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, arXiv 1312.6114.

    >>> weights = Weights(log_p=torch.tensor([[-1.0], [-3.0]]), log_q=torch.zeros(2, 1))
    >>> ELBO()(weights)
    tensor([-2.])
    """

    kl: Literal["monte_carlo", "analytic"] = "monte_carlo"
    direction: ClassVar[Direction] = "lower"
    paper: ClassVar[str] = "Kingma and Welling 2014, arXiv 1312.6114"

    def __post_init__(self) -> None:
        if self.kl not in ("monte_carlo", "analytic"):
            raise ValueError(f'`kl` is {self.kl!r}, expected "monte_carlo" or "analytic"')

    @property
    def name(self) -> str:
        return "ELBO" if self.kl == "monte_carlo" else "ELBO (analytic KL)"

    def label(self, num_particles: int) -> str:
        return self.name

    def __call__(self, weights: Weights) -> Tensor:
        return self.terms(weights).mean(0)

    def terms(self, weights: Weights) -> Tensor:
        """What is averaged, `(K, n)`."""
        if self.kl == "monte_carlo":
            return weights.elbo_terms
        if not weights.analytic_kl:
            raise ValueError(
                '`ELBO(kl="analytic")` needs weights with a closed-form KL for at least one site: pass '
                "`analytic_kl=` to `log_weights`, or use `ELBO()`"
            )
        terms = weights.elbo_terms
        for site, kl in weights.analytic_kl.items():
            terms = terms + weights.kl[site] - kl
        return terms

    def curvature(self, log_w: Tensor) -> Tensor:
        """Second derivative in each log weight, `(K, n)`."""
        return torch.zeros_like(log_w)


@dataclass(frozen=True)
class IWAE:
    r"""The importance-weighted bound, the log of the mean weight; it rises with K to log p(x).

    .. math:: \mathcal{L}_K = \mathbb{E} \Bigl[ \log \frac{1}{K} \sum_{k=1}^K w_k \Bigr],
              \qquad \mathcal{L}_1 \le \mathcal{L}_K \le \mathcal{L}_{K+1} \le \log p(x)

    References:
        Burda, Grosse and Salakhutdinov, *Importance Weighted Autoencoders*, 2016, arXiv 1509.00519.

    >>> weights = Weights(log_p=torch.tensor([1.0, 3.0]).log()[:, None], log_q=torch.zeros(2, 1))
    >>> IWAE()(weights).exp(), ELBO()(weights).exp()  # means of 1 and 3: arithmetic and geometric
    (tensor([2.]), tensor([1.7321]))
    """

    direction: ClassVar[Direction] = "lower"
    paper: ClassVar[str] = "Burda, Grosse and Salakhutdinov 2016, arXiv 1509.00519"

    @property
    def name(self) -> str:
        return "IWAE"

    def __call__(self, weights: Weights) -> Tensor:
        return log_mean_exp(weights.log_w)

    def curvature(self, log_w: Tensor) -> Tensor:
        """Second derivative in each log weight, `(K, n)`."""
        w = tilted(log_w, 1)
        return w - w.square()

    def resampled(self, log_w: Tensor, counts: Tensor) -> Tensor:
        """The bound where draw k counts `counts[:, k]` times, `(R, n)`."""
        top = log_w.amax(0)
        return (counts @ (log_w - top).exp()).log() + top - counts.sum(1, keepdim=True).log()


@dataclass(frozen=True)
class MIWAE:
    r"""The mean of M importance-weighted bounds of K draws each; the weights hold M times K.

    .. math:: \mathcal{L}_{M,K} = \frac{1}{M} \sum_{m=1}^M \log \frac{1}{K} \sum_{k=1}^K w_{mk}

    The same value as IWAE-K in expectation, less noise; its gradient for the guide keeps its signal where that of
    IWAE-MK loses it.

    References:
        Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, 2018, arXiv 1802.04537, section 6.

    >>> weights = Weights(log_p=torch.tensor([1.0, 3.0, 5.0, 5.0]).log()[:, None], log_q=torch.zeros(4, 1))
    >>> MIWAE(2)(weights).exp()  # the geometric mean of 2 and 5
    tensor([3.1623])
    """

    groups: int
    direction: ClassVar[Direction] = "lower"
    paper: ClassVar[str] = "Rainforth et al. 2018, arXiv 1802.04537"

    def __post_init__(self) -> None:
        if not isinstance(self.groups, int) or self.groups < 1:
            raise ValueError(f"`groups` is {self.groups}, expected a whole number M, at least 1")

    @property
    def name(self) -> str:
        return f"MIWAE({self.groups})"

    def label(self, num_particles: int) -> str:
        return f"MIWAE-{self.groups}x{num_particles // self.groups}"

    def __call__(self, weights: Weights) -> Tensor:
        return log_mean_exp(self._grouped(weights.log_w)).mean(0)

    def curvature(self, log_w: Tensor) -> Tensor:
        """Second derivative in each log weight, `(K, n)`."""
        w = tilted(self._grouped(log_w), 1)  # (K, M, n)
        curvature = (w - w.square()) / self.groups
        return curvature.transpose(0, 1).reshape(log_w.shape)

    def _grouped(self, log_w: Tensor) -> Tensor:
        """The draws of a group along the first axis, `(M * K, n) -> (K, M, n)`."""
        K, rest = divmod(len(log_w), self.groups)
        if rest or not K:
            raise ValueError(
                f"`weights` hold {len(log_w)} draws, expected a multiple of {self.groups}, the groups of {self.name}"
            )
        return log_w.reshape(self.groups, K, -1).transpose(0, 1)


@dataclass(frozen=True)
class CIWAE:
    r"""A mixture of ELBO and IWAE: :math:`\beta \mathcal{L} + (1 - \beta) \mathcal{L}_K`.

    References:
        Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, 2018, arXiv 1802.04537, section 6.
    """

    beta: float
    direction: ClassVar[Direction] = "lower"
    paper: ClassVar[str] = "Rainforth et al. 2018, arXiv 1802.04537"

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(f"`beta` is {self.beta}, expected the ELBO's share, 0 to 1")

    @property
    def name(self) -> str:
        return f"CIWAE({self.beta:g})"

    def __call__(self, weights: Weights) -> Tensor:
        if self.beta in (0, 1):  # a share of nothing is nothing, of minus infinity too
            return ELBO()(weights) if self.beta else IWAE()(weights)
        return self.beta * weights.elbo_terms.mean(0) + (1 - self.beta) * IWAE()(weights)

    def curvature(self, log_w: Tensor) -> Tensor:
        """Second derivative in each log weight, `(K, n)`."""
        return (1 - self.beta) * IWAE().curvature(log_w)

    def resampled(self, log_w: Tensor, counts: Tensor) -> Tensor:
        """The bound where draw k counts `counts[:, k]` times, `(R, n)`."""
        mean = counts @ log_w / counts.sum(1, keepdim=True)
        return self.beta * mean + (1 - self.beta) * IWAE().resampled(log_w, counts)


@dataclass(frozen=True)
class Split:
    r"""One bound trains the model, another the guide, on the same draws; as a number it is the model's.

    An upper bound, which is to come down, can only be the guide's: `Split(ELBO(), CUBO(2))` is chi-square inference.

    Attributes:
        model: what is maximised over the model's parameters.
        guide: what is maximised over the guide's; an upper bound is minimised.
    """

    model: Bound
    guide: Bound
    paper: str = ""

    def __post_init__(self) -> None:
        if self.model.direction == "upper":
            raise ValueError(
                f"`model` is {self.model.name}, an upper bound: to lower it would make the data improbable; expected a "
                "lower bound or an estimate"
            )
        for name, part in {"model": self.model, "guide": self.guide}.items():
            if source_of(part) != "guide" or isinstance(part, Split):
                raise ValueError(f"`{name}` is {part.name}, expected a plain bound of draws from the guide")

    @property
    def name(self) -> str:
        return f"{self.model.name}/{self.guide.name}"

    @property
    def direction(self) -> Direction:
        return self.model.direction

    @property
    def guarantee(self) -> Guarantee:
        return guarantee_of(self.model)

    def label(self, num_particles: int) -> str:
        return f"{label_of(self.model, num_particles)}/{label_of(self.guide, num_particles)}"

    def __call__(self, weights: Weights) -> Tensor:
        return self.model(weights)


def PIWAE(groups: int) -> Split:
    """Partially importance-weighted: IWAE of all draws for the model, `MIWAE(groups)` of the same for the guide.

    References:
        Rainforth et al., *Tighter Variational Bounds are Not Necessarily Better*, 2018, arXiv 1802.04537, section 6.

    >>> PIWAE(8).label(40)
    'IWAE-40/MIWAE-8x5'
    """
    return Split(IWAE(), MIWAE(groups), paper=MIWAE.paper)
