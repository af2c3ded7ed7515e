"""Breaks of a stick: their laws against SciPy's, divergences against quadrature and the paper's series, weights."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pyro
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor
from torch.distributions import Independent, kl_divergence
from torch.fx.experimental.proxy_tensor import make_fx

from ppmodels.sticks import (
    LogitBeta,
    LogitGammaRatio,
    LogitKumaraswamy,
    LogitSticks,
    kumaraswamy_beta_kl,
    log_stick_weights,
    mean_log_rest,
    stick_weights,
)

pytestmark = pytest.mark.usefixtures("double")

SHAPES = [(0.5, 0.5), (1.0, 5.0), (5.0, 1.0), (10.0, 0.5), (50.0, 1.0), (0.1, 3.0), (2.0, 2.0)]
LAWS: list[type[LogitSticks]] = [LogitBeta, LogitKumaraswamy, LogitGammaRatio]


def log_density(law: type[LogitSticks], s: np.ndarray, a: float, b: float) -> np.ndarray:
    """Of the logit of a break, from the density of the break as SciPy and textbooks have it."""
    log_v, log_rest = -np.logaddexp(0, -s), -np.logaddexp(0, s)
    if law is LogitBeta:
        return stats.beta.logpdf(special.expit(s), a, b) + log_v + log_rest
    if law is LogitGammaRatio:
        middle = special.gammaln(a + 1) / a - special.gammaln(b + 1) / b
        scale = 1 / math.sqrt(a * b)  # SciPy's asymmetry kappa falls by kappa to the right, 1 / kappa to the left
        return stats.laplace_asymmetric.logpdf(s, math.sqrt(b / a), middle, scale)
    v = special.expit(s)
    return np.log(a * b) + (a - 1) * log_v + (b - 1) * np.log1p(-(v**a)) + log_v + log_rest


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_densities_are_those_of_the_textbooks(law: type[LogitSticks], a: float, b: float) -> None:
    s = torch.linspace(-8.0, 8.0, 41)
    found = law(a, b).log_prob(s).numpy()
    np.testing.assert_allclose(found, log_density(law, s.numpy(), a, b), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_densities_integrate_to_one(law: type[LogitSticks], a: float, b: float) -> None:
    tail = 40 / min(a, b, 1.0)
    s = torch.linspace(-tail, tail, 400_001)
    assert float(torch.trapezoid(law(a, b).log_prob(s).exp(), s)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("a", "b"), [*SHAPES, (0.05, 0.05)])
def test_draws_follow_the_law(law: type[LogitSticks], a: float, b: float) -> None:
    """Kolmogorov and Smirnov's test at 1e-4, 24 times: a false alarm in 0.2 % of seeds."""
    draws = law(a, b).sample((4000,))
    assert bool(draws.isfinite().all())
    grid = torch.linspace(-60 / min(a, b, 1.0), 60 / min(a, b, 1.0), 800_001)
    cdf = torch.cumulative_trapezoid(law(a, b).log_prob(grid).exp(), grid).numpy()
    p = stats.kstest(draws.numpy(), lambda s: np.interp(s, grid[1:].numpy(), cdf)).pvalue
    assert p > 1e-4


@pytest.mark.parametrize(("a", "b"), [(0.05, 0.05), (1.0, 5.0), (50.0, 1.0)])
def test_draws_follow_scipys_law(a: float, b: float) -> None:
    """The same test, against SciPy's distribution functions: a false alarm in 0.1 % of seeds."""
    v = LogitBeta(a, b).sample((4000,)).numpy()
    keep = np.abs(v) < 30  # further out a break is 0 or 1 in double precision: both ends must be as full as SciPy says
    inside = stats.beta.cdf(special.expit([-30.0, 30.0]), a, b)
    for count, p in (((v <= -30).sum(), inside[0]), ((v >= 30).sum(), stats.beta.cdf(special.expit(-30.0), b, a))):
        assert abs(count - 4000 * p) <= 4 * math.sqrt(4000 * p * (1 - p)) + 1

    def within(s: np.ndarray) -> np.ndarray:
        return (stats.beta.cdf(special.expit(s), a, b) - inside[0]) / (inside[1] - inside[0])

    assert stats.kstest(v[keep], within).pvalue > 1e-4
    middle = special.gammaln(a + 1) / a - special.gammaln(b + 1) / b
    laplace = stats.laplace_asymmetric(math.sqrt(b / a), middle, 1 / math.sqrt(a * b))
    assert stats.kstest(LogitGammaRatio(a, b).sample((4000,)).numpy(), laplace.cdf).pvalue > 1e-4


@pytest.mark.parametrize("a", [0.5, 3.0])
def test_kumaraswamy_draws_follow_their_distribution_function(a: float) -> None:
    """A false alarm in 0.02 % of seeds."""
    law = LogitKumaraswamy(a, 2.5)
    assert stats.kstest(law.sample((4000,)).numpy(), lambda s: law.cdf(torch.as_tensor(s)).numpy()).pvalue > 1e-4


def test_beta_logits_have_the_means_gradients_of_digammas() -> None:
    """E[s] = psi(a) - psi(b): each draw's derivatives, averaged, are trigammas. False alarm: 6 x 6e-5."""
    for a, b in [(0.05, 0.3), (1.0, 5.0), (30.0, 2.0)]:
        shapes = [torch.full((40_000,), p, requires_grad=True) for p in (a, b)]
        found = torch.autograd.grad(LogitBeta(*shapes).rsample().sum(), shapes)
        for mine, true in zip(found, (special.polygamma(1, a), -special.polygamma(1, b)), strict=True):
            assert abs(float(mine.mean()) - true) < 4 * float(mine.std()) / 200


def test_kumaraswamy_has_its_distribution_function_and_moments() -> None:
    a, b = (torch.tensor(values) for values in zip(*SHAPES, strict=True))
    law, s = LogitKumaraswamy(a, b), torch.tensor([-3.0, 0.0, 2.0])[:, None]
    v = s.sigmoid()
    torch.testing.assert_close(law.cdf(s), 1 - (1 - v**a) ** b)
    for i, (shape, other) in enumerate(SHAPES):
        mean, _ = integrate.quad(lambda u, p=shape, q=other: (1 - u ** (1 / q)) ** (1 / p), 0, 1)
        assert float(law.mean_break[i]) == pytest.approx(mean, rel=1e-6)
    draws = law.sample((20_000,)).sigmoid()
    error = draws.std(0) / 20_000**0.5
    assert bool(((draws.mean(0) - law.mean_break).abs() < 4 * error).all())  # false alarm: 7 x 6e-5


@pytest.mark.parametrize("law", LAWS)
def test_paths_have_the_gradient_of_the_mean(law: type[LogitSticks]) -> None:
    """Of E[s] and E[s^2], by quadrature on the density differentiated. False alarm: 2 x 2 x 6e-5."""
    a, b = torch.tensor(0.7, requires_grad=True), torch.tensor(2.5, requires_grad=True)
    grid = torch.linspace(-60.0, 30.0, 200_001)
    for power in (1, 2):
        exact = torch.trapezoid(law(a, b).log_prob(grid).exp() * grid**power, grid)
        wanted = torch.autograd.grad(exact, (a, b))
        shapes = [p.detach().expand(40_000).clone().requires_grad_() for p in (a, b)]
        found = torch.autograd.grad((law(*shapes).rsample() ** power).sum(), shapes)
        for mine, true in zip(found, wanted, strict=True):
            assert abs(float(mine.mean() - true)) < 4 * float(mine.std()) / 200


@pytest.mark.parametrize("law", LAWS)
def test_log_prob_has_the_derivatives_it_says(law: type[LogitSticks]) -> None:
    s = torch.tensor([-4.0, -0.3, 0.2, 5.0], requires_grad=True)
    a, b = torch.tensor(0.8, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, a, b: law(a, b).log_prob(s), (s, a, b))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("a", "b"), [*itertools.product([1e-2, 1.0, 1e2], repeat=2)])
def test_nothing_is_lost_in_single_precision(law: type[LogitSticks], a: float, b: float) -> None:
    shapes = [torch.tensor(p, dtype=torch.float32, requires_grad=True) for p in (a, b)]
    s = law(*shapes).rsample((5000,))
    log_p = law(*shapes).log_prob(s)
    assert s.dtype == torch.float32
    assert bool(s.isfinite().all())
    assert bool(log_p.isfinite().all())
    gradients = torch.autograd.grad(log_p.sum() + stick_weights(s).square().sum(), shapes)
    assert all(bool(gradient.isfinite()) for gradient in gradients)


@pytest.mark.parametrize("law", LAWS)
def test_a_uniform_of_zero_is_no_outlier(law: type[LogitSticks], monkeypatch: pytest.MonkeyPatch) -> None:
    """One in 2^24 is zero in single precision: what is made of it lies beside what the next makes, log 2 away.

    Were it the least positive number, a break far out would come 1e31 times too often, and one particle of weight
    e^64 against Beta(1, 5) would be all of an estimate.
    """
    a, b = 1.0, 20.0
    q = law(*(torch.tensor(p, dtype=torch.float32) for p in (a, b)))
    draws = []
    for u in (0.0, 2.0**-24):
        monkeypatch.setattr(torch, "rand", lambda *size, u=u, **options: torch.full(*size, u, **options))
        torch.manual_seed(0)
        draws.append(q.sample())
    assert draws[0].dtype == torch.float32
    assert 0 < abs(float(draws[0] - draws[1])) < math.log(2) * (1 / a + 1 / b)


def draw_and_score(law: type[LogitSticks], a: Tensor) -> Tensor:
    s = law(a, 2.0, validate_args=False).rsample()
    return law(a, 2.0, validate_args=False).log_prob(s)


def test_laws_expand_and_have_graphs() -> None:
    for law in LAWS:
        p = law(torch.ones(4), 2.0).expand((3, 4)).to_event(1)
        assert p.batch_shape == (3,)
        assert p.rsample((2,)).shape == (2, 3, 4)

        draw, a = partial(draw_and_score, law), torch.rand(5) + 0.5
        graph = make_fx(draw)(a)
        torch.manual_seed(3)
        expected = draw(a)
        torch.manual_seed(3)
        assert torch.equal(graph(a), expected)
    with pyro.plate("data", 7, dim=-1):
        assert pyro.sample("s", LogitBeta(torch.ones(4), 2.0).to_event(1)).shape == (7, 4)
    with pytest.raises(ValueError, match="concentration0"):
        LogitBeta(1.0, -1.0, validate_args=True)


# -- divergences ---------------------------------------------------------------------------------------------

GRID = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0]
PRIORS = [(1.0, 5.0), (1.0, 1.0), (1.0, 0.1), (2.0, 3.0), (1.0, 10.0)]


def by_quadrature(a: float, b: float, alpha: float, beta: float) -> float:
    """E_q[log q - log p] over the logit on a fine grid of the exponential that a draw is made of."""
    t = np.linspace(-50.0, 12.0, 200_001)
    x = np.exp(t)  # v^a = 1 - e^-x, x exponential of rate b
    log_va = np.where(x < 0.7, np.log(-np.expm1(-x)), np.log1p(-np.exp(-np.maximum(x, 0.1))))
    log_v = log_va / a
    with np.errstate(divide="ignore"):
        log_rest = np.where(log_v > -1e-8, np.log(np.exp(-x) / a + 1e-320), np.log(-np.expm1(log_v)))
    log_rest = np.where(x > 600, -x - np.log(a), log_rest)
    log_q = np.log(a * b) + (a - 1) * log_v - (b - 1) * x
    log_p = (alpha - 1) * log_v + (beta - 1) * log_rest - special.betaln(alpha, beta)
    return float(np.trapezoid(b * x * np.exp(-b * x) * (log_q - log_p), t))


def series(a: float, b: float, beta: float, terms: int) -> float:
    """The paper's sum, so many terms of it."""
    m = np.arange(1, terms + 1)
    return float(np.exp(special.betaln(m / a, b) - np.log(m + a * b)).sum())


def paper(a: float, b: float, alpha: float, beta: float, terms: int, *, tail: bool = False) -> float:
    total = series(a, b, beta, terms)
    if tail:
        total += float(special.gamma(b) * a**b * (terms + 0.5) ** -b / b)
    first = (a - alpha) / a * (-np.euler_gamma - special.digamma(b) - 1 / b)
    return float(first + np.log(a * b) + special.betaln(alpha, beta) - (b - 1) / b + (beta - 1) * b * total)


@pytest.mark.parametrize("prior", PRIORS)
def test_kumaraswamy_from_beta_is_right_everywhere(prior: tuple[float, float]) -> None:
    for a, b in itertools.product(GRID, GRID):
        found = float(kumaraswamy_beta_kl(*map(torch.tensor, (a, b, *prior))))
        assert found == pytest.approx(by_quadrature(a, b, *prior), abs=1e-3), (a, b)


@pytest.mark.parametrize(("a", "b", "short"), [(0.5, 0.5, 1.54), (5.0, 1.0, 1.56), (10.0, 0.5, 6.28), (50.0, 1.0, 7.0)])
def test_ten_terms_of_the_series_are_short(a: float, b: float, short: float) -> None:
    """The figures of the paper's code, which stops there. A tail of the leading order helps where it holds: late."""
    exact = float(kumaraswamy_beta_kl(*map(torch.tensor, (a, b, 1.0, 5.0))))
    assert exact - paper(a, b, 1.0, 5.0, 10) == pytest.approx(short, abs=0.02)
    assert paper(a, b, 1.0, 5.0, 100 if a <= 10 else 1000, tail=True) == pytest.approx(exact, abs=0.1)
    assert paper(a, b, 1.0, 5.0, 100_000, tail=True) == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize(("size", "error"), [(0.01, 6e-3), (0.1, 6e-5), (1.0, 2e-6)])
def test_the_quadrature_errs_by_what_it_says(size: float, error: float) -> None:
    """Where both are small it is worst."""
    for a, b in itertools.product([size, 0.5, 1.0, 5.0, 50.0], repeat=2):
        if min(a, b) >= size:
            found = float(kumaraswamy_beta_kl(*map(torch.tensor, (a, b, 1.0, 2.0))))
            assert found == pytest.approx(by_quadrature(a, b, 1.0, 2.0), abs=error), (a, b)


def test_divergences_are_differentiable_and_found_by_torch() -> None:
    a, b = torch.tensor([0.3, 2.0], requires_grad=True), torch.tensor([0.4, 5.0], requires_grad=True)
    one, five = torch.ones(2), torch.full((2,), 5.0)
    assert torch.autograd.gradcheck(lambda a, b: kumaraswamy_beta_kl(a, b, one, five), (a, b))
    assert torch.autograd.gradcheck(mean_log_rest, (a, b))
    q, p = LogitKumaraswamy(a, b).to_event(1), LogitBeta(one, five).to_event(1)
    assert isinstance(q, Independent)
    torch.testing.assert_close(kl_divergence(q, p), kumaraswamy_beta_kl(a, b, one, five).sum())
    single = kumaraswamy_beta_kl(*(v.detach().float() for v in (a, b, one, five)))
    torch.testing.assert_close(single.double(), kumaraswamy_beta_kl(a, b, one, five), rtol=1e-4, atol=1e-4)


def test_divergence_of_betas() -> None:
    q, p = LogitBeta(torch.tensor(0.7), torch.tensor(2.0)), LogitBeta(torch.tensor(1.0), torch.tensor(5.0))
    s = torch.linspace(-60.0, 40.0, 200_001)
    exact = torch.trapezoid(q.log_prob(s).exp() * (q.log_prob(s) - p.log_prob(s)), s)
    torch.testing.assert_close(kl_divergence(q, p), exact, rtol=1e-6, atol=1e-6)


# -- weights -------------------------------------------------------------------------------------------------


def test_weights_are_the_pieces_of_a_stick() -> None:
    v = torch.tensor([0.3, 0.9, 0.5])
    expected = torch.tensor([0.3, 0.7 * 0.9, 0.7 * 0.1 * 0.5, 0.7 * 0.1 * 0.5])
    torch.testing.assert_close(stick_weights(v.logit()), expected)


@pytest.mark.parametrize("size", [1.0, 10.0, 1000.0])
def test_weights_add_up_in_single_precision(size: float) -> None:
    logits = size * torch.randn(1000, 199, dtype=torch.float32)
    weights = stick_weights(logits)
    assert weights.shape == (1000, 200)
    assert bool((weights >= 0).all())
    assert float((weights.double().sum(-1) - 1).abs().max()) < 2e-5
    assert bool(log_stick_weights(logits).isfinite().all())
    exact = log_stick_weights(logits.double())
    torch.testing.assert_close(log_stick_weights(logits).double(), exact, rtol=1e-5, atol=1e-4)
