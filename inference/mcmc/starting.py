"""Where chains begin: spread over the unconstrained scale, or at values that are given; with a finite density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from inference.density import Batched

__all__ = ["start"]

TRIES = 100
"""Random starts that a chain is given before the program is refused."""


def start(
    batched: Batched, data: Sequence[Tensor], num_chains: int, *, radius: float, init: Mapping[str, Tensor] | None
) -> Tensor:
    """Places `(C, D)`: uniform within `radius` of the origin, or at values by site, one for all chains or one for each.

    Raises:
        ValueError: naming the site, if no start has a finite density and gradient.
    """
    density = batched.density
    if init is not None:
        q = _given(batched, num_chains, init)
        log_p, grad = batched(q, *data)
        if not bool((log_p.isfinite() & grad.isfinite().all(-1)).all()):
            raise ValueError(f"`init` has no finite density and gradient: {blame(batched, q, data)}")
        return q
    q = torch.empty(num_chains, density.dim, dtype=density.dtype, device=density.device)
    missing = torch.ones(num_chains, dtype=torch.bool, device=density.device)
    for _ in range(TRIES):
        q = torch.where(missing.unsqueeze(-1), torch.empty_like(q).uniform_(-radius, radius), q)
        log_p, grad = batched(q, *data)
        missing = ~(log_p.isfinite() & grad.isfinite().all(-1))
        if not bool(missing.any()):
            return q
    row = int(missing.nonzero()[0])
    raise ValueError(
        f"`model` has no finite density and gradient at {TRIES} random starts: {blame(batched, q, data, row)}; begin "
        "elsewhere, with `init`, or mend the program"
    )


def _given(batched: Batched, num_chains: int, init: Mapping[str, Tensor]) -> Tensor:
    density = batched.density
    if unknown := sorted(init.keys() - set(density.names)):
        raise ValueError(f"`init` has site `{unknown[0]}`, expected some of {', '.join(density.names)}")
    rows = []
    for c in range(num_chains):
        values = {}
        for latent in density.latents:
            value = torch.as_tensor(init[latent.name]) if latent.name in init else None
            if value is None:
                raise ValueError(f"`init` lacks site `{latent.name}`: expected a value for each latent site")
            values[latent.name] = value[c] if value.dim() > len(latent.shape) else value
        rows.append(density.unconstrain(values))
    return torch.stack(rows)


def blame(batched: Batched, q: Tensor, data: Sequence[Tensor], row: int = 0) -> str:
    """Which sites have no finite log probability at a row, or what else is not finite."""
    shared = [value if dim is None else value.select(dim, row) for value, dim in zip(data, batched.dims, strict=True)]
    with torch.no_grad():
        trace = batched.density.trace(batched.density.constrain(q[row], *shared), *shared)
    worst = {
        name: float(site["log_prob_sum"])
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not bool(torch.as_tensor(site["log_prob_sum"]).isfinite())
    }
    if not worst:
        return "its gradient, or a Jacobian, is not finite"
    return "; ".join(f"site `{name}` has log probability {value}" for name, value in worst.items())
