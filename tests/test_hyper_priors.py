"""Priors of priors against conjugate closed forms, in one batch and in many."""

import copy
import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.mcmc.util import initialize_model
from torch import distributions as td
from torch import nn
from torch.distributions import biject_to

from guides import AmortizedNormal, KumaraswamySticks, SharedNormal
from inference import (
    ELBO,
    Annealing,
    Augmented,
    Term,
    Variational,
    ais,
    compare_bounds,
    fit,
    log_likelihood,
    log_weights,
)
from inference.pair import Pair
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal, HomoscedasticNormal
from ppmodels.m2 import M2
from ppmodels.nets import MLP, joined
from ppmodels.priors import LearnedHyper, Normal, SampledHyper, check_prior
from ppmodels.sbvae import SBVAE
from ppmodels.sticks import LogitBeta, stick_weights
from ppmodels.vae import VAE

pytestmark = pytest.mark.usefixtures("double")

N, S = 40, 0.5  # x | z ~ N(z, S^2), z | m ~ N(m, 1), m ~ N(0, 2^2)
V = 1 / (1 + 1 / S**2)  # of the posterior of z given m


def centred(m):
    return dist.Normal(m.unsqueeze(-1), 1.0).to_event(1)


def laplace(scale):
    return dist.Laplace(torch.zeros(3), scale.unsqueeze(-1)).to_event(1)


def of_location(**options):
    return SampledHyper({"m": td.Normal(0.0, 2.0)}, centred, **options)


def data(n=N):
    return 1.5 + (1 + S**2) ** 0.5 * torch.randn(n, 1)


def conjugate(prior):
    """A model whose likelihood is fixed, and a guide with the right variance and slope: what it learns is the rest."""
    likelihood = HomoscedasticNormal(MLP(1, ()), 1, scale=S, learned=False).requires_grad_(False)
    guide = AmortizedNormal(ConditionalNormal(MLP(1, ()), 1))
    q = guide.layers[0]
    with torch.no_grad():
        likelihood.loc.weight.fill_(1.0)
        q.loc.weight.fill_(V / S**2)
        q.log_scale.weight.zero_()
        q.log_scale.bias.fill_(math.log(V) / 2)
    for fixed in (q.loc.weight, q.log_scale.weight, q.log_scale.bias):
        fixed.requires_grad_(False)
    return VAE(prior, likelihood), guide


class TestLearnedHyper:
    @pytest.mark.parametrize(
        "p",
        [
            td.Gamma(0.5, 2.0),
            td.Normal(1.0, 2.0),
            td.HalfCauchy(3.0),
            td.Beta(2.0, 3.0),
            td.Independent(td.LogNormal(torch.zeros(3), 0.5), 1),
            td.Dirichlet(torch.tensor([1.0, 2.0, 3.0])),
        ],
        ids=lambda p: type(p).__name__,
    )
    def test_density_is_that_of_free_coordinates(self, p):
        """By the Jacobian of the bijection, from autodiff."""
        prior = LearnedHyper({"h": p}, lambda h: dist.Normal(torch.zeros(2), h.sum().exp()).to_event(1))
        (u,) = prior.parameters()
        T = biject_to(p.support)
        torch.testing.assert_close(prior.values()["h"], T(u))
        value = T(u.detach())
        jacobian = torch.autograd.functional.jacobian(lambda v: T(v).flatten()[: v.numel()], u.detach())
        expected = p.log_prob(value) + jacobian.reshape(u.numel(), u.numel()).det().abs().log()
        torch.testing.assert_close(prior.log_hyperprior(), expected)

    def test_starts_at_the_mean_or_in_the_middle(self):
        prior = LearnedHyper(
            {"scale": td.Gamma(6.0, 2.0), "wide": td.HalfCauchy(2.0)}, lambda scale, wide: laplace(scale * wide)
        )
        assert prior.values()["scale"].item() == pytest.approx(3.0)
        assert prior.values()["wide"].item() == 1.0
        assert list(prior.state_dict())[-2:] == ["unconstrained.scale", "unconstrained.wide"]

    def test_the_loss_is_least_at_the_mode_of_the_posterior(self):
        """m given x has precision 1/4 + N / (1 + S^2), and its mode is its mean.

        Where the guide is the posterior and the KL in closed form, the loss's gradient in m has no noise.
        """
        prior, x = LearnedHyper({"m": td.Normal(0.0, 2.0)}, centred), data()
        model, guide = conjugate(prior)
        term = Term(prior.log_hyperprior, weight=1 / N, of_batch=False)
        objective = Augmented(Variational(ELBO(kl="analytic")), {"hyperprior": term})
        (phase,) = objective.task(Pair(model, guide), x).phases
        (m,) = prior.parameters()
        mode = x.sum() / (1 + S**2) / (1 / 4 + N / (1 + S**2))
        for value, slope in ((mode, 0.0), (mode + 0.1, (1 / 4 + N / (1 + S**2)) / N * 0.1)):
            with torch.no_grad():
                m.copy_(value)
                guide.layers[0].loc.bias.copy_(V * value)
            (gradient,) = torch.autograd.grad(phase.loss(x, torch.zeros(())).loss, m)
            assert gradient.item() == pytest.approx(slope, abs=1e-10)


class TestSampledHyper:
    def test_samples_outside_the_data_plate(self):
        model, _ = conjugate(of_location())
        trace = poutine.trace(model).get_trace(data())
        assert trace.nodes["m"]["value"].shape == ()
        assert not trace.nodes["m"]["cond_indep_stack"]
        assert trace.nodes["z"]["value"].shape == (N, 1)
        with pyro.plate("particles", 3, dim=-2):
            trace = poutine.trace(model).get_trace(data())
        assert trace.nodes["m"]["value"].shape == (3, 1)
        assert trace.nodes["z"]["value"].shape == (3, N, 1)

    def test_check_prior_says_what_it_samples(self):
        report = check_prior(SampledHyper({"scale": td.Gamma(2.0, 2.0)}, laplace))
        assert report.ok, str(report)
        assert "samples `scale`, at one draw of which it was tested: call it outside the data plate" in report.notes[0]

    def test_support_may_depend_on_it(self):
        def box(high):
            return dist.Uniform(torch.zeros(2), high.unsqueeze(-1)).to_event(1)

        assert check_prior(SampledHyper({"high": td.Gamma(2.0, 2.0)}, box)).ok

    def test_bounds_per_datum_refuse_it_by_name(self):
        prior = of_location()
        model, local = conjugate(prior)
        guide, x = SharedNormal(local, prior), data()
        text = "site `m` is latent outside the data plate `data`, so bounds per datum are undefined.*`joint=True`"
        for bound in (
            lambda: log_weights(model, guide, x, 2),
            lambda: log_likelihood(model, guide, x, num_particles=30),
            lambda: compare_bounds(model, guide, x, ["elbo"]),
            lambda: fit(model, guide, x, steps=1),
            lambda: ais(model, guide, x, Annealing(num_temperatures=2)),
        ):
            with pytest.raises(ValueError, match=text):
                bound()
        assert log_weights(model, guide, x, 2, joint=True).log_w.shape == (2, 1)

    def test_a_guide_without_it_is_refused_by_name(self):
        model, local = conjugate(of_location())
        with pytest.raises(ValueError, match="site `m` is sampled by the model and missing from the guide"):
            fit(model, local, data(), Variational(joint=True), steps=1)

    def test_joint_weights_are_unbiased(self):
        """The mean weight of all data at once is p(x), a normal's; within 4 s.e."""
        prior, x = of_location(), data(5)
        model, local = conjugate(prior)
        guide = SharedNormal(local, prior, scale=0.8)
        with torch.no_grad():
            guide.loc["m"].fill_(1.5)
            local.layers[0].loc.bias.fill_(1.5 * V)
        covariance = (1 + S**2) * torch.eye(5) + 4.0
        exact = td.MultivariateNormal(torch.zeros(5), covariance).log_prob(x[:, 0])
        w = (log_weights(model, guide, x, 20000, joint=True).log_w - exact).exp()
        assert (w.mean() - 1).abs() <= 4 * w.std() / 20000**0.5

    @pytest.mark.parametrize("batch_size", [N, N // 4])
    def test_trained_jointly_in_any_batches(self, batch_size):
        """Mean-field's best: precision of m 1/4 + N, where the data are one batch or four, each with its share."""
        prior, x = of_location(share=batch_size / N), data()
        model, local = conjugate(prior)
        guide = SharedNormal(local, prior)
        objective = Variational(ELBO(), 8, joint=True)
        adam = partial(torch.optim.Adam, lr=0.02)
        fit(model, guide, x, objective, steps=800, batch_size=batch_size, optimizer=adam)
        expected = x.sum() / (1 + S**2) / (1 / 4 + N / (1 + S**2))
        assert (guide.loc["m"] - expected).abs() < 0.1
        assert guide.log_scale["m"].exp().item() == pytest.approx((1 / 4 + N) ** -0.5, rel=0.1)

    @pytest.mark.parametrize("share", [1.0, 0.25])
    def test_a_share_of_its_divergence_counts(self, share):
        prior = of_location(share=share)
        model, local = conjugate(prior)
        guide, x = SharedNormal(local, prior), data(4)
        (phase,) = Variational(ELBO(kl="analytic"), joint=True).task(Pair(model, guide), x).phases
        found = phase.loss(x, torch.zeros(())).parts["kl_m"]
        q = td.Normal(guide.loc["m"], guide.log_scale["m"].exp())
        torch.testing.assert_close(found, share * td.kl_divergence(q, td.Normal(0.0, 2.0)).detach())
        assert log_weights(model, guide, x, 2, joint=True).kl["m"].shape == (2, 1)

    @pytest.mark.parametrize("family", ["sticks", "classes"])
    def test_other_models_share_it_too(self, family):
        """The weight of all data at once, written out at the guide's draws; classes are summed out in the model."""
        x = torch.bernoulli(torch.full((5, 4), 0.5))
        if family == "sticks":
            prior = SampledHyper(
                {"h": td.Gamma(2.0, 1.0)}, lambda h: LogitBeta(torch.ones(2), h[..., None]).to_event(1)
            )
            model = SBVAE(prior, ConditionalBernoulli(MLP(3, (8,)), 4))
            guide, site = SharedNormal(KumaraswamySticks(MLP(4, (8,)), 3), prior), "logit_v"
        else:
            prior = SampledHyper(
                {"h": td.Gamma(2.0, 1.0)}, lambda h: dist.Laplace(torch.zeros(2), h[..., None]).to_event(1)
            )
            model = M2(prior, ConditionalBernoulli(MLP(2 + 3, (8,)), 4), 3)
            guide, site = SharedNormal(AmortizedNormal(ConditionalNormal(MLP(4, (8,)), 2)), prior), "z"
        assert log_weights(model, guide, x, 7, joint=True).log_w.shape == (7, 1)
        torch.manual_seed(3)
        found = log_weights(model, guide, x, 1, joint=True, vectorize=False).log_w.squeeze()
        torch.manual_seed(3)
        q = poutine.trace(guide).get_trace(x)
        q.compute_log_prob()
        h, z = q.nodes["h"]["value"], q.nodes[site]["value"]
        if family == "sticks":
            log_p = LogitBeta(torch.ones(2), h).log_prob(z).sum() + model.likelihood(stick_weights(z)).log_prob(x).sum()
        else:
            given = torch.stack([model.likelihood(joined(z, row)).log_prob(x) for row in torch.eye(3)])  # (3, n)
            log_p = td.Laplace(0.0, h).log_prob(z).sum() + (given.logsumexp(0) - math.log(3)).sum()
        torch.testing.assert_close(found, log_p + td.Gamma(2.0, 1.0).log_prob(h) - q.log_prob_sum())

    def test_parameters_of_a_module_learn_with_it(self):
        class Shifted(nn.Module):
            def __init__(self):
                super().__init__()
                self.shift = nn.Parameter(torch.zeros(2))

            def forward(self, scale):
                return dist.Normal(self.shift, scale.unsqueeze(-1)).to_event(1)

        prior = SampledHyper({"scale": td.Gamma(2.0, 2.0)}, Shifted())
        assert [name for name, _ in prior.named_parameters()] == ["make.shift"]
        assert check_prior(prior).ok

    def test_moves_copies_and_saves(self):
        prior = SampledHyper({"scale": td.Gamma(2.0, 2.0)}, laplace)
        assert sorted(prior.state_dict()) == ["hyper.scale.concentration", "hyper.scale.rate"]
        assert prior.float()()().dtype == torch.float32
        assert copy.deepcopy(prior).double()()().dtype == torch.float64

    def test_hmc_finds_its_coordinates(self):
        prior = SampledHyper({"scale": td.Gamma(2.0, 2.0)}, laplace)
        model = VAE(prior, HomoscedasticNormal(MLP(3, ()), 2))
        parameters, potential, transforms, _ = initialize_model(model, model_args=(torch.randn(4, 2),))
        assert {name: tuple(v.shape) for name, v in parameters.items()} == {"scale": (), "z": (4, 3)}
        assert "scale" in transforms
        assert potential(parameters).isfinite()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: SampledHyper({}, laplace), TypeError, "`hyper` must hold a distribution for each name"),
        (lambda: SampledHyper({"scale": 1.0}, laplace), TypeError, "`hyper` must hold a distribution for each name"),
        (
            lambda: LearnedHyper({"scale": td.Gamma(torch.ones(3), 1.0)}, laplace),
            ValueError,
            r"`hyper` has batch_shape \(3,\) at `scale`, expected \(\): make its entries one event",
        ),
        (lambda: SampledHyper({"scale": td.Gamma(1.0, 1.0)}, 3), TypeError, "`make` must be a function from scale to"),
        (
            lambda: SampledHyper({"scale": td.Gamma(1.0, 1.0)}, laplace, share=1.5),
            ValueError,
            r"`share` must be a batch's share of the data, B / N in \(0, 1\], got 1.5",
        ),
        (
            lambda: SampledHyper({"m": td.Gamma(1.0, 1.0)}, lambda m: centred(learned * m)),
            ValueError,
            "`make` has parameters to learn.*nobody finds the parameters that a function hides",
        ),
        (
            lambda: LearnedHyper({"k": td.Poisson(3.0)}, lambda k: centred(k)),
            ValueError,
            "`hyper` has a discrete distribution at `k`, which has no unconstrained coordinate",
        ),
        (
            lambda: SampledHyper({"m": td.Gamma(1.0, 1.0)}, lambda m: dist.Normal(torch.zeros(4, 2), m).to_event(1))(),
            ValueError,
            r"`make` returns a distribution of batch_shape \(4,\) for arguments of \(\), expected the same: broadcast",
        ),
        (
            lambda: SharedNormal(lambda x: x, SampledHyper({"m": td.Normal(0.0, 1.0)}, centred)),
            TypeError,
            "`guide` must",
        ),
        (
            lambda: SharedNormal(nn.Identity(), Normal(torch.zeros(2), 1.0)),
            TypeError,
            "`prior` must be the SampledHyper",
        ),
        (
            lambda: SharedNormal(nn.Identity(), SampledHyper({"m": td.Normal(0.0, 1.0)}, centred), scale=0.0),
            ValueError,
            "`scale` must be a positive number, got 0.0",
        ),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()


learned = nn.Parameter(torch.ones((), dtype=torch.float64))
