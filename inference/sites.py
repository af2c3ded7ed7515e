"""The sites of a program's trace: which carry a density, in which plates, and whether they can be right."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Bernoulli

from inference.strata import is_enumerated, is_stratified, mixture_of

__all__ = ["Plate", "Site", "check_shape", "check_sites", "first_line", "plates_of", "sample_sites"]

Site = dict[str, Any]


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


def first_line(error: Exception) -> str:
    """What an error says, without its traceback's worth of context."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def check_sites(guide_sites: dict[str, Site], model_sites: dict[str, Site]) -> None:
    """Refuse sites that one program has and the other cannot do without, and marks that cannot be followed."""
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
    for name in sorted(guide_sites):
        _check_strata(name, guide_sites[name])


def _check_strata(name: str, site: Site) -> None:
    """A site of the guide may ask for strata only if it has some, one set for each datum."""
    infer, fn = site["infer"], site["fn"]
    if infer.get("enumerate") not in (None, "parallel"):
        raise ValueError(
            f'site `{name}` is marked infer={{"enumerate": {infer["enumerate"]!r}}} in the guide, expected "parallel"'
        )
    if is_enumerated(infer) and not fn.has_enumerate_support:
        raise ValueError(
            f"site `{name}` is enumerated in the guide, but {type(fn).__name__} has no values to enumerate: expected "
            "a categorical or Bernoulli distribution"
        )
    if is_stratified(infer) and mixture_of(fn) is None:
        raise ValueError(
            f'site `{name}` is marked infer={{"stratify": True}}, but {type(fn).__name__} has no components: expected '
            "a MixtureSameFamily"
        )
    if not (is_enumerated(infer) or is_stratified(infer)):
        return
    if infer.get("is_auxiliary") and site["mask"] is not False:
        raise ValueError(
            f"site `{name}` is auxiliary and summed over in the guide, but its density counts, so the weights are too "
            "large by the number of its values: expected it under `poutine.mask(mask=False)`, or its mixture in the "
            'place of what follows, marked infer={"stratify": True}'
        )
    plates = plates_of(site)
    if len(plates) != 1:
        names = ", ".join(f"`{plate.name}`" for plate in plates) or "none"
        raise ValueError(
            f"site `{name}` is summed over in the guide within plates {names}, expected the data's alone: the sum is "
            "one for each datum"
        )


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "nothing"


def check_shape(site: Site) -> None:
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
