"""One pass over a dataset with annealed chains: what tables and estimates are made of."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Unpack

import torch
from torch import Tensor

from inference.annealing.chains import Chains
from inference.annealing.mixing import rhat
from inference.annealing.running import How, Run, digest
from inference.batches import TensorData
from inference.journal import State
from inference.pair import Pair
from inference.schedule import Annealing
from inference.simulate import Simulated
from inference.weights import Weights
from ppmodels.contracts import Data

__all__ = ["Pass", "anneal_back", "anneal_data", "posterior_data"]


class Pass(NamedTuple):
    """What chains on one batch came to.

    Attributes:
        weights: of K draws, `(K, n)`.
        acceptance: mean probability with which transitions were accepted, `(n,)`; NaN where there were none.
        rhat: R-hat of the log weights of posterior draws, `(n,)`; NaN for annealed chains, which need not agree.
        seconds: what it took.
    """

    weights: Weights
    acceptance: Tensor
    rhat: Tensor
    seconds: float


def anneal_data(pair: Pair, data: Data, annealing: Annealing, **how: Unpack[How]) -> Generator[Pass, None, None]:
    r"""Annealed importance weights of every datum, batch by batch: from the guide (or the prior) to the posterior.

    :math:`\mathbb{E}[w] = p(x)` for each of the C chains, whatever the settings: `log_w` is `(C, n)`.

    Each batch is worked on without gradients, in evaluation mode, under a seed of its own; nothing is held while a pass
    is in the caller's hands. Close it (`contextlib.closing`), so that it ends where its reader fails too.

    Args:
        pair: the model and its guide.
        data: each datum is read once, in order.
        annealing: temperatures, chains, leapfrogs and the rest.
        how: seed, mode, batch size, progress and checkpoint, see `How`.

    Raises:
        ValueError: naming the site, if latents are not all continuous or no density is known; or if the checkpoint is
            of another calculation.
    """
    moves = annealing.num_temperatures > 1
    transitions = annealing.num_temperatures + (annealing.num_pilot if moves else 0)

    def work(chains: Sequence[Chains], index: Tensor) -> State:
        steps = chains[0].pilot()[0] if moves else None
        return _joined([some.forward(steps) for some in chains], annealing.num_chains)

    for found in Run(pair, data, annealing, "annealing", transitions, how=how).results(work):
        yield _annealed(found, "annealing")


def anneal_back(
    pair: Pair, simulated: Simulated, annealing: Annealing, **how: Unpack[How]
) -> Generator[Pass, None, None]:
    r"""Weights of chains from the posterior back to the guide (or the prior), for data simulated from the model.

    :math:`\mathbb{E}[1 / w] = 1 / p(x)` for each of the C chains. Those of a datum set off from the one exact draw of
    its posterior that is known, spread by `annealing.num_warmup` transitions that leave the posterior as it is.

    Arguments and errors are those of `anneal_data`; `simulated` is what `inference.simulate.simulate` gave.
    """
    transitions = annealing.num_pilot + annealing.num_warmup + annealing.num_temperatures
    extra = {"latents": digest(simulated.latents)}

    def work(chains: Sequence[Chains], index: Tensor) -> State:
        z = chains[0].exact(simulated.latents, index)
        steps, _ = chains[0].pilot()
        return _joined([some.backward(steps, z) for some in chains], annealing.num_chains)

    data = TensorData(simulated.data)
    for found in Run(pair, data, annealing, "reverse annealing", transitions, extra, how).results(work):
        yield _annealed(found, "reverse annealing")


def posterior_data(
    pair: Pair,
    data: Data,
    num_draws: int,
    annealing: Annealing,
    *,
    latents: Mapping[str, Tensor] | None = None,
    **how: Unpack[How],
) -> Generator[Pass, None, None]:
    r"""Draws of every datum's posterior by MCMC, weighed under model and guide.

    Chains end a pilot run, which anneals them from the guide (whatever `annealing.start` says: the guide weighs them),
    make `annealing.num_warmup` transitions with frozen steps, then a draw at each. With exact draws to begin at, in
    `latents`, every draw is an exact one, though those of a datum resemble each other.

    Args:
        pair: the model and its guide.
        data: each datum is read once, in order.
        num_draws: of each chain: K is `annealing.num_chains * num_draws`, chain after chain.
        annealing: chains, leapfrogs, pilot and warm-up.
        latents: exact draws by site, as `Simulated` has them, for each datum.
        how: see `How`.

    Raises:
        ValueError: see `anneal_data`.
    """
    if num_draws < 1:
        raise ValueError(f"`num_draws` is {num_draws}, expected at least 1 draw from each chain")
    annealing = replace(annealing, start="guide")
    transitions = annealing.num_pilot + annealing.num_warmup + num_draws
    extra = {"draws": num_draws, "latents": digest(latents or {})}

    def work(chains: Sequence[Chains], index: Tensor) -> State:
        if latents is None:  # every chain ends a pilot run of its own
            return _joined([some.draws(*some.pilot(), num_draws) for some in chains], annealing.num_chains)
        z = chains[0].exact(latents, index)
        steps, _ = chains[0].pilot()
        return _joined([some.draws(steps, some.at(z), num_draws) for some in chains], annealing.num_chains)

    for found in Run(pair, data, annealing, "posterior", transitions, extra, how).results(work):
        log_p, log_q = found["log_p"], found["log_q"]  # (C, draws, n)
        weights = Weights(log_p.flatten(0, 1), log_q.flatten(0, 1), source="posterior")
        yield Pass(weights, found["acceptance"], rhat(log_p - log_q), float(found["seconds"][0]))


def _annealed(found: State, source: Literal["annealing", "reverse annealing"]) -> Pass:
    log_w, acceptance = found["log_w"], found["acceptance"]
    weights = Weights(log_w, torch.zeros_like(log_w), source=source)
    return Pass(weights, acceptance, torch.full_like(acceptance, math.nan), float(found["seconds"][0]))


def _joined(parts: Sequence[State], num_chains: int) -> State:
    """Parts of the chains after one another, those over dropped; acceptance is their mean."""
    whole = {name: torch.cat([part[name] for part in parts])[:num_chains] for name in parts[0] if name != "acceptance"}
    return {**whole, "acceptance": torch.stack([part["acceptance"] for part in parts]).mean(0)}
