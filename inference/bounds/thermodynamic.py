r"""The thermodynamic variational objective: log p(x) as an integral along a path, and its Riemann sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from inference.bounds.base import Direction, Guarantee, tilted
from inference.weights import Weights

__all__ = ["TVO"]


@dataclass(frozen=True)
class TVO:
    r"""A Riemann sum of the expected log weight along the geometric path from guide to posterior.

    .. math:: \log p(x) = \int_0^1 \mathbb{E}_{\pi_\beta} [\log w] \, d\beta,
              \qquad \pi_\beta(z) \propto q(z \mid x)^{1 - \beta} p(x, z)^\beta

    The integrand rises with beta, so the left sum is a lower bound and the right sum an upper one. Each expectation is
    estimated from the same draws with weights :math:`w^\beta`, normalised; then the integral of the estimates is the
    IWAE value of these draws. So the left sum lies below IWAE-K, and below log p(x), at every K; the right sum lies
    above IWAE-K, but above log p(x) only in the limit of many draws.

    Attributes:
        partitions: intervals of [0, 1]; with one the left sum is the ELBO.
        side: "left", a lower bound, or "right", an upper one.
        first: where the first interval ends; the others grow geometrically to 1.

    References:
        Masrani, Le and Wood, *The Thermodynamic Variational Objective*, 2019, arXiv 1907.00031.

    >>> weights = Weights(log_p=torch.tensor([[0.0], [2.0]]), log_q=torch.zeros(2, 1))
    >>> float(TVO(1)(weights)), TVO(1, side="right")(weights) > TVO(100, side="right")(weights)
    (1.0, tensor([True]))
    """

    partitions: int = 20
    side: Literal["left", "right"] = "left"
    first: float = 0.01
    paper: ClassVar[str] = "Masrani, Le and Wood 2019, arXiv 1907.00031"

    def __post_init__(self) -> None:
        if not isinstance(self.partitions, int) or self.partitions < 1:
            raise ValueError(f"`partitions` is {self.partitions}, expected a whole number of intervals, at least 1")
        if self.side not in ("left", "right"):
            raise ValueError(f'`side` is {self.side!r}, expected "left" (a lower bound) or "right" (an upper one)')
        if not 0 < self.first < 1:
            raise ValueError(f"`first` is {self.first}, expected the end of the first interval, between 0 and 1")

    @property
    def name(self) -> str:
        path = f"{self.partitions}" if self.first == TVO.first else f"{self.partitions}, first {self.first:g}"
        return f"TVO({path})" if self.side == "left" else f"TVO-right({path})"

    @property
    def direction(self) -> Direction:
        return "lower" if self.side == "left" else "upper"

    @property
    def guarantee(self) -> Guarantee:
        return "expectation" if self.side == "left" else "limit"

    @property
    def betas(self) -> tuple[float, ...]:
        """0, `first`, ..., 1: one more than there are intervals."""
        if self.partitions == 1:
            return (0.0, 1.0)
        ratio = self.first ** (1 / (self.partitions - 1))
        return (0.0, *(ratio**i for i in range(self.partitions - 1, -1, -1)))

    @property
    def terms(self) -> list[tuple[float, float]]:
        """The interval's length and the beta it is judged at, for each interval."""
        betas = self.betas
        at = betas[:-1] if self.side == "left" else betas[1:]
        return [(high - low, beta) for low, high, beta in zip(betas, betas[1:], at, strict=False)]

    def __call__(self, weights: Weights) -> Tensor:
        log_w = weights.log_w
        total = torch.zeros_like(log_w[0])
        for length, beta in self.terms:
            total = total + length * expected(log_w, tilted(log_w, beta))
        return total

    def resampled(self, log_w: Tensor, counts: Tensor) -> Tensor:
        """The bound where draw k counts `counts[:, k]` times, `(R, n)`."""
        total = log_w.new_zeros(len(counts), log_w.shape[1])
        for length, beta in self.terms:
            w = tilted(log_w, beta)
            mean = (counts @ (w * log_w.masked_fill(w == 0, 0.0))) / (counts @ w)
            total = total + length * mean
        return total


def expected(log_w: Tensor, w: Tensor) -> Tensor:
    """The mean of log weights under normalised weights, `(n,)`; a draw of weight zero does not count."""
    value = (w * log_w.masked_fill(w == 0, 0.0)).sum(0)
    return torch.where((w == 0).all(0), log_w.amax(0), value)  # no draw has any weight: minus infinity
