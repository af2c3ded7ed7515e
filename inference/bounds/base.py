r"""What a bound is: a function of one set of weights, with a direction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args, runtime_checkable

import torch
from torch import Tensor

from inference.weights import Source, Weights

__all__ = [
    "Bound",
    "Direction",
    "FunctionBound",
    "Guarantee",
    "bound",
    "check_bound",
    "check_value",
    "guarantee_of",
    "label_of",
    "log_mean_exp",
    "refuse_other_draws",
    "source_of",
    "tilted",
]

Direction: TypeAlias = Literal["lower", "upper", "estimate"]

Guarantee: TypeAlias = Literal["expectation", "limit", "none"]
"""When a bound lies on its side of log p(x): in expectation at any K, only in the limit of many draws, or never."""


@runtime_checkable
class Bound(Protocol):
    """Anything with a name and a direction that maps weights to one value per datum, nats, to be maximised.

    Optional: `paper`, where it comes from; `guarantee`, "expectation" if not given; `source`, which draws it is a
    function of, those of the guide if not given; `label(K)`, the name of its row in a table. The shortest way to a
    bound of one's own is the decorator `bound`.
    """

    @property
    def name(self) -> str: ...

    @property
    def direction(self) -> Direction: ...

    def __call__(self, weights: Weights) -> Tensor: ...


@dataclass(frozen=True)
class FunctionBound:
    """A function of weights, made a bound by `bound`."""

    function: Callable[[Weights], Tensor]
    direction: Direction
    guarantee: Guarantee
    paper: str
    name: str

    def __call__(self, weights: Weights) -> Tensor:
        value = self.function(weights)
        check_value(self, value, weights.num_data)
        return value


def bound(
    direction: Direction, *, guarantee: Guarantee | None = None, paper: str = "", name: str | None = None
) -> Callable[[Callable[[Weights], Tensor]], FunctionBound]:
    """Make a function of weights a bound, that works in every table and, if differentiable, in training.

    Args:
        direction: the side of log p(x) it lies on: "lower", "upper", or "estimate" for neither.
        guarantee: "expectation" (the default; for an estimate "none") if its mean over repeated draws lies there at
            any K, "limit" if only the limit of many draws does.
        paper: where it comes from.
        name: its name in tables, the function's if not given.

    >>> @bound("lower")
    ... def median_weight(weights):
    ...     return weights.log_w.median(0).values - 1.0
    >>> median_weight(Weights(log_p=torch.tensor([[1.0], [2.0], [9.0]]), log_q=torch.zeros(3, 1)))
    tensor([1.])
    """
    if direction not in get_args(Direction):
        raise ValueError(f'`direction` is {direction!r}, expected "lower", "upper" or "estimate"')
    guarantee = guarantee or ("none" if direction == "estimate" else "expectation")
    if guarantee not in get_args(Guarantee):
        raise ValueError(f'`guarantee` is {guarantee!r}, expected "expectation", "limit" or "none"')
    return lambda function: FunctionBound(
        function, direction, guarantee, paper, name or str(getattr(function, "__name__", "bound"))
    )


def check_value(bound: Bound, value: object, n: int) -> None:
    """What a bound gives is one number per datum."""
    if not isinstance(value, Tensor) or value.shape != (n,):
        shape = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ValueError(
            f"bound `{bound.name}` gave {shape}, expected one value per datum, shape ({n},): reduce `weights.log_w`, "
            "of shape (K, n), over its first axis"
        )


def check_bound(bound: Bound) -> None:
    """A bound's side, guarantee and source are among those there are."""
    said = {"direction": bound.direction, "guarantee": guarantee_of(bound), "source": source_of(bound)}
    for (name, value), known in zip(said.items(), (Direction, Guarantee, Source), strict=True):
        if value not in get_args(known):
            expected = ", ".join(f'"{one}"' for one in get_args(known))
            raise ValueError(f"bound `{bound.name}` has `{name}` {value!r}, expected one of {expected}")


def guarantee_of(bound: Bound) -> Guarantee:
    """When a bound lies on its side; in expectation if it does not say."""
    found: Guarantee = getattr(bound, "guarantee", "none" if bound.direction == "estimate" else "expectation")
    return found


def source_of(bound: Bound) -> Source:
    """The draws a bound is a function of; the guide's if it does not say."""
    found: Source = getattr(bound, "source", "guide")
    return found


def label_of(bound: Bound, num_particles: int) -> str:
    """The name of a bound's row in a table: `ELBO`, `IWAE-50`, `MIWAE-8x5`."""
    label = getattr(bound, "label", None)
    return str(label(num_particles)) if callable(label) else f"{bound.name}-{num_particles}"


def refuse_other_draws(bound: Bound, weights: Weights) -> None:
    """Refuse weights of draws that a bound is no function of: the number would be another."""
    if weights.source != source_of(bound):
        raise ValueError(
            f"`weights` are of draws from {_FROM[weights.source]}, but {bound.name} needs draws from "
            f"{_FROM[source_of(bound)]}: see `compare_bounds`, which draws what each bound needs"
        )


_FROM: dict[Source, str] = {
    "guide": "the guide",
    "posterior": "the posterior",
    "annealing": "annealing towards the posterior",
    "reverse annealing": "annealing away from the posterior",
}


def log_mean_exp(log_w: Tensor) -> Tensor:
    """Log of the mean over the first axis.

    Weights 40 nats below the largest count as zero: they are lost in rounding, while the denormal numbers in their
    gradients would slow a CPU fourfold.
    """
    floor = log_w.detach().amax(0) - 40
    return log_w.masked_fill(log_w < floor, -math.inf).logsumexp(0) - math.log(log_w.shape[0])


def tilted(log_w: Tensor, order: float | Tensor) -> Tensor:
    r"""The normalised weights :math:`w_k^\gamma / \sum_j w_j^\gamma` of order gamma, `(K, n)`; zero where all are."""
    return (order * log_w).softmax(0).nan_to_num(0.0) if order != 0 else torch.full_like(log_w, 1 / log_w.shape[0])
