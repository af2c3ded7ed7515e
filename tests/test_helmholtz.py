"""Sigmoid belief networks and their guides against sums over all states, by nothing but logarithms of sigmoids."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn

from guides import AutoregressiveBernoulli, MeanFieldBernoulli
from inference import active_units, exact_log_likelihood, log_likelihood
from inference.estimators import enumerate_latents
from inference.pair import Pair
from inference.particles import inspect_pair
from ppmodels.bits import ConditionalNADE
from ppmodels.conditionals import ConditionalBernoulli, HomoscedasticNormal
from ppmodels.helmholtz import SigmoidBeliefNetwork
from ppmodels.nets import MLP
from ppmodels.priors import BernoulliPrior, NADEPrior, StandardNormal
from tests.oracles import bits_log_prob

pytestmark = pytest.mark.usefixtures("double")


def states(number: int) -> Tensor:
    """Every vector of so many bits, `(2**number, number)`."""
    return ((torch.arange(2**number)[:, None] >> torch.arange(number)) & 1).double()


def wild(module: nn.Module) -> Any:
    """The same module at other parameters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
    return module


def logits(conditional: Any, h: Tensor) -> Tensor:
    found: Tensor = conditional.logits(conditional.trunk(h))
    return found


def test_two_layers_of_twelve_bits() -> None:
    """The exact log p(x), posterior and divergences of 7 + 5 bits, in 4,096 states."""
    model, guide = wild(SigmoidBeliefNetwork(6, (7, 5))), wild(MeanFieldBernoulli(6, (7, 5)))
    x, every = torch.bernoulli(torch.full((4, 6), 0.5)), states(12)
    z1, z2 = every[:, :7], every[:, 7:]
    with torch.no_grad():
        log_p = bits_log_prob(z2, model.prior.logits) + bits_log_prob(z1, logits(model.layers[0], z2))
        log_p = log_p + bits_log_prob(x[:, None], logits(model.likelihood, z1))  # (4, 4096)
        log_q = bits_log_prob(z1, logits(guide.layers[0], x)[:, None])
        log_q = log_q + bits_log_prob(z2, logits(guide.layers[1], z1))
        posterior = log_p.softmax(1)
        pair = Pair(model, guide)
        weights = enumerate_latents(pair, x, inspect_pair(pair, x))
    found = exact_log_likelihood(model, guide, x)
    torch.testing.assert_close(found.value, log_p.logsumexp(1))
    torch.testing.assert_close(found.kl, (log_q.exp() * (log_q - log_p)).sum(1) + found.value)
    torch.testing.assert_close(found.reverse_kl, (posterior * (posterior.log() - log_q)).sum(1))
    torch.testing.assert_close(weights.log_p.softmax(0).sort(0).values, posterior.T.sort(0).values)


@pytest.mark.parametrize("layer", [ConditionalBernoulli, ConditionalNADE])
@pytest.mark.parametrize("prior", [BernoulliPrior, NADEPrior])
def test_what_it_draws_has_its_density(prior: Any, layer: Any) -> None:
    """20,000 images of four bits against the exact probabilities of all 16; false alarm 1e-4."""
    model = wild(SigmoidBeliefNetwork(4, (3, 2), prior=prior(2), layer=layer))
    guide = wild(AutoregressiveBernoulli(4, (3, 2)))
    every = states(4)
    p = exact_log_likelihood(model, guide, every).value.exp()
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-9)
    with torch.no_grad():
        drawn = model(n=20_000)
    counts = torch.bincount((drawn @ (2.0 ** torch.arange(4))).long(), minlength=16)
    assert chisquare(counts.numpy(), (p / p.sum() * len(drawn)).numpy()).pvalue > 1e-4


def test_any_depth() -> None:
    widths = (400, 300, 200, 100, 10)
    model, guide = SigmoidBeliefNetwork(784, widths), MeanFieldBernoulli(784, widths)
    assert model.sites == guide.sites == ("z1", "z2", "z3", "z4", "z5")
    assert [layer.out_features for layer in model.layers] == [100, 200, 300, 400]
    assert model.likelihood.in_features == 400
    assert model(n=3).shape == (3, 784)
    assert SigmoidBeliefNetwork(5, (3,)).sites == MeanFieldBernoulli(5, (3,)).sites == ("z",)


def test_the_bias_of_the_data_starts_where_it_is_told() -> None:
    """With even causes of small weight the means of the pixels are near the data's."""
    means = torch.tensor([0.02, 0.3, 0.9])
    model = SigmoidBeliefNetwork(3, (50, 20), logits=means.logit())
    assert torch.equal(logits(model.likelihood, torch.zeros(50)), means.logit())


def test_units_nobody_uses_and_draws_that_suffice() -> None:
    """A guide that is the posterior has equal weights; the layer above, which ignores what is below, is idle."""
    model, guide = SigmoidBeliefNetwork(3, (3, 2)), MeanFieldBernoulli(3, (3, 2))
    with torch.no_grad():
        for parameter in [*model.parameters(), *guide.parameters()]:
            parameter.zero_()
        model.likelihood.get_parameter("logits.weight").copy_(8 * torch.eye(3))  # a pixel for each cause
        model.likelihood.get_parameter("logits.bias").fill_(-4.0)
        guide.layers[0].get_parameter("logits.weight").copy_(8 * torch.eye(3))
        guide.layers[0].get_parameter("logits.bias").fill_(-4.0)
    x = states(3)
    assert active_units(model, guide, x).count == {"z1": 3, "z2": 0}
    found = log_likelihood(model, guide, x, num_particles=200)
    torch.testing.assert_close(found.value, exact_log_likelihood(model, guide, x).value)
    assert bool((found.khat == -torch.inf).all())
    assert found.unreliable == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SigmoidBeliefNetwork(4, ()), "`widths` is empty, expected the number of bits in each layer"),
        (lambda: SigmoidBeliefNetwork(4, (3, 0)), "`widths` must be an integer, at least 1, got 0"),
        (lambda: SigmoidBeliefNetwork(0, (3,)), "`x_dim` must be an integer, at least 1, got 0"),
        (lambda: SigmoidBeliefNetwork(4, (3,), prior=StandardNormal(2)), "`likelihood` takes vectors of length 3, but"),
        (lambda: SigmoidBeliefNetwork(4, (3,), logits=torch.zeros(5)), r"`logits` must have shape \(4,\)"),
        (lambda: MeanFieldBernoulli(4, ()), "at least one"),
        (lambda: AutoregressiveBernoulli(4, (3,), features=0), "`features` must be an integer, at least 1, got 0"),
        (
            lambda: SigmoidBeliefNetwork(1, (3,), likelihood=HomoscedasticNormal(MLP(3, ()), 1), logits=torch.zeros(1)),
            "`logits` is the bias of bits, but a `likelihood` is given",
        ),
    ],
)
def test_parts_that_do_not_fit(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
