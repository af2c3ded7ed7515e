"""Maxout: layers whose units are each the largest of some linear maps, with dropout between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from .nets import check_size

__all__ = ["Maxout", "MaxoutNet", "uniform_linear"]


class Maxout(nn.Module):
    r"""A layer of units that are each the largest of some linear maps, :math:`h_i = \max_j (W_{ij} x + b_{ij})`.

    Arguments:
        in_features: the length of x.
        out_features: the number of units i.
        pieces: the number of maps j of each.
        init_range: r; weights start uniform on (-r, r), biases at zero.

    References:
        Maxout Networks (Goodfellow, Warde-Farley, Mirza, Courville and Bengio, 2013), arXiv:1302.4389

    Example:
        >>> import torch
        >>> Maxout(784, 240, 5)(torch.zeros(7, 16, 784)).shape
        torch.Size([7, 16, 240])
    """

    def __init__(self, in_features: int, out_features: int, pieces: int, *, init_range: float = 0.005) -> None:
        super().__init__()
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        self.pieces = check_size("pieces", pieces)
        self.maps = uniform_linear(in_features, out_features * pieces, init_range)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.maps(x).unflatten(-1, (self.out_features, self.pieces))  # (..., out_features, pieces)
        return cast(Tensor, maps.max(-1).values)


class MaxoutNet(nn.Sequential):
    """A trunk of maxout layers with dropout before each and after the last: the discriminator of the paper.

    Arguments:
        in_features: the length of x.
        hidden: units and pieces of each layer.
        dropout: the probabilities of dropping an input and a unit.
        init_range: of the weights, also of a head on top, see `Maxout`.

    Raises:
        ValueError: a size is not positive, or a probability not in [0, 1).

    References:
        Generative Adversarial Networks (Goodfellow et al., 2014), arXiv:1406.2661; the sizes are those of the
        authors' `mnist.yaml`

    Example:
        >>> import torch
        >>> MaxoutNet(784)(torch.zeros(16, 784)).shape
        torch.Size([16, 240])
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[tuple[int, int]] = ((240, 5), (240, 5)),
        *,
        dropout: tuple[float, float] = (0.2, 0.5),
        init_range: float = 0.005,
    ) -> None:
        if not all(0.0 <= p < 1.0 for p in dropout):
            raise ValueError(f"`dropout` must be two probabilities in [0, 1), of an input and of a unit, got {dropout}")
        layers: list[nn.Module] = [nn.Dropout(dropout[0])]
        widths = [in_features, *(units for units, _ in hidden)]
        for (before, after), (_, pieces) in zip(pairwise(widths), hidden, strict=True):
            layers += [Maxout(before, after, pieces, init_range=init_range), nn.Dropout(dropout[1])]
        super().__init__(*layers)
        self.in_features, self.out_features, self.init_range = widths[0], widths[-1], init_range

    def make_head(self, out_features: int) -> nn.Module:
        """The last layer, with weights as small as the others."""
        return uniform_linear(self.out_features, out_features, self.init_range)


def uniform_linear(in_features: int, out_features: int, init_range: float) -> nn.Linear:
    """A linear layer with weights uniform on (-r, r) and zero biases."""
    layer = nn.Linear(in_features, out_features)
    nn.init.uniform_(layer.weight, -init_range, init_range)
    nn.init.zeros_(layer.bias)
    return layer
