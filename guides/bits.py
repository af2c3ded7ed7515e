"""Guides over layers of bits, bottom-up: the recognition side of a Helmholtz machine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ppmodels.bits import ConditionalNADE
from ppmodels.conditionals import ConditionalBernoulli
from ppmodels.nets import MLP, Activation, check_size, check_sizes

from .amortized import Amortized

__all__ = ["AutoregressiveBernoulli", "MeanFieldBernoulli"]


class MeanFieldBernoulli(Amortized):
    r"""Bits independent of each other given the layer below.

    .. math:: q(z \mid x) = \prod_l \mathrm{Bernoulli}(z_l;\, \sigma(R_l z_{l-1} + c_l)), \qquad z_0 = x

    Sites: `z1`, `z2`, ... from the data up, each `(n, widths[l])`; `z` where there is one. Plate: `data`, dimension -1.

    Arguments:
        x_dim: the length of a datum.
        widths: bits in each layer, from the data up, as the model's.
        hidden: widths of a net between two layers.
        activation: what makes a nonlinearity of that net.

    Raises:
        ValueError: there is no layer, or a width is not positive.

    References:
        The Helmholtz Machine (Dayan, Hinton, Neal and Zemel, 1995)

    Example:
        >>> import torch
        >>> guide = MeanFieldBernoulli(784, (200, 100))
        >>> guide.sites, guide(torch.zeros(32, 784)).shape
        (('z1', 'z2'), torch.Size([32, 100]))
    """

    def __init__(
        self, x_dim: int, widths: Sequence[int], *, hidden: Sequence[int] = (), activation: Activation = nn.Tanh
    ) -> None:
        pairs = pairwise((check_size("x_dim", x_dim), *check_sizes("widths", widths)))
        super().__init__([ConditionalBernoulli(MLP(below, hidden, activation), here) for below, here in pairs])


class AutoregressiveBernoulli(Amortized):
    r"""Bits given the layer below and the bits of their own layer before them, `ConditionalNADE`s in a chain.

    .. math:: q(z \mid x) = \prod_l \prod_i q(z_{li} \mid z_{l,<i}, z_{l-1}), \qquad z_0 = x

    Where causes explain each other away no independent bits will do. A draw takes as many steps as a layer has bits,
    a density a sixteenth of them.

    Sites and plate: those of `MeanFieldBernoulli`.

    Arguments:
        x_dim: the length of a datum.
        widths: bits in each layer, from the data up, as the model's.
        features: hidden units of each NADE; as many as the layer has bits where not given.
        hidden: widths of a net between two layers.
        activation: what makes a nonlinearity of that net.

    Raises:
        ValueError: there is no layer, or a width is not positive.

    References:
        Reweighted Wake-Sleep (Bornschein and Bengio, 2015), arXiv:1406.2751, for NADE in recognition

    Example:
        >>> import torch
        >>> guide = AutoregressiveBernoulli(64, (20, 10))
        >>> guide.sites, guide(torch.zeros(32, 64)).shape
        (('z1', 'z2'), torch.Size([32, 10]))
    """

    def __init__(
        self,
        x_dim: int,
        widths: Sequence[int],
        *,
        features: int | None = None,
        hidden: Sequence[int] = (),
        activation: Activation = nn.Tanh,
    ) -> None:
        if features is not None:
            check_size("features", features)
        pairs = pairwise((check_size("x_dim", x_dim), *check_sizes("widths", widths)))
        super().__init__([ConditionalNADE(MLP(below, hidden, activation), here, features) for below, here in pairs])
