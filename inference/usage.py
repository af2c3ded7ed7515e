r"""How data are spread over components: clusters, sticks, the parts of a mixture.

Shares :math:`r_{ic}` of n data among C components sum to one for each datum. With :math:`\bar r_c` their mean over the
data, the *usage entropy* :math:`H(\bar r)` is near zero if one component holds all data, the *conditional entropy*
:math:`\frac1n \sum_i H(r_i)` is near zero if each datum is sure of its component, and their difference is what a
component says of the datum, in nats: near zero if the guide ignores it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from inference.display import fragment

__all__ = ["ComponentUsage", "check_shares", "component_usage", "sticks_for_mass"]

NEAR_ZERO = 0.1
"""Entropies below this part of what they could be are called a collapse."""

DEAD = 0.1
"""A component with less than this part of an equal share is dead."""


@dataclass(frozen=True, eq=False)
class ComponentUsage:
    """How a guide spreads n data over C components; entropies in nats.

    Attributes:
        name: of the components, or of the site they are values of.
        share: of the data, by component, `(C,)`.
        entropy: of `share`: from 0, all data in one component, to log C, each used alike.
        entropy_se: its standard error over the data.
        conditional_entropy: of the components given the datum, averaged: from 0, each datum sure, to `entropy`.
        conditional_entropy_se: its standard error over the data.
        dead_below: the share below which a component is dead.
    """

    name: str
    share: Tensor
    entropy: float
    entropy_se: float
    conditional_entropy: float
    conditional_entropy_se: float
    dead_below: float

    @property
    def num_components(self) -> int:
        """C."""
        return len(self.share)

    @property
    def effective(self) -> float:
        """The number of equally used components that have this usage entropy, its exponential."""
        return math.exp(self.entropy)

    @property
    def information(self) -> float:
        """What the component says of the datum, nats: usage entropy less conditional entropy."""
        return self.entropy - self.conditional_entropy

    @property
    def dead(self) -> tuple[int, ...]:
        """The components with a share below `dead_below`."""
        return tuple((self.share < self.dead_below).nonzero().flatten().tolist())

    def findings(self) -> tuple[str, ...]:
        """What is wrong, and what to do about it, in a sentence each; none where nothing is."""
        return tuple(self._findings())

    def _findings(self) -> Iterator[str]:
        C, most = self.num_components, math.log(self.num_components)
        if self.entropy < NEAR_ZERO * most:
            largest = int(self.share.argmax())
            yield (
                f"`{self.name}` has collapsed: component {largest} of {C} holds {self.share[largest]:.1%} of the "
                "data; start the components from a mixture fitted to latent codes, or keep the best of several seeds"
            )
            return
        if self.information < NEAR_ZERO * self.entropy:
            yield (
                f"`{self.name}` ignores the data: its entropy given the datum is {self.conditional_entropy:.2f} "
                f"nats of {most:.2f} at most, so it says {self.information:.2f} nats about it; let a latent's prior "
                "depend on it, or give labels to some data"
            )
        if self.dead:
            yield (
                f"`{self.name}` has {len(self.dead)} dead of {C} components, with less than {self.dead_below:.1%} "
                f"of the data each ({_listed(self.dead)}): ask for fewer, or start them from data"
            )

    def __str__(self) -> str:
        return (
            f"`{self.name}`: {self.effective:.1f} of {self.num_components} components in effect (usage entropy "
            f"{self.entropy:.3f} nats, given the datum {self.conditional_entropy:.3f}), {len(self.dead)} dead"
        )

    def _repr_html_(self) -> str:
        order = self.share.argsort(descending=True, stable=True).tolist()  # the most used first
        table = pd.DataFrame({"component": order, "share": self.share[order].tolist()})
        table["dead"] = ["dead" if c in self.dead else "" for c in order]
        errors = f"standard errors of the entropies: {self.entropy_se:.2g} and {self.conditional_entropy_se:.2g} nats"
        return fragment(str(self), table, [errors, *self.findings()])


def component_usage(shares: Tensor, *, name: str = "y", dead_below: float | None = None) -> ComponentUsage:
    r"""How data are spread over components, from the shares each datum gives them.

    Args:
        shares: probabilities that sum to one for each datum, `(n, C)`: what `assign` returns, or weights of sticks.
        name: what to call the components.
        dead_below: the share of the data below which a component is dead; by default a tenth of an equal one, 0.1 / C.

    Raises:
        ValueError: the shares are no probabilities.

    >>> usage = component_usage(torch.eye(4)[[0, 1, 1, 0]])
    >>> print(usage)
    `y`: 2.0 of 4 components in effect (usage entropy 0.693 nats, given the datum 0.000), 2 dead
    >>> usage.findings()
    ('`y` has 2 dead of 4 components, with less than 2.5% of the data each (2, 3): ask for fewer, or start them
    from data',)
    """
    r = check_shares("shares", shares)
    C = r.shape[1]
    share, given = r.mean(0), torch.special.entr(r).sum(1)  # (C,), (n,)
    surprise = -torch.special.xlogy(r, share).sum(1)  # (n,); its mean is the usage entropy, and so is its influence
    return ComponentUsage(
        name=name,
        share=share,
        entropy=float(torch.special.entr(share).sum()),
        entropy_se=_standard_error(surprise),
        conditional_entropy=float(given.mean()),
        conditional_entropy_se=_standard_error(given),
        dead_below=DEAD / C if dead_below is None else dead_below,
    )


def sticks_for_mass(weights: Tensor, mass: float = 0.99) -> Tensor:
    r"""How many weights, in their order, it takes for a sum of `mass`, `(n, K) -> (n,)`.

    Its mean over data says how far a stick-breaking guide reaches, and whether its truncation is long enough.

    References:
        Nalisnick and Smyth, *Stick-Breaking Variational Autoencoders*, 2017, arXiv 1605.06197, section 6.

    >>> sticks_for_mass(torch.tensor([[0.5, 0.4, 0.1], [1.0, 0.0, 0.0]]), mass=0.8)
    tensor([2, 1])
    """
    if not 0 < mass < 1:
        raise ValueError(f"`mass` is {mass}, expected a share between 0 and 1, such as 0.99")
    reached = check_shares("weights", weights).cumsum(1) < mass
    return 1 + reached[:, :-1].sum(1)


def check_shares(name: str, shares: Tensor) -> Tensor:
    """Probabilities `(n, C)` in float64, refused if they are none; rows are made to sum to one exactly."""
    if shares.dim() != 2 or not shares.is_floating_point():
        raise ValueError(
            f"`{name}` is {shares.dtype} of shape {tuple(shares.shape)}, expected probabilities of shape (n, C)"
        )
    if shares.shape[0] == 0 or shares.shape[1] < 2:
        raise ValueError(
            f"`{name}` has shape {tuple(shares.shape)}, expected (n, C) with a datum and two components at least"
        )
    r = shares.detach().double()
    total = r.sum(1, keepdim=True)
    wrong = ~((r >= 0).all(1) & ((total - 1).abs() < 1e-3).squeeze(1))  # NaN is wrong too
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"`{name}` has a row that is no probabilities, first row {row} with sum {float(total[row]):.4g}: expected "
            "numbers from 0 that sum to one, as `assign` returns them"
        )
    return r / total


def _standard_error(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
