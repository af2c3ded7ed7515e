"""Networks that turn vectors into features: the trunks of every conditional.

Flat vectors are the currency: each net maps `(..., in_features)` to `(..., out_features)` and takes any
leading shape, so that particles and data may stand in front of the features as `(K, n, in_features)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol, cast

import torch
from torch import Tensor, nn

__all__ = [
    "MLP",
    "BatchNorm",
    "ConvDecoder",
    "ConvEncoder",
    "ResidualMLP",
    "Trunk",
    "check_size",
    "check_sizes",
    "dense",
    "head",
    "joined",
    "nade_weights",
    "one_hot",
]

Activation = Callable[[], nn.Module]


class Trunk(Protocol):
    """Any module with `out_features`. It may bring its own last layer: `make_head(out_features)`."""

    @property
    def out_features(self) -> int: ...

    def __call__(self, h: Tensor) -> Tensor: ...


def dense(in_features: int, out_features: int, *, gain: float = 1.0) -> nn.Linear:
    """A linear layer with Glorot-uniform weights and zero biases, as in Burda et al. (2016).

    References:
        Understanding the difficulty of training deep feedforward neural networks (Glorot and Bengio, 2010)
    """
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight, gain=gain)
    nn.init.zeros_(layer.bias)
    return layer


def nade_weights(size: int, hidden: int | None = None) -> tuple[Tensor, Tensor]:
    """Where W and V start, `(size, hidden)` each: at Glorot's scale, and at a tenth of it.

    Example:
        >>> W, V = nade_weights(50, 200)
        >>> W.shape, bool(V.abs().max() < 0.1 * (6 / 250) ** 0.5)
        (torch.Size([50, 200]), True)
    """
    shape = size, check_size("hidden", size if hidden is None else hidden)
    W, V = (nn.init.xavier_uniform_(torch.empty(shape), gain=gain) for gain in (1.0, 0.1))
    return W, V


def head(trunk: Trunk, out_features: int) -> nn.Module:
    """The layer from a trunk's features to one parameter of a distribution; it has a `bias`."""
    own = getattr(trunk, "make_head", None)
    return cast(nn.Module, own(out_features)) if callable(own) else dense(trunk.out_features, out_features)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over every leading axis: `(..., num_features)` in and out.

    References:
        Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift
        (Ioffe and Szegedy, 2015), arXiv:1502.03167
    """

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.reshape(-1, self.num_features)).reshape(h.shape)


class MLP(nn.Sequential):
    r"""A trunk of dense layers, :math:`h_{i+1} = a(W_i h_i + b_i)`, dropout after and batch norm before `a`.

    Arguments:
        in_features: width of the input.
        hidden: widths of the layers; `()` is the identity.
        activation: what makes a nonlinearity, such as `nn.Tanh`.
        dropout: the probability of dropping a feature (Srivastava et al., 2014).
        batch_norm: normalise before each nonlinearity.
        gain: how much larger the weights of the first layer begin, for inputs that are not of size about one.

    Example:
        >>> trunk = MLP(784, (200, 100))
        >>> trunk.in_features, trunk.out_features, trunk(torch.zeros(5, 32, 784)).shape
        (784, 100, torch.Size([5, 32, 100]))
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (200, 200),
        activation: Activation = nn.Tanh,
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        gain: float = 1.0,
    ) -> None:
        widths = (check_size("in_features", in_features), *check_sizes("hidden", hidden))
        if not 0.0 < gain < math.inf:
            raise ValueError(f"`gain` must be a positive number, got {gain}")
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            norm = BatchNorm(after) if batch_norm else None
            layers += [dense(before, after, gain=1.0 if layers else gain), *_nonlinearity(activation, norm, dropout)]
        super().__init__(*layers)
        self.in_features, self.out_features = widths[0], widths[-1]


class ResidualMLP(nn.Module):
    r"""A trunk of residual blocks, :math:`h_{i+1} = h_i + W' a(W a(h_i))`, that may be made very deep.

    The second layer of each of the `B` blocks starts at :math:`1/\sqrt{B}` of the usual size, so that the
    output of an untrained net does not grow with its depth.

    Arguments:
        in_features: width of the input.
        width: width of every block.
        blocks: number of blocks.
        activation: what makes a nonlinearity.
        dropout: the probability of dropping a feature.
        batch_norm: normalise before each nonlinearity.

    References:
        Identity Mappings in Deep Residual Networks (He et al., 2016), arXiv:1603.05027
    """

    def __init__(
        self,
        in_features: int,
        width: int = 200,
        blocks: int = 2,
        activation: Activation = nn.Tanh,
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("width", width)
        self.input = dense(in_features, width)
        self.blocks = nn.ModuleList()
        for _ in range(check_size("blocks", blocks)):
            first, second = (BatchNorm(width), BatchNorm(width)) if batch_norm else (None, None)
            block = [*_nonlinearity(activation, first, dropout), dense(width, width)]
            block += [*_nonlinearity(activation, second, dropout), dense(width, width, gain=blocks**-0.5)]
            self.blocks.append(nn.Sequential(*block))
        self.output = activation()

    def forward(self, h: Tensor) -> Tensor:
        h = self.input(h)  # (..., width)
        for block in self.blocks:
            h = h + block(h)
        return cast(Tensor, self.output(h))


class ConvEncoder(nn.Module):
    """A trunk for images: flat `(..., x_dim)` in, features out; each layer halves height and width.

    Arguments:
        shape: `(height, width)` or `(colours, height, width)` of an image.
        channels: number of feature maps of each 3x3 convolution of stride 2.
        activation: what makes a nonlinearity.
        batch_norm: normalise before each nonlinearity.

    Example:
        >>> trunk = ConvEncoder((28, 28), (16, 32))
        >>> trunk.in_features, trunk.out_features, trunk(torch.zeros(5, 3, 784)).shape
        (784, 1568, torch.Size([5, 3, 1568]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        activation: Activation = nn.ReLU,
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.shape = _image_shape(shape)
        maps = (self.shape[0], *check_sizes("channels", channels))
        layers: list[nn.Module] = []
        for before, after in pairwise(maps):
            layers.append(_he(nn.Conv2d(before, after, 3, stride=2, padding=1), terms=9 * before))
            layers += _nonlinearity(activation, nn.BatchNorm2d(after) if batch_norm else None)
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.in_features = math.prod(self.shape)
        self.out_features = maps[-1] * math.prod(_halved(self.shape, len(channels))[-1])

    def forward(self, h: Tensor) -> Tensor:
        images = h.reshape(-1, *self.shape)  # (prod(...), colours, height, width)
        return cast(Tensor, self.layers(images)).reshape(*h.shape[:-1], self.out_features)


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`: features in, flat `(..., prod(shape))` out.

    As the trunk of a conditional it brings its own head, with a bias per pixel: give it some feature maps,
    `(16, 28, 28)`, and the head is a nonlinearity and a 1x1 convolution to each parameter of the image; give it
    the shape of the image itself, and the head starts as the identity.

    Arguments:
        in_features: width of the input.
        shape: `(height, width)` or `(maps, height, width)` of what comes out.
        channels: number of feature maps before each transposed convolution of stride 2.
        activation: what makes a nonlinearity.
        batch_norm: normalise before each nonlinearity.

    Example:
        >>> trunk = ConvDecoder(50, (16, 28, 28))
        >>> trunk(torch.zeros(5, 3, 50)).shape, head(trunk, 784)(trunk(torch.zeros(5, 3, 50))).shape
        (torch.Size([5, 3, 12544]), torch.Size([5, 3, 784]))
    """

    def __init__(
        self,
        in_features: int,
        shape: Sequence[int],
        channels: Sequence[int] = (64, 32),
        activation: Activation = nn.ReLU,
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.shape = _image_shape(shape)
        sizes = _halved(self.shape, len(channels))[::-1]  # small to large
        maps = (*check_sizes("channels", channels), self.shape[0])
        layers: list[nn.Module] = [nn.Unflatten(-1, (maps[0], *sizes[0]))]
        for (before, after), (small, large) in zip(pairwise(maps), pairwise(sizes), strict=True):
            layers += _nonlinearity(activation, nn.BatchNorm2d(before) if batch_norm else None)
            odd = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)  # 0 where the size is odd
            up = nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=odd)
            layers.append(_he(up, terms=9 / 4 * before))  # a stride of 2 leaves a quarter of the kernel
        self.activation = activation
        self.input = nn.Linear(check_size("in_features", in_features), maps[0] * math.prod(sizes[0]))
        _he(self.input, terms=2 * in_features)  # of no ReLU's making: half is not lost
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.in_features, self.out_features = in_features, math.prod(self.shape)

    def forward(self, h: Tensor) -> Tensor:
        small = self.input(h).reshape(-1, self.input.out_features)  # (prod(...), maps * height * width)
        return cast(Tensor, self.layers(small)).reshape(*h.shape[:-1], self.out_features)

    def make_head(self, out_features: int) -> nn.Module:
        """The last layer of a conditional on this trunk: so many numbers, a whole number per pixel."""
        return _PixelHead(self.shape, out_features, self.activation)


class _PixelHead(nn.Module):
    """The same linear map at each pixel, `(..., maps * pixels)` to `(..., out_features)`, and a bias."""

    def __init__(self, shape: Sequence[int], out_features: int, activation: Activation) -> None:
        super().__init__()
        maps, pixels = shape[0], shape[1] * shape[2]
        if out_features % pixels:
            raise ValueError(
                f"`out_features` must be a multiple of the {pixels} pixels that the ConvDecoder makes, "
                f"got {out_features}; give the decoder the height and width of the data"
            )
        self.maps, colours = maps, out_features // pixels
        same = colours == maps
        self.activation = nn.Identity() if same else activation()
        self.weight = nn.Parameter(torch.eye(maps) if same else nn.init.xavier_uniform_(torch.empty(colours, maps)))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, h: Tensor) -> Tensor:
        maps = self.activation(h).reshape(*h.shape[:-1], self.maps, -1)  # (..., maps, pixels)
        return torch.flatten(self.weight @ maps, -2) + self.bias


def _nonlinearity(activation: Activation, norm: nn.Module | None, dropout: float = 0.0) -> list[nn.Module]:
    if isinstance(activation, nn.Module) or not callable(activation):
        raise TypeError(f"`activation` must make a module, as nn.Tanh does, got {activation!r}: leave out `()`")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"`dropout` must be a probability in [0, 1), got {dropout}")
    return [*([norm] if norm else []), activation(), *([nn.Dropout(dropout)] if dropout else [])]


def _he(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, *, terms: float) -> nn.Module:
    """He-uniform weights, which keep the size of a signal through ReLUs; so many terms make one output."""
    nn.init.uniform_(layer.weight, -math.sqrt(6 / terms), math.sqrt(6 / terms))
    nn.init.zeros_(cast(Tensor, layer.bias))
    return layer


def _halved(shape: Sequence[int], times: int) -> list[tuple[int, int]]:
    sizes = [(shape[-2], shape[-1])]
    for _ in range(times):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def _image_shape(shape: Sequence[int]) -> tuple[int, ...]:
    sizes = check_sizes("shape", shape)
    if len(sizes) not in (2, 3):
        raise ValueError(f"`shape` must be (height, width) or (maps, height, width), got {sizes}")
    return (1, *sizes)[-3:]


def check_sizes(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """The argument `name`, refused unless it is a sequence of positive integers."""
    if isinstance(values, int):
        raise TypeError(f"`{name}` must be a sequence of integers, such as ({values},), got {values}")
    return tuple(check_size(name, value) for value in values)


def check_size(name: str, value: int, *, least: int = 1) -> int:
    """The argument `name`, refused unless it is an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}` must be an integer, at least {least}, got {value!r}")
    return value


def one_hot(y: Tensor, classes: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Classes as vectors, `(...)` to `(..., classes)`, without reading their values; a class out of range is all zero.

    Example:
        >>> one_hot(torch.tensor([2, 0]), 3)
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
    """
    return (y.unsqueeze(-1) == torch.arange(classes, device=y.device)).to(dtype or torch.get_default_dtype())


def joined(*parts: Tensor) -> Tensor:
    """Vectors side by side, `(..., a)` and `(..., b)` to `(..., a + b)`; leading axes are broadcast.

    Example:
        >>> joined(torch.zeros(7, 1, 1, 3), torch.zeros(5, 32, 2)).shape
        torch.Size([7, 5, 32, 5])
    """
    leading = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*leading, part.shape[-1]) for part in parts], -1)
