r"""Importance weights of a pair, per datum: the one place that turns Pyro traces into numbers.

.. math:: \log w_{ki} = \log p(x_i, z_{ki}) - \log q(z_{ki} \mid x_i), \qquad z_{ki} \sim q(z \mid x_i)

Every bound, estimator, k-hat and effective sample size is a function of this one `(K, n)` object, so that one set
of draws feeds a whole table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from pyro.ops.contract import einsum
from pyro.poutine import Trace
from torch import Tensor

from inference.closed_form import closed_form_kl
from inference.flags import validating
from inference.layout import Layout, Site, plates_of, sample_sites
from inference.pair import Pair, first_tensor
from inference.particles import inspect_pair, run_particles, site_log_prob
from ppmodels.contracts import Batch, Program

__all__ = ["Weights", "check_particles", "default_chunk", "draw_weights", "log_weights"]


@dataclass(frozen=True, eq=False)
class Weights:
    r"""Log densities of K draws for each of n data, in nats.

    Attributes:
        log_p: :math:`\log p(x_i, z_{ki})`, enumerated sites summed out, `(K, n)`.
        log_q: :math:`\log q(z_{ki} \mid x_i)`, `(K, n)`.
        log_likelihood: the observed sites' part of `log_p`, `(K, n)`; `None` where enumeration has mixed it in.
        kl: per latent site, :math:`\log q(z) - \log p(z)` at the draw, `(K, n)`.
        analytic_kl: per latent site with a closed form, :math:`\mathrm{KL}(q \| p)` given its parents, `(K, n)`.

    >>> Weights(log_p=torch.zeros(5, 2), log_q=torch.ones(5, 2)).log_w.shape
    torch.Size([5, 2])
    """

    log_p: Tensor
    log_q: Tensor
    log_likelihood: Tensor | None = None
    kl: Mapping[str, Tensor] = field(default_factory=dict)
    analytic_kl: Mapping[str, Tensor] = field(default_factory=dict)

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
        )

    def tensors(self) -> list[Tensor]:
        """Every `(K, n)` tensor, in a fixed order."""
        likelihood = [] if self.log_likelihood is None else [self.log_likelihood]
        return [self.log_p, self.log_q, *likelihood, *self.kl.values(), *self.analytic_kl.values()]


def _gather(parts: Iterator[Weights], K: int) -> Weights:
    """Put chunks of draws after one another, K in all, into tensors made before the second is drawn.

    Keeping the chunks to concatenate them would leave small tensors scattered between large ones, which the
    allocator then cannot give back: memory would grow with K.
    """
    first = next(parts)
    if first.num_particles == K:
        return first
    whole = first.map(lambda v: v.new_empty(K, v.shape[1]))
    done = 0
    for part in chain([first], parts):
        for target, value in zip(whole.tensors(), part.tensors(), strict=True):
            target[done : done + part.num_particles] = value
        done += part.num_particles
    assert done == K
    return whole


def log_weights(
    model: Program,
    guide: Program,
    x: Batch,
    num_particles: int,
    *,
    chunk: int | None = None,
    joint: bool = False,
    vectorize: bool | None = None,
    analytic_kl: Iterable[str] = (),
) -> Weights:
    r"""Draw exactly K particles per datum from the guide and weigh them under the model.

    A program's scale (`pyro.plate` with subsampling, `poutine.scale`) is divided out, masks are honoured, and
    model sites marked `infer={"enumerate": "parallel"}` are summed out exactly.

    Args:
        model: any Pyro callable; `x` observed, local sites in a plate over the data.
        guide: any Pyro callable over the same latent sites.
        x: a batch: a tensor, a tuple of arguments, or a mapping of them; leading axis n.
        num_particles: K.
        chunk: particles in memory at a time; by default what suits the device, see `default_chunk`.
        joint: one weight for the whole batch (n = 1), global latents included.
        vectorize: run particles in one outer plate; `None` decides by trying.
        analytic_kl: latent sites whose closed-form KL is wanted too; see `closed_form_sites`.

    Raises:
        ValueError: if K or the chunk is not positive, or the pair cannot be weighed; the message names the site.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def posterior(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
    >>> x = torch.tensor([0.5, -1.0])
    >>> weights = log_weights(model, posterior, x, num_particles=3)
    >>> torch.allclose(weights.log_w, dist.Normal(0.0, 2**0.5).log_prob(x).expand(3, 2), atol=1e-6)
    True
    """
    check_particles(num_particles)
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk` is {chunk}, expected at least 1 particle at a time")
    pair = Pair(model, guide)
    layout = inspect_pair(pair, x, joint=joint, vectorize=vectorize)
    if layout.subsamples and (not layout.vectorized or num_particles > (chunk or default_chunk(x))):
        raise ValueError(
            f"plate `{layout.data}` draws its own minibatch, another for every chunk of particles: take "
            "`subsample_size` off, or draw all particles at once"
        )
    return draw_weights(pair, x, num_particles, layout, chunk=chunk, analytic_kl=analytic_kl)


def check_particles(num_particles: int) -> None:
    """K is a whole number, at least one."""
    if not isinstance(num_particles, int) or num_particles < 1:
        raise ValueError(f"`num_particles` is {num_particles}, expected a whole number, at least 1")


def default_chunk(batch: Batch) -> int:
    """Particles at a time: on a CPU a layer as wide as the data stays near 8 MiB, in its caches; elsewhere 256 MiB."""
    x = first_tensor(batch)
    return max(1, (2**21 if x.device.type == "cpu" else 2**26) // max(1, x.numel()))


def draw_weights(
    pair: Pair,
    batch: Batch,
    num_particles: int,
    layout: Layout,
    *,
    chunk: int | None = None,
    analytic_kl: Iterable[str] = (),
    keep_scale: bool = False,
) -> Weights:
    """`log_weights` for a pair already inspected: no checks, no validation, ready for a training loop.

    `keep_scale` leaves the program's own scale in (a KL weight set by `poutine.scale`), less the data plate's N/B.
    """
    step = min(num_particles, chunk or default_chunk(batch)) if layout.vectorized else 1
    sizes = [step] * (num_particles // step) + [num_particles % step] * (num_particles % step > 0)
    wanted = frozenset(analytic_kl)
    with validating(enabled=False):
        parts = (
            _weigh(*run_particles(pair, batch, size, layout), size, layout, wanted, keep_scale=keep_scale)
            for size in sizes
        )
        return _gather(parts, num_particles)


def _weigh(
    guide_trace: Trace,
    model_trace: Trace,
    K: int,
    layout: Layout,
    analytic: frozenset[str],
    *,
    keep_scale: bool,
) -> Weights:
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
