r"""ChEES-HMC: Hamiltonian Monte Carlo whose many chains set one step, one length and one metric together.

Every transition draws momenta, follows trajectories of L leapfrogs, the same number for all chains, and accepts each
chain's end with probability :math:`\min(1, e^{-\Delta H})`. L is the length divided by the step, times a Halton number,
so that trajectories of every part of the length occur. In warm-up the step follows the *harmonic* mean of the chances
of acceptance, whose optimum is 0.651; the mean would let a chain freeze in a steep tail while the others do well.

References:
    Hoffman, Radul and Sountsov, *An Adaptive-MCMC Scheme for Setting Trajectory Lengths in Hamiltonian Monte Carlo*,
    2021, AISTATS (algorithm 1 and section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from inference.annealing.hamiltonian import DIVERGED
from inference.journal import State
from inference.mcmc.adaptation import Length, Step, chees_gradient, halton, harmonic_mean
from inference.mcmc.leapfrog import Mover, Phase
from inference.mcmc.metric import Metric, fit_metric, no_metric

__all__ = ["ChEES"]

WINDOWS = (0.06, 0.12, 0.24, 0.45, 0.85)
"""Parts of the warm-up at whose ends the metric is set anew."""

KEPT = 12_800
"""Draws, over all chains, that a window keeps for the metric: 200 of each of 64, and at least 10 of each."""


@dataclass(frozen=True, eq=False)
class ChEES:
    """The transitions of all chains, as steps from state to state; a state is tensors by name, ready to be saved.

    Attributes:
        mover: what moves chains.
        num_warmup: transitions that adapt.
        num_samples: transitions after them.
        num_start: steps of Adam up the density, before all: they take chains off impossible scales.
        dense: whether the metric is.
        target: the harmonic mean of the chances of acceptance to adapt the step to.
        max_leapfrogs: the most in one trajectory.
        restarting: whether chains far below the others are started again from one of these.
    """

    mover: Mover
    num_warmup: int
    num_samples: int
    num_start: int
    dense: bool
    target: float
    max_leapfrogs: int
    restarting: bool = True

    def begin(self, q: Tensor) -> State:
        """Chains at places `(C, D)`, with unit masses."""
        metric = no_metric(self.dense, q[0])
        phase = self.mover.at(q, metric.factor)
        return {
            "q": q,
            "grad": phase.grad,
            "log_p": phase.log_p,
            "rise": torch.zeros_like(q),
            "steepness": torch.zeros_like(q),
        }

    def climb(self, state: State, t: int) -> State:
        """A step of Adam up every chain's own density: free of scale, so that no chain is left on a steep slope."""
        part = (t + 1) / self.num_start
        grad = state["grad"].nan_to_num(0.0, 0.0, 0.0)
        rise = 0.9 * state["rise"] + 0.1 * grad
        steepness = 0.99 * state["steepness"] + 0.01 * grad.square()
        size = (steepness / (1 - 0.99 ** (t + 1))).sqrt() + 1e-12
        move = 0.1 * (1 - 0.9 * part) * rise / (1 - 0.9 ** (t + 1)) / size
        phase = self.mover.at(state["q"] + move, no_metric(self.dense, move[0]).factor)
        possible = phase.log_p.isfinite()  # others stay, and forget where they were going
        rows = possible.unsqueeze(-1)
        return {
            "q": torch.where(rows, phase.q, state["q"]),
            "grad": torch.where(rows, phase.grad, state["grad"]),
            "log_p": torch.where(possible, phase.log_p, state["log_p"]),
            "rise": torch.where(rows, rise, 0.0),
            "steepness": steepness,
        }

    def settle(self, climbed: State) -> State:
        """What warm-up begins with."""
        q = climbed["q"]
        metric = no_metric(self.dense, q[0])
        most = max(self._kept(i, len(q)) for i in range(len(WINDOWS) + 1))
        return {
            **{name: climbed[name] for name in ("q", "grad", "log_p")},
            "factor": metric.factor,
            "inverse": metric.inverse,
            "step": _numbers(Step.start(0.1)),
            "length": _numbers(Length.start()),
            "restarts": torch.zeros(len(WINDOWS), dtype=torch.long),
            "history": q.new_zeros(most, 2, *q.shape),  # (kept, places and gradients, C, D)
        }

    def adapt(self, state: State, t: int) -> State:
        """A transition of the warm-up."""
        step, length = Step(*state["step"].tolist()), Length(*state["length"].tolist())
        part = halton(t + 1)
        num_leapfrogs = self._leapfrogs(part, length.current, step.current)
        start, end, chance, accepted = self._transition(state, step.current, num_leapfrogs)
        slope = chees_gradient(start, end, chance, state["inverse"], part * length.current)
        acceptance, gradient = torch.stack([harmonic_mean(chance), slope]).tolist()  # the one wait for the device
        step = step.update(acceptance, self.target)
        length = length.update(gradient, step.current, self.max_leapfrogs * step.current)
        state = {**state, **_chosen(accepted, start, end), "step": _numbers(step), "length": _numbers(length)}
        return self._remember(state, t)

    def draw(self, state: State, t: int) -> State:
        """A transition that is kept; nothing adapts, and nothing waits for the device."""
        step, length = float(state["settled_step"]), float(state["settled_length"])
        num_leapfrogs = self._leapfrogs(halton(self.num_warmup + t + 1), length, step)
        start, end, chance, accepted = self._transition(state, step, num_leapfrogs)
        state = {**state, **_chosen(accepted, start, end)}
        state["draws"][:, t] = state["q"]
        state["acceptance_rate"][:, t] = chance
        state["diverging"][:, t] = _diverged(start, end)
        state["energy"][:, t] = torch.where(accepted, end.energy(), start.energy())
        state["lp"][:, t] = state["log_p"]
        state["n_steps"][t] = num_leapfrogs
        return state

    def rest(self, warm: State) -> State:
        """What drawing begins with: what warm-up has settled on, and room for the draws."""
        C, D = warm["q"].shape
        N = self.num_samples
        empty = warm["q"].new_empty
        return {
            **{name: warm[name] for name in ("q", "grad", "log_p", "factor", "inverse", "restarts")},
            "settled_step": torch.tensor(Step(*warm["step"].tolist()).settled, dtype=torch.float64),
            "settled_length": torch.tensor(Length(*warm["length"].tolist()).settled, dtype=torch.float64),
            "draws": empty(C, N, D),
            **{name: empty(C, N) for name in ("acceptance_rate", "energy", "lp")},
            "diverging": torch.zeros(C, N, dtype=torch.bool, device=warm["q"].device),
            "n_steps": torch.zeros(N, dtype=torch.long),
        }

    def _transition(self, state: State, step: float, num_leapfrogs: int) -> tuple[Phase, Phase, Tensor, Tensor]:
        """Start, end, the chance of acceptance and whether it came."""
        q = state["q"]
        start = Phase(q, torch.randn_like(q), state["grad"], state["log_p"])
        end = self.mover.trajectory(start, q.new_tensor(step), state["factor"], num_leapfrogs)
        change = (start.energy() - end.energy()).nan_to_num(-math.inf, -math.inf, -math.inf)
        chance = change.clamp(max=0.0).exp()
        return start, end, chance, torch.rand_like(chance) < chance

    def _leapfrogs(self, part: float, length: float, step: float) -> int:
        return min(max(math.ceil(part * length / step), 1), self.max_leapfrogs)

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        """Transitions after which the metric is set."""
        return tuple(sorted({int(part * self.num_warmup) for part in WINDOWS if int(part * self.num_warmup) >= 4}))

    def _window(self, t: int) -> tuple[int, int, int]:
        """The window of a transition: its number, its first transition, and the one after its last."""
        ends = (0, *self._ends, self.num_warmup)
        i = next(i for i in range(len(ends) - 1) if t < ends[i + 1])
        return i, ends[i], ends[i + 1]

    def _kept(self, i: int, num_chains: int) -> int:
        """Draws of each chain that a window keeps."""
        ends = (0, *self._ends, self.num_warmup)
        return min(ends[i + 1] - ends[i], max(10, KEPT // num_chains)) if i + 1 < len(ends) else 1

    def _remember(self, state: State, t: int) -> State:
        """Keep draws and gradients for the metric, and set it at the end of a window."""
        i, first, last = self._window(t)
        if last == self.num_warmup:
            return state
        thin = -(-(last - first) // self._kept(i, len(state["q"])))
        skipped = (last - first) // 2 if i == 0 else 0  # the very first transitions are no draws yet
        slot = (t - first) // thin
        if (t - first) % thin == 0:
            state["history"][slot, 0], state["history"][slot, 1] = state["q"], state["grad"]
        if t + 1 < last:
            return state
        return self._set_metric(state, i, state["history"][skipped // thin : (t - first) // thin + 1])

    def _set_metric(self, state: State, i: int, history: Tensor) -> State:
        """A new metric from the chains that are not far below the others, from which those are started again."""
        log_p, D = state["log_p"], state["q"].shape[1]
        middle = log_p.nanmedian()
        spread = (log_p - middle).abs().nanmedian()
        stuck = ~(log_p > middle - 10 * spread - 3 * D - 20)  # (C,); 20 nats, so that no tail of few dimensions is
        rows = history[:, :, ~stuck].movedim(1, 0).flatten(1, 2)  # (2, draws, D)
        metric: Metric = fit_metric(rows[0], rows[1], len(log_p), dense=self.dense)
        healthy = (~stuck).nonzero().squeeze(-1)
        pick = healthy[torch.randint(len(healthy), stuck.shape, device=stuck.device)]
        source = torch.where(stuck & self.restarting, pick, torch.arange(len(stuck), device=stuck.device))
        step, length = Step(*state["step"].tolist()), Length(*state["length"].tolist())
        restarts = state["restarts"].clone()
        restarts[i] = int(stuck.sum()) if self.restarting else 0
        return {
            **state,
            **{name: state[name][source] for name in ("q", "grad", "log_p")},
            "factor": metric.factor,
            "inverse": metric.inverse,
            "restarts": restarts,
            "step": _numbers(Step.start(min(max(step.settled if i else 0.3, 1e-4), 1.0))),
            "length": _numbers(length.after_metric(metric.slowest)),
        }


def _numbers(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _diverged(start: Phase, end: Phase) -> Tensor:
    return ~(end.energy() - start.energy() < DIVERGED)


def _chosen(accepted: Tensor, start: Phase, end: Phase) -> State:
    """The ends that were accepted, and the starts of the others."""
    rows = accepted.unsqueeze(-1)
    return {
        "q": torch.where(rows, end.q, start.q),
        "grad": torch.where(rows, end.grad, start.grad),
        "log_p": torch.where(accepted, end.log_p, start.log_p),
    }
