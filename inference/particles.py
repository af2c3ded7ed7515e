r"""Run K particles of a pair at once, in an outer plate, and know when that is not the same as one at a time.

Pyro's own vectorisation is silently wrong for programs that index or contract dimensions from the left. So the
first batch is run both ways: where a site's log probability differs, particles run one by one, with a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor

from inference.flags import validating
from inference.layout import Layout, read_layout
from inference.pair import Pair, call, first_tensor, size_of
from inference.seeds import seeded
from inference.sites import Site, first_line, sample_sites
from inference.strata import StrataMessenger, plate_of, strata_of
from ppmodels.contracts import Batch, Program

__all__ = [
    "draw_latents",
    "in_particles",
    "inspect_pair",
    "raw_latents",
    "run_guide",
    "run_particles",
    "site_log_prob",
    "trace_of",
]


def run_particles(
    pair: Pair, batch: Batch, num_particles: int, layout: Layout, given: Mapping[str, Tensor] | None = None
) -> tuple[Trace, Trace]:
    """Traces of the guide and of the model on its draws; K > 1 stand in a plate left of all others.

    Sites of the guide that stand in strata get a dimension each, further left, and enumerated sites of the model one
    each left of these. Values `given` by site, as `raw_latents` returns them, take the place of the guide's draws.
    """
    guide, model = pair.guide, in_particles(pair.model, num_particles, layout)
    if given is not None:
        guide = poutine.replay(guide, trace=trace_of(given))
    guide = in_particles(guide, num_particles, layout)
    if layout.strata:
        guide = StrataMessenger(-2 - layout.nesting)(guide)
    guide_trace = poutine.trace(lambda: call(guide, batch)).get_trace()
    if layout.enumerated:
        model = poutine.infer_config(_in_strata(model, guide_trace), partial(_only, layout.enumerated))
        model = poutine.enum(model, first_available_dim=layout.leftmost - 1)
    replayed = poutine.replay(lambda: call(model, batch), trace=guide_trace)
    return guide_trace, poutine.trace(replayed).get_trace()


def _in_strata(program: Program, guide_trace: Trace) -> Program:
    """The program in a plate for each axis of strata, which tells them from axes that are summed out."""

    def strata(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as plates:
            for site, (dim, size) in strata_of(guide_trace).items():
                plates.enter_context(pyro.plate(plate_of(site), size, dim=dim))
            return program(*args, **kwargs)

    return strata


def _only(enumerated: tuple[str, ...], site: Any) -> Any:
    """The mark of a site that is summed out; a site that the guide puts in its strata loses it."""
    return site["infer"] if site["name"] in enumerated else {"enumerate": None}


def run_guide(pair: Pair, batch: Batch, num_particles: int, layout: Layout) -> Trace:
    """A trace of the guide alone; K > 1 particles stand in a plate left of all others."""
    guide = in_particles(pair.guide, num_particles, layout)
    return poutine.trace(lambda: call(guide, batch)).get_trace()


def in_particles(program: Program, num_particles: int, layout: Layout) -> Program:
    """The program in a plate of K particles, left of all its own; as it is for one."""
    if num_particles == 1:
        return program

    def particles(*args: Any, **kwargs: Any) -> Any:
        with pyro.plate("particles", num_particles, dim=-1 - layout.nesting):
            return program(*args, **kwargs)

    return particles


def trace_of(values: Mapping[str, Tensor]) -> Trace:
    """A trace of these values, to replay a program on."""
    trace = Trace()
    for name, value in values.items():
        trace.add_node(name, name=name, type="sample", is_observed=False, value=value, infer={})
    return trace


def raw_latents(trace: Trace, layout: Layout) -> dict[str, Tensor]:
    """The latents of a trace by site, in the shapes they were drawn with."""
    sites = sample_sites(trace)
    return {name: sites[name]["value"] for name in layout.latents}


def draw_latents(pair: Pair, batch: Batch, num_particles: int, layout: Layout) -> dict[str, Tensor]:
    """The guide's draws by site, `(K, n, *event)`."""
    if num_particles > 1 and not layout.vectorized:
        ones = [draw_latents(pair, batch, 1, layout) for _ in range(num_particles)]
        return {site: torch.cat([one[site] for one in ones]) for site in layout.latents}
    with validating(enabled=False):
        guide_trace = run_guide(pair, batch, num_particles, layout)
    sites, draws = sample_sites(guide_trace), {}
    for name in layout.latents:
        site = sites[name]
        value = site["value"] if num_particles > 1 else site["value"].unsqueeze(0)
        draws[name] = value.movedim(layout.data_dim - site["fn"].event_dim, 1)
    return draws


def site_log_prob(site: Site, scale: float | Tensor = 1.0) -> Tensor:
    """Log probability of a site over its plates: masks honoured, the scale of the program replaced by `scale`."""
    log_prob: Tensor = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    counted: Tensor = scale_and_mask(log_prob, scale, site["mask"])
    return counted


def inspect_pair(pair: Pair, batch: Batch, *, joint: bool = False, vectorize: bool | None = None) -> Layout:
    """Run a pair once on a batch, refuse what cannot be right, and say how to run it from now on.

    Nothing is left behind: random state, batch statistics and validation flags are as before.

    Args:
        pair: the model and its guide.
        batch: what they are called with.
        joint: give one weight for the whole batch, global latents included, in place of one per datum.
        vectorize: run all particles in one outer plate; `None` tries it on two particles and falls back to one
            by one, with a warning, where a site's log probability differs from the site's alone.

    Raises:
        ValueError: see `inference.layout.read_layout`; also if the pair does not run on all strata of a site at once.
    """
    with seeded(None, first_tensor(batch).device), pair.mode(training=False), torch.no_grad():
        layout = read_layout(pair, batch, joint=joint)
        if vectorize is None:
            reason = _why_not_together(pair, batch, layout)
            vectorize = reason is None
            if reason:
                warnings.warn(f"{reason}; particles run one by one, K times slower", stacklevel=3)
        if layout.strata:
            _check_strata(pair, batch, layout)
    return replace(layout, vectorized=vectorize)


def _why_not_together(pair: Pair, batch: Batch, layout: Layout) -> str | None:
    """Draw two particles together, score each alone, and name the first site that disagrees."""
    layout = layout.without_strata(enumerated=())  # a drawn value is as good a test as all of them
    try:
        with validating(enabled=False):
            together = run_particles(pair, batch, 2, layout)
            for k in range(2):
                for name, of_program in _differences(pair, batch, together, {-1 - layout.nesting: k}, layout):
                    return f"`{of_program}` gives site `{name}` another density in a plate of particles than alone"
    except (RuntimeError, ValueError, LookupError) as error:  # NotImplementedError is a RuntimeError
        return f"the pair does not run in a plate of particles ({first_line(error)})"
    return None


def _check_strata(pair: Pair, batch: Batch, layout: Layout) -> None:
    """Run all strata together, score the first and the last alone, and refuse a site that disagrees."""
    layout = replace(layout, enumerated=())
    where = f"site `{layout.strata[0]}` is summed over in the guide, whose values stand on an axis left of all plates"
    advice = "write the programs so that they broadcast over leading axes, or take the mark off the site"
    try:
        with validating(enabled=False):
            together = run_particles(pair, batch, 1, layout)
            axes = strata_of(together[0]).values()
            for place in ({dim: 0 for dim, _ in axes}, {dim: size - 1 for dim, size in axes}):
                for name, of_program in _differences(pair, batch, together, place, layout):
                    raise ValueError(
                        f"{where}: there `{of_program}` gives site `{name}` another density than alone: {advice}"
                    )
    except (RuntimeError, IndexError) as error:
        raise ValueError(f"{where}: the pair does not run so ({first_line(error)}): {advice}") from error


def _differences(
    pair: Pair, batch: Batch, together: tuple[Trace, Trace], place: Mapping[int, int], layout: Layout
) -> list[tuple[str, str]]:
    """The sites, and whose, that have another density at a place among particles or strata than alone."""
    found = []
    n = size_of(batch)
    for program, trace in zip(("guide", "model"), together, strict=True):
        chosen = trace.copy()
        for name, site in sample_sites(trace).items():
            value = _alone(site["value"], place, site["fn"].event_dim, n, layout)
            chosen.nodes[name] = {**site, "value": value}  # type: ignore[typeddict-item]  # a Message is a dict
        replayed = poutine.replay(partial(call, getattr(pair, program), batch), trace=chosen)
        single = sample_sites(poutine.trace(replayed).get_trace())
        for name, site in sample_sites(trace).items():
            ours = _alone(site_log_prob(site), place, 0, n, layout)
            ours, theirs = torch.broadcast_tensors(ours, site_log_prob(single[name]))
            slack = 100 * torch.finfo(ours.dtype).eps ** 0.75
            if not torch.allclose(ours, theirs, rtol=slack, atol=slack, equal_nan=True):
                found.append((name, program))
    return found


def _alone(value: Tensor, place: Mapping[int, int], event_dim: int, n: int, layout: Layout) -> Tensor:
    """What stands at a place, an index for each dimension left of the plates, as a program run alone has it."""
    for dim, index in place.items():
        axis = dim - event_dim
        if value.dim() >= -axis:
            value = value.narrow(axis, index if value.shape[axis] > 1 else 0, 1)
    extra = value.dim() - layout.nesting - event_dim
    if extra <= 0:
        return value
    value = value.reshape(value.shape[extra:])
    shape = list(value.shape)
    if layout.data is not None and shape[layout.data_dim - event_dim] == 1:  # the values of all data
        shape[layout.data_dim - event_dim] = n
    return value.expand(shape)
