r"""Data that a model draws in the place of a batch's own, with the latents they come from: what it dreams.

.. math:: z^* \sim p(z), \qquad x^* \sim p(x \mid z^*)

What a batch holds beside what the model observes (covariates, masks) stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from pyro import poutine
from pyro.distributions import Unit
from torch import Tensor

from inference.layout import Layout
from inference.pair import Pair, call, size_of
from inference.sites import Site, sample_sites
from inference.unobserving import unobserved
from ppmodels.contracts import Batch

__all__ = ["Dreamer", "Place", "filled", "own", "places_of"]

Key: TypeAlias = int | str | None
"""Of an argument in a batch; `None` where the batch is a tensor."""


@dataclass(frozen=True)
class Place:
    """A part of one of a batch's arguments, as memory: what `Tensor.as_strided` takes."""

    key: Key
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


def own(batch: Batch) -> Batch:
    """The batch in contiguous tensors of its own."""
    return _mapped(batch, lambda _, value: value.detach().clone(memory_format=torch.contiguous_format))


def places_of(sites: Mapping[str, Site], batch: Batch) -> dict[str, Place]:
    """Where in a batch of contiguous tensors what is observed stands, by site.

    Raises:
        ValueError: naming the site, if it observes something else than an argument or a part of one, or has no draws.
    """
    return {name: _place(site, batch) for name, site in sites.items() if site["is_observed"]}


def filled(batch: Batch, places: Mapping[str, Place], values: Mapping[str, Tensor]) -> Batch:
    """A batch with what was drawn at each site where that site observes; the one given stays as it is."""

    def fill(key: Key, argument: Tensor) -> Tensor:
        for site, place in places.items():
            if place.key == key:
                value = values[site].to(argument)
                whole = place.size == tuple(argument.shape) and place.stride == argument.stride()
                argument = (
                    value
                    if whole
                    else torch.as_strided_scatter(argument, value, place.size, place.stride, place.offset)
                )
        return argument

    return _mapped(batch, fill)


@dataclass(frozen=True, eq=False)
class Dreamer:
    """Draws data and latents from the model of a pair.

    Attributes:
        pair: whose model it is; it runs in evaluation mode.
        latents: the sites whose draws are kept.
        places: where the data go, for a batch of any number of data, -1 in `size`.
    """

    pair: Pair
    latents: tuple[str, ...]
    places: Mapping[str, Place]

    @classmethod
    def of(cls, pair: Pair, batch: Batch, layout: Layout) -> Dreamer:
        """Find out where a batch's data stand; the batch is for inspection only."""
        given = own(batch)
        sites = sample_sites(poutine.trace(lambda: call(pair.model, given)).get_trace())
        found = places_of(sites, given)
        for name, place in found.items():
            size = list(place.size)
            size[layout.data_dim - sites[name]["fn"].event_dim] = -1
            found[name] = replace(place, size=tuple(size))
        return cls(pair, layout.latents, found)

    def __call__(self, batch: Batch) -> tuple[Batch, dict[str, Tensor]]:
        """As many data as the batch has, arranged as they are, and the latents they were drawn with."""
        batch = _mapped(batch, lambda _, value: value.contiguous())
        with self.pair.mode(training=False), torch.no_grad():
            run = poutine.trace(unobserved(lambda: call(self.pair.model, batch)))
            drawn = {name: site["value"] for name, site in sample_sites(run.get_trace()).items()}
        n = size_of(batch)
        here = {k: replace(p, size=tuple(n if s == -1 else s for s in p.size)) for k, p in self.places.items()}
        return filled(batch, here, drawn), {name: drawn[name] for name in self.latents}


def _mapped(batch: Batch, function: Any) -> Batch:
    if isinstance(batch, Tensor):
        found: Tensor = function(None, batch)
        return found
    if isinstance(batch, Mapping):
        return {name: function(name, value) for name, value in batch.items()}
    return tuple(function(i, value) for i, value in enumerate(batch))


def _arguments(batch: Batch) -> dict[Key, Tensor]:
    found: dict[Key, Tensor] = {}
    _mapped(batch, found.setdefault)
    return found


def _place(site: Site, batch: Batch) -> Place:
    name, value = site["name"], site["value"]
    if isinstance(site["fn"], Unit):
        raise ValueError(
            f"site `{name}` is a factor, which has no draws: write it as a distribution, to simulate from the model"
        )
    spread = any(size > 1 and stride == 0 for size, stride in zip(value.shape, value.stride(), strict=True))
    for key, argument in _arguments(batch).items():
        if value.untyped_storage().data_ptr() == argument.untyped_storage().data_ptr() and not spread:
            return Place(key, tuple(value.shape), value.stride(), value.storage_offset())
    raise ValueError(
        f"site `{name}` observes a value computed from the model's arguments, expected an argument or a part of "
        "one, where the draw can be put: pass `obs` an argument as it is, and transform data beforehand"
    )
