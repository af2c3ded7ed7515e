"""Priors that are an average of a guide."""

from __future__ import annotations

from typing import Any, cast

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import biject_to, constraints

from ppmodels.distributions import as_pyro
from ppmodels.nets import check_size

from .mixtures import mixture

__all__ = ["VampPrior"]


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
        return mixture(self.unconstrained.new_zeros(len(self.unconstrained)), components)

    def _apply(self, fn: Any, recurse: bool = True) -> VampPrior:  # noqa: FBT001, FBT002
        self._encoder[0]._apply(fn, recurse)
        return cast(VampPrior, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]


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
