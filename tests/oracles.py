"""Models whose every answer is known in closed form, written without the library under test."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal


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
        log_p: Tensor = MultivariateNormal(self.b, covariance).log_prob(x)
        return log_p

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


class Exact:
    r"""The bounds of a pair in exact arithmetic, all from the moments of its weights under its guide.

    With :math:`w = p(x, z) / q(z \mid x)` and :math:`M(\beta) = \log E_q[w^\beta]` everything is M or its derivative:
    log p(x) is M(1), the Renyi bound of order alpha M(1 - alpha) / (1 - alpha), and :math:`M'(\beta)` the expected log
    weight under :math:`\pi_\beta \propto q^{1 - \beta} p^\beta`: the ELBO at 0, the EUBO at 1, the TVO's integrand
    between. Every value is per datum, `(n,)`, and differentiable in the pair's parameters.
    """

    def log_moment(self, x: Tensor, order: float) -> Tensor:
        """M(order); plus infinity where the moment does not exist."""
        raise NotImplementedError

    def integrand(self, x: Tensor, beta: float) -> Tensor:
        """M'(beta); NaN where pi_beta does not exist."""
        raise NotImplementedError

    def log_prob(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def elbo(self, x: Tensor) -> Tensor:
        return self.integrand(x, 0.0)

    def eubo(self, x: Tensor) -> Tensor:
        return self.integrand(x, 1.0)

    def kl(self, x: Tensor) -> Tensor:
        """KL(q || posterior)."""
        return self.log_prob(x) - self.elbo(x)

    def reverse_kl(self, x: Tensor) -> Tensor:
        """KL(posterior || q)."""
        return self.eubo(x) - self.log_prob(x)

    def chi_square(self, x: Tensor) -> Tensor:
        """Of the posterior from q: the variance of w / p(x)."""
        return torch.expm1(self.log_moment(x, 2.0) - 2 * self.log_prob(x))

    def renyi(self, x: Tensor, alpha: float) -> Tensor:
        """log p(x) less the Renyi divergence of order alpha of q from the posterior; infinite where that is."""
        return self.elbo(x) if alpha == 1 else self.log_moment(x, 1 - alpha) / (1 - alpha)

    def cubo(self, x: Tensor, order: float = 2.0) -> Tensor:
        return self.log_moment(x, order) / order

    def tvo(self, x: Tensor, betas: Sequence[float], side: str = "left") -> Tensor:
        """The Riemann sum of the integrand over the intervals between `betas`."""
        ends = list(pairwise(betas))
        return sum(((b - a) * self.integrand(x, a if side == "left" else b) for a, b in ends), torch.zeros(()))


@dataclass
class Guided(Exact):
    """A linear-Gaussian model with a Gaussian guide, off by `shift` in location and `spread` times too wide.

    The guide has the posterior's variances, and its correlations too unless `diagonal`. A moment of order beta exists
    where the precision (1 - beta) q + beta p of `path` is positive definite: at every beta >= 0 if the guide is wider
    than the posterior in every direction.
    """

    toy: LinearGaussian
    shift: float = 0.3
    spread: float = 1.5
    diagonal: bool = True

    def q(self, x: Tensor) -> MultivariateNormal:
        mean, covariance = self.toy.posterior(x)
        shape = covariance.diagonal().diag() if self.diagonal else covariance
        return MultivariateNormal(mean + self.shift, self.spread**2 * shape)

    def data(self, n: int) -> Tensor:
        return self.toy.data(n)

    def model(self, x: Tensor) -> None:
        self.toy.model(x)

    def guide(self, x: Tensor) -> None:
        q = self.q(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(q.loc, q.covariance_matrix))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.toy.log_prob(x)

    def path(self, x: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """Mean `(n, z_dim)` and precision `(z_dim, z_dim)` of pi_beta, in proportion to q^(1 - beta) p^beta."""
        q, (mean, covariance) = self.q(x), self.toy.posterior(x)
        Q, P = q.precision_matrix[0], covariance.inverse()
        precision = (1 - beta) * Q + beta * P
        weighted = (1 - beta) * q.loc @ Q + beta * mean @ P
        return torch.linalg.solve(precision, weighted.mT).mT, precision

    def log_moment(self, x: Tensor, order: float) -> Tensor:
        q, (mean, covariance) = self.q(x), self.toy.posterior(x)
        centre, precision = self.path(x, order)
        if not positive_definite(precision):
            return torch.full_like(mean[:, 0], math.inf)
        Q, P = q.precision_matrix[0], covariance.inverse()
        volume = (1 - order) * Q.logdet() + order * P.logdet() - precision.logdet()
        form = (1 - order) * square(q.loc, Q) + order * square(mean, P) - square(centre, precision)
        return order * self.log_prob(x) + (volume - form) / 2

    def integrand(self, x: Tensor, beta: float) -> Tensor:
        q, (mean, covariance) = self.q(x), self.toy.posterior(x)
        centre, precision = self.path(x, beta)
        if not positive_definite(precision):
            return torch.full_like(mean[:, 0], math.nan)
        Q, P, C = q.precision_matrix[0], covariance.inverse(), precision.inverse()
        log_p = P.logdet() - square(centre - mean, P) - (P * C).sum()  # twice E log posterior, less a constant
        log_q = Q.logdet() - square(centre - q.loc, Q) - (Q * C).sum()
        return self.log_prob(x) + (log_p - log_q) / 2


def positive_definite(matrix: Tensor) -> bool:
    return bool(torch.linalg.eigvalsh(matrix).min() > 1e-9)


def square(v: Tensor, matrix: Tensor) -> Tensor:
    """v' M v of each row."""
    return ((v @ matrix) * v).sum(-1)


class BeliefNet(Exact, nn.Module):
    """A sigmoid belief net of 6 + 6 latent bits and 8 observed ones, with every answer by summing all 4096 states.

    Model: p(z2) p(z1 | z2) p(x | z1). Guide, layer by layer upwards: q(z1 | x) q(z2 | z1). Every layer is Bernoulli
    with logits linear in the layer before; all parameters are learned, in float64. The guide starts with the model's
    weights turned round, which is near the posterior but not on it, and `mismatch` widens the gap.

    `states` is `(4096, 12)`: z1 in the first six columns, z2 in the last.
    """

    states: Tensor

    def __init__(self, seed: int = 5, mismatch: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.prior = nn.Parameter(normal(6) / 2)  # logits of z2
        self.W2, self.b2 = nn.Parameter(normal(6, 6)), nn.Parameter(normal(6) / 2)  # z2 -> z1
        self.W1, self.b1 = nn.Parameter(normal(8, 6)), nn.Parameter(normal(8) / 2)  # z1 -> x
        with torch.no_grad():
            turned1, turned2 = self.W1.T / 2 + mismatch * normal(6, 8), self.W2.T / 2 + mismatch * normal(6, 6)
        self.R1, self.c1 = nn.Parameter(turned1), nn.Parameter(-turned1.sum(1) / 2)  # x -> z1
        self.R2, self.c2 = nn.Parameter(turned2), nn.Parameter(-turned2.sum(1) / 2)  # z1 -> z2
        bits = torch.arange(4096)[:, None] >> torch.arange(12)
        self.register_buffer("states", (bits & 1).double())

    def data(self, n: int) -> Tensor:
        """`(n, 8)`, drawn from the model as it was made."""
        generator = torch.Generator().manual_seed(13)
        with torch.no_grad():
            z2 = torch.bernoulli(self.prior.sigmoid().expand(n, 6), generator=generator)
            z1 = torch.bernoulli((z2 @ self.W2.T + self.b2).sigmoid(), generator=generator)
            return torch.bernoulli((z1 @ self.W1.T + self.b1).sigmoid(), generator=generator)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Bernoulli(logits=self.prior).to_event(1))
            z1 = pyro.sample("z1", dist.Bernoulli(logits=z2 @ self.W2.T + self.b2).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=z1 @ self.W1.T + self.b1).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Bernoulli(logits=x @ self.R1.T + self.c1).to_event(1))
            pyro.sample("z2", dist.Bernoulli(logits=z1 @ self.R2.T + self.c2).to_event(1))

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z) of every state, `(n, 4096)`."""
        z1, z2 = self.states[:, :6], self.states[:, 6:]
        log_prior = bits_log_prob(z2, self.prior) + bits_log_prob(z1, z2 @ self.W2.T + self.b2)
        return log_prior + bits_log_prob(x[:, None], z1 @ self.W1.T + self.b1)

    def log_guide(self, x: Tensor) -> Tensor:
        """log q(z | x) of every state, `(n, 4096)`."""
        z1, z2 = self.states[:, :6], self.states[:, 6:]
        return bits_log_prob(z1, (x @ self.R1.T + self.c1)[:, None]) + bits_log_prob(z2, z1 @ self.R2.T + self.c2)

    def posterior(self, x: Tensor) -> Tensor:
        """p(z | x) of every state, `(n, 4096)`."""
        return self.log_joint(x).softmax(-1)

    def log_w(self, x: Tensor) -> Tensor:
        """log p(x, z) - log q(z | x) of every state, `(n, 4096)`."""
        return self.log_joint(x) - self.log_guide(x)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_joint(x).logsumexp(-1)

    def log_moment(self, x: Tensor, order: float) -> Tensor:
        return (self.log_guide(x) + order * self.log_w(x)).logsumexp(-1)

    def integrand(self, x: Tensor, beta: float) -> Tensor:
        pi = ((1 - beta) * self.log_guide(x) + beta * self.log_joint(x)).softmax(-1)
        return (pi * self.log_w(x)).sum(-1)


def bits_log_prob(bits: Tensor, logits: Tensor) -> Tensor:
    """Bernoulli log probability, summed over the last axis: b l - log(1 + e^l)."""
    return (bits * logits - nn.functional.softplus(logits)).sum(-1)


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
