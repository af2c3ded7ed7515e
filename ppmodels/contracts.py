r"""The four kinds of model, and what a prior, a guide and a dataset promise.

Nothing here is a base class: these are protocols, so any Pyro callable, any module and any object of the
right shape is as good as ours. A checker of types reads them; a person reads the docstrings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution

__all__ = ["Batch", "Data", "Directed", "Energy", "Guide", "Implicit", "Prior", "Program", "Transition"]

Program: TypeAlias = Callable[..., Any]
"""Any Pyro callable: a function, a bound method, a module."""

Batch: TypeAlias = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
"""What a pair is called with: `model(x)`, `model(*batch)` or `model(**batch)`; the first axis is the data."""


@runtime_checkable
class Directed(Protocol):
    r"""A generative story :math:`p(x, z) = p(z)\, p(x \mid z)` told as a Pyro program.

    Local latents and the data are sampled inside `pyro.plate("data", n, dim=-1)`, event dimensions to the
    right of it. `x` is observed where given and drawn where `None`; then `n` says how many. Side information
    (labels, missing values) comes as further keyword arguments, `None` where absent. Parameters live in the
    module and exist after construction.
    """

    def __call__(self, x: Tensor | None = None, *, n: int = 1) -> Any: ...


@runtime_checkable
class Guide(Protocol):
    r"""A second story over the same latent sites, :math:`q(z \mid x)`, in the same plate."""

    def __call__(self, x: Tensor) -> Any: ...


@runtime_checkable
class Energy(Protocol):
    r"""An undirected model :math:`p(v, h) \propto \exp(-E(v, h))`; the normaliser is somebody else's work."""

    def energy(self, v: Tensor, h: Tensor) -> Tensor: ...

    def free_energy(self, v: Tensor) -> Tensor: ...


@runtime_checkable
class Implicit(Protocol):
    """A sampler without a density: `model(n=...)` draws `(n, x_dim)`; every bound refuses it by name."""

    def __call__(self, *, n: int) -> Tensor: ...


@runtime_checkable
class Transition(Protocol):
    r"""One learned Markov operator: `q` corrupts a state at step `t`, `p` restores it."""

    def q(self, state: Tensor, t: Tensor) -> Distribution: ...

    def p(self, state: Tensor, t: Tensor) -> Distribution: ...


@runtime_checkable
class Prior(Protocol):
    """A callable that returns a distribution over one latent, `event_shape == (z_dim,)`, `batch_shape == ()`.

    The same object is used in training, sampling, evaluation and MCMC. See `ppmodels.priors.check_prior`.
    """

    def __call__(self) -> Distribution: ...


@runtime_checkable
class Data(Protocol):
    """A dataset that lives on a device and is read by index.

    `batch(index)` returns what the pair is called with; it may draw noise (dynamic binarisation) from torch's
    global generator, so a seed makes it reproducible. `describe()` is plain JSON for the manifest: at least
    `name`, `protocol`, `n` and `sha256`.
    """

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Batch: ...

    def describe(self) -> dict[str, Any]: ...
