r"""Centroids by a few Lloyd steps: many thousands of them, for which the usual k-means takes far too long."""

from __future__ import annotations

import torch
from torch import Tensor

from inference.samples.distances import as_rows, check_chunk, nearest_rows, subset

__all__ = ["k_means"]


def k_means(data: Tensor, num: int, *, steps: int = 4, seed: int = 0, chunk: int | None = None) -> Tensor:
    r"""Cluster data by Lloyd's steps from random data points, and return the centroids, `(num, d)`.

    .. math:: a_i = \arg\min_k |x_i - c_k|^2, \qquad c_k \leftarrow \frac{1}{|\{i : a_i = k\}|} \sum_{i : a_i = k} x_i

    A centroid that no datum is nearest to stays where it is.

    Args:
        data: `(n, d)`; a step costs n num d multiplications.
        num: of centroids, at most n.
        steps: how often each centroid moves; 0 leaves the data points that they start from.
        seed: of the choice of those.
        chunk: data at a time; by default as many as keep memory bounded.

    Raises:
        TypeError: `data` is no tensor of floats.
        ValueError: there are more centroids than data, or a number is out of range.

    References:
        Lloyd, *Least Squares Quantization in PCM*, 1982, IEEE Transactions on Information Theory 28.

    >>> k_means(torch.tensor([[0.0], [1.0], [10.0], [11.0]]), 2).sort(0).values.tolist()
    [[0.5], [10.5]]
    """
    (x,) = as_rows(data=data)
    if not 1 <= num <= len(x):
        raise ValueError(f"`num` is {num}, expected a number of centroids from 1 to {len(x)}, the data there are")
    if steps < 0:
        raise ValueError(f"`steps` is {steps}, expected how often the centroids move, from 0")
    check_chunk(chunk)
    x = x if x.dtype == torch.float64 else x.float()
    centres = subset(x, num, seed).clone()  # (num, d)
    for _ in range(steps):
        nearest = nearest_rows(x, centres, chunk)  # (n,)
        sums = torch.zeros_like(centres).index_add_(0, nearest, x)  # (num, d)
        counts = torch.bincount(nearest, minlength=num).unsqueeze(1)  # (num, 1)
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres
