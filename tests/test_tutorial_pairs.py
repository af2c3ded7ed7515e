"""Pairs written as Pyro's tutorials write them: registered modules, bare parameters, subsampling, autoguides."""

from functools import partial
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn

from inference.compare import compare_bounds
from inference.fit import fit
from inference.likelihood import log_likelihood
from inference.objectives import Variational
from inference.optim import adam
from inference.pair import Pair
from inference.seeds import permutation

pytestmark = pytest.mark.usefixtures("double")


class TutorialVAE(nn.Module):
    """Two bound methods, modules registered by `pyro.module`, a latent called "latent", a plate called "images"."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 4))
        self.decoder = nn.Sequential(nn.Linear(2, 8), nn.Softplus(), nn.Linear(8, 6))

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("images", x.shape[0]):
            zeros, ones = x.new_zeros(x.shape[0], 2), x.new_ones(x.shape[0], 2)
            z = pyro.sample("latent", dist.Normal(zeros, ones).to_event(1))
            pyro.sample("obs", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("images", x.shape[0]):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, log_scale.exp()).to_event(1))


def binary(n: int) -> Tensor:
    return (torch.rand(n, 6) < torch.linspace(0.1, 0.9, 6)).double()


def test_a_tutorial_vae_trains_as_under_svi() -> None:
    """Plain gradient descent on the whole data: the same bits of noise, so the same parameters to rounding."""
    x = binary(40)
    ours, theirs = TutorialVAE(), TutorialVAE()
    theirs.load_state_dict(ours.state_dict())
    fit(ours.model, ours.guide, x, steps=5, batch_size=40, optimizer=partial(torch.optim.SGD, lr=0.4), seed=3)
    pyro.clear_param_store()
    # Pyro's loss is the sum over data, ours the mean
    svi = SVI(theirs.model, theirs.guide, pyro.optim.SGD({"lr": 0.4 / 40}), Trace_ELBO())
    torch.manual_seed(3)
    for epoch in range(5):
        svi.step(x[permutation(40, seed=3, epoch=epoch)])
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-10, rtol=0)


def test_a_tutorial_vae_resumes_and_is_judged(tmp_path: Path) -> None:
    x, vae = binary(60), TutorialVAE()
    fit(vae.model, vae.guide, x, epochs=3, batch_size=20, out=tmp_path / "run", optimizer=adam(0.01))
    state = {k: v.clone() for k, v in vae.state_dict().items()}
    again = TutorialVAE()
    pyro.clear_param_store()
    fit(again.model, again.guide, x, epochs=3, batch_size=20, out=tmp_path / "run", resume=True, optimizer=adam(0.01))
    assert all(torch.equal(v, state[k]) for k, v in again.state_dict().items())
    ladder = compare_bounds(again.model, again.guide, x, ["elbo", "iwae:10"], num_particles=100)
    assert ladder.table["value"].is_monotonic_increasing


def test_bare_parameters_live_in_the_store_and_are_saved(tmp_path: Path) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.0))
        scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x, scale))

    x = torch.randn(200)
    train = partial(fit, model, guide, x, optimizer=adam(0.02), out=tmp_path / "run", batch_size=50)
    train(epochs=100)
    assert pyro.param("slope").item() == pytest.approx(0.5, abs=0.05)
    assert pyro.param("scale").item() == pytest.approx(0.5**0.5, abs=0.05)
    learned = {k: v.detach().clone() for k, v in Pair(model, guide).state(x).items()}
    pyro.clear_param_store()
    train(epochs=100, resume=True)
    assert all(torch.equal(v, learned[k]) for k, v in Pair(model, guide).state(x).items())
    found = log_likelihood(model, guide, x, num_particles=500)
    torch.testing.assert_close(found.value, dist.Normal(0.0, 2**0.5).log_prob(x), atol=0.05, rtol=0)


def test_a_module_nobody_registered_is_called_out() -> None:
    encoder, decoder = nn.Linear(6, 2), nn.Linear(2, 6)

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(encoder(x), 1.0).to_event(1))

    with pytest.warns(UserWarning, match=r"`guide.encoder.weight` is used but not registered"):
        fit(model, guide, binary(10), steps=1)
    encoder.requires_grad_(requires_grad=False)
    fit(model, guide, binary(10), steps=1)  # a warning would be an error here


@pytest.mark.parametrize("N", [10, 100])
def test_a_plate_that_scales_does_not_change_the_loss_per_datum(N: int) -> None:
    """Ten data in the batch, N in the world: the same first loss as without subsampling."""
    x = torch.randn(10)

    def model(x: Tensor) -> None:
        with pyro.plate("data", N, subsample=torch.arange(10)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor(0.3))
        with pyro.plate("data", N, subsample=torch.arange(10)):
            pyro.sample("z", dist.Normal(loc, 1.0))

    loss = fit(model, guide, x, steps=1, batch_size=10).metrics["loss"][0]
    order = permutation(10, seed=0, epoch=0)
    torch.manual_seed(0)
    z = 0.3 + torch.randn(10)
    log_w = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 1.0).log_prob(x[order])
    assert loss == pytest.approx(-float((log_w - dist.Normal(0.3, 1.0).log_prob(z)).mean()))


def test_a_program_that_subsamples_for_itself() -> None:
    """The program draws its own minibatch from the whole data: weights come for the rows it drew."""
    x = torch.randn(50)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), subsample_size=10) as rows:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])

    def guide(x: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.0))
        scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        with pyro.plate("data", len(x), subsample_size=10) as rows:
            pyro.sample("z", dist.Normal(slope * x[rows], scale))

    fit(model, guide, x, steps=800, batch_size=50, optimizer=adam(0.02))
    assert pyro.param("slope").item() == pytest.approx(0.5, abs=0.1)


def test_an_autoguide_over_global_latents_reaches_the_posterior() -> None:
    x = 1.5 + torch.randn(30)

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    guide = AutoNormal(model)
    with pytest.raises(ValueError, match="site `mean` is latent outside the data plate"):
        fit(model, guide, x, steps=1)
    fit(model, guide, x, Variational(joint=True, num_particles=10), steps=600, batch_size=30, optimizer=adam(0.02))
    found = guide.median()["mean"].item()
    assert found == pytest.approx(float(x.sum() / 31), abs=0.03)
    assert guide.quantiles([0.8413])["mean"][0].item() - found == pytest.approx(31**-0.5, abs=0.03)
