r"""Every state of discrete latents, weighed: exact values and exact gradients for what is small enough.

.. math:: \mathcal{L} = \sum_z q(z \mid x) \bigl( \log p(x, z) - \log q(z \mid x) \bigr),
          \qquad \log p(x) = \log \sum_z p(x, z)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, OneHotCategorical, constraints

from inference.bounds import ELBO, Bound
from inference.draws import gather
from inference.estimators.base import Ascent, Setting, Temper
from inference.flags import validating
from inference.layout import Layout
from inference.pair import Pair, first_tensor, size_of
from inference.particles import run_guide, run_particles
from inference.seeds import seeded
from inference.sites import Site, sample_sites
from inference.weights import Weights, weigh_traces
from ppmodels.contracts import Batch

__all__ = ["MOST_STATES", "Enumeration", "States", "enumerate_latents", "find_states"]

MOST_STATES = 2**16
"""States of a datum above which enumerating them is refused."""


@dataclass(frozen=True)
class Enumeration:
    r"""The gradient of the ELBO itself: every state of the guide's sites is weighed, none is drawn.

    The guide's sites must all be bits, categorical or one-hot, alone or as entries of a vector; a guide of several
    layers is run at every joint state. One run holds S states times n data, whatever K is.

    Raises:
        ValueError: for another bound than the ELBO; for a site that is continuous or of infinite support; for more than
            2**16 states of one datum; for a guide whose probabilities do not add up to one (a mask).

    >>> import pyro, pyro.distributions as dist
    >>> from inference.pair import Pair
    >>> from inference.particles import inspect_pair
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Bernoulli(0.5))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Bernoulli(logits=x - 0.5))  # the posterior
    >>> x, pair = torch.tensor([0.0, 2.0]), Pair(model, guide)
    >>> weights = enumerate_latents(pair, x, inspect_pair(pair, x))
    >>> weights.num_particles, torch.allclose(weights.log_w[0], weights.log_p.logsumexp(0))
    (2, True)
    """

    takes_kl_weight: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return repr(self)

    def is_unbiased_for(self, bound: Bound, num_particles: int) -> bool:
        """It has neither bias nor noise."""
        return True

    def prepare(self, setting: Setting, batch: Batch) -> Ascent:
        """Count the states, refuse what has none or too many, and return the function from a batch to exact values."""
        pair, layout, bound = setting.pair, setting.layout, setting.bound
        if not (isinstance(bound, ELBO) and bound.kl == "monte_carlo"):
            raise ValueError(
                f"`bound` is {bound.name}, which over K draws of S states has S to the K terms: expected `ELBO()`, "
                "or `estimator=VIMCO()`"
            )
        if layout.subsamples:
            raise ValueError(f"plate `{layout.data}` draws its own minibatch, so no value is exact: take it off")
        states = find_states(pair, batch, layout)
        _refuse_improper(pair, batch, layout, states)

        def ascend(batch: Batch, temper: Temper) -> tuple[Tensor, Weights]:
            weights = enumerate_latents(pair, batch, layout, states, keep_scale=True)
            q = weights.log_q.exp()  # (S, n)

            def mean(values: Tensor) -> Tensor:
                return (q * values.masked_fill(q == 0, 0.0)).sum(0, keepdim=True)  # (1, n)

            return mean(temper(weights).log_w)[0], weights.map(mean)

        return ascend


@dataclass(frozen=True, eq=False)
class States:
    """The joint states of a guide's sites.

    Attributes:
        number: S.
        values: by site, `(S, *plates, *event)`, with an axis of size one for the data.
        axes: by site, where that axis stands, counted from the right; empty for one joint weight.
    """

    number: int
    values: Mapping[str, Tensor]
    axes: Mapping[str, int]

    def part(self, start: int, stop: int) -> States:
        """Some of them, from `start` to before `stop`, views."""
        values = {site: value[start:stop] for site, value in self.values.items()}
        return States(min(stop, self.number) - start, values, self.axes)

    def for_data(self, n: int) -> dict[str, Tensor]:
        """The values for n data, a view."""
        found = {}
        for site, value in self.values.items():
            shape = list(value.shape)
            if site in self.axes:
                shape[self.axes[site]] = n
            found[site] = value.expand(shape)
        return found


def enumerate_latents(
    pair: Pair, batch: Batch, layout: Layout, states: States | None = None, *, keep_scale: bool = False
) -> Weights:
    r"""The densities of a pair at all S states of its latents: `Weights` of shape `(S, n)`.

    :math:`\log p(x)` is `weights.log_p.logsumexp(0)`; the posterior is `weights.log_p.softmax(0)`.

    Args:
        pair: a model and a guide whose sites are discrete.
        batch: what they are called with.
        layout: what `inspect_pair` says of them.
        states: what `find_states` says of them, if that is known.
        keep_scale: leave the program's own scale in.

    Raises:
        ValueError: if a site is not discrete with finite support, or there are more than 2**16 states.
    """
    states = states or find_states(pair, batch, layout)
    values = states.for_data(size_of(batch))

    def weigh(given: Mapping[str, Tensor], size: int) -> Weights:
        traces = run_particles(pair, batch, size, layout, given=given)
        return weigh_traces(*traces, size, layout, frozenset(), keep_scale=keep_scale)

    with validating(enabled=False):
        if layout.vectorized and states.number > 1:
            return weigh(values, states.number)
        ones = ({site: value[s] for site, value in values.items()} for s in range(states.number))
        return gather((weigh(one, 1) for one in ones), states.number)


def find_states(pair: Pair, batch: Batch, layout: Layout) -> States:
    """The joint states of all sites of a guide, from one run of it."""
    device = first_tensor(batch).device
    with seeded(None, device), pair.mode(training=False), torch.no_grad(), validating(enabled=False):
        sites = {k: s for k, s in sample_sites(run_guide(pair, batch, 1, layout)).items() if not s["is_observed"]}
    choices = {name: _choices(site) for name, site in sites.items()}
    shapes = {name: _shape_of_one(site, layout) for name, site in sites.items()}
    counts = {name: math.prod(shapes[name]) // choices[name][0].numel() for name in sites}
    _refuse_too_many(choices, counts)
    tables = {name: _table(choices[name], counts[name]).reshape(-1, *shapes[name]) for name in sites}
    picks = _product([torch.arange(len(table), device=device) for table in tables.values()])  # (S, sites)
    return States(
        number=len(picks),
        values={name: table[picks[:, i]] for i, (name, table) in enumerate(tables.items())},
        axes={name: layout.data_dim - site["fn"].event_dim for name, site in sites.items() if layout.data is not None},
    )


def _choices(site: Site) -> Tensor:
    """The values one entry of a site may take, along the first axis."""
    base: Any = site["fn"]
    while hasattr(base, "base_dist"):
        base = base.base_dist
    bits = isinstance(base, Bernoulli) or _of_bits(base)
    if not (bits or isinstance(base, (Categorical, OneHotCategorical))):
        raise ValueError(
            f"site `{site['name']}` is a {type(base).__name__} in the guide, expected Bernoulli, Categorical or "
            "OneHotCategorical, or another law of bits, which have states to enumerate: use Pathwise() or "
            "ScoreFunction()"
        )
    value = site["value"]
    if isinstance(base, OneHotCategorical):
        return torch.eye(base.event_shape[0], dtype=value.dtype, device=value.device)
    number = 2 if bits else base.param_shape[-1]
    return torch.arange(number, dtype=value.dtype, device=value.device)


def _of_bits(law: Any) -> bool:
    """Whether what a law draws is bits, alone or in a vector, whatever they have to do with each other."""
    try:
        support = law.support
    except NotImplementedError:
        return False
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return isinstance(support, type(constraints.boolean))


def _shape_of_one(site: Site, layout: Layout) -> tuple[int, ...]:
    """The shape of a site's value for a single datum, all plates included."""
    shape = list(site["value"].shape)
    event_dim = site["fn"].event_dim
    shape = [1] * (layout.nesting + event_dim - len(shape)) + shape
    if layout.data is not None:
        shape[layout.data_dim - event_dim] = 1
    return tuple(shape)


def _table(choices: Tensor, count: int) -> Tensor:
    """Every combination of so many entries, `(states, count, *entry)`."""
    return choices[_product([torch.arange(len(choices), device=choices.device)] * count)]


def _product(columns: list[Tensor]) -> Tensor:
    """The Cartesian product of index columns, `(rows, columns)`; one empty row of none."""
    grids = torch.meshgrid(*columns, indexing="ij") if columns else ()
    return torch.stack([grid.flatten() for grid in grids], -1) if grids else torch.empty(1, 0, dtype=torch.long)


def _refuse_too_many(choices: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
    bits = sum(count * math.log2(len(choices[name])) for name, count in counts.items())
    if bits > math.log2(MOST_STATES):
        sites = ", ".join(f"`{name}`" for name in counts)
        raise ValueError(
            f"`guide` has 2**{bits:.4g} joint states for each datum, at {sites}, expected at most {MOST_STATES}: use "
            "VIMCO() or ReweightedWakeSleep()"
        )


def _refuse_improper(pair: Pair, batch: Batch, layout: Layout, states: States) -> None:
    """Refuse a guide whose scale or mask makes it no distribution."""
    with seeded(None, first_tensor(batch).device), pair.mode(training=False), torch.no_grad():
        total = enumerate_latents(pair, batch, layout, states, keep_scale=True).log_q.logsumexp(0).exp()
    if not torch.allclose(total, torch.ones_like(total), atol=1e-3):
        raise ValueError(
            f"`guide` gives all states together a probability of {float(total[0]):.4g}, expected 1: take off what "
            "scales or masks it, or use VIMCO()"
        )
