r"""Which cluster a datum belongs to: the probabilities of a discrete site given the datum, for any pair.

Where the guide samples the site, :math:`q(y \mid x)` is averaged over draws of what it samples before; where the model
sums it out, :math:`p(y \mid x, z)` over the guide's draws of the other latents. Both are averages of probabilities:
nothing is ever drawn from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from inference.batches import as_data, batches, device_of
from inference.draws import check_particles
from inference.evaluation import inspect_for_evaluation
from inference.flags import validating
from inference.layout import Layout
from inference.pair import Pair, call, first_tensor, size_of
from inference.particles import in_particles, run_guide
from inference.seeds import seeded
from inference.sites import Site, plates_of, sample_sites
from inference.truth import without_labels
from ppmodels.contracts import Batch, Data, Program

__all__ = ["assign", "discrete_sites"]


def assign(
    model: Program,
    guide: Program,
    data: Data | Batch,
    *,
    site: str = "y",
    num_particles: int = 10,
    batch_size: int = 100,
    seed: int = 0,
) -> Tensor:
    r"""The probability of each value of a discrete site for every datum, `(n, C)`: its responsibilities.

    .. math:: r_{ic} = \frac{1}{K} \sum_k q(y = c \mid x_i, z_k) \quad\text{or}\quad
        \frac{1}{K} \sum_k p(y = c \mid x_i, z_k), \qquad z_k \sim q(z \mid x_i)

    The former where the guide samples the site, z being what it samples before; the latter where the model sums it
    out, other discrete sites summed out with it. A dataset that hands labels to the programs and knows how to keep them
    back, by `without_labels()`, is read without them; in a tuple `(x, y)` it is for you to put -1 in the place of y.

    Args:
        model: any Pyro callable.
        guide: any Pyro callable over the same latent sites.
        data: a dataset, or a tensor, tuple or mapping of tensors.
        site: the discrete site.
        num_particles: K, draws per datum of the other latents.
        batch_size: data at a time.
        seed: seeds the draws (and the data's own noise); the caller's random state is left as it is.

    Raises:
        ValueError: if there is no such site, it has no finite values, or it stands in more plates than the data's.

    References:
        Jiang, Zheng, Tan, Tang and Zhou, *Variational Deep Embedding*, 2017, arXiv 1611.05148, equation 16.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         y = pyro.sample("y", dist.Categorical(torch.tensor([0.5, 0.5])), infer={"enumerate": "parallel"})
    ...         z = pyro.sample("z", dist.Normal(2.0 * y - 1.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 0.1), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x, 0.1))
    >>> assign(model, guide, torch.tensor([-3.0, 0.0, 3.0])).argmax(1)[[0, 2]]
    tensor([0, 1])
    """
    check_particles(num_particles)
    data = without_labels(as_data(data))
    pair, layout, rows = Pair(model, guide), None, []
    with seeded(seed, device_of(data)), pair.mode(training=False), torch.no_grad():
        for batch in batches(data, batch_size):
            if layout is None:
                layout = inspect_for_evaluation(pair, batch).without_strata()
                _check_site(pair, batch, layout, site)
            with validating(enabled=False):
                rows.append(_responsibilities(pair, batch, num_particles, layout, site))
    return torch.cat(rows)


def _responsibilities(pair: Pair, batch: Batch, K: int, layout: Layout, site: str) -> Tensor:
    """`(n, C)`, averaged over K draws."""
    if K > 1 and not layout.vectorized:
        ones = [_responsibilities(pair, batch, 1, layout, site) for _ in range(K)]
        return torch.stack(ones).mean(0)
    if size_of(batch) == 1:  # a plate over one datum is lost when Pyro sums sites out
        return _responsibilities(pair, _twice(batch), K, layout, site)[:1]
    read = _summed_out_by_model if site in layout.enumerated else _sampled_by_guide
    probs = _probs(read(pair, batch, K, layout, site))  # (K, ..., n, ..., C), or what broadcasts to it
    plates = [1] * layout.nesting
    plates[layout.data_dim] = size_of(batch)
    return probs.expand(K, *plates, -1).reshape(K, size_of(batch), -1).mean(0)


def _twice(batch: Batch) -> Batch:
    """The one datum of a batch, two times."""
    if isinstance(batch, Tensor):
        return torch.cat([batch, batch])
    if isinstance(batch, Mapping):
        return {name: torch.cat([part, part]) for name, part in batch.items()}
    return tuple(torch.cat([part, part]) for part in batch)


def _sampled_by_guide(pair: Pair, batch: Batch, K: int, layout: Layout, site: str) -> Any:
    """q(y | x, z) at the guide's draws of z."""
    return sample_sites(run_guide(pair, batch, K, layout))[site]["fn"]


def _summed_out_by_model(pair: Pair, batch: Batch, K: int, layout: Layout, site: str) -> Any:
    """p(y | x, z) at the guide's draws of z."""
    guide = poutine.infer_config(pair.guide, _drawn)
    programs = [in_particles(program, K, layout) for program in (pair.model, guide)]
    elbo = TraceEnum_ELBO(max_plate_nesting=layout.nesting + (K > 1))
    return elbo.compute_marginals(*(partial(call, program, batch) for program in programs))[site]


def _drawn(site: Any) -> Any:
    """The mark of a site that the guide draws, whatever mark it had."""
    return {"enumerate": None}


def _probs(fn: Any) -> Tensor:
    """The probability of every value of a distribution, values last."""
    values = fn.enumerate_support(expand=False)  # (C, 1, ..., *event)
    log_p: Tensor = fn.log_prob(values)
    return log_p.exp().movedim(0, -1)


def discrete_sites(pair: Pair, batch: Batch) -> tuple[str, ...]:
    """The sites that `assign` can ask: of finitely many values, one for each datum."""
    with seeded(None, first_tensor(batch).device), pair.mode(training=False), torch.no_grad():
        layout = inspect_for_evaluation(pair, batch)
        sites = _sites(pair, batch, layout)
    return tuple(name for name, site in sites.items() if site["fn"].has_enumerate_support and not _others(site, layout))


def _check_site(pair: Pair, batch: Batch, layout: Layout, name: str) -> None:
    sites = _sites(pair, batch, layout)
    if name not in sites:
        known = ", ".join(f"`{known}`" for known in sites) or "none"
        raise ValueError(f"`site` is {name!r}, expected a latent site of the pair, which has {known}")
    fn = sites[name]["fn"]
    if not fn.has_enumerate_support:
        raise ValueError(f"site `{name}` is {type(fn).__name__}, expected a distribution over finitely many values")
    if others := _others(sites[name], layout):
        raise ValueError(f"site `{name}` stands in plate `{others[0]}`, expected the data's alone: one for each datum")


def _sites(pair: Pair, batch: Batch, layout: Layout) -> dict[str, Site]:
    """What the guide samples, and what the model sums out."""
    guide_trace, model_trace = pair.traces(batch)
    summed_out = {name: site for name, site in sample_sites(model_trace).items() if name in layout.enumerated}
    return sample_sites(guide_trace) | summed_out


def _others(site: Site, layout: Layout) -> list[str]:
    """The plates a site stands in beside the data's."""
    return [plate.name for plate in plates_of(site) if plate.name != layout.data]
