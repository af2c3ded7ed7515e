"""A look at a program before its density is made: what chains would move, and what would be silently wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta, Unit
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.poutine import Trace
from torch import Tensor

from inference.density.latent import Latent, Starting, innermost, is_discrete_latent
from inference.flags import validating
from inference.graph.record import LastSite
from inference.seeds import seeded
from inference.sites import Site, first_line, plates_of, sample_sites

__all__ = ["Inspection", "look_at", "mask_of"]

STARTS = 10
"""Random starts that a program is given to be valid at one."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a program is made of.

    Attributes:
        latents: the sites that chains move.
        observed: the sites that it observes.
        summed: its discrete latents, which are summed out.
        deterministic: what it computes and gives a name, `pyro.deterministic` and point masses.
        filling: latents that stand in for missing observations.
        nesting: plate dimensions in use.
        sites: all of them, from the run that was looked at.
        device: where it computes.
    """

    latents: tuple[Latent, ...]
    observed: tuple[str, ...]
    summed: tuple[str, ...]
    deterministic: tuple[str, ...]
    filling: frozenset[str]
    nesting: int
    sites: Mapping[str, Site]
    device: torch.device


def look_at(program: Callable[[], Any]) -> Inspection:
    """Run a program from two random starts, validated, and refuse what no chain can be right about.

    Raises:
        ValueError: naming the site, if it is discrete without a finite support, subsampled, masked, on a support
            without a bijection, scored in a shape that is neither its own nor its value's, or not the same in every
            run; and if there is nothing for chains to move.
    """
    with seeded(0), torch.no_grad(), validating(enabled=True):
        starting, trace = _run_somewhere(program)
        again, _ = _run_somewhere(program)
    if starting.latents != again.latents:
        differing = sorted(set(starting.latents) ^ set(again.latents))
        raise ValueError(
            f"site `{differing[0].name}` is not the same in every run of the program: expected the same latent sites, "
            "of the same shapes, whatever their values are"
        )
    nodes: dict[str, Any] = dict(trace.nodes)
    sites = {name: site for name, site in nodes.items() if site["type"] == "sample"}
    for site in sites.values():
        _check_subsampling(site)
    carrying = {name: site for name, site in sample_sites(trace).items() if not _is_computed(site)}
    summed = tuple(name for name, site in carrying.items() if is_discrete_latent(site))
    filling = frozenset(name for name in carrying if _fills_in(name, sites))
    latents = {latent.name for latent in starting.latents}
    for name, site in carrying.items():
        _check_site(site, is_latent=name in latents, filling=name in filling, enumerated=bool(summed))
    if not latents:
        raise ValueError(
            "`model` has no continuous latent sites: expected at least one for chains to move"
            + (f"; site `{summed[0]}` is discrete, and would be summed out" if summed else "")
        )
    observed = tuple(n for n, site in carrying.items() if site["is_observed"] and not isinstance(site["fn"], Unit))
    return Inspection(
        latents=tuple(starting.latents),
        observed=observed,
        summed=summed,
        deterministic=tuple(name for name, site in sites.items() if _is_computed(site)),
        filling=filling,
        nesting=max((-plate.dim for site in sites.values() for plate in plates_of(site)), default=0),
        sites=sites,
        device=next(iter(carrying[name]["value"].device for name in latents)),
    )


def _run_somewhere(program: Callable[[], Any]) -> tuple[Starting, Trace]:
    """A valid run: at a random start a program may be outside what it is made for, such as covariances."""
    for _ in range(STARTS - 1):
        try:
            return _run(program)
        except ValueError:  # raised below, if it is the same everywhere
            continue
    return _run(program)


def _run(program: Callable[[], Any]) -> tuple[Starting, Trace]:
    starting, last = Starting(), LastSite()
    try:
        with last:
            trace = poutine.trace(starting(program)).get_trace()
        trace.compute_log_prob()
    except ValueError as error:  # Pyro adds a table of shapes to what passes through it
        said = " ".join(str(error).partition("Trace Shapes:")[0].split())
        raise ValueError(said if "site" in said else f"{said}{last}") from error
    except RuntimeError as error:
        if "dtype" in str(error) or "scalar type" in str(error):
            raise ValueError(
                f"`model` mixes types of floats ({first_line(error)}): its data are cast to `dtype`, float64 unless "
                "given; convert its modules and closed-over tensors too, or pass `dtype=torch.float32`"
            ) from error
        raise
    return starting, trace


def _check_subsampling(site: Site) -> None:
    fn = site["fn"]
    size, subsample_size = getattr(fn, "size", None), getattr(fn, "subsample_size", None)
    if type(fn).__name__ == "_Subsample" and subsample_size is not None and subsample_size < size:
        raise ValueError(
            f"plate `{site['name']}` draws {subsample_size} of {size} anew in every run, so there is no one density: "
            "expected all of the data; leave `subsample_size` out"
        )


def _fills_in(name: str, sites: Mapping[str, Site]) -> bool:
    """Whether a site is what Pyro makes of the missing part of `pyro.sample(..., obs=x, obs_mask=mask)`."""
    base = name.removesuffix("_unobserved")
    return base != name and base in sites and f"{base}_observed" in sites


def _is_computed(site: Site) -> bool:
    """Whether a site has no law of its own: `pyro.deterministic`, a point mass, what a reparametrisation puts there."""
    return bool(site["infer"].get("_deterministic")) or isinstance(innermost(site["fn"]), Delta)


def mask_of(site: Site) -> Tensor | bool | None:
    """The mask of a site: of `poutine.mask` and of its law's own; `None` where all counts."""
    own = site["fn"]._mask if isinstance(site["fn"], MaskedDistribution) else None
    masks = [mask for mask in (site["mask"], own) if mask is not None and mask is not True]
    if any(mask is False for mask in masks):
        return False
    return masks[0] & masks[-1] if masks else None


def _check_site(site: Site, *, is_latent: bool, filling: bool, enumerated: bool) -> None:
    name, fn, mask = site["name"], site["fn"], mask_of(site)
    if is_discrete_latent(site) and not fn.has_enumerate_support:
        raise ValueError(
            f"site `{name}` is discrete ({type(fn).__name__}) with too many values to sum over: expected continuous "
            "latents, or discrete ones of finite support; sum it out by hand, or replace it by a continuous one"
        )
    masked = (isinstance(mask, Tensor) and not bool(mask.all())) or mask is False
    if is_latent and masked and not filling:
        raise ValueError(
            f"site `{name}` is masked, so where the mask is False its density does not count and chains would wander "
            "off: expected latents that count; leave it out there, or let `obs_mask` of the observed site say what is "
            "missing"
        )
    if enumerated and not (isinstance(site["scale"], float | int) and site["scale"] == 1):
        raise ValueError(
            f"site `{name}` is scaled in a program whose discrete sites are summed out, where a scaled part gives no "
            "scaled sum: take `poutine.scale` off, or sum the discrete sites out by hand"
        )
    _check_shape(site, enumerated=enumerated)


def _check_shape(site: Site, *, enumerated: bool) -> None:
    """A log probability has the shape of the site's batch, or of its values where they are many under one law."""
    fn, value, log_prob = site["fn"], site["value"], site["unscaled_log_prob"]
    own = tuple(fn.batch_shape)
    of_value = tuple(value.shape[: value.dim() - fn.event_dim])
    shape = tuple(log_prob.shape)
    if shape not in (own, of_value):
        raise ValueError(
            f"site `{site['name']}` has a log probability of shape {shape}, expected {own} from its distribution: its "
            f"values are {of_value}; give both the same shape"
        )
    plates = {plate.dim: plate.size for plate in plates_of(site)}
    for dim in range(-len(shape), 0):
        size = of_value[dim] if -dim <= len(of_value) else 1
        if shape[dim] > 1 and size == 1 and dim not in plates and site["is_observed"]:
            raise ValueError(
                f"site `{site['name']}` scores values of shape {of_value} as {shape}, each of them {shape[dim]} times, "
                "along an axis that is no plate: give its distribution the shape of the values"
            )
    outside = [dim for dim in range(-len(shape), 0) if shape[dim] != 1 and dim not in plates]
    if enumerated and outside:
        raise ValueError(
            f"site `{site['name']}` has a log probability of shape {shape} with an axis that is no plate, in a program "
            "whose discrete sites are summed out: put it in a `pyro.plate`, or call `.to_event(...)`"
        )
