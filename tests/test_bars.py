"""Classic wake-sleep recovers the bars of Hinton et al. (1995), in nine of ten seeds, by the divergence."""

from __future__ import annotations

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim.lr_scheduler import LinearLR

from inference import WakeSleep, adam, fit
from ppmodels.nets import dense
from ppmodels.toys import Bars

SEEDS, WIDTHS = 10, (16, 24, 8)  # of the data, of their causes, of causes of causes


class Machines(nn.Module):
    """As many sigmoid belief networks 16-24-8, and guides, as there are seeds; each has its part of a batch.

    Adam's steps do not depend on the size of a gradient, so each learns as it would alone.
    """

    def __init__(self) -> None:
        super().__init__()

        def layers(a: int, b: int) -> tuple[nn.Parameter, nn.Parameter]:
            weights = torch.stack([dense(a, b).weight.detach().T for _ in range(SEEDS)])
            return nn.Parameter(weights), nn.Parameter(torch.zeros(SEEDS, 1, b))

        x, low, high = WIDTHS
        self.top = nn.Parameter(torch.zeros(SEEDS, 1, high))
        (self.W2, self.b2), (self.W1, self.b1) = layers(high, low), layers(low, x)
        (self.R1, self.c1), (self.R2, self.c2) = layers(x, low), layers(low, high)

    def model(self, x: Tensor) -> None:
        top = self.top.expand(SEEDS, len(x) // SEEDS, -1).flatten(0, 1)
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Bernoulli(logits=top).to_event(1))
            z1 = pyro.sample("z1", dist.Bernoulli(logits=each(z2, self.W2, self.b2)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=each(z1, self.W1, self.b1)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Bernoulli(logits=each(x, self.R1, self.c1)).to_event(1))
            pyro.sample("z2", dist.Bernoulli(logits=each(z1, self.R2, self.c2)).to_event(1))

    @torch.no_grad()
    def log_prob(self, x: Tensor, draws: int) -> Tensor:
        """Of each of n images under each machine, `(SEEDS, n)`, by draws of its guide: on average never too high."""
        z1, log_w = x.double().expand(SEEDS, draws, -1, -1), torch.zeros((), dtype=torch.float64)  # (SEEDS, K, n, 16)
        machine = {name: p.double().unsqueeze(1) for name, p in self.named_parameters()}
        below = z1
        for up, bias, down, offset in (("R1", "c1", "W1", "b1"), ("R2", "c2", "W2", "b2")):
            logits = below @ machine[up] + machine[bias]
            above = torch.bernoulli(logits.sigmoid())
            log_w = log_w + bits(below, above @ machine[down] + machine[offset]) - bits(above, logits)
            below = above
        return (log_w + bits(below, machine["top"])).logsumexp(1) - math.log(draws)


def each(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Every machine's layer on its part of the batch, `(..., n, a) -> (..., n, b)`."""
    parts = z.unflatten(-2, (SEEDS, -1)) @ weight + bias
    return parts.flatten(-3, -2)


def bits(values: Tensor, logits: Tensor) -> Tensor:
    return (values * logits - softplus(logits)).sum(-1)


@pytest.mark.slow
def test_bars_are_recovered() -> None:
    """At most 0.1 nats from the data, after 40,000 updates of 100 images, in at least nine of ten seeds.

    Half as many causes, or rates that fall along a cosine, leave a third of the seeds further off.
    """
    toy, steps = Bars(), 40_000
    machines = Machines()
    data = toy.sample(100 * 100 * SEEDS, seed=0)  # a hundred updates to an epoch
    fit(
        machines.model,
        machines.guide,
        data,
        WakeSleep(),
        steps=steps,
        batch_size=100 * SEEDS,
        optimizer={"wake": adam(0.05), "sleep": adam(0.25)},  # the guide follows the model
        schedule=partial(LinearLR, start_factor=1.0, end_factor=0.05, total_iters=steps // 100),
    )
    every = toy.patterns()
    weight = toy.log_prob(every.double()).exp()
    far = (weight * (weight.log() - machines.log_prob(every, 2_000))).sum(1)  # (SEEDS,)
    assert bool((far > -1e-3).all())
    assert int((far <= 0.1).sum()) >= 9, far


def test_log_p_by_the_guide_is_that_by_the_prior() -> None:
    """A check of what judges the machines: the guide's draws against 200,000 of the model's; false alarm 1e-4."""
    machines = Machines()
    with torch.no_grad():
        z2 = torch.bernoulli(machines.top[3].sigmoid().expand(200_000, -1))
        z1 = torch.bernoulli((z2 @ machines.W2[3] + machines.b2[3]).sigmoid())
        x = torch.bernoulli(torch.full((1, 16), 0.5))
        p = bits(x, z1 @ machines.W1[3] + machines.b1[3]).double().exp()
    found = torch.stack([machines.log_prob(x, 1_000)[3, 0].exp() for _ in range(20)])
    error = (p.var() / len(p) + found.var() / len(found)).sqrt()
    assert abs(float(p.mean() - found.mean())) < 4 * float(error)
