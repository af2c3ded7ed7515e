"""Scale mixtures of normals, sparse or with heavy tails, against SciPy and quadrature over what was integrated out."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from scipy.special import exp1, expn
from torch.fx.experimental.proxy_tensor import make_fx

from ppmodels.priors import Horseshoe, SpikeAndSlab, StudentT
from ppmodels.priors.sparse import HorseshoeLaw, log_exp1e

pytestmark = pytest.mark.usefixtures("double")

X = np.concatenate([np.logspace(-300, 2.8, 400), np.linspace(0.01, 10, 400), [3.0 - 1e-15, 3.0, 3.0 + 1e-15]])


class TestLogExp1E:
    def test_is_scipys(self):
        found = log_exp1e(torch.as_tensor(X)).numpy()
        np.testing.assert_allclose(found, X + np.log(exp1(X)), rtol=0, atol=1e-10)
        np.testing.assert_allclose(found, X + np.log(expn(1, X)), rtol=0, atol=1e-10)

    def test_far_out_is_the_asymptotic_series(self):
        x = np.logspace(3, 300, 300)
        series = np.log1p(-1 / x * (1 - 2 / x * (1 - 3 / x * (1 - 4 / x)))) - np.log(x)
        np.testing.assert_allclose(log_exp1e(torch.as_tensor(x)), series, rtol=0, atol=1e-12)

    def test_gradients(self):
        """Of e^x E1(x) the derivative is itself less 1 / x."""
        x = torch.as_tensor(X).requires_grad_()
        (slope,) = torch.autograd.grad(log_exp1e(x).sum(), x)
        expected = 1 - np.exp(-X - np.log(exp1(X)) - np.log(X))
        np.testing.assert_allclose(slope, expected, rtol=1e-8)  # `expected` has no more: it is a small difference
        far = torch.logspace(3, 300, 100).requires_grad_()
        (slope,) = torch.autograd.grad(log_exp1e(far).sum(), far)
        torch.testing.assert_close(slope * far, -1 + 1 / far.detach(), rtol=0, atol=5e-6)
        few = torch.tensor([1e-3, 0.5, 2.9, 3.1, 50.0]).requires_grad_()
        assert torch.autograd.gradcheck(log_exp1e, few)
        assert torch.autograd.gradgradcheck(log_exp1e, few)

    def test_single_precision(self):
        x = X[(X > 1.2e-38) & (X < 600)]
        found = log_exp1e(torch.as_tensor(x, dtype=torch.float32))
        exact = log_exp1e(torch.as_tensor(x, dtype=torch.float32).double())
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-5)

    def test_has_a_graph(self):
        graph = make_fx(log_exp1e)(torch.ones(4))  # captured where both branches are
        assert not [node for node in graph.graph.nodes if node.op == "get_attr"]  # each would be copied to a GPU
        x = torch.tensor([1e-9, 2.0, 4.0, 1e9])
        assert torch.equal(graph(x), log_exp1e(x))


class TestHorseshoe:
    @pytest.mark.parametrize("z", [1e-6, 0.1, 1.0, 7.0, 300.0])
    def test_is_the_mixture_over_half_cauchy_scales(self, z):
        """By quadrature over the angle whose tangent is the local scale."""
        s = 0.7
        law = stats.norm(0, 1)
        parts = [0, 1e-6, 1e-4, 1e-2, 0.5, 1.0, 1.5, math.pi / 2 - 1e-3, math.pi / 2 - 1e-5, math.pi / 2]
        found = sum(
            quad(lambda t: law.pdf(z / (s * math.tan(t))) / (s * math.tan(t)), a, b)[0] for a, b in pairwise(parts)
        )
        log_p = HorseshoeLaw(s).log_prob(torch.tensor(z)).item()
        assert log_p == pytest.approx(math.log(found * 2 / math.pi), abs=1e-6)

    @pytest.mark.parametrize("s", [0.01, 1.0, 50.0])
    def test_integrates_to_one(self, s):
        def density(t):  # of the logarithm of z
            z = torch.tensor(t).exp()
            return (HorseshoeLaw(s).log_prob(z) + t).exp().item()

        centre = math.log(s)
        total = sum(quad(density, a, b)[0] for a, b in [(centre - 60, centre), (centre, centre + 60)])
        assert 2 * total == pytest.approx(1.0, abs=1e-8)

    def test_draws_are_of_the_density(self):
        """Kolmogorov's test of log |z|; false alarm 1e-4."""
        t = torch.linspace(-30.0, 40.0, 20001)
        density = 2 * (HorseshoeLaw(1.0).log_prob(t.exp()) + t).exp()
        cdf = torch.cumulative_trapezoid(density, t).numpy()
        z = Horseshoe(1)()((4000,)).squeeze(-1)
        found = stats.kstest(z.abs().log().numpy(), lambda v: np.interp(v, t[1:], cdf))
        assert found.pvalue > 1e-4
        assert abs(float((z > 0).double().mean()) - 0.5) < 4 * 0.5 / 4000**0.5

    def test_at_the_ends_of_the_line(self):
        """At zero and where squares overflow the density is finite, and so is its gradient."""
        for dtype in (torch.float32, torch.float64):
            prior = Horseshoe(4).to(dtype)
            z = torch.tensor([0.0, 1e-300, 1e30, -1e300], dtype=torch.float64).to(dtype).nan_to_num().requires_grad_()
            log_p = prior().base_dist.log_prob(z)
            assert log_p.isfinite().all()
            (gradient,) = torch.autograd.grad(log_p.sum(), z)
            assert gradient.isfinite().all()
            assert log_p.argmax() < 2  # the peak is at zero

    def test_gradient_of_draws_is_that_of_the_scale(self):
        law = HorseshoeLaw(torch.tensor(2.0, requires_grad=True))
        z = law.rsample((5,))
        torch.testing.assert_close(torch.autograd.grad(z.sum(), law.scale)[0], z.sum() / 2)


class TestSpikeAndSlab:
    def test_is_scipys(self):
        slab = torch.tensor([1.0, 2.0, 3.0])
        prior, z = SpikeAndSlab(3, probs=0.2, spike=0.1, slab=slab), torch.randn(6, 3)
        expected = 0.8 * stats.norm.pdf(z, 0, 0.1) + 0.2 * stats.norm.pdf(z, 0, slab)
        np.testing.assert_allclose(prior().log_prob(z), np.log(expected).sum(-1), rtol=1e-12)
        assert not list(prior.parameters())
        assert [p.shape for p in SpikeAndSlab(3, learned=True).parameters()] == [(3,), (3, 2)]


class TestStudentT:
    @pytest.mark.parametrize("df", [1.0, 4.5])
    def test_is_scipys(self, df):
        scale, z = torch.tensor([0.5, 1.0, 3.0]), 2 * torch.randn(6, 3)
        alone = StudentT(3, df, scale=scale)().log_prob(z)
        np.testing.assert_allclose(alone, stats.t.logpdf(z, df, 0, scale).sum(-1), rtol=1e-10)
        together = StudentT(3, df, scale=scale, shared=True)().log_prob(z)
        expected = stats.multivariate_t.logpdf(z, np.zeros(3), np.diag(scale**2), df)
        np.testing.assert_allclose(together, expected, rtol=1e-10)

    def test_is_the_mixture_over_gamma_precisions(self):
        z, df = 1.3, 3.0
        found = quad(lambda p: stats.norm.pdf(z, 0, p**-0.5) * stats.gamma.pdf(p, df / 2, scale=2 / df), 0, np.inf)[0]
        assert StudentT(1, df)().log_prob(torch.tensor([z])).exp().item() == pytest.approx(found, rel=1e-7)

    def test_a_shared_precision_makes_coordinates_far_together(self):
        """The correlation of log |z| of two coordinates: the variance of log(precision) / 2 over that of log |z|."""
        noise, shared = torch.tensor(math.pi**2 / 8), torch.special.polygamma(1, torch.tensor(1.5)) / 4
        for together, expected in ((False, 0.0), (True, float(shared / (shared + noise)))):
            z = StudentT(2, 3.0, shared=together)()((20000,))
            found = z.abs().log().T.corrcoef()[0, 1].item()
            assert abs(found - expected) < 4 * 1.3 / 20000**0.5  # 1.3 times the error of normals' correlation


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Horseshoe(3, scale=0.0), "`scale` must be one positive number or 3 of them, got 0.0"),
        (lambda: Horseshoe(3, scale=torch.ones(2)), "`scale` must be one positive number or 3 of them"),
        (lambda: Horseshoe(3, scale=math.nan), "`scale` must be one positive number or 3 of them, got nan"),
        (lambda: Horseshoe(0), "`z_dim` must be an integer, at least 1, got 0"),
        (lambda: SpikeAndSlab(3, probs=1.0), r"`probs` must lie in \(0, 1\), between only the spike and only the slab"),
        (lambda: SpikeAndSlab(3, spike=-1.0), "`spike` must be one positive number or 3 of them, got -1.0"),
        (lambda: SpikeAndSlab(3, spike=2.0), "`spike` must be narrower than `slab`, got scales 2.0 and 1.0"),
        (lambda: StudentT(3, 0.0), "`df` must be one positive number or 3 of them, got 0.0"),
        (lambda: StudentT(3, torch.ones(3), shared=True), "`df` must be one positive number or 1 of them"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()
