"""What a program is called with: data `(n, x_dim)`, and labels `(n,)` of which some may be unknown."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["UNKNOWN", "check_data", "check_labels"]

UNKNOWN = -1
"""What stands in the place of a label that nobody gave."""


def check_data(x: Tensor, x_dim: int | None = None) -> Tensor:
    """The data, refused unless they are one row per datum, of length `x_dim` where that is known.

    Example:
        >>> check_data(torch.zeros(28, 28), 784)
        Traceback (most recent call last):
        ValueError: `x` must have shape (n, 784), one row per datum, got (28, 28)
    """
    if x.ndim != 2 or x_dim not in (None, x.shape[-1]):
        raise ValueError(f"`x` must have shape (n, {x_dim or 'x_dim'}), one row per datum, got {tuple(x.shape)}")
    return x


def check_labels(y: Tensor, n: int, classes: int) -> Tensor:
    """The labels, refused unless they are one whole number per datum, and under validation, if one is out of range.

    To read values would break the capture of a program as a graph, which runs without validation; there a
    label out of range makes the weight of its datum NaN.

    Arguments:
        y: the labels, int64 `(n,)`: a class from 0 to `classes - 1`, or `UNKNOWN`.
        n: the number of data.
        classes: the number of classes.

    Raises:
        ValueError: the labels have another shape or type, or one is out of range.

    Example:
        >>> check_labels(torch.tensor([0, 10, -1]), 3, 10)
        Traceback (most recent call last):
        ValueError: `y` must hold classes from 0 to 9, or -1 where a label is unknown, got 10
    """
    if tuple(y.shape) != (n,) or y.dtype != torch.int64:
        raise ValueError(f"`y` must be int64 of shape ({n},), a label per datum, got {y.dtype} of {tuple(y.shape)}")
    if Distribution._validate_args and len(wrong := y[(y < UNKNOWN) | (y >= classes)]):
        raise ValueError(
            f"`y` must hold classes from 0 to {classes - 1}, or {UNKNOWN} where a label is unknown, got {int(wrong[0])}"
        )
    return y
