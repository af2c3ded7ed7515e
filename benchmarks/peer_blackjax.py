"""BlackJAX on the same posteriors, written in NumPyro for their log densities: NUTS chain by chain, and its own ChEES.

Runs in an environment of its own; the data come as an `.npz` of the programs' arguments in their order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from jax import Array, lax, random
from numpyro.infer.util import initialize_model

from benchmarks.workload import Workload, fastest

jax.config.update("jax_enable_x64", True)  # as ours and Pyro's here

Sites: TypeAlias = dict[str, Array]
Sampler: TypeAlias = Callable[[Array], tuple[Sites, Array]]  # from a key to draws (chain, draw, ...) and divergences


def eight_schools(sigma: Array, y: Array) -> None:
    """Not centred."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(sigma)):
        theta_trans = numpyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * theta_trans)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def kidscore_interaction(hs: Array, iq: Array, score: Array) -> None:
    """Flat in the coefficients."""
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    beta = numpyro.sample("beta", dist.ImproperUniform(dist.constraints.real_vector, (), (4,)))
    mean = beta[0] + beta[1] * hs + beta[2] * iq + beta[3] * hs * iq
    with numpyro.plate("child", len(score)):
        numpyro.sample("score", dist.Normal(mean, sigma), obs=score)


def ar_k(lags: Array, y: Array) -> None:
    """Autoregression on five values before."""
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = numpyro.sample("beta", dist.Normal(0.0, 10.0).expand([lags.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    with numpyro.plate("time", len(y)):
        numpyro.sample("y", dist.Normal(alpha + lags @ beta, sigma), obs=y)


MODELS: dict[str, Callable[..., None]] = {
    "eight_schools": eight_schools,
    "kidscore_interaction": kidscore_interaction,
    "arK": ar_k,
}


class Target:
    """A log density over unconstrained sites, where chains start, and the way back to constrained ones."""

    def __init__(self, name: str, data: str) -> None:
        with np.load(data) as found:
            args = tuple(jnp.asarray(found[key]) for key in found.files)
        start, potential, self.constrain, _ = initialize_model(random.PRNGKey(0), MODELS[name], model_args=args)
        self._like: Sites = start.z
        self._potential = potential

    def log_p(self, u: Sites) -> Array:
        """A scalar."""
        return -self._potential(u)

    def start(self, key: Array) -> Sites:
        """Uniform within 2 of the origin, as NumPyro and Stan start."""
        keys = random.split(key, len(self._like))
        return {
            name: random.uniform(k, value.shape, value.dtype, -2.0, 2.0)
            for k, (name, value) in zip(keys, self._like.items(), strict=True)
        }

    def constrained(self, u: Sites) -> Sites:
        """Of draws `(chain, draw, ...)`."""
        return jax.vmap(jax.vmap(self.constrain))(u)


def nuts(
    name: str, data: str, out: str, *, dense: bool = False, chains: int = 4, warmup: int = 500, draws: int = 500
) -> Workload:
    """Window adaptation and NUTS; chains in lockstep (`vmap`) or one after the other (`map`), whichever is faster.

    Args:
        name: of the posterior.
        data: an `.npz` with what the model is called with.
        out: the folder that draws are written to.
        dense: adapt a dense metric in the place of a diagonal one.
        chains: how many.
        warmup: transitions that adapt.
        draws: transitions that are kept.
    """
    target = Target(name, data)

    def chain(key: Array) -> tuple[Sites, Array]:
        start, adapt, move = random.split(key, 3)
        warm = blackjax.window_adaptation(blackjax.nuts, target.log_p, is_mass_matrix_diagonal=not dense)
        (state, parameters), _ = warm.run(adapt, target.start(start), warmup)
        step = blackjax.nuts(target.log_p, **parameters).step

        def transition(state: Any, key: Array) -> tuple[Any, tuple[Sites, Array]]:
            state, info = step(key, state)
            return state, (state.position, info.is_divergent)

        return lax.scan(transition, state, random.split(move, draws))[1]

    def together(over: Callable[..., Any]) -> Sampler:
        return lambda key: over(random.split(key, chains))

    ways = {"vmap": together(jax.vmap(chain)), "map": together(lambda keys: lax.map(chain, keys))}
    made = {way: recorded(sampler, target, Path(out), warmup + draws) for way, sampler in ways.items()}
    return made[fastest(made, made.__getitem__, seconds=0.0)]


def chees(name: str, data: str, out: str, *, chains: int = 64, warmup: int = 500, draws: int = 500) -> Workload:
    """BlackJAX's ChEES with the metric it offers, a diagonal one; options as for `nuts`."""
    target = Target(name, data)

    def sampler(key: Array) -> tuple[Sites, Array]:
        start, adapt, move = random.split(key, 3)
        positions = jax.vmap(target.start)(random.split(start, chains))
        warm = blackjax.chees_adaptation(target.log_p, chains, mass_matrix_estimation="diagonal")
        (states, parameters), _ = warm.run(adapt, positions, 0.1, optax.adam(0.025), warmup)
        step = jax.vmap(blackjax.dynamic_hmc(target.log_p, **parameters).step)

        def transition(states: Any, key: Array) -> tuple[Any, tuple[Sites, Array]]:
            states, info = step(random.split(key, chains), states)
            return states, (states.position, info.is_divergent)

        drawn, diverging = lax.scan(transition, states, random.split(move, draws))[1]
        return jax.tree.map(lambda value: jnp.swapaxes(value, 0, 1), drawn), diverging.T

    return recorded(sampler, target, Path(out), warmup + draws)


def recorded(sampler: Sampler, target: Target, out: Path, transitions: int) -> Workload:
    """Compile a sampler, and write draws and costs of call i to `i.npz`; i is the seed. A unit is a transition."""

    def whole(key: Array) -> tuple[Sites, Array]:
        drawn, diverging = sampler(key)
        return target.constrained(drawn), diverging.sum()

    begun = time.perf_counter()
    compiled = jax.jit(whole).lower(random.PRNGKey(0)).compile()
    build = time.perf_counter() - begun

    def call(i: int) -> None:
        begun = time.perf_counter()
        drawn, divergences = jax.block_until_ready(compiled(random.PRNGKey(i)))
        seconds = time.perf_counter() - begun
        costs = {"seconds": seconds, "build": build, "divergences": int(divergences)}
        np.savez(out / f"{i}.npz", **costs, **drawn)

    return Workload(call, units=transitions)
