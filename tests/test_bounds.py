"""Bounds against closed forms, enumeration and each other; their errors against what replication shows."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from inference.bounds import ELBO, IWAE, Bound, Renyi, VRMax, estimate, guarantee_of, log_mean_exp, parse_bound
from inference.draws import log_weights
from inference.objectives import Variational
from inference.pair import Pair
from inference.weights import Weights
from tests.oracles import Factor, LinearGaussian, by_hand

pytestmark = pytest.mark.usefixtures("double")
toy = LinearGaussian.make()
ALL: list[Bound] = [ELBO(), IWAE(), Renyi(0.5), Renyi(2.0), Renyi(-1.0), VRMax()]


def normal_weights(K: int, n: int) -> Weights:
    return Weights(log_p=torch.randn(K, n), log_q=torch.zeros(K, n))


@pytest.mark.parametrize("bound", ALL, ids=lambda b: b.name)
def test_every_bound_is_log_p_under_the_exact_posterior(bound: Bound) -> None:
    x = toy.data(5)
    value = bound(log_weights(toy.model, toy.exact, x, 50))
    torch.testing.assert_close(value, toy.log_prob(x), atol=1e-9, rtol=0)


def test_definitions_one_datum_at_a_time() -> None:
    weights = normal_weights(7, 4)
    w = weights.log_w
    K = 7
    expected = {
        ELBO(): by_hand(w, lambda c: c.sum() / K),
        IWAE(): by_hand(w, lambda c: c.exp().sum().div(K).log()),
        Renyi(0.5): by_hand(w, lambda c: c.exp().sqrt().sum().div(K).log() * 2),
        Renyi(2.0): by_hand(w, lambda c: -c.exp().reciprocal().sum().div(K).log()),
        VRMax(): by_hand(w, lambda c: c.max()),
    }
    for bound, value in expected.items():
        torch.testing.assert_close(bound(weights), value)


def test_renyi_meets_its_neighbours() -> None:
    weights = normal_weights(20, 3)
    torch.testing.assert_close(Renyi(1.0)(weights), ELBO()(weights))
    torch.testing.assert_close(Renyi(1.0 - 1e-7)(weights), ELBO()(weights), atol=1e-5, rtol=0)
    torch.testing.assert_close(Renyi(0.0)(weights), IWAE()(weights))
    torch.testing.assert_close(Renyi(-1e5)(weights), VRMax()(weights), atol=1e-4, rtol=0)


def test_directions() -> None:
    assert [b.direction for b in ALL] == ["lower", "lower", "lower", "lower", "upper", "estimate"]
    assert [guarantee_of(b) for b in ALL] == [*["expectation"] * 4, "limit", "none"]


def test_the_ladder_rises_to_log_p_per_datum() -> None:
    """L_1 <= L_5 <= L_50 <= log p(x), each datum, 4 standard errors: false alarm below 20 x 3 x 4e-5 = 0.2 %."""
    x = toy.data(20)
    weights = log_weights(toy.model, toy.wrong, x, 50_000)
    rungs = [estimate(IWAE(), weights, K) for K in (1, 5, 50)]
    for low, high in pairwise(rungs):
        assert bool((low.value < high.value + 4 * (low.standard_error**2 + high.standard_error**2).sqrt()).all())
    assert bool((rungs[-1].value < toy.log_prob(x) + 4 * rungs[-1].standard_error).all())
    gaps = [float((toy.log_prob(x) - rung.value).mean()) for rung in rungs]
    assert gaps[0] > 10 * gaps[1] / 5 > 0  # a wrong guide leaves a gap, and K closes it
    assert gaps[2] < gaps[1] / 4


def test_the_elbo_is_its_closed_form() -> None:
    x = toy.data(10)
    found = estimate(ELBO(), log_weights(toy.model, toy.wrong, x, 40_000), 1)
    z_scores = (found.value - toy.wrong_elbo(x)) / found.standard_error
    assert bool((z_scores.abs() < 4).all())  # false alarm: 10 x 6e-5
    assert bool((found.standard_error < 0.03).all())


@pytest.mark.parametrize("kl", ["monte_carlo", "analytic"])
def test_gradients_of_the_loss_match_autodiff_of_the_closed_form(kl: str) -> None:
    """Every coordinate within 4 standard errors over 400 independent losses: false alarm below 21 x 6e-5."""
    pair, x = Factor(), toy.data(6)
    exact = torch.autograd.grad(-pair.elbo(x).mean(), list(pair.parameters()))
    objective = Variational(ELBO(kl), num_particles=20)  # type: ignore[arg-type]
    phase = objective.task(Pair(pair.model, pair.guide), x).phases[0]
    draws = []
    for _ in range(400):
        gradients = torch.autograd.grad(phase.loss(x, torch.zeros(())).loss, list(pair.parameters()))
        draws.append(torch.cat([g.flatten() for g in gradients]))
    found = torch.stack(draws)
    target = torch.cat([g.flatten() for g in exact])
    error = found.std(0) / 20
    assert bool(((found.mean(0) - target).abs() <= 4 * error + 1e-10).all())
    assert float(target.abs().min()) > 1e-4  # a lost term would show


def test_iwae_gradient_weighs_draws_by_their_weights() -> None:
    log_w = torch.randn(6, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(IWAE()(Weights(log_w, torch.zeros(6, 3))).sum(), log_w)
    torch.testing.assert_close(gradient, log_w.detach().softmax(0))


def test_hopeless_weights_cost_neither_value_nor_denormals() -> None:
    log_w = torch.tensor([[0.0], [-30.0], [-60.0], [-745.0]], requires_grad=True)
    value = log_mean_exp(log_w)
    torch.testing.assert_close(value, log_w.logsumexp(0) - math.log(4), atol=1e-15, rtol=0)
    (gradient,) = torch.autograd.grad(value.sum(), log_w)
    assert gradient.flatten().tolist()[2:] == [0.0, 0.0]


@pytest.mark.parametrize("bound", ALL, ids=lambda b: b.name)
def test_estimate_is_the_mean_over_disjoint_groups(bound: Bound) -> None:
    weights = normal_weights(23, 3)
    groups = [bound(weights.map(lambda v, i=i: v[i : i + 5])) for i in (0, 5, 10, 15)]
    found = estimate(bound, weights, 5)
    torch.testing.assert_close(found.value, torch.stack(groups).mean(0))
    torch.testing.assert_close(found.standard_error, torch.stack(groups).std(0) / 2)


@pytest.mark.parametrize(("bound", "K"), [(ELBO(), 1), (ELBO(), 40), (IWAE(), 5), (IWAE(), 40), (Renyi(0.5), 40)])
def test_standard_errors_are_what_replication_shows(bound: Bound, K: int) -> None:
    """Mean reported variance over 4,000 replications against the variance over them: within a tenth."""
    found = estimate(bound, normal_weights(40, 4000), K)
    ratio = float(found.standard_error.square().mean() / found.value.var())
    assert ratio == pytest.approx(1.0, abs=0.1)  # s.e. of the ratio is about 0.03


def test_one_draw_does_not_know_its_error() -> None:
    assert bool(estimate(IWAE(), normal_weights(1, 2)).standard_error.isnan().all())


@pytest.mark.parametrize("K", [0, 6])
def test_estimate_refuses_a_k_it_cannot_give(K: int) -> None:
    with pytest.raises(ValueError, match=r"`num_particles` is (0|6), expected 1 to 5"):
        estimate(IWAE(), normal_weights(5, 2), K)


def test_analytic_elbo_needs_closed_forms() -> None:
    with pytest.raises(ValueError, match="needs weights with a closed-form KL"):
        ELBO(kl="analytic")(normal_weights(2, 2))
    with pytest.raises(ValueError, match="`kl` is 'exact', expected"):
        ELBO(kl="exact")  # type: ignore[arg-type]


def test_bounds_by_name() -> None:
    assert parse_bound("elbo") == (ELBO(), 1)
    assert parse_bound("IWAE:50") == (IWAE(), 50)
    assert parse_bound("renyi:0.5") == (Renyi(0.5), None)
    assert parse_bound("vr-max:7") == (VRMax(), 7)


@pytest.mark.parametrize("text", ["", "iwa", "iwae:0", "iwae:-3", "iwae:5:5", "iwae:x", "renyi", "renyi:nan", "elbo:2"])
def test_unknown_bounds_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"`(bounds|alpha)` "):
        parse_bound(text)


def test_own_bounds_are_plain_callables() -> None:
    class Median:
        name, direction = "median", "estimate"

        def __call__(self, weights: Weights) -> Tensor:
            return weights.log_w.median(0).values

    weights = normal_weights(11, 2)
    bound = Median()
    assert isinstance(bound, Bound)
    torch.testing.assert_close(estimate(bound, weights).value, weights.log_w.median(0).values)
