r"""How a guide uses the units of its latent sites: activity, KL unit by unit, and the prior against what is used of it.

For a site whose units are independent given what stands before it, in guide and model,

.. math:: \mathrm{KL}(q, p) = \sum_u \mathbb{E}_{x, q}[\log q(z_u \mid \cdot) - \log p(z_u \mid \cdot)],

and each term is averaged over draws. Whether the guide's draws over all data, :math:`\frac1n \sum_i q(z \mid x_i)`,
are such as the prior makes is put to a classifier: what it cannot tell apart in data it has not seen, nobody can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.assignments import discrete_sites
from inference.diagnostics import ActiveUnits
from inference.particles import run_particles
from inference.report.examination import LatentUse
from inference.report.examining.view import View, rows_of
from inference.sites import Site, sample_sites

__all__ = ["latent_uses", "told_apart"]

DRAWS = 10
"""Of the guide for each datum, that the KL of a unit is averaged over."""

FEWEST = 10
"""Draws of either set below which nobody can be asked to tell them apart."""


def latent_uses(view: View, units: ActiveUnits, n: int = 2000) -> Iterator[LatentUse]:
    """Every latent site that is no category, on the first n data."""
    batch = view.batch(torch.arange(min(n, len(view.data))))
    categories = set(discrete_sites(view.pair, batch))
    with view.running("latent use"):
        drawn = sample_sites(view.dreamed(batch))
        codes: dict[str, NDArray[np.float64]] = {}
        terms: dict[str, list[Tensor]] = {}
        for _ in range(DRAWS):
            guide, model = map(sample_sites, run_particles(view.pair, batch, 1, view.layout))
            for name in view.layout.latents:
                codes.setdefault(name, _array(rows_of(guide[name]["value"], guide[name], view.layout)))
                terms.setdefault(name, []).append(_kl_terms(guide[name], model[name], view))
    for name in view.layout.latents:
        if name in categories:
            continue
        prior = _array(rows_of(drawn[name]["value"], drawn[name], view.layout))
        kl = torch.stack(terms[name]).double().mean(0).cpu().numpy()  # (n, D)
        accuracy, error = told_apart(codes[name], prior)
        yield LatentUse(
            site=name,
            codes=codes[name],
            prior=prior,
            variance=_array(units.variance[name]),
            threshold=units.threshold,
            kl=kl.mean(0),
            kl_se=_error(kl),
            total_kl_se=float(_error(kl.sum(1))),
            told_apart=accuracy,
            told_apart_se=error,
        )


def _error(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard error of a mean over the first axis, n; NaN for one datum."""
    n = len(values)
    spread = values.std(0, ddof=1) if n > 1 else np.full(values.shape[1:], math.nan)
    return np.asarray(spread / math.sqrt(n))


def _kl_terms(q: Site, p: Site, view: View) -> Tensor:
    """log q - log p at a draw for each unit, `(n, D)`, or of the site as a whole, `(n, 1)`; NaN where there is none."""
    n = len(rows_of(q["value"], q, view.layout))
    if max(len(site["fn"].batch_shape) for site in (q, p)) > view.layout.nesting:  # one law for each value summed out
        return torch.full((n, 1), math.nan)
    try:
        terms = [_units(site, q["value"]) for site in (q, p)]
        if any(term is None for term in terms):
            whole = [site["fn"].log_prob(q["value"]).unsqueeze(-1) for site in (q, p)]
            return _by_datum(_counted(whole[0], q, 1) - _counted(whole[1], p, 1), 1, n, view)
        event_dim = q["fn"].event_dim
        return _by_datum(_counted(terms[0], q, event_dim) - _counted(terms[1], p, event_dim), event_dim, n, view)
    except NotImplementedError:  # a law without a density
        return torch.full((n, 1), math.nan)


def _counted(terms: Tensor, site: Site, event_dim: int) -> Tensor:
    """The terms that the site's mask lets in, the others nothing."""
    mask = site["mask"]
    if mask is None:
        return terms
    return torch.where(torch.as_tensor(mask, device=terms.device)[(..., *[None] * event_dim)], terms, 0.0)


def _units(site: Site, value: Tensor) -> Any:
    """The log probability of each unit, where they are independent."""
    fn = site["fn"]
    if fn.event_dim == 0:
        return fn.log_prob(value)
    base: Any = getattr(fn, "base_dist", None)
    if base is None or base.event_dim or getattr(fn, "reinterpreted_batch_ndims", 0) != fn.event_dim:
        return None
    return base.log_prob(value)


def _by_datum(terms: Tensor, event_dim: int, n: int, view: View) -> Tensor:
    """With the data's axis first: units of an event each by themselves, those of other plates too."""
    axis = view.layout.data_dim - event_dim
    terms = terms.expand(*terms.shape[: terms.dim() + axis], n, *terms.shape[terms.dim() + axis + 1 :])
    rows = terms.movedim(axis, 0)
    return rows.flatten(1) if rows.dim() > 1 else rows.unsqueeze(-1)


def told_apart(codes: NDArray[np.float64], prior: NDArray[np.float64]) -> tuple[float, float]:
    """The share of draws of two sets that a forest of trees tells apart, and its standard error.

    It is grown on every other draw of both and tried on the rest, which are independent of it and of each other.

    >>> rng = np.random.default_rng(0)
    >>> same, error = told_apart(rng.normal(size=(200, 2)), rng.normal(size=(200, 2)))
    >>> bool(abs(same - 0.5) < 4 * error)
    True
    >>> told_apart(rng.normal(size=(200, 2)), rng.normal(5.0, 1.0, size=(200, 2)))[0] > 0.95
    True
    """
    from sklearn.ensemble import RandomForestClassifier

    if min(len(codes), len(prior)) < FEWEST or not (np.isfinite(codes).all() and np.isfinite(prior).all()):
        return math.nan, math.nan
    halves = [np.concatenate([codes[i::2], prior[i::2]]) for i in (0, 1)]
    which = [np.repeat([0, 1], [len(codes[i::2]), len(prior[i::2])]) for i in (0, 1)]
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0).fit(halves[0], which[0])
    share, n = float(forest.score(halves[1], which[1])), len(which[1])
    return share, math.sqrt(max(share * (1 - share), 1 / n) / n)


def _array(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.detach().double().cpu().numpy()
    return found
