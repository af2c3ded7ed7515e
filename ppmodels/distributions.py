"""What torch, Pyro and zuko lack between them: one distribution that all of them understand."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from typing import Any, cast

import torch
from pyro.contrib.zuko import ZukoToPyro
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Size, Tensor
from torch.distributions import Distribution, MixtureSameFamily, Transform, constraints

__all__ = ["as_pyro", "as_vector", "is_real", "load_zuko", "map_tensors", "named_tensors"]


def load_zuko() -> Any:
    """Imports zuko and leaves the validation of distributions as it was.

    zuko switches validation off for the whole process. Its other change, an empty
    `Distribution.arg_constraints`, stays: it only silences a warning, which zuko's own classes would raise.

    Raises:
        ImportError: zuko is not installed.
    """
    validate = Distribution._validate_args
    try:
        import zuko
    except ImportError as error:
        raise ImportError(
            "flows need zuko, which is not installed: `pip install 'ppmodels[flows]'`"
        ) from error
    finally:
        Distribution.set_default_validate_args(validate)
    return zuko


def as_pyro(distribution: Distribution) -> Distribution:
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
        return distribution
    new: Distribution = cls.__new__(cls)
    vars(new).update(vars(distribution))
    return new


def as_vector(distribution: Distribution) -> Distribution:
    """The same distribution as one over vectors: a last batch dimension becomes the event."""
    vector: Any = as_pyro(distribution)
    return cast(Distribution, vector.to_event(1 - len(vector.event_shape)))


class _Scored(Distribution):
    """Sampling a flow yields the log density of the draw at no cost; keep it for the next question."""

    _last: tuple[Tensor, Tensor] | None = None
    rsample_and_log_prob: Callable[[Size], tuple[Tensor, Tensor]]
    transform: Transform

    @property
    def support(self) -> constraints.Constraint:
        return self.transform.domain

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        value, log_prob = self.rsample_and_log_prob(Size(sample_shape))
        # without a graph the density would be a constant: wake-sleep asks for its gradient afterwards
        self._last = (value, log_prob) if torch.is_grad_enabled() else None
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        if self._last is not None and value is self._last[0]:
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


def map_tensors(value: Any, function: Callable[[str, Tensor], Tensor], name: str = "") -> Any:
    """A copy of a distribution in which every tensor `t` at `name` is `function(name, t)`.

    Looks into distributions, transforms, constraints, lists, tuples and dictionaries; modules and closures
    are left as they are.
    """
    if isinstance(value, Tensor):
        return function(name, value)
    if isinstance(value, Distribution | Transform | constraints.Constraint) and not isinstance(
        value, torch.nn.Module
    ):
        new = copy.copy(value)
        vars(new).update(map_tensors(dict(vars(new)), function, name))
        return new
    if isinstance(value, dict):
        prefix = f"{name}." if name else ""
        return {key: map_tensors(item, function, f"{prefix}{key}") for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map_tensors(item, function, f"{name}.{i}") for i, item in enumerate(value))
    return value


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
