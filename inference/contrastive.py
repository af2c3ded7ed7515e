r"""Learning an energy model by what data have and the model's own draws have not: exact, contrastive, persistent.

The gradient of :math:`\log p(v) = -F(v) - \log Z` is a difference of two means of the slope of the energy,

.. math:: \nabla \log p = -\langle \nabla F(v) \rangle_{data} + \langle \nabla F(v) \rangle_{model},

and what sets the methods apart is where the second mean comes from: from all states, from chains that begin at the
data, or from chains that go on from update to update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from inference.flags import validating
from inference.objectives import LossParts, Phase, Task
from inference.pair import Pair, first_tensor, size_of
from inference.partition import log_partition, smallest_side
from ppmodels.contracts import Batch, RestrictedEnergy

__all__ = ["ContrastiveDivergence", "ExactLikelihood", "PersistentContrastiveDivergence"]


@dataclass(frozen=True)
class ExactLikelihood:
    """Maximise log p(v) itself, its normaliser found by enumerating the model's smallest side at every update.

    The score of validation data is log p(v), in nats per datum.

    Attributes:
        most_bits: refuse a model whose smallest side has more.

    References:
        A Learning Algorithm for Boltzmann Machines (Ackley, Hinton and Sejnowski, 1985)

    >>> from torch import nn
    >>> class Bits(nn.Module):  # two bits that pull at each other
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.pull = nn.Parameter(torch.zeros(()))
    ...     def free_energy(self, v):
    ...         return -self.pull * v.prod(-1)
    ...     def sides(self):
    ...         return [(2, lambda k: self.free_energy(torch.stack([k // 2, k % 2], -1).to(self.pull)))]
    >>> from inference.fit import fit
    >>> from inference.optim import adam
    >>> model, data = Bits(), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    >>> _ = fit(model, None, data, ExactLikelihood(), steps=400, optimizer=adam(0.05))
    >>> round(model.pull.exp().item(), 2)  # both bits are on in one half: e^pull / (3 + e^pull)
    3.0
    """

    most_bits: int = 20
    kind: ClassVar[str] = "energy"

    def task(self, pair: Pair, batch: Batch) -> Task:
        """One phase, "likelihood"."""
        model = energy_of(pair, "free_energy", "sides")
        bits, _ = smallest_side(model)
        if bits > self.most_bits:
            chains = "PersistentContrastiveDivergence" if hasattr(model, "visible") else "BoltzmannLearning"
            raise ValueError(
                f"`{type(model).__name__}` has {bits} bits to enumerate, expected at most {self.most_bits}: train it "
                f"with `{chains}()`"
            )

        def log_p(batch: Batch) -> Tensor:
            found: Tensor = -model.free_energy(first_tensor(batch)) - log_partition(model)
            return found

        def loss(batch: Batch, step: Tensor) -> LossParts:
            value = log_p(batch).mean()
            return LossParts(-value, {"loss": -value.detach()})

        return Task((Phase("likelihood", parameters_of(pair, batch), loss),), log_p)


@dataclass(frozen=True)
class ContrastiveDivergence:
    r"""Chains of k sweeps that begin at the data: CD-k (Hinton 2002), for a `RestrictedEnergy`.

    The loss is :math:`\langle F \rangle_{data} - \langle F \rangle_{chains}`, whose gradient, the chains held fixed, is
    the method's; it is no bound, and says little of how well the model fits: judge it by `inference.partition`. Hidden
    units are drawn between sweeps, their probabilities stand in both statistics.

    Attributes:
        k: sweeps.
        centre: how fast the offsets of a model that has them follow the means of its units, by `model.centre(x, rate)`
            before every update; 0 leaves them where they are. The gradient is the centred one from then on (Melchior,
            Fischer and Wiskott 2016).

    References:
        Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002)
    """

    k: int = 1
    centre: float = 0.0
    kind: ClassVar[str] = "energy"

    def __post_init__(self) -> None:
        _check(self)

    def task(self, pair: Pair, batch: Batch) -> Task:
        """One phase, "contrast"."""
        model = _restricted(pair, self.centre)
        contrast = _Contrast(model, self.k, self.centre)

        def loss(batch: Batch, step: Tensor) -> LossParts:
            return contrast(first_tensor(batch), None)

        return Task((Phase("contrast", parameters_of(pair, batch), loss),), None)


@dataclass(frozen=True)
class PersistentContrastiveDivergence:
    """Chains that go on from update to update: PCD-k (Tieleman 2008), also called stochastic maximum likelihood.

    The chains live where the data do, and are part of every checkpoint. As the model must not run away from them, the
    rate should be small and fall; they begin at the first batch.

    Attributes:
        k: sweeps per update.
        num_chains: how many chains; as many as the first batch has data where not given.
        centre: as in `ContrastiveDivergence`.

    References:
        Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient (Tieleman, 2008)
    """

    k: int = 1
    num_chains: int | None = None
    centre: float = 0.0
    kind: ClassVar[str] = "energy"

    def __post_init__(self) -> None:
        _check(self)
        check_chains(self.num_chains)

    def task(self, pair: Pair, batch: Batch) -> Task:
        """One phase, "contrast", and the chains: the hidden units, from which the data of the next sweep are drawn."""
        model = _restricted(pair, self.centre)
        chains = self.num_chains or size_of(batch)
        with torch.no_grad(), validating(enabled=False):
            x = first_tensor(batch)
            h = model.hidden(x[torch.arange(chains, device=x.device) % len(x)]).sample()
        contrast = _Contrast(model, self.k, self.centre)

        def loss(batch: Batch, step: Tensor) -> LossParts:
            return contrast(first_tensor(batch), h)

        return Task((Phase("contrast", parameters_of(pair, batch), loss),), None, state={"chains": h})


@dataclass(frozen=True, eq=False)
class _Contrast:
    """The loss of both: data against what k sweeps make of them, or of chains that are then moved on in place."""

    model: RestrictedEnergy
    k: int
    centre: float

    def __call__(self, x: Tensor, chains: Tensor | None) -> LossParts:
        model = self.model
        if self.centre:
            cast(Any, model).centre(x, self.centre)
        at_data = model.hidden(x)
        h = at_data.sample() if chains is None else chains  # (chains, num_hidden)
        with torch.no_grad():
            for _ in range(self.k - 1):
                h = model.hidden(model.visible(h).sample()).sample()
            v = model.visible(h).sample()  # (chains, num_visible)
        at_chains = model.hidden(v)
        if chains is not None:
            chains.copy_(at_chains.sample())
        of_data = model.free_energy(x, at_data).mean()
        loss = of_data - model.free_energy(v, at_chains).mean()
        return LossParts(loss, {"loss": loss.detach(), "free_energy": of_data.detach()})


def _check(objective: ContrastiveDivergence | PersistentContrastiveDivergence) -> None:
    if not isinstance(objective.k, int) or objective.k < 1:
        raise ValueError(f"`k` is {objective.k}, expected a whole number of sweeps, at least 1")
    if not 0 <= objective.centre < 1:
        raise ValueError(f"`centre` is {objective.centre}, expected a rate from 0 to below 1, such as 0.01")


def check_chains(num_chains: int | None) -> None:
    """Refuse a number of chains that is none."""
    if num_chains is not None and (not isinstance(num_chains, int) or num_chains < 1):
        raise ValueError(f"`num_chains` is {num_chains}, expected at least 1, or None for the batch's size")


def energy_of(pair: Pair, *needs: str) -> Any:
    """The model, which must have all of these."""
    if lacks := [name for name in needs if not hasattr(pair.model, name)]:
        raise TypeError(
            f"`model` is a {type(pair.model).__name__} without `{lacks[0]}`, expected an energy model with "
            f"{', '.join(f'`{name}`' for name in needs)}: see `ppmodels.contracts.Energy`"
        )
    return pair.model


def _restricted(pair: Pair, centre: float) -> RestrictedEnergy:
    needs = ("free_energy", "hidden", "visible", *(["centre"] if centre else []))
    return cast(RestrictedEnergy, energy_of(pair, *needs))


def parameters_of(pair: Pair, batch: Batch) -> Mapping[str, Tensor]:
    """What an energy model has to learn, of which there must be some."""
    if not (parameters := pair.parameters(batch)):
        raise ValueError("the model has no parameters to learn: expected a module with some that require gradients")
    return parameters
