"""A program that draws what it observes."""

from __future__ import annotations

from typing import Any

from pyro.poutine.uncondition_messenger import UnconditionMessenger

from ppmodels.contracts import Program

__all__ = ["unobserved"]


class _Unobserving(UnconditionMessenger):
    """Pyro's own also draws `pyro.deterministic` sites, in a plate once for each of its elements."""

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["infer"].get("_deterministic"):
            super()._pyro_sample(msg)


def unobserved(program: Program) -> Program:
    """The program with its observations drawn; what it computes and gives a name stays computed.

    >>> import pyro, pyro.distributions as dist, torch
    >>> def model(x):
    ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...     with pyro.plate("data", len(x)):
    ...         mean = pyro.deterministic("mean", z.expand(len(x)))
    ...         return pyro.sample("x", dist.Normal(mean, 1.0), obs=x)
    >>> unobserved(model)(torch.zeros(3)).shape
    torch.Size([3])
    """
    wrapped: Program = _Unobserving()(program)
    return wrapped
