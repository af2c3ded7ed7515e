r"""Where the KL of a latent site may be written down instead of sampled.

A closed form replaces :math:`\log q(z) - \log p(z)` at the draw by
:math:`\mathrm{KL}(q(z \mid \mathrm{pa}_q) \,\|\, p(z \mid \mathrm{pa}_p))`. The mean is unchanged only if no parent of
the site in the model was itself drawn from it in the guide: with :math:`q(z_1 \mid x)\, q(z_2 \mid z_1)` and
:math:`p(z_2)\, p(z_1 \mid z_2)` the top layer may be integrated, the bottom one may not.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import pyro
import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer.inspect import get_dependencies
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from inference.layout import Layout, Site, sample_sites
from inference.pair import Pair, call, first_tensor
from inference.seeds import seeded
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
    with seeded(None, device), pair.mode(training=False), torch.no_grad(), pyro.validation_enabled(False):
        guide_trace, model_trace = pair.traces(batch)
        q_sites, p_sites = sample_sites(guide_trace), sample_sites(model_trace)
        known = [name for name in layout.latents if _is_known(q_sites[name], p_sites[name])]
        if len(layout.latents) == 1:
            return tuple(known)
        parents, drawn_from = (_parents(program, batch) for program in (pair.model, pair.guide))
    others = {name: [k for k in parents[name] if k != name and k in layout.latents] for name in known}
    return tuple(name for name in known if not any(name in drawn_from[k] for k in others[name]))


def _parents(program: Program, batch: Batch) -> dict[str, Iterable[str]]:
    """The sites each site was drawn from, itself included."""
    found: Any = get_dependencies(partial(call, program, batch))["prior_dependencies"]
    return dict(found)


def _is_known(guide_site: Site, model_site: Site) -> bool:
    try:
        closed_form_kl(guide_site, model_site)
    except ValueError:
        return False
    return True


def _name(distribution: Distribution) -> str:
    base = getattr(distribution, "base_dist", None)
    return type(distribution).__name__ if base is None else f"{type(distribution).__name__} of {_name(base)}"
