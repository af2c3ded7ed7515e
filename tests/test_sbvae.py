"""The stick-breaking autoencoder, its priors and guides: densities, gradients, growth, and no NaN in training."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Dirichlet, kl_divergence

from guides import BetaSticks, GammaSticks, KumaraswamySticks, LogitNormalSticks
from inference import ELBO, Annealing, Variational, ais, fit, log_likelihood, log_weights
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import digits
from ppmodels.growth import widened
from ppmodels.nets import MLP, ConvDecoder
from ppmodels.priors import DirichletSticks, StandardNormal, StickBreaking, check_prior
from ppmodels.sbvae import SBVAE
from ppmodels.sticks import log_stick_weights, stick_weights

GUIDES = [KumaraswamySticks, BetaSticks, GammaSticks, LogitNormalSticks]
K, X = 4, 6


def pair(family: Callable[..., nn.Module] = KumaraswamySticks, alpha0: float = 2.0) -> tuple[SBVAE, nn.Module]:
    prior = StickBreaking(K, alpha0)
    model = SBVAE(prior, ConditionalBernoulli(MLP(K, (8,), gain=prior.gain), X))
    return model, family(MLP(X, (8,)), K, concentration=alpha0)


def data(n: int = 5) -> Tensor:
    return torch.bernoulli(torch.full((n, X), 0.4), generator=torch.Generator().manual_seed(1)).to(torch.zeros(()))


def test_breaks_and_weights_are_there_to_see() -> None:
    model, _ = pair()
    trace = poutine.trace(model).get_trace(n=7)
    v, pi = trace.nodes["v"]["value"], trace.nodes["pi"]["value"]
    assert v.shape == (7, K - 1)
    torch.testing.assert_close(pi, stick_weights(v.logit()))
    assert trace.nodes["x"]["value"].shape == (7, X)


@pytest.mark.parametrize("prior", [StickBreaking(5, 0.5), StickBreaking(5, 5.0, learned=True), DirichletSticks(5, 0.7)])
def test_priors_are_sound(prior: nn.Module) -> None:
    report = check_prior(prior)
    assert report.ok, str(report)


@pytest.mark.usefixtures("double")
def test_dirichlet_sticks_make_dirichlet_weights() -> None:
    """Densities agree once the change from breaks to weights is counted: d pi / d s is triangular."""
    prior, s = DirichletSticks(4, 0.7)(), torch.randn(50, 3)
    pi = stick_weights(s)
    left = torch.cat([torch.ones(50, 1), 1 - pi[:, :-1].cumsum(-1)[:, :-1]], -1)  # before each break
    log_det = (left.log() + torch.nn.functional.logsigmoid(s) + torch.nn.functional.logsigmoid(-s)).sum(-1)
    expected = Dirichlet(torch.full((4,), 0.7)).log_prob(pi / pi.sum(-1, keepdim=True)) + log_det
    torch.testing.assert_close(prior.log_prob(s), expected, rtol=1e-8, atol=1e-8)


def test_mean_weights_of_stick_breaking_and_the_gain() -> None:
    """E[pi_k] = (a / (1 + a))^(k - 1) / (1 + a); false alarm: 4 x 6e-5."""
    prior = StickBreaking(200, 3.0)
    pi = stick_weights(prior().sample((5000,)))
    k = torch.arange(4)
    error = pi[:, :4].std(0) / 5000**0.5
    assert bool(((pi[:, :4].mean(0) - (3 / 4) ** k / 4).abs() < 4 * error).all())
    size = float((pi * prior.gain).square().mean().sqrt())
    assert size == pytest.approx(1.0, abs=0.02)
    short = StickBreaking(3, 5.0)  # half of it is left to the last
    size = float((stick_weights(short().sample((20_000,))) * short.gain).square().mean().sqrt())
    assert size == pytest.approx(1.0, abs=0.02)
    dirichlet = DirichletSticks(6, 0.5)
    size = float((stick_weights(dirichlet().sample((20_000,))) * dirichlet.gain).square().mean().sqrt())
    assert size == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("family", GUIDES)
def test_guides_begin_near_the_prior(family: Callable[..., nn.Module]) -> None:
    """And where the features are zero as near as their family can be. False alarm: 2 x 6e-5."""
    model, guide = pair(family, 5.0)
    kl = log_weights(model, guide, data(), 2000).kl["logit_v"].mean().detach()
    assert 0.0 < float(kl) < 0.6 * (K - 1)  # a net's first features are no zeros
    for parameter in guide.parameters():
        if parameter.ndim == 2:
            nn.init.zeros_(parameter)
    kl = log_weights(model, guide, data(), 2000).kl["logit_v"].detach()
    least = {GammaSticks: 0.2108, LogitNormalSticks: 0.0552}.get(family, 0.0)  # type: ignore[call-overload]
    error = float(kl.std()) / kl.numel() ** 0.5  # of the others nothing but rounding: their law is the prior's
    assert float(kl.mean()) == pytest.approx(least * (K - 1), abs=4 * error + 1e-5)  # by quadrature


@pytest.mark.parametrize("family", GUIDES)
def test_any_concentration_is_a_start(family: Callable[..., nn.Module]) -> None:
    for concentration in (0.02, 1, 1000.0):
        guide = family(MLP(X, (8,)), K, concentration=concentration)
        assert all(bool(p.isfinite().all()) for p in guide.parameters())
        assert bool(guide(data()).isfinite().all())


@pytest.mark.parametrize("family", GUIDES)
def test_replay_has_the_losses_of_eager(family: Callable[..., nn.Module]) -> None:
    """Four steps from one seed, by the recorded graph and by the programs themselves."""
    results = []
    for mode in ("eager", "replay"):
        torch.manual_seed(2)
        model, guide = pair(family)
        fit(model, guide, data(20), steps=4, mode=mode, seed=1)  # type: ignore[arg-type]
        results.append([p.detach().clone() for p in (*model.parameters(), *guide.parameters())])
    for eager, replayed in zip(*results, strict=True):
        torch.testing.assert_close(replayed, eager, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("family", [KumaraswamySticks, BetaSticks])
def test_closed_form_and_drawn_divergences_agree(family: Callable[..., nn.Module]) -> None:
    """False alarm: 2 x 5 x 6e-5."""
    model, guide = (module.double() for module in pair(family))
    for parameter in guide.parameters():
        nn.init.normal_(parameter, std=0.5)
    weights = log_weights(model, guide, data(), 5000, analytic_kl=["logit_v"])
    difference = weights.kl["logit_v"] - weights.analytic_kl["logit_v"]
    assert bool((difference.mean(0).abs() < 4 * difference.std(0) / 5000**0.5).all())
    assert bool((weights.analytic_kl["logit_v"] > 0).all())


@pytest.mark.parametrize("family", GUIDES)
def test_gradients_reach_every_parameter(family: Callable[..., nn.Module]) -> None:
    model, guide = pair(family)
    loss = -ELBO()(log_weights(model, guide, data(), 3)).mean()
    gradients = torch.autograd.grad(loss, [*model.parameters(), *guide.parameters()])
    assert all(bool(g.isfinite().all()) and bool((g != 0).any()) for g in gradients)


def test_a_learned_concentration_learns() -> None:
    prior = StickBreaking(K, 20.0, learned=True)
    model = SBVAE(prior, ConditionalBernoulli(MLP(K, (8,), gain=prior.gain), X))
    fit(model, KumaraswamySticks(MLP(X, (8,)), K), data(50), steps=50)
    assert abs(float(prior.log_concentration.detach()) - math.log(20.0)) > 1e-4


@pytest.mark.usefixtures("double")
def test_chains_agree_with_importance_sampling() -> None:
    """Breaks are on the real line, where chains move freely."""
    model, guide = (module.double() for module in pair())
    x = data()
    by_draws = log_likelihood(model, guide, x, num_particles=20_000)
    for start in ("guide", "prior"):
        found = ais(model, guide, x, annealing=Annealing(num_chains=100, num_temperatures=60, start=start))  # type: ignore[arg-type]
        slack = 5 * (found.standard_error + by_draws.standard_error) + 0.02
        assert bool(((found.value - by_draws.value).abs() < slack).all())


@pytest.mark.parametrize("alpha0", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("family", GUIDES)
@pytest.mark.parametrize("steps", [60, pytest.param(5000, marks=pytest.mark.slow)])
def test_training_stays_finite(family: Callable[..., nn.Module], alpha0: float, steps: int) -> None:
    """A loss or gradient that is not would raise."""
    train = digits("static")
    prior = StickBreaking(20, alpha0)
    model = SBVAE(prior, ConditionalBernoulli(MLP(20, (64,), nn.ReLU, gain=prior.gain), 64, logits=train.logits()))
    guide = family(MLP(64, (64,), nn.ReLU), 20, concentration=alpha0)
    mode = "eager" if steps < 100 else "replay"
    fit(model, guide, train, Variational(), steps=steps, mode=mode)  # type: ignore[arg-type]
    parameters = [*model.parameters(), *guide.parameters()]
    assert all(bool(p.isfinite().all()) for p in parameters)


# -- growth --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("family", GUIDES)
def test_growth_forgets_nothing(family: Callable[..., nn.Module]) -> None:
    """The data's probability is the same however the new components share the last weight, and so is the old guide."""
    model, guide = (module.double() for module in pair(family))
    fit(model, guide, data(20).double(), steps=5)
    grown, grown_guide = model.grown(9), guide.grown(9)  # type: ignore[operator]
    x, s = data().double(), torch.randn(5, 8)
    before = model.likelihood(stick_weights(s[:, : K - 1])).log_prob(x)
    torch.testing.assert_close(grown.likelihood(stick_weights(s)).log_prob(x), before)
    q, more = (poutine.trace(g).get_trace(x).nodes["logit_v"]["fn"] for g in (guide, grown_guide))
    base, wide = q.base_dist, more.base_dist
    torch.testing.assert_close(wide.log_prob(s)[:, : K - 1], base.log_prob(s[:, : K - 1]))
    if family in (KumaraswamySticks, BetaSticks):
        first, second = kl_divergence(q, model.prior()), kl_divergence(more, grown.prior())
        torch.testing.assert_close(second, first, rtol=1e-4, atol=2e-3)  # new breaks stand at the prior
    assert model.components == K  # and the old pair is as it was
    fit(grown, grown_guide, x, steps=2)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("family", GUIDES)
def test_growth_with_a_learned_concentration(family: Callable[..., nn.Module]) -> None:
    """Told it, new breaks begin at the prior as it is now; so do those of the next growth."""
    prior, guide = StickBreaking(9, 20.0), family(MLP(X, (8,)), K, concentration=2.0).double()
    grown = guide.grown(6, concentration=20.0).grown(9)  # type: ignore[operator]
    fn = poutine.trace(grown).get_trace(data().double()).nodes["logit_v"]["fn"].base_dist
    new = family(MLP(X, (8,)), 9, concentration=20.0).double()
    for layer in (module for module in new.modules() if isinstance(module, nn.Linear)):
        nn.init.zeros_(layer.weight)
    expected = poutine.trace(new).get_trace(data().double()).nodes["logit_v"]["fn"].base_dist
    s = prior().sample((5,))
    torch.testing.assert_close(fn.log_prob(s)[:, K - 1 :], expected.log_prob(s)[:, K - 1 :])


def test_growth_of_a_learned_prior_keeps_what_was_learned() -> None:
    prior = StickBreaking(4, 3.0, learned=True)
    grown = prior.grown(8)
    assert grown().event_shape == (7,)
    assert float(grown.log_concentration.detach()) == pytest.approx(math.log(3.0))
    assert prior().event_shape == (3,)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: StickBreaking(1), ValueError, "`components` must be an integer, at least 2, got 1"),
        (lambda: StickBreaking(5, -1.0), ValueError, "`concentration` must be a positive number, got -1.0"),
        (lambda: DirichletSticks(5, float("nan")), ValueError, "`concentration` must be a positive number, got nan"),
        (lambda: KumaraswamySticks(MLP(4, (3,)), 1), ValueError, "`components` must be an integer, at least 2, got 1"),
        *(
            (
                lambda family=family, value=value: family(MLP(4, (3,)), 5, concentration=value),
                ValueError,
                f"`concentration` must be a finite number larger than 0.01, got {value}",
            )
            for family in (KumaraswamySticks, LogitNormalSticks)
            for value in (-2.0, 0.0, math.inf, math.nan)
        ),
        (
            lambda: KumaraswamySticks(ConvDecoder(4, (4, 4)), 17).grown(20),
            TypeError,
            "`trunk` must have linear heads to take more components, got ",
        ),
        (
            lambda: SBVAE(StickBreaking(5), ConditionalBernoulli(MLP(5), 6)).grown(5),
            ValueError,
            "`components` must be larger than 5, got 5",
        ),
        (lambda: StickBreaking(5).grown(5), ValueError, "`components` must be larger than 5, got 5"),
        (lambda: KumaraswamySticks(MLP(4, (3,)), 5).grown(4), ValueError, "`components` must be larger than 5, got 4"),
        (lambda: LogitNormalSticks(MLP(4, (3,)), 5).grown(5), ValueError, "`components` must be larger than 5, got 5"),
        (
            lambda: SBVAE(StickBreaking(5), ConditionalBernoulli(MLP(4), 6)),
            ValueError,
            "`likelihood` takes vectors of length 4, but `prior` makes vectors of length 5",
        ),
        (
            lambda: SBVAE(DirichletSticks(5), ConditionalBernoulli(MLP(5), 6)).grown(7),
            TypeError,
            "`prior` must be a StickBreaking to be cut off later, got DirichletSticks",
        ),
        (
            lambda: widened(ConditionalBernoulli(ConvDecoder(5, (4, 4)), 16), 7),
            TypeError,
            "`likelihood` must stand on a net that begins with a linear layer, .* got ConvDecoder",
        ),
        (lambda: widened(nn.Linear(5, 3), 7), TypeError, "got Linear"),
        (lambda: widened(ConditionalNormal(MLP(5), 3), 5), ValueError, "`in_features` must be larger than 5, got 5"),
        (lambda: MLP(5, gain=0.0), ValueError, "`gain` must be a positive number, got 0.0"),
    ],
)
def test_what_is_wrong_is_said(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_data_of_another_shape() -> None:
    model, _ = pair()
    with pytest.raises(ValueError, match=r"`x` must have shape \(n, 6\), one row per datum, got \(3, 5\)"):
        model(torch.zeros(3, 5))


def test_a_prior_of_ones_own_will_do() -> None:
    """Any law of logits: here a normal, which is what a logistic normal's breaks are."""
    model = SBVAE(StandardNormal(3), ConditionalBernoulli(MLP(4, (8,)), X))
    assert model(n=2).shape == (2, X)
    assert log_stick_weights(torch.zeros(3)).shape == (4,)
