"""Pyro's own way: a model and a guide in the style of its VAE example, stepped by `SVI`, validation off."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.infer import SVI, RenyiELBO, Trace_ELBO
from torch import Tensor

from benchmarks.hand import Burda, Z, batches
from benchmarks.workload import Workload


class Pair(Burda):
    """Burda's network with its two stories; parameters are registered at every call, as `SVI` wants them."""

    def model(self, x: Tensor) -> None:
        """p(z) p(x | z)"""
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(Z), x.new_ones(Z)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """q(z | x)"""
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def svi(batch: int, K: int) -> Workload:
    """`SVI.step` with Trace_ELBO, or RenyiELBO at alpha 0 with its particles in a plate."""
    pyro.enable_validation(is_validate=False)
    pyro.set_rng_seed(0)
    pair, data = Pair(), batches(batch)
    bound = (
        Trace_ELBO() if K == 1 else RenyiELBO(alpha=0, num_particles=K, vectorize_particles=True, max_plate_nesting=1)
    )
    engine = SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 1e-3}), bound)
    return Workload(
        lambda i: engine.step(data[i % len(data)]),
        loss=lambda: float(engine.evaluate_loss(data[0])) / batch,
    )
