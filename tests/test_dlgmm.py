"""Mixtures in the guide and DLGMM: the stratified bound against quadrature, closed forms, Pyro and the paper's code."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from scipy import stats
from torch import Tensor, nn
from torch.distributions import Independent, MixtureSameFamily, Normal

from examples import deep_latent_mixture
from guides import AmortizedMixture, AmortizedNormal, ConditionalKumaraswamy, MixtureGuide
from inference import ELBO, IWAE, Annealing, Variational, adam, ais, fit, log_likelihood, log_weights
from inference.closed_form import closed_form_sites
from inference.draws import draw_weights
from inference.pair import Pair
from inference.particles import inspect_pair, run_particles
from ppmodels.components import ConditionalNormals
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal, HomoscedasticNormal
from ppmodels.dlgmm import DLGMM, NormalComponents
from ppmodels.nets import MLP
from ppmodels.priors import DirichletSticks, StandardNormal, StickBreaking
from ppmodels.vae import VAE

pytestmark = pytest.mark.usefixtures("double")

X_DIM = 3


def data(n: int = 4) -> Tensor:
    return torch.randn(n, X_DIM, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def linear(z_dim: int) -> HomoscedasticNormal:
    return HomoscedasticNormal(MLP(z_dim, ()), X_DIM, scale=1.2)


def tame(*nets: nn.Module) -> None:
    """Make a net's outputs a fifth of what fresh ones are, so that few draws and a small grid will do."""
    with torch.no_grad():
        for net in nets:
            for parameter in net.parameters():
                parameter.mul_(0.2)


def components(z_dim: int, K: int) -> ConditionalNormals:
    made = ConditionalNormals(MLP(X_DIM, ()), z_dim, K)
    tame(made.log_scale)
    return made


def sticks(count: int) -> ConditionalKumaraswamy:
    made = ConditionalKumaraswamy(MLP(X_DIM, ()), count)
    tame(made)
    return made


def vae(z_dim: int, K: int) -> tuple[VAE, AmortizedMixture]:
    return VAE(StandardNormal(z_dim), linear(z_dim)), AmortizedMixture(MLP(X_DIM, ()), components(z_dim, K))


def dlgmm(z_dim: int, K: int, **options: Any) -> tuple[DLGMM, MixtureGuide]:
    """Components of the model a unit apart; the sticks' posterior depends on the datum."""
    loc = torch.linspace(-1.0, 1.0, K)[:, None] * torch.ones(z_dim)
    model = DLGMM(DirichletSticks(K), NormalComponents(loc, 0.8, learned=True), linear(z_dim))
    return model, MixtureGuide(sticks(K - 1), components(z_dim, K), **options)


PAIRS: dict[str, Callable[[], tuple[nn.Module, nn.Module]]] = {
    "mixture": lambda: vae(2, 3),
    "dlgmm": lambda: dlgmm(2, 3),
}


def normals(guide: AmortizedMixture | MixtureGuide, x: Tensor) -> Normal:
    """The guide's components, batch `(n, K, z_dim)`."""
    every: Any = guide.components(x)
    return every.base_dist  # type: ignore[no-any-return]


# -- the model -----------------------------------------------------------------------------------------------


def sticks_to_weights(v: Any) -> Any:
    """pi_k = v_k prod_{j<k} (1 - v_j), the last share what is left, by NumPy."""
    left = np.cumprod(1 - v, -1)
    return np.concatenate([v, np.ones_like(v[..., :1])], -1) * np.concatenate([np.ones_like(v[..., :1]), left], -1)


def test_joint_density_is_the_formula() -> None:
    K, z_dim = 4, 2
    model, _ = dlgmm(z_dim, K)
    logit_v, z, x = torch.randn(5, K - 1), torch.randn(5, z_dim), torch.randn(5, X_DIM)
    with poutine.condition(data={"logit_v": logit_v, "z": z}):
        trace = poutine.trace(model).get_trace(x)
    trace.compute_log_prob()
    v = logit_v.sigmoid().numpy()
    pi = sticks_to_weights(v)
    np.testing.assert_allclose(trace.nodes["v"]["value"], v, rtol=1e-12)
    np.testing.assert_allclose(trace.nodes["pi"]["value"], pi, rtol=1e-12)
    loc = np.linspace(-1, 1, K)[:, None] * np.ones(z_dim)
    density = stats.norm.pdf(z.numpy()[:, None], loc, 0.8).prod(-1)
    np.testing.assert_allclose(trace.nodes["z"]["log_prob"].detach(), np.log((pi * density).sum(-1)), rtol=1e-10)
    sticks = stats.beta.logpdf(v, 1.0, np.arange(K - 1, 0, -1)) + np.log(v * (1 - v))
    np.testing.assert_allclose(trace.nodes["logit_v"]["log_prob"], sticks.sum(-1), rtol=1e-10)


@pytest.mark.parametrize("prior", [DirichletSticks, StickBreaking])
def test_draws_have_the_moments_of_a_mixture_of_mixtures(prior: Callable[[int], nn.Module]) -> None:
    """Over the sticks a draw is from component k with probability E[pi_k]. False alarm: 3 x 6e-5."""
    loc = torch.tensor([[-2.0], [0.0], [1.0]])
    model, n = DLGMM(prior(3), NormalComponents(loc, torch.tensor([[0.5], [1.0], [2.0]])), linear(1)), 20_000
    trace = poutine.trace(model).get_trace(n=n)
    z, pi = (trace.nodes[name]["value"].detach() for name in ("z", "pi"))
    torch.testing.assert_close(pi.sum(-1), torch.ones(n))
    for f, wanted in (
        (z[:, 0], pi @ loc[:, 0]),
        (z[:, 0] ** 2, pi @ (loc[:, 0] ** 2 + torch.tensor([0.25, 1.0, 4.0]))),
        ((z[:, 0] < 0).double(), pi @ torch.tensor(stats.norm.cdf(0, [-2.0, 0.0, 1.0], [0.5, 1.0, 2.0]))),
    ):
        assert float((f - wanted).mean().abs()) < 4 * float((f - wanted).std()) / n**0.5


def test_weights_at_the_end_of_the_real_line_are_finite() -> None:
    model, _ = dlgmm(2, 4)
    model = model.float()
    logit_v = torch.tensor([[-90.0, 90.0, 0.0], [200.0, 200.0, -200.0]], dtype=torch.float32, requires_grad=True)
    with poutine.condition(data={"logit_v": logit_v, "z": torch.zeros(2, 2, dtype=torch.float32)}):
        trace = poutine.trace(model).get_trace(torch.zeros(2, X_DIM, dtype=torch.float32))
    total = trace.log_prob_sum()
    (gradient,) = torch.autograd.grad(total, [logit_v])
    assert bool(total.isfinite())
    assert bool(gradient.isfinite().all())


def test_components_are_buffers_or_parameters() -> None:
    fixed, learned = (NormalComponents(torch.zeros(3, 2), learned=learned) for learned in (False, True))
    assert list(fixed.parameters()) == []
    assert list(learned.state_dict()) == list(fixed.state_dict()) == ["loc", "log_scale"]
    assert learned().batch_shape == (3,)
    assert learned().event_shape == (2,)
    model = DLGMM(DirichletSticks(3), fixed, linear(2))
    assert model.sites == ("logit_v", "z")
    assert model(n=5).shape == (5, X_DIM)


# -- the bound -----------------------------------------------------------------------------------------------


def test_weights_are_the_formula_stratum_by_stratum() -> None:
    """Every component's draw under the density of the whole mixture, of mass pi_k."""
    S, K = 3, 5
    model, guide = dlgmm(2, S)
    x = data()
    layout = inspect_pair(Pair(model, guide), x)
    torch.manual_seed(3)
    trace, _ = run_particles(Pair(model, guide), x, K, layout)
    torch.manual_seed(3)
    weights = draw_weights(Pair(model, guide), x, K, layout)
    logit_v, z = (trace.nodes[name]["value"] for name in ("logit_v", "z"))
    assert z.shape == (S, K, 4, 2)
    log_pi = torch.tensor(sticks_to_weights(logit_v.sigmoid().detach().numpy())).log()  # (K, n, S)
    q = Independent(normals(guide, x), 1)
    log_q_z = (q.log_prob(z.unsqueeze(-2)) + log_pi).logsumexp(-1)  # (S, K, n)
    p = Independent(Normal(model.components.loc, model.components.log_scale.exp()), 1)
    log_p_z = (p.log_prob(z.unsqueeze(-2)) + log_pi).logsumexp(-1)
    sticks = model.sticks().log_prob(logit_v) - guide.sticks(x).log_prob(logit_v)
    log_w = model.likelihood(z).log_prob(x) + log_p_z - log_q_z + sticks
    log_mass = log_pi.movedim(-1, 0)
    torch.testing.assert_close(weights.elbo_terms, (log_mass.exp() * log_w).sum(0), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(weights.log_w, (log_mass + log_w).logsumexp(0), rtol=1e-10, atol=1e-10)


def line(points: int = 2001, width: float = 12.0) -> Tensor:
    return torch.linspace(-width, width, points)


def quadrature_of_mixture(model: VAE, guide: AmortizedMixture, x: Tensor) -> tuple[Tensor, Tensor]:
    """ELBO and log p(x) of a pair with one latent in one dimension, by the trapezoidal rule."""
    z = line()[:, None, None]
    q = MixtureSameFamily(torch.distributions.Categorical(logits=guide.weights(x)), Independent(normals(guide, x), 1))
    log_q = q.log_prob(z.expand(-1, len(x), 1))
    log_p = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
    return _integrate(log_q.exp() * (log_p - log_q), z), _integrate(log_p.exp(), z).log()


def _integrate(values: Tensor, grid: Tensor) -> Tensor:
    return torch.trapezoid(values, grid.flatten(), dim=0)


def quadrature_of_dlgmm(model: DLGMM, guide: MixtureGuide, x: Tensor) -> tuple[Tensor, Tensor]:
    """The same for one stick and one dimension, on a grid of both."""
    s, z = line(400, 25.0)[:, None, None], line(300)[:, None]
    log_pi = torch.stack([nn.functional.logsigmoid(s), nn.functional.logsigmoid(-s)], -1)  # (s, 1, 1, 2)
    at = z[..., None, None]  # (z, 1, 1, 1)
    log_q_z = (normals(guide, x).log_prob(at).sum(-1) + log_pi).logsumexp(-1)  # (s, z, n)
    p = Normal(model.components.loc, model.components.log_scale.exp())
    log_p_z = (p.log_prob(at).sum(-1) + log_pi).logsumexp(-1)  # (s, z, 1)
    log_p_v, log_q_v = (d.log_prob(s[:, 0, :, None]) for d in (model.sticks(), guide.sticks(x)))  # (s, 1), (s, n)
    log_p_x = model.likelihood(z[..., None]).log_prob(x)  # (z, n)
    log_p = log_p_x + log_p_z + log_p_v[:, None]
    log_q = log_q_z + log_q_v[:, None]
    both = (log_q.exp() * (log_p - log_q), log_p.exp())
    elbo, evidence = (_integrate(torch.trapezoid(f, z.flatten(), dim=1), s) for f in both)
    return elbo, evidence.log()


CASES: dict[str, tuple[Callable[[], tuple[Any, Any]], Callable[..., tuple[Tensor, Tensor]]]] = {
    "mixture": (lambda: vae(1, 3), quadrature_of_mixture),
    "dlgmm": (lambda: dlgmm(1, 2), quadrature_of_dlgmm),
}


@pytest.mark.parametrize("name", CASES)
def test_stratified_bound_and_its_gradient_are_their_integrals(name: str) -> None:
    """Gradients of weights too, which reach the bound by masses and densities. False alarm: (4 + 30) x 6e-5 a pair."""
    make, quadrature = CASES[name]
    model, guide = make()
    x, K = data(), 10_000
    exact, _ = quadrature(model, guide, x)
    terms = log_weights(model, guide, x, K).elbo_terms
    assert bool(((terms.mean(0) - exact).abs() < 4 * terms.std(0) / K**0.5).all())
    parameters = [*model.parameters(), *guide.parameters()]
    wanted = torch.autograd.grad(exact.sum(), parameters)
    pair = Pair(model, guide)
    layout = inspect_pair(pair, x)
    draws = [
        torch.autograd.grad(draw_weights(pair, x, 100, layout).elbo_terms.mean(0).sum(), parameters) for _ in range(80)
    ]
    for found, true in zip(zip(*draws, strict=True), wanted, strict=True):
        values = torch.stack(found)
        assert bool((true.abs() > 1e-6).all())
        assert bool(((values.mean(0) - true).abs() < 4 * values.std(0) / 80**0.5).all())


@pytest.mark.parametrize("name", CASES)
def test_importance_sampling_and_annealing_find_log_p(name: str) -> None:
    """With strata and without: chains move the sticks' logits. False alarm: 2 x 2 x 4 x 6e-5."""
    make, quadrature = CASES[name]
    model, guide = make()
    x = data()
    tame(guide.components.loc)
    with torch.no_grad():
        guide.components.log_scale[0].bias.fill_(0.3)  # wider than the posterior
        _, exact = quadrature(model, guide, x)
        sampled = log_likelihood(model, guide, x, num_particles=4000)
        chained = ais(model, guide, x, annealing=Annealing(num_chains=64, num_temperatures=60))
    for found in (sampled, chained):
        assert bool(((found.value - exact).abs() < 4 * found.standard_error).all())


def test_equal_components_are_one_normal() -> None:
    """The mean of the log weights that the one normal gives to the draws, in any number, whatever the weights."""
    model, mixture = vae(2, 4)
    x = data()
    with torch.no_grad():
        for net in (mixture.components.loc, mixture.components.log_scale):
            head: Any = net[0]  # type: ignore[index]
            for parameter in head.parameters():
                parameter.copy_(parameter.reshape(4, -1)[0].repeat(4).reshape(parameter.shape))
    one = normals(mixture, x).loc[:, 0], normals(mixture, x).scale[:, 0]
    for level in (False, True):
        if level:
            with torch.no_grad():
                for parameter in mixture.weights.parameters():
                    parameter.zero_()
        layout = inspect_pair(Pair(model, mixture), x)
        torch.manual_seed(3)
        trace, _ = run_particles(Pair(model, mixture), x, 5, layout)
        torch.manual_seed(3)
        weights = draw_weights(Pair(model, mixture), x, 5, layout)
        z = trace.nodes["z"]["value"]  # (4, 5, n, 2)
        log_q = Normal(*one).log_prob(z).sum(-1)
        log_w = model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - log_q
        mass = mixture.weights(x).softmax(-1).T.unsqueeze(1)  # (4, 1, n)
        torch.testing.assert_close(weights.elbo_terms, (mass * log_w).sum(0), rtol=1e-10, atol=1e-10)
    normal = AmortizedNormal(ConditionalNormal(MLP(X_DIM, ()), 2))
    (conditional,) = normal.layers
    with torch.no_grad():
        for name, net in (("loc", mixture.components.loc), ("log_scale", mixture.components.log_scale)):
            for a, b in zip(getattr(conditional, name).parameters(), net.parameters(), strict=True):
                a.copy_(b[:2])
        many = [log_weights(model, guide, x, 5000).elbo_terms for guide in (mixture, normal)]
    error = (many[0].var(0) / 5000 + many[1].var(0) / 5000).sqrt()
    assert bool(((many[0].mean(0) - many[1].mean(0)).abs() < 4 * error).all())  # false alarm: 4 x 6e-5


def test_without_strata_it_is_pyros_bound() -> None:
    model, guide = dlgmm(2, 3, stratify=False)
    x = data()
    layout = inspect_pair(Pair(model, guide), x)
    torch.manual_seed(2)
    ours = -ELBO()(draw_weights(Pair(model, guide), x, 1, layout)).sum()
    torch.manual_seed(2)
    theirs = Trace_ELBO(max_plate_nesting=1).loss(model, guide, x)
    assert float(ours.detach()) == pytest.approx(theirs, abs=1e-10)
    strata, plain = (log_weights(*dlgmm_of(guide, model, on), x, 10_000).elbo_terms for on in (True, False))
    error = (strata.var(0) / 10_000 + plain.var(0) / 10_000).sqrt()
    assert bool(((strata.mean(0) - plain.mean(0)).abs() < 4 * error).all())  # false alarm: 4 x 6e-5
    assert bool((strata.var(0) < plain.var(0)).all())


def dlgmm_of(guide: MixtureGuide, model: DLGMM, stratify: bool) -> tuple[DLGMM, MixtureGuide]:
    return model, MixtureGuide(guide.sticks, guide.components, stratify=stratify)


def test_closed_form_of_the_sticks_keeps_the_mean() -> None:
    model, guide = dlgmm(2, 4)
    x, K = data(), 10_000
    pair = Pair(model, guide)
    layout = inspect_pair(pair, x)
    assert closed_form_sites(pair, x, layout) == ("logit_v",)
    weights = draw_weights(pair, x, K, layout, analytic_kl=("logit_v",))
    difference = weights.kl["logit_v"] - weights.analytic_kl["logit_v"]
    assert bool((difference.mean(0).abs() < 4 * difference.std(0) / K**0.5).all())  # false alarm: 4 x 6e-5
    torch.testing.assert_close(ELBO("analytic").terms(weights), weights.elbo_terms + difference)


# -- the entropy ---------------------------------------------------------------------------------------------


def entropies(q: MixtureSameFamily, nodes: int = 80) -> tuple[float, float, float]:
    """Of one mixture of two normals in one dimension: as the authors' code has it, of the components, of the whole."""
    pi, normal = q.mixture_distribution.probs, q.component_distribution.base_dist
    grid, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(nodes))
    mass = weights / (2 * math.pi) ** 0.5
    z = normal.loc[:, 0] + normal.scale[:, 0] * grid[:, None]  # (nodes, 2), draws of each
    own = pi * normal.log_prob(z.unsqueeze(-1))[..., 0].exp()  # pi_k q_k(z_k)
    code = -torch.einsum("i,j,ij->", mass, mass, (own[:, None, 0] + own[None, :, 1]).log())
    parts = (pi * Independent(normal, 1).entropy()).sum()
    grid = line(20_001, 30.0)
    log_q = q.log_prob(grid[:, None])
    return float(code), float(parts), float(-torch.trapezoid(log_q.exp() * log_q, grid))


@pytest.mark.parametrize("apart", [0.0, 0.7, 3.0, 12.0])
def test_entropy_of_each_component_at_its_own_draw_is_too_low(apart: float) -> None:
    """The code's estimator, E log sum_k pi_k q_k(z_k) for the density, never exceeds the components' mean entropy."""
    guide = vae(1, 2)[1]
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.zero_()
        guide.components.loc[0].bias.copy_(torch.tensor([0.0, apart]))  # type: ignore[index]
        guide.components.log_scale[0].bias.copy_(torch.tensor([0.0, 0.5]))  # type: ignore[index]
        guide.weights[-1].bias.copy_(torch.tensor([0.4, 0.0]))
    x = torch.zeros(1, X_DIM)
    with torch.no_grad():
        mixture: Any = guide.mixture(x)
        single = MixtureSameFamily(
            torch.distributions.Categorical(probs=mixture.mixture_distribution.probs[0]),
            Independent(Normal(*(v[0] for v in (normals(guide, x).loc, normals(guide, x).scale))), 1),
        )
        code, parts, whole = entropies(single)
        assert code < parts - 0.1
        assert parts - 1e-9 < whole < parts + float(single.mixture_distribution.entropy()) + 1e-9
        model, K = VAE(StandardNormal(1), linear(1)), 20_000
        layout = inspect_pair(Pair(model, guide), x)
        torch.manual_seed(4)
        trace, _ = run_particles(Pair(model, guide), x, K, layout)
        torch.manual_seed(4)
        ours = draw_weights(Pair(model, guide), x, K, layout).elbo_terms
    z, pi = trace.nodes["z"]["value"], single.mixture_distribution.probs  # (2, K, 1, 1)
    log_p = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
    own = torch.stack([pi[k] * normals(guide, x).log_prob(z[k].unsqueeze(-2))[..., k, 0].exp() for k in range(2)])
    theirs = (pi[:, None, None] * log_p).sum(0) - own.sum(0).log()
    difference = (ours - theirs).detach()
    error = float(difference.std()) / K**0.5
    assert float(difference.mean()) == pytest.approx(whole - code, abs=4 * error)  # false alarm: 4 x 6e-5


def test_three_bounds_of_the_same_draws_in_their_order() -> None:
    """The code's, that of a component told as a latent of its own, and ours, which sums it out on both sides.

    The first two are in order draw by draw, the last two in the mean.
    """
    S, K = 3, 4000
    model, guide = dlgmm(2, S)
    x = data()
    layout = inspect_pair(Pair(model, guide), x)
    with torch.no_grad():
        torch.manual_seed(3)
        trace, _ = run_particles(Pair(model, guide), x, K, layout)
        torch.manual_seed(3)
        ours = draw_weights(Pair(model, guide), x, K, layout).elbo_terms
        logit_v, z = (trace.nodes[name]["value"] for name in ("logit_v", "z"))
        log_pi = torch.tensor(sticks_to_weights(logit_v.sigmoid().numpy())).log().movedim(-1, 0)  # (S, K, n)
        p = Normal(model.components.loc, model.components.log_scale.exp())
        q = normals(guide, x)
        own_p = torch.stack([p.log_prob(z[k].unsqueeze(-2)).sum(-1)[..., k] for k in range(S)])  # (S, K, n)
        own_q = torch.stack([q.log_prob(z[k].unsqueeze(-2)).sum(-1)[..., k] for k in range(S)])
        rest = model.sticks().log_prob(logit_v) - guide.sticks(x).log_prob(logit_v)
        log_p = (log_pi.exp() * (model.likelihood(z).log_prob(x) + own_p)).sum(0) + rest
        told = log_p - (log_pi.exp() * own_q).sum(0)
        code = log_p - (log_pi + own_q).logsumexp(0)
    assert bool((code <= told + 1e-12).all())
    gain = ours - told
    assert bool((gain.mean(0) > 4 * gain.std(0) / K**0.5).all())


def test_like_components_in_25_dimensions_give_away_two_nats() -> None:
    """Of the code's density, for three of equal weight; -log q of a draw is half a chi-square and a constant."""
    guide = AmortizedMixture(MLP(X_DIM, ()), ConditionalNormals(MLP(X_DIM, ()), 25, 3))
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.zero_()
        every, x = normals(guide, torch.zeros(20_000, X_DIM)), torch.zeros(20_000, X_DIM)
        z = Independent(every, 1).sample()  # (n, 3, 25), a draw of each
        whole = guide.mixture(x).log_prob(z.movedim(1, 0)).mean(0)
        code = (Independent(every, 1).log_prob(z) - math.log(3)).logsumexp(-1)
    lost = code - whole
    half = -0.5 * torch.tensor(stats.chi2.rvs(25, size=(200_000, 3), random_state=0))
    exact = half.logsumexp(-1) - math.log(3) + 12.5
    error = (lost.var() / len(lost) + exact.var() / len(exact)).sqrt()
    assert float((lost.mean() - exact.mean()).abs()) < 4 * float(error)  # false alarm: 6e-5
    assert float(exact.mean()) == pytest.approx(1.98, abs=0.02)


# -- training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("bound", [ELBO(), IWAE()], ids=["elbo", "iwae"])
def test_gradients_reach_every_parameter_and_replays_have_the_bits(name: str, bound: Any) -> None:
    found = []
    for mode in ("eager", "replay"):
        torch.manual_seed(0)
        model, guide = PAIRS[name]()
        before = [p.detach().clone() for p in (*model.parameters(), *guide.parameters())]
        fitted = fit(model, guide, data(), Variational(bound, 2), steps=5, mode=mode, seed=1)  # type: ignore[arg-type]
        after = [p.detach() for p in (*model.parameters(), *guide.parameters())]
        assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert set(fitted.modes["bound"].values()) == {mode}
        found.append(after)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_mixture_covers_two_humps_where_a_normal_cannot() -> None:
    """x = |z| and noise: the posterior has two humps, at a cost of log 2 to a guide of one."""

    class Distance(nn.Module):
        def forward(self, z: Tensor) -> Any:
            return pyro.distributions.Normal(z.abs(), 0.4).to_event(1)

    x = 2.0 + 0.2 * torch.randn(64, 1)
    normal = AmortizedNormal(ConditionalNormal(MLP(1, ()), 1))
    mixture = AmortizedMixture(MLP(1, ()), ConditionalNormals(MLP(1, ()), 1, 2))
    tame(mixture.weights, mixture.components.log_scale, normal.layers[0].log_scale)  # type: ignore[arg-type]
    with torch.no_grad():  # one component on either side: else both may end in the same hump
        mixture.components.loc[0].weight.copy_(torch.tensor([[-1.0], [1.0]]))  # type: ignore[index]
        normal.layers[0].loc.weight.fill_(1.0)  # type: ignore[union-attr]
    found = []
    for guide in (normal, mixture):
        model = VAE(StandardNormal(1), Distance())
        fit(model, guide, x, Variational(ELBO(), 4), steps=300, batch_size=64, optimizer=adam(0.02), mode="replay")
        found.append(float(log_weights(model, guide, x, 500).elbo_terms.detach().mean()))
    assert found[1] - found[0] == pytest.approx(math.log(2), abs=0.03)


def test_nets_may_share_their_features() -> None:
    features = MLP(X_DIM, (8,))
    pairs = (
        (
            VAE(StandardNormal(2), linear(2)),
            AmortizedMixture(MLP(8, ()), ConditionalNormals(MLP(8, ()), 2, 3), features=features),
        ),
        (
            dlgmm(2, 3)[0],
            MixtureGuide(
                ConditionalKumaraswamy(MLP(8, ()), 2), ConditionalNormals(MLP(8, ()), 2, 3), features=features
            ),
        ),
    )
    for model, guide in pairs:
        assert log_weights(model, guide, data(), 3).log_w.shape == (3, 4)
        assert sum(parameter is features[0].weight for parameter in guide.parameters()) == 1
    assert AmortizedMixture(MLP(3, ()), components(2, 3), site="u")(data()).shape == (4, 2)


# -- what is refused -----------------------------------------------------------------------------------------


class Flat(nn.Module):
    """Components that are none: one distribution."""

    def forward(self) -> Any:
        return Independent(Normal(torch.zeros(2), 1.0), 1)


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda: NormalComponents(torch.zeros(25)), ValueError, r"`loc` must have shape \(K, z_dim\), .*got \(25,\)"),
        (lambda: NormalComponents(torch.zeros(1, 25)), ValueError, r"K at least 2, got \(1, 25\)"),
        (
            lambda: NormalComponents(torch.zeros(3, 2), 0.0),
            ValueError,
            r"`scale` must be positive and broadcast to \(3, 2",
        ),
        (lambda: NormalComponents(torch.zeros(3, 2), torch.ones(3)), ValueError, r"broadcast to \(3, 2\)"),
        (
            lambda: DLGMM(DirichletSticks(4), NormalComponents(torch.zeros(3, 2)), linear(2)),
            ValueError,
            "`sticks` makes 3 sticks, enough for 4 components, but `components` makes 3: expected one",
        ),
        (
            lambda: DLGMM(DirichletSticks(3), NormalComponents(torch.zeros(3, 2)), linear(4)),
            ValueError,
            "`likelihood` takes vectors of length 4, but `components` makes vectors of length 2",
        ),
        (lambda: DLGMM(DirichletSticks(3), 3, linear(2)), TypeError, "`components` must be a module.*got int"),  # type: ignore[arg-type]
        (
            lambda: DLGMM(DirichletSticks(3), Flat(), linear(2)),
            ValueError,
            r"got batch_shape \(\) and event_shape \(2,\)",
        ),
        (lambda: DLGMM("sticks", NormalComponents(torch.zeros(3, 2)), linear(2)), TypeError, "got str"),  # type: ignore[arg-type]
        (lambda: dlgmm(2, 3)[0](torch.zeros(5, 9)), ValueError, r"`x` must have shape \(n, 3\).*got \(5, 9\)"),
        (
            lambda: MixtureGuide(ConditionalKumaraswamy(MLP(X_DIM, ()), 3), components(2, 3)),
            ValueError,
            "`sticks` makes 3 sticks, enough for 4 components, but `components` makes 3: expected one",
        ),
        (
            lambda: MixtureGuide(ConditionalKumaraswamy(MLP(7, ()), 2), components(2, 3)),
            ValueError,
            "`components` takes vectors of length 3, but `x` makes vectors of length 7",
        ),
        (
            lambda: AmortizedMixture(MLP(5, ()), components(2, 3), features=MLP(X_DIM, (8,))),
            ValueError,
            "`trunk` takes vectors of length 5, but `features` makes vectors of length 8",
        ),
        (
            lambda: AmortizedMixture(MLP(X_DIM, ()), ConditionalNormal(MLP(X_DIM, ()), 2)),
            ValueError,
            "`components` must say how many it makes, got ConditionalNormal",
        ),
        (lambda: AmortizedMixture(nn.ReLU(), components(2, 3)), TypeError, "`trunk` must be a module that says"),  # type: ignore[arg-type]
        (lambda: AmortizedMixture(MLP(X_DIM, ()), 3), TypeError, "`components` must be a conditional"),  # type: ignore[arg-type]
        (lambda: vae(2, 3)[1](torch.zeros(3)), ValueError, r"`x` must have shape \(n, x_dim\), .*got \(3,\)"),
        (lambda: dlgmm(2, 3)[1](torch.zeros(3)), ValueError, r"`x` must have shape \(n, x_dim\), .*got \(3,\)"),
        (lambda: vae(2, 1), ValueError, "`components` must be an integer, at least 2, got 1"),
    ],
)
def test_errors(act: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        act()


def test_the_example_trains_and_compares(capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_default_dtype(torch.float32)
    deep_latent_mixture.main(epochs=2, size=40)
    out = capsys.readouterr().out
    assert [name for name in ("normal", "mixture", "dlgmm") if f"\n{name}\n" in out] == ["normal", "mixture", "dlgmm"]
    found = re.findall(r"of the DLGMM less the normal's: ([+-]\d+\.\d\d) nats", out)
    assert len(found) == 2
    assert float(re.findall(r"authors' entropy it would be (\S+) nats lower", out)[0]) > 0.3


def test_a_likelihood_of_bits_and_a_deep_pair_run() -> None:
    model = DLGMM(DirichletSticks(3), NormalComponents(torch.zeros(3, 2)), ConditionalBernoulli(MLP(2, (8,)), 6))
    guide = MixtureGuide(ConditionalKumaraswamy(MLP(6, (8,)), 2), ConditionalNormals(MLP(6, (8,)), 2, 3))
    assert log_weights(model, guide, model(n=7), 4).log_w.isfinite().all()
