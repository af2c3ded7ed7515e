"""Priors over the breaks of a stick, kept as logits."""

from __future__ import annotations

import copy
import math

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ppmodels.distributions import as_vector
from ppmodels.nets import check_size
from ppmodels.sticks import LogitBeta

__all__ = ["DirichletSticks", "StickBreaking"]


class StickBreaking(nn.Module):
    r"""Griffiths, Engen and McCloskey's breaks: :math:`v_k \sim \operatorname{Beta}(1, \alpha_0)`, each for itself.

    The weights :math:`\pi_k = v_k \prod_{j<k} (1 - v_j)` are those of a Dirichlet process, cut off after K: the
    last takes all that is left. They fall in the mean like :math:`(\alpha_0 / (1 + \alpha_0))^k`, so that
    :math:`\alpha_0` says how many count.

    Arguments:
        components: the number K of weights, one more than there are breaks.
        concentration: :math:`\alpha_0`; where it starts, if it is learned.
        learned: whether it is a parameter.

    Raises:
        ValueError: there is one component or none, or the concentration is not positive.

    References:
        Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017), arXiv:1605.06197
        A Constructive Definition of Dirichlet Priors (Sethuraman, 1994), Statistica Sinica 4

    Example:
        >>> from ppmodels.sticks import stick_weights
        >>> prior = StickBreaking(50)
        >>> prior().event_shape, stick_weights(prior()()).sum().round(decimals=5)
        (torch.Size([49]), tensor(1.))
    """

    log_concentration: Tensor

    def __init__(self, components: int, concentration: float = 5.0, *, learned: bool = False) -> None:
        super().__init__()
        self.components = check_size("components", components, least=2)
        value = torch.tensor(check_concentration(concentration)).log()
        if learned:
            self.log_concentration = nn.Parameter(value)
        else:
            self.register_buffer("log_concentration", value)

    @property
    def concentration(self) -> Tensor:
        r""":math:`\alpha_0`, a number."""
        return self.log_concentration.exp()

    @property
    def gain(self) -> float:
        r"""What brings the weights to size one, :math:`\mathbb{E}[\sum_k \pi_k^2 / K]^{-1/2}`: see `SBVAE`.

        .. math:: \mathbb{E}\Bigl[\sum_k \pi_k^2\Bigr] = \frac{1 - r^{K-1}}{1 + \alpha_0} + r^{K-1}, \qquad
            r = \mathbb{E}[(1 - v)^2] = \frac{\alpha_0}{\alpha_0 + 2}
        """
        concentration = float(self.concentration.detach())
        last = (concentration / (concentration + 2)) ** (self.components - 1)  # E[pi_K^2]
        return math.sqrt(self.components / ((1 - last) / (1 + concentration) + last))

    def grown(self, components: int) -> StickBreaking:
        """A copy that is cut off after more components."""
        if check_size("components", components) <= self.components:
            raise ValueError(f"`components` must be larger than {self.components}, got {components}")
        grown = copy.deepcopy(self)
        grown.components = components
        return grown

    def forward(self) -> TorchDistribution:
        b = self.concentration.expand(self.components - 1)
        return as_vector(LogitBeta(torch.ones_like(b), b))


class DirichletSticks(nn.Module):
    r"""A symmetric Dirichlet's weights by their breaks: :math:`v_k \sim \operatorname{Beta}(\alpha, (K - k)\, \alpha)`.

    Unlike `StickBreaking` it favours no component: the weights are
    :math:`\operatorname{Dirichlet}(\alpha, \dots, \alpha)`.

    Arguments:
        components: the number K of weights, one more than there are breaks.
        concentration: :math:`\alpha`; 1 is uniform, less makes few weights large.

    Raises:
        ValueError: there is one component or none, or the concentration is not positive.

    References:
        Approximate Inference for Deep Latent Gaussian Mixtures (Nalisnick, Hertel and Smyth, 2016), NIPS
        Workshop on Bayesian Deep Learning

    Example:
        >>> DirichletSticks(3)().event_shape
        torch.Size([2])
    """

    concentration1: Tensor
    concentration0: Tensor

    def __init__(self, components: int, concentration: float = 1.0) -> None:
        super().__init__()
        self.components = check_size("components", components, least=2)
        a = torch.full((components - 1,), check_concentration(concentration))
        self.register_buffer("concentration1", a)
        self.register_buffer("concentration0", a * torch.arange(components - 1, 0, -1))

    @property
    def gain(self) -> float:
        r"""What brings the weights to size one, :math:`\sqrt{K (K \alpha + 1) / (\alpha + 1)}`: see `SBVAE`."""
        concentration = float(self.concentration1[0])
        return math.sqrt(self.components * (self.components * concentration + 1) / (concentration + 1))

    def forward(self) -> TorchDistribution:
        return as_vector(LogitBeta(self.concentration1, self.concentration0))


def check_concentration(concentration: float) -> float:
    """The argument `concentration`, refused unless it is a positive number."""
    if not 0.0 < concentration < math.inf:
        raise ValueError(f"`concentration` must be a positive number, got {concentration}")
    return float(concentration)
