"""What keeps Pyro programs from running under `torch.func` and in graphs, mended for a block.

Each of these gives the numbers it gave before; what differs is how they are computed, and that a matrix which is not
positive definite gives NaN where it stood, instead of an error for all chains at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import pyro.ops.special
import torch
from pyro.distributions import OrderedLogistic
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.distributions import Categorical, Distribution, transforms

from inference.flags import exchanged

__all__ = ["transformable"]

_cholesky, _iter, _subsample = torch.linalg.cholesky, IndepMessenger.__iter__, _Subsample.sample


class _SafeLog(torch.autograd.Function):
    """Pyro's logarithm with a finite gradient at zero, in the form that `torch.func` asks for."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.log()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grad / x.clamp(min=torch.finfo(x.dtype).eps)


def _ordered_logistic(self: OrderedLogistic, predictor: Tensor, cutpoints: Tensor, validate_args: Any = None) -> None:
    """`OrderedLogistic.__init__` without writing in place into a tensor that is not mapped over."""
    q = torch.sigmoid(cutpoints - predictor.unsqueeze(-1))
    self.predictor, self.cutpoints = predictor.expand(q.shape[:-1]), cutpoints.expand(q.shape)
    nothing = torch.zeros_like(q[..., :1])
    Categorical.__init__(self, torch.cat([q, nothing + 1], -1) - torch.cat([nothing, q], -1), None, validate_args)


@cache
def _places(n: int, diag: int) -> tuple[int, ...]:
    """The places of a lower triangle in a flat matrix, in row order."""
    return tuple(i * n + j for i in range(n) for j in range(min(n, i + diag + 1)))


def _vec_to_tril(vec: Tensor, diag: int = 0) -> Tensor:
    """`vec_to_tril_matrix` by positions, where the mask would be one to index with."""
    length = vec.shape[-1]
    n = next(n for n in range(1, length + 2 + abs(diag)) if len(_places(n, diag)) == length)
    slot = {place: k + 1 for k, place in enumerate(_places(n, diag))}
    at = torch.tensor([slot.get(place, 0) for place in range(n * n)], device=vec.device)
    padded = torch.cat([torch.zeros_like(vec[..., :1]), vec], -1)  # a zero for what is above
    return padded[..., at].reshape(*vec.shape[:-1], n, n)


def _tril_to_vec(mat: Tensor, diag: int = 0) -> Tensor:
    """`tril_matrix_to_vec` by positions, where the mask would be one to index with."""
    at = torch.tensor(_places(mat.shape[-1], diag), dtype=torch.long, device=mat.device)
    return mat.flatten(-2)[..., at]


def _tolerant_cholesky(A: Tensor, *, upper: bool = False, out: Tensor | None = None) -> Tensor:
    """`torch.linalg.cholesky`, with NaN for a matrix that has no factor."""
    if out is not None:
        return cast("Tensor", _cholesky(A, upper=upper, out=out))
    L, info = torch.linalg.cholesky_ex(A, upper=upper)
    found: Tensor = L.masked_fill((info != 0).unsqueeze(-1).unsqueeze(-1), torch.nan)
    return found


def _mark_range(self: _Subsample, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 - Pyro's signature
    """`_Subsample.sample`, which says whether it gave every index in order."""
    found: Any = _subsample(self, sample_shape)
    found.is_range = self.subsample_size is None or self.subsample_size >= self.size
    return cast("Tensor", found)


def _iterate(self: IndepMessenger) -> Iterator[int | float]:
    """A sequential plate over every index counts in Python, so that nobody asks a tensor for its value."""
    if getattr(self._indices, "is_range", False):
        self._indices = range(self.size)  # type: ignore[assignment]
    yield from _iter(self)


_MENDED: tuple[tuple[Any, str, Any], ...] = (
    (pyro.ops.special, "_SafeLog", _SafeLog),  # looked up by name: exchanged here it serves all who use `safe_log`
    (OrderedLogistic, "__init__", _ordered_logistic),
    (transforms, "vec_to_tril_matrix", _vec_to_tril),
    (transforms, "tril_matrix_to_vec", _tril_to_vec),
    (torch.linalg, "cholesky", _tolerant_cholesky),
    (Distribution, "_validate_sample", lambda self, value: None),  # of distributions made while validation was on
    (_Subsample, "sample", _mark_range),
    (IndepMessenger, "__iter__", _iterate),
)


@contextmanager
def transformable() -> Iterator[None]:
    """Run a block in which Pyro programs can be differentiated, mapped over and traced."""
    with exchanged(*_MENDED), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        yield
