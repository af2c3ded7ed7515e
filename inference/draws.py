"""Draw particles from a guide and weigh them, as many as asked for and no more at a time than fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeAlias

from torch import Tensor

from inference.flags import validating
from inference.graph import Graphed, Mode
from inference.layout import Layout
from inference.pair import Pair, first_tensor
from inference.particles import inspect_pair, run_particles
from inference.weights import Weights, weigh_traces
from ppmodels.contracts import Batch, Program

__all__ = [
    "Weigh",
    "check_particles",
    "chunks_of",
    "draw_chunks",
    "draw_weights",
    "gather",
    "graphed_weigher",
    "log_weights",
    "weigher",
]

Weigh: TypeAlias = Callable[[Batch, int], Weights]


def log_weights(
    model: Program,
    guide: Program,
    x: Batch,
    num_particles: int,
    *,
    chunk: int | None = None,
    joint: bool = False,
    vectorize: bool | None = None,
    analytic_kl: Iterable[str] = (),
) -> Weights:
    r"""Draw exactly K particles per datum from the guide and weigh them under the model.

    A program's scale (`pyro.plate` with subsampling, `poutine.scale`) is divided out, masks are honoured, and
    model sites marked `infer={"enumerate": "parallel"}` are summed out exactly.

    Args:
        model: any Pyro callable; `x` observed, local sites in a plate over the data.
        guide: any Pyro callable over the same latent sites.
        x: a batch: a tensor, a tuple of arguments, or a mapping of them; leading axis n.
        num_particles: K.
        chunk: particles in memory at a time; by default what suits the device, see `default_chunk`.
        joint: one weight for the whole batch (n = 1), global latents included.
        vectorize: run particles in one outer plate; `None` decides by trying.
        analytic_kl: latent sites whose closed-form KL is wanted too; see `closed_form_sites`.

    Raises:
        ValueError: if K or the chunk is not positive, or the pair cannot be weighed; the message names the site.

    >>> import torch, pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def posterior(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
    >>> x = torch.tensor([0.5, -1.0])
    >>> weights = log_weights(model, posterior, x, num_particles=3)
    >>> torch.allclose(weights.log_w, dist.Normal(0.0, 2**0.5).log_prob(x).expand(3, 2), atol=1e-6)
    True
    """
    check_particles(num_particles)
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk` is {chunk}, expected at least 1 particle at a time")
    pair = Pair(model, guide)
    layout = inspect_pair(pair, x, joint=joint, vectorize=vectorize)
    if layout.subsamples and (not layout.vectorized or num_particles > (chunk or default_chunk(x))):
        raise ValueError(
            f"plate `{layout.data}` draws its own minibatch, another for every chunk of particles: take "
            "`subsample_size` off, or draw all particles at once"
        )
    return draw_weights(pair, x, num_particles, layout, chunk=chunk, analytic_kl=analytic_kl)


def check_particles(num_particles: int) -> None:
    """K is a whole number, at least one."""
    if not isinstance(num_particles, int) or num_particles < 1:
        raise ValueError(f"`num_particles` is {num_particles}, expected a whole number, at least 1")


def default_chunk(batch: Batch) -> int:
    """Particles at a time: on a CPU a layer as wide as the data stays near 8 MiB, in its caches; elsewhere 256 MiB."""
    x = first_tensor(batch)
    return max(1, (2**21 if x.device.type == "cpu" else 2**26) // max(1, x.numel()))


def draw_weights(
    pair: Pair,
    batch: Batch,
    num_particles: int,
    layout: Layout,
    *,
    chunk: int | None = None,
    analytic_kl: Iterable[str] = (),
    keep_scale: bool = False,
    weigh: Weigh | None = None,
) -> Weights:
    """`log_weights` for a pair already inspected: no checks, no validation, ready for a training loop.

    `keep_scale` leaves the program's own scale in (a KL weight set by `poutine.scale`), less the data plate's N/B.
    `weigh` draws and weighs a chunk, by default as `weigher` does.
    """
    if weigh is None:
        weigh = weigher(pair, layout, analytic_kl=analytic_kl, keep_scale=keep_scale)
    return gather(draw_chunks(weigh, batch, num_particles, layout, chunk), num_particles)


def draw_chunks(
    weigh: Weigh, batch: Batch, num_particles: int, layout: Layout, chunk: int | None = None
) -> Iterator[Weights]:
    """Weights of K draws, some at a time; what is over at the end is dropped."""
    size, count = chunks_of(batch, num_particles, layout, chunk)
    for done in range(0, count * size, size):
        with validating(enabled=False):
            weights = weigh(batch, size)
        left = num_particles - done
        yield weights if left >= size else weights.map(lambda v, left=left: v[:left])


def chunks_of(batch: Batch, num_particles: int, layout: Layout, chunk: int | None) -> tuple[int, int]:
    """Particles at a time, and how many times: all alike, so that one graph serves."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk` is {chunk}, expected at least 1 particle at a time")
    most = min(num_particles, chunk or default_chunk(batch)) if layout.vectorized else 1
    count = math.ceil(num_particles / most)
    return math.ceil(num_particles / count), count


def gather(parts: Iterator[Weights], K: int) -> Weights:
    """Put chunks of draws after one another, K in all, into tensors made before the second is drawn.

    Keeping the chunks to concatenate them would leave small tensors scattered between large ones, which the
    allocator then cannot give back: memory would grow with K.
    """
    first = next(parts)
    if first.num_particles == K:
        return first
    whole = first.map(lambda v: v.new_empty(K, v.shape[1]))
    done = 0
    for part in chain([first], parts):
        for target, value in zip(whole.tensors(), part.tensors(), strict=True):
            target[done : done + part.num_particles] = value
        done += part.num_particles
    assert done == K
    return whole


def weigher(pair: Pair, layout: Layout, *, analytic_kl: Iterable[str] = (), keep_scale: bool = False) -> Weigh:
    """The function that draws a number of particles at once and weighs them."""
    wanted = frozenset(analytic_kl)

    def weigh(batch: Batch, size: int) -> Weights:
        return weigh_traces(*run_particles(pair, batch, size, layout), size, layout, wanted, keep_scale=keep_scale)

    return weigh


def graphed_weigher(weigh: Weigh, pair: Pair, mode: Mode, calls: Callable[[int], int]) -> Weigh:
    """The same function, run from its tensor graph."""

    def tensors(batch: Batch, size: int) -> tuple[Sequence[Tensor], Any]:
        weights = weigh(batch, size)
        return weights.tensors(), weights.map(lambda _: 0)  # which fields there are

    graph = Graphed(pair, tensors, mode, calls)

    def weigh_by_graph(batch: Batch, size: int) -> Weights:
        found, fields = graph(batch, size)
        weights: Weights = fields.like(found)
        return weights

    return weigh_by_graph
