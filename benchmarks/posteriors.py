r"""Posteriors as Pyro programs: six of posteriordb, whose moments are known from long runs, and one of ours.

| name | latents | what is hard about it |
|---|---|---|
| `eight_schools` | 10 | a funnel, written without centring |
| `kidscore_interaction` | 5 | coefficients that are nearly collinear, under a flat prior |
| `arK` | 7 | lags that are correlated |
| `low_dim_gauss_mix` | 5 | two components, told apart by their order |
| `blr` | 6 | scales that differ by a factor of 100 |
| `hmm_example` | 4 | discrete states, summed out |
| `hier_logit` | 50 | dimensions; its data are drawn here and it has no reference |

The data and the moments are read from the folder in `PPMODELS_POSTERIORDB`, `shared/reference/posteriordb` beside the
repository by default.

Reference:
    posteriordb: Testing, Benchmarking and Developing Bayesian Inference Algorithms, Magnusson et al., 2024,
    arXiv 2407.04967.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from benchmarks.environments import ROOT

Draws = npt.NDArray[np.float64]


class Moments(NamedTuple):
    """Mean and standard deviation of a scalar under the posterior, good to about 0.01 standard deviations."""

    mean: float
    sd: float


@dataclass(frozen=True, eq=False)
class Posterior:
    """A program, its data, and what its posterior should be.

    Attributes:
        name: by which `load` knows it.
        model: a Pyro program.
        args: what it is called with: float64 tensors, but for indices and sizes.
        labels: the reference's names of a site's elements, in the order in which they lie in memory.
        file: what the reference's files are called; `None` where there are none.
    """

    name: str
    model: Callable[..., Any]
    args: tuple[Any, ...]
    labels: Mapping[str, tuple[str, ...]]
    file: str | None = None

    def moments(self) -> dict[str, Moments]:
        """Of the reference draws, by scalar; none where there is no reference."""
        if self.file is None:
            return {}
        found = read(f"{self.file}.reference")["parameters"]
        return {name: Moments(of["mean"], of["sd"]) for name, of in found.items()}

    def scalars(self, draws: Mapping[str, Any]) -> dict[str, Draws]:
        """Draws `(chain, draw)` by scalar, from those of sites `(chain, draw, ...)` or a tree with a `posterior`."""
        group = draws.get("posterior", draws)
        found = dict[str, Draws]()
        for site, names in self.labels.items():
            values = np.asarray(group[site], dtype=np.float64)
            flat = values.reshape(*values.shape[:2], len(names))
            found |= {name: flat[..., i] for i, name in enumerate(names)}
        return found


def folder() -> Path:
    """Where the references lie, whether they do or not."""
    default = ROOT.parent / "shared" / "reference" / "posteriordb"
    return Path(os.environ.get("PPMODELS_POSTERIORDB") or default).expanduser()


def read(file: str) -> Any:
    """What a file of the folder holds.

    Raises:
        FileNotFoundError: if it is not there.
    """
    path = folder() / f"{file}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path.name} for the reference posteriors: set PPMODELS_POSTERIORDB to the folder that holds it"
        )
    return json.loads(path.read_text())


def load(name: str) -> Posterior:
    """A posterior by name.

    Raises:
        ValueError: the name is unknown.
        FileNotFoundError: the reference's files are not there.
    """
    if name not in POSTERIORS:
        raise ValueError(f"`name` is {name!r}, expected one of {', '.join(POSTERIORS)}")
    return POSTERIORS[name]()


# -- programs ------------------------------------------------------------------------------------------------


def eight_schools(sigma: Tensor, y: Tensor, *, tau_prior: Callable[[Tensor], Any] = dist.HalfCauchy) -> None:
    r""":math:`p(\mu) p(\tau) \prod_j p(\tilde\theta_j) p(y_j \mid \mu + \tau \tilde\theta_j)`, not centred."""
    zero, one = sigma.new_zeros(()), sigma.new_ones(())
    mu = pyro.sample("mu", dist.Normal(zero, 5.0))
    tau = pyro.sample("tau", tau_prior(5.0 * one))
    with pyro.plate("school", len(sigma)):
        theta_trans = pyro.sample("theta_trans", dist.Normal(zero, one))
        theta = pyro.deterministic("theta", mu + tau * theta_trans)  # (J,)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def kidscore_interaction(hs: Tensor, iq: Tensor, score: Tensor) -> None:
    r""":math:`p(\sigma) \prod_i p(y_i \mid \beta, \sigma)`, flat in :math:`\beta`."""
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5 * iq.new_ones(())))
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real_vector, (), (4,)))
    mean = beta[..., 0] + beta[..., 1] * hs + beta[..., 2] * iq + beta[..., 3] * hs * iq  # (N,)
    with pyro.plate("child", len(score)):
        pyro.sample("score", dist.Normal(mean, sigma), obs=score)


def ar_k(lags: Tensor, y: Tensor) -> None:
    r""":math:`p(\alpha) p(\beta) p(\sigma) \prod_t p(y_t \mid y_{t-1}, \dots, y_{t-K}, \alpha, \beta, \sigma)`."""
    zero, one = y.new_zeros(()), y.new_ones(())
    alpha = pyro.sample("alpha", dist.Normal(zero, 10.0))
    beta = pyro.sample("beta", dist.Normal(zero, 10.0).expand([lags.shape[-1]]).to_event(1))  # (K,)
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5 * one))
    with pyro.plate("time", len(y)):
        pyro.sample("y", dist.Normal(alpha + lags @ beta, sigma), obs=y)


def low_dim_gauss_mix(y: Tensor) -> None:
    r""":math:`p(\mu) p(\sigma) p(\theta) \prod_i \sum_k \theta_k p(y_i \mid \mu_k, \sigma_k)`, :math:`\mu` in order."""
    zero, one = y.new_zeros(()), y.new_ones(())
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    pyro.factor("mu_prior", dist.Normal(zero, 2.0).log_prob(mu).sum(-1))
    sigma = pyro.sample("sigma", dist.HalfNormal(2.0 * one).expand([2]).to_event(1))
    theta = pyro.sample("theta", dist.Beta(5.0 * one, 5.0 * one))
    first = theta.log() + dist.Normal(mu[..., 0], sigma[..., 0]).log_prob(y)  # (N,)
    second = (-theta).log1p() + dist.Normal(mu[..., 1], sigma[..., 1]).log_prob(y)
    with pyro.plate("data", len(y)):
        pyro.factor("mixture", torch.logaddexp(first, second))  # 7 times as fast as MixtureSameFamily, compiled


def blr(x: Tensor, y: Tensor) -> None:
    r""":math:`p(\beta) p(\sigma) \prod_i p(y_i \mid x_i^\top \beta, \sigma)`."""
    zero, one = y.new_zeros(()), y.new_ones(())
    beta = pyro.sample("beta", dist.Normal(zero, 10.0).expand([x.shape[-1]]).to_event(1))  # (D,)
    sigma = pyro.sample("sigma", dist.HalfNormal(10.0 * one))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def hmm_example(y: Tensor) -> None:
    r""":math:`p(\theta) p(\mu) \sum_z p(y_1 \mid z_1) \prod_{t > 1} \theta_{z_{t-1} z_t} p(y_t \mid \mu_{z_t})`.

    Steps are joined in pairs, which takes log N levels where a recursion takes N. `DiscreteHMM` does so too, but steps
    before it first emits, its start sums to one, and compiling it takes minutes.
    """
    one = y.new_ones(())
    with pyro.plate("state", 2):
        theta = pyro.sample("theta", dist.Dirichlet(y.new_ones(2)))  # (2, 2), rows from
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.positive_ordered_vector, (), (2,)))
    pyro.factor("mu_prior", dist.Normal(y.new_tensor([3.0, 10.0]), one).log_prob(mu).sum(-1))
    emitted = dist.Normal(mu, one).log_prob(y.unsqueeze(-1))  # (N, 2)
    steps = theta.log() + emitted[1:].unsqueeze(-2)  # (N - 1, 2, 2), from and to
    while (number := len(steps)) > 1:
        pairs = steps[: number - number % 2].unflatten(0, (-1, 2))
        through = pairs[:, 0].unsqueeze(-1) + pairs[:, 1].unsqueeze(-3)  # (number / 2, 2, 2, 2), from, through and to
        joined = torch.logaddexp(through[..., 0, :], through[..., 1, :])
        steps = torch.cat([joined, steps[number - number % 2 :]])
    pyro.factor("y", (emitted[0].unsqueeze(-1) + steps[0]).logsumexp((-2, -1)))


def hier_logit(group: Tensor, x: Tensor, z: Tensor, y: Tensor, num_groups: int) -> None:
    r""":math:`p(m) p(s) p(w) \prod_g p(a_g) p(b_g) \prod_i p(y_i \mid a_{g_i} + b_{g_i} z_i + x_i^\top w)`."""
    zero, one = z.new_zeros(()), z.new_ones(())
    m = pyro.sample("m", dist.Normal(zero, one).expand([2]).to_event(1))
    s = pyro.sample("s", dist.HalfNormal(one).expand([2]).to_event(1))
    w = pyro.sample("w", dist.Normal(zero, one).expand([x.shape[-1]]).to_event(1))
    with pyro.plate("group", num_groups):
        raw_a = pyro.sample("raw_a", dist.Normal(zero, one))  # (G,)
        raw_b = pyro.sample("raw_b", dist.Normal(zero, one))
    a, b = m[..., 0] + s[..., 0] * raw_a, m[..., 1] + s[..., 1] * raw_b
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=a[group] + b[group] * z + x @ w), obs=y)


# -- their data ----------------------------------------------------------------------------------------------


def _schools() -> Posterior:
    file = "eight_schools-eight_schools_noncentered"
    data, labels = read(f"{file}.data"), {"theta": _elements("theta", 8), "mu": ("mu",), "tau": ("tau",)}
    return Posterior("eight_schools", eight_schools, _tensors(data["sigma"], data["y"]), labels, file)


def _kidscore() -> Posterior:
    file = "kidiq-kidscore_interaction"
    data, labels = read(f"{file}.data"), {"beta": _elements("beta", 4), "sigma": ("sigma",)}
    args = _tensors(data["mom_hs"], data["mom_iq"], data["kid_score"])
    return Posterior("kidscore_interaction", kidscore_interaction, args, labels, file)


def _ar_k() -> Posterior:
    data = read("arK-arK.data")
    K, (y,) = data["K"], _tensors(data["y"])
    lags = torch.stack([y[K - k : len(y) - k] for k in range(1, K + 1)], -1)  # (T - K, K), the last value first
    labels = {"alpha": ("alpha",), "beta": _elements("beta", K), "sigma": ("sigma",)}
    return Posterior("arK", ar_k, (lags, y[K:]), labels, "arK-arK")


def _mixture() -> Posterior:
    file = "low_dim_gauss_mix-low_dim_gauss_mix"
    labels = {"mu": _elements("mu", 2), "sigma": _elements("sigma", 2), "theta": ("theta",)}
    return Posterior("low_dim_gauss_mix", low_dim_gauss_mix, _tensors(read(f"{file}.data")["y"]), labels, file)


def _blr() -> Posterior:
    data = read("sblrc-blr.data")
    labels = {"beta": _elements("beta", data["D"]), "sigma": ("sigma",)}
    return Posterior("blr", blr, _tensors(data["X"], data["y"]), labels, "sblrc-blr")


def _hmm() -> Posterior:
    file = "hmm_example-hmm_example"
    labels = {"theta": (*_elements("theta1", 2), *_elements("theta2", 2)), "mu": _elements("mu", 2)}
    return Posterior("hmm_example", hmm_example, _tensors(read(f"{file}.data")["y"]), labels, file)


def _hier_logit(n: int = 2000, num_groups: int = 20, x_dim: int = 6) -> Posterior:
    """Drawn from the program at parameters within its prior."""
    rng = np.random.default_rng(1)
    group, x, z = rng.integers(0, num_groups, n), rng.normal(size=(n, x_dim)), rng.normal(size=n)
    a, b, w = -0.5 + 0.8 * rng.normal(size=num_groups), 0.4 + 0.4 * rng.normal(size=num_groups), rng.normal(size=x_dim)
    y = rng.random(n) < 1 / (1 + np.exp(-(a[group] + b[group] * z + x @ (0.7 * w))))
    sizes = {"m": 2, "s": 2, "w": x_dim, "raw_a": num_groups, "raw_b": num_groups}
    labels = {site: _elements(site, size) for site, size in sizes.items()}
    return Posterior("hier_logit", hier_logit, (torch.from_numpy(group), *_tensors(x, z, y), num_groups), labels)


def _elements(name: str, size: int) -> tuple[str, ...]:
    return tuple(f"{name}[{i + 1}]" for i in range(size))


def _tensors(*values: Any) -> tuple[Tensor, ...]:
    return tuple(torch.as_tensor(np.asarray(value), dtype=torch.float64) for value in values)


POSTERIORS: dict[str, Callable[[], Posterior]] = {
    "eight_schools": _schools,
    "kidscore_interaction": _kidscore,
    "arK": _ar_k,
    "low_dim_gauss_mix": _mixture,
    "blr": _blr,
    "hmm_example": _hmm,
    "hier_logit": _hier_logit,
}
