"""Draws weighed with the draws held still: run the guide, then guide and model on what it gave.

Only so does log q(z | x) depend on the guide's parameters directly and on z by itself, two things that a run of the
guide mixes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor

from inference.estimators.base import Setting
from inference.flags import validating
from inference.particles import run_guide, run_particles
from inference.weights import Weights, weigh_traces
from ppmodels.contracts import Batch

__all__ = ["Draw", "draw", "drawn_values", "weigh", "weigh_detached"]


@dataclass(frozen=True, eq=False)
class Draw:
    """Particles drawn from a guide at once.

    Attributes:
        size: how many.
        given: every value the guide drew, by site, cut off from how it came about.
        moving: those that depend on parameters: as they were drawn, and as leaves in `given`.
    """

    size: int
    given: Mapping[str, Tensor]
    moving: tuple[tuple[Tensor, Tensor], ...]


def draw(setting: Setting, batch: Batch, size: int) -> Draw:
    """Draw particles, with the graph from the guide's parameters to each value."""
    with validating(enabled=False):
        trace = run_guide(setting.pair, batch, size, setting.layout)
    values = drawn_values(trace)
    given = {name: value.detach().requires_grad_(value.requires_grad) for name, value in values.items()}
    moving = [(value, given[name]) for name, value in values.items() if value.requires_grad]
    return Draw(size, given, tuple(moving))


def drawn_values(trace: Trace) -> dict[str, Tensor]:
    """Everything a guide drew: latents, auxiliary sites, and the indices of a subsampling plate."""
    nodes: dict[str, Any] = dict(trace.nodes)
    return {name: node["value"] for name, node in nodes.items() if node["type"] == "sample" and not node["is_observed"]}


def weigh(setting: Setting, batch: Batch, drawn: Draw) -> Weights:
    """Weigh particles where they stand, with the graph to the parameters and to the particles."""
    with validating(enabled=False):
        traces = run_particles(setting.pair, batch, drawn.size, setting.layout, given=drawn.given)
        return weigh_traces(*traces, drawn.size, setting.layout, frozenset(), keep_scale=True)


def weigh_detached(setting: Setting, batch: Batch, size: int) -> Weights:
    """Draw and weigh particles in one run, each value cut off from how it came about as soon as it is drawn."""
    with validating(enabled=False), _Detached():
        traces = run_particles(setting.pair, batch, size, setting.layout)
        return weigh_traces(*traces, size, setting.layout, frozenset(), keep_scale=True)


class _Detached(Messenger):
    """Cuts every drawn value off from the parameters it was drawn with."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], Tensor):
            msg["value"] = msg["value"].detach()
