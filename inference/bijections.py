"""Bijections from the reals to a site's support."""

from __future__ import annotations

from typing import Any

from torch.distributions import Transform, biject_to, constraints
from torch.distributions.constraints import Constraint

from inference.sites import Site

__all__ = ["bijection_of"]


def bijection_of(site: Site) -> Transform:
    """From the reals to the support of a site's distribution, as it is in this run.

    Raises:
        ValueError: naming the site, if no bijection is known.

    >>> import torch, pyro.distributions as dist
    >>> bumps = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.LogNormal(torch.zeros(2), 1.0))
    >>> bijection_of({"name": "z", "fn": bumps})(torch.tensor(0.0))
    tensor(1.)
    """
    fn = site["fn"]
    while type(fn).__name__ == "MaskedDistribution":
        fn = fn.base_dist
    try:
        found: Transform = biject_to(_plain(fn.support))
    except NotImplementedError as error:
        raise ValueError(
            f"site `{site['name']}` has support {fn.support}, expected one that `torch.distributions.biject_to` knows: "
            "register a bijection for it there, or write the site with another distribution"
        ) from error
    return found


def _plain(support: Any) -> Constraint:
    """The support of a mixture is that of its components, which torch does not tell."""
    if type(support).__name__ == "MixtureSameFamilyConstraint":
        return _plain(support.base_constraint)
    if isinstance(support, constraints.independent):
        return constraints.independent(_plain(support.base_constraint), support.reinterpreted_batch_ndims)
    assert isinstance(support, Constraint)
    return support
