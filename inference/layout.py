r"""What a pair looks like on one batch: its sites, its plates, and whether per-datum numbers exist at all.

`read_layout` runs the pair once with Pyro's validation on, so that every later run may have it off. Everything
that would make a per-datum bound wrong is refused here, by site name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pyro.poutine import Trace

from inference.flags import validating
from inference.pair import Pair, first_tensor, size_of
from inference.sites import Plate, Site, check_shape, check_sites, first_line, plates_of, sample_sites
from inference.strata import is_enumerated, is_stratified
from ppmodels.contracts import Batch

__all__ = ["Layout", "read_layout", "sample_sites"]


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
        summed: guide sites that take every value, see `inference.strata`.
        stratified: guide sites that take a draw of every component.
    """

    data: str | None
    data_dim: int
    subsamples: bool
    nesting: int
    latents: tuple[str, ...]
    enumerated: tuple[str, ...]
    without_rsample: tuple[str, ...]
    vectorized: bool = True
    summed: tuple[str, ...] = ()
    stratified: tuple[str, ...] = ()

    @property
    def strata(self) -> tuple[str, ...]:
        """The guide's sites that stand in strata, on an axis each, left of the particles."""
        return self.summed + self.stratified

    @property
    def leftmost(self) -> int:
        """The leftmost dimension of the guide, counted from the right: plates, particles, strata."""
        return -1 - self.nesting - len(self.strata)

    def without_strata(self, **changes: Any) -> Layout:
        """The same pair with its strata drawn like other sites, and other changes."""
        return replace(self, summed=(), stratified=(), **changes)

    def summing_in_model(self, sites: tuple[str, ...]) -> Layout:
        """The same pair where the model sums out these of its sites, whatever the guide does with them."""
        return replace(
            self,
            latents=tuple(name for name in self.latents if name not in sites),
            enumerated=tuple(dict.fromkeys((*self.enumerated, *sites))),
            summed=tuple(name for name in self.summed if name not in sites),
        )


def read_layout(pair: Pair, batch: Batch, *, joint: bool = False) -> Layout:
    """Run a pair once on a batch with Pyro's validation on, and refuse what cannot be right.

    Raises:
        ValueError: if a site is missing, stands outside the data plate, or has a shape its plates do not
            explain; the message names the site.
    """
    with validating(enabled=True):
        guide_trace, model_trace = _run(pair, batch)
        guide_sites, model_sites = sample_sites(guide_trace), sample_sites(model_trace)
        check_sites(guide_sites, model_sites)
        for site in [*guide_sites.values(), *model_sites.values()]:
            check_shape(site)
    return _find_layout(guide_sites, model_sites, size_of(batch), joint=joint)


def _run(pair: Pair, batch: Batch) -> tuple[Trace, Trace]:
    shape = tuple(first_tensor(batch).shape)
    try:
        return pair.traces(batch)
    except (RuntimeError, IndexError) as error:
        raise ValueError(f"the pair does not take a batch of shape {shape}: {first_line(error)}") from error


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
        without_rsample=tuple(k for k, s in guide_sites.items() if not _has_rsample(s)),
        summed=tuple(k for k, s in guide_sites.items() if is_enumerated(s["infer"])),
        stratified=tuple(k for k, s in guide_sites.items() if is_stratified(s["infer"])),
    )
    if joint and layout.strata:
        raise ValueError(
            f"site `{layout.strata[0]}` is summed over in the guide, which is done for each datum by itself: take "
            "`joint=True` off, or the mark off the site"
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


def _has_rsample(site: Site) -> bool:
    """Whether what the guide puts at a site carries a pathwise gradient; what is not drawn needs none."""
    fn = site["fn"].component_distribution if is_stratified(site["infer"]) else site["fn"]
    return is_enumerated(site["infer"]) or bool(getattr(fn, "has_rsample", False))


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
