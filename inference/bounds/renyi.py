r"""Bounds of other orders: the Renyi family, its limit, and its upper side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from inference.bounds.base import Direction, Guarantee, log_mean_exp, tilted
from inference.weights import Weights

__all__ = ["CUBO", "Renyi", "VRMax"]


@dataclass(frozen=True)
class Renyi:
    r"""The variational Renyi bound of order alpha; 1 is the ELBO, 0 the IWAE.

    .. math:: \hat{\mathcal{L}}_{\alpha,K} = \frac{1}{1 - \alpha} \log \frac{1}{K} \sum_{k=1}^K w_k^{1 - \alpha}

    A lower bound for alpha >= 0. For alpha < 0 the exact bound lies above log p(x) while its K-sample estimate starts
    at the ELBO and rises: an upper bound only in the limit of many draws. `CUBO(n)` is the same with alpha = 1 - n.

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
        return "lower" if self.alpha >= 0 else "upper"

    @property
    def guarantee(self) -> Guarantee:
        return "expectation" if self.alpha >= 0 else "limit"

    def __call__(self, weights: Weights) -> Tensor:
        if self.alpha == 1:
            return weights.log_w.mean(0)
        order = 1 - self.alpha
        return log_mean_exp(order * weights.log_w) / order

    def curvature(self, log_w: Tensor) -> Tensor:
        """Second derivative in each log weight, `(K, n)`."""
        return _curvature(log_w, 1 - self.alpha)

    def resampled(self, log_w: Tensor, counts: Tensor) -> Tensor:
        """The bound where draw k counts `counts[:, k]` times, `(R, n)`."""
        return _resampled(log_w, 1 - self.alpha, counts)


@dataclass(frozen=True)
class CUBO:
    r"""The chi upper bound of order n, from the n-th moment of the weights.

    .. math:: \mathrm{CUBO}_n = \frac{1}{n} \log \mathbb{E}_{q(z \mid x)} [w^n] \ge \log p(x), \qquad n \ge 1

    The logarithm of K draws' mean is too low on average, by much where the weights have a heavy tail: an upper bound
    only in the limit of many draws. Its error is a bootstrap's.

    References:
        Dieng, Tran, Ranganath, Paisley and Blei, *Variational Inference via chi Upper Bound Minimization*, 2017,
        arXiv 1611.00328.

    >>> weights = Weights(log_p=torch.tensor([1.0, 7.0]).log()[:, None], log_q=torch.zeros(2, 1))
    >>> CUBO(2)(weights).exp()  # the quadratic mean of 1 and 7, whose arithmetic mean is 4
    tensor([5.])
    """

    order: float = 2.0
    direction: ClassVar[Direction] = "upper"
    guarantee: ClassVar[Guarantee] = "limit"
    paper: ClassVar[str] = "Dieng et al. 2017, arXiv 1611.00328"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.order) and self.order >= 1):
            raise ValueError(f"`order` is {self.order}, expected a finite number n, at least 1")

    @property
    def name(self) -> str:
        return f"CUBO({self.order:g})"

    def __call__(self, weights: Weights) -> Tensor:
        return log_mean_exp(self.order * weights.log_w) / self.order

    def curvature(self, log_w: Tensor) -> Tensor:
        """Second derivative in each log weight, `(K, n)`."""
        return _curvature(log_w, self.order)

    def resampled(self, log_w: Tensor, counts: Tensor) -> Tensor:
        """The bound where draw k counts `counts[:, k]` times, `(R, n)`."""
        return _resampled(log_w, self.order, counts)


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


def _resampled(log_w: Tensor, order: float, counts: Tensor) -> Tensor:
    """The power mean where draw k counts `counts[:, k]` times, `(R, n)`."""
    if order == 0:
        return counts @ log_w / counts.sum(1, keepdim=True)
    powers = order * log_w
    top = powers.amax(0)
    return ((counts @ (powers - top).exp()).log() + top - counts.sum(1, keepdim=True).log()) / order


def _curvature(log_w: Tensor, order: float) -> Tensor:
    """Of the power mean of an order, in each log weight."""
    if order == 0:
        return torch.zeros_like(log_w)
    w = tilted(log_w, order)
    return order * (w - w.square())
