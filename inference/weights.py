r"""Importance weights of a pair, per datum: the one place that turns Pyro traces into numbers.

.. math:: \log w_{ki} = \log p(x_i, z_{ki}) - \log q(z_{ki} \mid x_i), \qquad z_{ki} \sim q(z \mid x_i)

Every bound, estimator, k-hat and effective sample size is a function of this one `(K, n)` object, so that one set
of draws feeds a whole table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from pyro.ops.contract import einsum
from pyro.poutine import Trace
from torch import Tensor

from inference.closed_form import closed_form_kl
from inference.layout import Layout, Site, plates_of, sample_sites
from inference.particles import site_log_prob

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

    >>> Weights(log_p=torch.zeros(5, 2), log_q=torch.ones(5, 2)).log_w.shape
    torch.Size([5, 2])
    """

    log_p: Tensor
    log_q: Tensor
    log_likelihood: Tensor | None = None
    kl: Mapping[str, Tensor] = field(default_factory=dict)
    analytic_kl: Mapping[str, Tensor] = field(default_factory=dict)
    source: Source = "guide"

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
            kl={name: function(value) for name, value in self.kl.items()},
            analytic_kl={name: function(value) for name, value in self.analytic_kl.items()},
            source=self.source,
        )

    def tensors(self) -> list[Tensor]:
        """Every `(K, n)` tensor, in a fixed order."""
        likelihood = [] if self.log_likelihood is None else [self.log_likelihood]
        return [self.log_p, self.log_q, *likelihood, *self.kl.values(), *self.analytic_kl.values()]


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

    def scale(site: Site) -> Any:
        return site["scale"] * n / size if keep_scale else 1.0

    def terms(sites: dict[str, Site]) -> dict[str, Tensor]:
        kept = {k: site for k, site in sites.items() if not _has_enumerated_dims(site, layout)}
        return {k: _per_datum(site_log_prob(site, scale(site)), K, n, layout) for k, site in kept.items()}

    q, p = terms(q_sites), terms(p_sites)
    mixed = [name for name in p_sites if name not in p]
    if mixed:
        p["+".join(mixed)] = _sum_out(model_trace, {name: scale(p_sites[name]) for name in mixed}, layout).expand(K, n)
    observed = [name for name, site in p_sites.items() if site["is_observed"]]
    latents = [name for name in layout.latents if name in p]
    log_p = _total(p.values())
    return Weights(
        log_p=log_p,
        log_q=_total(q.values()) if q else torch.zeros_like(log_p),
        log_likelihood=_total(p[name] for name in observed) if p.keys() >= set(observed) else None,
        kl={name: q[name] - p[name] for name in latents},
        analytic_kl={
            name: _per_datum(closed_form_kl(q_sites[name], p_sites[name], scale(p_sites[name])), K, n, layout)
            for name in latents
            if name in analytic
        },
    )


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


def _per_datum(log_prob: Tensor, K: int, n: int, layout: Layout) -> Tensor:
    """Sum a site's log probability over every plate but the data's and the particles': `(K, n)`."""
    left = layout.nesting + (K > 1)
    log_prob = log_prob.reshape((1,) * (left - log_prob.dim()) + log_prob.shape)
    if K == 1:
        log_prob = log_prob.unsqueeze(0)
    dims = [d for d in range(-layout.nesting, 0) if d != layout.data_dim]
    if dims:
        log_prob = log_prob.sum(dims)  # (K, n) or, joint, (K,)
    if layout.data is None:
        log_prob = log_prob.unsqueeze(-1)
    return log_prob.expand(K, n)


def _has_enumerated_dims(site: Site, layout: Layout) -> bool:
    """Whether a site's log probability has dimensions to the left of the particles."""
    reach = max(len(site["fn"].batch_shape), site["value"].dim() - site["fn"].event_dim)
    return bool(layout.enumerated) and reach > layout.nesting + 1


def _sum_out(trace: Trace, scales: Mapping[str, Any], layout: Layout) -> Tensor:
    """Log of the sum, over enumerated sites, of the product of the factors named: `(K, n)` less axes of size one."""
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
    rows = [symbols[plate] for plate in ("particles", layout.data) if plate in symbols]
    output = "".join(s for s in rows if any(s in dims for dims in factors))  # packing drops axes of size one
    total: Tensor
    (total,) = einsum(
        ",".join(factors) + "->" + output,
        *factors.values(),
        plates="".join(symbols.values()),
        backend="pyro.ops.einsum.torch_log",
        modulo_total=True,  # every axis of the output is a plate, so nothing is left out
    )
    return total if symbols.get(layout.data, ".") in output else total.unsqueeze(-1)
