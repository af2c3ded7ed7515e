"""NumPyro's `SVI.update`, one jitted call a step, or 60 steps in one `lax.scan`."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array, lax, random
from numpyro.infer import SVI, RenyiELBO, Trace_ELBO
from numpyro.infer.svi import SVIState

from benchmarks.workload import Workload

X, HIDDEN, Z, ROWS = 784, 200, 50, 6000
SCANNED = 60


def batches(batch: int) -> Array:
    """Random bits, 30 % of them set, in full batches, `(number, B, x_dim)`."""
    bits = np.random.default_rng(0).random((ROWS, X)) < 0.3
    number = ROWS // batch
    return jnp.asarray(bits[: number * batch].reshape(number, batch, X), dtype=jnp.float32)


def dense(name: str, h: Array, out_features: int) -> Array:
    """A linear layer with Glorot-uniform weights and no bias yet."""
    bound = np.sqrt(6 / (h.shape[-1] + out_features))
    shape = (h.shape[-1], out_features)
    weight = numpyro.param(f"{name}.weight", lambda key: random.uniform(key, shape, minval=-bound, maxval=bound))
    return h @ weight + numpyro.param(f"{name}.bias", jnp.zeros(out_features))


def trunk(name: str, h: Array) -> Array:
    """Two layers of 200 tanh."""
    return jnp.tanh(dense(f"{name}.1", jnp.tanh(dense(f"{name}.0", h, HIDDEN)), HIDDEN))


def model(x: Array) -> None:
    """p(z) p(x | z)"""
    with numpyro.plate("data", len(x)):
        z = numpyro.sample("z", dist.Normal(jnp.zeros(Z), jnp.ones(Z)).to_event(1))
        logits = dense("logits", trunk("decoder", z), X)
        numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


def guide(x: Array) -> None:
    """q(z | x)"""
    h = trunk("encoder", x)
    with numpyro.plate("data", len(x)):
        loc, log_scale = dense("loc", h, Z), dense("log_scale", h, Z)
        numpyro.sample("z", dist.Normal(loc, jnp.exp(log_scale)).to_event(1))


def svi(batch: int, K: int, *, scanned: bool = False) -> Workload:
    """An update a call, or `SCANNED` of them; the state is donated, the loss waited for."""
    data = batches(batch)
    bound = Trace_ELBO() if K == 1 else RenyiELBO(alpha=0, num_particles=K)
    engine = SVI(model, guide, numpyro.optim.Adam(1e-3), bound)
    state = engine.init(random.PRNGKey(0), data[0])
    many = partial(lax.scan, engine.update)
    update = jax.jit(many if scanned else engine.update, donate_argnums=0)
    parts = _groups(data) if scanned else list(data)

    def call(i: int) -> Array:
        nonlocal state
        state, loss = update(state, parts[i % len(parts)])
        return loss.block_until_ready()

    @jax.jit
    def per_datum(state: SVIState) -> Array:
        return engine.evaluate(state, data[0]) / batch

    return Workload(call, units=SCANNED if scanned else 1, loss=lambda: float(per_datum(state)))


def _groups(data: Array) -> list[Array]:
    """As many batches as one scan takes, `(SCANNED, B, x_dim)` each."""
    return [data[i : i + SCANNED] for i in range(0, len(data) - SCANNED + 1, SCANNED)]
