"""A prior of your own, from its density to a diagnosis: digits on a shell whose radius is learned.

    python examples/custom_prior.py     # half a minute on one core

A prior is a module whose call returns a distribution; a distribution is how to draw, and how likely a draw is.
`check_prior` says whether the two belong together, and from there on it is a prior like any other.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Gamma, constraints

from guides import AmortizedNormal
from inference import IWAE, Variational, active_units, adam, compare_bounds, fit, log_likelihood
from ppmodels.cli.pictures import grid, save
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import digits
from ppmodels.nets import MLP
from ppmodels.priors import check_prior
from ppmodels.vae import VAE


class Shell(Distribution):
    """Any direction, and a distance from 0 of the law given: p(z) = p(|z|) |z|^(1 - d) / (area of the unit sphere)."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector

    def __init__(self, distance: Distribution, d: int) -> None:
        self.distance, self.d = distance, d
        self.log_area = math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)
        super().__init__(event_shape=torch.Size([d]), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        length = self.distance.sample(sample_shape).unsqueeze(-1)
        return nn.functional.normalize(torch.randn_like(length.expand(*sample_shape, self.d)), dim=-1) * length

    def log_prob(self, value: Tensor) -> Tensor:
        length = value.norm(dim=-1)
        return self.distance.log_prob(length) - (self.d - 1) * length.log() - self.log_area


class ShellPrior(nn.Module):
    """Distances of a gamma law that is learned, at the start those of N(0, I): of mean sqrt(d), and variance 1/2."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.d, self.log_mean = d, nn.Parameter(torch.tensor(math.log(d) / 2))
        self.log_shape = nn.Parameter(torch.tensor(math.log(2 * d)))

    def forward(self) -> Distribution:
        shape = self.log_shape.exp()
        return Shell(Gamma(shape, shape / self.log_mean.exp()), self.d)


def main(epochs: int = 100, size: int = 2000, n: int = 50, steps: int = 200, out: str = "runs/shell.png") -> None:
    torch.set_num_threads(1)  # nets this small only wait for each other on more
    torch.manual_seed(0)
    train, test = digits("dynamic", split="train"), digits("dynamic", split="test").realise(0)
    train, test = train.head(size), test.head(size)
    prior = ShellPrior(8)
    print(check_prior(prior))
    model = VAE(prior, ConditionalBernoulli(MLP(8, (64, 64)), train.x_dim, logits=train.logits()))
    guide = AmortizedNormal(ConditionalNormal(MLP(train.x_dim, (64, 64)), 8))
    fit(model, guide, train, Variational(IWAE(), 5), epochs=epochs, batch_size=50, optimizer=adam(2e-3))
    print(f"\nlearned: distances {prior.log_mean.exp():.2f} +- {(prior.log_mean - prior.log_shape / 2).exp():.2f}")
    bounds = ["elbo", "iwae:50", "iwae:1000", f"ais:{steps}", f"bdmc:{steps}"]
    print(compare_bounds(model, guide, test.head(n), bounds, num_simulated=n))
    print(log_likelihood(model, guide, test, num_particles=1000))
    print(active_units(model, guide, test))
    print(save(grid(model.likelihood(prior().sample((64,))).mean, train.shape, title="samples"), out))


if __name__ == "__main__":
    main()
