r"""Where the KL of a latent site may be written down instead of sampled.

A closed form replaces :math:`\log q(z) - \log p(z)` at the draw by
:math:`\mathrm{KL}(q(z \mid \mathrm{pa}_q) \,\|\, p(z \mid \mathrm{pa}_p))`. The mean is unchanged only if no parent of
the site in the model was itself drawn from it in the guide: with :math:`q(z_1 \mid x)\, q(z_2 \mid z_1)` and
:math:`p(z_2)\, p(z_1 \mid z_2)` the top layer may be integrated, the bottom one may not.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer.inspect import get_dependencies
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from inference.flags import validating
from inference.layout import Layout
from inference.pair import Pair, call, first_tensor
from inference.seeds import seeded
from inference.sites import Site, sample_sites
from ppmodels.contracts import Batch, Program

__all__ = ["closed_form_kl", "closed_form_sites"]


def closed_form_kl(guide_site: Site, model_site: Site, scale: float | Tensor = 1.0) -> Tensor:
    """KL of a latent's guide from its prior, given the parents drawn, over its plates."""
    q, p = guide_site["fn"], model_site["fn"]
    try:
        kl: Tensor = kl_divergence(q, p)
    except NotImplementedError:
        raise ValueError(
            f"site `{guide_site['name']}` has no closed-form KL from {_name(q)} to {_name(p)}: "
            'use the Monte Carlo form, `ELBO(kl="monte_carlo")`'
        ) from None
    counted: Tensor = scale_and_mask(kl, scale, guide_site["mask"])
    return counted


def closed_form_sites(pair: Pair, batch: Batch, layout: Layout) -> tuple[str, ...]:
    """The latent sites of a pair whose KL has a closed form that leaves the ELBO's mean as it is."""
    device = first_tensor(batch).device
    with seeded(None, device), pair.mode(training=False), torch.no_grad(), validating(enabled=False):
        guide_trace, model_trace = pair.traces(batch)
        q_sites, p_sites = sample_sites(guide_trace), sample_sites(model_trace)
        known = [name for name in layout.latents if _is_known(q_sites[name], p_sites[name])]
        if len(layout.latents) == 1 and not layout.enumerated:
            return tuple(known)
        in_model, in_guide = (_parents(program, batch) for program in (pair.model, pair.guide))
    before, drawn_from = _ancestors(in_model), _ancestors(in_guide)
    return tuple(
        name
        for name in known
        if not before[name] & set(layout.enumerated)
        and not any(name in drawn_from[parent] for parent in in_model[name] & set(layout.latents) - {name})
    )


def _parents(program: Program, batch: Batch) -> dict[str, set[str]]:
    """The sites each site is drawn from, itself included."""
    found: Any = get_dependencies(partial(call, program, batch))["prior_dependencies"]
    return {name: {name, *parents} for name, parents in found.items()}


def _ancestors(parents: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same, through any number of others."""
    found = parents
    for _ in parents:  # as many rounds as the longest chain could need
        found = {name: {a for site in sites for a in found[site]} for name, sites in found.items()}
    return found


def _is_known(guide_site: Site, model_site: Site) -> bool:
    """Whether there is a closed form, and both sides count the site alike."""
    masks = guide_site["mask"], model_site["mask"]
    alike = masks[0] is masks[1] or (all(isinstance(m, Tensor) for m in masks) and torch.equal(*masks))
    if not alike or not bool(torch.as_tensor(guide_site["scale"] == model_site["scale"]).all()):
        return False
    try:
        closed_form_kl(guide_site, model_site)
    except ValueError:
        return False
    return True


def _name(distribution: Distribution) -> str:
    base = getattr(distribution, "base_dist", None)
    return type(distribution).__name__ if base is None else f"{type(distribution).__name__} of {_name(base)}"
