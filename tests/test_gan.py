"""Generators, discriminators and maxout against explicit formulas, and what they refuse."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import stats
from torch import Tensor, nn

from examples import gan
from inference import adam, fit, log_likelihood, log_weights
from inference.adversarial import Adversarial
from inference.pair import no_guide
from ppmodels.contracts import Implicit
from ppmodels.data import digits
from ppmodels.gan import GAN, ConvDiscriminator, ConvGenerator, Discriminator, paper_gan
from ppmodels.maxout import Maxout, MaxoutNet
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal, UniformPrior, check_prior

pytestmark = pytest.mark.usefixtures("double")


class Spread(nn.Module):
    """A prior of one's own in ten lines: a normal that moves and spreads."""

    def __init__(self, z_dim: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(z_dim))
        self.log_scale = nn.Parameter(torch.zeros(z_dim))

    def forward(self) -> Any:
        return dist.Normal(self.loc, self.log_scale.exp()).to_event(1)


# -- the generator ---------------------------------------------------------------------------------------------


def test_draws_are_the_net_of_what_the_prior_draws() -> None:
    model: Any = GAN(StandardNormal(3), MLP(3, (7, 5), nn.ReLU))
    trace: Any = poutine.trace(model).get_trace(n=11)
    z = trace.nodes["z"]["value"]
    assert [site for site, node in trace.nodes.items() if node["type"] == "sample"] == ["data", "z"]
    assert z.shape == (11, 3)
    assert trace.nodes["data"]["value"].shape == (11,)
    torch.testing.assert_close(trace.nodes["_RETURN"]["value"], model.net(z), rtol=0, atol=0)
    assert model().shape == (1, 5)
    assert isinstance(model, Implicit)


def test_draws_follow_the_seed_and_the_conditioning() -> None:
    model: Any = GAN(UniformPrior(3), nn.Linear(3, 2))
    draws = [model(n=4) for _ in range(2) if torch.manual_seed(0) is not None]
    assert torch.equal(*draws)
    z = torch.ones(4, 3)
    torch.testing.assert_close(pyro.condition(model, {"z": z})(n=4), model.net(z))


def test_an_affine_generator_has_a_known_law() -> None:
    """x = W z + b of a standard normal is normal: Kolmogorov-Smirnov of 4,000 draws, refused in 1 run of 10,000."""
    torch.manual_seed(0)
    model: Any = GAN(StandardNormal(3), nn.Linear(3, 1))
    loc, scale = float(model.net.bias.detach()), float(model.net.weight.detach().norm())
    x = model(n=4000).detach().numpy()[:, 0]
    assert stats.kstest(x, stats.norm(loc, scale).cdf).pvalue > 1e-4


PRIORS: dict[str, Any] = {
    "uniform": lambda: UniformPrior(2),
    "a module": lambda: Spread(2),
    "a mixture": lambda: dist.MixtureSameFamily(
        dist.Categorical(logits=torch.zeros(2)), dist.Normal(torch.tensor([[1.0, 1], [-1, -1]]), 0.1).to_event(1)
    ),
    "pyro's": lambda: dist.Normal(torch.zeros(2), 1.0).to_event(1),
    "torch's": lambda: torch.distributions.Independent(torch.distributions.Laplace(torch.zeros(2), torch.ones(2)), 1),
    "a function": lambda: lambda: dist.Normal(torch.zeros(2), 1.0).to_event(1),
}


@pytest.mark.parametrize("make", PRIORS.values(), ids=PRIORS)
def test_any_prior_will_do(make: Any) -> None:
    """All parameters learn, a prior's own too where its draws carry gradients."""
    torch.manual_seed(0)
    model = GAN(make(), nn.Linear(2, 2))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    fit(model, Discriminator(MLP(2, (8,))), torch.randn(40, 2), Adversarial(), epochs=1, batch_size=20, mode="eager")
    for name, value in model.named_parameters():
        assert not torch.equal(value, before[name]), name
    assert model(n=5).shape == (5, 2)


def test_a_prior_learns_with_the_generator() -> None:
    """A normal prior and no net is all that data from N(3, 1) need: from 0 it comes nearer than 1."""
    torch.manual_seed(0)
    model: Any = GAN(Spread(2), nn.Identity())
    x = 3 + torch.randn(1000, 2)
    fit(model, Discriminator(MLP(2, (16,))), x, Adversarial(), steps=400, optimizer=adam(0.01), mode="eager")
    assert float((model.prior.loc - 3).detach().abs().max()) < 1


def test_the_uniform_prior_is_scipys_and_sound() -> None:
    prior = UniformPrior(4)
    assert check_prior(prior).ok
    z = prior().sample((4000,))
    assert stats.kstest(z.flatten().numpy(), stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)).cdf).pvalue > 1e-4
    expected = stats.uniform(-1.0, 3.0).logpdf(np.array([0.0, 1.5])).sum()
    assert float(UniformPrior(2, low=-1, high=2)().log_prob(torch.tensor([0.0, 1.5]))) == pytest.approx(expected)
    assert prior.float()().sample().dtype == torch.float32
    assert sorted(prior.state_dict()) == ["high", "low"]


# -- discriminators --------------------------------------------------------------------------------------------


def test_the_discriminator_is_its_net_and_a_linear_head() -> None:
    net: Any = Discriminator(MLP(3, (5,)))
    x = torch.randn(7, 3)
    torch.testing.assert_close(net(x), (net.net(x) @ net.head.weight.T + net.head.bias)[:, 0])


def test_maxout_is_numpys() -> None:
    layer = Maxout(4, 3, 5, init_range=1.0)
    nn.init.normal_(layer.maps.bias)
    x = torch.randn(2, 7, 4)
    W = layer.maps.weight.detach().numpy().reshape(3, 5, 4)
    b = layer.maps.bias.detach().numpy().reshape(3, 5)
    expected = (np.einsum("ijk,abk->abij", W, x.numpy()) + b).max(-1)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-12)
    assert layer(x).shape == (2, 7, 3)


def test_maxout_learns_by_the_largest_piece_alone() -> None:
    layer = Maxout(1, 1, 3)
    with torch.no_grad():
        layer.maps.weight.copy_(torch.tensor([[1.0], [2.0], [-1.0]]))
    layer(torch.tensor([[3.0]])).sum().backward()
    assert layer.maps.weight.grad is not None
    assert layer.maps.weight.grad.flatten().tolist() == [0.0, 3.0, 0.0]


def test_a_maxout_net_is_the_formula_in_evaluation() -> None:
    net = MaxoutNet(4, ((3, 2), (5, 3)), init_range=1.0).eval()
    x = torch.randn(6, 4)
    first, second = (layer for layer in net if isinstance(layer, Maxout))
    torch.testing.assert_close(net(x), second(first(x)), rtol=0, atol=0)
    assert (net.in_features, net.out_features) == (4, 5)


def test_dropout_is_off_in_evaluation_and_drops_its_shares_in_training() -> None:
    """Shares of 20,000 coins, 4 standard errors: false alarm 6e-5 each; and the mean is kept."""
    net = MaxoutNet(1000, ((1000, 1),), dropout=(0.2, 0.5))
    x = torch.ones(20, 1000)
    for layer, p in ((net[0], 0.2), (net[2], 0.5)):
        dropped = layer(x)
        assert abs(float((dropped == 0).double().mean()) - p) <= 4 * math.sqrt(p * (1 - p) / 20_000)
        assert float(dropped.max()) == pytest.approx(1 / (1 - p))
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_the_pair_of_the_paper() -> None:
    """Sizes as printed; weights in their ranges and as wide, 4 standard errors of a uniform's second moment."""
    torch.manual_seed(0)
    mean = torch.linspace(0, 1, 784)
    generator: Any
    generator, discriminator = paper_gan(784, mean)
    sizes = [tuple(p.shape) for p in generator.parameters() if p.ndim == 2]
    assert sizes == [(1200, 100), (1200, 1200), (784, 1200)]
    assert [tuple(p.shape) for p in discriminator.parameters() if p.ndim == 2] == [(1200, 784), (1200, 240), (1, 240)]
    for player, limit in ((generator, 0.05), (discriminator, 0.005)):
        for weight in (p for p in player.parameters() if p.ndim == 2):
            assert float(weight.detach().abs().max()) <= limit
            error = math.sqrt((1 / 5 - 1 / 9) / weight.numel()) * limit**2
            assert abs(float(weight.detach().square().mean()) - limit**2 / 3) <= 4 * error
    torch.testing.assert_close(generator.net[4].bias.detach().sigmoid()[1:-1], mean[1:-1])
    assert 0 < float(generator.net[4].bias.detach().sigmoid()[0]) < 1e-6
    x = generator(n=8)
    assert x.shape == (8, 784)
    assert bool(((x >= 0) & (x <= 1)).all())


@pytest.mark.parametrize("side", [8, 28, 7])
def test_images(side: int) -> None:
    model, critic = GAN(UniformPrior(5), ConvGenerator(5, side, (6, 4))), ConvDiscriminator(side, (3, 4))
    x = model(n=9)
    assert x.shape == (9, side**2)
    assert bool(((x > 0) & (x < 1)).all())
    assert critic(x).shape == (9,)
    critic(x).sum().backward()
    assert all(
        p.grad is not None and bool(p.grad.isfinite().all()) for p in (*model.parameters(), *critic.parameters())
    )
    torch.testing.assert_close(critic(x)[:2], critic(x[:2]))


@pytest.mark.filterwarnings("ignore:`digits` is grey")  # there is no likelihood here
def test_convolutions_play_on_digits() -> None:
    """As shipped, on 8x8 digits, with batch norm: the graph of a step has the numbers of the program."""
    data = digits("grey")

    def played(mode: Any) -> list[Tensor]:
        torch.manual_seed(0)
        pair = GAN(UniformPrior(8), ConvGenerator(8, 8, (8, 4))).float(), ConvDiscriminator(8, (4, 8)).float()
        fit(*pair, data, Adversarial(), steps=5, mode=mode)
        return [value for player in pair for value in player.state_dict().values()]

    for replayed, eager in zip(played("replay"), played("eager"), strict=True):
        torch.testing.assert_close(replayed, eager)


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_default_dtype(torch.float32)
    gan.main(8, tmp_path)
    out = capsys.readouterr().out
    assert re.findall(r"^(\w+): \d+ of (\d+) modes", out, flags=re.MULTILINE) == [("ring", "8"), ("grid", "25")]
    assert re.search(r"^digits: V \+ log 4 = -?[\d.]+$", out, flags=re.MULTILINE)
    for name in ("ring", "grid", "digits"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


# -- refusals --------------------------------------------------------------------------------------------------


def test_no_density_no_bound() -> None:
    model, x = GAN(StandardNormal(2), nn.Linear(2, 3)), torch.zeros(4, 3)
    message = "`GAN` draws data and has no density, so no bound can judge it: got `x`, expected `n` alone; compare"
    for judge in (model, lambda x: log_weights(model, no_guide, x, 5), lambda x: log_likelihood(model, no_guide, x)):
        with pytest.raises(ValueError, match=message):
            judge(x)
    with pytest.raises(ValueError, match=message):
        fit(model, None, x, epochs=1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GAN(3, nn.Linear(2, 2)), TypeError, "`prior` must be a module, a distribution or a function"),  # type: ignore[arg-type]
        (lambda: GAN(dist.Normal(0.0, 1.0), nn.Linear(2, 2)), ValueError, "event_shape"),
        (lambda: GAN(StandardNormal(2), torch.tanh), TypeError, r"`net` must be a module from noise to data, such as"),  # type: ignore[arg-type]
        (
            lambda: GAN(StandardNormal(2), nn.Linear(3, 2)),
            ValueError,
            "`net` takes vectors of length 3, but the prior draws vectors of length 2",
        ),
        (lambda: Discriminator(nn.Tanh()), TypeError, r"`net` must be a module with `out_features`, such as"),  # type: ignore[arg-type]
        (lambda: Maxout(3, 2, 0), ValueError, "`pieces` must be an integer, at least 1, got 0"),
        (lambda: Maxout(3, 0, 2), ValueError, "`out_features` must be an integer, at least 1, got 0"),
        (
            lambda: MaxoutNet(3, dropout=(0.2, 1.0)),
            ValueError,
            r"`dropout` must be two probabilities in \[0, 1\), of an",
        ),
        (lambda: paper_gan(4, torch.zeros(3)), ValueError, r"`data_mean` must be 4 numbers from 0 to 1"),
        (lambda: paper_gan(2, torch.tensor([0.5, 1.5])), ValueError, r"`data_mean` must be 2 numbers from 0 to 1"),
        (lambda: UniformPrior(0), ValueError, "`z_dim` must be an integer, at least 1, got 0"),
        (lambda: UniformPrior(2, low=1.0, high=1.0), ValueError, "`low` and `high` must be the ends of an interval"),
        (lambda: UniformPrior(2, low=-math.inf), ValueError, "`low` and `high` must be the ends of an interval"),
    ],
)
def test_mistakes_are_one_sentence(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
