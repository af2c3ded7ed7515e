"""Annealing there and back against closed forms: unbiased weights, bounds on their sides, posteriors, resumption.

Seeds are fixed; a test at 4 standard errors would fail for one seed in 16,000 for each number that it compares.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from arviz_stats.base.array import array_stats
from torch import Tensor

import inference.annealing.running
from inference.annealing import AnnealingWarning, Pass, ais, anneal_back, anneal_data, bdmc, posterior_data
from inference.annealing.hamiltonian import Kinetics
from inference.annealing.mixing import rhat
from inference.annealing.target import Target
from inference.batches import TensorData, as_data
from inference.bounds import AIS, EUBO, IWAE, ReverseAIS, estimate
from inference.draws import log_weights
from inference.flags import validating
from inference.graph import Mode
from inference.pair import Pair
from inference.schedule import Annealing
from inference.simulate import Simulated, simulate
from inference.weights import Weights
from tests.oracles import Factor, LinearGaussian

pytestmark = pytest.mark.usefixtures("double")
toy = LinearGaussian.make()
wrong = Pair(toy.model, toy.wrong)


def short(**settings: Any) -> Annealing:
    return Annealing(**({"num_leapfrogs": 3, "num_pilot": 30, "num_warmup": 10, "num_chains": 8} | settings))


def log_w(passes: Iterator[Pass]) -> Tensor:
    return torch.cat([found.weights.log_w for found in passes], 1)


def deviation(ratios: Tensor) -> float:
    """How many standard errors the mean of independent ratios is from one."""
    return float((ratios.mean() - 1) / ratios.std() * math.sqrt(ratios.numel()))


class Case(NamedTuple):
    """A pair whose evidence is known."""

    model: Callable[[Tensor], None]
    guide: Callable[[Tensor], None]
    x: Tensor
    log_prob: Callable[[Tensor], Tensor]


def linear_gaussian() -> Case:
    x = toy.data(100)
    return Case(toy.model, toy.wrong, x, toy.log_prob)


def beta_binomial() -> Case:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Beta(2.0, 3.0))
            pyro.sample("x", dist.Binomial(10, z), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Beta(2.0 + 0.5 * x, 3.0))

    x = torch.arange(100.0) % 11
    return Case(model, guide, x, dist.BetaBinomial(torch.tensor(2.0), torch.tensor(3.0), 10).log_prob)


def gamma_poisson() -> Case:
    """A support that no Gaussian guide has, and a guide of another family on it."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(2.0, 0.5))
            pyro.sample("x", dist.Poisson(z), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.LogNormal((1 + x).log(), 1.0))

    x = torch.arange(100.0) % 9
    return Case(model, guide, x, dist.GammaPoisson(torch.tensor(2.0), torch.tensor(0.5)).log_prob)


def dirichlet_multinomial() -> Case:
    alpha = torch.tensor([1.0, 2.0, 3.0])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Dirichlet(alpha))
            pyro.sample("x", dist.Multinomial(probs=z, validate_args=False), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Dirichlet(alpha + 0.3 * x))

    x = torch.stack(
        [torch.arange(100.0) % 4, torch.arange(100.0) % 3, 7 - torch.arange(100.0) % 4 - torch.arange(100.0) % 3], -1
    )
    return Case(model, guide, x, dist.DirichletMultinomial(alpha, 7).log_prob)


def moving_support() -> Case:
    """w ~ Gamma(2, 1), z ~ U(0, w): z is exponential, x ~ N(z, 1) an exponentially modified normal."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            w = pyro.sample("w", dist.Gamma(2.0, 1.0))
            z = pyro.sample("z", dist.Uniform(torch.zeros_like(w), w))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            w = pyro.sample("w", dist.Gamma(3.0, 1.0))
            pyro.sample("z", dist.Uniform(torch.zeros_like(w), w))

    x = torch.linspace(-2.0, 4.0, 100)
    return Case(model, guide, x, lambda x: 0.5 - x + torch.special.log_ndtr(x - 1))


def two_layers() -> Case:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(z2.sum(-1), 1.0))
            pyro.sample("x", dist.Normal(z1, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Normal(0.5 * x, 1.0))
            pyro.sample("z2", dist.Normal(0.3 * z1.unsqueeze(-1) * torch.ones(2), 1.0).to_event(1))

    x = torch.linspace(-3.0, 3.0, 100)
    return Case(model, guide, x, dist.Normal(0.0, 2.0).log_prob)


def enumerated() -> Case:
    """The latent's own prior is a mixture: a discrete parent that is summed out."""
    loc, weight = torch.tensor([-2.0, 0.0, 3.0]), torch.tensor([0.5, 0.2, 0.3])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(weight), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(loc[y], 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.9 * x, 0.8))

    x = torch.linspace(-4.0, 5.0, 100)
    marginal = dist.MixtureSameFamily(dist.Categorical(weight), dist.Normal(loc, math.sqrt(1.25)))
    return Case(model, guide, x, marginal.log_prob)


def plates_on_either_side() -> Case:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2), pyro.plate("items", 3, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2), pyro.plate("items", 3, dim=-1):
            pyro.sample("z", dist.Normal(0.3 * x.unsqueeze(-1) * torch.ones(2), 1.0).to_event(1))

    x = torch.linspace(-2.0, 2.0, 300).reshape(100, 3)
    return Case(model, guide, x, lambda x: dist.Normal(0.0, math.sqrt(3)).log_prob(x).sum(-1))


def two_modes() -> Case:
    """A factor makes the joint e^2.5 times a mixture of two normals, whatever the prior."""
    modes = dist.MixtureSameFamily(
        dist.Categorical(torch.tensor([0.3, 0.7])), dist.Normal(torch.tensor([-3.0, 3.0]), 1.0)
    )

    def model(x: Tensor) -> None:
        prior = dist.Normal(0.0, 4.0)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            pyro.factor("rest", 2.5 + modes.log_prob(z) - prior.log_prob(z))

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 3.0))

    return Case(model, guide, torch.zeros(100, 1), lambda x: torch.full((len(x),), 2.5))


def a_wall() -> Case:
    """The likelihood is one within a unit of zero and zero outside: weights of minus infinity."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("inside", torch.where(z.abs() < 1, 0.0, -math.inf))

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 0.9))

    return Case(
        model, guide, torch.zeros(100, 1), lambda x: torch.full((len(x),), math.log(math.erf(1 / math.sqrt(2))))
    )


CASES = [
    linear_gaussian, beta_binomial, gamma_poisson, dirichlet_multinomial, moving_support,
    two_layers, enumerated, plates_on_either_side, two_modes, a_wall,
]  # fmt: skip


@pytest.mark.parametrize("start", ["guide", "prior"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_weights_are_unbiased(case: Callable[[], Case], start: Any) -> None:
    """The mean of w / p(x) over 100 data x 8 chains is one within 4 standard errors, and annealing narrows it."""
    model, guide, x, log_prob = case()
    found = log_w(anneal_data(Pair(model, guide), as_data(x), short(num_temperatures=12, start=start), mode="eager"))
    ratios = (found - log_prob(x)).exp()
    assert abs(deviation(ratios)) < 4
    assert float(ratios.std()) < 2


@pytest.mark.parametrize(
    "case",
    [beta_binomial, moving_support, two_layers, enumerated, plates_on_either_side],
    ids=lambda case: case.__name__,
)
def test_backwards_the_inverse_weights_are_unbiased(case: Callable[[], Case]) -> None:
    """One chain on each of 1,000 simulated data: p(x) / w has mean one within 4 standard errors."""
    model, guide, x, log_prob = case()
    simulated = simulate(model, x, 1000)
    settings = short(num_temperatures=12, num_chains=1)
    found = log_w(anneal_back(Pair(model, guide), simulated, settings, mode="eager"))
    assert isinstance(simulated.data, Tensor)
    assert abs(deviation((log_prob(simulated.data) - found).exp())) < 4


def posterior_of_one(repeats: int, seed: int = 0) -> Simulated:
    """The same datum many times, each with a posterior draw of its own: independent repetitions."""
    x = toy.data(1)
    mean, covariance = toy.posterior(x)
    torch.manual_seed(seed)
    z = torch.distributions.MultivariateNormal(mean[0], covariance).sample((repeats,))
    return Simulated(x.expand(repeats, 3).contiguous(), {"z": z})


def test_the_bracket_covers_the_evidence_as_often_as_it_says() -> None:
    """200 repetitions: [lower - 1.96 s.e., upper + 1.96 s.e.] covers in 95 % or more, less 3 binomial s.e. (0.904)."""
    data, settings = posterior_of_one(200), short(num_temperatures=20, num_chains=16)
    truth = float(toy.log_prob(toy.data(1)))
    (there,) = anneal_data(wrong, as_data(data.data), settings, mode="eager")
    (back,) = anneal_back(wrong, data, settings, mode="eager")
    lower, upper = estimate(AIS(settings), there.weights), estimate(ReverseAIS(settings), back.weights)
    low, high = lower.value - 1.96 * lower.standard_error, upper.value + 1.96 * upper.standard_error
    assert float(((low < truth) & (truth < high)).double().mean()) >= 0.904
    assert lower.value.mean() < truth + 4 * lower.value.std() / math.sqrt(200)
    assert upper.value.mean() > truth - 4 * upper.value.std() / math.sqrt(200)
    assert bool((back.acceptance > 0.4).all())
    assert abs(deviation((truth - back.weights.log_w[0]).exp())) < 4


@pytest.mark.parametrize("beta", [0.4, 1.0])
@pytest.mark.parametrize("start", ["guide", "prior"])
def test_a_transition_leaves_its_distribution_as_it_is(beta: float, start: Any) -> None:
    """Mean and covariance of 8,000 chains, begun elsewhere, against a normal in closed form; 4.5 s.e. on 5 numbers."""
    x = toy.data(1)
    mean, covariance = toy.posterior(x)
    if start == "guide":
        q_mean, q_precision = mean[0] + 0.3, (1 / (2.25 * covariance.diagonal())).diag()
        p_mean, p_precision = mean[0], covariance.inverse()
    else:  # the likelihood's share of the precision grows with beta
        q_mean, q_precision, p_mean, p_precision = torch.zeros(2), torch.eye(2), mean[0], covariance.inverse()
    precision = (1 - beta) * q_precision + beta * p_precision
    middle = precision.inverse() @ ((1 - beta) * q_precision @ q_mean + beta * p_precision @ p_mean)
    C = 8000
    with torch.no_grad():
        target = Target.of(wrong, x, start)
        kinetics = Kinetics(target, "eager", lambda n: 1)
        point = kinetics.at(x, target.draw(x, C))
        for _ in range(40):
            step, scale = torch.tensor([0.15]), torch.ones(1, 2)
            point, *_ = kinetics.transition(x, point, torch.tensor(beta), step, scale, 5)
    z = point.z[:, 0]
    white = (z - middle) @ torch.linalg.cholesky(precision)
    assert bool((white.mean(0).abs() < 4.5 / math.sqrt(C)).all())
    assert bool(((white.T @ white / C - torch.eye(2)).abs() < 4.5 * math.sqrt(2 / C)).all())
    fresh = target(x, point.z)
    for kept, again in zip(point, fresh, strict=True):
        torch.testing.assert_close(kept, again)  # what is carried along belongs to where the chains are


def test_chains_never_go_where_the_energy_is_not_finite() -> None:
    """NaN above 1, an infinite density below -1, gradients of neither: chains stay between."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("f", (1 - z).sqrt() + torch.where(z < -1, math.inf, 0.0))

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 0.01))

    x = torch.zeros(3, 1)
    pair = Pair(model, guide)
    with torch.no_grad(), validating(enabled=False):
        target = Target.of(pair, x, "guide")
        kinetics = Kinetics(target, "eager", lambda n: 1)
        point = kinetics.at(x, target.draw(x, 50))
        for _ in range(30):
            one = torch.ones(3)
            point, chance, *_ = kinetics.transition(x, point, torch.tensor(1.0), 0.3 * one, one.unsqueeze(-1), 3)
            assert all(bool(value.isfinite().all()) for value in (*point, chance))
    assert float(point.z.min()) < -0.5
    assert float(point.z.max()) > 0.5


def test_one_temperature_is_importance_sampling() -> None:
    """No transition, no pilot: the weights are those of draws from the guide, compared by their moments over data."""
    x = toy.data(1).expand(3000, 3).contiguous()
    (found,) = anneal_data(wrong, as_data(x), short(num_temperatures=1), mode="eager", batch_size=3000)
    assert bool(found.acceptance.isnan().all())
    mine, theirs = found.weights.log_w, log_weights(toy.model, toy.wrong, x, 8).log_w
    a, b = (IWAE()(Weights(values, torch.zeros_like(values))) for values in (mine, theirs))
    assert abs(float(a.mean() - b.mean())) < 4 * math.sqrt(float(a.var() + b.var()) / 3000)
    assert abs(float(mine.var() / theirs.var()) - 1) < 0.1


def test_an_exact_guide_needs_no_temperatures() -> None:
    x = toy.data(6)
    found = log_w(anneal_data(Pair(toy.model, toy.exact), as_data(x), short(num_temperatures=5), mode="eager"))
    torch.testing.assert_close(found, toy.log_prob(x).expand(8, 6))


def eubo(x: Tensor) -> Tensor:
    """Log p(x) + KL(posterior || wrong), in closed form."""
    mean, covariance = toy.posterior(x)
    p = torch.distributions.MultivariateNormal(mean, covariance)
    q = torch.distributions.MultivariateNormal(mean + 0.3, (2.25 * covariance.diagonal()).diag())
    return toy.log_prob(x) + torch.distributions.kl_divergence(p, q)


def test_eubo_of_exact_draws() -> None:
    """Over 400 repetitions of one datum, each from an exact draw of its own: within 4 standard errors."""
    data = posterior_of_one(400)
    (found,) = posterior_data(
        wrong, as_data(data.data), 5, short(num_chains=2), latents=data.latents, mode="eager", batch_size=400
    )
    assert found.weights.log_w.shape == (10, 400)
    values = EUBO(exact=True)(found.weights)
    assert abs(float(values.mean() - eubo(toy.data(1)))) < 4 * float(values.std()) / math.sqrt(400)


def test_posterior_draws_by_mcmc_agree_between_chains() -> None:
    x = toy.data(1).expand(60, 3).contiguous()
    settings = short(num_chains=4, num_leapfrogs=5, num_pilot=60)
    (found,) = posterior_data(wrong, as_data(x), 200, settings, mode="eager")
    values = EUBO()(found.weights)
    assert abs(float(values.mean() - eubo(x[:1]))) < 4 * float(values.std()) / math.sqrt(60)
    assert float(found.rhat.median()) < 1.02
    assert float(found.rhat.max()) < 1.1
    chains = found.weights.log_w.view(4, 200, 60)  # chain after chain
    lag = chains - chains.mean((0, 1))
    assert float((lag[:, 1:] * lag[:, :-1]).mean() / lag.square().mean()) < 0.7
    weighed = log_weights(toy.model, toy.wrong, x, 1)
    assert bool((found.weights.log_p.mean(0) < 0).all()) == bool(weighed.log_p.mean() < 0)


def test_rhat_is_arviz() -> None:
    draws = torch.randn(4, 101, 5)
    draws[0, :, 1] += 1  # a chain elsewhere
    draws[1, :, 2] *= 3  # a wider one
    draws[:, :, 3] = draws[:, :, 3].round()  # ties
    draws[0, 0, 4] = math.nan
    mine = rhat(draws)
    theirs = [array_stats.rhat(draws[..., i].numpy(), chain_axis=0, draw_axis=1) for i in range(4)]
    np.testing.assert_allclose(mine[:4].numpy(), np.array(theirs, dtype=float), rtol=1e-6)
    assert math.isnan(float(mine[4]))
    assert bool(rhat(draws[:, :3]).isnan().all())


@pytest.mark.filterwarnings("ignore::inference.annealing.AnnealingWarning")  # four temperatures are few
@pytest.mark.parametrize("start", ["guide", "prior"])
def test_bdmc_brackets_what_it_simulates(start: Any) -> None:
    settings = short(num_temperatures=60, start=start)
    found = bdmc(toy.model, toy.wrong, toy.data(5), settings, n=150, mode="eager", seed=4)
    simulated = simulate(toy.model, toy.data(5), 150, seed=4).data
    assert isinstance(simulated, Tensor)
    truth = toy.log_prob(simulated)
    for side, sign in ((found.forward, 1), (found.reverse, -1)):
        beyond = sign * (side.value - truth)
        assert float(beyond.mean()) < 4 * float(beyond.std()) / math.sqrt(150)
    hasty = bdmc(toy.model, toy.wrong, toy.data(5), short(num_temperatures=4, start=start), n=150, mode="eager")
    assert -4 * found.gap_se < found.gap_mean < hasty.gap_mean / 2
    assert found.gap_mean == pytest.approx(found.reverse.mean - found.forward.mean)
    assert found.to_frame().shape == (150, 7)
    assert "certifies the annealing on the model's own samples, not on other data" in str(found)
    assert str(found.forward).startswith("log p(x) >= -")
    assert str(found.reverse).startswith("log p(x) <= -")


def test_values_errors_and_summary() -> None:
    x = toy.data(25)
    found = ais(toy.model, toy.wrong, x, short(num_temperatures=40, num_chains=16), mode="eager", batch_size=7)
    z = (found.value - toy.log_prob(x)) / found.standard_error
    assert bool((z.abs() < 6).all())  # 16 chains: a t distribution's tails
    assert 0.4 < float(z.square().mean()) < 2.5
    assert found.mean_mc_se == pytest.approx(float(found.standard_error.square().sum().sqrt()) / 25)
    assert found.mean_se == pytest.approx(float(found.value.std()) / 5)
    assert list(found.to_frame()) == ["value", "standard_error", "ess", "acceptance"]
    assert 0.4 < float(found.acceptance.mean()) < 0.9
    assert "16 chains of 40 temperatures, acceptance 0." in str(found)


def test_batches_change_nothing_but_the_noise() -> None:
    x = toy.data(20)
    settings = short(num_temperatures=30, num_chains=32)
    one, other = (ais(toy.model, toy.wrong, x, settings, mode="eager", batch_size=size) for size in (20, 6))
    z = (one.value - other.value) / (one.standard_error.square() + other.standard_error.square()).sqrt()
    assert bool((z.abs() < 5).all())
    again = ais(toy.model, toy.wrong, x, settings, mode="eager", batch_size=6)
    assert torch.equal(other.value, again.value)


def test_a_pass_leaves_the_caller_alone() -> None:
    before = torch.get_rng_state()
    passes = anneal_data(wrong, as_data(toy.data(4)), short(num_temperatures=3), mode="eager", batch_size=2)
    first = next(passes)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(10)  # what happens between passes does not matter
    second = next(passes)
    alone = list(anneal_data(wrong, as_data(toy.data(4)), short(num_temperatures=3), mode="eager", batch_size=2))
    assert torch.equal(first.weights.log_w, alone[0].weights.log_w)
    assert torch.equal(second.weights.log_w, alone[1].weights.log_w)


def test_more_chains_than_fit_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.annealing.running, "default_chunk", lambda x: 128 * 3 // x.numel())  # three at once
    found = log_w(anneal_data(wrong, as_data(toy.data(4)), short(num_temperatures=12), mode="eager"))
    assert found.shape == (8, 4)
    assert len(found.unique()) == 32
    assert abs(deviation((found - toy.log_prob(toy.data(4))).exp())) < 4
    (drawn, *_) = posterior_data(wrong, as_data(toy.data(1)), 4, short(), mode="eager")
    assert drawn.weights.log_w.shape == (32, 1)


@pytest.mark.parametrize("settings", [{"num_chains": 1}, {"num_temperatures": 2, "num_pilot": 1}, {"num_leapfrogs": 1}])
def test_the_smallest_settings_run(settings: dict[str, int]) -> None:
    settings = {"num_temperatures": 5, "num_chains": 3} | settings
    found = ais(toy.model, toy.wrong, toy.data(1), short(**settings), mode="eager")
    assert bool(found.value.isfinite().all())
    assert math.isnan(found.mean_se)
    assert bool(found.standard_error.isnan().all()) == (settings["num_chains"] == 1)


@pytest.mark.filterwarnings("ignore:.*particles run one by one")
def test_a_pair_that_cannot_be_vectorised_runs_chain_by_chain() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            weights = torch.ones(len(x)) if z.dim() == 1 else torch.zeros(len(x))  # not made for a plate of particles
            pyro.sample("x", dist.Normal(z * weights, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.3 * x, 1.0))

    x = torch.linspace(-2.0, 2.0, 50)
    found = log_w(anneal_data(Pair(model, guide), as_data(x), short(num_temperatures=5, num_chains=3), mode="eager"))
    assert abs(deviation((found - dist.Normal(0.0, math.sqrt(2)).log_prob(x)).exp())) < 4


@pytest.mark.parametrize("start", ["guide", "prior"])
@pytest.mark.parametrize("mode", ["replay", "inductor"])
def test_graphs_give_the_same_chains(mode: Mode, start: Any) -> None:
    pair = Factor()
    x = torch.randn(6, 3)
    settings = short(num_temperatures=6, num_pilot=4, num_chains=4, start=start)
    given = Pair(pair.model, pair.guide), as_data(x), settings
    plain, graphed = (log_w(anneal_data(*given, mode=how, batch_size=3)) for how in ("eager", mode))
    if mode == "replay":
        assert torch.equal(plain, graphed)
    else:
        torch.testing.assert_close(plain, graphed, rtol=1e-8, atol=1e-8)


class Interrupt:
    """A bar that stops everything after a number of steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise KeyboardInterrupt

    def note(self, **values: float) -> None: ...


KINDS: dict[str, Callable[..., Iterator[Pass]]] = {
    "there": lambda data, settings, **how: anneal_data(wrong, as_data(data.data), settings, **how),
    "back": lambda data, settings, **how: anneal_back(wrong, data, settings, **how),
    "posterior": lambda data, settings, **how: posterior_data(wrong, as_data(data.data), 5, settings, **how),
    "exact": lambda data, settings, **how: posterior_data(
        wrong, as_data(data.data), 5, settings, latents=data.latents, **how
    ),
}


@pytest.mark.parametrize("after", [5, 12, 27])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_killed_goes_on_with_the_same_bits(
    kind: str, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = KINDS[kind], posterior_of_one(5)
    settings = short(num_temperatures=9, num_pilot=7, num_warmup=3)
    how: dict[str, Any] = {"mode": "eager", "batch_size": 3}
    whole = [found.weights.log_w for found in run(data, settings, **how)]
    kept: list[Tensor] = []
    how |= {"checkpoint": tmp_path, "checkpoint_seconds": 0.0}

    @contextmanager
    def interrupted(*_: Any, **__: Any) -> Iterator[Interrupt]:
        yield Interrupt(after)

    with monkeypatch.context() as patch:
        patch.setattr(inference.annealing.running, "progress_bar", interrupted)
        try:
            kept.extend(found.weights.log_w for found in run(data, settings, **how))
        except KeyboardInterrupt:
            assert len(kept) < 2
    resumed = list(run(data, settings, **how | {"checkpoint_seconds": 60.0}))
    assert len(whole) == len(resumed) == 2
    for mine, its in zip(whole, resumed, strict=True):
        assert torch.equal(mine, its.weights.log_w)
        assert bool(its.acceptance.isfinite().all())


def test_a_run_that_is_over_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"mode": "eager", "batch_size": 2, "checkpoint": tmp_path}
    first = list(anneal_data(wrong, as_data(toy.data(4)), short(num_temperatures=4), **how))
    monkeypatch.setattr(Kinetics, "transition", None)
    monkeypatch.setattr(Kinetics, "at", None)
    again = list(anneal_data(wrong, as_data(toy.data(4)), short(num_temperatures=4), **how))
    for mine, its in zip(first, again, strict=True):
        assert torch.equal(mine.weights.log_w, its.weights.log_w)
        assert mine.seconds == its.seconds


def test_another_calculation_is_not_taken_up(tmp_path: Path) -> None:
    how: dict[str, Any] = {"mode": "eager", "checkpoint": tmp_path}
    settings = short(num_temperatures=4)
    list(anneal_data(wrong, as_data(toy.data(4)), settings, seed=1, **how))
    with pytest.raises(ValueError, match="is of another calculation: its seed is 1, expected 2; remove that folder"):
        list(anneal_data(wrong, as_data(toy.data(4)), settings, seed=2, **how))
    with pytest.raises(ValueError, match="its data is "):
        list(anneal_data(wrong, as_data(toy.data(4) + 1), settings, seed=1, **how))
    with pytest.raises(ValueError, match="its annealing is "):
        list(anneal_data(wrong, as_data(toy.data(4)), short(num_temperatures=5), seed=1, **how))
    with pytest.raises(ValueError, match="its kind of chains is 'annealing', expected 'posterior'"):
        list(posterior_data(wrong, as_data(toy.data(4)), 5, settings, seed=1, **how))


def test_another_pair_is_not_taken_up(tmp_path: Path) -> None:
    pair, x = Factor(), torch.randn(4, 3)
    how: dict[str, Any] = {"mode": "eager", "checkpoint": tmp_path}
    list(anneal_data(Pair(pair.model, pair.guide), as_data(x), short(num_temperatures=3), **how))
    with torch.no_grad():
        pair.b.add_(1)
    with pytest.raises(ValueError, match="its pair is "):
        list(anneal_data(Pair(pair.model, pair.guide), as_data(x), short(num_temperatures=3), **how))


def test_poor_annealing_is_called_out() -> None:
    def narrow(x: Tensor) -> None:
        mean, _ = toy.posterior(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(mean + 1.5, 0.2).to_event(1))

    with pytest.warns(AnnealingWarning, match=r"the lower bound is poor: one chain carries the weight of \d+% of"):
        ais(toy.model, narrow, toy.data(20), short(num_temperatures=1), mode="eager")
    with pytest.warns(AnnealingWarning, match=r"transitions are accepted with probability 0\.\d+ on average"):
        ais(
            toy.model,
            toy.wrong,
            toy.data(20),
            short(num_temperatures=9, num_pilot=8, target_acceptance=0.01),
            mode="eager",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ais(toy.model, toy.exact, toy.data(5), short(num_temperatures=3), mode="eager")


class OneWay(torch.distributions.Transform):
    """A flow whose inverse nobody has written."""

    domain = codomain = torch.distributions.constraints.real_vector
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        return x + 0.1 * x.tanh()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return (1 + 0.1 / x.cosh() ** 2).log().sum(-1)


def one_way(x: Tensor) -> None:
    base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.TransformedDistribution(base, [OneWay(cache_size=1)]))


@pytest.mark.filterwarnings("ignore:the pair does not run in a plate of particles")
def test_a_guide_that_scores_its_own_draws_alone() -> None:
    x = toy.data(5)
    with pytest.raises(ValueError, match=r"cannot score latents that it has not drawn itself .*start=\"prior\""):
        ais(toy.model, one_way, x, short(num_temperatures=4), mode="eager")
    found = ais(toy.model, one_way, x, short(num_temperatures=100, start="prior"), mode="eager")
    assert bool(((found.value - toy.log_prob(x)).abs() < 1).all())


def with_auxiliary(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        u = pyro.sample("u", dist.Normal(torch.zeros(2), 1.0).to_event(1), infer={"is_auxiliary": True})
        pyro.sample("z", dist.Normal(u, 1.0).to_event(1))


def discrete(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(y, 1.0), obs=x)


def discrete_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(0.5))


def test_refusals() -> None:
    x = toy.data(4)
    with pytest.raises(ValueError, match="site `u` is auxiliary, so the guide has no density of the latents alone"):
        ais(toy.model, with_auxiliary, x, short(), mode="eager")
    with pytest.raises(
        ValueError, match=r"site `y` is discrete \(Bernoulli\), but HMC needs continuous latents: sum it"
    ):
        ais(discrete, discrete_guide, torch.zeros(4), short(), mode="eager")
    with pytest.raises(ValueError, match="`mode` is 'fast', expected one of"):
        ais(toy.model, toy.wrong, x, short(), mode="fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`batch_size` is 0, expected at least 1"):
        ais(toy.model, toy.wrong, x, short(), batch_size=0)
    with pytest.raises(ValueError, match="`num_draws` is 0, expected at least 1 draw from each chain"):
        next(posterior_data(wrong, as_data(x), 0, short()))
    with pytest.raises(ValueError, match="`latents` lacks site `z`"):
        next(posterior_data(wrong, as_data(x), 2, short(), latents={"y": x}))
    with pytest.raises(ValueError, match="`num_warmup` is 0, expected a whole number"):
        short(num_warmup=0)


def test_a_dataset_is_padded_not_repeated() -> None:
    """Seven data in batches of three: every one once, in order."""
    x = toy.data(7)
    sizes = [
        found.weights.num_data for found in anneal_data(wrong, TensorData(x), short(num_temperatures=2), batch_size=3)
    ]
    assert sizes == [3, 3, 1]


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    pair = Factor().to("cuda")
    x = torch.randn(50, 3)
    settings = short(num_temperatures=100, num_chains=32)
    found = ais(pair.model, pair.guide, x.cuda(), settings, mode="auto")
    cpu = pair.to("cpu")
    other = ais(cpu.model, cpu.guide, x, settings, mode="auto")
    z = (found.value.cpu() - other.value) / (found.standard_error.cpu().square() + other.standard_error.square()).sqrt()
    assert found.value.is_cuda
    assert bool((z.abs() < 5).all())
