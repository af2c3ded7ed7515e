r"""The four kinds of model, and what a prior, a guide and a dataset promise.

Nothing here is a base class: these are protocols, so any Pyro callable, any module and any object of the
right shape is as good as ours. A checker of types reads them; a person reads the docstrings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution

__all__ = [
    "AnnealingPath",
    "Batch",
    "Data",
    "Directed",
    "Energy",
    "Guide",
    "Implicit",
    "Prior",
    "Program",
    "RestrictedEnergy",
    "SweptEnergy",
    "Transition",
]

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
    r"""An undirected model :math:`p(v, h) \propto \exp(-E(v, h))`; the normaliser is somebody else's work.

    `energy(v, h)` and `free_energy(v)`, :math:`F(v) = -\log \sum_h e^{-E(v, h)}`, give one value per row, in nats.
    `sides()` lists what can be enumerated to normalise it: pairs of a number of bits and a function of the numbers of
    some of their states, from 0, that gives minus the log of what is left when all else is summed or integrated out;
    `path()` leads from a law of known normaliser to the model's. See `inference.partition`.
    """

    def energy(self, v: Tensor, h: Tensor) -> Tensor: ...

    def free_energy(self, v: Tensor) -> Tensor: ...

    def sides(self) -> Sequence[tuple[int, Callable[[Tensor], Tensor]]]: ...

    def path(self) -> AnnealingPath: ...


@runtime_checkable
class RestrictedEnergy(Protocol):
    r"""An `Energy` whose two layers are each independent given the other, so that one sweep draws a layer at a time.

    `hidden(v)` is :math:`p(h \mid v)`, `visible(h)` is :math:`p(v \mid h)`. `free_energy` takes `hidden(v)` too, where
    it is at hand: the product of data and weights is in both.
    """

    def hidden(self, v: Tensor) -> Distribution: ...

    def visible(self, h: Tensor) -> Distribution: ...

    def free_energy(self, v: Tensor, hidden: Distribution | None = None) -> Tensor: ...


@runtime_checkable
class SweptEnergy(Protocol):
    r"""An `Energy` over bits of which no layer is independent given the others, so that each is drawn in its turn.

    A state is visible units, then hidden ones, `(n, num_visible + num_hidden)`. `sweep(state)` draws every unit once
    given all others, with `clamp` the hidden ones alone, and gives new states; a state of its law stays one.
    """

    num_visible: int
    num_hidden: int

    def energy(self, v: Tensor, h: Tensor) -> Tensor: ...

    def sweep(self, state: Tensor, *, clamp: bool = False) -> Tensor: ...


@runtime_checkable
class AnnealingPath(Protocol):
    r"""Unnormalised laws :math:`f_\beta` from one of known normaliser, at 0, to that of a model, at 1.

    `log_z0` is :math:`\log \sum f_0`, 0-d; `start(n)` draws n states of :math:`f_0`. `advance(state, here, there)`
    gives :math:`\log f_{there} - \log f_{here}` of every state, and states moved by a step that leaves
    :math:`f_{there}` as it is; `here` and `there` are 0-d.
    """

    @property
    def log_z0(self) -> Tensor: ...

    def start(self, n: int) -> Tensor: ...

    def advance(self, state: Tensor, here: Tensor, there: Tensor) -> tuple[Tensor, Tensor]: ...


@runtime_checkable
class Implicit(Protocol):
    """A sampler without a density: `model(n=...)` draws `(n, x_dim)`; every bound refuses it by name."""

    def __call__(self, *, n: int) -> Tensor: ...


@runtime_checkable
class Transition(Protocol):
    r"""One learned Markov operator and the T steps it undoes; `t` is int64, `(n,)` or 0-d, from 1 to T.

    `noised(x, t)` is :math:`q(x_t \mid x_0)`, `q(state, t)` is :math:`q(x_t \mid x_{t-1})`, `q_posterior(state, x, t)`
    is :math:`q(x_{t-1} \mid x_t, x_0)` for t from 2, `p(state, t)` is :math:`p(x_{t-1} \mid x_t)`, `end()` is
    :math:`p(x_T)`, of one vector.
    """

    @property
    def num_steps(self) -> int: ...

    def noised(self, x: Tensor, t: Tensor) -> Distribution: ...

    def q(self, state: Tensor, t: Tensor) -> Distribution: ...

    def q_posterior(self, state: Tensor, x: Tensor, t: Tensor) -> Distribution: ...

    def p(self, state: Tensor, t: Tensor) -> Distribution: ...

    def end(self) -> Distribution: ...


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
