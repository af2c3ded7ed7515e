r"""Codes: where a guide puts data in the space of a latent site."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from inference.batches import as_data, batches, device_of
from inference.draws import check_particles
from inference.evaluation import inspect_for_evaluation
from inference.flags import validating
from inference.layout import Layout
from inference.pair import Pair
from inference.particles import run_guide
from inference.seeds import seeded
from inference.sites import Site, sample_sites
from inference.truth import without_labels
from ppmodels.contracts import Batch, Data, Program

__all__ = ["latent_codes"]


def latent_codes(
    model: Program,
    guide: Program,
    data: Data | Batch,
    site: str,
    *,
    draw: bool = False,
    num_particles: int = 1,
    batch_size: int = 100,
    seed: int = 0,
) -> Tensor:
    r"""The codes a guide gives to data: its means at a latent site, or its draws, `(n, z_dim)`.

    A mean is that of the site's distribution given what the guide samples before, averaged over K runs: one run is
    exact where nothing is sampled before. A draw averaged over K runs is an estimate of the mean. A dataset that hands
    labels to the programs and knows how to keep them back is read without them, as in `assign`.

    Args:
        model: any Pyro callable.
        guide: any Pyro callable over the same latent sites.
        data: a dataset, or a tensor, tuple or mapping of tensors.
        site: the latent site; its event dimensions are flattened.
        draw: take a draw, not the mean.
        num_particles: K, runs of the guide to average over.
        batch_size: data at a time.
        seed: seeds the draws (and the data's own noise); the caller's random state is left as it is.

    Raises:
        ValueError: the guide has no such site, or its distribution does not know its mean.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.7))
    >>> latent_codes(model, guide, torch.tensor([2.0, 4.0]), "z")
    tensor([[1.],
            [2.]])
    """
    check_particles(num_particles)
    data = without_labels(as_data(data))
    pair, layout, rows = Pair(model, guide), None, []
    read = _value if draw else _mean
    with seeded(seed, device_of(data)), pair.mode(training=False), torch.no_grad():
        for batch in batches(data, batch_size):
            if layout is None:
                layout = inspect_for_evaluation(pair, batch).without_strata()
                _check_site(site, layout)
            with validating(enabled=False):
                rows.append(_codes(pair, batch, num_particles, layout, site, read))
    return torch.cat(rows)


def _codes(pair: Pair, batch: Batch, K: int, layout: Layout, name: str, read: Callable[[Site], Tensor]) -> Tensor:
    """`(n, z_dim)`, averaged over K runs."""
    if K > 1 and not layout.vectorized:
        return torch.stack([_codes(pair, batch, 1, layout, name, read) for _ in range(K)]).mean(0)
    site = sample_sites(run_guide(pair, batch, K, layout))[name]
    value = read(site) if K > 1 else read(site).unsqueeze(0)
    rows = value.movedim(layout.data_dim - site["fn"].event_dim, 1)  # (K, n, *event)
    rows = rows if rows.is_floating_point() else rows.to(torch.get_default_dtype())
    return rows.mean(0).flatten(1) if rows.dim() > 2 else rows.mean(0).unsqueeze(-1)


def _value(site: Site) -> Tensor:
    value: Tensor = site["value"]
    return value


def _mean(site: Site) -> Tensor:
    try:
        mean: Tensor = site["fn"].mean
    except NotImplementedError as error:
        raise ValueError(
            f"site `{site['name']}` is {type(site['fn']).__name__}, which does not know its mean: average draws, with "
            "draw=True and num_particles=100"
        ) from error
    return mean.expand(site["value"].shape)


def _check_site(site: str, layout: Layout) -> None:
    if site not in layout.latents:
        known = ", ".join(f"`{name}`" for name in layout.latents) or "none"
        raise ValueError(f"`site` is {site!r}, expected a latent site that the guide samples, which are {known}")
