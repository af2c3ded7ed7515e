r"""Do the draws of a distribution come from its density?

Two identities hold for every density `p` of its own draws, in free coordinates `y`, for any density `g`:

.. math:: E_p\big[f(y)\, \partial_i \log p(y) + \partial_i f(y)\big] = 0, \qquad
    E_p\Big[\frac{g(y)}{p(y) + g(y)}\Big] = E_g\Big[\frac{p(y)}{p(y) + g(y)}\Big]

The first, Stein's, is tested with :math:`f = 1, y_j, \tanh y_i`: it notices a wrong location, scale,
correlation or shape. The second, with a normal `g` fitted to other draws, also notices a density that does not
integrate to 1; its terms lie in [0, 1], so its error is known in any dimension. For discrete distributions
the frequencies of the common values are compared with their probabilities; where no value of a vector of bits is
common, each bit with its probability given the others.

References:
    Measuring Sample Quality with Stein's Method (Gorham and Mackey, 2015), arXiv:1506.03039
    Simulating Ratios of Normalizing Constants via a Simple Identity (Meng and Wong, 1996)
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, biject_to, constraints

from ppmodels.distributions import as_pyro, validation

__all__ = ["FALSE_ALARM", "disagreements"]

FALSE_ALARM = 1e-4
"""How often a sound distribution is accused, over all the tests of one call, as far as means are normal."""

SLACK = 1e-4  # a difference below is rounding

MOST_BITS = 24
"""Of a long vector of bits so many are tested, evenly spread: each takes a density of every draw."""


def disagreements(distribution: Distribution, num_samples: int, notes: list[str] | None = None) -> list[str]:
    """What speaks against the draws being from the density, in words; empty where nothing does.

    Arguments:
        distribution: over one vector, continuous or discrete.
        num_samples: draws per test.
        notes: a list that takes what could not be tested.

    Example:
        >>> import pyro.distributions as dist
        >>> disagreements(dist.Gamma(torch.ones(3), 2.0).to_event(1), 4096)
        []
    """
    p: Any = as_pyro(distribution)
    notes = [] if notes is None else notes
    with validation(enabled=False):  # rounding may carry free coordinates over an edge of the support
        if p.support.is_discrete:
            return list(_frequencies(p, num_samples, notes))
        free = _Free(p, num_samples)
        y = free.draw(num_samples)
        return [*_stein(free, y), *_bridge(free, y, notes)]


class _Free:
    """A distribution in free coordinates of mean 0 and variance 1: `z = T(mean + std * y)`."""

    def __init__(self, p: Any, num_samples: int) -> None:
        self.p, self.transform = p, biject_to(p.support)
        self.mean, self.std = torch.zeros(()), torch.ones(())
        u = self.draw(num_samples)  # (num_samples, d)
        self.mean, self.std = u.mean(0), u.std(0).clamp(min=1e-12)
        self.correlation = ((u - self.mean) / self.std).T.cov().reshape(u.shape[1], -1)  # (d, d)

    def draw(self, num_samples: int) -> Tensor:
        with torch.no_grad():
            u: Tensor = self.transform.inv(self.p((num_samples,)))
        return (u - self.mean.to(u)) / self.std.to(u)

    def log_prob(self, y: Tensor) -> Tensor:
        u = self.mean + self.std * y
        z = self.transform(u)
        log_jacobian = self.transform.log_abs_det_jacobian(u, z)
        if self.transform.domain.event_dim == 0:
            log_jacobian = log_jacobian.sum(-1)
        log_p: Tensor = self.p.log_prob(z) + log_jacobian + self.std.log().sum()
        return log_p


def _stein(free: _Free, y: Tensor) -> Iterator[str]:
    n, d = y.shape
    leaf = y.clone().requires_grad_()
    with torch.enable_grad():
        (score,) = torch.autograd.grad(free.log_prob(leaf).sum(), leaf)  # (n, d)
    tanh = score * y.tanh() + 1 - y.tanh() ** 2
    product = score.T @ y / n  # (d, d): E[y_j d_i log p] = -1 where i = j, else 0
    square = (score**2).T @ y**2 / n
    values = torch.cat([score.mean(0), tanh.mean(0), (product + torch.eye(d).to(y)).flatten()])
    errors = torch.cat([score.var(0), tanh.var(0), (square - product**2).flatten()]).div(n).sqrt()
    excess = values.abs() - _threshold(len(values)) * errors - SLACK
    worst = int(excess.argmax())
    if not excess[worst] <= 0:  # NaN as well
        squares = -product.diagonal()  # for normals, the squared ratio of the widths
        width = float(squares[(squares - 1).abs().argmax()])
        hint = f", as if the draws were {width**0.5:.2f} times as wide as the density" if width > 0 else ""
        yield (
            "draws and log_prob disagree: a mean that is 0 for a sound density is "
            f"{float(values[worst]):.3g} ± {float(errors[worst]):.2g}{hint}"
        )


def _bridge(free: _Free, y: Tensor, notes: list[str]) -> Iterator[str]:
    n, d = y.shape
    identity = torch.eye(d).to(y)
    correlation = free.correlation if n >= 10 * d else identity
    g: Any = as_pyro(MultivariateNormal(torch.zeros(d).to(y), correlation + 1e-6 * identity))
    noise = g((n,))
    with torch.no_grad():
        at_p = torch.sigmoid(g.log_prob(y) - free.log_prob(y))  # g / (p + g), draws from p
        at_g = torch.sigmoid(free.log_prob(noise) - g.log_prob(noise))  # p / (p + g), draws from g
    if at_g.isnan().any():
        yield f"log_prob is NaN at {int(at_g.isnan().sum())} of {n} points inside `support`, {free.p.support}"
        return
    difference, integral = float(at_g.mean() - at_p.mean()), float(at_g.mean() / at_p.mean())
    error = float(((at_p.var() + at_g.var()) / n).sqrt())
    if abs(difference) > _threshold(1) * error + SLACK:
        yield (
            f"log_prob integrates to about {integral:.3g}, not to 1, or the draws are not from it: two means "
            f"that are equal for a sound density differ by {difference:.3g} ± {error:.2g}"
        )
    elif float(at_p.mean()) < 0.01:
        notes.append(f"whether log_prob integrates to 1 is hardly tested: far from normal, {d} dimensions")


def _frequencies(p: Any, num_samples: int, notes: list[str]) -> Iterator[str]:
    values, counts = p((num_samples,)).unique(dim=0, return_counts=True)
    probability = p.log_prob(values).exp().detach()
    if float(probability.sum()) > 1 + SLACK:
        yield f"the probabilities of {len(values)} values sum to {float(probability.sum()):.4g}, above 1"
    expected = num_samples * probability
    common = expected >= 25  # there a count is as good as normal
    if not common.any():
        if _is_bits(p.support):
            yield from _bits(p, num_samples, notes)
        else:
            notes.append("frequencies were not compared with probabilities: no value is common enough")
        return
    error = (expected * (1 - probability)).clamp(min=1e-12).sqrt()
    excess = ((counts - expected).abs() - SLACK) / error * common
    worst = int(excess.argmax())
    if float(excess[worst]) > _threshold(int(common.sum())):
        yield (
            f"draws and log_prob disagree: {values[worst].tolist()} came {int(counts[worst])} times in "
            f"{num_samples}, expected {float(expected[worst]):.1f} ± {float(error[worst]):.2g}"
        )


def _is_bits(support: Any) -> bool:
    return isinstance(getattr(support, "base_constraint", support), type(constraints.boolean))


def _bits(p: Any, num_samples: int, notes: list[str]) -> Iterator[str]:
    """Each bit given all others, on draws: `E[(z_i - P(z_i = 1 | others)) f] = 0` for `f` that is 1 or another bit."""
    with torch.no_grad():
        z = p((num_samples,))  # (n, d)
        log_p, residuals = p.log_prob(z), []
        chosen = torch.linspace(0, z.shape[1] - 1, min(z.shape[1], MOST_BITS)).round().long()
        for i in chosen.tolist():
            flipped = z.clone()
            flipped[:, i] = 1 - z[:, i]
            residuals.append((2 * z[:, i] - 1) * torch.sigmoid(p.log_prob(flipped) - log_p))
    e, n = torch.stack(residuals, -1), num_samples  # (n, m)
    product = (e[:, :, None] * z[:, None, chosen]).mean(0)  # (m, m)
    square = (e[:, :, None] ** 2 * z[:, None, chosen]).mean(0)
    own = torch.eye(len(chosen), dtype=torch.bool)
    values = torch.cat([e.mean(0), product[~own]])
    squares = torch.cat([(e**2).mean(0), square[~own]])
    tested = n * squares >= 25  # there a mean is as good as normal
    excess = (values.abs() - SLACK) / (squares / n).sqrt().clamp(min=1e-12) * tested
    worst = int(excess.argmax())
    if not float(excess[worst]) <= _threshold(len(values)):  # NaN as well
        yield (
            "draws and log_prob disagree: by how much a bit is set more often than log_prob says, given all others, "
            f"is a mean of {float(values[worst]):.3g} ± {float((squares[worst] / n).sqrt()):.2g}, not 0"
        )
    notes.append(f"whether the probabilities of 2**{z.shape[1]} values sum to 1 was not tested")


def _threshold(tests: int) -> float:
    """How many standard errors the worst of `tests` may be off: each identity gets half of the alarms."""
    return -NormalDist().inv_cdf(FALSE_ALARM / 4 / tests)
