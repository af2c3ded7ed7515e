"""A program that draws what it observes."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import Delta, Unit
from pyro.poutine.uncondition_messenger import UnconditionMessenger

from ppmodels.contracts import Program

__all__ = ["unobserved"]


class _Unobserving(UnconditionMessenger):
    """Pyro's own also draws `pyro.deterministic` sites, in a plate once for each of its elements."""

    def __init__(self, *, expand: bool) -> None:
        super().__init__()
        self.expand = expand

    def _pyro_sample(self, msg: Any) -> None:
        fn, value = msg["fn"], msg["value"]
        if not msg["is_observed"] or msg["infer"].get("_deterministic") or isinstance(fn, Delta | Unit):
            return
        if self.expand:
            shape = value.shape[: value.dim() - fn.event_dim]
            msg["fn"] = fn.expand(torch.broadcast_shapes(fn.batch_shape, shape)) if shape != fn.batch_shape else fn
        super()._pyro_sample(msg)


def unobserved(program: Program, *, expand: bool = False) -> Program:
    """The program with its observations drawn; what it computes and gives a name stays computed, factors stay factors.

    Args:
        program: any Pyro callable.
        expand: draw as many values as are observed, also where they share a law without a plate.

    >>> import pyro, pyro.distributions as dist, torch
    >>> def model(x):
    ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...     with pyro.plate("data", len(x)):
    ...         mean = pyro.deterministic("mean", z.expand(len(x)))
    ...         return pyro.sample("x", dist.Normal(mean, 1.0), obs=x)
    >>> unobserved(model)(torch.zeros(3)).shape
    torch.Size([3])
    """
    wrapped: Program = _Unobserving(expand=expand)(program)
    return wrapped
