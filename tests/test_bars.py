"""Classic wake-sleep recovers the bars of Hinton et al. (1995), in nine of ten seeds, by the exact divergence."""

from __future__ import annotations

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim.lr_scheduler import CosineAnnealingLR

from inference import WakeSleep, adam, fit
from ppmodels.nets import dense
from ppmodels.toys import Bars

SEEDS, WIDTHS = 10, (16, 16, 6)  # of the data, of their causes, of causes of causes


class Machines(nn.Module):
    """As many sigmoid belief networks 16-16-6, and guides, as there are seeds; each has its part of a batch.

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
    def log_prob(self, x: Tensor, seed: int) -> Tensor:
        """Exact, in double precision: the 64 states of z2 are summed out for each of the 65,536 of z1."""
        top, W2, b2, W1, b1 = (p[seed].double() for p in (self.top, self.W2, self.b2, self.W1, self.b1))
        z1, z2 = states(WIDTHS[1]), states(WIDTHS[2])
        log_z2 = bits(z2, top)  # (64,)
        log_z1 = torch.stack([log_z2[i] + bits(z1, z2[i] @ W2 + b2) for i in range(len(z2))]).logsumexp(0)
        logits = z1 @ W1 + b1
        return torch.stack([(log_z1 + bits(one, logits)).logsumexp(0) for one in x.double()])


def each(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Every machine's layer on its part of the batch, `(..., n, a) -> (..., n, b)`."""
    parts = z.unflatten(-2, (SEEDS, -1)) @ weight + bias
    return parts.flatten(-3, -2)


def states(number: int) -> Tensor:
    return ((torch.arange(2**number)[:, None] >> torch.arange(number)) & 1).double()


def bits(values: Tensor, logits: Tensor) -> Tensor:
    return (values * logits - softplus(logits)).sum(-1)


@pytest.mark.slow
def test_bars_are_recovered() -> None:
    """At most 0.1 nats from the data, after 30,000 updates of 100 images, in at least nine of ten seeds.

    A single seed misses about one time in a hundred, if that.
    """
    toy, steps = Bars(), 30_000
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
        schedule=partial(CosineAnnealingLR, T_max=steps // 100, eta_min=1e-3),
    )
    every = toy.patterns()
    weight = toy.log_prob(every.double()).exp()
    far = [float((weight * (weight.log() - machines.log_prob(every, seed))).sum()) for seed in range(SEEDS)]
    assert all(value > -1e-9 for value in far)
    assert sum(value <= 0.1 for value in far) >= 9, far


def test_exact_log_p_adds_up() -> None:
    """Over a row of four pixels of all 16 states the rest is drawn away: a check of the oracle on a smaller net."""
    machines = Machines()
    with torch.no_grad():
        for parameter in machines.parameters():
            parameter.add_(torch.randn_like(parameter))
    x = torch.bernoulli(torch.full((1, 16), 0.5))
    z = torch.bernoulli(torch.full((200_000, 6), 0.5))
    with torch.no_grad():
        z2 = (torch.rand_like(z) < machines.top[3].sigmoid()).float()
        z1 = torch.bernoulli((z2 @ machines.W2[3] + machines.b2[3]).sigmoid())
        p = bits(x, z1 @ machines.W1[3] + machines.b1[3]).double().exp()
    exact = float(machines.log_prob(x, 3).exp())
    assert abs(float(p.mean()) - exact) < 4 * float(p.std()) / len(p) ** 0.5
