"""Estimators against exact gradients: closed forms, enumeration, and each other.

A pair here holds R copies of its parameters, one for each row of the batch, and every row is the same datum: a single
backward pass is then R independent gradients. Their mean is judged entry by entry in standard errors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from inference.bounds import CIWAE, CUBO, ELBO, EUBO, IWAE, MIWAE, PIWAE, TVO, Bound, Renyi, Split, VRMax, bound
from inference.draws import draw_weights, log_weights
from inference.estimators import (
    STL,
    VIMCO,
    ByCoefficients,
    DReG,
    Enumeration,
    Estimator,
    GumbelSoftmax,
    Pathwise,
    ReweightedWakeSleep,
    ScoreFunction,
    StraightThrough,
    ThermodynamicCovariance,
    enumerate_latents,
    parse_estimator,
)
from inference.estimators.derivatives import curvature_of, is_linear, slope_of
from inference.fit import fit
from inference.objectives import Variational
from inference.optim import adam
from inference.pair import Pair
from inference.particles import inspect_pair
from inference.weights import Weights
from tests.oracles import Factor

pytestmark = pytest.mark.usefixtures("double")
GUIDE = ("A", "c", "log_scale", "g")
"""The names of the guide's parameters in the pairs below."""


@bound("lower")
def root(weights: Weights) -> Tensor:
    """A bound of nobody's: IWAE and ELBO in shares that depend on the weights."""
    share = torch.sigmoid(weights.log_w.mean(0))
    return share * IWAE()(weights) + (1 - share) * ELBO()(weights)


class Copies(nn.Module):
    """R copies of some parameters, `one` being a single copy; what the type checker is told of them."""

    W: Tensor
    b: Tensor
    A: Tensor
    c: Tensor
    log_scale: Tensor
    a: Tensor
    g: Tensor

    def __init__(self, one: dict[str, Tensor], R: int) -> None:
        super().__init__()
        self.one = one
        for name, value in one.items():
            setattr(self, name, nn.Parameter(value.expand(R, *value.shape).clone()))


class Gaussians(Copies):
    """`Factor` in R copies; z in one layer, or in two where the guide draws the second from the first."""

    def __init__(self, R: int) -> None:
        super().__init__({name: value.detach() for name, value in Factor().named_parameters()}, R)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(times(self.W, z) + self.b, 0.7).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(times(self.A, x) + self.c, self.log_scale.exp()).to_event(1))


class Layers(Gaussians):
    """Two latents: p(z2) p(z1 | z2) and q(z1 | x) q(z2 | z1, x)."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Normal(0.0, 1.0))
            z1 = pyro.sample("z1", dist.Normal(self.W[..., 0, 0] * z2, 0.8))
            pyro.sample("x", dist.Normal(z1.unsqueeze(-1) * self.b, 0.7).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        scale = self.log_scale.exp()
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Normal((self.A[..., 0, :] * x).sum(-1), scale[..., 0]))
            pyro.sample("z2", dist.Normal(self.c[..., 0] * z1 + self.c[..., 1], scale[..., 1]))


class Bits(Copies):
    """Three bits, four pixels, in R copies: p(z) p(x | z) and q(z), all Bernoulli; eight states to add up."""

    def __init__(self, R: int = 1) -> None:
        generator = torch.Generator().manual_seed(3)
        shapes = {"a": (3,), "W": (4, 3), "b": (4,), "g": (3,)}
        super().__init__({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, R)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=self.a).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=times(self.W, z) + self.b).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.g).to_event(1))

    def exact(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """One copy's leaves, and its log p and log q at the eight states, by nothing but logarithms of sigmoids."""
        leaves = {name: value.clone().requires_grad_() for name, value in self.one.items()}
        z = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))  # (8, 3)

        def log_prob(bits: Tensor, logits: Tensor) -> Tensor:
            return torch.nn.functional.logsigmoid(torch.where(bits == 1, logits, -logits)).sum(-1)

        log_p = log_prob(z, leaves["a"]) + log_prob(x[0], z @ leaves["W"].T + leaves["b"])
        return leaves, log_p, log_prob(z, leaves["g"])


def times(matrix: Tensor, z: Tensor) -> Tensor:
    return (matrix @ z.unsqueeze(-1)).squeeze(-1)


def gaussian_data(R: int) -> Tensor:
    return torch.tensor([[0.6, -1.1, 0.4]]).expand(R, 3)


def bit_data(R: int) -> Tensor:
    return torch.tensor([[1.0, 0.0, 1.0, 1.0]]).expand(R, 4)


def gradients(pair: Any, x: Tensor, objective: Variational, seed: int = 0) -> dict[str, Tensor]:
    """R gradients of the bound by parameter, `(R, entries)`."""
    phase = objective.task(Pair(pair.model, pair.guide), x).phases[0]
    torch.manual_seed(seed)
    loss = phase.loss(x, torch.zeros(())).loss
    found = torch.autograd.grad(-loss * len(x), list(pair.parameters()), materialize_grads=True, allow_unused=True)
    return {name: g.reshape(len(g), -1) for (name, _), g in zip(pair.named_parameters(), found, strict=True)}


def flat(gradient: dict[str, Tensor], part: str = "both") -> Tensor:
    names = [name for name in gradient if part == "both" or (name in GUIDE) == (part == "guide")]
    return torch.cat([gradient[name] for name in names], -1)


def z_scores(found: Tensor, exact: Tensor) -> Tensor:
    """The mean's distance from what it should be, in standard errors; `exact` may be R draws itself."""
    variance = found.var(0) / len(found)
    if exact.dim() == 2:
        exact, variance = exact.mean(0), variance + exact.var(0) / len(exact)
    return (found.mean(0) - exact) / (variance + 1e-24).sqrt()


CONTINUOUS: list[Estimator] = [
    STL(),
    DReG(),
    *(ScoreFunction(control) for control in ("none", "batch", "geometric", "arithmetic")),
    VIMCO(),
]


@pytest.mark.parametrize("estimator", [Pathwise(), *CONTINUOUS], ids=lambda e: e.name)
def test_the_elbo_of_a_gaussian_pair(estimator: Estimator) -> None:
    """19 entries within 4.5 standard errors of the closed form: false alarm 8 x 19 x 7e-6 = 0.1 % over the table."""
    factor, R = Factor(), 20_000
    target = torch.autograd.grad(factor.elbo(gaussian_data(1)).sum(), list(factor.parameters()))
    found = flat(gradients(Gaussians(R), gaussian_data(R), Variational(ELBO(), 3, estimator=estimator)))
    assert float(z_scores(found, torch.cat([g.flatten() for g in target])).abs().max()) < 4.5
    assert estimator.is_unbiased_for(ELBO(), 3)


BOUNDS: list[Bound] = [
    IWAE(),
    MIWAE(2),
    CIWAE(0.4),
    Renyi(0.5),
    Renyi(2.0),
    TVO(3),
    root,
    PIWAE(3),
    Split(ELBO(), CUBO()),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda b: b.name)
@pytest.mark.parametrize("estimator", [DReG(), VIMCO("arithmetic"), ScoreFunction("batch")], ids=lambda e: e.name)
def test_every_bound_has_the_gradient_of_the_path(bound: Bound, estimator: Estimator) -> None:
    """Two means over 10,000 gradients, 19 entries: false alarm 27 x 19 x 7e-6 = 0.4 % over the table."""
    pair, x = Gaussians(10_000), gaussian_data(10_000)
    found = flat(gradients(pair, x, Variational(bound, 6, estimator=estimator), seed=1))
    plain = flat(gradients(pair, x, Variational(bound, 6), seed=2))
    assert float(z_scores(found, plain).abs().max()) < 4.5


def test_dreg_of_a_guide_of_two_layers() -> None:
    """False alarm 19 x 7e-6; the guide's gradients are another estimator's, so they differ draw by draw."""
    pair, x = Layers(40_000), gaussian_data(40_000)
    found = gradients(pair, x, Variational(IWAE(), 5, estimator=DReG()))
    plain = gradients(pair, x, Variational(IWAE(), 5))
    assert float(z_scores(flat(found), flat(gradients(pair, x, Variational(IWAE(), 5), seed=5))).abs().max()) < 4.5
    torch.testing.assert_close(flat(found, "model"), flat(plain, "model"))
    assert float((flat(found, "guide") - flat(plain, "guide")).abs().max()) > 0.1


def test_sticking_the_landing_is_biased_where_it_says() -> None:
    pair, x = Gaussians(20_000), gaussian_data(20_000)
    found = gradients(pair, x, Variational(IWAE(), 5, estimator=STL()), seed=1)
    plain = gradients(pair, x, Variational(IWAE(), 5), seed=2)
    assert float(z_scores(flat(found, "guide"), flat(plain, "guide")).abs().max()) > 10
    assert float(z_scores(flat(found, "model"), flat(plain, "model")).abs().max()) < 4.5  # false alarm 9 x 7e-6
    unbiased = [b for b in (ELBO(), IWAE(), CIWAE(1.0), CIWAE(0.5), VRMax(), TVO(1)) if STL().is_unbiased_for(b, 5)]
    assert unbiased == [ELBO(), CIWAE(1.0), TVO(1)]
    assert STL().is_unbiased_for(IWAE(), 1)
    assert STL().is_unbiased_for(MIWAE(5), 5)
    assert not STL().is_unbiased_for(PIWAE(2), 6)


def test_dreg_has_no_noise_left_where_the_guide_is_exact() -> None:
    """All weights are equal, so the path's derivative is zero draw by draw; the plain gradient is not."""

    class Exact(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Parameter(torch.tensor([0.5]))

        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.c * x, 0.5**0.5))

    x = torch.randn(50)
    noise = {e.name: gradients(Exact(), x, Variational(IWAE(), 5, estimator=e))["c"] for e in (DReG(), Pathwise())}
    assert abs(float(noise["DReG()"])) < 1e-12 < abs(float(noise["Pathwise()"]))


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize(("K", "pair"), [(1, Gaussians(4)), (6, Gaussians(4)), (6, Layers(4))])
def test_coefficients_of_the_path_are_autograd_through_the_draws(pair: Any, K: int, *, vectorize: bool) -> None:
    """The same draws, two ways to the same gradient: equal to rounding, particles together and one by one."""
    x, split = gaussian_data(4), Split(IWAE(), IWAE())
    direct = gradients(pair, x, Variational(IWAE(), K, vectorize=vectorize))
    found = gradients(pair, x, Variational(split, K, vectorize=vectorize))
    torch.testing.assert_close(flat(found), flat(direct), rtol=1e-10, atol=1e-12)


def a_minibatch_of_its_own() -> tuple[Any, Any]:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), subsample_size=4) as rows:
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x[rows])

    def guide(x: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.1))
        with pyro.plate("data", len(x), subsample_size=4) as rows:
            pyro.sample("z", dist.Normal(slope * x[rows], 0.8).to_event(1))

    return model, guide


def a_guide_of_pyros() -> tuple[Any, Any]:
    """A global latent under an `AutoNormal`: an auxiliary site, and a Delta made of it."""

    def model(x: Tensor) -> None:
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(3), scale).to_event(1), obs=x)

    guide = pyro.infer.autoguide.AutoNormal(model)
    guide(torch.zeros(6, 3))
    return model, guide


def a_scaled_pair() -> tuple[Any, Any]:
    pair = Guided(a_scale)
    return partial(pair.model), partial(pair.guide)


OTHERS = {
    "its own minibatch": (a_minibatch_of_its_own, {}),
    "joint": (a_guide_of_pyros, {"joint": True, "vectorize": False}),
    "scaled": (a_scaled_pair, {}),
    "warming up": (a_scaled_pair, {"kl_warmup": 10}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_coefficients_of_the_path_for_pairs_of_every_kind(name: str) -> None:
    """Direct and by coefficients, as above, where plate, site, scale or the KL's weight is a special one."""
    make, how = OTHERS[name]
    model, guide = make()
    x = torch.randn(6, 3)[:, : 2 if make is a_scaled_pair else 3]
    found = []
    for judge in (IWAE(), Split(IWAE(), IWAE())):
        phase = Variational(judge, 3, **how).task(Pair(model, guide), x).phases[0]  # type: ignore[arg-type]
        torch.manual_seed(0)
        loss = phase.loss(x, torch.tensor(4.0)).loss
        found.append([loss.detach(), *torch.autograd.grad(loss, [*phase.parameters.values()], materialize_grads=True)])
    torch.testing.assert_close(*found)
    assert any(bool(g.any()) for g in found[0][1:])


def test_sites_summed_out_of_the_model_keep_their_gradient() -> None:
    class Mixture(Gaussians):
        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.7])), infer={"enumerate": "parallel"})
                z = pyro.sample("z", dist.Normal(2.0 * k.unsqueeze(-1) - 1.0, 1.0).expand([*k.shape, 2]).to_event(1))
                pyro.sample("x", dist.Normal(times(self.W, z) + self.b, 0.7).to_event(1), obs=x)

    pair, x = Mixture(20_000), gaussian_data(20_000)
    plain = flat(gradients(pair, x, Variational(IWAE(), 4)))
    torch.testing.assert_close(flat(gradients(pair, x, Variational(Split(IWAE(), IWAE()), 4))), plain)
    found = flat(gradients(pair, x, Variational(IWAE(), 4, estimator=DReG()), seed=1))
    assert float(z_scores(found, plain).abs().max()) < 4.5  # false alarm 19 x 7e-6


def test_split_bounds_take_each_part_from_its_own() -> None:
    """The model's gradient is IWAE's and the guide's MIWAE's, on the same draws, to rounding."""
    pair, x = Gaussians(5), gaussian_data(5)
    found = gradients(pair, x, Variational(PIWAE(3), 6))
    model, guide = (gradients(pair, x, Variational(b, 6)) for b in (IWAE(), MIWAE(3)))
    torch.testing.assert_close(flat(found, "model"), flat(model, "model"))
    torch.testing.assert_close(flat(found, "guide"), flat(guide, "guide"))


def test_an_upper_bound_in_the_guides_place_comes_down() -> None:
    pair, x = Gaussians(5), gaussian_data(5)
    both = Pair(pair.model, pair.guide)
    found = gradients(pair, x, Variational(Split(ELBO(), CUBO()), 6))
    torch.manual_seed(0)
    weights = draw_weights(both, x, 6, inspect_pair(both, x))
    down = torch.autograd.grad(-CUBO()(weights).sum(), [pair.A, pair.c, pair.log_scale])
    torch.testing.assert_close(flat(found, "guide"), torch.cat([g.flatten(1) for g in down], -1))
    upside = Split(ELBO(), IWAE())(weights)
    torch.testing.assert_close(upside, ELBO()(weights))


DISCRETE: list[Estimator] = [
    *(ScoreFunction(control) for control in ("none", "batch", "geometric", "arithmetic")),
    VIMCO("geometric"),
    VIMCO("arithmetic"),
]


def enumerated(name: str, x: Tensor) -> Tensor:
    """The exact gradient of an expected bound of two draws from `Bits`, by adding up all pairs of its states."""
    leaves, log_p, log_q = Bits().exact(x)
    log_w, q = log_p - log_q, log_q.exp()
    first, second = log_w[:, None].expand(8, 8), log_w.expand(8, 8)
    root = 2 * ((first / 2).exp() / 2 + (second / 2).exp() / 2).log()
    bounds = {"ELBO": (first + second) / 2, "IWAE": (first.exp() / 2 + second.exp() / 2).log(), "Renyi(0.5)": root}
    value = (q[:, None] * q * bounds[name]).sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(leaves.values()))])


@pytest.mark.parametrize("bound", [ELBO(), IWAE(), Renyi(0.5)], ids=lambda b: b.name)
@pytest.mark.parametrize("estimator", DISCRETE, ids=lambda e: e.name)
def test_discrete_latents(bound: Bound, estimator: Estimator) -> None:
    """22 entries of the enumerated gradient of two draws: false alarm 18 x 22 x 7e-6 = 0.3 % over the table."""
    R = 40_000
    found = gradients(Bits(R), bit_data(R), Variational(bound, 2, estimator=estimator))
    assert float(z_scores(flat(found), enumerated(bound.name, bit_data(1))).abs().max()) < 4.5


def test_baselines_lower_the_noise() -> None:
    x = bit_data(5_000)
    spread = {
        e.name: float(gradients(Bits(5_000), x, Variational(IWAE(), 5, estimator=e))["g"].var(0).sum())
        for e in (ScoreFunction(), ScoreFunction("batch"), VIMCO())
    }
    first, second, third = spread.values()
    assert first > 2 * second > 4 * third


def test_vimco_by_hand() -> None:
    log_w = torch.randn(4, 3)
    for mean, of in (("geometric", torch.mean), ("arithmetic", lambda v: v.exp().mean().log())):
        score = torch.empty_like(log_w)
        for i, k in itertools.product(range(3), range(4)):
            column = log_w[:, i].clone()
            value = column.exp().mean().log()
            column[k] = of(torch.cat([column[:k], column[k + 1 :]]))
            score[k, i] = value - column.exp().mean().log() - log_w[:, i].softmax(0)[k]
        found = VIMCO(mean)(IWAE(), log_w)  # type: ignore[arg-type]
        torch.testing.assert_close(found.score, score)
        torch.testing.assert_close(found.model, log_w.softmax(0))
        assert found.path is None


def bias_of(estimator: Estimator, bound: Bound, K: int, R: int, exact: Tensor, part: str) -> Tensor:
    found = flat(gradients(Bits(R), bit_data(R), Variational(bound, K, estimator=estimator), seed=K), part)
    off: Tensor = (found.mean(0) - exact).norm()
    return off


def test_the_wake_phase_has_a_bias_that_falls_as_one_over_k() -> None:
    """The target is minus the gradient of KL(p, q); at every K the noise of the bias is below a tenth of it."""
    leaves, log_p, log_q = Bits().exact(bit_data(1))
    (target,) = torch.autograd.grad((log_p.softmax(0).detach() * log_q).sum(), leaves["g"])
    Ks = torch.tensor([4.0, 8.0, 16.0])
    bias = torch.stack([bias_of(ReweightedWakeSleep(), IWAE(), int(K), 100_000, target, "guide") for K in Ks])
    slope = float((bias[-1] / bias[0]).log() / (Ks[-1] / Ks[0]).log())
    assert -1.4 < slope < -0.8
    pair, x = Bits(100), bit_data(100)
    wake, climb = (gradients(pair, x, Variational(IWAE(), 5, estimator=e)) for e in (ReweightedWakeSleep(), VIMCO()))
    torch.testing.assert_close(flat(wake, "model"), flat(climb, "model"))
    assert not ReweightedWakeSleep().is_unbiased_for(IWAE(), 10_000)


def test_both_forms_of_the_wake_phase_have_one_mean() -> None:
    pair, x = Gaussians(20_000), gaussian_data(20_000)
    plain = gradients(pair, x, Variational(IWAE(), 5, estimator=ReweightedWakeSleep()))
    dreg = gradients(pair, x, Variational(IWAE(), 5, estimator=ReweightedWakeSleep("dreg")), seed=1)
    assert float(z_scores(flat(dreg), flat(plain)).abs().max()) < 4.5  # false alarm 19 x 7e-6


def exact_tvo(tvo: TVO) -> Tensor:
    leaves, log_p, log_q = Bits().exact(bit_data(1))
    log_w = log_p - log_q
    value = sum(length * ((beta * log_p + (1 - beta) * log_q).softmax(0) * log_w).sum() for length, beta in tvo.terms)
    assert isinstance(value, Tensor)
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(leaves.values()))])


def test_the_covariance_gradient_goes_to_that_of_the_exact_sum() -> None:
    tvo = TVO(4, first=0.2)
    exact = exact_tvo(tvo)
    few, many = (bias_of(ThermodynamicCovariance(), tvo, K, 400_000 // K, exact, "both") for K in (4, 64))
    assert float(few) > 4 * float(many)  # 16 times, less the noise of `many`
    found = flat(gradients(Bits(200), bit_data(200), Variational(tvo, 2_000, estimator=ThermodynamicCovariance())))
    assert float(z_scores(found, exact).abs().max()) < 4.5  # the bias at K = 2,000 is far below; false alarm 22 x 7e-6


def test_with_one_partition_it_is_the_score_function_gradient_of_the_elbo() -> None:
    log_w = torch.randn(7, 3)
    found, expected = ThermodynamicCovariance()(TVO(1), log_w), ScoreFunction("geometric")(ELBO(), log_w)
    torch.testing.assert_close(found.model, expected.model)
    torch.testing.assert_close(found.score, expected.score)
    assert ThermodynamicCovariance().is_unbiased_for(TVO(1), 5)
    assert not ThermodynamicCovariance().is_unbiased_for(TVO(5), 5)


@pytest.mark.parametrize("bound", [ELBO(), IWAE(), MIWAE(3), CIWAE(0.3), Renyi(0.5), Renyi(2.0), CUBO(2), TVO(5), root])
def test_curvature_is_the_second_derivative(bound: Bound) -> None:
    """The general way, the bound's own formula, and central differences of the slope."""

    class Bare:
        name, direction = bound.name, bound.direction

        def __call__(self, weights: Weights) -> Tensor:
            return bound(weights)

    log_w, step = torch.randn(6, 4), 1e-6
    found = curvature_of(Bare(), log_w)
    torch.testing.assert_close(found, curvature_of(bound, log_w))
    for k in range(6):
        away = torch.zeros(6, 4)
        away[k] = step
        difference = (slope_of(bound, log_w + away) - slope_of(bound, log_w - away))[k] / (2 * step)
        torch.testing.assert_close(found[k], difference, atol=1e-8, rtol=1e-6)


def test_coefficients_the_papers_print() -> None:
    log_w = torch.randn(5, 2)
    w = log_w.softmax(0)
    torch.testing.assert_close(DReG()(IWAE(), log_w).path, w**2)
    torch.testing.assert_close(DReG()(ELBO(), log_w).path, torch.full((5, 2), 0.2))
    torch.testing.assert_close(ReweightedWakeSleep("dreg")(IWAE(), log_w).path, w - w**2)
    found = STL()(IWAE(), Weights(log_w, torch.zeros(5, 2)))
    torch.testing.assert_close(found.path, w)
    assert not found.score.any()
    assert is_linear(ELBO(), 5)


EXTREME = {
    "far apart": torch.tensor([[1e4, -1e4], [-1e4, -1e4], [0.0, -1e4]]),
    "one dominates": torch.tensor([[1e4, 0.0], [0.0, 0.0], [0.0, 1e4]]),
    "one is ruled out": torch.tensor([[-math.inf, 0.0], [0.0, 1.0], [1.0, 2.0]]),
    "one is left": torch.tensor([[-math.inf, 0.0], [-math.inf, 1.0], [1.0, 2.0]]),
    "all are ruled out": torch.tensor([[-math.inf, 0.0], [-math.inf, 1.0], [-math.inf, 2.0]]),
    "one datum": torch.tensor([[1.0], [2.0], [3.0]]),
}
ANY_BOUND = [Pathwise(), STL(), DReG(), ScoreFunction(), VIMCO(), VIMCO("arithmetic")]
PLAIN: list[tuple[ByCoefficients, Bound]] = [
    *((estimator, bound) for estimator in ANY_BOUND for bound in (ELBO(), IWAE(), TVO(3))),
    (ReweightedWakeSleep(), IWAE()),
    (ReweightedWakeSleep("dreg"), IWAE()),
    (ThermodynamicCovariance(), TVO(3)),
]


@pytest.mark.parametrize("weights", EXTREME, ids=str)
def test_coefficients_are_finite_whatever_the_weights(weights: str) -> None:
    for estimator, judge in PLAIN:
        found = estimator(judge, EXTREME[weights])
        for name in ("model", "score", "path"):
            value = getattr(found, name)
            assert value is None or bool(value.isfinite().all()), (estimator, judge, name)
            assert value is None or value.shape == EXTREME[weights].shape


@pytest.mark.parametrize("estimator", [Pathwise(), STL(), DReG(), ScoreFunction(), ReweightedWakeSleep()])
def test_a_single_draw_is_enough_for_most(estimator: Any) -> None:
    found = estimator(IWAE(), torch.tensor([[3.0]]))
    torch.testing.assert_close(found.model, torch.ones(1, 1))


class Deep(nn.Module):
    """Two discrete layers, the lower one-hot, with a guide that goes up through them; x has three pixels."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator))

        self.top, self.middle, self.bottom = parameter(2), parameter(4, 2), parameter(3, 4)
        self.up, self.further = parameter(4, 3), parameter(2, 4)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Bernoulli(logits=self.top).to_event(1))
            z1 = pyro.sample("z1", dist.OneHotCategorical(logits=z2 @ self.middle.T))
            pyro.sample("x", dist.Bernoulli(logits=z1 @ self.bottom.T).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.OneHotCategorical(logits=x @ self.up.T))
            pyro.sample("z2", dist.Bernoulli(logits=z1 @ self.further.T).to_event(1))

    def joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log p and log q of one datum at the 16 states, one at a time."""
        log_p, log_q = [], []
        for z1, z2 in itertools.product(torch.eye(4), torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)))):
            sigmoid = torch.nn.functional.logsigmoid
            upper = sigmoid((2 * z2 - 1) * self.top).sum()
            middle = (z1 * (self.middle @ z2).log_softmax(-1)).sum()
            log_p.append(upper + middle + sigmoid((2 * x - 1) * (self.bottom @ z1)).sum())
            above = sigmoid((2 * z2 - 1) * (self.further @ z1)).sum()
            log_q.append((z1 * (self.up @ x).log_softmax(-1)).sum() + above)
        return torch.stack(log_p), torch.stack(log_q)


DEEP_DATA = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize("vectorize", [True, False])
def test_enumeration_is_exact(*, vectorize: bool) -> None:
    pair, x = Deep(), DEEP_DATA
    joints = [pair.joint(row) for row in x]
    values = torch.stack([(log_q.exp() * (log_p - log_q)).sum() for log_p, log_q in joints])
    exact = torch.autograd.grad(values.mean(), list(pair.parameters()))
    both = Pair(pair.model, pair.guide)
    weights = enumerate_latents(both, x, inspect_pair(both, x, vectorize=vectorize))
    assert weights.log_p.shape == (16, 3)
    log_p_x = torch.stack([log_p.logsumexp(0) for log_p, _ in joints])
    torch.testing.assert_close(weights.log_p.logsumexp(0), log_p_x, rtol=0, atol=1e-10)
    torch.testing.assert_close(weights.log_q.logsumexp(0), torch.zeros(3), rtol=0, atol=1e-10)
    loss = Variational(estimator=Enumeration(), vectorize=vectorize).task(both, x).phases[0].loss(x, torch.zeros(()))
    torch.testing.assert_close(loss.loss, -values.mean(), rtol=0, atol=1e-10)
    found = torch.autograd.grad(-loss.loss, list(pair.parameters()))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-10)
    parts = loss.parts["log_likelihood"] - loss.parts["kl_z1"] - loss.parts["kl_z2"]
    torch.testing.assert_close(parts, values.mean().detach())


def test_enumeration_knows_integers_and_plates() -> None:
    """A categorical of three states in a plate of two, inside the data's: nine states."""
    logits = torch.randn(3, requires_grad=True)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2), pyro.plate("entries", 2, dim=-1):
            k = pyro.sample("k", dist.Categorical(torch.ones(3) / 3))
            pyro.sample("x", dist.Normal(k.to(x), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2), pyro.plate("entries", 2, dim=-1):
            pyro.sample("k", dist.Categorical(logits=logits))

    x = torch.randn(4, 2)
    pair = Pair(model, guide)
    weights = enumerate_latents(pair, x, inspect_pair(pair, x))
    mixture = dist.Normal(torch.arange(3.0), 1.0).log_prob(x.unsqueeze(-1)).logsumexp(-1) - math.log(3)
    torch.testing.assert_close(weights.log_p.logsumexp(0), mixture.sum(-1))
    assert weights.num_particles == 9


def test_kl_warmup_and_scale_reach_enumeration() -> None:
    pair, x = Deep(), DEEP_DATA
    both = Pair(pair.model, pair.guide)
    phase = Variational(estimator=Enumeration(), kl_warmup=10).task(both, x).phases[0]
    found = phase.loss(x, torch.tensor(4.0))
    parts = found.parts["log_likelihood"] - 0.4 * (found.parts["kl_z1"] + found.parts["kl_z2"])
    torch.testing.assert_close(-found.loss.detach(), parts)


def test_relaxations_are_biased_and_the_soft_one_less_so_when_cold() -> None:
    R, x = 40_000, bit_data(40_000)
    leaves, log_p, log_q = Bits().exact(x)
    exact = torch.autograd.grad((log_q.exp() * (log_p - log_q)).sum(), list(leaves.values()))
    target = torch.cat([g.flatten() for g in exact])
    bias = {}
    estimators = (GumbelSoftmax(1.0), GumbelSoftmax(0.5), GumbelSoftmax(0.1), StraightThrough(2.0))
    for estimator in estimators:
        found = flat(gradients(Bits(R), x, Variational(estimator=estimator)))
        bias[estimator] = float((found.mean(0) - target).norm())
        assert estimator.temperature < 0.5 or float(z_scores(found, target).abs().max()) > 4.5
        assert not estimator.is_unbiased_for(ELBO(), 1)
    warm, mild, cold, _ = bias.values()
    assert warm > 1.5 * mild > 3 * cold


def test_straight_through_goes_forward_through_states() -> None:
    """The relaxed loss is that of exact states: for one datum it takes at most sixteen values."""
    pair, x = Deep(), DEEP_DATA[:1]
    log_p, log_q = pair.joint(x[0])
    phase = Variational(estimator=StraightThrough(0.7)).task(Pair(pair.model, pair.guide), x).phases[0]
    for _ in range(20):
        loss = phase.loss(x, torch.zeros(())).loss
        assert float((loss + log_p - log_q).detach().abs().min()) < 1e-10
        assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(loss, list(pair.parameters())))


def test_one_hot_relaxation_follows_the_exact_gradient_when_cold() -> None:
    """At temperature 0.1 the gradients of all parameters point where the exact ones do, cosine above 0.95."""
    pair, x = Deep(), DEEP_DATA[:1]
    log_p, log_q = pair.joint(x[0])
    exact = torch.autograd.grad((log_q.exp() * (log_p - log_q)).sum(), list(pair.parameters()))
    objective = Variational(num_particles=20_000, estimator=GumbelSoftmax(0.1))
    loss = objective.task(Pair(pair.model, pair.guide), x).phases[0].loss(x, torch.zeros(())).loss
    found = torch.autograd.grad(-loss, list(pair.parameters()))
    for mine, its in zip(found, exact, strict=True):
        assert float(torch.cosine_similarity(mine.flatten(), its.flatten(), dim=0)) > 0.95


@pytest.mark.parametrize("estimator", [STL(), DReG(), ScoreFunction("batch"), VIMCO(), ReweightedWakeSleep()])
def test_the_loss_is_minus_the_bound(estimator: Estimator) -> None:
    pair, x = Factor(), torch.randn(7, 3)
    both = Pair(pair.model, pair.guide)
    phase = Variational(IWAE(), 5, estimator=estimator).task(both, x).phases[0]
    torch.manual_seed(3)
    loss = phase.loss(x, torch.zeros(()))
    torch.manual_seed(3)
    weights = draw_weights(both, x, 5, inspect_pair(both, x))
    torch.testing.assert_close(loss.loss, -IWAE()(weights).mean())
    torch.testing.assert_close(loss.parts["kl_z"], weights.kl["z"].detach().mean())


MODES: list[tuple[Any, Any, Variational]] = [
    (Factor, torch.randn(24, 3), Variational(IWAE(), 3, estimator=DReG())),
    (Factor, torch.randn(24, 3), Variational(TVO(2), 3, estimator=DReG())),
    (Factor, torch.randn(24, 3), Variational(PIWAE(2), 4, estimator=STL())),
    (partial(Bits, 12), bit_data(12), Variational(IWAE(), 3, estimator=VIMCO())),
    (Deep, DEEP_DATA.repeat(8, 1), Variational(IWAE(), 3, estimator=GumbelSoftmax(0.5))),
    (Deep, DEEP_DATA.repeat(8, 1), Variational(ELBO(), 3, estimator=StraightThrough(0.5))),
    (partial(Bits, 12), bit_data(12), Variational(TVO(3), 3, estimator=ThermodynamicCovariance())),
    (Deep, DEEP_DATA.repeat(8, 1), Variational(estimator=Enumeration())),
]


def trained(make: Callable[[], Any], x: Tensor, objective: Variational, mode: Any, steps: int = 5) -> Tensor:
    pair = make()
    fitted = fit(
        pair.model, pair.guide, x.to(torch.float64), objective, steps=steps, batch_size=12, mode=mode, progress=False
    )
    assert fitted.modes["bound"]["12"] == mode
    return torch.cat([value.detach().flatten() for value in pair.parameters()])


@pytest.mark.parametrize(
    ("make", "x", "objective"), MODES, ids=lambda v: v.estimator.name if hasattr(v, "bound") else ""
)
def test_graphs_give_the_programs_numbers(make: Callable[[], Any], x: Tensor, objective: Variational) -> None:
    eager, replayed = (trained(make, x, objective, mode) for mode in ("eager", "replay"))
    torch.testing.assert_close(replayed, eager, rtol=1e-12, atol=1e-12)


def test_compiled_code_gives_the_programs_numbers() -> None:
    make, x, objective = MODES[0]
    torch.testing.assert_close(trained(make, x, objective, "inductor"), trained(make, x, objective, "eager"))


def test_vimco_trains_two_discrete_layers() -> None:
    """Two images and a noisy third: the exact log-likelihood rises by more than a nat."""
    pair, x = Deep(), DEEP_DATA.repeat(10, 1)
    both = Pair(pair.model, pair.guide)

    def exact() -> float:
        with torch.no_grad():
            return float(enumerate_latents(both, x, inspect_pair(both, x)).log_p.logsumexp(0).mean())

    before = exact()
    objective = Variational(IWAE(), 5, estimator=VIMCO())
    fit(
        pair.model,
        pair.guide,
        x,
        objective,
        steps=300,
        batch_size=30,
        optimizer=adam(0.05),
        mode="eager",
        progress=False,
    )
    assert exact() > before + 1.0
    assert exact() < -1.0  # three images, equally likely: no model gives them more than minus log 3


def task(pair: Any, objective: Variational, x: Tensor) -> Any:
    return objective.task(Pair(pair.model, pair.guide), x)


REFUSED_BOUNDS: list[tuple[Estimator, Bound, int, str]] = [
    (Pathwise(), CUBO(), 5, r"`bound` is CUBO\(2\), an upper bound.*use `Split\(ELBO\(\), CUBO\(2\)\)`"),
    (Pathwise(), EUBO(), 5, r"`bound` is EUBO, a function of draws from the posterior, expected one of the guide's"),
    (
        DReG(),
        ELBO("analytic"),
        5,
        r"`bound` is ELBO \(analytic KL\).*expected `ELBO\(\)`, or this bound alone with `estimator=Path",
    ),
    (DReG(), VRMax(), 5, r"`bound` is VR-max, whose slope jumps.*or `estimator=Pathwise\(\)`"),
    (
        ReweightedWakeSleep(),
        ELBO(),
        5,
        r"`bound` is ELBO, but ReweightedWakeSleep\(form='plain', weight=1.0\).*expected `IWAE\(\)`",
    ),
    (ReweightedWakeSleep("dreg"), PIWAE(5), 5, r"`bound` is MIWAE\(5\), but Reweighted"),
    (ThermodynamicCovariance(), IWAE(), 5, r"`bound` is IWAE, but Thermo.*expected a `TVO`"),
    (ThermodynamicCovariance(), TVO(3), 1, r"`num_particles` is 1, expected at least 2"),
    (VIMCO(), IWAE(), 1, r"`num_particles` is 1, expected at least 2"),
    (Enumeration(), IWAE(), 5, r"`bound` is IWAE, which over K draws of S states.*expected `ELBO\(\)`"),
    (GumbelSoftmax(0.5), PIWAE(5), 5, r"`bound` is IWAE/MIWAE\(5\), which trains model and guide apart"),
    (Enumeration(), ELBO(), 1, r"site `z` is a Normal in the guide, expected Bernoulli, Categorical or OneHot"),
    (DReG(), MIWAE(2), 5, r"`weights` hold 5 draws, expected a multiple of 2"),
]


@pytest.mark.parametrize(("estimator", "bound", "K", "said"), REFUSED_BOUNDS)
def test_bounds_that_are_refused(estimator: Estimator, bound: Bound, K: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        task(Factor(), Variational(bound, K, estimator=estimator), torch.randn(4, 3))


@pytest.mark.parametrize("estimator", [Pathwise(), STL(), DReG(), ReweightedWakeSleep("dreg")])
def test_discrete_sites_have_no_path(estimator: Estimator) -> None:
    said = r"site `z` has no reparameterised draws, so .* would miss a term.*ScoreFunction\(\), VIMCO\(\), Reweighted"
    with pytest.raises(ValueError, match=said):
        task(Bits(4), Variational(IWAE(), 5, estimator=estimator), bit_data(4))


def test_a_bound_of_more_than_weights_is_left_to_the_path() -> None:
    @bound("lower")
    def halved(weights: Weights) -> Tensor:
        return (weights.log_p - 0.5 * weights.log_q).mean(0)

    task(Factor(), Variational(halved, 5), torch.randn(4, 3))
    with pytest.raises(ValueError, match="`bound` is halved, which reads more of the weights than `log_w`"):
        task(Factor(), Variational(halved, 5, estimator=DReG()), torch.randn(4, 3))


def test_a_bound_without_a_derivative() -> None:
    @bound("lower")
    def counted(weights: Weights) -> Tensor:
        return (weights.log_w > 0).double().mean(0) - 100

    with pytest.raises(ValueError, match="`bound` is counted, which has no derivative in the log weights"):
        task(Factor(), Variational(counted, 5, estimator=VIMCO()), torch.randn(4, 3))


class Guided(nn.Module):
    """A normal model of pairs of numbers and a guide of one's choice."""

    def __init__(self, draw: Callable[[Any, Tensor], None]) -> None:
        super().__init__()
        self.draw, self.c = draw, nn.Parameter(torch.zeros(2))
        self.flow = pyro.distributions.transforms.Planar(2)
        self.dropout = nn.Dropout(0.5)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            self.draw(self, x)


def a_delta(self: Any, x: Tensor) -> None:
    pyro.sample("z", dist.Delta(self.c + x, event_dim=1))


def a_planar_flow(self: Any, x: Tensor) -> None:
    pyro.sample("z", dist.TransformedDistribution(dist.Normal(self.c + x, 1.0).to_event(1), [self.flow]))


def a_scale(self: Any, x: Tensor) -> None:
    with pyro.poutine.scale(scale=0.5):
        pyro.sample("z", dist.Normal(self.c + x, 1.0).to_event(1))


def a_dropout(self: Any, x: Tensor) -> None:
    pyro.sample("z", dist.Normal(self.c + self.dropout(x), 1.0).to_event(1))


REFUSED_GUIDES = [
    (a_delta, DReG(), "site `z` is a Delta in the guide, which has no density"),
    (a_planar_flow, DReG(), "`guide` cannot score values that are given to it .*or transforms that have an inverse"),
    (a_scale, VIMCO(), "`guide` is scaled by `poutine.scale`.*scale the model alone"),
    (a_dropout, DReG(), "site `z` has another density when its draw is given.*dropout"),
]


@pytest.mark.parametrize(("draw", "estimator", "said"), REFUSED_GUIDES)
def test_guides_that_are_refused(draw: Any, estimator: Estimator, said: str) -> None:
    pair, x = Guided(draw), torch.randn(6, 2)
    task(pair, Variational(IWAE(), 4, vectorize=True), x)  # the path takes them all
    with pytest.raises(ValueError, match=said):
        task(pair, Variational(IWAE(), 4, vectorize=True, estimator=estimator), x)


def test_dropout_is_no_trouble_where_the_guide_runs_once() -> None:
    pair, x = Guided(a_dropout), torch.randn(6, 2)
    phase = task(pair, Variational(IWAE(), 4, estimator=VIMCO()), x).phases[0]
    assert bool(phase.loss(x, torch.zeros(())).loss.isfinite())


def test_states_that_cannot_be_enumerated() -> None:
    def wide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=torch.zeros(40)).to_event(1))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(torch.full((40,), 0.5)).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    with pytest.raises(
        ValueError, match=r"`guide` has 2\*\*40 joint states for each datum, at `z`, expected at most 65536"
    ):
        Variational(estimator=Enumeration()).task(Pair(model, wide), torch.randn(3))

    class Masked(Bits):
        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)), pyro.poutine.mask(mask=False):
                pyro.sample("z", dist.Bernoulli(logits=self.g).to_event(1))

    with pytest.raises(ValueError, match="`guide` gives all states together a probability of 8, expected 1"):
        task(Masked(4), Variational(estimator=Enumeration()), bit_data(4))


def test_integers_have_no_relaxation() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.ones(3) / 3))
            pyro.sample("x", dist.Normal(k.to(x), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.Categorical(torch.ones(3) / 3))

    with pytest.raises(ValueError, match=r"site `k` is an integer Categorical.*use OneHotCategorical"):
        Variational(estimator=GumbelSoftmax(0.5)).task(Pair(model, guide), torch.randn(3))


def test_settings_that_are_refused() -> None:
    for make, said in (
        (lambda: ScoreFunction("mean"), "`control` is 'mean', expected one of"),  # type: ignore[arg-type]
        (lambda: VIMCO("harmonic"), "`mean` is 'harmonic', expected"),  # type: ignore[arg-type]
        (lambda: ReweightedWakeSleep("sleep"), "`form` is 'sleep', expected"),  # type: ignore[arg-type]
        (lambda: GumbelSoftmax(0.0), "`temperature` is 0.0, expected a positive number"),
        (lambda: StraightThrough(math.nan), "`temperature` is nan, expected a positive number"),
        (lambda: Variational(kl_warmup=5, estimator=DReG()), r"`kl_warmup` is 5, but DReG\(\)"),
        (lambda: ScoreFunction("batch")(IWAE(), torch.zeros(3, 1)), '`control` is "batch".*a single datum'),
    ):
        with pytest.raises(ValueError, match=said):
            make()


def test_estimators_by_name() -> None:
    assert [parse_estimator(text) for text in ("pathwise", "STL", " dreg")] == [Pathwise(), STL(), DReG()]
    assert [parse_estimator(text) for text in ("score", "score:batch")] == [ScoreFunction(), ScoreFunction("batch")]
    assert [parse_estimator(text) for text in ("vimco", "vimco-arithmetic")] == [VIMCO(), VIMCO("arithmetic")]
    assert parse_estimator("rws-dreg") == ReweightedWakeSleep("dreg")
    assert parse_estimator("tvo-covariance") == ThermodynamicCovariance()
    assert parse_estimator("straight-through:0.5") == StraightThrough(0.5)
    assert parse_estimator("enumeration") == Enumeration()


@pytest.mark.parametrize("text", ["", "dregs", "dreg:1", "gumbel", "gumbel:x", "gumbel:-1", "score:mean", "vimco:"])
def test_unknown_estimators_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"`(estimator|control)` is "):
        parse_estimator(text)


def test_validation_scores_the_bound_itself() -> None:
    """However the gradient is made, the score is the bound of K draws from the guide as it is."""
    pair, x = Bits(6), bit_data(6)
    scores = []
    for estimator in (VIMCO(), GumbelSoftmax(0.5)):
        score = task(pair, Variational(IWAE(), 5, estimator=estimator), x).score
        torch.manual_seed(0)
        scores.append(score(x))
    torch.manual_seed(0)
    torch.testing.assert_close(scores[0], IWAE()(log_weights(pair.model, pair.guide, x, 5)))
    torch.testing.assert_close(scores[1], scores[0])


def test_dreg_refuses_a_bound_with_a_kink() -> None:
    """Weights cut off at a ceiling: the slope jumps there, and the identity behind DReG would miss it."""

    @bound("lower")
    def truncated(weights: Weights) -> Tensor:
        K = torch.tensor(float(weights.num_particles))
        ceiling = weights.log_w.logsumexp(0) - 0.5 * K.log()
        return weights.log_w.minimum(ceiling).logsumexp(0) - K.log()

    factor = Factor()
    with pytest.raises(ValueError, match=r"`bound` is truncated, whose slope jumps"):
        Variational(truncated, 5, estimator=DReG()).task(Pair(factor.model, factor.guide), torch.randn(4, 3))
    Variational(truncated, 5).task(Pair(factor.model, factor.guide), torch.randn(4, 3))
