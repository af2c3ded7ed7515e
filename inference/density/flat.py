r"""The log density of a Pyro program as a function of one vector without constraints, and of the data.

.. math:: \log \pi(u; x) = \log p(x, T(u)) + \log |\det \partial T / \partial u|

Here p is the program's joint density of its latents and its observations, discrete latents summed out, and T takes
:math:`u \in \mathbb{R}^D` to the supports of the latent sites. The data are arguments: one density serves many sets of
them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.infer import config_enumerate
from pyro.poutine import Trace
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_flatten_with_path, tree_unflatten

from inference.density.functorch import transformable
from inference.density.inspection import Inspection, look_at
from inference.density.latent import Holding, Latent, Placing, Reading
from inference.density.summing import log_joint
from inference.flags import default_dtype, validating
from inference.seeds import seeded
from inference.sites import Site
from inference.unobserving import unobserved

__all__ = ["FlatDensity"]


@dataclass(frozen=True, eq=False)
class FlatDensity:
    """A program's log density.

    Make it with `FlatDensity.of`.

    Attributes:
        model: any Pyro callable.
        data: the tensors among its arguments, in the order in which they stand there; `log_density` takes others too.
        latents: the sites that chains move, and their places in the vector.
        found: what an inspection of the program found.
        dtype: of the vector; what floats the program makes are of this type too.

    >>> import pyro, pyro.distributions as dist
    >>> def model(y):
    ...     mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    ...     sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    ...     with pyro.plate("data", len(y)):
    ...         pyro.sample("y", dist.Normal(mu, sigma), obs=y)
    >>> density = FlatDensity.of(model, torch.tensor([0.1, 0.3]))
    >>> density.names, density.dim
    (('mu', 'sigma'), 2)
    >>> q = density.unconstrain({"mu": torch.tensor(0.2), "sigma": torch.tensor(0.5)})
    >>> q
    tensor([ 0.2000, -0.6931], dtype=torch.float64)
    >>> density.log_density(q, torch.tensor([0.1, 0.3]))
    tensor(-2.4745, dtype=torch.float64)
    >>> float(density.log_density(q, torch.tensor([4.0, 5.0]))) < -50
    True
    """

    model: Callable[..., Any]
    data: tuple[Tensor, ...]
    latents: tuple[Latent, ...]
    found: Inspection
    dtype: torch.dtype
    _arguments: tuple[Any, ...]
    _spec: TreeSpec

    @classmethod
    def of(
        cls,
        model: Callable[..., Any],
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> FlatDensity:
        """Inspect a program on its arguments, validated once, and make its density.

        Args:
            model: any Pyro callable with continuous latents; discrete ones of finite support are summed out.
            args: what it is called with; tensors in it, also within tuples, lists and mappings, are data.
            kwargs: what it is called with by name.
            dtype: of the vector, and of the data that are floats.
            device: where to compute; where the data are by default.

        Raises:
            ValueError: naming the site, if the density would be wrong or does not exist, see
                `inference.density.inspection.look_at`.
        """
        leaves, spec = tree_flatten((args, dict(kwargs or {})))
        leaves = [_placed(leaf, dtype, device) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        data = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        where = torch.device(device) if device is not None else data[0].device if data else torch.device("cpu")
        call = partial(_call, model, spec, leaves)
        with _types(dtype, where):
            found = look_at(call)
        return cls(model, data, found.latents, found, dtype, tuple(leaves), spec)

    @property
    def names(self) -> tuple[str, ...]:
        """The latent sites, in the order of the program."""
        return tuple(latent.name for latent in self.latents)

    @property
    def dim(self) -> int:
        """D, the coordinates of the vector."""
        return self.latents[-1].stop

    @property
    def device(self) -> torch.device:
        """Where the density is computed."""
        return self.found.device

    def log_density(self, q: Tensor, *data: Tensor) -> Tensor:
        r"""The log density at one vector `(D,)`, a scalar; of other data than its own, if any are given."""
        with self.running():
            placing = Placing(self.latents, q, self.found.filling, self.found.summed)
            trace = self._traced(placing, data)
            return self._log_joint(trace) + placing.log_det()

    def trace(self, values: Mapping[str, Tensor], *data: Tensor, observed: bool = True) -> Trace:
        """One run of the program with values at its latent sites, log probabilities computed; discrete ones are drawn.

        Args:
            values: by site, all of the latents or some.
            data: other data than its own, if any.
            observed: keep observations; otherwise they are drawn too.
        """
        with self.running():
            program = self._program(data)
            if not observed:
                program = unobserved(program, expand=True)
            trace = poutine.trace(Holding(values, self.found.filling)(program)).get_trace()
            trace.compute_log_prob()
        return trace

    def enumerated(self, values: Mapping[str, Tensor], *data: Tensor) -> Trace:
        """The same with the discrete sites at all their values, log probabilities packed by plate."""
        with self.running():
            trace = self._traced(Holding(values, self.found.filling), data)
            trace.compute_log_prob()
            trace.pack_tensors()
        return trace

    def constrain(self, q: Tensor, *data: Tensor) -> dict[str, Tensor]:
        """The values of the latent sites at a vector, by site."""
        with self.running():
            trace = self._traced(Placing(self.latents, q, self.found.filling, self.found.summed), data)
        values: dict[str, Any] = {name: trace.nodes[name]["value"] for name in self.names}
        return values

    def unconstrain(self, values: Mapping[str, Tensor], *data: Tensor) -> Tensor:
        """The vector that gives the latent sites these values, `(D,)`.

        Raises:
            ValueError: naming the site, if a value is missing, has another shape, or lies outside the support.
        """
        for latent in self.latents:
            if latent.name in values and tuple(values[latent.name].shape) != latent.shape:
                raise ValueError(
                    f"site `{latent.name}` is given a value of shape {tuple(values[latent.name].shape)}, expected "
                    f"{latent.shape}"
                )
        given = {name: _placed(value, self.dtype, self.device) for name, value in values.items()}
        with self.running(), seeded(0, self.device):
            reading = Reading(given)
            reading(self._program(data))()
        for name, part in reading.parts.items():
            there = torch.allclose(reading.back[name], given[name], rtol=1e-4, atol=1e-5)
            if not (bool(part.isfinite().all()) and there):
                raise ValueError(f"site `{name}` is given a value outside its support, or on its edge")
        return torch.cat([reading.parts[name] for name in self.names])

    @contextmanager
    def running(self) -> Iterator[None]:
        """The switches under which the program runs: its type of float, no validation, ready for `torch.func`."""
        with _types(self.dtype, self.device), validating(enabled=False), transformable():
            yield

    def _program(self, data: Sequence[Tensor]) -> Callable[[], Any]:
        if not data:
            return partial(_call, self.model, self._spec, self._arguments)
        if len(data) != len(self.data):
            raise ValueError(
                f"`data` are {len(data)} tensors, expected {len(self.data)}: as many as the program was inspected with"
            )
        new = iter(data)
        leaves = [next(new) if isinstance(leaf, Tensor) else leaf for leaf in self._arguments]
        return partial(_call, self.model, self._spec, leaves)

    def _traced(self, placing: Placing | Holding, data: Sequence[Tensor]) -> Trace:
        program = self._program(data)
        if self.found.summed:
            program = poutine.enum(config_enumerate(program), first_available_dim=-1 - self.found.nesting)
        return poutine.trace(placing(program)).get_trace()

    def _log_joint(self, trace: Trace) -> Tensor:
        if self.found.summed:
            trace.compute_log_prob()
            trace.pack_tensors()
            return log_joint(trace)
        total = trace.log_prob_sum()
        return total if isinstance(total, Tensor) else torch.zeros((), dtype=self.dtype)

    def arguments(self, data: Sequence[Tensor] = ()) -> dict[str, Tensor]:
        """The tensors that the program is called with, by the names of its parameters."""
        new = iter(data or self.data)
        leaves = [next(new) if isinstance(leaf, Tensor) else leaf for leaf in self._arguments]
        args, kwargs = tree_unflatten(leaves, self._spec)
        try:
            named = inspect.signature(self.model).bind(*args, **kwargs).arguments
        except (TypeError, ValueError):  # no signature to be had
            named = {**{f"argument_{i}": value for i, value in enumerate(args)}, **kwargs}
        found = {}
        for path, value in tree_flatten_with_path(dict(named))[0]:
            if isinstance(value, Tensor):
                found["_".join(str(getattr(key, "key", getattr(key, "idx", ""))) for key in path)] = value
        return found

    def sites(self) -> Mapping[str, Site]:
        """The sites of the run that was inspected."""
        return self.found.sites


def _call(model: Callable[..., Any], spec: TreeSpec, leaves: Sequence[Any]) -> Any:
    args, kwargs = tree_unflatten(list(leaves), spec)
    return model(*args, **kwargs)


def _placed(value: Tensor, dtype: torch.dtype, device: torch.device | str | None) -> Tensor:
    return value.detach().to(device=device, dtype=dtype if value.is_floating_point() else None)


@contextmanager
def _types(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    with default_dtype(dtype):
        if device.type == "cpu":
            yield
        else:
            with device:  # what the program makes itself lies there too
                yield
