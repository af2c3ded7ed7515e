"""Bijections from the reals to a site's support."""

from __future__ import annotations

import math
from typing import Any

from torch.distributions import (
    ComposeTransform,
    IndependentTransform,
    Transform,
    TransformedDistribution,
    biject_to,
    constraints,
)
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
    name, fn = site["name"], site["fn"]
    try:
        return _bijection(fn)
    except NotImplementedError as error:
        raise ValueError(
            f"site `{name}` has support {fn.support}, expected one that `torch.distributions.biject_to` knows: "
            "register a bijection for it there, or write the site with another distribution"
        ) from error


def _bijection(fn: Any) -> Transform:
    while type(fn).__name__ in ("MaskedDistribution", "ExpandedDistribution"):
        fn = fn.base_dist
    if type(fn).__name__ == "Independent" and _is_special(fn.base_dist):
        return IndependentTransform(_bijection(fn.base_dist), fn.reinterpreted_batch_ndims)
    if type(fn).__name__ == "VonMises":  # periodic: it says the reals, and has its mass on each turn anew
        turn: Transform = biject_to(constraints.interval(-math.pi, math.pi))
        return turn
    if _is_moved(fn):
        return ComposeTransform([biject_to(_plain(fn.base_dist.support)), *fn.transforms])
    found: Transform = biject_to(_plain(fn.support))
    return found


def _is_special(fn: Any) -> bool:
    return type(fn).__name__ == "VonMises" or _is_moved(fn)


def _is_moved(fn: Any) -> bool:
    """Whether a law is another's, moved: of such torch says what the last transform could reach, not what it does."""
    if not isinstance(fn, TransformedDistribution) or type(fn).support is not TransformedDistribution.support:
        return False
    base: Any = fn.base_dist.support
    while isinstance(base, constraints.independent):
        base = base.base_constraint
    real = base in (constraints.real, constraints.real_vector)
    return not real and not base.is_discrete and all(transform.bijective for transform in fn.transforms)


def _plain(support: Any) -> Constraint:
    """The support of a mixture is that of its components, which torch does not tell."""
    if type(support).__name__ == "MixtureSameFamilyConstraint":
        return _plain(support.base_constraint)
    if isinstance(support, constraints.independent):
        return constraints.independent(_plain(support.base_constraint), support.reinterpreted_batch_ndims)
    assert isinstance(support, Constraint)
    return support
