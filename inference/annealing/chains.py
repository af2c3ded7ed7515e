r"""Chains between the guide (or the prior) and the posterior of one batch: there, back, and at rest.

Annealed importance sampling moves draws of :math:`\pi_0 = q` through :math:`\pi_{\beta_1}, \pi_{\beta_2}, \dots` by
transitions that leave each as it is, and weighs them by what they jumped over,

.. math:: \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log \frac{p(x, z_{t-1})}{q(z_{t-1} \mid x)},
          \qquad \mathbb{E}[w] = p(x)

Backwards from an exact draw of the posterior, the same sum has :math:`\mathbb{E}[1 / w] = 1 / p(x)`. Both rest on
transitions that know nothing of the chains they move: so their steps come from a pilot run of other chains, and stay.

References:
    Neal, *Annealed Importance Sampling*, 2001, Statistics and Computing 11. Grosse, Ghahramani and Adams, *Sandwiching
    the Marginal Likelihood Using Bidirectional Monte Carlo*, 2015, arXiv 1511.02543. Wu, Burda, Salakhutdinov and
    Grosse, *On the Quantitative Analysis of Decoder-Based Generative Models*, 2017, arXiv 1611.04273.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.annealing.hamiltonian import Kinetics, Move
from inference.annealing.pilot import Steps, first_step, scale_of
from inference.annealing.target import Point
from inference.journal import Journal, State
from inference.schedule import Annealing
from ppmodels.contracts import Batch

__all__ = ["OF_MOVE", "Chains"]

OF_MOVE = ("acceptance_rate", "energy", "diverging", "log_det")
"""What is kept of every transition where latents are, and of where it led."""


@dataclass(frozen=True, eq=False)
class Chains:
    """Some chains for each datum of a batch, all moved at once.

    Attributes:
        annealing: the settings.
        kinetics: what moves them.
        batch: the data, n of them.
        journal: where every step is noted.
        size: C, chains per datum.
        label: what tells their stages from those of other chains on the same batch.
    """

    annealing: Annealing
    kinetics: Kinetics
    batch: Batch
    journal: Journal
    size: int
    label: str

    def pilot(self) -> tuple[Steps, Point]:
        """Anneal chains while their steps adapt: the steps to use from now on, and where the chains have come to."""
        betas = self._betas(self.annealing.num_pilot)

        def start() -> State:
            scale = scale_of(self.kinetics.target, self.batch, self.size)
            point = self.kinetics.at(self.batch, self.kinetics.target.draw(self.batch, self.size))
            log_step = first_step(scale)
            return {**point._asdict(), "scale": scale, "log_step": log_step, "log_steps": log_step.new_zeros(0)}

        def step(state: State, t: int) -> State:
            log_step = state["log_step"]  # (n,)
            point, chance, *_ = self._move(_point(state), betas[t + 1], log_step.exp(), state["scale"])
            gain = max(0.2, (t + 1) ** -0.5)
            log_step = log_step + gain * (chance.mean(0) - self.annealing.target_acceptance)
            log_steps = torch.cat([state["log_steps"].view(t, len(log_step)), log_step.unsqueeze(0)])  # (t + 1, n)
            return {**state, **point._asdict(), "log_step": log_step, "log_steps": log_steps}

        end = self.journal.stage(f"pilot {self.label}", start, step, self.annealing.num_pilot)
        return Steps(end["scale"], end["log_steps"], tuple(betas[1:])), _point(end)

    def forward(self, steps: Steps | None) -> State:
        """From draws of the beginning: `log_w` `(C, n)`, and each datum's `acceptance` `(n,)`."""
        betas, T = self._betas(), self.annealing.num_temperatures

        def start() -> State:
            return self._weightless(self.kinetics.target.draw(self.batch, self.size))

        def step(state: State, t: int) -> State:
            state = _weighed(state, betas[t + 1] - betas[t])
            return self._moved(state, steps, betas[t + 1]) if t + 1 < T else state

        return _summary(self.journal.stage(f"forward {self.label}", start, step, T), T - 1)

    def backward(self, steps: Steps, z: Tensor) -> State:
        """From one exact draw of each posterior, `(1, n, D)`: `log_w` `(C, n)`, and the `acceptance` `(n,)`.

        The chains spread from it by transitions at the posterior, so that each sets off from an exact draw of its own.
        """
        betas, T, spread = self._betas(), self.annealing.num_temperatures, self.annealing.num_warmup

        def start() -> State:
            return self._weightless(z.expand(self.size, -1, -1).contiguous())

        def step(state: State, t: int) -> State:
            if t < spread:
                return self._moved(state, steps, 1.0)
            k = T - (t - spread)  # T, ..., 1
            if k < T:
                state = self._moved(state, steps, betas[k])
            return _weighed(state, betas[k] - betas[k - 1])

        return _summary(self.journal.stage(f"backward {self.label}", start, step, spread + T), spread + T - 1)

    def draws(self, steps: Steps, start_at: Point, num_draws: int, *, keep_latents: bool = False) -> State:
        """Draws at the posterior: `log_p` and `log_q` `(C, num_draws, n)`, and the `acceptance` `(n,)`.

        With `keep_latents` also `z`, `(C, num_draws, D, n)`, and what there is to say of each draw's transition.
        """
        warmup = self.annealing.num_warmup
        num_steps = warmup + num_draws

        def start() -> State:
            n, D = start_at.z.shape[1:]
            state = {**start_at._asdict(), "accepted": start_at.z.new_zeros(n)}
            kept = {name: start_at.z.new_empty(self.size, num_draws, n) for name in ("all_p", "all_q")}
            if keep_latents:
                kept["all_z"] = start_at.z.new_empty(self.size, num_draws, D, n)
                kept |= {f"all {name}": torch.empty_like(kept["all_p"]) for name in OF_MOVE}
            return state | kept

        def step(state: State, t: int) -> State:
            state = self._moved(state, steps, 1.0)
            if t >= warmup:
                state["all_p"][:, t - warmup], state["all_q"][:, t - warmup] = state["log_p"], state["log_q"]
                if keep_latents:
                    state["all_z"][:, t - warmup] = state["z"].movedim(-1, 1)
                    for name in OF_MOVE:
                        state[f"all {name}"][:, t - warmup] = state[name]
            return state

        end = self.journal.stage(f"draws {self.label}", start, step, num_steps)
        found = {"log_p": end["all_p"], "log_q": end["all_q"], "acceptance": end["accepted"] / num_steps}
        if keep_latents:
            found |= {"z": end["all_z"], **{name: end[f"all {name}"] for name in OF_MOVE}}
        return found

    def exact(self, latents: Mapping[str, Tensor], index: Tensor) -> Tensor:
        """The vectors of latents given by site for every datum, for those of this batch, `(1, n, D)`."""
        target = self.kinetics.target
        return target.place(self.batch, target.space.select(latents, index))

    def at(self, z: Tensor) -> Point:
        """Every chain at the same place, `(1, n, D)`."""
        return self.kinetics.at(self.batch, z.expand(self.size, -1, -1).contiguous())

    def _betas(self, num: int | None = None) -> list[float]:
        betas: list[float] = self.annealing.betas(num).tolist()
        return betas

    def _weightless(self, z: Tensor) -> State:
        point = self.kinetics.at(self.batch, z)
        log_w = torch.zeros_like(point.log_p, dtype=torch.float64)
        return {**point._asdict(), "log_w": log_w, "accepted": z.new_zeros(z.shape[1])}

    def _move(self, point: Point, beta: float, step: Tensor, scale: Tensor) -> Move:
        at = point.z.new_full((), beta)
        return self.kinetics.transition(self.batch, point, at, step, scale, self.annealing.num_leapfrogs)

    def _moved(self, state: State, steps: Steps | None, beta: float) -> State:
        """The state after a transition with frozen steps."""
        assert steps is not None
        move = self._move(_point(state), beta, steps.at(beta), steps.scale)
        of_move = {"acceptance_rate": move.chance, "energy": move.energy, "diverging": move.diverging}
        return {**state, **move.point._asdict(), "accepted": state["accepted"] + move.chance.mean(0), **of_move}


def _point(state: State) -> Point:
    return Point(*(state[name] for name in Point._fields))


def _weighed(state: State, jump: float) -> State:
    """The state with a change of temperature in its weights, summed in double precision."""
    return {**state, "log_w": state["log_w"] + jump * (state["log_p"] - state["log_q"]).double()}


def _summary(end: State, moves: int) -> State:
    """Weights and acceptance; NaN without a transition."""
    return {"log_w": end["log_w"].to(end["log_p"].dtype), "acceptance": end["accepted"] / moves}
