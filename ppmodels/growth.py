"""Making a decoder take more: what was one number may come in as several that add up to it."""

from __future__ import annotations

import copy

import torch
from torch import nn

from .conditionals import Conditional
from .nets import check_size

__all__ = ["widened"]


def widened(likelihood: nn.Module, in_features: int) -> nn.Module:
    r"""A copy of a conditional that takes longer vectors, and the same of those whose new entries split the last.

    .. math:: p'(y \mid h_1, \dots, h_{K-1}, h_K, \dots, h_M) = p(y \mid h_1, \dots, h_{K-1}, h_K + \dots + h_M)

    The first layer's weights for the new entries are those of the last one.

    Arguments:
        likelihood: a conditional on a net that begins with a linear layer, such as an `MLP`.
        in_features: the new length M.

    Raises:
        TypeError: the likelihood is no conditional, or its net does not begin with a linear layer.
        ValueError: the new length is not larger than the old.

    Example:
        >>> from ppmodels.conditionals import ConditionalBernoulli
        >>> from ppmodels.nets import MLP
        >>> p = ConditionalBernoulli(MLP(2, (8,)), 16)
        >>> q, x = widened(p, 3), torch.ones(16)
        >>> whole, split = torch.tensor([0.4, 0.6]), torch.tensor([0.4, 0.5, 0.1])
        >>> torch.allclose(p(whole).log_prob(x), q(split).log_prob(x))
        True
    """
    trunk = likelihood.trunk if isinstance(likelihood, Conditional) else None
    if not isinstance(trunk, nn.Sequential) or not len(trunk) or not isinstance(trunk[0], nn.Linear):
        what = type(likelihood if trunk is None else trunk).__name__
        raise TypeError(f"`likelihood` must stand on a net that begins with a linear layer, as an MLP does, got {what}")
    old = trunk[0]
    more = check_size("in_features", in_features) - old.in_features
    if more <= 0:
        raise ValueError(f"`in_features` must be larger than {old.in_features}, got {in_features}")
    grown = copy.deepcopy(likelihood)
    assert isinstance(grown, Conditional)
    layers = grown.trunk
    assert isinstance(layers, nn.Sequential)
    new = nn.utils.skip_init(nn.Linear, in_features, old.out_features, device=old.weight.device, dtype=old.weight.dtype)
    with torch.no_grad():
        new.weight.copy_(torch.cat([old.weight, old.weight[:, -1:].expand(-1, more)], -1))
        new.bias.copy_(old.bias)
    layers[0] = new
    grown.in_features = in_features
    if hasattr(layers, "in_features"):
        layers.in_features = in_features  # type: ignore[assignment]  # a Sequential's attributes are modules to mypy
    return grown
