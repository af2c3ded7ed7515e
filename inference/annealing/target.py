r"""The two ends of a path, q and p, as functions of one vector without constraints, with their gradients.

.. math:: \log \pi_\beta(z) = (1 - \beta) \log q(v) + \beta \log p(x, v) + \log |\det \partial v / \partial z| + c

Value and gradient of both ends are kept apart, so that a change of temperature costs no evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from inference.evaluation import inspect_for_evaluation
from inference.latents import LatentSpace, Placing
from inference.layout import Layout
from inference.pair import Pair, call, size_of
from inference.particles import in_particles, run_particles
from inference.sites import first_line, sample_sites
from inference.strata import is_enumerated
from inference.unobserving import unobserved
from inference.weights import weigh_traces
from ppmodels.contracts import Batch, Program

__all__ = ["Point", "Target"]

Start: TypeAlias = Literal["guide", "prior"]


class Point(NamedTuple):
    """Where chains stand: C of them for each of n data.

    Attributes:
        z: the latents without constraints, `(C, n, D)`.
        log_q: of the path's beginning, the guide or the prior, `(C, n)`.
        log_p: of the joint, `(C, n)`.
        log_det: of the bijection from z to the latents, `(C, n)`.
        grad_q: of `log_q + log_det` in z, `(C, n, D)`.
        grad_p: of `log_p + log_det` in z, `(C, n, D)`.
    """

    z: Tensor
    log_q: Tensor
    log_p: Tensor
    log_det: Tensor
    grad_q: Tensor
    grad_p: Tensor


@dataclass(frozen=True, eq=False)
class Target:
    """A pair's joint density, and that of the program a path begins at.

    Attributes:
        pair: the model and its guide.
        base: the program the path begins at: the guide, or the model without its observations.
        start: which of them it is.
        layout: how model and base are run.
        space: where their latents stand in z.
    """

    pair: Pair
    base: Program
    start: Start
    layout: Layout
    space: LatentSpace

    @classmethod
    def of(cls, pair: Pair, batch: Batch, start: Start) -> Target:
        """Inspect a pair on a batch; where the path begins at the prior, the guide is run for no more than that.

        Raises:
            ValueError: if the guide cannot score what others have drawn, or there is no path; see `LatentSpace.of` and
                `inference.evaluation.inspect_for_evaluation`.
        """
        base = pair.guide if start == "guide" else _prior(pair.model)
        summed = _summed_out(pair.model, batch)
        layout = inspect_for_evaluation(pair if summed else Pair(pair.model, base), batch)
        if start == "guide" and layout.summed:
            raise ValueError(
                f"site `{layout.summed[0]}` takes every value in the guide, which so has no density of the other "
                'latents alone: begin at the prior with Annealing(start="prior")'
            )
        if start == "prior":
            layout = layout.summing_in_model(summed)
        layout = layout.without_strata()
        trace, _ = run_particles(Pair(pair.model, base), batch, 1, layout)
        others = [name for name in sample_sites(trace) if name not in layout.latents]
        if others:
            raise ValueError(
                f"site `{others[0]}` is auxiliary, so the guide has no density of the latents alone: begin at the "
                'prior with Annealing(start="prior")'
            )
        target = cls(pair, base, start, layout, LatentSpace.of(trace, layout))
        try:
            target(batch, target.space.flatten(trace, 1, size_of(batch)))
        except NotImplementedError as error:
            raise ValueError(
                f"the pair cannot score latents that it has not drawn itself ({first_line(error)}): take a flow whose "
                'inverse is known, or leave the guide out with Annealing(start="prior")'
            ) from error
        return target

    def draw(self, batch: Batch, num_chains: int) -> Tensor:
        """Draws from the path's beginning, `(C, n, D)`."""
        program = in_particles(self.base, num_chains, self.layout)
        trace = poutine.trace(lambda: call(program, batch)).get_trace()
        return self.space.flatten(trace, num_chains, size_of(batch))

    def place(self, batch: Batch, latents: Mapping[str, Tensor]) -> Tensor:
        """Latents as the programs draw them, without an axis of draws, as z: `(1, n, D)`."""
        trace, _ = run_particles(Pair(self.pair.model, self.base), batch, 1, self.layout, given=latents)
        return self.space.flatten(trace, 1, size_of(batch))

    def __call__(self, batch: Batch, z: Tensor) -> Point:
        """Log densities and gradients at z."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            log_q, log_p, log_det = self._log_densities(batch, z)
            grad_q, grad_p = (_gradient(log_density + log_det, z) for log_density in (log_q, log_p))
        return Point(z.detach(), log_q.detach(), log_p.detach(), log_det.detach(), grad_q, grad_p)

    def _log_densities(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        K, layout = len(z), self.layout
        placing = Placing(self.space, z)
        if self.start == "guide":
            traces = run_particles(Pair(self.pair.model, placing(self.base)), batch, K, layout)
            weights = weigh_traces(*traces, K, layout, frozenset(), keep_scale=False)
            return weights.log_q, weights.log_p, placing.log_det()
        model = in_particles(self.pair.model, K, layout)
        if layout.enumerated:  # inside `placing`, so that latents learn which dimensions are enumerated
            model = poutine.enum(model, first_available_dim=-2 - layout.nesting)
        trace = poutine.trace(placing(lambda: call(model, batch))).get_trace()
        weights = weigh_traces(_latent_part(trace, layout), trace, K, layout, frozenset(), keep_scale=False)
        log_prior = weights.log_q
        if layout.enumerated:  # as the sum over a site that latents depend on
            prior = _without_observations(trace)
            log_prior = weigh_traces(prior, prior, K, layout, frozenset(), keep_scale=False).log_p
        return log_prior, weights.log_p, placing.log_det()


def _prior(model: Program) -> Program:
    """A program that draws a model's latents as the model does, without those that are summed out."""

    def is_hidden(site: Any) -> bool:
        observed = site["type"] == "sample" and (site["infer"].get("was_observed") or site["is_observed"])
        return bool(observed) or is_enumerated(site["infer"])

    prior: Program = poutine.block(unobserved(model), hide_fn=is_hidden)
    return prior


def _summed_out(model: Program, batch: Batch) -> tuple[str, ...]:
    """The sites a model has marked to be summed out: if any, its prior does not say all that its latents depend on."""
    sites = sample_sites(poutine.trace(lambda: call(model, batch)).get_trace())
    return tuple(name for name, site in sites.items() if is_enumerated(site["infer"]))


def _latent_part(trace: Trace, layout: Layout) -> Trace:
    """The latents of a model's trace, as if a guide had drawn them."""
    part = Trace()
    for name in layout.latents:
        part.add_node(name, **trace.nodes[name])
    return part


def _without_observations(trace: Trace) -> Trace:
    """A model's trace with its observations masked out."""
    prior = Trace()
    for name, site in trace.nodes.items():
        masked = {"mask": False} if site["type"] == "sample" and site["is_observed"] else {}
        prior.add_node(name, **{**site, **masked})
    return prior


def _gradient(log_density: Tensor, z: Tensor) -> Tensor:
    """Of the sum over chains and data, each of which knows its own z alone."""
    if not log_density.requires_grad:
        return torch.zeros_like(z)
    (gradient,) = torch.autograd.grad(log_density.sum(), z, retain_graph=True, materialize_grads=True)
    return gradient
