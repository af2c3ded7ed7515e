r"""All latents of a datum as one vector without constraints: what gradients move, where sites have shapes and supports.

Each site's value is :math:`v = T(u)`, where T takes the reals to the site's support, and
:math:`\log |\det \partial T / \partial u|` keeps densities right. T is read off the site's own distribution each time
the program runs, so a support may depend on the data, on parameters, or on latents drawn before it: the Jacobian of the
whole is triangular, and its log determinant the sum of those of the sites.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from pyro.distributions import Delta
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Transform

from inference.bijections import bijection_of
from inference.layout import Layout
from inference.sites import Site, sample_sites

__all__ = ["LatentSpace", "Place", "Placing"]


class Place(NamedTuple):
    """Where a site stands in the vector.

    Attributes:
        batch: the sizes of its plates, from the left, as the site is drawn alone.
        data_axis: which of them is the data's.
        event: the shape of one unconstrained value, right of the plates.
        start: its first coordinate.
        stop: the coordinate after its last.
    """

    batch: tuple[int, ...]
    data_axis: int
    event: tuple[int, ...]
    start: int
    stop: int

    def rows(self, value: Tensor, K: int, n: int) -> Tensor:
        """What is there for each draw and datum, side by side: from `(K, ..., *batch, *rest)` to `(K, n, size)`."""
        batch = [*self.batch[: self.data_axis], n, *self.batch[self.data_axis + 1 :]]
        return value.reshape(K, *batch, -1).movedim(1 + self.data_axis, 1).flatten(2)

    def shaped(self, rows: Tensor, nesting: int) -> Tensor:
        """The same back: from `(K, n, size)` to what a program draws, without the axis of draws for K = 1."""
        K, n = rows.shape[:2]
        others = self.batch[: self.data_axis] + self.batch[self.data_axis + 1 :]
        value = rows.reshape(K, n, *others, *self.event).movedim(1, 1 + self.data_axis)  # (K, *batch, *event)
        if K == 1:
            return value.squeeze(0)
        return value.reshape(K, *(1,) * (nesting - len(self.batch)), *value.shape[1:])


@dataclass(frozen=True)
class LatentSpace:
    r"""The latents of a pair as a vector z for each draw and datum, `(K, n, D)`, in the reals.

    Attributes:
        places: where each site stands in z, in the order in which they are drawn.
        nesting: plate dimensions in use, see `Layout`.

    >>> import pyro, pyro.distributions as dist
    >>> from inference.pair import Pair
    >>> from inference.particles import inspect_pair, run_particles
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    ...         pi = pyro.sample("pi", dist.Dirichlet(torch.ones(3)))
    ...         pyro.sample("x", dist.Poisson(rate.unsqueeze(-1) * pi).to_event(1), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("rate", dist.LogNormal(0.0, 1.0))
    ...         pyro.sample("pi", dist.Dirichlet(torch.ones(3)))
    >>> pair, x = Pair(model, guide), torch.ones(4, 3)
    >>> layout = inspect_pair(pair, x)
    >>> trace, _ = run_particles(pair, x, 1, layout)
    >>> space = LatentSpace.of(trace, layout)
    >>> space.dim, space.flatten(trace, 1, 4).shape
    (3, torch.Size([1, 4, 3]))
    """

    places: Mapping[str, Place]
    nesting: int

    @classmethod
    def of(cls, trace: Trace, layout: Layout) -> LatentSpace:
        """The space of a program's latents, from its trace without an axis of draws.

        Raises:
            ValueError: naming the site, if one is discrete, a point mass, or on a support that no bijection from the
                reals is known for; and if there is none at all.
        """
        places: dict[str, Place] = {}
        start = 0
        for name, site in sample_sites(trace).items():
            if name not in layout.latents:
                continue
            bijection = _bijection(site)
            value, event_dim = site["value"], site["fn"].event_dim
            batch = tuple(value.shape[: value.dim() - event_dim])
            event = tuple(bijection.inverse_shape(value.shape)[len(batch) :])
            axis = len(batch) + layout.data_dim
            size = math.prod(batch[:axis] + batch[axis + 1 :] + event)
            places[name] = Place(batch, axis, event, start, start + size)
            start += size
        if not places:
            raise ValueError("the pair has no latent sites: expected at least one for chains to move")
        return cls(places, layout.nesting)

    @property
    def dim(self) -> int:
        """D, the coordinates of z."""
        return max(place.stop for place in self.places.values())

    def flatten(self, trace: Trace, K: int, n: int) -> Tensor:
        """The vector of the latents in a trace of K draws for each of n data, `(K, n, D)`.

        Raises:
            ValueError: naming the site, if a value lies outside the support that the program gives it.
        """
        sites, parts = sample_sites(trace), []
        for name, place in self.places.items():
            value = sites[name]["value"]
            bijection = bijection_of(sites[name])
            u: Tensor = bijection.inv(value)
            if not (bool(u.isfinite().all()) and torch.allclose(bijection(u), value, rtol=1e-3, atol=1e-4)):
                raise ValueError(
                    f"site `{name}` has values outside the support {sites[name]['fn'].support} that the program "
                    'annealed from gives it: begin where the model is, with Annealing(start="prior")'
                )
            parts.append(place.rows(u, K, n))
        return torch.cat(parts, -1)

    def select(self, latents: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
        """The data at `index` of values as the program draws them without an axis of draws."""
        chosen = {}
        for name, place in self.places.items():
            if name not in latents:
                raise ValueError(f"`latents` lacks site `{name}`, expected all of {', '.join(self.places)}")
            chosen[name] = latents[name].index_select(place.data_axis, index.to(latents[name].device))
        return chosen


class Placing(Messenger):
    r"""Puts the vector z, `(K, n, D)`, in the place of a program's draws, site by site.

    After the program has run, `log_det()` is :math:`\log |\det \partial v / \partial z|`, `(K, n)`.
    """

    def __init__(self, space: LatentSpace, z: Tensor) -> None:
        super().__init__()
        self.space, self.z = space, z
        self._log_dets: list[Tensor] = []

    def __enter__(self) -> Placing:
        self._log_dets.clear()
        super().__enter__()
        return self

    def _pyro_sample(self, msg: Any) -> None:
        place = self.space.places.get(msg["name"])
        if place is None or msg["is_observed"]:
            return
        u = place.shaped(self.z[..., place.start : place.stop], self.space.nesting)
        bijection = bijection_of(msg)
        msg["value"], msg["done"] = bijection(u), True
        log_det = bijection.log_abs_det_jacobian(u, msg["value"])
        self._log_dets.append(place.rows(log_det, *self.z.shape[:2]).sum(-1))

    def log_det(self) -> Tensor:
        """The log determinant of the Jacobian, `(K, n)`."""
        return torch.stack(self._log_dets).sum(0)


def _bijection(site: Site) -> Transform:
    """From the reals to a site's support."""
    name, fn = site["name"], site["fn"]
    if isinstance(_innermost(fn), Delta):
        raise ValueError(
            f"site `{name}` is a point mass, which no chain can leave: give the guide a density, or begin at the prior "
            'with Annealing(start="prior")'
        )
    if fn.support.is_discrete:
        raise ValueError(
            f"site `{name}` is discrete ({type(_innermost(fn)).__name__}), but HMC needs continuous latents: sum it "
            'out, with infer={"enumerate": "parallel"} in the model and no such site in the guide'
        )
    return bijection_of(site)


def _innermost(fn: Any) -> Any:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn
