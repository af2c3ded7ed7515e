"""Data drawn from a model come with the latents they were drawn with, in the place of the data it is called with."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from inference.pair import Pair
from inference.simulate import simulate
from ppmodels.conditionals import ConditionalBernoulli
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal
from ppmodels.vae import VAE
from tests.oracles import LinearGaussian

pytestmark = pytest.mark.usefixtures("double")
toy = LinearGaussian.make()


def test_moments_of_data_and_latents_together() -> None:
    """Means and covariances of (z, x) against closed forms; 4.5 s.e. on 20 numbers, false alarm 1.4e-4."""
    n = 20_000
    found = simulate(toy.model, toy.data(7), n)
    z, x = found.latents["z"], found.data
    assert isinstance(x, Tensor)
    assert (z.shape, x.shape, len(found)) == ((n, 2), (n, 3), n)
    noise = x - z @ toy.W.T - toy.b
    for value, spread in ((z, 1.0), (noise, toy.s)):
        assert bool((value.mean(0).abs() < 4.5 * spread / math.sqrt(n)).all())
        error = value.T @ value / n - spread**2 * torch.eye(value.shape[1])
        assert bool((error.abs() < 4.5 * spread**2 * math.sqrt(2 / n)).all())


def test_seeds_and_the_callers_state() -> None:
    like, before = toy.data(4), torch.get_rng_state()
    kept = like.clone()
    first, again, other = (simulate(toy.model, like, 9, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(like, kept)
    assert torch.equal(first.data, again.data)  # type: ignore[arg-type]
    assert not torch.equal(first.data, other.data)  # type: ignore[arg-type]


def parts(x: Tensor, group: Tensor, y: Tensor) -> None:
    """Two sites observe columns of one argument, a third a vector of counts; `group` is a covariate."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(10.0 * group, 1.0))
        pyro.sample("left", dist.Normal(z, 0.1), obs=x[:, 0])
        pyro.sample("right", dist.Normal(-z, 0.1), obs=x[:, 1])
        pyro.sample("y", dist.Poisson(z.exp().clamp(max=5.0)), obs=y)


@pytest.mark.parametrize("as_mapping", [False, True])
def test_parts_of_tuples_and_mappings_go_back_where_they_came_from(as_mapping: bool) -> None:
    x, group, y = torch.zeros(3, 2), torch.tensor([-1.0, 0.0, 1.0]), torch.zeros(3)
    like = {"x": x, "group": group, "y": y} if as_mapping else (x, group, y)
    found = simulate(parts, like, 6)
    parts_of: Any = found.data
    new_x, new_group, new_y = parts_of.values() if as_mapping else parts_of
    z = found.latents["z"]
    assert torch.equal(new_group, group.repeat(2))
    assert bool(((new_x - torch.stack([z, -z], -1)).abs() < 0.6).all())  # 6 s.e.
    assert bool((new_y == new_y.round()).all())
    assert list(found.latents) == ["z"]


def test_a_vae_of_ours_and_a_pair() -> None:
    model = VAE(StandardNormal(2), ConditionalBernoulli(MLP(2, (8,)), 5)).double()
    found = simulate(Pair(model, toy.exact), torch.zeros(3, 5), 40)
    assert isinstance(found.data, Tensor)
    assert found.latents["z"].shape == (40, 2)
    assert set(found.data.unique().tolist()) == {0.0, 1.0}
    assert len(simulate(model, torch.zeros(3, 5))) == 3


def computed(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x.log())


def factored(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("likelihood", -((x - z) ** 2))


def too_small(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-2):
        z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_refusals() -> None:
    x = torch.ones(3)
    with pytest.raises(ValueError, match="site `x` observes a value computed from the model's arguments"):
        simulate(computed, x)
    with pytest.raises(ValueError, match="site `likelihood` is a factor, which has no draws"):
        simulate(factored, x)
    with pytest.raises(ValueError, match=r"site `x` draws \(3, 1\) where it observes \(3, 4\)"):
        simulate(too_small, torch.ones(3, 4))
    with pytest.raises(ValueError, match="`model` observes nothing"):
        simulate(toy.exact, toy.data(3))
    with pytest.raises(ValueError, match="`n` is 0, expected at least 1"):
        simulate(toy.model, toy.data(3), 0)


def test_a_model_that_reads_what_it_observes_is_refused() -> None:
    """Teacher forcing: the second column is drawn given the first of the data, not given the first of the draws."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            means = torch.stack([z, z + 5 * x[:, 0]], -1)
            pyro.sample("x", dist.Normal(means, 1.0).to_event(1), obs=x)

    with pytest.raises(ValueError, match=r"site `x` has another density once the simulated data are given"):
        simulate(model, torch.randn(5, 2))
