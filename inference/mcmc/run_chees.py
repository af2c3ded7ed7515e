"""A run of ChEES-HMC from its starts to its draws: in stages that are saved, interrupted and taken up again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from inference.density import Batched
from inference.flags import validating
from inference.journal import Journal, State
from inference.mcmc.chees import ChEES
from inference.mcmc.draws import Draws
from inference.mcmc.identity import identity_of
from inference.mcmc.leapfrog import Mover
from inference.mcmc.metric import choose_metric, no_metric
from inference.mcmc.settings import Settings
from inference.mcmc.starting import start
from inference.progress import progress_bar
from inference.seeds import seeded, stream

__all__ = ["OPTIMAL_ACCEPTANCE", "run_chees"]

OPTIMAL_ACCEPTANCE = 0.651
"""Of the harmonic mean, in many dimensions (Hoffman, Radul and Sountsov 2021)."""

NUM_START = 100
"""Steps of Adam before warm-up."""

CALLS = 16
"""Leapfrogs of a transition that `auto` reckons with."""


def run_chees(
    batched: Batched,
    data: Sequence[Tensor],
    settings: Settings,
    *,
    radius: float = 2.0,
    restarting: bool = True,
    identity: Mapping[str, Any] | None = None,
) -> Draws:
    """Draws of C chains that adapt together.

    Args:
        batched: their density, checked.
        data: what it is called with beside vectors.
        settings: what is asked.
        radius: of the starts.
        restarting: start chains that are far below the others anew from one of them, in warm-up.
        identity: what else must agree when a run is taken up again.

    Raises:
        KeyboardInterrupt: if interrupted before the first draw; later, what is drawn comes back, marked partial.
        ValueError: naming the site, if no chain can start; or if the checkpoint is of another run.
    """
    density = batched.density
    dense = choose_metric(settings.metric, density.dim, settings.num_chains) == "dense"
    transitions = settings.num_warmup + settings.num_samples
    mover = Mover(batched, data, settings.mode, NUM_START + CALLS * transitions, settings.num_chains)
    sampler = ChEES(
        mover=mover,
        num_warmup=settings.num_warmup,
        num_samples=settings.num_samples,
        num_start=NUM_START if settings.num_warmup else 0,
        dense=dense,
        target=settings.target_acceptance or OPTIMAL_ACCEPTANCE,
        max_leapfrogs=settings.max_leapfrogs,
        restarting=restarting,
    )
    seed = stream(settings.seed, "chees")
    with seeded(seed, density.device), torch.no_grad(), validating(enabled=False):
        q = start(batched, data, settings.num_chains, radius=radius, init=settings.init)
        seconds = {"build": -time.perf_counter()}
        first = mover.at(q, no_metric(dense, q[0]).factor)
        seconds["build"] += time.perf_counter()
        about = identity_of("chees", settings, q, first.log_p, data, identity)
        journal = Journal(settings.checkpoint, about, device=density.device, every=settings.checkpoint_every)
        total = sampler.num_start + transitions
        with progress_bar("chees", total, done=journal.moves, show=settings.progress) as journal.bar:
            end, drawn, times = _stages(sampler, journal, q, settings)
    return Draws(
        q=end["draws"][:, :drawn],
        stats=_stats(end, drawn),
        attrs={
            "backend": "chees",
            "metric": "dense" if dense else "diag",
            "mode": mover.mode,
            "seconds_build": seconds["build"],
            **times,
            "gradient_calls": mover.gradient_calls,
            "restarts": int(end["restarts"][2:].sum()),
            "restarts_by_window": end["restarts"].tolist(),
            "trajectory_length": float(end["settled_length"]),
            **({} if drawn == settings.num_samples else {"partial": True}),
        },
    )


def _stages(sampler: ChEES, journal: Journal, q: Tensor, settings: Settings) -> tuple[State, int, dict[str, float]]:
    """The last state, how many draws there are, and the seconds of warm-up and draws."""
    begun = time.perf_counter()
    climbed = journal.stage("start", lambda: sampler.begin(q), sampler.climb, sampler.num_start)
    warm = journal.stage("warmup", lambda: sampler.settle(climbed), sampler.adapt, settings.num_warmup)
    warmed = time.perf_counter()
    last: tuple[State, int] = ({}, 0)

    def draw(state: State, t: int) -> State:
        nonlocal last
        state = sampler.draw(state, t)
        last = state, t + 1
        if journal.bar is not None and t % 25 == 0:
            journal.bar.note(divergences=float(state["diverging"][:, : t + 1].sum()), step=float(state["settled_step"]))
        return state

    try:
        last = journal.stage("draws", lambda: sampler.rest(warm), draw, settings.num_samples), settings.num_samples
        journal.save()
    except KeyboardInterrupt:
        if not last[1]:
            raise  # what has been saved is what a later run goes on from, with the same bits
    times = {"seconds_warmup": warmed - begun, "seconds_sampling": time.perf_counter() - warmed}
    return *last, times


def _stats(end: State, drawn: int) -> dict[str, Tensor]:
    C = len(end["lp"])
    steps = end["n_steps"][:drawn].expand(C, -1)
    step = end["settled_step"].to(end["lp"].dtype).expand(C, drawn)
    kept = {name: end[name][:, :drawn] for name in ("lp", "energy", "acceptance_rate", "diverging")}
    return {**kept, "n_steps": steps, "step_size": step}
