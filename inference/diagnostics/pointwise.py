r"""Log likelihoods of single data where discrete latents are summed out.

Sites that share a summed-out latent have one log likelihood together, :math:`\log \sum_k p(k \mid \theta) p(x_i \mid k,
\theta)`: what the sum over them has with the observations, less what it has without. In a plate it is one for each
element; a chain of sites, as in a hidden Markov model, has one for all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

from pyro.ops.contract import contract_tensor_tree
from pyro.poutine import Trace
from torch import Tensor

from inference.sites import plates_of

__all__ = ["Marginal", "marginals"]


class Marginal(NamedTuple):
    """A log likelihood.

    Attributes:
        name: of its site; the first and the last where there are several.
        plates: the plates whose elements have one each, from the left.
        log_prob: one for each.
    """

    name: str
    plates: tuple[str, ...]
    log_prob: Tensor


def marginals(trace: Trace, observed: Sequence[str]) -> Iterator[Marginal]:
    """Of every group of observed sites, from a trace with packed log probabilities."""
    summed = set(trace.symbol_to_dim) - set(trace.plate_to_symbol.values())
    for names in _components(trace, summed):
        seen = [name for name in names if name in observed]
        if not seen:
            continue
        plates, log_prob = _contracted(trace, names, summed)
        if hidden := [name for name in names if name not in observed]:
            log_prob = log_prob - _contracted(trace, hidden, summed)[1]
        yield Marginal(seen[0] if len(seen) == 1 else f"{seen[0]}..{seen[-1]}", plates, log_prob)


def _components(trace: Trace, summed: set[str]) -> list[list[str]]:
    """Sites, in order, grouped by the summed-out latents that they share."""
    groups: list[tuple[list[str], set[str]]] = []
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or type(site["fn"]).__name__ == "_Subsample":
            continue
        log_prob: Any = site["packed"]["log_prob"]
        symbols = set(log_prob._pyro_dims) & summed
        joined = [group for group in groups if group[1] & symbols]
        groups = [group for group in groups if not group[1] & symbols]
        members = [name for group in joined for name in group[0]]
        groups.append(([*members, name], symbols.union(*(group[1] for group in joined))))
    return [names for names, _ in groups]


def _contracted(trace: Trace, names: Sequence[str], summed: set[str]) -> tuple[tuple[str, ...], Tensor]:
    """The sum over the latents that these sites share: the plates it stands in, and its value."""
    tree: OrderedDict[frozenset[str], list[Tensor]] = OrderedDict()
    for name in names:
        site = trace.nodes[name]
        plates = frozenset(trace.plate_to_symbol[plate.name] for plate in plates_of(cast("Any", site)))
        tree.setdefault(plates, []).append(site["packed"]["log_prob"])
    terms: list[Any] = [term for parts in contract_tensor_tree(tree, summed).values() for term in parts]
    dims: str = terms[0]._pyro_dims
    if any(term._pyro_dims != dims for term in terms):
        raise NotImplementedError(f"sites {', '.join(names)} share summed-out latents but no plate")
    total: Tensor = sum(terms)
    by_symbol = {symbol: name for name, symbol in trace.plate_to_symbol.items()}
    order = sorted(range(len(dims)), key=lambda i: trace.symbol_to_dim[dims[i]])
    return tuple(by_symbol[dims[i]] for i in order), total.permute(order)
