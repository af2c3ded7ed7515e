"""Pyro's No-U-Turn sampler on a flat density, chain after chain: the reference.

Its gradients come from the same graph as those of `chees`, one vector at a time. What Pyro keeps to itself (the energy,
the depth of the tree, the acceptance of every transition) is read off its kernel.

References:
    Hoffman and Gelman, *The No-U-Turn Sampler*, 2014, arXiv 1111.4246. Betancourt, *A Conceptual Introduction to
    Hamiltonian Monte Carlo*, 2017, arXiv 1701.02434 (multinomial trajectories).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro.infer.mcmc import NUTS
from torch import Tensor

from inference.density import Batched
from inference.flags import validating
from inference.journal import Journal, State
from inference.mcmc.draws import Draws
from inference.mcmc.identity import identity_of
from inference.mcmc.settings import Settings
from inference.mcmc.starting import start
from inference.progress import Progress, progress_bar
from inference.seeds import seeded, stream

__all__ = ["Gradient", "run_nuts"]

CALLS = 16
"""Gradients of a transition that `auto` reckons with."""

PER_DRAW = ("lp", "energy", "acceptance_rate", "diverging", "n_steps", "step_size", "tree_depth")


class Gradient:
    """Log density and gradient of one vector, from a graph where there is one.

    Attributes:
        calls: so far.
    """

    def __init__(self, batched: Batched, data: Sequence[Tensor], settings: Settings) -> None:
        transitions = settings.num_chains * (settings.num_warmup + settings.num_samples)
        self.batched, self.data, self.calls = batched, tuple(data), 0
        self.graph = batched.graphed(
            lambda q, *data: (batched(q, *data), None), settings.mode, lambda n: CALLS * transitions
        )

    def __call__(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Of `(D,)`: a scalar and `(D,)`."""
        self.calls += 1
        (log_p, grad), _ = self.graph(q.unsqueeze(0), *self.data)
        return log_p[0], grad[0]

    @property
    def mode(self) -> str:
        return self.batched.mode(self.graph)


class _Potential(torch.autograd.Function):
    """The negated log density, in the form that Pyro differentiates."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, gradient: Gradient) -> Tensor:
        log_p, grad = gradient(q.detach())
        ctx.save_for_backward(grad)
        return -log_p

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = ctx.saved_tensors
        return -grads[0] * grad, None


class _Watched(NUTS):
    """Pyro's kernel, which also says how its last transition went."""

    def watch(self) -> None:
        """Begin anew."""
        self.depth, self.chances, self.energy, self.diverged = 0, list[float](), math.nan, False

    def _build_tree(self, *args: Any) -> Any:
        self.depth = max(self.depth, args[5] + 1)
        return super()._build_tree(*args)  # type: ignore[no-untyped-call]

    def _build_basetree(self, *args: Any) -> Any:
        tree = super()._build_basetree(*args)  # type: ignore[no-untyped-call]
        self.chances.append(float(tree.sum_accept_probs))
        self.energy, self.diverged = float(args[-1]), self.diverged or bool(tree.diverging)
        return tree

    def transition(self, params: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Where the chain is next, and what there is to say of it."""
        self.watch()
        params = self.sample(params)  # type: ignore[no-untyped-call]
        stats = {
            "lp": -float(self._fetch_from_cache()[1]),  # type: ignore[no-untyped-call]
            "energy": self.energy,
            "acceptance_rate": sum(self.chances) / max(len(self.chances), 1),
            "diverging": float(self.diverged),
            "n_steps": len(self.chances),
            "step_size": float(self.step_size),
            "tree_depth": self.depth,
        }
        return params, stats


def run_nuts(
    batched: Batched, data: Sequence[Tensor], settings: Settings, *, identity: Mapping[str, Any] | None = None
) -> Draws:
    """Draws of C chains, one after another; each adapts by itself and has a seed of its own.

    Args:
        batched: the density, checked.
        data: what it is called with beside vectors.
        settings: what is asked; a checkpoint is saved whenever a chain is done.
        identity: what else must agree when a run is taken up again.

    Raises:
        KeyboardInterrupt: if interrupted before the first draw; later, the chains that are done come back, or what
            there is of the first.
    """
    density = batched.density
    gradient = Gradient(batched, data, settings)
    with seeded(stream(settings.seed, "nuts"), density.device), validating(enabled=False):
        with torch.no_grad():
            starts = start(batched, data, settings.num_chains, radius=2.0, init=settings.init)
            begun = time.perf_counter()
            gradient(starts[0])
            build = time.perf_counter() - begun
            about = identity_of("nuts", settings, starts, gradient(starts[0])[0], data, identity)
        journal = Journal(settings.checkpoint, about, device=density.device)
        total = settings.num_chains * (settings.num_warmup + settings.num_samples)
        done = len(journal.results) * (settings.num_warmup + settings.num_samples)
        chains: list[State] = list(journal.results)
        with progress_bar("nuts", total, done=done, show=settings.progress) as bar:
            for c in range(len(chains), settings.num_chains):
                chain: State = {}
                try:
                    with seeded(stream(settings.seed, f"nuts chain {c}"), density.device):
                        _run_chain(gradient, starts[c], settings, bar, chain)
                except KeyboardInterrupt:
                    if not chains and not len(chain.get("q", ())):
                        raise
                    chains = chains or [chain]
                    break
                chains.append(chain)
                journal.finish(chain)
                journal.save()
    return Draws(
        q=torch.stack([chain["q"] for chain in chains]),
        stats=_stats(chains),
        attrs={
            "backend": "nuts",
            "metric": "dense" if settings.metric == "dense" else "diag",
            "mode": gradient.mode,
            "seconds_build": build,
            "seconds_warmup": sum(float(chain["seconds"][0]) for chain in chains),
            "seconds_sampling": sum(float(chain["seconds"][1]) for chain in chains),
            "gradient_calls": gradient.calls,
            "restarts": 0,
            **({"partial": True} if _is_partial(chains, settings) else {}),
        },
    )


def _run_chain(gradient: Gradient, q: Tensor, settings: Settings, bar: Progress, chain: State) -> None:
    """Fill `chain` with a chain's draws, as they come."""
    kernel = _Watched(
        potential_fn=lambda params: _Potential.apply(params["q"], gradient),  # type: ignore[no-untyped-call]
        full_mass=settings.metric == "dense",
        target_accept_prob=settings.target_acceptance or 0.8,
        max_tree_depth=max(1, int(math.log2(settings.max_leapfrogs + 1))),
    )
    begun = time.perf_counter()
    kernel.initial_params = params = {"q": q}
    kernel.watch()
    kernel.setup(settings.num_warmup)  # type: ignore[no-untyped-call]
    for _ in range(settings.num_warmup):
        params, _ = kernel.transition(params)
        bar.advance(1)
    warmed = time.perf_counter()
    draws: list[Tensor] = []
    stats: list[dict[str, float]] = []
    try:
        for _ in range(settings.num_samples):
            params, of_draw = kernel.transition(params)
            draws.append(params["q"].detach())
            stats.append(of_draw)
            bar.advance(1)
            bar.note(divergences=sum(s["diverging"] for s in stats), step=of_draw["step_size"])
    finally:
        num = len(stats)
        chain["q"] = torch.stack(draws[:num]) if num else q.new_empty(0, len(q))
        chain |= {name: torch.tensor([s[name] for s in stats], dtype=torch.float64) for name in PER_DRAW}
        chain["seconds"] = torch.tensor([warmed - begun, time.perf_counter() - warmed], dtype=torch.float64)


def _stats(chains: Sequence[State]) -> dict[str, Tensor]:
    found = {name: torch.stack([chain[name] for chain in chains]) for name in PER_DRAW}
    whole = {name: found[name].long() for name in ("n_steps", "tree_depth")}
    return {**found, **whole, "diverging": found["diverging"].bool()}


def _is_partial(chains: Sequence[State], settings: Settings) -> bool:
    return len(chains) < settings.num_chains or len(chains[-1]["q"]) < settings.num_samples
