"""Priors over vectors of bits."""

from __future__ import annotations

from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ppmodels.distributions import as_vector
from ppmodels.nade import NADELaw
from ppmodels.nets import check_size, nade_weights

from .settings import hold

__all__ = ["BernoulliPrior", "NADEPrior"]


class BernoulliPrior(nn.Module):
    r"""Independent bits, :math:`p(z) = \prod_i \operatorname{Bernoulli}(z_i;\, \sigma(b_i))`.

    The guide's side is a `ConditionalBernoulli` or a `ConditionalNADE`. Draws carry no gradient, so take an estimator
    that needs none, as for `CategoricalPrior`.

    Arguments:
        z_dim: the length of `z`.
        logits: :math:`b`, `(z_dim,)`; where they start, if they are learned. Zeros where not given: even odds. The
            authors' code of Reweighted Wake-Sleep starts at -1, which is few bits on.
        learned: whether the logits are a parameter; otherwise they are a buffer.

    Raises:
        ValueError: `z_dim` is not positive, or `logits` has another shape.

    References:
        Reweighted Wake-Sleep (Bornschein and Bengio, 2015), arXiv:1406.2751

    Example:
        >>> prior = BernoulliPrior(200, logits=torch.full((200,), -1.0))
        >>> prior().event_shape, prior().log_prob(torch.zeros(200))
        (torch.Size([200]), tensor(-62.6523, grad_fn=<...>))
    """

    logits: Tensor

    def __init__(self, z_dim: int, *, logits: Tensor | None = None, learned: bool = True) -> None:
        super().__init__()
        logits = torch.zeros(check_size("z_dim", z_dim)) if logits is None else logits
        if logits.shape != (z_dim,):
            raise ValueError(f"`logits` must have shape ({z_dim},), one for each bit, got {tuple(logits.shape)}")
        hold(self, learned=learned, logits=logits)

    def forward(self) -> TorchDistribution:
        return as_vector(cast(Any, dist.Bernoulli(logits=self.logits)))


class NADEPrior(nn.Module):
    r"""Bits that depend on each other, :math:`p(z) = \prod_i p(z_i \mid z_{<i})`, by one hidden layer; see `NADELaw`.

    It starts at nearly even odds and nearly independent. A density takes one pass, a draw `z_dim` steps.

    Arguments:
        z_dim: the length of `z`.
        hidden: the number of hidden units, by default as many as `z` has bits.

    Raises:
        ValueError: a size is not positive.

    References:
        The Neural Autoregressive Distribution Estimator (Larochelle and Murray, 2011)
        Reweighted Wake-Sleep (Bornschein and Bengio, 2015), arXiv:1406.2751, for it above layers of bits

    Example:
        >>> prior = NADEPrior(20, 50)
        >>> prior()().shape, prior().log_prob(torch.zeros(7, 20)).shape
        (torch.Size([20]), torch.Size([7]))
    """

    logits: Tensor
    features: Tensor
    W: Tensor
    V: Tensor

    def __init__(self, z_dim: int, hidden: int | None = None) -> None:
        super().__init__()
        W, V = nade_weights(check_size("z_dim", z_dim), hidden)
        hold(self, learned=True, logits=torch.zeros(z_dim), features=torch.zeros(W.shape[-1]), W=W, V=V)

    def forward(self) -> TorchDistribution:
        return NADELaw(self.logits, self.features, self.W, self.V)
