"""Draws of distributions under `torch.vmap`: another one for every row.

Torch draws in place, into a tensor made for it, which is the same for all rows and so refused. Drawn out of place, the
same numbers are new for every row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Multinomial, dirichlet
from torch.overrides import TorchFunctionMode

from inference.flags import exchanged

__all__ = ["drawing"]


def _uniform(x: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand_like(x)


_OUT_OF_PLACE: dict[Any, Callable[..., Tensor]] = {
    Tensor.data.__get__: lambda x: x.detach(),  # type: ignore[attr-defined]  # Pyro asks it for its shape alone
    Tensor.normal_: lambda x, mean=0.0, std=1.0: mean + std * torch.randn_like(x),
    Tensor.uniform_: _uniform,
    Tensor.exponential_: lambda x, lambd=1.0: -torch.log1p(-torch.rand_like(x)) / lambd,
    Tensor.cauchy_: lambda x, median=0.0, sigma=1.0: median + sigma * torch.tan(math.pi * (torch.rand_like(x) - 0.5)),
}


class _OutOfPlace(TorchFunctionMode):
    """Takes draws in place for draws out of place; whoever makes them uses what they return."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _OUT_OF_PLACE.get(func, func)(*args, **(kwargs or {}))


class _Dirichlet:
    """Draws of shares, without the gradient that torch hangs on them."""

    @staticmethod
    def apply(concentration: Tensor) -> Tensor:
        return torch._sample_dirichlet(concentration)


def _multinomial(self: Any, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008 - torch's signature
    """Counts, by comparison with every category."""
    drawn: Tensor = self._categorical.sample(torch.Size((self.total_count, *sample_shape)))
    categories = torch.arange(self._event_shape[-1], device=drawn.device)
    found: Tensor = (drawn.unsqueeze(-1) == categories).sum(0).to(self.probs.dtype)
    return found


@contextmanager
def drawing() -> Iterator[None]:
    """Run a block in which mapped programs may draw."""
    with exchanged((dirichlet, "_Dirichlet", _Dirichlet), (Multinomial, "sample", _multinomial)), _OutOfPlace():
        yield
