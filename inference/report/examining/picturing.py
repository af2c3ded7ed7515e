"""Pictures of what a pair makes: samples, reconstructions, ways from one datum to another, and its worst data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor

from inference.assignments import assign
from inference.batches import TensorData
from inference.pair import call
from inference.particles import raw_latents, run_guide, run_particles, trace_of
from inference.report.examination import Pictures, Worst, worst_index
from inference.report.examining.view import View
from inference.sites import sample_sites

__all__ = ["pictures_of", "worst_of"]

SHOWN, WAYS, STEPS = 32, 4, 9


def pictures_of(view: View, num_samples: int = 64) -> Pictures:
    """Samples and reconstructions as means of the data, and straight lines in the latents.

    Raises:
        ValueError: if the distribution of the data does not know its mean.
    """
    data, means = _reconstructed(view, torch.arange(min(SHOWN, len(view.data))), "reconstructions")
    with view.running("pictures"):
        samples = view.means(view.dreamed(view.batch(torch.arange(num_samples))))
        ways = _ways(view)
    shape = view.shape if math.prod(view.shape) == data.shape[1] else (data.shape[1],)
    return Pictures(shape, _array(data), _array(means), _array(samples), _array(ways))


def worst_of(view: View, khat: NDArray[np.float64], k: int) -> Worst:
    """The k data of highest k-hat."""
    index = worst_index(khat, k)
    if not len(index):  # no plate has a size of nothing
        return Worst(index, np.zeros((0, 1)), np.zeros((0, 1)))
    data, means = _reconstructed(view, torch.from_numpy(index), "worst")
    return Worst(index, _array(data), _array(means))


def _reconstructed(view: View, index: Tensor, purpose: str) -> tuple[Tensor, Tensor]:
    """Data, and the mean of each given one draw of its latents from the guide, both `(m, x_dim)`."""
    batch, summed_out = view.batch(index), view.layout.enumerated
    shares = None
    if len(summed_out) == 1:
        shares = assign(view.pair.model, view.pair.guide, TensorData(batch), site=summed_out[0], seed=view.seed)
    with view.running(purpose):
        _, model = run_particles(view.pair, batch, 1, view.layout)
        return view.values(model), view.means(model, shares)


def _ways(view: View) -> Tensor:
    """Means along lines between the draws of a guide for two data each, `(rows, steps, x_dim)`.

    What is whole numbers, or categories, changes half way; everything else lies in a convex set, and moves straight.
    """
    ends = torch.arange(2 * min(WAYS, len(view.data) // 2))
    if not len(ends):
        return torch.zeros(0, STEPS, 1)
    trace = run_guide(view.pair, view.batch(ends), 1, view.layout)
    sites, along = sample_sites(trace), {}
    for name, value in raw_latents(trace, view.layout).items():
        axis = view.layout.data_dim - sites[name]["fn"].event_dim
        rows = value.movedim(axis, 0)
        first, last = (rows[side::2].repeat_interleave(STEPS, 0) for side in (0, 1))
        along[name] = _between(first, last, discrete=_is_discrete(sites[name]["fn"])).movedim(0, axis)
    batch = view.batch(ends[::2].repeat_interleave(STEPS))
    model = poutine.trace(poutine.replay(lambda: call(view.pair.model, batch), trace=trace_of(along))).get_trace()
    means: Tensor = view.means(model).unflatten(0, (-1, STEPS))
    return means


def _between(first: Tensor, last: Tensor, *, discrete: bool) -> Tensor:
    """From the first to the last in steps, `(rows * steps, ...)`."""
    t = torch.linspace(0, 1, STEPS, device=first.device).repeat(len(first) // STEPS)
    t = t.reshape(-1, *[1] * (first.dim() - 1)).to(first.dtype if first.is_floating_point() else torch.float32)
    return torch.where(t > 0.5, last, first) if discrete else torch.lerp(first, last, t)


def _is_discrete(fn: Any) -> bool:
    return bool(fn.support.is_discrete)


def _array(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.detach().double().cpu().numpy()
    return found
