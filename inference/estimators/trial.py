"""One weighing before training, to refuse the guides whose score is not what an estimator takes it for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine import Trace
from torch import Tensor

from inference.draws import gather
from inference.estimators.base import Setting
from inference.estimators.replaying import drawn_values, weigh_detached
from inference.flags import validating
from inference.pair import Pair, first_tensor
from inference.particles import run_guide, run_particles, site_log_prob
from inference.seeds import seeded
from inference.sites import first_line, sample_sites
from inference.weights import Weights, weigh_traces
from ppmodels.contracts import Batch

__all__ = ["buffers_kept", "weigh_once"]


def weigh_once(setting: Setting, batch: Batch, name: str, *, replays: bool, rewrites_score: bool) -> Weights:
    """Draw and weigh K particles as the estimator called `name` will; random state and buffers stay as they were.

    Args:
        setting: what is to be run.
        batch: on what.
        name: the estimator's, for messages.
        replays: whether it weighs draws in a second run of the guide.
        rewrites_score: whether it takes the gradient of log q for the score of what was drawn.

    Raises:
        ValueError: if the guide cannot score given values, scores them otherwise than when it drew them, is scaled, or
            has a site without a density.
    """
    with (
        seeded(None, first_tensor(batch).device),
        buffers_kept(setting.pair),
        validating(enabled=False),
        torch.no_grad(),
    ):
        try:
            drawn = run_guide(setting.pair, batch, 1, setting.layout)
            given = run_particles(setting.pair, batch, 1, setting.layout, given=drawn_values(drawn))
            weights = gather((weigh_detached(setting, batch, size) for size in setting.chunks), setting.num_particles)
        except (NotImplementedError, KeyError) as error:  # torch's transforms raise the one, Pyro's the other
            raise ValueError(
                f"`guide` cannot score values that are given to it ({first_line(error)}), which {name} needs: use "
                "`estimator=Pathwise()`, or transforms that have an inverse"
            ) from error
        if replays:
            _refuse_other_densities(drawn, given[0], name)
        if rewrites_score:
            _refuse_deltas(drawn, name)
            _refuse_scales(given, setting, name)
    return weights


@contextmanager
def buffers_kept(pair: Pair) -> Iterator[None]:
    """Put running statistics and the like back."""
    buffers = [buffer for module in pair.used_modules().values() for buffer in module.buffers()]
    before = [buffer.detach().clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)


def _refuse_other_densities(drawn: Trace, given: Trace, name: str) -> None:
    again = sample_sites(given)
    for site_name, site in sample_sites(drawn).items():
        first, second = site_log_prob(site), site_log_prob(again[site_name])
        slack = 100 * torch.finfo(first.dtype).eps ** 0.75
        if not torch.allclose(first, second, rtol=slack, atol=slack, equal_nan=True):
            raise ValueError(
                f"site `{site_name}` has another density when its draw is given to the guide than when it was drawn, "
                f"so {name} would weigh it wrongly: take out what is drawn beside the sites (dropout), or use "
                "`estimator=Pathwise()`"
            )


def _refuse_deltas(trace: Trace, name: str) -> None:
    for site_name, site in sample_sites(trace).items():
        base: Any = site["fn"]
        while hasattr(base, "base_dist"):
            base = base.base_dist
        if isinstance(base, dist.Delta) and not site["is_observed"]:
            raise ValueError(
                f"site `{site_name}` is a Delta in the guide, which has no density for {name} to differentiate: use "
                "`estimator=Pathwise()`"
            )


def _refuse_scales(traces: tuple[Trace, Trace], setting: Setting, name: str) -> None:
    def log_q(*, keep_scale: bool) -> Tensor:
        return weigh_traces(*traces, 1, setting.layout, frozenset(), keep_scale=keep_scale).log_q

    if not torch.allclose(log_q(keep_scale=True), log_q(keep_scale=False)):
        raise ValueError(
            f"`guide` is scaled by `poutine.scale`, so its log density is not that of its draws, which {name} takes it "
            "for: scale the model alone, or use `estimator=Pathwise()`"
        )
