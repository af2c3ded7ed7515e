"""Categories, hard and soft: laws against formulas, and which estimators train a VAE that has them.

A test at 4 standard errors fails for one seed in 16,000 for each number that it compares; seeds are fixed.
"""

import math

import pyro
import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import biject_to, kl_divergence

from guides import Amortized
from inference import (
    ELBO,
    IWAE,
    STL,
    VIMCO,
    Annealing,
    DReG,
    Enumeration,
    GumbelSoftmax,
    Pathwise,
    ReweightedWakeSleep,
    ScoreFunction,
    StraightThrough,
    Variational,
    ais,
    fit,
    log_likelihood,
    log_weights,
    pareto_khat,
)
from inference.pair import Pair
from ppmodels.concrete import Concrete, LogRatios, OpenSimplex
from ppmodels.conditionals import HomoscedasticNormal
from ppmodels.nets import MLP
from ppmodels.priors import CategoricalPrior, RelaxedCategorical
from ppmodels.relaxed import ConditionalOneHotCategorical, ConditionalRelaxedCategorical
from ppmodels.vae import VAE

pytestmark = pytest.mark.usefixtures("double")

X, C = 4, 3
EXACT = (Enumeration(), 1), (VIMCO(), 4), (ScoreFunction("geometric"), 4), (ReweightedWakeSleep(), 4)
BIASED = (GumbelSoftmax(0.5), 1), (StraightThrough(0.5), 1)


def hard():
    """A mixture of three normals, as an autoencoder, with a guide that is anywhere."""
    prior = CategoricalPrior(C, logits=torch.tensor([0.3, -0.5, 0.0]))
    model = VAE(prior, HomoscedasticNormal(MLP(C, ()), X, scale=0.8))
    return model, Amortized([ConditionalOneHotCategorical(MLP(X, (8,)), C)])


def soft(temperature=0.7):
    model = VAE(RelaxedCategorical(C, temperature), HomoscedasticNormal(MLP(C, ()), X, scale=0.8))
    return model, Amortized([ConditionalRelaxedCategorical(MLP(X, (8,)), C, temperature=0.5)])


def data(n=6):
    return torch.randn(n, X)


def log_joint(model, x):
    """log p(x, c) of each category by textbook formulas, `(n, C)`."""
    means = model.likelihood.loc(torch.eye(C))  # (C, X)
    log_p = torch.distributions.Normal(means, model.likelihood.log_scale.exp()).log_prob(x[:, None]).sum(-1)
    return log_p + model.prior.logits.log_softmax(-1)


def exact_elbo(model, guide, x):
    log_q = guide.layers[0].logits(guide.layers[0].trunk(x)).log_softmax(-1)
    return (log_q.exp() * (log_joint(model, x) - log_q)).sum(-1)


def mean_gradient(objective, pair, x, draws):
    """Mean and standard error of the loss's gradient, all parameters in a row."""
    task = objective.task(pair, x)
    (phase,) = task.phases
    rows = []
    for _ in range(draws):
        loss = phase.loss(x, torch.zeros(())).loss
        gradients = torch.autograd.grad(loss, list(phase.parameters.values()), allow_unused=True)
        rows.append(torch.cat([g.flatten() for g in gradients if g is not None]))
    rows = torch.stack(rows)
    return rows.mean(0), rows.std(0, correction=0) / max(1, draws - 1) ** 0.5


class TestHardCategories:
    def test_is_categorical(self):
        prior = CategoricalPrior(3, logits=torch.tensor([0.0, 1.0, -2.0]))
        expected = torch.tensor([0.0, 1.0, -2.0]).log_softmax(0)
        torch.testing.assert_close(prior().log_prob(torch.eye(3)), expected)
        assert not list(CategoricalPrior(3, learned=False).parameters())

    def test_a_guide_may_take_all_its_values(self):
        """Summed out on both sides the bound is the exact ELBO, the mean weight is p(x), and training needs no luck."""
        model, guide = hard()
        x = data()

        class EveryValue(nn.Module):
            def __init__(self):
                super().__init__()
                self.q = guide.layers[0]

            def forward(self, x):
                with pyro.plate("data", len(x)):
                    return pyro.sample("z", self.q(x), infer={"enumerate": "parallel"})

        weights = log_weights(model, EveryValue(), x, 2)
        torch.testing.assert_close(ELBO()(weights), exact_elbo(model, guide, x))
        torch.testing.assert_close(IWAE()(weights), log_joint(model, x).logsumexp(-1))
        pair = Pair(model, EveryValue())
        mean, _ = mean_gradient(Variational(ELBO()), pair, x, 1)
        expected = torch.autograd.grad(-exact_elbo(model, guide, x).mean(), list(pair.parameters(x).values()))
        torch.testing.assert_close(mean, torch.cat([g.flatten() for g in expected]))

    def test_divergence_has_a_closed_form(self):
        model, guide = hard()
        x = data()
        q = guide.layers[0](x)
        expected = (q.probs * (q.logits - model.prior.logits.log_softmax(-1))).sum(-1)
        torch.testing.assert_close(kl_divergence(q, model.prior().expand((6,))), expected)

    @pytest.mark.parametrize("estimator", [Enumeration(), VIMCO(), ScoreFunction("geometric")], ids=lambda e: e.name)
    def test_gradients_are_those_of_the_exact_elbo(self, estimator):
        model, guide = hard()
        x, draws = data(3), 1 if isinstance(estimator, Enumeration) else 600
        pair = Pair(model, guide)
        parameters = list(pair.parameters(x).values())
        expected = torch.autograd.grad(-exact_elbo(model, guide, x).mean(), parameters)
        mean, error = mean_gradient(Variational(ELBO(), 2, estimator=estimator), pair, x, draws)
        expected = torch.cat([g.flatten() for g in expected])
        assert ((mean - expected).abs() <= 4 * error + 1e-12).all()

    @pytest.mark.parametrize(("estimator", "K"), [*EXACT, *BIASED], ids=lambda v: getattr(v, "name", v))
    def test_estimators_that_train_it(self, estimator, K):
        model, guide = hard()
        x = torch.cat([torch.randn(20, X) * 0.3 + shift for shift in (-2.0, 0.0, 2.0)])
        bound = IWAE() if isinstance(estimator, ReweightedWakeSleep) else ELBO()
        before = log_joint(model, x).logsumexp(-1).mean()
        adam = lambda parameters: torch.optim.Adam(parameters, lr=0.03)  # noqa: E731
        fit(model, guide, x, Variational(bound, K, estimator=estimator), steps=150, optimizer=adam)
        assert log_joint(model, x).logsumexp(-1).mean() > before + 2.0
        gap = (log_joint(model, x).logsumexp(-1) - exact_elbo(model, guide, x)).mean()
        assert gap < (2.0 if (estimator, K) in BIASED else 0.2)

    @pytest.mark.parametrize("estimator", [Pathwise(), STL(), DReG()], ids=lambda e: e.name)
    def test_estimators_that_need_a_path_refuse_it(self, estimator):
        model, guide = hard()
        with pytest.raises(ValueError, match="site `z` has no reparameterised draws"):
            fit(model, guide, data(), Variational(IWAE(), 4, estimator=estimator), steps=1)

    def test_chains_refuse_it(self):
        model, guide = hard()
        with pytest.raises(ValueError, match="site `z` is discrete"):
            ais(model, guide, data(), Annealing(num_temperatures=2))

    def test_log_likelihood_is_the_mixtures(self):
        model, guide = hard()
        x = data()
        found = log_likelihood(model, guide, x, num_particles=4000)
        exact = log_joint(model, x).logsumexp(-1)
        assert ((found.value - exact).abs() <= 4 * found.standard_error).all()
        assert found.unreliable == 0.0  # the weights of a few states have no tail to be estimated
        states = torch.tensor([0.0, -1.0, -5.0])[torch.randint(3, (500, 1))]
        assert pareto_khat(states).item() == -math.inf


class TestSoftCategories:
    def test_density_is_that_of_the_paper(self):
        """Equation 10 of Maddison et al., written out."""
        logits, heat, z = torch.randn(C), 0.4, torch.distributions.Dirichlet(torch.ones(C)).sample((6,))
        alpha = logits.exp()
        ratio = (alpha * z ** (-heat - 1)).prod(-1) / (alpha * z**-heat).sum(-1) ** C
        expected = math.factorial(C - 1) * heat ** (C - 1) * ratio
        torch.testing.assert_close(Concrete(torch.tensor(heat), logits=logits).log_prob(z), expected.log())

    def test_integrates_to_one(self):
        """Over the triangle of three categories, by the midpoint rule."""
        n = 400
        grid = (torch.arange(n) + 0.5) / n
        z1, z2 = torch.cartesian_prod(grid, grid).unbind(-1)
        z = torch.stack([z1, z2, 1 - z1 - z2], -1)[z1 + z2 < 1]
        total = RelaxedCategorical(3, 1.5)().log_prob(z).exp().sum() / n**2
        assert total.item() == pytest.approx(1.0, abs=5e-3)

    def test_draws_prefer_a_category_as_hard_ones_do(self):
        """P(z_c is largest) = pi_c, at any temperature; Pearson's test, false alarm 1e-4."""
        logits = torch.tensor([0.5, -1.0, 0.0, 1.0])
        for heat in (0.05, 1.0, 5.0):
            z = RelaxedCategorical(4, heat, logits=logits)()((4000,))
            counts = z.argmax(-1).bincount(minlength=4).numpy()
            assert stats.chisquare(counts, 4000 * logits.softmax(0).numpy()).pvalue > 1e-4

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("heat", [0.01, 0.1, 1.0])
    def test_is_finite_at_any_temperature(self, dtype, heat):
        logits = torch.tensor([30.0, 0.0, -30.0], dtype=dtype)
        p = Concrete(torch.tensor(heat, dtype=dtype), logits=logits.requires_grad_())
        z = p.rsample((2000,))
        assert p.support.check(z).all()
        log_p = p.log_prob(z)
        assert log_p.isfinite().all()
        (gradient,) = torch.autograd.grad(log_p.sum(), logits)
        assert gradient.isfinite().all()

    def test_its_bijection_is_one_up_to_the_corners(self):
        T = biject_to(OpenSimplex())
        assert T == LogRatios() != torch.distributions.ExpTransform()
        u = torch.tensor([[0.3, -1.0], [500.0, -100.0], [-600.0, 10.0]])
        z = T(u)
        assert T.forward_shape((5, 2)) == (5, 3)
        assert T.inverse_shape((5, 3)) == (5, 2)
        torch.testing.assert_close(T.inv(z), u)
        jacobian = torch.autograd.functional.jacobian(lambda v: T(v)[:-1], u[0])
        torch.testing.assert_close(T.log_abs_det_jacobian(u[0], z[0]), jacobian.det().abs().log())

    @pytest.mark.parametrize(
        ("estimator", "bound"), [(Pathwise(), ELBO()), (STL(), ELBO()), (DReG(), IWAE())], ids=["path", "stl", "dreg"]
    )
    def test_estimators_that_train_it(self, estimator, bound):
        model, guide = soft()
        x = torch.cat([torch.randn(20, X) * 0.3 + shift for shift in (-2.0, 0.0, 2.0)])
        adam = lambda parameters: torch.optim.Adam(parameters, lr=0.03)  # noqa: E731
        before = log_weights(model, guide, x, 200).log_w.logsumexp(0).mean()
        fit(model, guide, x, Variational(bound, 4, estimator=estimator), steps=150, optimizer=adam)
        assert log_weights(model, guide, x, 200).log_w.logsumexp(0).mean() > before + 2.0

    def test_enumeration_refuses_it(self):
        model, guide = soft()
        with pytest.raises(ValueError, match=r"`z` is a .*expected Bernoulli, Categorical or OneHotCategorical"):
            fit(model, guide, data(), Variational(estimator=Enumeration()), steps=1)

    def test_hard_categories_are_its_limit(self):
        """At a low temperature the soft model's likelihood is that of the hard one with the same parameters."""
        hard_model, _ = hard()
        soft_model, _ = soft(0.01)
        soft_model.load_state_dict({**hard_model.state_dict(), "prior.temperature": torch.tensor(0.01)})
        x, by_prior = data(), Amortized([ConditionalRelaxedCategorical(MLP(X, ()), C, temperature=0.01)])
        with torch.no_grad():
            by_prior.layers[0].logits.weight.zero_()
            by_prior.layers[0].logits.bias.copy_(hard_model.prior.logits)
        log_w = log_weights(soft_model, by_prior, x, 20000).log_w  # k-hat makes little of what is almost discrete
        exact = log_joint(hard_model, x).logsumexp(-1)
        w = (log_w - exact).exp()
        assert ((w.mean(0) - 1).abs() <= 4 * w.std(0) / 20000**0.5 + 0.02).all()

    def test_annealed_chains_agree_with_importance_sampling(self):
        model, guide = soft(0.3)
        x = data(3)
        by_chains = ais(model, guide, x, Annealing(num_temperatures=30, num_chains=200, num_leapfrogs=5, start="prior"))
        by_draws = log_likelihood(model, guide, x, num_particles=20000)
        error = (by_chains.standard_error**2 + by_draws.standard_error**2).sqrt()
        assert ((by_chains.value - by_draws.value).abs() <= 4 * error).all()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: CategoricalPrior(1), "`categories` must be an integer, at least 2, got 1"),
        (lambda: CategoricalPrior(3, logits=torch.zeros(2)), r"`logits` must have shape \(3,\), one for each"),
        (lambda: RelaxedCategorical(1), "`categories` must be an integer, at least 2, got 1"),
        (lambda: RelaxedCategorical(3, 0.0), "`temperature` must be a positive number, such as 0.5, got 0.0"),
        (lambda: RelaxedCategorical(3, -1.0), "`temperature` must be a positive number, such as 0.5, got -1.0"),
        (lambda: ConditionalRelaxedCategorical(MLP(3), 2, temperature=math.nan), "`temperature` must be a positive"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()
