"""What must agree when a run of chains is taken up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from inference.annealing.running import digest
from inference.mcmc.settings import Settings

__all__ = ["identity_of"]


def identity_of(
    backend: str,
    settings: Settings,
    starts: Tensor,
    log_p: Tensor,
    data: Sequence[Tensor],
    others: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Settings, data, starts, and what the program says there; nothing where nothing is saved."""
    if settings.checkpoint is None:
        return {}
    return {
        "backend": backend,
        "number of chains": settings.num_chains,
        "number of draws": settings.num_samples,
        "number of warm-up transitions": settings.num_warmup,
        "seed": settings.seed,
        "metric": settings.metric,
        "target of acceptance": settings.target_acceptance,
        "most leapfrogs": settings.max_leapfrogs,
        "data": digest({str(i): value for i, value in enumerate(data)}),
        "starts": digest({"q": starts}),
        "density at its starts": digest({"log_p": log_p.reshape(-1)}),
        **(others or {}),
    }
