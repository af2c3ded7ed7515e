"""Models whose every answer is known in closed form, written without the library under test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn


@dataclass
class LinearGaussian:
    """z ~ N(0, I), x | z ~ N(W z + b, s^2 I), in float64; p(x) and p(z | x) by textbook formulas."""

    W: Tensor
    b: Tensor
    s: float = 0.7

    @classmethod
    def make(cls, z_dim: int = 2, x_dim: int = 3) -> LinearGaussian:
        generator = torch.Generator().manual_seed(7)
        W = torch.randn(x_dim, z_dim, generator=generator, dtype=torch.float64)
        return cls(W, torch.randn(x_dim, generator=generator, dtype=torch.float64))

    def data(self, n: int) -> Tensor:
        generator = torch.Generator().manual_seed(11)
        z = torch.randn(n, self.W.shape[1], generator=generator, dtype=torch.float64)
        noise = torch.randn(n, len(self.b), generator=generator, dtype=torch.float64)
        return z @ self.W.T + self.b + self.s * noise

    def log_prob(self, x: Tensor) -> Tensor:
        covariance = self.W @ self.W.T + self.s**2 * torch.eye(len(self.b), dtype=torch.float64)
        return torch.distributions.MultivariateNormal(self.b, covariance).log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `(n, z_dim)` and covariance `(z_dim, z_dim)`."""
        precision = torch.eye(self.W.shape[1], dtype=torch.float64) + self.W.T @ self.W / self.s**2
        covariance = precision.inverse()
        return (x - self.b) @ self.W @ covariance / self.s**2, covariance

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            zeros = torch.zeros(self.W.shape[1], dtype=torch.float64)
            z = pyro.sample("z", dist.Normal(zeros, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.W.T + self.b, self.s).to_event(1), obs=x)

    def exact(self, x: Tensor) -> None:
        mean, covariance = self.posterior(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(mean, covariance))

    def wrong(self, x: Tensor) -> None:
        """A diagonal guide, off by 0.3 in location and half again too wide."""
        mean, covariance = self.posterior(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(mean + 0.3, 1.5 * covariance.diagonal().sqrt()).to_event(1))

    def wrong_elbo(self, x: Tensor) -> Tensor:
        """The ELBO of `wrong` in closed form: log p(x) - KL(q || posterior), per datum."""
        mean, covariance = self.posterior(x)
        q = torch.distributions.MultivariateNormal(mean + 0.3, (2.25 * covariance.diagonal()).diag())
        p = torch.distributions.MultivariateNormal(mean, covariance)
        return self.log_prob(x) - torch.distributions.kl_divergence(q, p)


class Factor(nn.Module):
    """The linear-Gaussian model with learned W, b and a learned linear guide: gradients have a closed form."""

    def __init__(self, z_dim: int = 2, x_dim: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64) / 2)

        self.W, self.b = parameter(x_dim, z_dim), parameter(x_dim)
        self.A, self.c = parameter(z_dim, x_dim), parameter(z_dim)
        self.log_scale = parameter(z_dim)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(self.c), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.W.T + self.b, 0.7).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x @ self.A.T + self.c, self.log_scale.exp()).to_event(1))

    def elbo(self, x: Tensor) -> Tensor:
        """Closed form, per datum: E log p(x | z) - KL(q || N(0, I))."""
        mean, scale = x @ self.A.T + self.c, self.log_scale.exp()
        residual = x - mean @ self.W.T - self.b
        spread = ((self.W * scale) ** 2).sum()
        fit = -0.5 * ((residual**2).sum(-1) + spread) / 0.49
        fit = fit - x.shape[1] * (torch.log(torch.tensor(0.7)) + 0.5 * torch.log(torch.tensor(2 * torch.pi)))
        kl = 0.5 * (mean**2 + scale**2 - 1 - 2 * self.log_scale).sum(-1)
        return fit - kl


def by_hand(values: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A statistic of each column, one column at a time: the slow way to check a vectorised one."""
    return torch.stack([function(column) for column in values.T])
