"""Conditionals with a distribution for each of several components."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution

from .conditionals import Conditional, bounded_exp
from .distributions import as_vector
from .nets import Trunk, check_size, head

__all__ = ["ConditionalNormals"]


class ConditionalNormals(Conditional):
    r"""A diagonal normal for each of C components, given a vector, :math:`p(z \mid w, y)`.

    .. math:: p(z \mid w, y) = \mathcal{N}(z;\, \mu_y, \operatorname{diag} \sigma_y^2), \qquad
        \mu_y = W_y f(w) + b_y, \quad \sigma_y = e^{V_y f(w) + c_y}

    Called with :math:`w` alone it returns all components, along a batch dimension of their own, the last.

    Arguments:
        trunk: the net :math:`f`.
        out_features: the length of `z`.
        components: their number C.
        spread: the scale of the normal draws at which the biases :math:`b_y` start. Those of a prior should
            start apart, at 1 for a `z` of about unit scale: components that start together tend to stay so.

    Raises:
        TypeError: `trunk` is no module with `out_features`.
        ValueError: there is one component or none, `out_features` is not positive, or `spread` is negative.

    References:
        Deep Unsupervised Clustering with Gaussian Mixture Variational Autoencoders (Dilokthanakul et al.,
        2016), arXiv:1611.02648

    Example:
        >>> from ppmodels.nets import MLP
        >>> p = ConditionalNormals(MLP(150, (500,)), 200, components=10, spread=1.0)
        >>> p(torch.zeros(32, 150)).batch_shape, p.given(torch.zeros(32, 150), torch.tensor(3)).batch_shape
        (torch.Size([32, 10]), torch.Size([32]))
    """

    def __init__(self, trunk: Trunk, out_features: int, components: int, *, spread: float = 0.0) -> None:
        super().__init__(trunk, out_features)
        if not 0.0 <= spread < math.inf:
            raise ValueError(f"`spread` must be a scale, at least 0, got {spread}")
        self.components = check_size("components", components, least=2)
        shape = (components, out_features)
        self.loc = nn.Sequential(head(trunk, components * out_features), nn.Unflatten(-1, shape))
        self.log_scale = nn.Sequential(head(trunk, components * out_features), nn.Unflatten(-1, shape))
        if spread:
            nn.init.normal_(self.loc[0].get_parameter("bias"), std=spread)

    def distribution(self, features: Tensor) -> Distribution:
        return dist.Normal(self.loc(features), bounded_exp(self.log_scale(features)))  # (..., C, z_dim)

    def given(self, w: Tensor, y: Tensor) -> TorchDistribution:
        """The component `y` of each `w`, one whole number each: the leading shapes of the two are broadcast."""
        every: Any = self(w).base_dist  # (..., C, z_dim)
        leading = torch.broadcast_shapes(w.shape[:-1], y.shape)
        index = y.expand(leading)[..., None, None]
        loc, scale = (
            v.expand(*leading, *v.shape[-2:]).take_along_dim(index, -2).squeeze(-2) for v in (every.loc, every.scale)
        )
        return as_vector(dist.Normal(loc, scale))  # batch (...), event (z_dim,)
