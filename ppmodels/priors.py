r"""Priors over one latent: modules whose call returns a distribution, `event_shape == (z_dim,)`.

Any module, function or distribution of that shape is as good as these (`as_prior`), and `check_prior` says
whether it is sound. One of your own, with parameters, in full:

>>> class LearnedLaplace(nn.Module):
...     def __init__(self, z_dim):
...         super().__init__()
...         self.log_scale = nn.Parameter(torch.zeros(z_dim))
...
...     def forward(self):
...         return dist.Laplace(torch.zeros_like(self.log_scale), self.log_scale.exp()).to_event(1)
>>> check_prior(LearnedLaplace(5)).ok
True
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution, biject_to, constraints

from .distributions import as_pyro, as_vector, load_zuko
from .nets import check_size, check_sizes
from .prior_adapters import as_prior
from .prior_check import PriorReport, check_prior

__all__ = [
    "FlowPrior",
    "GaussianMixture",
    "Normal",
    "PriorReport",
    "StandardNormal",
    "VampPrior",
    "as_prior",
    "check_prior",
]


class Normal(nn.Module):
    r"""A diagonal normal, :math:`p(z) = \mathcal{N}(z;\, \mu, \operatorname{diag} \sigma^2)`.

    Arguments:
        loc: the location :math:`\mu`, `(z_dim,)`.
        scale: the scale :math:`\sigma`, a number or `(z_dim,)`.
        learned: whether both are parameters; otherwise they are buffers.

    Raises:
        ValueError: `loc` is no vector, or `scale` is not positive or of another length.

    Example:
        >>> prior = Normal(torch.zeros(5), 2.0)
        >>> prior().event_shape, float(prior().log_prob(torch.zeros(5)))
        (torch.Size([5]), -8.060428619384766)
    """

    loc: Tensor
    log_scale: Tensor

    def __init__(self, loc: Tensor, scale: float | Tensor, *, learned: bool = False) -> None:
        super().__init__()
        if loc.ndim != 1 or not len(loc):
            raise ValueError(f"`loc` must be a vector of shape (z_dim,), got shape {tuple(loc.shape)}")
        scale = torch.as_tensor(scale, dtype=loc.dtype, device=loc.device)
        if scale.shape not in ((), loc.shape) or not bool((scale > 0).all()):
            raise ValueError(f"`scale` must be one positive number or {len(loc)} of them, got {scale}")
        for name, value in {"loc": loc, "log_scale": scale.log().expand_as(loc)}.items():
            value = value.detach().clone()
            if learned:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self) -> TorchDistribution:
        return _normal(self.loc, self.log_scale)


class StandardNormal(Normal):
    r"""The usual prior, :math:`p(z) = \mathcal{N}(z;\, 0, I)`.

    Arguments:
        z_dim: the length of `z`.

    Example:
        >>> StandardNormal(50)().event_shape
        torch.Size([50])
    """

    def __init__(self, z_dim: int) -> None:
        super().__init__(torch.zeros(check_size("z_dim", z_dim)), 1.0)


class GaussianMixture(nn.Module):
    r"""A learned mixture of diagonal normals,
    :math:`p(z) = \sum_c \pi_c\, \mathcal{N}(z;\, \mu_c, \operatorname{diag} \sigma_c^2)`.

    The locations start on a scrambled Sobol sequence pushed through the normal quantile function, which is
    more even than chance in any number of dimensions, and are scaled so that the mixture starts with mean 0
    and variance 1 in each coordinate, where a net that was made for N(0, I) expects it.

    Arguments:
        z_dim: the length of `z`.
        components: the number of normals.
        spread: how much of the starting variance lies between the locations, in [0, 1).

    Example:
        >>> prior = GaussianMixture(5, 10)
        >>> prior()().shape, prior.loc.shape
        (torch.Size([5]), torch.Size([10, 5]))
    """

    def __init__(self, z_dim: int, components: int, *, spread: float = 0.75) -> None:
        super().__init__()
        check_size("components", components)
        if not 0.0 <= spread < 1.0:
            raise ValueError(f"`spread` is a share of the variance, in [0, 1), got {spread}")
        spread = spread if components > 1 else 0.0
        loc = _even_normal(components, check_size("z_dim", z_dim)) * spread**0.5  # (components, z_dim)
        self.loc = nn.Parameter(loc)
        self.log_scale = nn.Parameter(torch.full_like(loc, 1.0 - spread).log() / 2)
        self.logits = nn.Parameter(torch.zeros(components))

    def forward(self) -> TorchDistribution:
        return _mixture(self.logits, _normal(self.loc, self.log_scale))


class VampPrior(nn.Module):
    r"""The encoder's average over learned inputs, :math:`p(z) = \frac{1}{C} \sum_c q(z \mid u_c)`.

    It takes the very conditional that the guide uses, so the encoder's parameters have two uses and one
    owner: the guide. Here they are neither registered nor saved, and stand once in every optimiser and
    checkpoint; gradients reach them through the prior, `.to` moves them along, `train` and `eval` are the
    guide's to say. Hence copy and save the pair together, `copy.deepcopy((model, guide))`: a model copied
    alone keeps an encoder of its own.

    Arguments:
        encoder: the conditional :math:`q(z \mid x)`, such as `guide.layers[0]`. For the top of several
            layers, the last: the inputs then live in the space of the layer below.
        components: the number `C` of inputs, where `inputs` is not given.
        inputs: where the inputs start, `(C, x_dim)`: a few hundred data. Else standard normal noise.
        support: where the inputs live; `constraints.unit_interval` for images.

    Raises:
        TypeError: `encoder` is no module.
        ValueError: not exactly one of `components` and `inputs` is given, or they have a wrong shape.

    References:
        VAE with a VampPrior (Tomczak and Welling, 2018), arXiv:1705.07120

    Example:
        >>> from ppmodels.conditionals import ConditionalNormal
        >>> from ppmodels.nets import MLP
        >>> q = ConditionalNormal(MLP(784), 50)
        >>> prior = VampPrior(q, 20, support=constraints.unit_interval)
        >>> prior().event_shape, list(prior.state_dict())
        (torch.Size([50]), ['unconstrained'])
    """

    def __init__(
        self,
        encoder: nn.Module,
        components: int | None = None,
        *,
        inputs: Tensor | None = None,
        support: constraints.Constraint = constraints.real,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module):
            raise TypeError(f"`encoder` must be a conditional q(z | x), got {type(encoder).__name__}")
        if (components is None) == (inputs is None):
            raise ValueError("give either `components`, how many inputs, or `inputs`, where they start")
        self._encoder = (encoder,)  # a tuple hides it from registration: the guide owns it
        self.support = support
        start = _noise(encoder, components) if inputs is None else _unconstrain(inputs, support)
        x_dim = getattr(encoder, "in_features", None)
        if start.ndim != 2 or x_dim not in (None, start.shape[-1]):
            raise ValueError(f"`inputs` must have shape (components, {x_dim or 'x_dim'}), got {tuple(start.shape)}")
        self.unconstrained = nn.Parameter(start)  # (C, x_dim)

    @property
    def inputs(self) -> Tensor:
        """The learned inputs, `(C, x_dim)`."""
        return cast(Tensor, biject_to(self.support)(self.unconstrained))

    def forward(self) -> TorchDistribution:
        components = as_pyro(self._encoder[0](self.inputs))  # batch (C,), event (z_dim,)
        return _mixture(self.unconstrained.new_zeros(len(self.unconstrained)), components)

    def _apply(self, fn: Any, recurse: bool = True) -> VampPrior:  # noqa: FBT001, FBT002
        self._encoder[0]._apply(fn, recurse)
        return cast(VampPrior, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]


class FlowPrior(nn.Module):
    r"""A neural spline flow, :math:`p(z) = \mathcal{N}(T(z);\, 0, I)\, |\det \partial T / \partial z|`.

    A prior is asked for the density of latents that the guide drew, so that direction is the cheap one here:
    one pass of each transform's net, however large `z_dim`. A draw takes `passes` passes.

    Arguments:
        z_dim: the length of `z`.
        transforms: the number of autoregressive spline transforms.
        hidden: widths of the net of each.
        bins: pieces of each spline, which live on [-5, 5]; outside the flow is the identity.
        passes: how many passes a draw takes: `z_dim` where `None`; 2 makes the transforms couplings.

    Raises:
        ImportError: zuko is not installed.

    References:
        Neural Spline Flows (Durkan et al., 2019), arXiv:1906.04032
        Variational Lossy Autoencoder (Chen et al., 2017), arXiv:1611.02731, for flows as priors

    Example:
        >>> prior = FlowPrior(5)
        >>> prior()().shape
        torch.Size([5])
    """

    def __init__(
        self,
        z_dim: int,
        *,
        transforms: int = 3,
        hidden: Sequence[int] = (64, 64),
        bins: int = 8,
        passes: int | None = None,
    ) -> None:
        super().__init__()
        self.flow = load_zuko().flows.NSF(
            check_size("z_dim", z_dim),
            bins=check_size("bins", bins, least=2),
            transforms=check_size("transforms", transforms),
            hidden_features=check_sizes("hidden", hidden),
            passes=passes,
        )

    def forward(self) -> TorchDistribution:
        return as_pyro(self.flow())


def _normal(loc: Tensor, log_scale: Tensor) -> TorchDistribution:
    return as_vector(dist.Normal(loc, log_scale.exp()))


def _mixture(logits: Tensor, components: Distribution) -> TorchDistribution:
    return as_pyro(dist.MixtureSameFamily(dist.Categorical(logits=logits), components))


def _even_normal(rows: int, columns: int) -> Tensor:
    """Points that fill a normal evenly, `(rows, columns)`, each column with mean 0 and variance 1."""
    sequence: Any = torch.quasirandom.SobolEngine(columns, scramble=True)
    points: Tensor = torch.special.ndtri(sequence.draw(rows).clamp(1e-6, 1 - 1e-6))
    return (points - points.mean(0)) / points.std(0, correction=0).clamp(min=1e-6)


def _noise(encoder: nn.Module, components: Any) -> Tensor:
    x_dim = getattr(encoder, "in_features", None)
    if x_dim is None:
        raise ValueError(f"{type(encoder).__name__} does not say its `in_features`: give `inputs`, not `components`")
    return torch.randn(check_size("components", components), x_dim)


def _unconstrain(inputs: Tensor, support: constraints.Constraint) -> Tensor:
    """Inputs in free coordinates; those on the edge of an interval, as binary pixels are, move inside."""
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    inputs = inputs.detach().clone()
    if low is not None and high is not None:
        margin = 0.01 * (high - low)
        inputs = inputs.clamp(low + margin, high - margin)
    return cast(Tensor, biject_to(support).inv(inputs))
