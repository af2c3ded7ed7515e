r"""What a pair looks like on one batch: its sites, its plates, and whether per-datum numbers exist at all.

`read_layout` runs the pair once with Pyro's validation on, so that every later run may have it off. Everything
that would make a per-datum bound wrong is refused here, by site name.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Bernoulli

from inference.flags import validating
from inference.pair import Pair, first_tensor, size_of
from ppmodels.contracts import Batch

__all__ = ["Layout", "read_layout", "sample_sites"]

Site = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """The plates and sites of a pair.

    Attributes:
        data: name of the data plate, `None` for one joint weight of the whole batch.
        data_dim: where it stands, counted from the right.
        subsamples: whether that plate draws a minibatch of its own from the batch.
        nesting: plate dimensions in use; particles go one to the left of them.
        latents: latent sites, in the order the guide samples them.
        enumerated: model sites that are summed out exactly.
        without_rsample: guide sites whose draws carry no pathwise gradient.
        vectorized: whether all particles may run at once in an outer plate.
    """

    data: str | None
    data_dim: int
    subsamples: bool
    nesting: int
    latents: tuple[str, ...]
    enumerated: tuple[str, ...]
    without_rsample: tuple[str, ...]
    vectorized: bool = True


def sample_sites(trace: Trace) -> dict[str, Site]:
    """The sites that carry a density: no subsampling indices, no `pyro.deterministic`."""
    nodes: dict[str, Any] = dict(trace.nodes)  # a Message's keys are all optional: no use to a checker
    return {
        name: site
        for name, site in nodes.items()
        if site["type"] == "sample"
        and not poutine.util.site_is_subsample(site)
        and not site["infer"].get("_deterministic")
    }


class Plate(NamedTuple):
    """A vectorised plate: its name, its dimension from the right, its size in this batch and in the world."""

    name: str
    dim: int
    size: int
    full_size: int


def plates_of(site: Site) -> list[Plate]:
    """The vectorised plates a site stands in."""
    return [Plate(f.name, f.dim, f.size, f.full_size or f.size) for f in site["cond_indep_stack"] if f.vectorized]


def read_layout(pair: Pair, batch: Batch, *, joint: bool = False) -> Layout:
    """Run a pair once on a batch with Pyro's validation on, and refuse what cannot be right.

    Raises:
        ValueError: if a site is missing, stands outside the data plate, or has a shape its plates do not
            explain; the message names the site.
    """
    with validating(enabled=True):
        guide_trace, model_trace = _run(pair, batch)
        guide_sites, model_sites = sample_sites(guide_trace), sample_sites(model_trace)
        _check_sites(guide_sites, model_sites)
        for site in [*guide_sites.values(), *model_sites.values()]:
            _check_shape(site)
    return _find_layout(guide_sites, model_sites, size_of(batch), joint=joint)


def _run(pair: Pair, batch: Batch) -> tuple[Trace, Trace]:
    shape = tuple(first_tensor(batch).shape)
    try:
        return pair.traces(batch)
    except (RuntimeError, IndexError) as error:
        raise ValueError(f"the pair does not take a batch of shape {shape}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error says, without its traceback's worth of context."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_sites(guide_sites: dict[str, Site], model_sites: dict[str, Site]) -> None:
    if not any(site["is_observed"] for site in model_sites.values()):
        raise ValueError("`model` observes nothing: expected a site with `obs=x`; is the batch passed on to it?")
    guided = {name for name, site in guide_sites.items() if not site["infer"].get("is_auxiliary")}
    latent = {name for name, site in model_sites.items() if not site["is_observed"]}
    for name in sorted(latent - guided):
        if model_sites[name]["infer"].get("enumerate") != "parallel":
            raise ValueError(
                f"site `{name}` is sampled by the model and missing from the guide (which samples "
                f'{_names(guided)}): sample it there, or sum it out with infer={{"enumerate": "parallel"}}'
            )
    for name in sorted(guided - latent):
        where = "observed in the model" if name in model_sites else "missing from the model"
        raise ValueError(
            f"site `{name}` is sampled by the guide and {where} (which samples {_names(latent)}): "
            'drop it, rename it, or mark it infer={"is_auxiliary": True}'
        )
    for name in sorted(guided):
        if guide_sites[name]["infer"].get("enumerate"):
            raise ValueError(
                f"site `{name}` is enumerated in the guide: weights sum out sites of the model only; drop it from "
                'the guide and mark it infer={"enumerate": "parallel"} in the model, or sample it'
            )


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "nothing"


def _check_shape(site: Site) -> None:
    """Every dimension of a log probability must be a plate the site stands in."""
    shape = tuple(_log_prob(site).shape)
    plates = {plate.dim: plate.size for plate in plates_of(site)}
    for dim in range(-len(shape), 0):
        if shape[dim] != 1 and shape[dim] != plates.get(dim):
            wanted = tuple(plates.get(d, 1) for d in range(min(plates, default=0), 0))
            raise ValueError(
                f"site `{site['name']}` has a log probability of shape {shape}, expected {wanted} from its plates: "
                "call `.to_event(...)` on its distribution, or sample it inside `pyro.plate`"
            )


def _log_prob(site: Site) -> Tensor:
    try:
        log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    except ValueError as error:
        if not _is_grey(site):
            raise ValueError(f"site `{site['name']}` cannot score its value: {_reason(error)}") from error
        warnings.warn(
            f"site `{site['name']}` scores values between 0 and 1 under a Bernoulli: the number is no likelihood and "
            "compares with none; binarise the data, or use a continuous Bernoulli",
            stacklevel=2,
        )
        log_prob = site["fn"].log_prob(site["value"])
    assert isinstance(log_prob, Tensor)
    return log_prob


def _is_grey(site: Site) -> bool:
    """Whether a site is grey levels under a Bernoulli, which papers do; if so, its validation is taken off."""
    base, value = site["fn"], site["value"]
    while hasattr(base, "base_dist"):
        base = base.base_dist
    if not (site["is_observed"] and isinstance(base, Bernoulli) and bool(((value >= 0) & (value <= 1)).all())):
        return False
    wrapped = site["fn"]
    while wrapped is not None:
        wrapped._validate_args = False
        wrapped = getattr(wrapped, "base_dist", None)
    return True


def _reason(error: ValueError) -> str:
    return " ".join(str(error).split(", but found")[0].split())


def _find_layout(guide_sites: dict[str, Site], model_sites: dict[str, Site], n: int, *, joint: bool) -> Layout:
    sites = [*model_sites.values(), *guide_sites.values()]
    latents = tuple(name for name in guide_sites if name in model_sites)
    layout = Layout(
        data=None,
        data_dim=0,
        subsamples=False,
        nesting=-min((plate.dim for site in sites for plate in plates_of(site)), default=0),
        latents=latents,
        enumerated=tuple(k for k, s in model_sites.items() if k not in guide_sites and not s["is_observed"]),
        without_rsample=tuple(k for k, s in guide_sites.items() if not getattr(s["fn"], "has_rsample", False)),
    )
    if joint:
        return layout
    observed = [site for site in model_sites.values() if site["is_observed"]]
    local = [model_sites[name] for name in latents if _data_plates(model_sites[name], n)]
    candidates = [f for f in _data_plates(observed[0], n) if all(f in plates_of(site) for site in [*observed, *local])]
    if not candidates:
        plates = ", ".join(f"`{f.name}` of size {f.size}" for f in plates_of(observed[0])) or "no plate"
        raise ValueError(
            f"site `{observed[0]['name']}` is observed in {plates}, expected a plate over the {n} data: "
            'wrap local sites in `pyro.plate("data", len(x))`, or ask for `joint=True`'
        )
    named = [plate for plate in candidates if plate.name == "data"] or candidates
    if len(named) > 1:
        names = " and ".join(f"`{plate.name}`" for plate in named)
        raise ValueError(
            f"plates {names} both have {n} entries, so either may be the data's: call that plate `data`, or take "
            "another batch size"
        )
    _check_local(sites, named[0])
    return replace(layout, data=named[0].name, data_dim=named[0].dim, subsamples=named[0].size != n)


def _data_plates(site: Site, n: int) -> list[Plate]:
    return [plate for plate in plates_of(site) if n in (plate.size, plate.full_size)]


def _check_local(sites: list[Site], data: Plate) -> None:
    for site in sites:
        twin = next((plate for plate in plates_of(site) if plate.name == data.name), None)
        if twin is not None and twin != data:
            raise ValueError(
                f"plate `{data.name}` is {data}, but {twin} around site `{site['name']}`: expected one plate "
                "over the data, in model and guide"
            )
        if twin is None:
            kind = "observed" if site["is_observed"] else "latent"
            raise ValueError(
                f"site `{site['name']}` is {kind} outside the data plate `{data.name}`, so bounds per datum are "
                "undefined: move it into the plate, or ask for one weight of the whole batch with `joint=True`"
            )
