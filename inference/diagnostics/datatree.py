"""Draws of a program's latents as an `xarray.DataTree`, with everything that ArviZ asks about them.

| group | holds |
|---|---|
| `posterior` | latent sites, `pyro.deterministic` sites and point masses |
| `sample_stats` | what the sampler knows of each transition |
| `log_likelihood` | of every datum; what is masked is left out |
| `log_prior` | of every latent given those before it |
| `posterior_predictive` | new data of the same latents |
| `prior`, `prior_predictive` | draws of the program itself |
| `observed_data`, `constant_data` | what is observed, and the other tensors it is called with |
"""

from __future__ import annotations

import json
import platform
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from inference.density import FlatDensity, map_rows
from inference.diagnostics.dims import check_names, coordinates, shape_of
from inference.diagnostics.reading import Reader
from inference.sites import first_line

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["OmittedWarning", "assemble", "constrained", "reader_of"]


class OmittedWarning(UserWarning):
    """A group of a tree cannot be had of a program; why is in the tree's attribute `omitted`, too."""


def constrained(density: FlatDensity, q: Tensor, data: Sequence[Tensor]) -> dict[str, Tensor]:
    """The values of the latent sites at vectors `(C, N, D)`, `(C, N, ...)` by site."""
    C, N, _ = q.shape
    rows = map_rows(density, lambda row, *data: density.constrain(row, *data), q.reshape(C * N, -1), *data)
    return {name: value.unflatten(0, (C, N)) for name, value in rows.items()}


def assemble(
    density: FlatDensity,
    values: Mapping[str, Tensor],
    data: Sequence[Tensor],
    *,
    attrs: Mapping[str, Any],
    stats: Mapping[str, Any] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
    log_likelihood: bool = True,
    predictive: bool = True,
    num_prior: int = 500,
    seed: int = 0,
) -> xr.DataTree:
    """A tree from draws of the latent sites.

    Args:
        density: of the program.
        values: of every latent site, `(C, N, ...)`.
        data: what the program is called with.
        attrs: of the tree: what was run, and what it cost.
        stats: groups of variables beside those of the program: name -> (axes after chain and draw, values).
        dims: names of a site's axes, in the place of those of its plates; for the axes of one value, or for all.
        coords: labels along an axis by its name; numbers from 0 where none are given.
        log_likelihood: give every datum's, which LOO needs; it takes draws times data numbers.
        predictive: draw new data, and draw from the prior.
        num_prior: draws of the prior.
        seed: seeds what is drawn here.

    Raises:
        ValueError: if `dims` or `coords` name what is not there, or in another number.
    """
    import xarray as xr

    coords = dict(coords or {})
    reader = reader_of(density, dims, coords)
    groups: dict[str, dict[str, tuple[tuple[str, ...], Any]]] = {}
    C, N = next(iter(values.values())).shape[:2]
    rows = {name: value.flatten(0, 1) for name, value in values.items()}
    wanted = ["posterior", "log_prior", *(["log_likelihood"] if log_likelihood and reader.observed else [])]
    if predictive and reader.observed:
        wanted.append("posterior_predictive")
    omitted: dict[str, str] = {}
    improper = False  # a prior without draws is what was asked for
    for group in wanted:
        try:
            found = reader.read(group, rows, data, seed)
        except Exception as error:  # draws have been paid for: a group that fails must not take the others with it
            if group == "posterior":
                raise
            omitted[group] = first_line(error)
            continue
        axes = reader.axes[group]
        groups[group] = {n: (("chain", "draw", *axes[n]), v.unflatten(0, (C, N))) for n, v in found.items()}
    if predictive:
        try:
            groups |= _prior(reader, num_prior, data, seed)
        except Exception as error:  # as above
            omitted["prior"] = first_line(error)
            improper = isinstance(error, NotImplementedError)
    groups |= _data(density, reader, data)
    if stats:
        groups["sample_stats"] = {n: (("chain", "draw"), v) if isinstance(v, Tensor) else v for n, v in stats.items()}
    if unexpected := {group: reason for group, reason in omitted.items() if not (group == "prior" and improper)}:
        said = "; ".join(f"`{group}`: {reason}" for group, reason in unexpected.items())
        warnings.warn(f"groups are left out of the tree: {said}", OmittedWarning, stacklevel=3)
    about = _about(attrs, omitted)
    tree = {name: _dataset(group, coords, reader) for name, group in groups.items() if group}
    tree["posterior"].attrs["inference_method"] = about["inference_method"]
    for name in reader.kept:
        observed = tree["observed_data"][_plainly(name)]
        batch = observed.shape[: observed.ndim - density.sites()[name]["fn"].event_dim]
        tree["observed_data"][_plainly(name)] = _without_masked(
            observed, reader.kept[name].cpu().numpy().reshape(batch)
        )
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=about), **tree})


def reader_of(
    density: FlatDensity, dims: Mapping[str, Sequence[str]] | None, coords: Mapping[str, Any] | None
) -> Reader:
    """What reads groups off a program; names that belong to nothing are found out before anything is drawn.

    Raises:
        ValueError: if `dims` or `coords` name what is not there, or in another number.
    """
    dims, coords = dict(dims or {}), dict(coords or {})
    reader = Reader(density, dims)
    sites = density.sites()
    sizes = {a: n for name, axes in reader.values.items() for a, n in zip(axes, shape_of(sites[name]), strict=True)}
    constants = (f"{name}_dim_{i}" for name, v in density.arguments().items() for i in range(v.dim()))
    kept = (f"{name}_kept" for name in reader.kept)
    check_names(dims, coords, list(reader.values), sorted({*sizes, *constants, *kept}))
    coordinates({axis: size for axis, size in sizes.items() if axis in coords}, coords)
    if taken := sorted({"chain", "draw"} & set(sizes)):
        raise ValueError(f"plate `{taken[0]}` has the name of an axis of draws: rename it, or name the axis by `dims`")
    return reader


def _prior(
    reader: Reader, num_samples: int, data: Sequence[Tensor], seed: int
) -> dict[str, dict[str, tuple[tuple[str, ...], Any]]]:
    found = reader.prior(num_samples, data, seed + 1)
    named = {n: (("chain", "draw", *reader.values[n]), v.unsqueeze(0)) for n, v in found.items()}
    observed = {name: named.pop(name) for name in reader.observed}
    return {"prior": named, "prior_predictive": observed}


def _data(
    density: FlatDensity, reader: Reader, data: Sequence[Tensor]
) -> dict[str, dict[str, tuple[tuple[str, ...], Any]]]:
    """What is observed, and the arguments that are not."""
    sites = density.sites()
    seen = {name: (reader.values[name], sites[name]["value"].expand(shape_of(sites[name]))) for name in reader.observed}
    others: dict[str, tuple[tuple[str, ...], Any]] = {}
    names = {axis: size for axes, value in seen.values() for axis, size in _sizes(axes, value)}
    for name, value in density.arguments(data).items():
        if any(_is_same(value, sites[site]["value"]) for site in seen):
            continue
        plates = [axis for axis, size in names.items() if value.dim() and size == value.shape[0] and axis != name]
        first = (plates[0],) if len(plates) == 1 else (f"{name}_dim_0",)
        others[name] = ((*first, *(f"{name}_dim_{i}" for i in range(1, value.dim())))[: value.dim()], value)
    return {"observed_data": seen, "constant_data": others}


def _without_masked(observed: xr.DataArray, kept: np.ndarray[Any, Any]) -> xr.DataArray:
    """Data with NaN where they are masked, and told so."""
    found = observed.copy() if observed.dtype.kind == "f" else observed.astype(float)
    found.to_numpy()[~kept] = np.nan
    found.attrs["masked"] = int((~kept).sum())
    return found


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Whether two are one tensor, or views of one that show the same: equal numbers may be a covariate's too."""
    return a.shape == b.shape and a.stride() == b.stride() and a.data_ptr() == b.data_ptr()


def _sizes(axes: Sequence[str], value: Any) -> Iterator[tuple[str, int]]:
    for axis, size in zip(axes, np.shape(value), strict=True):
        if axis not in ("chain", "draw"):
            yield axis, size


def _dataset(group: Mapping[str, tuple[tuple[str, ...], Any]], coords: Mapping[str, Any], reader: Reader) -> xr.Dataset:
    import xarray as xr

    used = {axis for axes, _ in group.values() for axis in axes}
    labels = coordinates({axis: n for axes, value in group.values() for axis, n in _sizes(axes, value)}, coords)
    for name, kept in reader.kept.items():
        if f"{name}_kept" in labels:
            labels[f"{name}_kept"] = kept.nonzero().squeeze(-1).cpu().numpy()
    for axis in ("chain", "draw"):
        if axis in used:
            labels[axis] = np.arange(next(np.shape(v)[axes.index(axis)] for axes, v in group.values() if axis in axes))
    variables = {_plainly(n): ([_plainly(a) for a in axes], _numbers(v)) for n, (axes, v) in group.items()}
    return xr.Dataset(variables, coords={_plainly(axis): values for axis, values in labels.items()})


def _plainly(name: str) -> str:
    """A name as a tree can hold it: `/` leads from group to group there."""
    return name.replace("/", ".")


def _numbers(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _about(attrs: Mapping[str, Any], omitted: Mapping[str, str]) -> dict[str, Any]:
    """Attributes in types that every file format knows."""
    versions = {"python": platform.python_version()}
    for package in ("ppmodels", "torch", "pyro-ppl", "arviz-stats"):
        with suppress(Exception):
            versions[package] = version(package)
    every = {
        "inference_library": "ppmodels",
        "inference_library_version": versions.get("ppmodels", "unknown"),
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions,
        **attrs,
        **({"omitted": omitted} if omitted else {}),
    }
    return {name: _plain(value) for name, value in every.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return value if isinstance(value, (int, float, str)) else str(value)
