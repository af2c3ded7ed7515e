r"""Parzen windows: the density that a Gaussian on every sample makes.

.. math:: \log p_\sigma(x) = \log \frac1S \sum_{s=1}^{S} \mathcal{N}(x;\, s,\, \sigma^2 I)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from inference.samples.distances import as_rows, distance_blocks

__all__ = ["log_density", "parzen_window", "widths_of"]


def parzen_window(samples: Tensor, data: Tensor, sigma: float, *, chunk: int | None = None) -> Tensor:
    r"""Log density of each datum under equal Gaussian windows on the samples, in nats and float64, `(n,)`.

    .. math:: \log \frac1S \sum_s \exp\!\Big(-\frac{|x - s|^2}{2 \sigma^2}\Big) - \frac d2 \log 2 \pi \sigma^2

    Args:
        samples: where the windows stand, `(S, d)`.
        data: where the density is asked for, `(n, d)`.
        sigma: the windows' standard deviation, in the units of the data.
        chunk: data at a time; by default as many as keep memory bounded.

    Raises:
        TypeError: the samples or the data are no tensors of floats.
        ValueError: they are empty, not finite or of different widths, or `sigma` is not positive.

    >>> parzen_window(torch.zeros(3, 1), torch.zeros(1, 1), 1.0)
    tensor([-0.9189], dtype=torch.float64)
    """
    windows, x = as_rows(samples=samples, data=data)
    return log_density(windows, x, widths_of("sigma", (sigma,)), chunk)[0]


def log_density(windows: Tensor, x: Tensor, sigmas: Sequence[float], chunk: int | None) -> Tensor:
    """Log density of each datum by width, `(len(sigmas), n)`; one block of distances serves all widths."""
    S, d = windows.shape
    parts = [
        torch.stack([(squared / (-2 * sigma**2)).logsumexp(1) for sigma in sigmas])  # (len(sigmas), rows)
        for squared in distance_blocks(x, windows, chunk)  # (rows, S)
    ]
    norms = [math.log(S) + d / 2 * math.log(2 * math.pi * sigma**2) for sigma in sigmas]
    return torch.cat(parts, 1) - parts[0].new_tensor(norms).unsqueeze(1)


def widths_of(name: str, sigmas: Sequence[float]) -> list[float]:
    """The widths from small to large; refuses those that are not positive."""
    found = sorted(float(sigma) for sigma in sigmas)
    wrong = [sigma for sigma in found if not 0 < sigma < math.inf]
    if wrong or not found:
        got = f"holds {wrong[0]}" if wrong and name == "sigmas" else f"is {wrong[0] if wrong else 'empty'}"
        raise ValueError(f"`{name}` {got}, expected positive widths in the units of the data: such as 0.1 to 1 of grey")
    return found
