"""Anything that is or makes a distribution, turned into a module that moves, saves and trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution

from ppmodels.distributions import as_pyro, map_tensors, named_tensors, validation

__all__ = ["Held", "as_prior", "refuse_gradients"]


def as_prior(prior: nn.Module | Distribution | Callable[[], Distribution]) -> nn.Module:
    """A prior as every model wants it: a module whose call returns a Pyro distribution over one latent.

    - A **module** whose call returns a Pyro distribution is handed back as it is; one that returns a torch
      or zuko distribution (a zuko flow, say) is wrapped.
    - The tensors of a **distribution** become buffers: they move with `.to` and stand in the `state_dict`.
    - A **function** is called each time; what it returns is moved to where the model is.

    Neither of the last two can carry parameters. A distribution is built once, so its graph is gone after
    the first step; and nobody finds, trains or saves a tensor that a function hides. Write a module then.

    Arguments:
        prior: a module, a torch, Pyro or zuko distribution, or a function without arguments.

    Raises:
        TypeError: `prior` is none of these, or its call returns something else.
        ValueError: the distribution has another shape than batch `()` and event `(z_dim,)`, or a distribution
            or function needs gradients.

    Example:
        >>> from torch.distributions import Independent, Laplace
        >>> prior = as_prior(Independent(Laplace(torch.zeros(5), torch.ones(5)), 1)).double()
        >>> prior().event_shape, prior()().dtype, list(prior.state_dict())
        (torch.Size([5]), torch.float64, ['base_dist_loc', 'base_dist_scale'])
    """
    if not isinstance(prior, Distribution) and not callable(prior):
        raise TypeError(
            "`prior` must be a module, a distribution or a function that returns one, such as "
            f"StandardNormal(50), got {type(prior).__name__}"
        )
    distribution = prior if isinstance(prior, Distribution) else prior()
    _check_shape(distribution)
    if isinstance(prior, nn.Module):
        return prior if as_pyro(distribution) is distribution else _ModulePrior(prior)
    if isinstance(prior, Distribution):
        return Held(distribution)
    return _FunctionPrior(prior, distribution)


class _ModulePrior(nn.Module):
    """A module that returns a torch or zuko distribution."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self) -> TorchDistribution:
        return as_pyro(self.module())


class Held(nn.Module):
    """A distribution as a template, its tensors as buffers; each call fills the template anew."""

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        self._template = distribution = as_pyro(distribution)
        refuse_gradients(distribution, "an object built once, whose graph is gone after the first step")
        for name, tensor in named_tensors(distribution).items():
            self.register_buffer(name.replace(".", "_"), tensor.detach().clone())

    def forward(self) -> TorchDistribution:
        buffers = dict(self.named_buffers())
        return as_pyro(map_tensors(self._template, lambda name, _: buffers[name.replace(".", "_")]))

    def extra_repr(self) -> str:
        return repr(self._template)


class _FunctionPrior(nn.Module):
    """A function that returns a distribution; an empty buffer knows the device and the dtype."""

    _like: Tensor

    def __init__(self, function: Callable[[], Distribution], distribution: Distribution) -> None:
        super().__init__()
        refuse_gradients(distribution, "a function, and nobody finds the parameters that a function hides")
        floats = [t for t in named_tensors(distribution).values() if t.is_floating_point()]
        self.register_buffer("_like", (floats[0] if floats else torch.zeros(0)).new_empty(0), persistent=False)
        self._function = function

    def forward(self) -> TorchDistribution:
        return as_pyro(map_tensors(self._function(), self._move))

    def _move(self, name: str, tensor: Tensor) -> Tensor:
        return tensor.to(self._like.device, self._like.dtype if tensor.is_floating_point() else None)

    def extra_repr(self) -> str:
        return repr(self._function)


def _check_shape(distribution: Any) -> None:
    if not isinstance(distribution, Distribution):
        raise TypeError(f"`prior` must return a distribution when called, got {type(distribution).__name__}")
    batch, event = tuple(distribution.batch_shape), tuple(distribution.event_shape)
    if batch == () and len(event) == 1:
        return
    advice = "the model repeats it over the data by itself"
    if len(batch) + len(event) == 1:
        advice = "make its entries one event, with `.to_event(1)` (Pyro) or `Independent(..., 1)` (torch)"
    elif not batch + event:
        advice = "a latent of one entry has event_shape (1,)"
    raise ValueError(
        "`prior` must be a distribution over one latent vector, batch_shape () and event_shape (z_dim,), "
        f"got batch_shape {batch} and event_shape {event}: {advice}"
    )


def refuse_gradients(distribution: Distribution, reason: str, argument: str = "prior") -> None:
    """Refuses what depends on parameters, and is no module to own them."""
    needing = [name for name, tensor in named_tensors(distribution).items() if tensor.requires_grad]
    with torch.enable_grad(), validation(enabled=False):
        value = cast(Any, as_pyro(distribution))().detach()
        if not needing and not distribution.log_prob(value).requires_grad:
            return
    raise ValueError(
        f"`{argument}` has parameters to learn ({', '.join(needing) or 'inside'}), but it is {reason}: pass a "
        "module that makes the distribution in its forward, `flow` and not `flow()`, or for a normal "
        "`priors.Normal(loc, scale, learned=True)`"
    )
