r"""Toy data with known answers: what a model is fitted to when the truth must be known.

A toy with a density is a frozen dataclass with `sample(n, seed=...)` and `log_prob(x)`; the others are
functions. Each draws from its own generator, never from torch's global one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from ppmodels.data import Dataset, from_array

__all__ = [
    "Bars",
    "LinearGaussian",
    "NormalMixture",
    "grid",
    "linear_gaussian",
    "pinwheel",
    "ring",
    "swiss_roll",
]


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    r"""Probabilistic PCA, the test bed on which every bound, gradient and posterior has a closed form.

    .. math:: z \sim N(0, I), \quad x \mid z \sim N(W z + b, \sigma^2 I)

    Args:
        W: (x_dim, z_dim).
        b: (x_dim,).
        scale: the standard deviation of the noise.

    Reference: Probabilistic principal component analysis, Tipping & Bishop, 1999.

    Example:
        >>> toy = linear_gaussian(z_dim=2, x_dim=5, seed=1)
        >>> x = toy.sample(3, seed=2).all(dtype=torch.float64)
        >>> toy.log_prob(x).shape, toy.posterior(x).mean.shape
        (torch.Size([3]), torch.Size([3, 2]))
    """

    W: Tensor
    b: Tensor
    scale: float

    def sample(self, n: int, *, seed: int = 0) -> Dataset:
        """Draw `n` data."""
        generator = _generator(n, seed)
        z = torch.randn(n, self.W.shape[1], generator=generator, dtype=self.W.dtype)  # (n, z_dim)
        noise = torch.randn(n, len(self.b), generator=generator, dtype=self.W.dtype)  # (n, x_dim)
        x = z @ self.W.mT + self.b + self.scale * noise
        return from_array(x, protocol="real", name="linear-gaussian", seed=seed)

    def marginal(self) -> Distribution:
        r"""Return :math:`p(x) = N(b, W W^\top + \sigma^2 I)`, event (x_dim,)."""
        return LowRankMultivariateNormal(self.b, self.W, torch.full_like(self.b, self.scale**2))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x), (n, x_dim) to (n,), in nats."""
        return self.marginal().log_prob(x.to(self.W))

    def posterior(self, x: Tensor) -> Distribution:
        r"""Return p(z | x), batch (n,), event (z_dim,).

        .. math:: N\big(P^{-1} W^\top (x - b) / \sigma^2,\ P^{-1}\big), \quad P = I + W^\top W / \sigma^2
        """
        W, x = self.W / self.scale, (x.to(self.W) - self.b) / self.scale
        P = torch.eye(W.shape[1]).to(W) + W.mT @ W  # (z_dim, z_dim)
        return MultivariateNormal(torch.linalg.solve(P, x @ W, left=False), precision_matrix=P)


def linear_gaussian(
    *, z_dim: int = 2, x_dim: int = 5, scale: float = 0.5, seed: int = 0, dtype: torch.dtype = torch.float64
) -> LinearGaussian:
    """Return a linear-Gaussian toy with standard normal `W` and `b`, drawn under `seed`."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(x_dim, z_dim, generator=generator, dtype=dtype)
    return LinearGaussian(W, torch.randn(x_dim, generator=generator, dtype=dtype), scale)


@dataclass(frozen=True, eq=False)
class NormalMixture:
    r"""Equal parts of K normals, :math:`p(x) = \frac1K \sum_k N(x; \mu_k, \sigma^2 I)`; see `ring`, `grid`.

    Args:
        loc: (K, x_dim), the modes.
        scale: the standard deviation of each.
        name: of the datasets drawn; their labels are the components.

    Example:
        >>> data = ring(modes=8).sample(1000, seed=1)
        >>> data
        Dataset(ring, all, real, 1000 x 2, cpu)
        >>> ring(modes=8).log_prob(data.all()).shape
        torch.Size([1000])
    """

    loc: Tensor
    scale: float
    name: str = "normal-mixture"

    def sample(self, n: int, *, seed: int = 0) -> Dataset:
        """Draw `n` data."""
        generator = _generator(n, seed)
        k = torch.randint(len(self.loc), (n,), generator=generator)
        noise = torch.randn(n, self.loc.shape[1], generator=generator, dtype=self.loc.dtype)
        return from_array(self.loc[k] + self.scale * noise, protocol="real", name=self.name, labels=k, seed=seed)

    def marginal(self) -> Distribution:
        """Return p(x), event (x_dim,)."""
        components = Independent(Normal(self.loc, self.scale), 1)  # batch (K,), event (x_dim,)
        return MixtureSameFamily(Categorical(self.loc.new_ones(len(self.loc))), components)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x), (n, x_dim) to (n,), in nats."""
        return self.marginal().log_prob(x)


def ring(modes: int = 8, *, radius: float = 2.0, scale: float = 0.1) -> NormalMixture:
    """Return normals evenly spaced on a circle, the first at (radius, 0): the test of mode collapse."""
    angle = 2 * math.pi * torch.arange(modes) / modes
    return NormalMixture(radius * torch.stack([angle.cos(), angle.sin()], -1), scale, "ring")


def grid(side: int = 5, *, spacing: float = 1.0, scale: float = 0.05) -> NormalMixture:
    """Return side x side normals on a square lattice centred at the origin."""
    ticks = spacing * (torch.arange(side) - (side - 1) / 2)
    return NormalMixture(torch.cartesian_prod(ticks, ticks), scale, "grid")


@dataclass(frozen=True)
class Bars:
    r"""Images of vertical or of horizontal bars, never both: two levels of causes, and a known distribution.

    .. math::
        v \sim \mathrm{Bernoulli}(\pi), \quad b_j \sim \mathrm{Bernoulli}(\rho), \quad
        x_{ij} = b_j \text{ if } v \text{ else } b_i

    Args:
        side: of the square, in pixels.
        p_bar: the probability :math:`\rho` of each bar.
        p_vertical: the probability :math:`\pi` that they are vertical.

    Reference: The wake-sleep algorithm for unsupervised neural networks, Hinton, Dayan, Frey & Neal, 1995.

    Example:
        >>> bars = Bars()
        >>> bars.patterns().shape
        torch.Size([30, 16])
        >>> round(bars.log_prob(bars.patterns()).exp().sum().item(), 6)
        1.0
    """

    side: int = 4
    p_bar: float = 0.2
    p_vertical: float = 2 / 3

    def sample(self, n: int, *, seed: int = 0) -> Dataset:
        """Draw `n` images; the label is 1 where the bars are vertical."""
        generator = _generator(n, seed)
        vertical = torch.rand(n, generator=generator) < self.p_vertical
        columns = self._columns(torch.rand(n, self.side, generator=generator) < self.p_bar)
        x = columns.where(vertical[:, None, None], columns.mT)  # (n, side, side)
        return from_array(x, protocol="binary", name="bars", labels=vertical.long(), seed=seed)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x), (n, side ** 2) to (n,), in nats; -inf for what is no image of bars."""
        x = x.reshape(*x.shape[:-1], self.side, self.side)
        vertical = math.log(self.p_vertical) + self._log_prob_columns(x)
        horizontal = math.log1p(-self.p_vertical) + self._log_prob_columns(x.mT)
        return torch.logaddexp(vertical, horizontal)

    def patterns(self) -> Tensor:
        """Return every possible image once, (2 ** (side + 1) - 2, side ** 2)."""
        columns = self._columns(torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * self.side))
        return torch.cat([columns, columns.mT[1:-1]]).flatten(
            1
        )  # the blank and the full image are their own transposes

    def entropy(self) -> float:
        """Return the entropy in nats, the floor of the negative log-likelihood."""
        return float(torch.special.entr(self.log_prob(self.patterns().double()).exp()).sum())

    def _columns(self, bars: Tensor) -> Tensor:
        return bars[..., None, :].repeat_interleave(self.side, -2)  # (n, side, side)

    def _log_prob_columns(self, x: Tensor) -> Tensor:
        bars = x[..., 0, :]  # (n, side)
        log_p = (bars * math.log(self.p_bar) + (1 - bars) * math.log1p(-self.p_bar)).sum(-1)
        possible = (x == self._columns(bars)) & ((x == 0) | (x == 1))
        return log_p.where(possible.flatten(-2).all(-1), -math.inf)


def pinwheel(
    n: int, *, arms: int = 5, scale: tuple[float, float] = (0.3, 0.05), rate: float = 0.25, seed: int = 0
) -> Dataset:
    r"""Draw points on curved arms, the label the arm: long clusters no mixture of normals fits.

    .. math:: x = R(2 \pi k / K + \rho\, e^r)\, (r, t), \quad r \sim N(1, \sigma_0^2), t \sim N(0, \sigma_1^2)

    Args:
        n: how many points.
        arms: K.
        scale: the standard deviations along and across an arm.
        rate: the curvature :math:`\rho`.
        seed: of the draw.

    Reference: Composing graphical models with neural networks for structured representations and fast
    inference, Johnson, Duvenaud, Wiltschko, Datta & Adams, 2016, arXiv 1603.06277.

    Example:
        >>> pinwheel(100, seed=1)
        Dataset(pinwheel, all, real, 100 x 2, cpu)
    """
    generator = _generator(n, seed)
    k = torch.randint(arms, (n,), generator=generator)
    r = 1 + scale[0] * torch.randn(n, generator=generator)
    t = scale[1] * torch.randn(n, generator=generator)
    angle = 2 * math.pi * k / arms + rate * r.exp()
    x = torch.stack([r * angle.cos() - t * angle.sin(), r * angle.sin() + t * angle.cos()], -1)  # (n, 2)
    return from_array(x, protocol="real", name="pinwheel", labels=k, seed=seed)


def swiss_roll(n: int, *, scale: float = 0.05, seed: int = 0) -> Dataset:
    r"""Draw noisy points along one and a half turns of a spiral, :math:`x = t (\cos t, \sin t) / 3 \pi`.

    t is uniform from 1.5 pi to 4.5 pi; `scale` is the standard deviation of the noise.

    Reference: Deep unsupervised learning using nonequilibrium thermodynamics, Sohl-Dickstein, Weiss,
    Maheswaranathan & Ganguli, 2015, arXiv 1503.03585.

    Example:
        >>> swiss_roll(100, seed=1)
        Dataset(swiss-roll, all, real, 100 x 2, cpu)
    """
    generator = _generator(n, seed)
    t = 1.5 * math.pi * (1 + 2 * torch.rand(n, generator=generator))
    spiral = torch.stack([t.cos(), t.sin()], -1) * t[:, None] / (3 * math.pi)  # (n, 2)
    x = spiral + scale * torch.randn(n, 2, generator=generator)
    return from_array(x, protocol="real", name="swiss-roll", seed=seed)


def _generator(n: int, seed: int) -> torch.Generator:
    if n < 1:
        raise ValueError(f"`n` must be at least 1, got {n}")
    return torch.Generator().manual_seed(seed)
