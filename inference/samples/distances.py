r"""Distances between rows, a block at a time, so that memory stays bounded and one block serves many questions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["as_rows", "check_chunk", "distance_blocks", "nearest_rows", "num_rows", "subset"]

BLOCK = 2**23
"""Distances held at a time, where the caller does not say how many rows: 64 MiB of float64."""

ROUNDING = 1e-12
"""Squared distances below this part of both squared lengths are zero but for rounding."""


def as_rows(**given: Tensor) -> list[Tensor]:
    """Each set of data as a matrix `(n, d)`, of one width and on one device; axes after the first are joined.

    Raises:
        TypeError: what is given is no tensor, or not of floats.
        ValueError: it has no rows, or holds NaN, or differs in width or device from the first.

    >>> [tuple(rows.shape) for rows in as_rows(samples=torch.zeros(5, 2, 2), data=torch.zeros(7, 4))]
    [(5, 4), (7, 4)]
    """
    found = [_rows(name, tensor) for name, tensor in given.items()]
    first, width, device = next(iter(given)), found[0].shape[1], found[0].device
    for name, rows in zip(given, found, strict=True):
        if rows.shape[1] != width:
            raise ValueError(
                f"`{name}` has {rows.shape[1]} numbers a row, expected {width} as in `{first}`: compare like with like"
            )
        if rows.device != device:
            raise ValueError(f"`{name}` is on {rows.device}, expected {device} as `{first}`: move one of them")
    return found


def _rows(name: str, given: Tensor) -> Tensor:
    if not isinstance(given, Tensor):
        raise TypeError(
            f"`{name}` is a {type(given).__name__}, expected a tensor of shape (n, d): pass torch.as_tensor(...)"
        )
    if not given.is_floating_point():
        raise TypeError(f"`{name}` is of {given.dtype}, expected floats, between which distances are: call `.float()`")
    if given.dim() < 2 or not given.numel():
        raise ValueError(f"`{name}` has shape {tuple(given.shape)}, expected (n, d) with at least one row and column")
    rows = given.detach().flatten(1)  # (n, d)
    broken = ~torch.isfinite(rows).all(1)
    if bool(broken.any()):
        raise ValueError(
            f"`{name}` has NaN or infinite values in {int(broken.sum())} of {len(rows)} rows, the first is row "
            f"{int(broken.nonzero()[0])}, expected finite numbers: find out what made them, or drop those rows"
        )
    return rows


def num_rows(columns: int, chunk: int | None) -> int:
    """Rows of a block: as many as asked for, or as keep it within `BLOCK` numbers."""
    return max(1, BLOCK // columns) if chunk is None else check_chunk(chunk)


def check_chunk(chunk: int | None) -> int:
    """Refuse a block without rows."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk` is {chunk}, expected how many rows are taken at a time, at least 1: or leave it out")
    return chunk or 1


def subset(rows: Tensor, num: int, seed: int) -> Tensor:
    """So many of the rows, drawn without replacement, `(num, d)`; all, as they stand, where there are no more."""
    if num >= len(rows):
        return rows
    generator = torch.Generator().manual_seed(seed)
    return rows[torch.randperm(len(rows), generator=generator)[:num].to(rows.device)]


def distance_blocks(data: Tensor, centres: Tensor, chunk: int | None = None) -> Iterator[Tensor]:
    r"""Squared distances :math:`|x_i - c_j|^2` in float64, the rows of `data` in order, `(rows, S)` at a time.

    .. math:: |x - c|^2 = |x - m|^2 + |c - m|^2 - 2 (x - m)^\top (c - m), \qquad m = \tfrac1S \textstyle\sum_j c_j

    Taken about the mean of the centres, so that data far from the origin lose no digits.

    >>> [block.tolist() for block in distance_blocks(torch.eye(2), torch.zeros(1, 2), chunk=1)]
    [[[1.0]], [[1.0]]]
    """
    middle = centres.double().mean(0)
    c = centres.double() - middle  # (S, d)
    c_squared = c.square().sum(1)  # (S,)
    for part in data.split(num_rows(len(centres), chunk)):
        x = part.double() - middle  # (rows, d)
        lengths = x.square().sum(1, keepdim=True) + c_squared  # (rows, S)
        squared = torch.addmm(lengths, x, c.mT, alpha=-2)
        yield squared.masked_fill_(squared < ROUNDING * lengths, 0.0)


def nearest_rows(data: Tensor, centres: Tensor, chunk: int | None = None) -> Tensor:
    r"""Which of the centres is nearest to each datum, `(n,)`, in the precision of the centres.

    .. math:: \arg\min_j |x - c_j|^2 = \arg\max_j\; (x - m)^\top (c_j - m) - \tfrac12 |c_j - m|^2

    >>> nearest_rows(torch.tensor([[0.0], [9.0]]), torch.tensor([[1.0], [8.0], [20.0]]))
    tensor([0, 1])
    """
    middle = centres.mean(0)
    c = centres - middle  # (S, d)
    half = c.square().sum(1) / 2  # (S,)
    parts = data.to(centres.dtype).split(num_rows(len(centres), chunk))
    return torch.cat([torch.addmm(half, part - middle, c.mT, beta=-1).argmax(1) for part in parts])
