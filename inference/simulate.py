r"""Data drawn from a model, with the latents they were drawn with: exact draws of each other's posteriors.

.. math:: z_i^* \sim p(z), \quad x_i \sim p(x \mid z_i^*) \qquad \Longrightarrow \qquad z_i^* \sim p(z \mid x_i)

This is the one place where a posterior can be drawn from exactly, whatever the model: what an upper bound on log p(x)
and a check of calibration rest on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pyro import poutine
from torch import Tensor

from inference.batches import as_data, device_of
from inference.dreaming import filled, own, places_of
from inference.flags import validating
from inference.pair import Pair, call, size_of
from inference.particles import site_log_prob, trace_of
from inference.seeds import seeded, stream
from inference.sites import Site, sample_sites
from inference.unobserving import unobserved
from ppmodels.contracts import Batch, Data, Program

__all__ = ["Simulated", "simulate"]


@dataclass(frozen=True, eq=False)
class Simulated:
    """Data and latents drawn together.

    Attributes:
        data: a batch such as the model is called with, n rows.
        latents: the values of the model's latent sites, in the shapes they were drawn with.
    """

    data: Batch
    latents: Mapping[str, Tensor]

    def __len__(self) -> int:
        return size_of(self.data)


def simulate(model: Program | Pair, like: Data | Batch, n: int | None = None, *, seed: int = 0) -> Simulated:
    """Draw data from a model, arranged as its own are.

    The model is run on rows of `like` with its observations taken off, and what it draws is put where they came from.
    Whatever else it is called with (covariates, labels, masks) stays as it is in those rows.

    Args:
        model: any Pyro callable, or a pair.
        like: a dataset, or a tensor, tuple or mapping of tensors, that the model can be called with.
        n: data to draw, as many as `like` has if not given; its rows are taken in order, and again from the first.
        seed: seeds the draws; the caller's random state is left as it is.

    Raises:
        ValueError: naming the site, if it cannot be told which argument it observes, or if it cannot be drawn.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x, group):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(10.0 * group, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 0.1), obs=x)
    >>> found = simulate(model, (torch.zeros(2), torch.tensor([0.0, 1.0])), 4)
    >>> x, group = found.data
    >>> group
    tensor([0., 1., 0., 1.])
    >>> bool((x - found.latents["z"]).abs().max() < 1)
    True
    """
    program = model.model if isinstance(model, Pair) else model
    data = as_data(like)
    n = len(data) if n is None else n
    if n < 1:
        raise ValueError(f"`n` is {n}, expected at least 1 datum to draw")
    pair = Pair(program, program)
    seed = stream(seed, "simulated data")  # others draw from the same seed: theirs must not be the latents' noise
    with seeded(seed, device_of(data)), pair.mode(training=False), torch.no_grad(), validating(enabled=False):
        given = own(data.batch(torch.arange(n) % len(data)))
        observed = sample_sites(poutine.trace(lambda: call(program, given)).get_trace())
        places = places_of(observed, given)
        if not places:
            raise ValueError("`model` observes nothing: expected a site with `obs=x`; is the batch passed on to it?")
        drawn = sample_sites(poutine.trace(unobserved(lambda: call(program, given))).get_trace())
        for name, place in places.items():
            value = drawn[name]["value"]
            if tuple(value.shape) != place.size:
                raise ValueError(
                    f"site `{name}` draws {tuple(value.shape)} where it observes {place.size}, expected the "
                    "same shape: give its distribution the shape of the data"
                )
        given = own(filled(given, places, {name: drawn[name]["value"] for name in places}))
        _check(drawn, program, given)
    return Simulated(given, {name: site["value"] for name, site in drawn.items() if name not in places})


def _check(drawn: dict[str, Site], program: Program, given: Batch) -> None:
    """Refuse a program that reads what it observes: told the draws, it would have drawn others."""
    values = trace_of({name: site["value"] for name, site in drawn.items()})
    again = sample_sites(poutine.trace(poutine.replay(lambda: call(program, given), trace=values)).get_trace())
    for name, site in drawn.items():
        before, after = site_log_prob(site), site_log_prob(again[name])
        slack = 100 * torch.finfo(before.dtype).eps ** 0.75
        if before.shape != after.shape or not torch.allclose(before, after, rtol=slack, atol=slack, equal_nan=True):
            raise ValueError(
                f"site `{name}` has another density once the simulated data are given to the model: it reads what it "
                "observes, and cannot be simulated by running it once; draw data from it yourself"
            )
