"""From breaks to the weights of the pieces."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["log_stick_weights", "stick_weights"]


def log_stick_weights(logit_v: Tensor) -> Tensor:
    r"""The logarithms of the weights, :math:`\log \pi`, of the logits of breaks: `(..., K - 1)` to `(..., K)`.

    Example:
        >>> log_stick_weights(torch.tensor([0.0, 0.0])).exp()
        tensor([0.5000, 0.2500, 0.2500])
    """
    left = logsigmoid(-logit_v).cumsum(-1)  # log of what is left after each break
    before = torch.cat([torch.zeros_like(left[..., :1]), left], -1)  # (..., K): and before it
    return before + torch.cat([logsigmoid(logit_v), torch.zeros_like(left[..., :1])], -1)


def stick_weights(logit_v: Tensor) -> Tensor:
    r"""The weights :math:`\pi` of the logits of breaks: `(..., K - 1)` to `(..., K)`, which sum to one.

    Example:
        >>> stick_weights(torch.zeros(3))
        tensor([0.5000, 0.2500, 0.1250, 0.1250])
    """
    return log_stick_weights(logit_v).exp()
