"""Sites of a guide that take every value, or a draw of every component: against sums, quadrature and Pyro's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from inference import (
    ELBO,
    IWAE,
    PIWAE,
    STL,
    Annealing,
    DReG,
    Enumeration,
    ScoreFunction,
    Variational,
    active_units,
    ais,
    compare_bounds,
    fit,
    log_likelihood,
    log_weights,
)
from inference.draws import draw_weights
from inference.pair import Pair
from inference.particles import inspect_pair
from ppmodels.contracts import Program

pytestmark = pytest.mark.usefixtures("double")

P = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
LOC = torch.tensor([-2.0, 0.0, 1.5], dtype=torch.float64)
X = torch.tensor([0.3, -1.0, 2.0, 0.0], dtype=torch.float64)
MARKED = {"enumerate": "parallel"}


def model(x: Tensor, y: Tensor | None = None) -> None:
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Categorical(P), infer=MARKED)
        z = pyro.sample("z", dist.Normal(LOC[y], 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def log_joint() -> Tensor:
    """Of x and y, z integrated out, `(n, 3)`."""
    return P.log() + dist.Normal(LOC, 1.25**0.5).log_prob(X[:, None])


class Classifier(torch.nn.Module):
    """q(y | x), and the exact q(z | x, y) or a wrong one."""

    def __init__(self, shift: float = 0.0, *, marked: bool = True) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor([1.0, -1.0, 0.0]))
        self.shift = torch.nn.Parameter(torch.tensor(shift))
        self.infer = MARKED if marked else {}

    def logits(self, x: Tensor) -> Tensor:
        return x[:, None] * self.slope

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        logits = self.logits(x)
        if y is not None:
            known = torch.where(y[:, None] == torch.arange(3), 0.0, -torch.inf)
            logits = torch.where(y[:, None] < 0, logits, known)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=logits), infer=self.infer)
            pyro.sample("z", dist.Normal((LOC[y] * 0.25 + x) / 1.25 + self.shift, 0.2**0.5))


@pytest.mark.parametrize("K", [1, 3])
def test_exact_conditionals_give_exact_weights_and_the_elbo_of_the_sum(K: int) -> None:
    guide = Classifier()
    weights = log_weights(model, guide, X, K)
    log_q = guide.logits(X).log_softmax(-1)
    assert weights.log_w.shape == weights.elbo_terms.shape == (K, 4)
    torch.testing.assert_close(weights.log_w, log_joint().logsumexp(-1).expand(K, 4))
    elbo = (log_q.exp() * (log_joint() - log_q)).sum(-1)
    torch.testing.assert_close(weights.elbo_terms, elbo.expand(K, 4))
    torch.testing.assert_close(ELBO()(weights), elbo)
    kl = (log_q.exp() * (log_q - P.log())).sum(-1)
    torch.testing.assert_close(weights.kl["y"], kl.expand(K, 4))
    assert weights.log_likelihood is not None
    torch.testing.assert_close(weights.log_likelihood - weights.kl["y"] - weights.kl["z"], weights.elbo_terms)


def test_loss_and_gradient_are_those_of_pyro() -> None:
    """Value by value: both draw z for three values of four data in the same order."""
    guide = Classifier(0.4)
    losses, gradients = [], []
    for ours in (True, False):
        torch.manual_seed(3)
        guide.zero_grad()
        if ours:
            layout = inspect_pair(Pair(model, guide), X)
            torch.manual_seed(3)
            loss = -ELBO()(draw_weights(Pair(model, guide), X, 1, layout)).sum()
        else:
            loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, X)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        gradients += [[p.grad.clone() for p in guide.parameters() if p.grad is not None]]
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)
    assert all(bool((gradient != 0).any()) for gradient in gradients[0])


def test_closed_form_kl_keeps_the_mean() -> None:
    """Given y both sides of z are normal: K = 1 has the mean of many draws. False alarm: 4 x 6e-5."""
    guide = Classifier(0.4)
    layout = inspect_pair(Pair(model, guide), X)
    analytic = draw_weights(Pair(model, guide), X, 4000, layout, analytic_kl=("y", "z"))
    terms = ELBO("analytic").terms(analytic)
    difference = terms - analytic.elbo_terms
    assert bool((difference.mean(0).abs() < 4 * difference.std(0) / 4000**0.5).all())
    torch.testing.assert_close(analytic.analytic_kl["y"], analytic.kl["y"])  # a sum over y is a closed form
    assert not torch.equal(analytic.analytic_kl["z"], analytic.kl["z"])


def test_a_label_is_a_point_mass() -> None:
    """Labelled data have the bound of log p(x, y), others that of log p(x); no gradient is lost to 0 times infinity."""
    guide, y = Classifier(0.1), torch.tensor([2, -1, 0, -1])
    weights = log_weights(model, guide, (X, y), 20_000)
    exact = torch.where(y < 0, log_joint().logsumexp(-1), log_joint()[torch.arange(4), y])
    error = weights.log_w.exp().std(0) / weights.log_w.exp().mean(0) / 20_000**0.5
    found = weights.log_w.logsumexp(0) - torch.tensor(20_000.0).log()
    assert bool(((found - exact).abs() < 4 * error).all())  # false alarm: 4 x 6e-5
    exactly = log_weights(model, Classifier(), (X, y), 2)
    torch.testing.assert_close(exactly.elbo_terms[0][y >= 0], exact[y >= 0])
    guide.zero_grad()
    (-log_weights(model, guide, (X, y), 5).elbo_terms.mean()).backward()  # type: ignore[no-untyped-call]
    assert guide.slope.grad is not None
    assert bool(guide.slope.grad.isfinite().all())
    unlabelled = torch.tensor([-1, -1, -1, -1])
    torch.testing.assert_close(
        log_weights(model, Classifier(), (X, unlabelled), 2).elbo_terms,
        log_weights(model, Classifier(), X, 2).elbo_terms,
    )


def test_two_sites_and_one_hot_values() -> None:
    """All pairs of values are weighed, in whatever order the sites stand."""
    table = torch.tensor([[1.0, 2.0], [0.5, 3.0], [4.0, 0.1]]).log()

    def two(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.OneHotCategorical(torch.ones(3)))
            b = pyro.sample("b", dist.Bernoulli(0.3))
            loc = (a @ table * torch.stack(torch.broadcast_tensors(1 - b, b), -1)).sum(-1)
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.OneHotCategorical(logits=x[:, None] * torch.arange(3.0)), infer=MARKED)
            pyro.sample("b", dist.Bernoulli(logits=(a * torch.arange(3.0)).sum(-1) - x), infer=MARKED)

    weights = log_weights(two, guide, X, 2)
    joint = (
        dist.Normal(table, 1.0).log_prob(X[:, None, None]) + torch.tensor([0.7, 0.3]).log() - torch.tensor(3.0).log()
    )
    torch.testing.assert_close(weights.log_w[0], joint.flatten(1).logsumexp(1))
    log_a = (X[:, None] * torch.arange(3.0)).log_softmax(-1)
    b = torch.arange(3.0) - X[:, None]
    log_b = torch.stack([torch.nn.functional.logsigmoid(-b), torch.nn.functional.logsigmoid(b)], -1)
    log_q = log_a[:, :, None] + log_b
    torch.testing.assert_close(weights.elbo_terms[1], (log_q.exp() * (joint - log_q)).sum((1, 2)))


# -- mixtures ------------------------------------------------------------------------------------------------


class Mixture(torch.nn.Module):
    """A guide of two normals for a posterior with two humps."""

    def __init__(self, *, marked: bool = True) -> None:
        super().__init__()
        self.loc = torch.nn.Parameter(torch.tensor([1.0, -0.5]))
        self.logits = torch.nn.Parameter(torch.tensor([0.3, -0.3]))
        self.infer = {"stratify": True} if marked else {}

    def mixture(self, x: Tensor) -> dist.MixtureSameFamily:
        components = dist.Normal(self.loc * x.abs().sqrt()[:, None], 0.6)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits.expand(len(x), 2)), components)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.mixture(x), infer=self.infer)


def humps(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z.square(), 0.8), obs=x)


def by_quadrature(guide: Mixture, x: Tensor) -> Tensor:
    """The ELBO with the entropy of the whole mixture, `(n,)`, on a grid so fine that it is exact to 1e-10."""
    z = torch.linspace(-9.0, 9.0, 20_001)[:, None]
    q = guide.mixture(x).expand((len(z), len(x)))
    log_q = q.log_prob(z.expand(-1, len(x)))
    log_p = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z.square(), 0.8).log_prob(x)
    return torch.trapezoid(log_q.exp() * (log_p - log_q), z[:, 0], dim=0)


def test_stratified_elbo_is_that_of_the_mixture() -> None:
    """Values and gradients against quadrature. False alarm: (4 + 4) x 6e-5."""
    guide, x, K = Mixture(), X.abs(), 40_000
    weights = log_weights(humps, guide, x, K)
    assert weights.elbo_terms.shape == (K, 4)
    exact = by_quadrature(guide, x)
    error = weights.elbo_terms.std(0) / K**0.5
    assert bool(((weights.elbo_terms.mean(0) - exact).abs() < 4 * error).all())
    wanted = torch.autograd.grad(exact.sum(), list(guide.parameters()))
    draws = [
        torch.autograd.grad(log_weights(humps, guide, x, 200).elbo_terms.mean(0).sum(), list(guide.parameters()))
        for _ in range(60)
    ]
    for found, true in zip(zip(*draws, strict=True), wanted, strict=True):
        values = torch.stack(found)
        assert bool(((values.mean(0) - true).abs() < 4 * values.std(0) / 60**0.5).all())


def test_strata_are_worth_more_than_draws() -> None:
    guide = Mixture()
    plain = log_weights(humps, Mixture(marked=False), X.abs(), 4000)
    strata = log_weights(humps, guide, X.abs(), 4000)
    error = plain.log_w.std(0) / 4000**0.5 + strata.elbo_terms.std(0) / 4000**0.5
    assert bool(((plain.log_w.mean(0) - strata.elbo_terms.mean(0)).abs() < 4 * error).all())  # 4 x 6e-5
    assert bool((strata.elbo_terms.var(0) < plain.log_w.var(0)).all())


def test_importance_weights_of_strata_are_unbiased() -> None:
    guide, x, K = Mixture(), X.abs(), 20_000
    z = torch.linspace(-9.0, 9.0, 20_001)[:, None]
    log_p = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z.square(), 0.8).log_prob(x)
    exact = torch.trapezoid(log_p.exp(), z[:, 0], dim=0)
    w = log_weights(humps, guide, x, K).log_w.exp()
    assert bool(((w.mean(0) - exact).abs() < 4 * w.std(0) / K**0.5).all())  # false alarm: 4 x 6e-5
    found = log_likelihood(humps, guide, x, num_particles=2000)
    assert bool(((found.value - exact.log()).abs() < 5 * found.standard_error).all())


def test_a_mixture_beside_a_site_that_the_model_sums_out() -> None:
    """Strata of the guide's z and the model's own sum over y at once."""

    def guide(x: Tensor) -> None:
        posterior = dist.Normal((LOC * 0.25 + x[:, None]) / 1.25, 0.2**0.5)  # a component for each y
        with pyro.plate("data", len(x)):
            pyro.sample(
                "z", dist.MixtureSameFamily(dist.Categorical(logits=log_joint()), posterior), infer={"stratify": True}
            )

    for K in (1, 3):
        weights = log_weights(model, guide, X, K)  # the posterior itself
        torch.testing.assert_close(weights.log_w, log_joint().logsumexp(-1).expand(K, 4))
        torch.testing.assert_close(weights.elbo_terms, log_joint().logsumexp(-1).expand(K, 4))
        assert weights.log_likelihood is not None


# -- in the engines ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "guide"), [(model, Classifier), (humps, Mixture)])
def test_training_replayed_has_the_bits_of_training(program: Program, guide: Callable[[], torch.nn.Module]) -> None:
    found = []
    for mode in ("eager", "replay"):
        pair = guide()
        fitted = fit(program, pair, X.abs(), Variational(ELBO(), 2), steps=20, mode=mode, seed=1)  # type: ignore[arg-type]
        found.append([p.detach() for p in pair.parameters()])
        assert set(fitted.modes["bound"].values()) == {mode}
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_training_finds_the_posterior_of_the_classes() -> None:
    guide = Classifier()
    x = torch.linspace(-4.0, 4.0, 64)
    ladder = compare_bounds(model, guide, x, ["elbo", "iwae:5"], num_particles=100)
    before = float(ladder.table["value"][0])
    fit(model, guide, x, Variational(ELBO("analytic")), epochs=200, batch_size=64, seed=0)
    after = compare_bounds(model, guide, x, ["elbo", "iwae:5"], num_particles=100)
    assert before + 0.5 < float(after.table["value"][0]) <= float(after.table["value"][1])


def test_evaluation_replayed_keeps_what_the_elbo_averages() -> None:
    tables = [
        compare_bounds(model, Classifier(0.3), X, ["elbo", "iwae:5"], mode=mode).table for mode in ("eager", "replay")
    ]
    assert tables[0]["value"].tolist() == tables[1]["value"].tolist()
    assert tables[0]["value"][0] < tables[0]["value"][1] - 0.1


def test_chains_begin_at_the_prior_with_the_class_summed_out() -> None:
    annealing = Annealing(num_chains=200, num_temperatures=100, start="prior")
    found = ais(model, Classifier(), X, annealing=annealing)
    exact = log_joint().logsumexp(-1)
    assert bool(((found.value - exact).abs() < 5 * found.standard_error + 0.02).all())
    with pytest.raises(ValueError, match=r'site `y` takes every value in the guide.*start="prior"'):
        ais(model, Classifier(), X, annealing=Annealing(num_chains=4, num_temperatures=10))


def test_single_draws_where_single_draws_are_asked_for() -> None:
    units = active_units(model, Classifier(), X)
    assert set(units.variance) == {"y", "z"}
    assert active_units(humps, Mixture(), X.abs()).variance["z"].shape == (1,)


def test_kl_warmup_weighs_the_kl_alone() -> None:
    guide = Classifier(0.2)
    task = Variational(ELBO(), kl_warmup=10).task(Pair(model, guide), X)
    torch.manual_seed(0)
    cold = task.phases[0].loss(X, torch.tensor(0.0)).loss
    torch.manual_seed(0)
    assert torch.equal(cold, -task.phases[0].loss(X, torch.tensor(0.0)).parts["log_likelihood"])
    torch.manual_seed(0)
    half = task.phases[0].loss(X, torch.tensor(5.0)).loss
    torch.manual_seed(0)
    warm = task.phases[0].loss(X, torch.tensor(10.0)).loss
    torch.testing.assert_close(half, (cold + warm) / 2)


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Variational(IWAE(), 3), "site `y` takes every value in the guide.*IWAE would not train them: expected `ELBO"),
        (Variational(PIWAE(2), 4), "`bound` is IWAE/MIWAE"),
        (Variational(ELBO(), estimator=STL()), r"`estimator` is STL\(\), which is a function of single draws"),
        (Variational(ELBO(), estimator=ScoreFunction()), "`estimator` is ScoreFunction"),
        (Variational(ELBO(), estimator=Enumeration()), "`estimator` is Enumeration"),
        (Variational(ELBO(), joint=True), "site `y` is summed over in the guide.*`joint=True`"),
    ],
)
def test_what_would_be_wrong_or_train_nothing_is_refused(objective: Variational, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(model, Classifier(), X, objective, steps=1)


def test_other_bounds_of_strata_of_draws_train() -> None:
    """The weights of a mixture depend on its probabilities, whatever the bound."""
    guide = Mixture()
    before = [p.detach().clone() for p in guide.parameters()]
    fit(humps, guide, X.abs(), Variational(IWAE(), 3), steps=2)
    assert all(not torch.equal(a, b) for a, b in zip(before, guide.parameters(), strict=True))
    with pytest.raises(ValueError, match="`kl_warmup` is 5, but site `z` is summed over"):
        fit(humps, guide, X.abs(), Variational(IWAE(), 3, kl_warmup=5), steps=2)
    with pytest.raises(ValueError, match=r"`estimator` is DReG\(\)"):
        fit(humps, guide, X.abs(), Variational(IWAE(), 3, estimator=DReG()), steps=2)


def marked(distribution: dist.TorchDistribution, infer: dict[str, object]) -> Program:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", distribution, infer=infer)

    return guide


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (marked(dist.Normal(0.0, 1.0), MARKED), "site `z` is enumerated in the guide, but Normal has no values"),
        (marked(dist.Normal(0.0, 1.0), {"stratify": True}), "site `z` is marked .* but Normal has no components"),
        (marked(dist.Bernoulli(0.5), {"enumerate": "sequential"}), "'sequential'.* expected \"parallel\""),
    ],
)
def test_sites_without_strata(guide: Program, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_weights(humps, guide, X, 2)


def test_a_sum_over_an_auxiliary_site_does_not_count_its_density() -> None:
    """With it every one of the values would be taken for a draw of its own, and the weights twice too large."""

    def guide(x: Tensor, *, mask: bool | None) -> None:
        with pyro.plate("data", len(x)):
            with pyro.poutine.mask(mask=mask):
                c = pyro.sample("c", dist.Bernoulli(0.3), infer=MARKED | {"is_auxiliary": True})
            pyro.sample("z", dist.Normal(2 * c - 1, 1.2))

    with pytest.raises(ValueError, match=r"site `c` is auxiliary and summed over .* `poutine.mask\(mask=False\)`"):
        log_weights(humps, partial(guide, mask=True), X.abs(), 2)
    z = torch.linspace(-9.0, 9.0, 20_001)[:, None]
    log_p = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z.square(), 0.8).log_prob(X.abs())
    exact = torch.trapezoid(log_p.exp(), z[:, 0], dim=0)
    w = log_weights(humps, partial(guide, mask=False), X.abs(), 20_000).log_w.exp()
    assert bool(((w.mean(0) - exact).abs() < 4 * w.std(0) / 20_000**0.5).all())  # false alarm: 4 x 6e-5


def test_strata_of_each_pixel_are_refused() -> None:
    def guide(x: Tensor) -> None:
        with pyro.plate("pixels", 2, dim=-2), pyro.plate("data", len(x), dim=-1):
            pyro.sample("y", dist.Bernoulli(0.5), infer=MARKED)

    def pixels(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            with pyro.plate("pixels", 2, dim=-2):
                y = pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(y.sum(-2), 1.0), obs=x)

    with pytest.raises(ValueError, match="site `y` is summed over in the guide within plates `pixels`, `data`"):
        log_weights(pixels, guide, X, 2)


def test_programs_that_do_not_broadcast_are_refused() -> None:
    def by_row(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(P))
            z = pyro.sample("z", dist.Normal(LOC[y], 1.0))
            pyro.sample("x", dist.Normal(z.reshape(-1)[: len(x)], 0.5), obs=x)  # the first value's z for all

    with pytest.raises(ValueError, match="there `model` gives site `x` another density than alone: write the programs"):
        log_weights(by_row, Classifier(), X, 1, vectorize=True)

    def by_shape(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(P))
            z = pyro.sample("z", dist.Normal(LOC[y], 1.0))
            pyro.sample("x", dist.Normal(z.reshape(len(x)), 0.5), obs=x)

    with pytest.raises(ValueError, match=r"site `y` is summed over in the guide.*the pair does not run so"):
        log_weights(by_shape, Classifier(), X, 1, vectorize=True)
