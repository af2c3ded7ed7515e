"""One pass over a dataset that weighs every datum: what log-likelihoods and ladders are made of."""

from __future__ import annotations

import time
from collections.abc import Generator

import torch

from inference.batches import batches, device_of
from inference.closed_form import closed_form_sites
from inference.layout import Layout
from inference.pair import Pair
from inference.particles import inspect_pair
from inference.progress import progress_bar
from inference.seeds import seeded
from inference.weights import Weights, draw_weights
from ppmodels.contracts import Batch, Data

__all__ = ["inspect_for_evaluation", "weigh_data"]


def inspect_for_evaluation(pair: Pair, batch: Batch) -> Layout:
    """`inspect_pair`, refusing a program that draws its own minibatch: it would not say which data it weighed."""
    layout = inspect_pair(pair, batch)
    if layout.subsamples:
        raise ValueError(
            f"plate `{layout.data}` draws its own minibatch from the batch, expected every datum to be read: take "
            "`subsample_size` off to evaluate; training may keep it"
        )
    return layout


def weigh_data(
    pair: Pair,
    data: Data,
    num_particles: int,
    *,
    label: str,
    batch_size: int,
    chunk: int | None,
    seed: int,
    progress: bool | None,
    analytic_kl: bool = False,
) -> Generator[tuple[Weights, float], None, None]:
    """Weights of K draws for each batch in turn, and the seconds they took; without gradients, in evaluation mode.

    What is drawn while this runs is drawn under `seed`; when it ends the caller's random state is as it was. Close it
    (`contextlib.closing`), so that it ends where its reader fails too.
    """
    with seeded(seed, device_of(data)), pair.mode(training=False), torch.no_grad():
        layout: Layout | None = None
        sites: tuple[str, ...] = ()
        with progress_bar(label, len(data), show=progress) as bar:
            for batch in batches(data, batch_size):
                if layout is None:
                    layout = inspect_for_evaluation(pair, batch)
                    sites = _closed_forms(pair, batch, layout) if analytic_kl else ()
                start = time.perf_counter()
                weights = draw_weights(pair, batch, num_particles, layout, chunk=chunk, analytic_kl=sites)
                yield weights, time.perf_counter() - start
                bar.advance(weights.num_data)


def _closed_forms(pair: Pair, batch: Batch, layout: Layout) -> tuple[str, ...]:
    sites = closed_form_sites(pair, batch, layout)
    if not sites:
        raise ValueError(
            '`ELBO(kl="analytic")` finds no site with a closed-form KL that leaves the bound as it is: use `ELBO()`'
        )
    return sites
