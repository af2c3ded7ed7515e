"""Small Pyro programs, grouped by what is expected of their densities.

| table | holds |
|---|---|
| `RIGHT` | what is mapped over and gives the numbers of one run at a time |
| `LOOP` | what is right one run at a time, with a warning: its control flow follows a latent |
| `REFUSED` | what no chain can be right about: a `ValueError` that says why |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroSample
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from inference.density import FlatDensity
from inference.flags import default_dtype

__all__ = ["LOOP", "REFUSED", "RIGHT", "Program", "cases"]

Model: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Program:
    """A program and what it is called with.

    Attributes:
        model: the program.
        args: what it is called with.
        kwargs: what it is called with by name.
        said: a pattern of what is said when it is refused.
    """

    model: Model
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    said: str = ""

    def density(self, dtype: torch.dtype = torch.float64) -> FlatDensity:
        return FlatDensity.of(self.model, *self.args, kwargs=self.kwargs, dtype=dtype)


RIGHT: dict[str, Program] = {}
LOOP: dict[str, Program] = {}
REFUSED: dict[str, Program] = {}


def right(*args: Any, **kwargs: Any) -> Callable[[Model], Model]:
    return _entering(RIGHT, args, kwargs)


def loop(*args: Any, **kwargs: Any) -> Callable[[Model], Model]:
    return _entering(LOOP, args, kwargs)


def refused(said: str, *args: Any) -> Callable[[Model], Model]:
    return _entering(REFUSED, args, {}, said=said)


def _entering(
    table: dict[str, Program], args: tuple[Any, ...], kwargs: Mapping[str, Any], **about: str
) -> Callable[[Model], Model]:
    def enter(model: Model) -> Model:
        table[model.__name__] = Program(model, args, kwargs, **about)
        return model

    return enter


def cases(table: Mapping[str, Program]) -> list[Any]:
    """Programs of a table as parameters of a test, by name."""
    return [pytest.param(program, id=name) for name, program in table.items()]


_generator = torch.Generator().manual_seed(20)


def _numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_generator, dtype=torch.float64)


Y, X, POINT = _numbers(6), _numbers(6, 3), _numbers()
TABLE = _numbers(3, 4)
SERIES = torch.tensor([-2.1, -1.7, 2.3, 1.9], dtype=torch.float64)
TIMES, CURVE = torch.linspace(0.0, 3.0, 20, dtype=torch.float64), _numbers(20)
COUNTS = torch.tensor([0.0, 3.0, 1.0, 5.0, 2.0, 0.0], dtype=torch.float64)
LEVELS = torch.tensor([0, 2, 1, 3, 1, 0])
GROUP = torch.tensor([0, 1, 1, 2, 0, 2])
SEEN = torch.tensor([True, False, True, True, False, True])

# --- one law after another


@right(Y)
def normal(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.5))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, sigma), obs=y)


@right(X)
def multivariate_normal(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.MultivariateNormal(torch.zeros(3), torch.eye(3) + 0.3))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.MultivariateNormal(mean, torch.eye(3)), obs=x)


@right(X)
def covariance_of_latents(x: Tensor) -> None:
    loading = pyro.sample("loading", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    noise = pyro.sample("noise", dist.LogNormal(torch.zeros(3), 0.5).to_event(1))
    covariance = torch.outer(loading, loading) + noise.diag_embed()
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.MultivariateNormal(torch.zeros(3), covariance), obs=x)


@right(X)
def correlations(x: Tensor) -> None:
    L = pyro.sample("L", dist.LKJCholesky(3, 2.0))
    scale = pyro.sample("scale", dist.HalfCauchy(torch.ones(3)).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.MultivariateNormal(torch.zeros(3), scale_tril=scale.unsqueeze(-1) * L), obs=x)


@right(X)
def correlation_matrix(x: Tensor) -> None:
    R = pyro.sample("R", dist.LKJ(3, 1.5))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.MultivariateNormal(torch.zeros(3), R), obs=x)


@right(LEVELS)
def shares(level: Tensor) -> None:
    share = pyro.sample("share", dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0, 1.5])))
    with pyro.plate("data", len(level)):
        pyro.sample("level", dist.Categorical(share), obs=level)


@right(Y)
def tails(y: Tensor) -> None:
    freedom = pyro.sample("freedom", dist.Gamma(2.0, 0.5))
    scale = pyro.sample("scale", dist.InverseGamma(3.0, 2.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.StudentT(1 + freedom, 0.3, scale), obs=y)


@right(COUNTS, X)
def poisson(count: Tensor, x: Tensor) -> None:
    slope = pyro.sample("slope", dist.Normal(torch.zeros(3), 0.5).to_event(1))
    with pyro.plate("data", len(count)):
        pyro.sample("count", dist.Poisson((x @ slope).exp()), obs=count)


@right(COUNTS)
def negative_binomial(count: Tensor) -> None:
    size, logits = pyro.sample("size", dist.Gamma(2.0, 1.0)), pyro.sample("logits", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(count)):
        pyro.sample("count", dist.NegativeBinomial(size, logits=logits), obs=count)


@right(COUNTS)
def many_zeros(count: Tensor) -> None:
    rate, gate = pyro.sample("rate", dist.LogNormal(0.0, 1.0)), pyro.sample("gate", dist.Beta(1.5, 2.0))
    with pyro.plate("data", len(count)):
        pyro.sample("count", dist.ZeroInflatedPoisson(rate, gate=gate), obs=count)


@right(COUNTS)
def binomial(count: Tensor) -> None:
    logits = pyro.sample("logits", dist.Logistic(0.0, 1.0))
    with pyro.plate("data", len(count)):
        pyro.sample("count", dist.Binomial(7, logits=logits), obs=count)


@right(COUNTS)
def beta_binomial(count: Tensor) -> None:
    a, b = pyro.sample("a", dist.Exponential(0.5)), pyro.sample("b", dist.Weibull(2.0, 1.5))
    with pyro.plate("data", len(count)):
        pyro.sample("count", dist.BetaBinomial(a, b, 7), obs=count)


@right(LEVELS, Y)
def levels(level: Tensor, x: Tensor) -> None:
    normals = dist.Normal(torch.zeros(3), 2.0).to_event(1)
    cut = pyro.sample("cut", dist.TransformedDistribution(normals, dist.transforms.OrderedTransform()))
    slope = pyro.sample("slope", dist.Laplace(0.0, 1.0))
    with pyro.plate("data", len(level)):
        pyro.sample("level", dist.OrderedLogistic(slope * x, cut), obs=level)


@right(Y)
def angles(y: Tensor) -> None:
    direction = pyro.sample("direction", dist.Uniform(-3.0, 3.0))
    focus = pyro.sample("focus", dist.Gamma(3.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.VonMises(direction, focus), obs=y)


@right(X)
def low_rank(x: Tensor) -> None:
    loading = pyro.sample("loading", dist.Normal(torch.zeros(3, 1), 1.0).to_event(2))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.LowRankMultivariateNormal(torch.zeros(3), loading, torch.ones(3)), obs=x)


@right(Y)
def mixture_likelihood(y: Tensor) -> None:
    share = pyro.sample("share", dist.Dirichlet(torch.ones(2)))
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(share), dist.Normal(mu, 0.7)), obs=y)


@right(POINT)
def mixture_prior(y: Tensor) -> None:
    bumps = dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.3, 0.7])), dist.LogNormal(torch.arange(2.0), 0.4))
    z = pyro.sample("z", bumps)
    pyro.sample("y", dist.Normal(z, 1.0), obs=y)


@right(Y)
def floor(y: Tensor) -> None:
    lowest = pyro.sample("lowest", dist.LogNormal(0.0, 0.5))
    with pyro.plate("data", len(y)):
        income = pyro.sample("income", dist.Pareto(lowest, 3.0))
        pyro.sample("y", dist.Normal(income.log(), 0.5), obs=y)


# --- discrete sites, summed out


@right(Y)
def mixture(y: Tensor) -> None:
    share = pyro.sample("share", dist.Dirichlet(torch.tensor([2.0, 1.0])))
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    with pyro.plate("data", len(y)):
        k = pyro.sample("k", dist.Categorical(share))
        pyro.sample("y", dist.Normal(mu[k], 0.8), obs=y)


@right(X)
def mixture_by_vindex(x: Tensor) -> None:
    share = pyro.sample("share", dist.Dirichlet(torch.ones(2)))
    with pyro.plate("component", 2):
        mean = pyro.sample("mean", dist.Normal(torch.zeros(3), 2.0).to_event(1))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(share))
        pyro.sample("x", dist.Normal(Vindex(mean)[k], 1.0).to_event(1), obs=x)


@right(Y)
def switch(y: Tensor) -> None:
    odds, jump = pyro.sample("odds", dist.Normal(0.0, 1.0)), pyro.sample("jump", dist.Normal(0.0, 3.0))
    with pyro.plate("data", len(y)):
        on = pyro.sample("on", dist.Bernoulli(logits=odds))
        named = pyro.deterministic("level", jump * on)
        pyro.sample("y", dist.Normal(named, 0.5), obs=y)


@right(Y, COUNTS)
def two_mixtures(y: Tensor, count: Tensor) -> None:
    """Sums in two plates that meet in a parameter, and in two sites of one of them."""
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    with pyro.plate("people", len(y)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])))
        pyro.sample("y", dist.Normal(mu[k], 1.0), obs=y)
        pyro.sample("again", dist.Normal(mu[k] + 1, 2.0), obs=y.flip(0))
    with pyro.plate("shops", len(count)):
        j = pyro.sample("j", dist.Bernoulli(0.3))
        pyro.sample("count", dist.Poisson((mu.sum() / 5 + j).exp()), obs=count)


@right(TABLE)
def grouped_mixture(table: Tensor) -> None:
    """One component for all the data of a group."""
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    with pyro.plate("group", len(table), dim=-2):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])))
        with pyro.plate("member", table.shape[1], dim=-1):
            pyro.sample("table", dist.Normal(mu[k], 1.0), obs=table)


@right(SERIES)
def hidden_markov(series: Tensor) -> None:
    stay = pyro.sample("stay", dist.Beta(3.0, 2.0))
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    change = torch.stack([stay, 1 - stay, 1 - stay, stay]).reshape(2, 2)
    state: Any = 0
    for t in pyro.markov(range(len(series))):
        state = pyro.sample(f"state{t}", dist.Categorical(change[state]))
        pyro.sample(f"y{t}", dist.Normal(mu[state], 1.0), obs=series[t])


@right(TABLE)
def hidden_markov_plate(table: Tensor) -> None:
    change = pyro.sample("change", dist.Dirichlet(torch.ones(2, 2) + torch.eye(2)).to_event(1))
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    with pyro.plate("series", len(table)):
        state: Any = 0
        for t in pyro.markov(range(table.shape[1])):
            state = pyro.sample(f"state{t}", dist.Categorical(change[state]))
            pyro.sample(f"y{t}", dist.Normal(mu[state], 1.0), obs=table[:, t])


@right(SERIES)
def sequential_mixture(series: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    for i in pyro.plate("data", len(series)):
        k = pyro.sample(f"k{i}", dist.Categorical(torch.tensor([0.2, 0.8])))
        pyro.sample(f"y{i}", dist.Normal(mu[k], 1.0), obs=series[i])


@right(Y)
def member(y: Tensor) -> None:
    """A continuous latent that depends on a discrete one."""
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    with pyro.plate("data", len(y)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.7])))
        z = pyro.sample("z", dist.Normal(mu[k], 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


@right(Y)
def one_switch(y: Tensor) -> None:
    """A discrete site outside the plate: one for all data."""
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.5])))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu[k], 1.0), obs=y)


# --- time and space


@right(SERIES)
def discrete_hmm(series: Tensor) -> None:
    change = pyro.sample("change", dist.Dirichlet(torch.ones(2, 2)).to_event(1))
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    pyro.sample("series", dist.DiscreteHMM(torch.zeros(2), change.log(), dist.Normal(mu, 1.0)), obs=series)


@right(SERIES.unsqueeze(-1))
def gaussian_hmm(series: Tensor) -> None:
    drift = pyro.sample("drift", dist.LogNormal(0.0, 0.5))
    one = torch.eye(1)
    unit = dist.MultivariateNormal(torch.zeros(1), one)
    moves = dist.MultivariateNormal(torch.zeros(1), drift * one)
    pyro.sample("series", dist.GaussianHMM(unit, one, moves, one, unit, duration=len(series)), obs=series)


@right(SERIES)
def random_walk(series: Tensor) -> None:
    step = pyro.sample("step", dist.LogNormal(0.0, 0.5))
    moves = pyro.sample("moves", dist.Normal(torch.zeros(len(series)), step).to_event(1))
    path = pyro.deterministic("path", moves.cumsum(-1))
    pyro.sample("series", dist.Normal(path, 0.5).to_event(1), obs=series)


@right(CURVE, TIMES)
def gaussian_process(curve: Tensor, times: Tensor) -> None:
    length, noise = pyro.sample("length", dist.LogNormal(0.0, 0.5)), pyro.sample("noise", dist.HalfNormal(1.0))
    squares = (times.unsqueeze(-1) - times).square()
    K = (-0.5 * squares / length**2).exp() + (0.1 + noise) * torch.eye(len(times))
    pyro.sample("curve", dist.MultivariateNormal(torch.zeros(len(times)), K), obs=curve)


@right(Y, X)
def horseshoe(y: Tensor, x: Tensor) -> None:
    all_scale = pyro.sample("all_scale", dist.HalfCauchy(1.0))
    scale = pyro.sample("scale", dist.HalfCauchy(torch.ones(3)).to_event(1))
    slope = pyro.sample("slope", dist.Normal(torch.zeros(3), all_scale * scale).to_event(1))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(x @ slope, 1.0), obs=y)


# --- masks, plates, handlers


@right(Y, SEEN)
def masked(y: Tensor, seen: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)), poutine.mask(mask=seen):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


@right(Y, SEEN)
def missing(y: Tensor, seen: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y, obs_mask=seen)


@right(TABLE)
def nested_plates(table: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("group", table.shape[1], dim=-1):
        own = pyro.sample("own", dist.Normal(mu, 1.0))
        with pyro.plate("measurement", table.shape[0], dim=-2):
            pyro.sample("table", dist.Normal(own, 0.5), obs=table)


@right(TABLE)
def crossed_plates(table: Tensor) -> None:
    rows, columns = pyro.plate("rows", table.shape[0], dim=-2), pyro.plate("columns", table.shape[1], dim=-1)
    with rows:
        height = pyro.sample("height", dist.Normal(0.0, 1.0))
    with columns:
        depth = pyro.sample("depth", dist.Exponential(1.0))
    with rows, columns:
        cell = pyro.sample("cell", dist.Normal(height, depth))
        pyro.sample("table", dist.Normal(cell, 1.0), obs=table)


@right(SERIES)
def sequential_plate(series: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    for i in pyro.plate("data", len(series)):
        z = pyro.sample(f"z{i}", dist.Normal(mu, 1.0))
        pyro.sample(f"y{i}", dist.Normal(z, 1.0), obs=series[i])


@right(Y, GROUP)
def groups(y: Tensor, group: Tensor) -> None:
    with pyro.plate("groups", 3):
        level = pyro.sample("level", dist.Cauchy(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(level[group], 1.0), obs=y)


def _centred(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        z = pyro.sample("z", dist.Normal(mu, 2.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


RIGHT["reparametrised"] = Program(poutine.reparam(_centred, config={"z": LocScaleReparam(0.0)}), (Y,))
RIGHT["conditioned"] = Program(poutine.condition(_centred, data={"mu": torch.tensor(0.3, dtype=torch.float64)}), (Y,))


@right(POINT)
def learned(y: Tensor) -> None:
    centre = pyro.param("centre", torch.tensor(0.4))
    width = pyro.param("width", torch.tensor(2.0), constraint=constraints.positive)
    z = pyro.sample("z", dist.Normal(centre, width))
    pyro.sample("y", dist.Normal(z, 1.0), obs=y)


@right(Y)
def tempered(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with poutine.scale(scale=0.25), pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


@right(Y)
def truncated(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.factor("above", -torch.special.log_ndtr(mu))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


@right(Y)
def named(y: Tensor) -> None:
    """What is computed has a name, once as a deterministic site and once as a point mass."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    twice = pyro.deterministic("twice", 2 * mu)
    with pyro.plate("data", len(y)):
        shifted = pyro.sample("shifted", dist.Delta(twice + 1))
        pyro.sample("y", dist.Normal(shifted, 1.0), obs=y)


# --- modules, tensors, arguments


with default_dtype(torch.float64), torch.random.fork_rng(devices=[]):
    torch.manual_seed(1)
    _net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    _float32 = nn.Linear(3, 1, dtype=torch.float32)


@right(X)
def decoder(x: Tensor) -> None:
    net = pyro.module("net", _net)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(net(z), 0.5).to_event(1), obs=x)


class Layer(PyroModule):
    """A regression whose priors were made with validation on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = PyroModule[nn.Linear](3, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0, validate_args=True).expand([1, 3]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 2.0, validate_args=True).expand([1]).to_event(1))
        self.noise = PyroSample(dist.HalfNormal(1.0, validate_args=True))

    def forward(self, y: Tensor, x: Tensor) -> None:
        mean, noise = self.linear(x).squeeze(-1), self.noise
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(mean, noise), obs=y)


with default_dtype(torch.float64):
    RIGHT["layer"] = Program(Layer(), (Y, X))


@right(Y, POINT)
def chosen(y: Tensor, total: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(torch.zeros(6), 1.0).to_event(1))
    pyro.sample("total", dist.Normal(z[y > 0].sum(), 1.0), obs=total)


@right(POINT)
def solved(y: Tensor) -> None:
    a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    A = torch.eye(2) + torch.outer(a, a)
    L = torch.linalg.cholesky(A)
    pyro.factor("volume", torch.logdet(A) - L[1, 0])
    pyro.sample("y", dist.Normal(torch.linalg.solve(A, a).sum(), 1.0), obs=y)


@right({"y": Y, "x": (X, 0.5)}, groups=[GROUP, None], noise=torch.tensor(0.7, dtype=torch.float64))
def packed(data: dict[str, Any], *, groups: list[Any], noise: Tensor) -> None:
    x, shrink = data["x"]
    slope = pyro.sample("slope", dist.Normal(torch.zeros(3), shrink).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ slope + groups[0], noise), obs=data["y"])


@right(Y)
def bare_vector(y: Tensor) -> None:
    """No plates: a vector of latents, and one observed under one law."""
    z = pyro.sample("z", dist.Normal(torch.zeros(6), 1.0))
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("own", dist.Normal(z, 0.5), obs=y)
    pyro.sample("shared", dist.Normal(mu, 2.0), obs=y)


@right()
def funnel() -> None:
    width = pyro.sample("width", dist.Normal(0.0, 3.0))
    with pyro.plate("across", 4):
        pyro.sample("x", dist.Normal(0.0, (width / 2).exp()))


# --- supports


@right(POINT)
def positive(y: Tensor) -> None:
    a = pyro.sample("a", dist.ImproperUniform(constraints.positive, (), ()))
    pyro.sample("y", dist.Normal(a, 0.5), obs=y)


@right(SERIES[1:])
def ordered(y: Tensor) -> None:
    c = pyro.sample("c", dist.ImproperUniform(constraints.ordered_vector, (), (3,)))
    pyro.sample("y", dist.Normal(c, 1.0).to_event(1), obs=y)


@right(SERIES)
def anywhere(y: Tensor) -> None:
    v = pyro.sample("v", dist.ImproperUniform(constraints.real_vector, (), (4,)))
    pyro.sample("y", dist.Normal(v, 1.5).to_event(1), obs=y)


@right(POINT)
def remainder(y: Tensor) -> None:
    a = pyro.sample("a", dist.Uniform(0.0, 1.0))
    b = pyro.sample("b", dist.Uniform(0.0, 1 - a))
    pyro.sample("y", dist.Normal(a + b, 0.3), obs=y)


# --- right, one chain at a time


@loop(POINT)
def branch(y: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    slope = 3.0 if z > 0 else 0.5
    pyro.sample("y", dist.Normal(slope * z, 1.0), obs=y)


@loop(POINT)
def selected(y: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(z[z > 0].sum(), 1.0), obs=y)


@loop(Y)
def written(y: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    mean = torch.zeros(len(y))
    mean[0], mean[1:] = z, 2 * z
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


@loop(TABLE.exp().round())
def multinomial(counts: Tensor) -> None:
    """Torch writes into a tensor here, by a mask."""
    share = pyro.sample("share", dist.Dirichlet(torch.ones(4)))
    with pyro.plate("data", len(counts)):
        pyro.sample("counts", dist.Multinomial(probs=share, validate_args=False), obs=counts)


# --- refused

TAKEN_OUT = r"rises by .* where its gradient says .*a value is taken out of its graph \(`\.item\(\)`"
NOISY = "`model` has another log density whenever it is run: it draws noise"


@refused(TAKEN_OUT, POINT)
def item(y: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(z.item(), 0.3), obs=y)


@refused(TAKEN_OUT, POINT)
def as_float(y: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(0.0, 0.5 + float(z) ** 2), obs=y)


@refused(TAKEN_OUT, POINT)
def detached(y: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(z.detach(), 0.3), obs=y)


@refused(TAKEN_OUT, POINT)
def without_grad(y: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with torch.no_grad():
        mean = 2 * z
    pyro.sample("y", dist.Normal(mean, 0.3), obs=y)


@refused("`model` has no gradient, which chains need: .*modified by an inplace operation", Y)
def recursion(y: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    mean = torch.zeros(len(y))
    mean[0] = z
    for t in range(1, len(y)):
        mean[t] = mean[t - 1] * z
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


@refused("plate `data` draws 2 of 6 anew in every run", Y)
def subsampled(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y), subsample_size=2) as rows:
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y[rows])


@refused("site `z` is masked, so where the mask is False its density does not count", Y, SEEN)
def masked_latent(y: Tensor, seen: Tensor) -> None:
    with pyro.plate("data", len(y)):
        with poutine.mask(mask=seen):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


@refused("site `z` is masked", Y, SEEN)
def masked_law(y: Tensor, seen: Tensor) -> None:
    with pyro.plate("data", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).mask(seen))
        with poutine.mask(mask=seen):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)


@refused(r"site `k` is discrete \(Poisson\) with too many values to sum over", POINT)
def poisson_latent(y: Tensor) -> None:
    z, k = pyro.sample("z", dist.Normal(0.0, 1.0)), pyro.sample("k", dist.Poisson(3.0))
    pyro.sample("y", dist.Normal(z + k, 1.0), obs=y)


@refused(r"site `k` is discrete \(Independent\) with too many values to sum over", POINT)
def many_switches(y: Tensor) -> None:
    z, k = pyro.sample("z", dist.Normal(0.0, 1.0)), pyro.sample("k", dist.Bernoulli(torch.ones(3) / 2).to_event(1))
    pyro.sample("y", dist.Normal(z + k.sum(-1), 1.0), obs=y)


@refused(r"site `y` has a log probability of shape \(6, 6\), expected \(6, 1\) from its distribution", Y)
def outer_product(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(torch.zeros(6), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(mu[:, None], 1.0), obs=y)


@refused(
    r"site `y` scores values of shape \(6,\) as \(6, 6\), each of them 6 times, along an axis that is no plate",
    Y,
    X,
)
def outer_product_in_a_plate(y: Tensor, x: Tensor) -> None:
    slope = pyro.sample("slope", dist.Normal(torch.zeros(3, 1), 1.0).to_event(2))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(x @ slope, 1.0), obs=y)


@refused(r"site `mu` has a log probability of shape \(2,\) with an axis that is no plate", Y)
def vector_beside_a_sum(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 1.0))
    with pyro.plate("data", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.5)).long()
        pyro.sample("y", dist.Normal(mu[k], 1.0), obs=y)


class Changing:
    """Has another latent in every second run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, y: Tensor) -> None:
        self.runs += 1
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        if self.runs % 2:
            z = z + pyro.sample("now_and_then", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


REFUSED["changing"] = Program(
    Changing(), (POINT,), said="site `now_and_then` is not the same in every run of the program"
)


@refused(NOISY, POINT)
def noisy(y: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(z + torch.randn(()), 1.0), obs=y)


@refused(NOISY, Y)
def summed_one_after_another(y: Tensor) -> None:
    """A mark that the sum in parallel does not follow: the site would be drawn."""
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.5), infer={"enumerate": "sequential"})
        pyro.sample("y", dist.Normal(mu[k.long()], 1.0), obs=y)


@refused("`model` has no continuous latent sites: expected at least one for chains to move", Y)
def no_latents(y: Tensor) -> None:
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)


@refused("no continuous latent sites.*site `k` is discrete, and would be summed out", POINT)
def only_discrete(y: Tensor) -> None:
    k = pyro.sample("k", dist.Bernoulli(0.5))
    pyro.sample("y", dist.Normal(k, 1.0), obs=y)


@refused(r"`model` mixes types of floats .*pass `dtype=torch\.float32`", Y, X)
def single_precision(y: Tensor, x: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu + _float32(x).squeeze(-1), 1.0), obs=y)


@refused(r"site `W` has support PositiveDefinite\(\), expected one that `torch\.distributions\.biject_to` knows")
def wishart() -> None:
    pyro.sample("W", dist.Wishart(torch.tensor(4.0), torch.eye(2)))


@refused("site `heading` has support .*expected one that `torch.distributions.biject_to` knows")
def direction() -> None:
    pyro.sample("heading", dist.ProjectedNormal(torch.ones(2)))


@right()
def angle() -> None:
    pyro.sample("heading", dist.VonMises(0.0, 2.0))


@right(POINT)
def shifted(y: Tensor) -> None:
    later = dist.transforms.AffineTransform(-3.0, 1.0)
    after = pyro.sample("after", dist.TransformedDistribution(dist.Exponential(1.0), later))
    pyro.sample("y", dist.Normal(after, 1.0), obs=y)


@right(POINT)
def stretched(y: Tensor) -> None:
    wider = dist.transforms.AffineTransform(-3.0, 6.0)
    part = pyro.sample("part", dist.TransformedDistribution(dist.Beta(1.0, 1.0), wider))
    pyro.sample("y", dist.Normal(part, 1.0), obs=y)


@refused("site `z`", Y)
def support_by_component(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.7])))
        z = pyro.sample("z", dist.Pareto(torch.tensor([1.0, 3.0])[k], 2.0))
        pyro.sample("y", dist.Normal(mu + z, 1.0), obs=y)


@refused("at site 'grey'.*within the support", Y.sigmoid())
def grey_levels(grey: Tensor) -> None:
    p = pyro.sample("p", dist.Beta(1.0, 1.0))
    with pyro.plate("data", len(grey)):
        pyro.sample("grey", dist.Bernoulli(p), obs=grey)
