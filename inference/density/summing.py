r"""Sums over discrete latents that stay right where the factors disagree.

Pyro's contraction exponentiates every factor by itself, so that :math:`p(x_1 \mid k) p(x_2 \mid k)` is zero for every k
where one factor is far below its own largest. Here factors are added as logarithms, and one latent is summed over after
another: first that whose sum leaves the fewest numbers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from pyro.ops.contract import contract_tensor_tree, contract_to_tensor
from pyro.ops.rings import LogRing
from pyro.poutine import Trace
from torch import Tensor

__all__ = ["StableRing", "factors_of", "log_joint", "partly_summed", "summed_symbols"]


class StableRing(LogRing):
    """Sums of products in logarithms, by eliminating one name at a time."""

    def sumproduct(self, terms: Sequence[Any], dims: Collection[str]) -> Any:
        """The product of the terms, summed over some of their names."""
        left = list(terms)
        for dim in _order([term._pyro_dims for term in terms], dims):
            here = [term for term in left if dim in term._pyro_dims]
            left = [term for term in left if dim not in term._pyro_dims]
            left.append(_summed(_product(here), dim))
        return _product(left)


def _order(names: Sequence[str], dims: Collection[str]) -> list[str]:
    """The names to sum over, each time that with the fewest others beside it."""
    scopes, order, rest = [set(name) for name in names], [], set(dims)
    while rest:
        sizes = {dim: len(set[str]().union(*(s for s in scopes if dim in s))) for dim in rest}
        dim = min(sorted(rest), key=sizes.__getitem__)
        joined = set[str]().union(*(s for s in scopes if dim in s)) - {dim}
        scopes = [*(s for s in scopes if dim not in s), joined]
        rest.remove(dim)
        order.append(dim)
    return order


def _product(terms: Sequence[Any]) -> Any:
    names = "".join(sorted(set("".join(term._pyro_dims for term in terms))))
    total: Any = sum(_aligned(term, names) for term in terms)
    total._pyro_dims = names
    return total


def _aligned(term: Any, names: str) -> Tensor:
    """The term with an axis for every name, in order."""
    mine = term._pyro_dims
    ordered: Tensor = term.permute([mine.index(name) for name in names if name in mine])
    for axis, name in enumerate(names):
        if name not in mine:
            ordered = ordered.unsqueeze(axis)
    return ordered


def _summed(term: Any, dim: str) -> Any:
    axis = term._pyro_dims.index(dim)
    least = torch.finfo(term.dtype).min  # where all are impossible, and their difference is no number
    shift = term.detach().amax(axis, keepdim=True).clamp(min=least)
    found: Any = (term - shift).exp().sum(axis).clamp(min=torch.finfo(term.dtype).tiny).log() + shift.squeeze(axis)
    found._pyro_dims = term._pyro_dims.replace(dim, "")
    return found


def summed_symbols(trace: Trace) -> set[str]:
    """The names, in packed log probabilities, of what is summed over."""
    return set(trace.symbol_to_dim) - set(trace.plate_to_symbol.values())


def factors_of(trace: Trace, sites: Collection[str] | None = None) -> OrderedDict[frozenset[str], list[Any]]:
    """Packed log probabilities of sites by the plates that they stand in."""
    nodes: Mapping[str, Any] = trace.nodes
    factors: OrderedDict[frozenset[str], list[Any]] = OrderedDict()
    for name, site in nodes.items():
        if site["type"] != "sample" or type(site["fn"]).__name__ == "_Subsample":
            continue
        if sites is None or name in sites:
            plates = frozenset(trace.plate_to_symbol[f.name] for f in site["cond_indep_stack"] if f.vectorized)
            factors.setdefault(plates, []).append(site["packed"]["log_prob"])
    return factors


def log_joint(trace: Trace) -> Tensor:
    """The log density of a trace with packed log probabilities, summed over its discrete latents."""
    found: Tensor = contract_to_tensor(factors_of(trace), summed_symbols(trace), ring=StableRing())  # type: ignore[no-untyped-call]
    return found


def partly_summed(trace: Trace, sites: Collection[str]) -> list[Any]:
    """The same of some sites, in the plates where the sums stand: tensors with the names of their axes."""
    tree = contract_tensor_tree(factors_of(trace, sites), summed_symbols(trace), ring=StableRing())  # type: ignore[no-untyped-call]
    return [term for terms in tree.values() for term in terms]
