r"""Learning a machine whose units are drawn one by one: with the data clamped against running free.

Where hidden units are joined to each other, neither mean in

.. math:: \nabla \log p(v) = -\langle \nabla E \rangle_{data} + \langle \nabla E \rangle_{model}

can be told in closed form. Both are then means over Gibbs chains: over the hidden units with the visible ones held at
a datum, and over all of them with none held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from inference.contrastive import check_chains, energy_of, parameters_of
from inference.objectives import LossParts, Phase, Task
from inference.pair import Pair, first_tensor, size_of
from ppmodels.contracts import Batch, SweptEnergy

__all__ = ["BoltzmannLearning"]


@dataclass(frozen=True)
class BoltzmannLearning:
    r"""The learning rule of Ackley, Hinton and Sejnowski (1985), for any `SweptEnergy` and any number of its units.

    With data clamped, hidden units begin at fair coins at every update and are swept `clamped` times; chains that run
    free go on from update to update, as in persistent contrastive divergence, and are part of every checkpoint. The
    loss is :math:`\langle E \rangle_{clamped} - \langle E \rangle_{free}`, whose gradient, the chains held fixed, is
    the rule's; it is no bound: judge the machine by `inference.partition`. As free chains must keep up with the
    machine, the rate should be small and fall. A machine that can be enumerated learns better by `ExactLikelihood`.

    Attributes:
        sweeps: of every free chain per update.
        clamped: sweeps of the hidden units with the data held; nothing is to be swept where there are none.
        num_chains: how many run free; as many as the first batch has data where not given.

    Raises:
        TypeError: the model has no `sweep`.
        ValueError: a number is out of range, or a datum has not as many entries as there are visible units.

    References:
        A Learning Algorithm for Boltzmann Machines (Ackley, Hinton and Sejnowski, 1985)
        Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient (Tieleman, 2008), for
        the chains that go on

    >>> from inference.fit import fit
    >>> from inference.optim import adam
    >>> from ppmodels.boltzmann import BoltzmannMachine
    >>> x = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).repeat(100, 1)  # two bits, always the same
    >>> machine = BoltzmannMachine(2)
    >>> _ = fit(machine, None, x, BoltzmannLearning(), steps=300, optimizer=adam(0.05), mode="eager")
    >>> bool(machine.coupling[0, 1] > 2)
    True
    """

    sweeps: int = 1
    clamped: int = 10
    num_chains: int | None = None
    kind: ClassVar[str] = "energy"

    def __post_init__(self) -> None:
        for name, value in {"sweeps": self.sweeps, "clamped": self.clamped}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` is {value}, expected a whole number of sweeps, at least 1")
        check_chains(self.num_chains)

    def task(self, pair: Pair, batch: Batch) -> Task:
        """One phase, "contrast", and the chains that run free, `(num_chains, num_visible + num_hidden)`."""
        machine = cast(SweptEnergy, energy_of(pair, "energy", "sweep", "num_visible", "num_hidden"))
        x, visible = first_tensor(batch), machine.num_visible
        if x.shape[-1] != visible:
            raise ValueError(f"data are of length {x.shape[-1]}, but the model has `num_visible` = {visible}")
        rows = torch.arange(self.num_chains or size_of(batch), device=x.device) % len(x)
        chains = _beside_coins(x[rows], machine.num_hidden)

        def loss(batch: Batch, step: Tensor) -> LossParts:
            with torch.no_grad():
                held, free = self._clamped(machine, first_tensor(batch)), chains
                for _ in range(self.sweeps):
                    free = machine.sweep(free)
                chains.copy_(free)
            of_data = machine.energy(held[:, :visible], held[:, visible:]).mean()
            contrast = of_data - machine.energy(free[:, :visible], free[:, visible:]).mean()
            return LossParts(contrast, {"loss": contrast.detach(), "energy": of_data.detach()})

        return Task((Phase("contrast", parameters_of(pair, batch), loss),), None, state={"chains": chains})

    def _clamped(self, machine: SweptEnergy, x: Tensor) -> Tensor:
        """Data with hidden units drawn given them, `(n, num_visible + num_hidden)`."""
        state = _beside_coins(x, machine.num_hidden)
        for _ in range(self.clamped if machine.num_hidden else 0):
            state = machine.sweep(state, clamp=True)
        return state


def _beside_coins(x: Tensor, num_hidden: int) -> Tensor:
    """Data and hidden units that are fair coins, `(n, num_visible + num_hidden)`."""
    return torch.cat([x, torch.full_like(x[:, :1], 0.5).expand(-1, num_hidden).bernoulli()], -1)
