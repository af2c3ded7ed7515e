r"""Programs whose discrete latents are summed out: log likelihoods of single data, and the latents given the data.

Sites that share a summed-out latent have one log likelihood together, :math:`\log \sum_k p(k \mid \theta) p(x_i \mid k,
\theta)`: what the sum over them has with the observations, less what it has without. In a plate it is one for each
element; a chain of sites, as in a hidden Markov model, has one for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from pyro.poutine import Trace
from torch import Tensor

from inference.density.summing import StableRing, partly_summed, summed_symbols

__all__ = ["Marginal", "draw_summed", "marginals", "summed_together"]


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
    """Of every group of observed sites, from a trace with packed log probabilities.

    Raises:
        NotImplementedError: if sites share summed-out latents but no plate.
    """
    for names in _components(trace):
        seen = [name for name in names if name in observed]
        if not seen:
            continue
        total = _contracted(trace, names)
        if hidden := [name for name in names if name not in observed]:
            without = _contracted(trace, hidden, within=total._pyro_dims)
            log_prob = total - without
        else:
            log_prob = total
        plates, log_prob = _in_plates(trace, seen, total._pyro_dims, log_prob)
        yield Marginal(seen[0] if len(seen) == 1 else f"{seen[0]}..{seen[-1]}", plates, log_prob)


def summed_together(trace: Trace, summed: Sequence[str]) -> list[list[str]]:
    """The groups of summed-out sites that are not independent of each other given the rest."""
    groups = [[name for name in names if name in summed] for names in _components(trace)]
    return [group for group in groups if len(group) > 1]


def draw_summed(trace: Trace, summed: Sequence[str]) -> dict[str, Tensor]:
    """A draw of every summed-out site given all other sites, each by itself: see `summed_together`."""
    drawn = {}
    for names in _components(trace):
        for name in names:
            if name in summed:
                drawn[name] = _drawn(trace, name, names)
    return drawn


def _drawn(trace: Trace, name: str, names: Sequence[str]) -> Tensor:
    site: Any = trace.nodes[name]
    symbols = set(site["packed"]["log_prob"]._pyro_dims)
    (its,) = symbols & summed_symbols(trace)
    ring: Any = StableRing()  # type: ignore[no-untyped-call]
    nodes = dict[str, Any](trace.nodes)
    own = symbols - {its}
    terms = []
    for other in names:
        term = nodes[other]["packed"]["log_prob"]
        if its in term._pyro_dims:
            extra = set(term._pyro_dims) - own - {its}
            terms.append(ring.product(term, frozenset(extra)))
    table = ring.sumproduct(terms, ())  # every name of the site's own, and its values
    table = table.permute([table._pyro_dims.index(symbol) for symbol in (*sorted(own, key=_left(trace)), its)])
    noise = -(-torch.rand_like(table).clamp(min=torch.finfo(table.dtype).tiny).log()).log()
    index = (table + noise).argmax(-1)  # the plates, without those of one element
    support = site["fn"].enumerate_support(expand=False)
    values = support.reshape(len(support), *support.shape[support.dim() - site["fn"].event_dim :])
    drawn: Tensor = values[index].reshape((*_plates(site), *values.shape[1:]))
    return drawn


def _plates(site: Any) -> list[int]:
    """The sizes of a site's plates, from the left."""
    sizes = {frame.dim: frame.size for frame in site["cond_indep_stack"] if frame.vectorized}
    return [sizes.get(dim, 1) for dim in range(min(sizes, default=0), 0)]


def _left(trace: Trace) -> Any:
    return trace.symbol_to_dim.__getitem__


def _components(trace: Trace) -> list[list[str]]:
    """Sites, in order, grouped by the summed-out latents that they share."""
    summed = summed_symbols(trace)
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


def _contracted(trace: Trace, names: Sequence[str], within: str | None = None) -> Any:
    """The sum over the latents that these sites share, in the plates where it stands, or in some of them."""
    ring: Any = StableRing()  # type: ignore[no-untyped-call]
    terms = partly_summed(trace, names)
    if within is None:
        within = terms[0]._pyro_dims
        if any(term._pyro_dims != within for term in terms):
            raise NotImplementedError(f"sites {', '.join(names)} share summed-out latents but no plate")
    return ring.sumproduct([ring.product(t, frozenset(set(t._pyro_dims) - set(within))) for t in terms], ())


def _in_plates(trace: Trace, seen: Sequence[str], dims: str, log_prob: Tensor) -> tuple[tuple[str, ...], Tensor]:
    """The names of the plates, from the left, and the numbers so; those of one element, which packing drops, too."""
    by_symbol = {symbol: name for name, symbol in trace.plate_to_symbol.items()}
    order = sorted(range(len(dims)), key=lambda i: trace.symbol_to_dim[dims[i]])
    plates, log_prob = [by_symbol[dims[i]] for i in order], log_prob.permute(order)
    if len(seen) == 1:
        nodes: Any = trace.nodes
        frames = sorted((f for f in nodes[seen[0]]["cond_indep_stack"] if f.vectorized), key=lambda f: f.dim)
        for axis, frame in enumerate(frames):
            if frame.size == 1 and frame.name not in plates:
                plates.insert(axis, frame.name)
                log_prob = log_prob.unsqueeze(axis)
    return tuple(plates), log_prob
