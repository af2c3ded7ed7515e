"""What torch, Pyro and zuko lack between them: one distribution that all of them understand."""

from __future__ import annotations

import contextlib
import functools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from pyro.contrib.zuko import ZukoToPyro
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Size, Tensor, nn
from torch.distributions import Distribution, MixtureSameFamily, Transform, constraints

__all__ = ["as_pyro", "as_vector", "is_real", "load_zuko", "map_tensors", "named_tensors", "validation"]


def load_zuko() -> Any:
    """Imports zuko and leaves the validation of distributions as it was.

    zuko switches validation off for the whole process. Its other change, an empty
    `Distribution.arg_constraints`, stays: it only silences a warning, which zuko's own classes would raise.

    Raises:
        ImportError: zuko is not installed.
    """
    try:
        with validation():
            import zuko
    except ImportError as error:
        raise ImportError("flows need zuko: `pip install 'ppmodels[flows]'`") from error
    return zuko


@contextlib.contextmanager
def validation(*, enabled: bool | None = None) -> Iterator[None]:
    """Inside, distributions validate or do not; outside, the flag is as it was, whatever happened inside."""
    found = Distribution._validate_args
    try:
        Distribution.set_default_validate_args(found if enabled is None else enabled)
        yield
    finally:
        Distribution.set_default_validate_args(found)


def as_pyro(distribution: Distribution) -> TorchDistribution:
    """The same distribution with Pyro's methods: it can be called, expanded and handed to `pyro.sample`.

    The result is an instance of the class it came from, so closed-form KL divergences are still found. A
    flow (anything with `rsample_and_log_prob`) remembers the log density of its last draw; a mixture says
    on which space it lives; a distribution without `expand` gets Pyro's. Pyro's own come back untouched.

    Arguments:
        distribution: a torch, Pyro or zuko distribution.

    Example:
        >>> from torch.distributions import Normal, kl_divergence
        >>> p = as_pyro(Normal(0.0, 1.0))
        >>> p.expand_by([3]).to_event(1).event_shape
        torch.Size([3])
        >>> isinstance(p, Normal), float(kl_divergence(Normal(1.0, 1.0), p))
        (True, 0.5)
    """
    if isinstance(distribution, ZukoToPyro):  # it has neither `sample` nor `support`
        distribution = distribution.dist
    if not isinstance(distribution, Distribution):
        raise TypeError(f"expected a distribution, got {type(distribution).__name__}")
    cls = _pyro_class(cast(Any, type(distribution)))
    if cls is type(distribution):
        return cast(TorchDistribution, distribution)
    new: TorchDistribution = cls.__new__(cls)
    new.__dict__.update(vars(distribution))
    return new


def as_vector(distribution: Distribution) -> TorchDistribution:
    """The same distribution as one over vectors: a last batch dimension becomes the event."""
    vector: Any = as_pyro(distribution)
    return cast(TorchDistribution, vector if vector.event_dim == 1 else vector.to_event(1 - vector.event_dim))


class _Scored(Distribution):
    """Sampling a flow yields the log density of the draw at no cost; keep it for the next question."""

    _last: tuple[Tensor, Tensor, bool] | None = None  # draw, log density, whether gradients were on
    rsample_and_log_prob: Callable[[Size], tuple[Tensor, Tensor]]
    transform: Transform

    @property
    def support(self) -> constraints.Constraint:
        return self.transform.domain

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        value, log_prob = self.rsample_and_log_prob(Size(sample_shape))
        self._last = (value, log_prob, torch.is_grad_enabled())
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        # without a graph it is a constant: of no use to wake-sleep, which asks for its gradient afterwards
        if self._last is not None and value is self._last[0] and self._last[2] >= torch.is_grad_enabled():
            return self._last[1]
        return super().log_prob(value)


class _CommonSupport(MixtureSameFamily):
    """torch's own constraint for mixtures has no bijection to the reals, so HMC refuses it."""

    @property
    def support(self) -> constraints.Constraint | None:
        support = self.component_distribution.support
        fixed = not any(isinstance(bound, Tensor) for bound in vars(_base(support)).values())
        return support if fixed else super().support


@functools.cache
def _pyro_class(cls: Any) -> Any:
    extras: tuple[type, ...] = ()
    if issubclass(cls, MixtureSameFamily):
        extras = (_CommonSupport,)
    elif hasattr(cls, "rsample_and_log_prob"):
        extras = (_Scored,)
    bases = (*extras, cls, TorchDistributionMixin)
    if all(issubclass(cls, base) for base in bases):
        return cls
    body: dict[str, Any] = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    if cls.expand is Distribution.expand:
        body["expand"] = TorchDistributionMixin.expand
    return types.new_class(cls.__name__, bases, exec_body=lambda namespace: namespace.update(body))


def _base(support: Any) -> Any:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def is_real(support: Any) -> bool:
    """Whether a constraint is the whole real line, in any number of dimensions."""
    return isinstance(_base(support), type(constraints.real))


def map_tensors(value: Any, function: Callable[[str, Tensor], Tensor]) -> Any:
    """A copy of a distribution in which every tensor `t` at `name` is `function(name, t)`.

    Looks into distributions, transforms, constraints, lists, tuples and dictionaries; modules and closures
    are left as they are.
    """
    copies: dict[int, Any] = {}  # a transform and its inverse hold each other

    def copied(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            return function(name.lstrip("."), value)
        if isinstance(value, dict):
            return {key: copied(item, f"{name}.{key}") for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(copied(item, f"{name}.{i}") for i, item in enumerate(value))
        if isinstance(value, weakref.ref):
            return None  # to the inverse of a transform, made again when asked for
        if not isinstance(value, Distribution | Transform | constraints.Constraint) or isinstance(value, nn.Module):
            return value
        if id(value) not in copies:
            copies[id(value)] = new = type(value).__new__(type(value))
            new.__dict__.update(copied(vars(value), name))
        return copies[id(value)]

    return copied(value, "")


def named_tensors(distribution: Distribution) -> dict[str, Tensor]:
    """The tensors a distribution is made of, by the path to each.

    Example:
        >>> import pyro.distributions as dist
        >>> list(named_tensors(dist.Normal(torch.zeros(2), 1.0).to_event(1)))
        ['base_dist.loc', 'base_dist.scale']
    """
    found: dict[str, Tensor] = {}
    map_tensors(distribution, lambda name, tensor: found.setdefault(name, tensor))
    return found
