r"""Networks that know the time: a state and a step of a chain in, numbers for each entry of the state out.

A clock is a table of features of the steps, `(T + 1, size)`, that is looked up by `t`: soft bumps, or waves. Either the
net reads them beside the state (`TimeMLP`), or they choose among outputs that do not know the time (`GatedMLP`).
The last layer starts at zero, so that an untrained net moves nothing.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .nets import MLP, Activation, check_size, joined

__all__ = ["GatedMLP", "TimeMLP", "bumps", "sinusoids"]


def bumps(num_steps: int, size: int = 10) -> Tensor:
    r"""Gaussian bumps evenly spaced over the steps, as wide as they are apart and one in sum, `(T + 1, size)`.

    .. math:: g_j(t) \propto \exp\bigl(-(t / T - \tau_j)^2 / 2 w^2\bigr), \qquad \sum_j g_j(t) = 1

    References:
        Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015),
        arXiv:1503.03585, appendix D.2.1

    Example:
        >>> bumps(4, 3)[[0, 2]]
        tensor([[0.5741, 0.3482, 0.0777],
                [0.2741, 0.4519, 0.2741]])
    """
    check_size("num_steps", num_steps)
    centres = torch.linspace(0, 1, check_size("size", size, least=2))
    time = torch.arange(num_steps + 1).unsqueeze(-1) / num_steps  # (T + 1, 1)
    return (-((time - centres) * (size - 1)).square() / 2).softmax(-1)


def sinusoids(num_steps: int, size: int = 32, *, shortest: float = 6.0) -> Tensor:
    r"""Sines and cosines of wavelengths from `shortest` steps to four times all of them, `(T + 1, size)`.

    The longest tell early from late, the shortest one step from the next.

    References:
        Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, appendix B

    Example:
        >>> sinusoids(100, 8).shape
        torch.Size([101, 8])
    """
    check_size("num_steps", num_steps)
    if check_size("size", size, least=2) % 2:
        raise ValueError(f"`size` must be even, a sine and a cosine of each wavelength, got {size}")
    longest = max(4.0 * num_steps, shortest)
    wavelengths = torch.logspace(math.log10(shortest), math.log10(longest), size // 2)
    angle = 2 * math.pi * torch.arange(num_steps + 1).unsqueeze(-1) / wavelengths  # (T + 1, size / 2)
    return torch.cat([angle.sin(), angle.cos()], -1)


class _Clocked(nn.Module, abc.ABC):
    """A trunk and a silent head, whose sizes depend on what is made of the features of the time."""

    times: Tensor

    def __init__(
        self,
        x_dim: int,
        hidden: Sequence[int] = (128, 128),
        *,
        times: Tensor,
        outputs: int = 1,
        activation: Activation = nn.Tanh,
    ) -> None:
        super().__init__()
        self.register_buffer("times", _table(times))
        self.in_features = check_size("x_dim", x_dim)
        self.out_features = x_dim * check_size("outputs", outputs)
        seen, made = self._sizes(times.shape[-1])
        self.trunk = MLP(seen, hidden, activation)
        self.head = _silent(self.trunk.out_features, made)

    @abc.abstractmethod
    def _sizes(self, size: int) -> tuple[int, int]:
        """What the trunk reads, and what the head makes, where the time has so many features."""


class TimeMLP(_Clocked):
    """A dense net of the state and the features of the time side by side.

    Arguments:
        x_dim: entries of a state.
        hidden: widths of the layers.
        times: features of the steps, `(T + 1, size)`.
        outputs: numbers for each entry of the state.
        activation: what makes a nonlinearity.

    Raises:
        ValueError: a size is not positive, or `times` is no table.

    Example:
        >>> net = TimeMLP(2, (50, 50), times=bumps(40), outputs=2)
        >>> net(torch.zeros(7, 5, 2), torch.tensor([1, 2, 3, 4, 40])).shape
        torch.Size([7, 5, 4])
    """

    def _sizes(self, size: int) -> tuple[int, int]:
        return self.in_features + size, self.out_features

    def forward(self, state: Tensor, t: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.trunk(joined(state, self.times[t]))))  # (..., n, outputs * x_dim)


class GatedMLP(_Clocked):
    r"""A dense net of the state alone, with an output for each bump of the clock; the time says how they are mixed.

    .. math:: y(x, t) = \sum_j g_j(t)\, y_j(x)

    Arguments:
        x_dim: entries of a state.
        hidden: widths of the layers.
        times: the weights of the outputs at each step, `(T + 1, size)`: `bumps`.
        outputs: numbers for each entry of the state.
        activation: what makes a nonlinearity.

    References:
        Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015),
        arXiv:1503.03585, appendix D.2.1

    Example:
        >>> net = GatedMLP(2, (50, 50), times=bumps(40), outputs=2)
        >>> net(torch.zeros(7, 5, 2), torch.tensor([1, 2, 3, 4, 40])).shape
        torch.Size([7, 5, 4])
    """

    def _sizes(self, size: int) -> tuple[int, int]:
        return self.in_features, self.out_features * size

    def forward(self, state: Tensor, t: Tensor) -> Tensor:
        every = self.head(self.trunk(state)).unflatten(-1, (self.out_features, -1))  # (..., n, outputs * x_dim, size)
        return cast(Tensor, (every * self.times[t].unsqueeze(-2)).sum(-1))  # (..., n, outputs * x_dim)


def _table(times: Tensor) -> Tensor:
    if times.ndim != 2:
        raise ValueError(f"`times` must have shape (T + 1, size), a row for each step, got {tuple(times.shape)}")
    return times


def _silent(in_features: int, out_features: int) -> nn.Linear:
    layer = nn.Linear(in_features, out_features)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
