r"""Importance weights of a pair, per datum: the one place that turns Pyro traces into numbers.

.. math:: \log w_{ki} = \log p(x_i, z_{ki}) - \log q(z_{ki} \mid x_i), \qquad z_{ki} \sim q(z \mid x_i)

Every bound, estimator, k-hat and effective sample size is a function of this one `(K, n)` object, so that one set
of draws feeds a whole table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import torch
from pyro.ops.contract import einsum
from pyro.poutine import Trace
from torch import Tensor

from inference.closed_form import closed_form_kl
from inference.layout import Layout
from inference.particles import site_log_prob
from inference.sites import Site, plates_of, sample_sites
from inference.strata import Strata, plate_of, strata_of

__all__ = ["Source", "Weights", "weigh_traces"]

Source: TypeAlias = Literal["guide", "posterior", "annealing", "reverse annealing"]
"""Where draws come from: the guide; the posterior; chains annealed from guide to posterior, or back."""


@dataclass(frozen=True, eq=False)
class Weights:
    r"""Log densities of K draws for each of n data, in nats.

    Attributes:
        log_p: :math:`\log p(x_i, z_{ki})`, enumerated sites summed out, `(K, n)`.
        log_q: :math:`\log q(z_{ki} \mid x_i)`, `(K, n)`.
        log_likelihood: the observed sites' part of `log_p`, `(K, n)`; `None` where enumeration has mixed it in.
        kl: per latent site, :math:`\log q(z) - \log p(z)` at the draw, `(K, n)`.
        analytic_kl: per latent site with a closed form, :math:`\mathrm{KL}(q \| p)` given its parents, `(K, n)`.
        source: where the draws come from. Annealed chains have their log weight in `log_p`, and zero in `log_q`.
        mean_log_w: where a draw is a set of strata s of mass :math:`m_s`, see `inference.strata`, their
            :math:`\sum_s m_s \log w_{kis}`, `(K, n)`: what the ELBO averages. The draw's own weight,
            :math:`\log \sum_s m_s w_{kis}`, stands in `log_p`, zero in `log_q`, and means over strata in the rest.

    >>> Weights(log_p=torch.zeros(5, 2), log_q=torch.ones(5, 2)).log_w.shape
    torch.Size([5, 2])
    """

    log_p: Tensor
    log_q: Tensor
    log_likelihood: Tensor | None = None
    kl: Mapping[str, Tensor] = field(default_factory=dict)
    analytic_kl: Mapping[str, Tensor] = field(default_factory=dict)
    source: Source = "guide"
    mean_log_w: Tensor | None = None

    @property
    def elbo_terms(self) -> Tensor:
        """What the ELBO averages, `(K, n)`: the log weights, or of strata their mean."""
        return self.log_w if self.mean_log_w is None else self.mean_log_w

    @property
    def log_w(self) -> Tensor:
        """:math:`\\log p - \\log q`, `(K, n)`."""
        return self.log_p - self.log_q

    @property
    def num_particles(self) -> int:
        """K, the draws per datum."""
        return self.log_p.shape[0]

    @property
    def num_data(self) -> int:
        """n, the data."""
        return self.log_p.shape[1]

    def map(self, function: Any) -> Weights:
        """Apply a function to every `(K, n)` tensor."""
        return Weights(
            log_p=function(self.log_p),
            log_q=function(self.log_q),
            log_likelihood=None if self.log_likelihood is None else function(self.log_likelihood),
            mean_log_w=None if self.mean_log_w is None else function(self.mean_log_w),
            kl={name: function(value) for name, value in self.kl.items()},
            analytic_kl={name: function(value) for name, value in self.analytic_kl.items()},
            source=self.source,
        )

    def tensors(self) -> list[Tensor]:
        """Every `(K, n)` tensor, in a fixed order."""
        optional = [value for value in (self.log_likelihood, self.mean_log_w) if value is not None]
        return [self.log_p, self.log_q, *optional, *self.kl.values(), *self.analytic_kl.values()]

    def like(self, tensors: Iterable[Tensor]) -> Weights:
        """Weights of the same fields made of other tensors, in the order of `tensors`."""
        rest = iter(tensors)
        return self.map(lambda _: next(rest))


def weigh_traces(
    guide_trace: Trace,
    model_trace: Trace,
    K: int,
    layout: Layout,
    analytic: frozenset[str],
    *,
    keep_scale: bool,
) -> Weights:
    """Weigh K draws from one trace of the guide and one of the model on its draws."""
    q_sites, p_sites = sample_sites(guide_trace), sample_sites(model_trace)
    n, size = _data_plate(p_sites, layout)
    strata = strata_of(guide_trace)
    rows = _Rows(layout, tuple(size for _, size in sorted(strata.values())), K, n)

    def scale(site: Site) -> Any:
        return site["scale"] * n / size if keep_scale else 1.0

    def terms(sites: dict[str, Site]) -> dict[str, Tensor]:
        kept = {k: site for k, site in sites.items() if not _has_enumerated_dims(site, layout)}
        return {k: rows(site_log_prob(site, scale(site))) for k, site in kept.items()}

    q, p = terms(q_sites), terms(p_sites)
    mixed = [name for name in p_sites if name not in p]
    if mixed:
        p["+".join(mixed)] = _sum_out(model_trace, {name: scale(p_sites[name]) for name in mixed}, strata, rows)
    observed = [name for name, site in p_sites.items() if site["is_observed"]]
    latents = [name for name in layout.latents if name in p]
    log_p = _total(p.values())
    weights = Weights(
        log_p=log_p,
        log_q=_total(q.values()) if q else torch.zeros_like(log_p),
        log_likelihood=_total(p[name] for name in observed) if p.keys() >= set(observed) else None,
        kl={name: q[name] - p[name] for name in latents},
        analytic_kl={
            name: rows(closed_form_kl(q_sites[name], p_sites[name], scale(p_sites[name])))
            for name in latents
            if name in analytic
        },
    )
    if not strata:
        return weights
    return _over_strata(weights, Strata(_total(rows(q_sites[name]["infer"]["_log_mass"]) for name in strata)))


def _over_strata(weights: Weights, strata: Strata) -> Weights:
    """One draw of a set of strata, `(K, n)`, from the weights of each of them, `(*S, K, n)`."""
    log_w = strata.log_mean_exp(weights.log_w)
    means = weights.map(strata.mean)
    return replace(means, log_p=log_w, log_q=torch.zeros_like(log_w), mean_log_w=strata.mean(weights.log_w))


def _total(terms: Iterable[Tensor]) -> Tensor:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


def _data_plate(sites: dict[str, Site], layout: Layout) -> tuple[int, int]:
    """The data plate's size in this batch, and in the world: `(n, N)`; `(1, 1)` for a joint weight."""
    for site in sites.values():
        for plate in plates_of(site):
            if plate.name == layout.data:
                return plate.size, plate.full_size
    return 1, 1


@dataclass(frozen=True)
class _Rows:
    """Sums a site's log probability over every plate but the data's and the particles', to `(*S, K, n)`."""

    layout: Layout
    strata: tuple[int, ...]
    K: int
    n: int

    def __call__(self, log_prob: Tensor) -> Tensor:
        layout, left = self.layout, self.layout.nesting + 1 + len(self.strata)
        log_prob = log_prob.reshape((1,) * (left - log_prob.dim()) + log_prob.shape)
        dims = [d for d in range(-layout.nesting, 0) if d != layout.data_dim]
        if dims:
            log_prob = log_prob.sum(dims)  # (*S, K, n) or, joint, (*S, K)
        if layout.data is None:
            log_prob = log_prob.unsqueeze(-1)
        return self.expand(log_prob)

    def expand(self, log_prob: Tensor) -> Tensor:
        return log_prob.expand(*self.strata, self.K, self.n)


def _has_enumerated_dims(site: Site, layout: Layout) -> bool:
    """Whether a site's log probability has dimensions to the left of the particles and strata."""
    reach = max(len(site["fn"].batch_shape), site["value"].dim() - site["fn"].event_dim)
    return bool(layout.enumerated) and reach > -layout.leftmost


def _sum_out(trace: Trace, scales: Mapping[str, Any], strata: Mapping[str, tuple[int, int]], rows: _Rows) -> Tensor:
    """Log of the sum, over enumerated sites, of the product of the factors named, `(*S, K, n)`."""
    sites = sample_sites(trace)
    for name, scale in scales.items():
        if isinstance(scale, Tensor) or not math.isclose(scale, 1.0):
            raise ValueError(
                f"site `{name}` is scaled and depends on a site that is summed out: a scaled factor has no exact sum; "
                "take the scale off, or sample the discrete site in the guide"
            )
        sites[name]["unscaled_log_prob"] = sites[name]["log_prob"] = site_log_prob(sites[name])
    trace.pack_tensors()
    factors: dict[str, Tensor] = {}
    for name in scales:  # adding factors of the same shape first keeps the sum from underflowing
        factor: Any = sites[name]["packed"]["log_prob"]
        dims = factor._pyro_dims
        factors[dims] = factors[dims] + factor if dims in factors else factor
    symbols: Any = trace.plate_to_symbol
    axes = [*(plate_of(site) for site in sorted(strata, key=lambda site: strata[site])), "particles", rows.layout.data]
    found = {axis: symbols[axis] for axis in axes if any(symbols.get(axis, ".") in dims for dims in factors)}
    total: Tensor
    (total,) = einsum(
        ",".join(factors) + "->" + "".join(found.values()),
        *factors.values(),
        plates="".join(symbols.values()),
        backend="pyro.ops.einsum.torch_log",
        modulo_total=True,  # every axis of the output is a plate, so nothing is left out
    )
    return rows.expand(total[tuple(slice(None) if axis in found else None for axis in axes)])  # packing drops ones
