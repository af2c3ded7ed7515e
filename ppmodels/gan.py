"""Generative adversarial networks: a sampler without a density, and the discriminator that teaches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .maxout import MaxoutNet, uniform_linear
from .nets import ConvDecoder, ConvEncoder, Trunk, check_size, head
from .priors import UniformPrior, as_prior

__all__ = ["GAN", "ConvDiscriminator", "ConvGenerator", "Discriminator", "paper_gan"]


class GAN(nn.Module):
    r"""A generator: noise from a prior, turned into a datum by a net, :math:`z \sim p(z),\ x = G(z)`.

    What law x has is known by its draws alone. So no bound can judge it and no guide invert it, and given data it
    refuses; it is trained against a `Discriminator` and judged by what it draws.

    Sites: `z` of shape `(n, z_dim)`. Plate: `data`, dimension -1. It returns x, `(n, x_dim)`, as many as `n` says.

    Arguments:
        prior: p(z), anything that `as_prior` takes.
        net: G, a module from `(n, z_dim)` to `(n, x_dim)`.

    Raises:
        TypeError: the prior or the net is not of its kind.
        ValueError: the prior has a wrong shape, the net takes vectors of another length, or data are given.

    References:
        Generative Adversarial Networks (Goodfellow et al., 2014), arXiv:1406.2661

    Example:
        >>> from ppmodels.priors import StandardNormal
        >>> GAN(StandardNormal(2), nn.Linear(2, 5))(n=16).shape
        torch.Size([16, 5])
    """

    def __init__(self, prior: nn.Module | Distribution | Callable[[], Distribution], net: nn.Module) -> None:
        super().__init__()
        if not isinstance(net, nn.Module):
            raise TypeError(f"`net` must be a module from noise to data, such as MLP(2, (64,)), got {net!r}")
        self.prior, self.net = as_prior(prior), net
        z_dim, taken = self.prior().event_shape[0], getattr(net, "in_features", None)
        if taken not in (None, z_dim):
            raise ValueError(f"`net` takes vectors of length {taken}, but the prior draws vectors of length {z_dim}")

    def forward(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Draws `n` data, `(n, x_dim)`."""
        if x is not None:
            raise ValueError(
                f"`{type(self).__name__}` draws data and has no density, so no bound can judge it: got `x`, expected "
                "`n` alone; compare its draws with data by `inference.samples`"
            )
        prior = self.prior()
        with pyro.plate("data", n, dim=-1):
            z = pyro.sample("z", prior)  # (n, z_dim)
        return cast(Tensor, self.net(z))  # (n, x_dim)


class Discriminator(nn.Module):
    r"""Tells data from draws: the logit of the probability that x is a datum, :math:`\log D(x) - \log(1 - D(x))`.

    Where dropout is wanted, it is an option of the net: `MLP(..., dropout=0.3)`, `MaxoutNet(..., dropout=(0.2, 0.5))`.

    Arguments:
        net: a module from `(n, x_dim)` to features `(n, out_features)`, with an attribute `out_features`; the last
            layer, to one number, is put on top of it.

    Raises:
        TypeError: `net` has no `out_features`.

    Example:
        >>> from ppmodels.nets import MLP
        >>> Discriminator(MLP(784, (100,), nn.ReLU, dropout=0.3))(torch.zeros(16, 784)).shape
        torch.Size([16])
    """

    def __init__(self, net: Trunk) -> None:
        super().__init__()
        if not isinstance(net, nn.Module) or not isinstance(getattr(net, "out_features", None), int):
            raise TypeError(f"`net` must be a module with `out_features`, such as MLP(784, (100,)), got {net!r}")
        self.net, self.head = net, head(net, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The logits, `(n, x_dim)` to `(n,)`."""
        return cast(Tensor, self.head(self.net(x))).squeeze(-1)


def paper_gan(x_dim: int, data_mean: Tensor | None = None, *, hidden: int = 1200) -> tuple[GAN, Discriminator]:
    r"""The pair of the paper for grey images: 100-1200-1200 ReLU against two layers of maxout, 240 units of 5 pieces.

    z is uniform on :math:`(-\sqrt 3, \sqrt 3)`, the generator ends in a sigmoid, and before training it draws data
    whose every entry has about the mean that the data have.

    Arguments:
        x_dim: the number of pixels.
        data_mean: the mean of each, in [0, 1], `(x_dim,)`; 1/2 where not given.
        hidden: the width of the generator's two layers.

    Raises:
        ValueError: `data_mean` is of another shape, or not in [0, 1].

    References:
        Generative Adversarial Networks (Goodfellow et al., 2014), arXiv:1406.2661

    Example:
        >>> generator, discriminator = paper_gan(784)
        >>> discriminator(generator(n=16)).shape
        torch.Size([16])
    """
    mean = torch.full((check_size("x_dim", x_dim),), 0.5) if data_mean is None else data_mean
    if mean.shape != (x_dim,) or not bool(((mean >= 0) & (mean <= 1)).all()):
        raise ValueError(
            f"`data_mean` must be {x_dim} numbers from 0 to 1, a pixel's mean each, got {tuple(mean.shape)}"
        )
    widths = [100, check_size("hidden", hidden), hidden, x_dim]
    first, second, last = (uniform_linear(before, after, 0.05) for before, after in pairwise(widths))
    with torch.no_grad():
        last.bias.copy_(mean.double().clamp(1e-7, 1 - 1e-7).logit())
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last, nn.Sigmoid())
    return GAN(UniformPrior(100), net), Discriminator(MaxoutNet(x_dim))


class ConvGenerator(nn.Sequential):
    """A net from noise to square grey images in (0, 1), flat, that doubles height and width layer by layer.

    Arguments:
        z_dim: the length of the noise.
        side: height and width of an image.
        channels: feature maps before each transposed convolution; the last number also of those that make the image.
        batch_norm: normalise before each nonlinearity.

    Example:
        >>> ConvGenerator(16, 28)(torch.zeros(5, 16)).shape
        torch.Size([5, 784])
    """

    def __init__(self, z_dim: int, side: int, channels: Sequence[int] = (64, 32), *, batch_norm: bool = True) -> None:
        trunk = ConvDecoder(z_dim, (channels[-1] // 2 or 1, side, side), channels, batch_norm=batch_norm)
        super().__init__(trunk, head(trunk, side * side), nn.Sigmoid())
        self.in_features, self.out_features = z_dim, side * side


class ConvDiscriminator(Discriminator):
    """A discriminator of square images, flat, that halves height and width layer by layer, with leaky ReLUs.

    Arguments:
        side: height and width of an image.
        channels: feature maps after each convolution.

    Example:
        >>> ConvDiscriminator(28)(torch.zeros(5, 784)).shape
        torch.Size([5])
    """

    def __init__(self, side: int, channels: Sequence[int] = (32, 64)) -> None:
        super().__init__(ConvEncoder((side, side), channels, partial(nn.LeakyReLU, 0.2)))
