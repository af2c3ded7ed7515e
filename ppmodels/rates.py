r"""How fast a diffusion forgets: the rates of its T steps, fixed or learned.

A datum's share that is left after t steps is :math:`\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)`.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from .nets import check_size

__all__ = ["FixedRates", "LearnedRates", "Rates", "Schedule", "geometric", "harmonic", "linear"]


class Rates(NamedTuple):
    r"""What a step does, each `(T + 1,)` with step t at place t: :math:`\beta`, :math:`\bar\alpha` and its complement.

    Nothing has happened at t = 0, so there :math:`\beta_0 = 0` and :math:`\bar\alpha_0 = 1`.
    """

    beta: Tensor
    kept: Tensor
    lost: Tensor


def harmonic(num_steps: int, *, least: float = 0.0) -> Tensor:
    r"""Rates that erase the same share of the signal at every step, :math:`\beta_t = 1 / (T - t + 1)`, `(T,)`.

    The last step erases all that is left. Of Gaussian data the first must not be too small, or what is gained at it
    has no limit: `least=1e-3`.

    References:
        Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), arXiv:1503.03585

    Example:
        >>> harmonic(4)
        tensor([0.2500, 0.3333, 0.5000, 1.0000], dtype=torch.float64)
    """
    check_size("num_steps", num_steps, least=2)
    return (1 / torch.arange(num_steps, 0, -1, dtype=torch.float64)).clamp_min(least)


def linear(num_steps: int, *, first: float = 1e-4, last: float = 0.02) -> Tensor:
    r"""DDPM's rates, from `first` to `last` in 1000 equal steps, or as much noise in another number of steps, `(T,)`.

    .. math:: 1 - \beta_t = (1 - b_t)^{1000 / T}, \qquad b_t \text{ evenly spaced from first to last}

    References:
        Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel, 2020), arXiv:2006.11239

    Example:
        >>> linear(1000)[[0, -1]]
        tensor([0.0001, 0.0200], dtype=torch.float64)
        >>> [f"{float((1 - linear(T)).prod()):.3e}" for T in (10, 100, 1000)]  # of a datum's variance is left
        ['4.021e-05', '4.035e-05', '4.036e-05']
    """
    check_size("num_steps", num_steps, least=2)
    if not 0 < first <= last < 1:
        raise ValueError(f"`first` and `last` must be rates with 0 < first <= last < 1, got {first} and {last}")
    evenly = torch.linspace(first, last, num_steps, dtype=torch.float64)
    return -torch.expm1(torch.log1p(-evenly) * (1000 / num_steps))


def geometric(num_steps: int, *, first: float = 1e-4, last: float = 0.999) -> Tensor:
    r"""Rates by which the ratio of signal to noise falls by the same factor at every step, `(T,)`.

    So every scale of the data has its share of the steps, whether they are spread or thin as a line.

    .. math:: \log \frac{\bar\alpha_t}{1 - \bar\alpha_t} \text{ evenly spaced},
        \qquad 1 - \bar\alpha_1 = \text{first}, \quad 1 - \bar\alpha_T = \text{last}

    References:
        Variational Diffusion Models (Kingma, Salimans, Poole and Ho, 2021), arXiv:2107.00630

    Example:
        >>> (1 - geometric(5, first=0.1, last=0.9)).cumprod(0)
        tensor([0.9000, 0.7500, 0.5000, 0.2500, 0.1000], dtype=torch.float64)
    """
    check_size("num_steps", num_steps, least=2)
    if not 0 < first < last < 1:
        raise ValueError(f"`first` and `last` must be what is lost, with 0 < first < last < 1, got {first} and {last}")
    low, high = (math.log(lost / (1 - lost)) for lost in (first, last))
    log_kept = logsigmoid(-torch.linspace(low, high, num_steps, dtype=torch.float64))
    return -torch.expm1(log_kept - torch.cat([log_kept.new_zeros(1), log_kept[:-1]]))


class Schedule(Protocol):
    """Anything that gives the rates of T steps."""

    num_steps: int

    def __call__(self) -> Rates: ...


class FixedRates(nn.Module):
    """Rates that are buffers, summed up in double precision."""

    beta: Tensor
    kept: Tensor
    lost: Tensor

    def __init__(self, betas: Tensor) -> None:
        super().__init__()
        self.num_steps = len(check_betas(betas))
        for name, value in _rates(betas.detach().double())._asdict().items():
            self.register_buffer(name, value.to(torch.get_default_dtype()))

    def forward(self) -> Rates:
        return Rates(self.beta, self.kept, self.lost)


class LearnedRates(nn.Module):
    r"""Rates of a Gaussian kernel that are learned with the model, by their log-odds; the first stays as it is.

    Arguments:
        betas: :math:`\beta` at first, `(T,)`, all of them less than 1.

    References:
        Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015),
        arXiv:1503.03585, section 2.4.1

    Example:
        >>> LearnedRates(linear(10))().kept[[0, -1]]
        tensor([1.0000e+00, 4.0209e-05], grad_fn=<IndexBackward0>)
    """

    first: Tensor

    def __init__(self, betas: Tensor) -> None:
        super().__init__()
        self.num_steps = len(check_betas(betas))
        if float(betas[-1]) == 1:
            raise ValueError("`betas` must all be less than 1 to be learned, got a last one of 1: see `linear`")
        betas = betas.detach().double()
        self.register_buffer("first", betas[:1].to(torch.get_default_dtype()))
        self.logits = nn.Parameter(betas[1:].logit().to(torch.get_default_dtype()))

    def forward(self) -> Rates:
        return _rates(torch.cat([self.first, self.logits.sigmoid()]))


def check_betas(betas: Tensor) -> Tensor:
    """The rates, refused unless there are two or more, each more than 0 and less than 1, or 1 if it is the last."""
    if betas.ndim != 1 or len(betas) < 2:
        raise ValueError(f"`betas` must have shape (T,), a rate for each of at least 2 steps, got {tuple(betas.shape)}")
    wrong = ~((betas > 0) & (betas < 1))
    wrong[-1] = wrong[-1] & (betas[-1] != 1)
    if bool(wrong.any()):
        t = int(wrong.nonzero()[0])
        raise ValueError(
            f"`betas` must be more than 0 and less than 1 (the last may be 1), got {float(betas[t])} for step {t + 1}"
        )
    return betas


def _rates(betas: Tensor) -> Rates:
    beta = torch.cat([betas.new_zeros(1), betas])
    log_kept = torch.log1p(-beta).cumsum(0)
    return Rates(beta, log_kept.exp(), -torch.expm1(log_kept))
