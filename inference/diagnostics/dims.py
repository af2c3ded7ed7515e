"""The names of a site's axes, as ArviZ wants them: those of its plates, and numbers for the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch

from inference.sites import Plate, Site, plates_of

__all__ = ["Axes", "axes_of", "check_names", "coordinates", "shape_of"]


class Axes(NamedTuple):
    """Names of the axes of a site's value.

    Attributes:
        batch: of those that plates give, from the left.
        event: of those of one value.
    """

    batch: tuple[str, ...]
    event: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return self.batch + self.event


def axes_of(site: Site, given: Sequence[str] | None = None, *, taken: Collection[str] = ()) -> Axes:
    """The names of a site's axes.

    Args:
        site: of a trace.
        given: names for the axes of one value, or for all.
        taken: names of sites: a plate that has one of them is called `..._plate`.

    Raises:
        ValueError: naming the site, if the names given are not as many.
    """
    name, shape = site["name"], shape_of(site)
    event_dim = site["fn"].event_dim
    plates = {plate.dim: plate for plate in plates_of(site)}
    if site["infer"].get("_deterministic") and event_dim == len(shape):
        event_dim = _event_dim(shape, plates)  # no one has said which axes are whose
        plates = plates if event_dim < len(shape) else {}
    dims = range(event_dim - len(shape), 0)
    numbers = count()
    called = {dim: f"{plate.name}_plate" if plate.name in taken else plate.name for dim, plate in plates.items()}
    batch = [called[dim] if dim in plates else f"{name}_dim_{next(numbers)}" for dim in dims]
    event = [f"{name}_dim_{next(numbers)}" for _ in range(event_dim)]
    if given is not None:
        if len(given) == len(batch) + len(event):
            batch, event = list(given[: len(batch)]), list(given[len(batch) :])
        elif len(given) == len(event):
            event = list(given)
        else:
            raise ValueError(
                f"`dims` names {len(given)} axes of site `{name}`, expected {len(event)} for one value, or "
                f"{len(batch) + len(event)} for all; its shape is {shape}"
            )
    return Axes(tuple(batch), tuple(event))


def shape_of(site: Site) -> tuple[int, ...]:
    """The shape of a site's value, as often as its law stands there: data may be shared by plates."""
    fn, shape = site["fn"], tuple(site["value"].shape)
    if site["infer"].get("_deterministic"):
        return shape
    split = len(shape) - fn.event_dim
    return tuple(torch.broadcast_shapes(fn.batch_shape, shape[:split])) + shape[split:]


def _event_dim(shape: Sequence[int], plates: Mapping[int, Plate]) -> int:
    """The fewest axes right of the plates with which every plate has its size; all of them if that cannot be."""
    for event_dim in range(len(shape)):
        axes = {len(shape) + dim - event_dim: plate.size for dim, plate in plates.items()}
        if plates and all(axis >= 0 and shape[axis] == size for axis, size in axes.items()):
            return event_dim
    return len(shape)


def coordinates(sizes: Mapping[str, int], coords: Mapping[str, Any]) -> dict[str, Any]:
    """Coordinates of every axis: those given, and numbers from 0 where none are.

    Raises:
        ValueError: naming the axis, if there are not as many as it is long.
    """
    found = {}
    for name, size in sizes.items():
        values = coords.get(name)
        if values is not None and len(values) != size:
            raise ValueError(f"`coords` gives `{name}` {len(values)} values, expected {size}: one for each")
        found[name] = np.arange(size) if values is None else np.asarray(values)
    return found


def check_names(dims: Mapping[str, Any], coords: Mapping[str, Any], sites: Sequence[str], axes: Sequence[str]) -> None:
    """Names that belong to nothing are mistakes."""
    if unknown := sorted(set(dims) - set(sites)):
        raise ValueError(f"`dims` has site `{unknown[0]}`, expected some of {', '.join(sites)}")
    if unknown := sorted(set(coords) - set(axes)):
        raise ValueError(f"`coords` has `{unknown[0]}`, expected some of {', '.join(sorted(axes)) or 'no axes'}")
