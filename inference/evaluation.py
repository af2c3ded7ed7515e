"""One pass over a dataset that weighs every datum: what log-likelihoods and ladders are made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TypeVar

import torch

from inference.batches import batches, device_of
from inference.closed_form import closed_form_sites
from inference.draws import Weigh, chunks_of, draw_chunks, graphed_weigher, weigher
from inference.graph import Mode, check_mode
from inference.layout import Layout
from inference.pair import Pair, size_of
from inference.particles import inspect_pair
from inference.progress import progress_bar
from inference.seeds import seeded
from inference.weights import Weights
from ppmodels.contracts import Batch, Data

__all__ = ["inspect_for_evaluation", "weigh_data"]

Reduced = TypeVar("Reduced")


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
    reduce: Callable[[Iterator[Weights]], Reduced],
    *,
    label: str,
    batch_size: int,
    chunk: int | None,
    seed: int,
    progress: bool | None,
    mode: Mode = "auto",
    analytic_kl: bool = False,
) -> Generator[tuple[Reduced, float], None, None]:
    """What `reduce` makes of the chunks of K draws for each batch in turn, and the seconds it took.

    It runs without gradients, in evaluation mode. What is drawn meanwhile is drawn under `seed`; when it ends the
    caller's random state is as it was. Close it (`contextlib.closing`), so that it ends where its reader fails too.
    """
    check_mode(mode)
    with seeded(seed, device_of(data)), pair.mode(training=False), torch.no_grad():
        layout: Layout | None = None
        weigh: Weigh | None = None
        with progress_bar(label, len(data), show=progress) as bar:
            for batch in batches(data, batch_size):
                if layout is None or weigh is None:
                    layout = inspect_for_evaluation(pair, batch)
                    sites = _closed_forms(pair, batch, layout) if analytic_kl else ()
                    _, chunks = chunks_of(batch, num_particles, layout, chunk)
                    calls = partial(_calls, len(data), batch_size, chunks)
                    weigh = graphed_weigher(weigher(pair, layout, analytic_kl=sites), pair, mode, calls)
                start = time.perf_counter()
                found = reduce(draw_chunks(weigh, batch, num_particles, layout, chunk))
                yield found, time.perf_counter() - start
                bar.advance(size_of(batch))


def _calls(num_data: int, batch_size: int, chunks: int, n: int) -> int:
    """How often a chunk of draws for a batch of n data is weighed."""
    return chunks * (num_data // batch_size if n == batch_size else 1)


def _closed_forms(pair: Pair, batch: Batch, layout: Layout) -> tuple[str, ...]:
    sites = closed_form_sites(pair, batch, layout)
    if not sites:
        raise ValueError(
            '`ELBO(kl="analytic")` finds no site with a closed-form KL that leaves the bound as it is: use `ELBO()`'
        )
    return sites
