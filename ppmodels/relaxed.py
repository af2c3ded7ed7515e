"""One-hot vectors given a vector, as they are or made soft: what guides over categories are made of."""

from __future__ import annotations

from typing import cast

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from .concrete import Concrete, check_temperature
from .conditionals import Conditional
from .nets import Trunk, head

__all__ = ["ConditionalOneHotCategorical", "ConditionalRelaxedCategorical"]


class ConditionalOneHotCategorical(Conditional):
    r"""One category as a one-hot vector, :math:`p(y \mid h) = \operatorname{OneHotCategorical}(y;\, W f(h) + b)`.

    Its draws carry no gradient: train a guide made of it by `VIMCO`, `ScoreFunction` or `ReweightedWakeSleep`, by
    `Enumeration`, which is exact, or, with a bias, by `GumbelSoftmax` or `StraightThrough`.

    Arguments:
        trunk: the net :math:`f`.
        out_features: the number of categories, which is the length of `y`.

    Example:
        >>> from ppmodels.nets import MLP
        >>> ConditionalOneHotCategorical(MLP(784), 10)(torch.zeros(32, 784)).sample().sum(-1).unique()
        tensor([1.])
    """

    def __init__(self, trunk: Trunk, out_features: int) -> None:
        super().__init__(trunk, out_features)
        self.logits = head(trunk, out_features)

    def distribution(self, features: Tensor) -> Distribution:
        return cast(Distribution, dist.OneHotCategorical(logits=self.logits(features)))


class ConditionalRelaxedCategorical(Conditional):
    r"""A point of the simplex, :math:`p(y \mid h) = \operatorname{Concrete}(y;\, W f(h) + b, \tau)`.

    The guide's side of the prior `RelaxedCategorical`. It is a density like any other, reparameterised, and so are its
    bounds: of the model with soft categories, not of that with hard ones.

    Arguments:
        trunk: the net :math:`f`.
        out_features: the number of categories, which is the length of `y`.
        temperature: :math:`\tau`, which need not be the prior's; the lower, the nearer to the corners.

    Raises:
        ValueError: `temperature` is not positive.

    References:
        The Concrete Distribution: A Continuous Relaxation of Discrete Random Variables (Maddison, Mnih and Teh, 2017),
        arXiv:1611.00712, for temperatures of the guide's own

    Example:
        >>> from ppmodels.nets import MLP
        >>> q = ConditionalRelaxedCategorical(MLP(784), 10, temperature=0.5)
        >>> q(torch.zeros(32, 784)).rsample().shape
        torch.Size([32, 10])
    """

    temperature: Tensor

    def __init__(self, trunk: Trunk, out_features: int, *, temperature: float = 0.67) -> None:
        super().__init__(trunk, out_features)
        self.logits = head(trunk, out_features)
        self.register_buffer("temperature", torch.tensor(check_temperature(temperature)))

    def distribution(self, features: Tensor) -> Distribution:
        return Concrete(self.temperature, logits=self.logits(features))
