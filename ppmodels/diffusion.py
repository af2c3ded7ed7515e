r"""Diffusion models: a chain learned to walk back, step by step, the way on which a kernel forgets.

A `Diffusion` is a kernel (`ppmodels.kernels`), a net of state and time (`ppmodels.clocks`), and a reverse, which says
what the net's output means (`ppmodels.reverses`). The model of 2015 and DDPM differ in these three alone.
"""

from __future__ import annotations

from typing import Any, cast

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from .kernels import BinomialKernel, GaussianKernel, Kernel, check_steps
from .observed import check_data
from .reverses import Drift, FirstFixed, Flip, Reverse

__all__ = ["Diffusion", "Noising"]


class Diffusion(nn.Module):
    r"""The way back from a kernel's rest :math:`\pi`, :math:`p(x_{0:T}) = \pi(x_T) \prod_{t=1}^T p(x_{t-1} \mid x_t)`.

    It is a `Transition` (`noised`, `q`, `q_posterior`, `p`, `end`) for the engines that know diffusion, and a Pyro
    program for all others, with `Noising(kernel)` its guide.

    Sites: `x{T}`, ..., `x2`, `x1` of shape `(n, x_dim)`, then `x`, observed where given and drawn where not. Plate:
    `data`, dimension -1. All of it broadcasts under plates further left.

    Arguments:
        kernel: the way there, T steps.
        net: `net(state, t)`, `(..., n, x_dim)` and int64 `(n,)` or 0-d to `(..., n, outputs * x_dim)`, with
            `in_features` and `out_features`; see `ppmodels.clocks`.
        reverse: what the output means; by default the 2015 paper's, `FirstFixed(Drift())` or `FirstFixed(Flip())`.

    Raises:
        TypeError: the parts are not of their kind, or the reverse is for another kernel.
        ValueError: the net makes more or fewer numbers than the reverse needs, or data have another size.

    References:
        Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein, Weiss, Maheswaranathan and
        Ganguli, 2015), arXiv:1503.03585
        Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), arXiv:2006.11239

    Example:
        >>> from ppmodels.clocks import TimeMLP, bumps, sinusoids
        >>> from ppmodels.kernels import GaussianKernel
        >>> from ppmodels.rates import harmonic, linear
        >>> from ppmodels.reverses import Epsilon
        >>> old = Diffusion(GaussianKernel(harmonic(40, least=1e-3)), TimeMLP(2, (16,), times=bumps(40), outputs=2))
        >>> ddpm = Diffusion(GaussianKernel(linear(100)), TimeMLP(64, (128,), times=sinusoids(100)), Epsilon())
        >>> old(n=5).shape, ddpm(n=5).shape
        (torch.Size([5, 2]), torch.Size([5, 64]))
    """

    steps: Tensor

    def __init__(self, kernel: Kernel, net: nn.Module, reverse: Reverse | None = None) -> None:
        super().__init__()
        if not isinstance(kernel, Kernel):
            raise TypeError(f"`kernel` must be a Kernel, got {type(kernel).__name__}: see `ppmodels.kernels`")
        if reverse is None:
            reverse = FirstFixed(Flip() if isinstance(kernel, BinomialKernel) else Drift())
        if not isinstance(kernel, reverse.kernel):
            needs, got = reverse.kernel.__name__, type(kernel).__name__
            raise TypeError(f"`reverse` is {type(reverse).__name__}, which walks back a {needs}, got a {got}")
        self.x_dim = int(cast(Any, net).in_features)
        makes, needed = int(cast(Any, net).out_features), reverse.outputs * self.x_dim
        if makes != needed:
            raise ValueError(
                f"`net` must make {needed} numbers, {reverse.outputs} for each of {self.x_dim}, got {makes}"
            )
        times = getattr(net, "times", None)
        if times is not None and len(times) != kernel.num_steps + 1:
            raise ValueError(f"`net` knows {len(times) - 1} steps, expected the {kernel.num_steps} of the kernel")
        if reverse.predicts_noise and not bool(kernel.rates().beta[-1] < 1):
            raise ValueError("`kernel` must leave something of the datum for noise to be told, got a last rate of 1")
        self.kernel: Kernel = kernel
        self.net: Any = net
        self.reverse: Reverse = reverse
        self.num_steps = kernel.num_steps
        self.register_buffer("steps", torch.arange(self.num_steps + 1), persistent=False)

    def forward(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Draws the chain from its end down and, where `x` is not given, `n` data; returns the data."""
        if x is not None:
            check_data(x, self.x_dim)
        with pyro.plate("data", n if x is None else len(x), dim=-1):
            state: Tensor = pyro.sample(f"x{self.num_steps}", self.end())  # (..., n, x_dim)
            for t in range(self.num_steps, 1, -1):
                state = pyro.sample(f"x{t - 1}", self.p(state, self.steps[t]))
            data: Tensor = pyro.sample("x", self.p(state, self.steps[1]), obs=x)
        return data

    def noised(self, x: Tensor, t: Tensor) -> TorchDistribution:
        r""":math:`q(x_t \mid x_0)`."""
        return self.kernel.noised(self._fits("x", x), t)

    def q(self, state: Tensor, t: Tensor) -> TorchDistribution:
        r""":math:`q(x_t \mid x_{t-1})`."""
        return self.kernel.q(self._fits("state", state), t)

    def q_posterior(self, state: Tensor, x: Tensor, t: Tensor) -> TorchDistribution:
        r""":math:`q(x_{t-1} \mid x_t, x_0)`, from t = 2 on."""
        return self.kernel.q_posterior(self._fits("state", state), self._fits("x", x), t)

    def p(self, state: Tensor, t: Tensor) -> TorchDistribution:
        r""":math:`p(x_{t-1} \mid x_t)`."""
        check_steps(t, self.num_steps)
        output = self.net(self._fits("state", state), t)
        return cast(TorchDistribution, self.reverse(self.kernel, state, t, output))

    def end(self) -> TorchDistribution:
        r""":math:`p(x_T)`, event `(x_dim,)`."""
        return self.kernel.stationary(self.x_dim)

    def squared_error(self, state: Tensor, x: Tensor, t: Tensor) -> Tensor:
        r"""What the net misses of the noise, squared, :math:`\|\epsilon - \epsilon_\theta(x_t, t)\|^2`, `(..., n)`."""
        if not self.reverse.predicts_noise:
            raise TypeError(f"`reverse` must tell the noise, as `Epsilon` does, got {type(self.reverse).__name__}")
        noise = cast(GaussianKernel, self.kernel).noise(state, x, t)
        return cast(Tensor, (noise - self.net(state, t)).square().sum(-1))

    def _fits(self, name: str, value: Tensor) -> Tensor:
        if value.ndim < 2 or value.shape[-1] != self.x_dim:
            raise ValueError(f"`{name}` must have shape (..., n, {self.x_dim}), got {tuple(value.shape)}")
        return value


class Noising(nn.Module):
    r"""The way there as a guide, :math:`q(x_{1:T} \mid x_0) = \prod_t q(x_t \mid x_{t-1})`; it has nothing to learn.

    Sites: `x1`, `x2`, ..., `x{T}` of shape `(n, x_dim)`. Plate: `data`, dimension -1.

    Arguments:
        kernel: the model's.

    Example:
        >>> from inference import log_weights
        >>> from ppmodels.clocks import TimeMLP, bumps
        >>> from ppmodels.kernels import GaussianKernel
        >>> from ppmodels.rates import harmonic
        >>> kernel = GaussianKernel(harmonic(10))
        >>> untrained = Diffusion(kernel, TimeMLP(2, (16,), times=bumps(10), outputs=2))
        >>> log_weights(untrained, Noising(kernel), torch.zeros(3, 2), 5).log_w[0].detach()  # of a standard normal at 0
        tensor([-1.8379, -1.8379, -1.8379])
    """

    steps: Tensor

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel: Kernel = kernel
        self.register_buffer("steps", torch.arange(kernel.num_steps + 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Draws the chain; returns its end."""
        state = check_data(x)
        with pyro.plate("data", len(x), dim=-1):
            for t in range(1, self.kernel.num_steps + 1):
                state = pyro.sample(f"x{t}", self.kernel.q(state, self.steps[t]))  # (..., n, x_dim)
        return state
