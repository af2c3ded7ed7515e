"""Making a guide say more: heads with further outputs, which begin the same for every datum."""

from __future__ import annotations

import torch
from torch import nn

from ppmodels.nets import check_size

__all__ = ["check_more", "with_outputs"]


def check_more(components: int, breaks: int) -> None:
    """Refuses to grow to fewer components than so many breaks make, or as many.

    Example:
        >>> check_more(4, 3)
        Traceback (most recent call last):
        ValueError: `components` must be larger than 4, got 4
    """
    if check_size("components", components) <= breaks + 1:
        raise ValueError(f"`components` must be larger than {breaks + 1}, got {components}")


def with_outputs(layer: nn.Module, out_features: int, bias: float) -> nn.Linear:
    r"""A copy of a linear layer with more outputs: the old ones as they were, the new ones constant.

    Arguments:
        layer: a head of a conditional.
        out_features: how many outputs there will be.
        bias: what the new ones are until they learn.

    Raises:
        TypeError: the layer is not linear, as where the trunk makes its own heads.

    Example:
        >>> with_outputs(nn.Linear(5, 2), 3, 0.5)(torch.randn(4, 5))[:, 2]
        tensor([0.5000, 0.5000, 0.5000, 0.5000], grad_fn=<SelectBackward0>)
    """
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"`trunk` must have linear heads to take more components, got {type(layer).__name__}")
    old, more = layer.weight, out_features - layer.out_features
    new: nn.Linear = nn.utils.skip_init(nn.Linear, layer.in_features, out_features, device=old.device, dtype=old.dtype)
    with torch.no_grad():
        new.weight.copy_(torch.cat([old, old.new_zeros(more, layer.in_features)]))
        new.bias.copy_(torch.cat([layer.bias, old.new_full((more,), bias)]))
    return new
