r"""How a diffusion walks back: what the output of its net means as a law of the state before.

=======================  ==================================================================  =====================
reverse                  :math:`p(x_{t-1} \mid x_t)`                                         paper
=======================  ==================================================================  =====================
`Drift`                  normal; the net moves mean and variance off the kernel's own        Sohl-Dickstein (2015)
`Flip`                   bits; the net moves the log-odds off the kernel's own               Sohl-Dickstein (2015)
`Epsilon`                normal; the net tells the noise, the variance is fixed              Ho et al. (2020)
`FirstFixed(reverse)`    another reverse, with the kernel's own law at t = 1                 Sohl-Dickstein (2015)
`Discretised(reverse)`   a normal one, with levels of grey at t = 1                          Ho et al. (2020)
=======================  ==================================================================  =====================
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr

from .distributions import as_vector
from .kernels import BinomialKernel, Bits, GaussianKernel, Kernel
from .nets import check_size
from .rates import Rates

__all__ = [
    "Discretised",
    "Drift",
    "Epsilon",
    "FirstFixed",
    "Flip",
    "Reverse",
    "posterior_variance",
    "step_variance",
]


class Reverse(nn.Module, abc.ABC):
    r"""What a net's output means: `reverse(kernel, state, t, output)` is :math:`p(x_{t-1} \mid x_t)`.

    A subclass says how many numbers of the net go to each entry of the state (`outputs`; all of the first come first),
    which kernels it walks back, whether its one output is the noise, and in `forward` the law, over vectors.
    `Flip` is the shortest example.
    """

    outputs: int
    kernel: type[Kernel]
    predicts_noise: bool = False

    @abc.abstractmethod
    def forward(self, kernel: Any, state: Tensor, t: Tensor, output: Tensor) -> TorchDistribution:
        """States `(..., n, x_dim)`, steps `(n,)` or 0-d, outputs `(..., n, outputs * x_dim)`."""


class Drift(Reverse):
    r"""Two outputs, f and g, that move mean and variance; where both are 0 it is the kernel's own law.

    .. math:: \mu = \sqrt{1 - \beta_t}\, x_t + \sqrt{\beta_t}\, f, \qquad
        \sigma^2 = \sigma(g / \sqrt{T} + \operatorname{logit} \beta_t)

    References:
        Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015),
        arXiv:1503.03585, and the authors' code
    """

    outputs, kernel = 2, GaussianKernel

    def forward(self, kernel: GaussianKernel, state: Tensor, t: Tensor, output: Tensor) -> TorchDistribution:
        f, g = output.chunk(2, -1)  # (..., n, x_dim) each
        _, now = kernel.at(t)
        loc = (1 - now.beta).sqrt() * state + now.beta.sqrt() * f
        log_variance = logsigmoid(g / kernel.num_steps**0.5 + now.beta.logit())
        return _normal(loc, (log_variance / 2).exp())


class Flip(Reverse):
    r"""One output that moves the log-odds of bits; where it is 0 it is the kernel's own law.

    .. math:: \operatorname{logit} p(x_{t-1} = 1 \mid x_t) = (2 x_t - 1) \log \tfrac{2 - \beta_t}{\beta_t} + f
    """

    outputs, kernel = 1, BinomialKernel

    def forward(self, kernel: BinomialKernel, state: Tensor, t: Tensor, output: Tensor) -> TorchDistribution:
        own: Any = kernel.q(state, t)
        return as_vector(cast(Any, Bits(logits=own.base_dist.logits + output)))


def step_variance(before: Rates, now: Rates) -> Tensor:
    r""":math:`\beta_t`: right where the data are standard normal."""
    return now.beta


def posterior_variance(before: Rates, now: Rates) -> Tensor:
    r""":math:`\beta_t (1 - \bar\alpha_{t-1}) / (1 - \bar\alpha_t)`: right where the data are a single point."""
    return now.beta * before.lost / now.lost


class Epsilon(Reverse):
    r"""One output, the noise :math:`\epsilon` of a state; the variance is fixed.

    .. math:: \mu = \frac{1}{\sqrt{1 - \beta_t}} \Bigl(x_t - \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}} \epsilon\Bigr)

    Arguments:
        variance: of a step, by the rates before and after it: `step_variance` or `posterior_variance`. At t = 1, where
            the latter is 0, it is taken at t = 2, as in the authors' code.

    References:
        Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), arXiv:2006.11239, equation 11
    """

    outputs, kernel, predicts_noise = 1, GaussianKernel, True

    def __init__(self, variance: Callable[[Rates, Rates], Tensor] = step_variance) -> None:
        super().__init__()
        self.variance = variance

    def forward(self, kernel: GaussianKernel, state: Tensor, t: Tensor, output: Tensor) -> TorchDistribution:
        before, now = kernel.at(t)
        loc = (state - now.beta / now.lost.sqrt() * output) / (1 - now.beta).sqrt()
        second = self.variance(*kernel.at(t.clamp_min(2)))
        return _normal(loc, self.variance(before, now).where(before.lost > 0, second).sqrt())


class FirstFixed(Reverse):
    r"""Another reverse from t = 2 on; at t = 1 it goes back by the law that the kernel came by, and learns nothing.

    For the net's output is put to 0 there. A kernel is reversible, :math:`\pi(x_0) q(x_1 \mid x_0) = \pi(x_1) q(x_0
    \mid x_1)` for its stationary law :math:`\pi`, so this is exact and normalised: :math:`p(x_0 \mid x_1) =
    N(\sqrt{1 - \beta_1} x_1, \beta_1 I)`, or :math:`B((1 - \beta_1) x_1 + \beta_1 / 2)`. In the paper's bound it
    cancels with the forward step but for :math:`\log \pi(x_0) - \log \pi(x_1)`, which is 0 for bits, and 0 on average
    for real data whose second moment is that of a standard normal; here nothing is left out.

    Arguments:
        reverse: `Drift` or `Flip`, whose output of 0 is the kernel's own law.

    References:
        Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015),
        arXiv:1503.03585, appendix B.2
    """

    def __init__(self, reverse: Drift | Flip) -> None:
        super().__init__()
        if not isinstance(reverse, Drift | Flip):
            raise TypeError(
                f"`reverse` must be `Drift` or `Flip`, got {type(reverse).__name__}: others do not rest at 0"
            )
        self.reverse: Reverse = reverse
        self.outputs, self.kernel = reverse.outputs, reverse.kernel

    def forward(self, kernel: Any, state: Tensor, t: Tensor, output: Tensor) -> TorchDistribution:
        return cast(TorchDistribution, self.reverse(kernel, state, t, output * (t > 1).unsqueeze(-1)))


class Discretised(Reverse):
    r"""A normal reverse whose last step makes levels of grey, evenly spaced: the mass of the normal around each.

    .. math:: p(x_0 = v \mid x_1) = \Phi\bigl(\tfrac{v + \delta/2 - \mu}{\sigma}\bigr) -
        \Phi\bigl(\tfrac{v - \delta/2 - \mu}{\sigma}\bigr), \qquad \text{the outermost without limit outwards}

    The bound is then on the log of a probability, not of a density.

    Arguments:
        reverse: `Epsilon` or `Drift`.
        levels: how many: 256, or 17 for the 8x8 digits.
        low: the least of them.
        high: the largest.

    References:
        Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), arXiv:2006.11239, equation 13
    """

    def __init__(self, reverse: Reverse, levels: int = 256, *, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        if reverse.kernel is not GaussianKernel:
            raise TypeError(f"`reverse` must be a normal one, got {type(reverse).__name__}: bits have two levels")
        if not low < high:
            raise ValueError(f"`low` must be less than `high`, got {low} and {high}")
        self.reverse: Reverse = reverse
        self.levels, self.low, self.high = check_size("levels", levels, least=2), low, high
        self.outputs, self.kernel, self.predicts_noise = reverse.outputs, GaussianKernel, reverse.predicts_noise

    def forward(self, kernel: GaussianKernel, state: Tensor, t: Tensor, output: Tensor) -> TorchDistribution:
        normal: Any = self.reverse(kernel, state, t, output)
        first = (t == 1).unsqueeze(-1)
        grey = _GreyNormal(normal.base_dist.loc, normal.base_dist.scale, first, (self.low, self.high, self.levels))
        return as_vector(cast(Any, grey))


FAR = 1e3
"""Scales beyond which nothing is left of a normal."""


class _GreyNormal(dist.Normal):
    """A normal, and in the rows marked `grey` the levels of a grid `(low, high, levels)`; its KL is that of normals."""

    has_rsample = False

    def __init__(self, loc: Tensor, scale: Tensor, grey: Tensor, grid: tuple[float, float, int]) -> None:
        self.grey, self.grid = grey, grid
        self.low, self.high, self.step = grid[0], grid[1], (grid[1] - grid[0]) / (grid[2] - 1)
        super().__init__(loc, scale)

    def expand(self, batch_shape: Any, _instance: Any = None) -> _GreyNormal:
        return _GreyNormal(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.grey, self.grid)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        value = cast(Tensor, cast(Any, super()).sample(torch.Size(sample_shape)))
        return self._level(value).where(self.grey, value)

    def _level(self, value: Tensor) -> Tensor:
        """The nearest level."""
        level = ((value - self.low) / self.step).round() * self.step + self.low
        return level.clamp(self.low, self.high)

    def log_prob(self, value: Tensor) -> Tensor:
        density = cast(Any, super()).log_prob(value)
        value = self._level(value)  # data are kept in 255ths, which may be a little off the grid
        up, down = (value + self.step / 2 - self.loc) / self.scale, (value - self.step / 2 - self.loc) / self.scale
        up = up.masked_fill(value > self.high - self.step / 2, FAR)
        down = down.masked_fill(value < self.low + self.step / 2, -FAR)
        above = up + down > 0  # the mass is that of the mirrored interval, whose tail keeps its digits
        up, down = (-down).where(above, up), (-up).where(above, down)
        log_mass = log_ndtr(up) + torch.log(-torch.expm1(log_ndtr(down) - log_ndtr(up)))
        return cast(Tensor, log_mass.where(self.grey, density))


def _normal(loc: Tensor, scale: Tensor) -> TorchDistribution:
    return as_vector(cast(Any, dist.Normal(loc, scale)))
