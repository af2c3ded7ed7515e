"""Mixtures of normals against SciPy and scikit-learn, with weights of any kind, and where codes put them."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture as FittedMixture

from guides import AmortizedNormal
from inference import Augmented, Term, Variational, fit, log_weights
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal, HomoscedasticNormal
from ppmodels.gmvae import GMVAE
from ppmodels.nets import MLP
from ppmodels.priors import Autoregressive, GaussianMixture, StickBreakingMixture
from ppmodels.sticks import stick_weights
from ppmodels.vade import VaDE
from ppmodels.vae import VAE

pytestmark = pytest.mark.usefixtures("double")

KINDS = ["diagonal", "full", "tied"]
kinds = pytest.mark.parametrize("covariance", KINDS)


def at_random(prior):
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return prior


def covariances(prior):
    """Of each component, from the parameters by hand, `(C, z_dim, z_dim)`."""
    scales = prior.log_scale.detach().exp()
    factors = torch.stack([torch.diag(scale) for scale in scales])
    if prior.below is not None:
        factors = factors + torch.stack([torch.tril(below, -1) for below in prior.below.detach()])
    return (factors @ factors.mT).expand(len(prior.loc), -1, -1)


def scipys(prior):
    """The components as SciPy has them."""
    return [stats.multivariate_normal(m, S) for m, S in zip(prior.loc.detach(), covariances(prior), strict=True)]


def two_clouds(n=400):
    tall, wide = torch.tensor([[0.3, 0.0], [0.2, 1.5]]), torch.tensor([[1.5, 0.0], [-0.4, 0.3]])
    return torch.cat([torch.randn(n, 2) @ tall.T + 4.0, torch.randn(n // 4, 2) @ wide.T - 3.0])


class TestGaussianMixture:
    def test_is_scipys(self):
        prior, z = GaussianMixture(2, 3), torch.randn(6, 2)
        with torch.no_grad():
            prior.logits.copy_(torch.tensor([0.3, -1.0, 2.0]))
        weights, loc, scale = (t.detach() for t in (prior.logits.softmax(0), prior.loc, prior.log_scale.exp()))
        parts = [
            w * stats.norm.pdf(z.numpy(), m, s).prod(-1)
            for w, m, s in zip(*map(np.asarray, (weights, loc, scale)), strict=True)
        ]
        np.testing.assert_allclose(prior().log_prob(z).detach(), np.log(sum(parts)), rtol=1e-12)

    @pytest.mark.parametrize(("z_dim", "components"), [(1, 2), (2, 10), (50, 10), (5, 1), (3, 500)])
    def test_starts_with_mean_0_and_variance_1_and_even_components(self, z_dim, components):
        prior = GaussianMixture(z_dim, components)
        torch.testing.assert_close(prior().mean, torch.zeros(z_dim), rtol=0, atol=1e-12)
        torch.testing.assert_close(prior().variance, torch.ones(z_dim), rtol=0, atol=1e-12)
        assert len(prior.loc.detach().unique(dim=0)) == components
        torch.manual_seed(1)
        assert components <= 2 or not torch.equal(GaussianMixture(z_dim, components).loc, prior.loc)

    def test_components_are_more_even_than_chance(self):
        def nearest(points):
            return (torch.cdist(points, points) + 1e9 * torch.eye(len(points))).min(0).values.min()

        ours = [nearest(GaussianMixture(2, 64).loc.detach()) for _ in range(20)]
        chance = [nearest(torch.randn(64, 2) * 0.75**0.5) for _ in range(20)]
        assert np.median(ours) > 1.5 * np.median(chance)

    @kinds
    def test_all_kinds_are_scipys(self, covariance):
        prior, z = at_random(GaussianMixture(2, 3, covariance=covariance)), torch.randn(6, 2)
        weights = prior.logits.detach().softmax(0)
        densities = np.stack([p.pdf(z) for p in scipys(prior)], -1)  # (6, C)
        np.testing.assert_allclose(prior().log_prob(z).detach(), np.log(densities @ weights.numpy()), rtol=1e-10)
        posterior = densities * weights.numpy() / (densities @ weights.numpy())[:, None]
        np.testing.assert_allclose(prior.log_responsibilities(z).exp().detach(), posterior, rtol=1e-9)
        np.testing.assert_allclose(prior.log_weights.exp().detach(), weights, rtol=1e-12)

    @kinds
    def test_components_given_classes_of_any_shape(self, covariance):
        prior = at_random(GaussianMixture(2, 3, covariance=covariance))
        z = torch.randn(7, 2)
        for y in (torch.tensor(2), torch.tensor([0, 2, 1, 1, 0, 2, 2]), torch.arange(3)[:, None, None]):
            p = prior.components_given(y)
            assert (p.batch_shape, p.event_shape) == (y.shape, (2,))
            expected = torch.tensor([[scipys(prior)[int(c)].logpdf(v) for v in z] for c in y.flatten()])
            if y.shape == (7,):
                expected = expected.diagonal()
            torch.testing.assert_close(p.log_prob(z), expected.reshape(torch.broadcast_shapes(y.shape, (7,))))

    def test_what_lies_above_the_diagonal_counts_for_nothing(self):
        prior, z = at_random(GaussianMixture(3, 2, covariance="full")), torch.randn(5, 3)
        before = prior().log_prob(z)
        with torch.no_grad():
            prior.below += torch.randn(3, 3).triu()
        assert torch.equal(prior().log_prob(z), before)


class TestInitialise:
    @kinds
    @pytest.mark.parametrize("make", [GaussianMixture, StickBreakingMixture])
    def test_it_is_scikit_learns(self, make, covariance):
        codes = two_clouds()
        prior = make(2, 3, covariance=covariance)
        prior.initialise(codes, seed=3)
        kind = {"diagonal": "diag"}.get(covariance, covariance)
        fitted = FittedMixture(3, covariance_type=kind, random_state=3, n_init=3).fit(codes)
        np.testing.assert_allclose(prior().log_prob(codes).detach(), fitted.score_samples(codes), rtol=1e-8)
        assert prior.log_weights.diff().max() <= 0.0  # the heaviest first
        again = make(2, 3, covariance=covariance)
        again.initialise(codes, seed=3)
        assert torch.equal(again.loc, prior.loc)

    @kinds
    @pytest.mark.parametrize("make", [GaussianMixture, StickBreakingMixture])
    def test_it_finds_the_clouds_that_codes_were_drawn_from(self, make, covariance):
        """Locations, weights and covariances of a mixture of the same kind, each within 4 of its standard errors."""
        tall, wide = torch.tensor([[0.3, 0.0], [0.0, 1.5]]), torch.tensor([[1.5, 0.0], [0.0, 0.3]])
        rising, falling = torch.tensor([[0.7, 0.0], [0.6, 0.4]]), torch.tensor([[0.9, 0.0], [-0.5, 0.6]])
        factors = {"diagonal": (tall, wide), "full": (rising, falling), "tied": (rising, rising)}[covariance]
        truth, counts = torch.tensor([[6.0, 0.0], [-6.0, 2.0]]), (3000, 1000)
        draws = [m + torch.randn(n, 2) @ L.T for m, L, n in zip(truth, factors, counts, strict=True)]
        prior = make(2, 2, covariance=covariance)
        prior.initialise(torch.cat(draws)[torch.randperm(4000)])
        for c, (m, L, n) in enumerate(zip(truth, factors, counts, strict=True)):
            S = L @ L.T
            assert ((prior.loc[c] - m).abs() <= 4 * (S.diagonal() / n).sqrt()).all()
            error = ((S**2 + S.diagonal()[:, None] * S.diagonal()) / n).sqrt()
            assert ((covariances(prior)[c] - S).abs() <= 4 * error).all()
        assert abs(prior.log_weights[0].exp() - 0.75) < 1e-6  # the clouds do not touch

    def test_in_place_and_in_single_precision(self):
        prior = GaussianMixture(2, 2, covariance="full").float()
        before = dict(prior.named_parameters())
        prior.initialise(two_clouds().float().requires_grad_())
        assert all(value is before[name] and value.requires_grad for name, value in prior.named_parameters())
        assert {value.dtype for value in prior.parameters()} == {torch.float32}
        assert (prior.loc[0] - 4.0).abs().max() < 0.5

    @pytest.mark.parametrize(
        ("codes", "text"),
        [
            (torch.zeros(2, 2), "`codes` must be at least 3, one for each component, got 2"),
            (torch.zeros(9, 3), r"`codes` must have shape \(n, 2\), one row per datum, got \(9, 3\)"),
            (torch.zeros(9), r"`codes` must have shape \(n, 2\)"),
            (torch.full((9, 2), math.nan), "`codes` must be finite, got NaN or inf"),
            (torch.eye(2).repeat(9, 1), "`codes` must have at least 3 different rows, .* got 2 among 18"),
        ],
    )
    @pytest.mark.parametrize("make", [GaussianMixture, StickBreakingMixture])
    def test_errors(self, make, codes, text):
        with pytest.raises(ValueError, match=text):
            make(2, 3).initialise(codes)


class TestStickBreakingMixture:
    def test_starts_even_with_mean_0_and_variance_1(self):
        prior = StickBreakingMixture(3, 7)
        torch.testing.assert_close(prior.log_weights, torch.full((7,), -math.log(7)))
        torch.testing.assert_close(prior().mean, torch.zeros(3), rtol=0, atol=1e-12)
        torch.testing.assert_close(prior().variance, torch.ones(3), rtol=0, atol=1e-12)

    def test_weights_are_those_of_the_breaks(self):
        prior, z = at_random(StickBreakingMixture(2, 5)), torch.randn(6, 2)
        weights = stick_weights(prior.logit_v)
        torch.testing.assert_close(prior.log_weights.exp(), weights)
        densities = torch.as_tensor(np.stack([p.pdf(z) for p in scipys(prior)], -1))
        torch.testing.assert_close(prior().log_prob(z), (densities @ weights).log())

    def test_weights_can_be_set(self):
        prior = StickBreakingMixture(2, 4)
        weights = torch.tensor([0.1, 0.6, 1e-12, 0.3])
        prior.set_weights(weights)
        torch.testing.assert_close(prior.log_weights, (weights / weights.sum()).log())

    @pytest.mark.parametrize("concentration", [0.1, 1.0, 10.0])
    def test_hyperprior_is_betas_of_logits(self, concentration):
        prior = at_random(StickBreakingMixture(2, 4, concentration=concentration))
        v = prior.logit_v.sigmoid().detach().numpy()
        expected = (stats.beta(1, concentration).logpdf(v) + np.log(v * (1 - v))).sum()
        assert prior.log_hyperprior().item() == pytest.approx(expected, rel=1e-10)

    @pytest.mark.parametrize("concentration", [0.5, 2.0])
    def test_training_finds_the_mode_of_the_posterior(self, concentration):
        """Fixed components far apart leave only the counts n_k to say what weights are likely.

        The posterior of a break is Beta(1 + n_k, b + r_k), with r_k data after it, and the mode of its logit the mean.
        """
        n = torch.tensor([5.0, 30.0, 15.0])
        prior = StickBreakingMixture(1, 3, concentration=concentration)
        with torch.no_grad():
            prior.loc.copy_(torch.tensor([[-100.0], [0.0], [100.0]]))
            prior.log_scale.fill_(-1.0)
        prior.loc.requires_grad_(False)
        prior.log_scale.requires_grad_(False)
        x = torch.repeat_interleave(prior.loc, n.long(), 0)
        likelihood = HomoscedasticNormal(MLP(1, ()), 1, learned=False).requires_grad_(False)
        with torch.no_grad():
            likelihood.loc.weight.fill_(1.0)
        guide = AmortizedNormal(ConditionalNormal(MLP(1, ()), 1)).requires_grad_(False)
        with torch.no_grad():
            guide.layers[0].loc.weight.fill_(1.0)
            guide.layers[0].log_scale.weight.fill_(0.0)
            guide.layers[0].log_scale.bias.fill_(-3.0)
        term = Term(prior.log_hyperprior, weight=1 / len(x), of_batch=False)
        adam = partial(torch.optim.Adam, lr=0.05)
        model = VAE(prior, likelihood)
        fit(model, guide, x, Augmented(Variational(), {"sticks": term}), steps=600, optimizer=adam)
        after = torch.tensor([45.0, 15.0])
        expected = (1 + n[:-1]) / (1 + concentration + n[:-1] + after)
        torch.testing.assert_close(prior.logit_v.sigmoid().detach(), expected, rtol=0, atol=1e-4)

    def test_a_small_concentration_empties_what_is_not_needed(self):
        """The mode, without data, of a piece: 1 / (1 + b) of what is left."""
        sparse, even = StickBreakingMixture(2, 10, concentration=0.2), StickBreakingMixture(2, 10, concentration=5.0)
        for prior in (sparse, even):
            for _ in range(200):
                (gradient,) = torch.autograd.grad(prior.log_hyperprior(), prior.logit_v)
                with torch.no_grad():
                    prior.logit_v += 0.5 * gradient
        expected = stick_weights(torch.full((9,), -math.log(0.2)))
        torch.testing.assert_close(sparse.log_weights.exp(), expected, rtol=0, atol=1e-6)
        assert even.log_weights.exp()[0] < 0.2 < sparse.log_weights.exp()[0]

    @pytest.mark.parametrize("make", [GMVAE, VaDE])
    def test_clusters_of_it(self, make):
        """In the models of clusters it is a prior like any mixture: summed out, it is the VAE's."""
        prior = at_random(StickBreakingMixture(2, 4))
        likelihood = ConditionalBernoulli(MLP(2, (8,)), 6)
        guide = AmortizedNormal(ConditionalNormal(MLP(6, (8,)), 2))
        x = torch.bernoulli(torch.full((5, 6), 0.5))
        found = []
        for model in (make(prior, likelihood), VAE(prior, likelihood)):
            torch.manual_seed(1)
            found.append(log_weights(model, guide, x, 3).log_w)
        torch.testing.assert_close(*found)

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"components": 1}, "`components` must be an integer, at least 2, got 1"),
            ({"components": 3, "concentration": -1.0}, "`concentration` must be a positive number, got -1.0"),
            ({"components": 3, "concentration": math.inf}, "`concentration` must be a positive number, got inf"),
            ({"components": 3, "covariance": "round"}, "`covariance` must be one of diagonal, full, tied, got 'round'"),
            ({"components": 3, "spread": 1.5}, "`spread` is a share of the variance"),
        ],
    )
    def test_errors(self, options, text):
        with pytest.raises(ValueError, match=text):
            StickBreakingMixture(2, **options)


class TestAutoregressive:
    def test_each_coordinate_knows_of_those_before_it_alone(self):
        prior, z = at_random(Autoregressive(4, (16, 16), components=3)), torch.randn(4)

        def parameters(z):
            p = prior.conditionals(z)
            normals = p.component_distribution
            return torch.cat([p.mixture_distribution.logits, normals.loc, normals.scale], -1)  # (4, 9)

        depends = torch.autograd.functional.jacobian(parameters, z).abs().sum(1) > 0  # (4, 4)
        assert torch.equal(depends, torch.ones(4, 4).tril(-1).bool())

    @pytest.mark.parametrize("hidden", [(8,), ()])
    def test_density_is_the_product_of_conditionals(self, hidden):
        prior, z = at_random(Autoregressive(3, hidden, components=2)), torch.randn(5, 3)
        p = prior.conditionals(z)
        weights, normals = p.mixture_distribution.probs.detach(), p.component_distribution
        parts = stats.norm.pdf(z[..., None], normals.loc.detach(), normals.scale.detach())  # (5, 3, 2)
        expected = np.log((parts * weights.numpy()).sum(-1)).sum(-1)
        np.testing.assert_allclose(prior().log_prob(z).detach(), expected, rtol=1e-10)
        assert prior().expand((4, 5)).log_prob(z).shape == (4, 5)

    def test_integrates_to_one(self):
        axis = torch.linspace(-12, 12, 301)
        with torch.no_grad():
            density = at_random(Autoregressive(2, (8,)))().log_prob(torch.cartesian_prod(axis, axis)).exp()
        assert density.sum().item() * 0.08**2 == pytest.approx(1.0, abs=1e-3)

    @pytest.mark.parametrize(("z_dim", "components"), [(1, 5), (5, 5), (5, 1)])
    def test_starts_near_the_standard_normal(self, z_dim, components):
        z = Autoregressive(z_dim, (64,), components=components)()((4000,))
        assert (z.mean(0).abs() < 0.15).all()
        assert ((z.var(0) - 1).abs() < 0.2).all()
        assert ((z.T @ z / 4000).reshape(z_dim, -1) - torch.eye(z_dim)).abs().max() < 0.2

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"z_dim": 0}, "`z_dim` must be an integer, at least 1, got 0"),
            ({"z_dim": 2, "components": 0}, "`components` must be an integer, at least 1, got 0"),
            ({"z_dim": 9, "hidden": (64, 7)}, r"`hidden` must be layers of at least 8 units.*got \(64, 7\)"),
        ],
    )
    def test_errors(self, options, text):
        with pytest.raises(ValueError, match=text):
            Autoregressive(**options)
