r"""The latent sites of a program as parts of one vector without constraints.

Each site's value is :math:`v = T(u)`, where T takes the reals to the site's support. T is read off the site's own
distribution every time the program runs, so a support may depend on latents drawn before it: the Jacobian of the whole
is triangular, and its log determinant the sum of those of the sites.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro.distributions import Delta
from pyro.poutine.messenger import Messenger
from torch import Tensor

from inference.bijections import bijection_of
from inference.sites import Site

__all__ = ["Holding", "Latent", "Placing", "Reading", "Starting", "innermost", "is_discrete_latent", "is_latent"]


class Latent(NamedTuple):
    """A site that chains move.

    Attributes:
        name: of the site.
        shape: of its value.
        free: of its value without constraints.
        start: its first coordinate in the vector.
        stop: the coordinate after its last.
    """

    name: str
    shape: tuple[int, ...]
    free: tuple[int, ...]
    start: int
    stop: int


def is_latent(site: Site) -> bool:
    """Whether a site has values that chains can move: it is drawn, from a density over the reals or part of them."""
    return not (
        site["type"] != "sample"
        or site["is_observed"]
        or isinstance(innermost(site["fn"]), Delta)
        or type(site["fn"]).__name__ == "_Subsample"
        or site["fn"].support.is_discrete
    )


def is_discrete_latent(site: Site) -> bool:
    """Whether a site is drawn from a law over separate values."""
    if site["type"] != "sample" or site["is_observed"] or type(site["fn"]).__name__ == "_Subsample":
        return False
    return not isinstance(innermost(site["fn"]), Delta) and bool(site["fn"].support.is_discrete)


def innermost(fn: Any) -> Any:
    """A law without what masks, expands or regroups it."""
    while hasattr(fn, "base_dist") and not hasattr(fn, "transforms"):
        fn = fn.base_dist
    return fn


class Starting(Messenger):
    """Draws every latent from a uniform law on the unconstrained scale, from its shape alone: a prior may be improper.

    Attributes:
        latents: what it has met, in order, in the places they take in the vector.
    """

    def __init__(self, radius: float = 2.0) -> None:
        super().__init__()
        self.radius = radius
        self.latents: list[Latent] = []

    def _pyro_sample(self, msg: Any) -> None:
        if not is_latent(msg):
            return
        fn, bijection = msg["fn"], bijection_of(msg)
        shape = tuple(fn.batch_shape + fn.event_shape)
        free = tuple(bijection.inverse_shape(torch.Size(shape)))
        start = self.latents[-1].stop if self.latents else 0
        self.latents.append(Latent(msg["name"], shape, free, start, start + math.prod(free)))
        u = self.radius * (2 * torch.rand(free) - 1)
        msg["value"], msg["done"] = bijection(u), True


class Placing(Messenger):
    r"""Puts a vector of D coordinates in the place of a program's draws, site by site.

    After the program has run, `log_det()` is :math:`\log |\det \partial v / \partial u|`.

    Args:
        latents: where the sites stand in the vector.
        q: the vector, `(D,)`.
        filling: sites that stand in for missing observations: their own density counts wherever the mask says, so
            that what nobody reads has a law of its own.
        summed: discrete sites that are left to others.
    """

    def __init__(
        self,
        latents: Sequence[Latent],
        q: Tensor,
        filling: frozenset[str] = frozenset(),
        summed: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.latents = {latent.name: latent for latent in latents}
        self.q, self.filling, self.summed = q, filling, summed
        self._log_dets: list[Tensor] = []
        self._placed: set[str] = set()

    def _pyro_sample(self, msg: Any) -> None:
        latent = self.latents.get(msg["name"])
        if latent is None:
            self._refuse_unknown(msg)
            return
        self._placed.add(latent.name)
        u = self.q[latent.start : latent.stop].reshape(latent.free)
        bijection = bijection_of(msg)
        value = bijection(u)
        if tuple(value.shape) != latent.shape:
            raise ValueError(
                f"site `{latent.name}` has values of shape {tuple(value.shape)} here, expected {latent.shape}: its "
                "support depends on a discrete site that is summed out, so there is no one bijection to it"
            )
        msg["value"], msg["done"] = value, True
        self._log_dets.append(bijection.log_abs_det_jacobian(u, value).sum())
        if latent.name in self.filling:
            msg["mask"] = None

    def _refuse_unknown(self, msg: Any) -> None:
        if is_latent(msg) or (is_discrete_latent(msg) and msg["name"] not in self.summed):
            raise ValueError(
                f"site `{msg['name']}` is not in every run of the program: expected the same latent sites whatever "
                "their values are"
            )

    def log_det(self) -> Tensor:
        """The log determinant of the Jacobian, a scalar.

        Raises:
            ValueError: naming a site that the program has not come to.
        """
        if missing := self.latents.keys() - self._placed:
            raise ValueError(
                f"site `{min(missing)}` is not in every run of the program: expected the same latent sites whatever "
                "their values are"
            )
        return torch.stack(self._log_dets).sum()


class Holding(Messenger):
    """Puts values in the place of a program's draws, and leaves them draws.

    Args:
        values: by site.
        filling: see `Placing`.
    """

    def __init__(self, values: Mapping[str, Tensor], filling: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.values, self.filling = values, filling

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True
            if msg["name"] in self.filling:
                msg["mask"] = None


class Reading(Messenger):
    """Puts values in the place of a program's draws, and reads off the vector that they are in the reals.

    Attributes:
        parts: coordinates by site.
        back: the values that these stand for.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values
        self.parts: dict[str, Tensor] = {}
        self.back: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if not is_latent(msg):
            return
        if msg["name"] not in self.values:
            raise ValueError(f"`values` lacks site `{msg['name']}`, expected every latent site of the program")
        value = self.values[msg["name"]]
        bijection = bijection_of(msg)
        u = bijection.inv(value)
        self.parts[msg["name"]], self.back[msg["name"]] = u.reshape(-1), bijection(u.clone())  # not from its cache
        msg["value"], msg["done"] = value, True
