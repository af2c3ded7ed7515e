r"""Bounds on log p(x), each a function of one set of weights, in nats per datum, to be maximised.

With :math:`\log w_k = \log p(x, z_k) - \log q(z_k \mid x)` a bound maps `(K, n)` weights to `(n,)` values; K is the
weights' own. `estimate` evaluates a bound at a smaller K as the mean over disjoint groups of draws, so that one large
set of weights serves every row of a table, each at exactly its K, with its Monte Carlo error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from inference.weights import Weights

__all__ = ["ELBO", "IWAE", "Bound", "Direction", "Estimate", "Renyi", "VRMax", "estimate", "parse_bound"]

Direction: TypeAlias = Literal["lower", "upper", "estimate"]


@runtime_checkable
class Bound(Protocol):
    """Anything with a name and a direction that maps weights to one value per datum.

    A user's own bound is a small class like those below, or a function with these two attributes set.
    """

    @property
    def name(self) -> str: ...

    @property
    def direction(self) -> Direction: ...

    def __call__(self, weights: Weights) -> Tensor: ...


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

    def __call__(self, weights: Weights) -> Tensor:
        return self.terms(weights).mean(0)

    def terms(self, weights: Weights) -> Tensor:
        """What is averaged, `(K, n)`."""
        if self.kl == "monte_carlo":
            return weights.log_w
        if not weights.analytic_kl:
            raise ValueError(
                '`ELBO(kl="analytic")` needs weights with a closed-form KL for at least one site: pass '
                "`analytic_kl=` to `log_weights`, or use `ELBO()`"
            )
        terms = weights.log_w
        for site, kl in weights.analytic_kl.items():
            terms = terms + weights.kl[site] - kl
        return terms


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


@dataclass(frozen=True)
class Renyi:
    r"""The variational Renyi bound of order alpha; 1 is the ELBO, 0 the IWAE.

    .. math:: \hat{\mathcal{L}}_{\alpha,K} = \frac{1}{1 - \alpha} \log \frac{1}{K} \sum_{k=1}^K w_k^{1 - \alpha}

    A lower bound for alpha >= 0. For alpha < 0 the exact bound lies above log p(x) while its K-sample estimate
    starts at the ELBO and rises: with finite K it is an estimate of neither side.

    References:
        Li and Turner, *Renyi Divergence Variational Inference*, 2016, arXiv 1602.02311.
    """

    alpha: float
    paper: ClassVar[str] = "Li and Turner 2016, arXiv 1602.02311"

    def __post_init__(self) -> None:
        if not math.isfinite(self.alpha):
            raise ValueError(f"`alpha` is {self.alpha}, expected a finite number; alpha to minus infinity is `VRMax`")

    @property
    def name(self) -> str:
        return f"Renyi({self.alpha:g})"

    @property
    def direction(self) -> Direction:
        return "lower" if self.alpha >= 0 else "estimate"

    def __call__(self, weights: Weights) -> Tensor:
        if self.alpha == 1:
            return weights.log_w.mean(0)
        order = 1 - self.alpha
        return log_mean_exp(order * weights.log_w) / order


@dataclass(frozen=True)
class VRMax:
    r"""The largest log weight, the limit of `Renyi` as alpha goes to minus infinity.

    With finite K it is guaranteed to lie on neither side of log p(x).

    References:
        Li and Turner, *Renyi Divergence Variational Inference*, 2016, arXiv 1602.02311.
    """

    direction: ClassVar[Direction] = "estimate"
    paper: ClassVar[str] = "Li and Turner 2016, arXiv 1602.02311"

    @property
    def name(self) -> str:
        return "VR-max"

    def __call__(self, weights: Weights) -> Tensor:
        return weights.log_w.amax(0)


def log_mean_exp(log_w: Tensor) -> Tensor:
    """Log of the mean over the first axis.

    Weights 40 nats below the largest count as zero: they are lost in rounding, while the denormal numbers in their
    gradients would slow a CPU fourfold.
    """
    floor = log_w.detach().amax(0) - 40
    return log_w.masked_fill(log_w < floor, -math.inf).logsumexp(0) - math.log(log_w.shape[0])


class Estimate(NamedTuple):
    """A bound's value for each datum, and the Monte Carlo standard error of each: the data fixed, the draws not."""

    value: Tensor  # (n,)
    standard_error: Tensor  # (n,); NaN where a single draw cannot know it


def estimate(bound: Bound, weights: Weights, num_particles: int | None = None) -> Estimate:
    r"""Evaluate a bound at K = `num_particles` from weights that may hold more draws.

    The value is the mean over disjoint groups of K draws; an incomplete last group is left out. The error comes
    from the spread between groups, or, for a single group, from a jackknife that leaves out a twentieth at a time.

    >>> weights = Weights(log_p=torch.randn(100, 3), log_q=torch.zeros(100, 3))
    >>> estimate(IWAE(), weights, num_particles=5).value.shape
    torch.Size([3])
    """
    K = weights.num_particles if num_particles is None else num_particles
    if not 1 <= K <= weights.num_particles:
        raise ValueError(f"`num_particles` is {K}, expected 1 to {weights.num_particles}, the draws in `weights`")
    groups = weights.num_particles // K
    if groups == 1:
        weights = weights.map(lambda v: v[:K])
        return Estimate(bound(weights), _jackknife(bound, weights))
    values = bound(weights.map(lambda v: _fold(v, K, groups))).reshape(groups, weights.num_data)
    return Estimate(values.mean(0), values.std(0) / math.sqrt(groups))


def _fold(v: Tensor, K: int, groups: int) -> Tensor:
    """Put groups of K draws beside the data: `(K, groups * n)`."""
    return v[: K * groups].reshape(groups, K, v.shape[1]).transpose(0, 1).reshape(K, groups * v.shape[1])


def _jackknife(bound: Bound, weights: Weights, sections: int = 20) -> Tensor:
    K = weights.num_particles
    if K == 1:
        return torch.full_like(weights.log_p[0], math.nan)
    parts = torch.arange(K, device=weights.log_p.device).tensor_split(min(K, sections))
    without = [torch.cat([p for p in parts if p is not part]) for part in parts]
    values = torch.stack([bound(weights.map(lambda v, rows=rows: v[rows])) for rows in without])
    return values.std(0, correction=0) * math.sqrt(len(parts) - 1)


_BOUNDS: dict[str, Callable[[], Bound]] = {"elbo": ELBO, "iwae": IWAE, "vrmax": VRMax}


def parse_bound(text: str) -> tuple[Bound, int | None]:
    """Read `elbo`, `iwae:50`, `renyi:0.5`, `renyi:0.5:50`, `vrmax:50`: a bound and its K, `None` where not given.

    >>> parse_bound("renyi:0.5:50")
    (Renyi(alpha=0.5), 50)
    """
    name, *rest = text.strip().lower().split(":")
    name = name.replace("-", "")
    try:
        bound = Renyi(float(rest.pop(0))) if name == "renyi" else _BOUNDS[name]()
        K = int(rest.pop(0)) if rest and name != "elbo" else None
        if rest or (K is not None and K < 1):
            raise ValueError
    except (KeyError, ValueError, IndexError):
        raise ValueError(
            f"`bounds` has {text!r}, expected `elbo`, `iwae:K`, `renyi:ALPHA`, `renyi:ALPHA:K` or `vrmax:K` with K >= 1"
        ) from None
    return bound, 1 if name == "elbo" else K
