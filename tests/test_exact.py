"""Exact log p(x) against a net whose 4,096 states are added up by hand, and what it refuses."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from inference.exact import exact_log_likelihood
from inference.likelihood import log_likelihood
from tests.oracles import BeliefNet, LinearGaussian

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("chunk", [None, 1000, 333])
def test_log_p_and_both_divergences(chunk: int | None) -> None:
    net = BeliefNet(mismatch=0.5)
    x = net.data(7)
    found = exact_log_likelihood(net.model, net.guide, x, batch_size=3, chunk=chunk)
    with torch.no_grad():
        torch.testing.assert_close(found.value, net.log_prob(x))
        torch.testing.assert_close(found.kl, net.kl(x))
        torch.testing.assert_close(found.reverse_kl, net.reverse_kl(x))
        torch.testing.assert_close(found.elbo, net.elbo(x))
    assert found.num_states == 4096
    assert not found.standard_error.any()
    assert "by 4096 states" in str(found)
    assert [*found.to_frame().columns] == ["value", "kl", "reverse_kl"]


def test_importance_sampling_comes_to_it() -> None:
    """100,000 draws for each of four data in memory of a few megabytes; within 4.5 errors, a false alarm 3e-5."""
    net = BeliefNet(mismatch=0.3)
    x = net.data(4)
    exact = exact_log_likelihood(net.model, net.guide, x)
    found = log_likelihood(net.model, net.guide, x, num_particles=100_000, chunk=2_000)
    assert bool(((found.value - exact.value).abs() < 4.5 * found.standard_error).all())
    assert float(found.standard_error.max()) < 0.02


def test_a_guide_that_rules_a_state_out() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Bernoulli(0.2 + 0.6 * z), obs=x)

    def certain(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(x))

    found = exact_log_likelihood(model, certain, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(found.value.exp(), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(found.kl, -torch.tensor([0.8, 0.8]).log())
    assert bool((found.reverse_kl > 5).all())


def test_what_has_too_many_states_or_none() -> None:
    toy = LinearGaussian.make()
    with pytest.raises(ValueError, match="site `z` is a MultivariateNormal in the guide, expected Bernoulli"):
        exact_log_likelihood(toy.model, toy.exact, toy.data(2))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(0.5).expand([17]).to_event(1))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(0.5).expand([17]).to_event(1))

    with pytest.raises(ValueError, match=r"`guide` has 2\*\*17 joint states"):
        exact_log_likelihood(model, guide, torch.zeros(2))
