r"""Sites of a guide that are not drawn: every value, or one draw of every component, each with its probability.

A discrete site marked `infer={"enumerate": "parallel"}` takes all its values y, of mass :math:`m_y = q(y \mid x)`. A
mixture :math:`\sum_s \pi_s q_s` marked `infer={"stratify": True}` takes one draw :math:`z_s \sim q_s` from each
component, of mass :math:`m_s = \pi_s`, which is reparameterised where a draw of the mixture is not; its density there
is the whole mixture's. Either way

.. math:: \mathbb{E}_q[f(z)] = \mathbb{E} \Bigl[ \sum_s m_s f(z_s) \Bigr]

The values stand along a new axis to the left of the particles. What the guide draws afterwards from a distribution that
depends on them is drawn for each.

References:
    Kingma, Rezende, Mohamed and Welling, *Semi-Supervised Learning with Deep Generative Models*, 2014, arXiv 1406.5298.
    Roeder, Wu and Duvenaud, *Sticking the Landing*, 2017, arXiv 1703.09194, section 5, for mixtures.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor

__all__ = ["Strata", "StrataMessenger", "is_enumerated", "is_stratified", "mixture_of", "plate_of", "strata_of"]


def is_enumerated(infer: dict[str, Any]) -> bool:
    """Whether a site's mark asks for all its values."""
    return infer.get("enumerate") == "parallel"


def is_stratified(infer: dict[str, Any]) -> bool:
    """Whether a site's mark asks for a draw of each component."""
    return bool(infer.get("stratify"))


def mixture_of(fn: Any) -> Any | None:
    """The distribution itself if it is a mixture of one family, `None` if not."""
    return fn if hasattr(fn, "mixture_distribution") and hasattr(fn, "component_distribution") else None


class StrataMessenger(Messenger):
    """Puts strata in the place of draws at the sites that are marked.

    Args:
        first_dim: the first free dimension to the left of all plates, counted from the right.
    """

    def __init__(self, first_dim: int) -> None:
        super().__init__()
        self.first_dim = self._next = first_dim

    def __enter__(self) -> StrataMessenger:
        self._next = self.first_dim
        super().__enter__()
        return self

    def _pyro_sample(self, msg: Any) -> None:
        if msg["done"] or msg["is_observed"]:
            return
        if is_enumerated(msg["infer"]):
            value, log_mass = self._enumerate(msg["fn"])
        elif is_stratified(msg["infer"]):
            value, log_mass = self._stratify(msg["fn"])
        else:
            return
        msg["value"], msg["done"] = value, True
        msg["infer"] |= {"_log_mass": log_mass, "_stratum_dim": self._next}
        self._next -= 1

    def _enumerate(self, fn: Any) -> tuple[Tensor, Tensor]:
        values = fn.enumerate_support(expand=False)  # (S, 1, ..., *event)
        ones = (1,) * (-1 - self._next)
        value = values.reshape(len(values), *ones, *fn.event_shape)  # (S, 1, ..., 1, *event)
        return value, fn.log_prob(value)

    def _stratify(self, fn: Any) -> tuple[Tensor, Tensor]:
        draws, log_mass = fn.component_distribution.rsample(), fn.mixture_distribution.logits
        return self._in_front(draws, fn.event_dim), self._in_front(log_mass, 0)

    def _in_front(self, value: Tensor, event_dim: int) -> Tensor:
        """Move the axis of components, right of the batch's, to the stratum's place."""
        value = value.movedim(-1 - event_dim, 0)
        missing = -self._next + event_dim - value.dim()
        return value.reshape(value.shape[0], *(1,) * missing, *value.shape[1:])


class Strata:
    """The strata of one run of a guide.

    Args:
        log_mass: their log probabilities, axes of strata first, `(*S, K, n)`; they sum to one over the first axes.

    Attributes:
        log_mass: the same.
        axes: how many axes of strata there are.
    """

    def __init__(self, log_mass: Tensor) -> None:
        self.log_mass = log_mass
        self.axes = log_mass.dim() - 2

    def mean(self, values: Tensor) -> Tensor:
        r""":math:`\sum_s m_s f_s`, from what broadcasts to `(*S, K, n)` to `(K, n)`; what has no mass counts not."""
        mass = self.log_mass.exp()
        terms = mass * torch.where(mass > 0, values, torch.zeros_like(values))
        return terms.flatten(0, self.axes - 1).sum(0)

    def log_mean_exp(self, log_values: Tensor) -> Tensor:
        r""":math:`\log \sum_s m_s e^{f_s}`, from what broadcasts to `(*S, K, n)` to `(K, n)`."""
        possible = self.log_mass > -math.inf
        log_values = torch.where(possible, log_values, torch.zeros_like(log_values))  # no inf - inf
        return (self.log_mass + log_values).flatten(0, self.axes - 1).logsumexp(0)


def strata_of(trace: Trace) -> dict[str, tuple[int, int]]:
    """The sites of a guide's trace that stand in strata: the dimension of the axis of each, and its size."""
    nodes: dict[str, Any] = dict(trace.nodes)
    marks = {name: node["infer"] for name, node in nodes.items() if node["type"] == "sample"}
    return {
        name: (mark["_stratum_dim"], mark["_log_mass"].shape[mark["_stratum_dim"]])
        for name, mark in marks.items()
        if "_log_mass" in mark
    }


def plate_of(site: str) -> str:
    """The name of the plate over a site's strata, in which a model with enumerated sites runs."""
    return f"strata of {site}"
