"""What a sampler gives: places of all chains on the unconstrained scale, and what it knows of every transition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Draws"]


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of a posterior.

    Attributes:
        q: places on the unconstrained scale, `(C, N, D)`.
        stats: by ArviZ name, `(C, N)` each.
        attrs: what was run, and what it cost.
    """

    q: Tensor
    stats: Mapping[str, Tensor]
    attrs: Mapping[str, Any]
