"""Conditionals against SciPy, quadrature and autograd; the flow against its own Jacobian."""

import copy
import math
import subprocess
import sys

import numpy as np
import pyro
import pytest
import torch
from scipy import integrate, stats
from torch import nn
from torch.distributions import Laplace

from ppmodels.conditionals import (
    Conditional,
    ConditionalBernoulli,
    ConditionalCategorical,
    ConditionalContinuousBernoulli,
    ConditionalFlow,
    ConditionalNormal,
    HomoscedasticNormal,
    bounded_exp,
)
from ppmodels.nets import MLP, ConvDecoder

pytestmark = pytest.mark.usefixtures("double")

CONDITIONALS = {
    "normal": lambda: ConditionalNormal(MLP(3, (8,)), 5),
    "homoscedastic": lambda: HomoscedasticNormal(MLP(3, (8,)), 5),
    "bernoulli": lambda: ConditionalBernoulli(MLP(3, (8,)), 5),
    "continuous bernoulli": lambda: ConditionalContinuousBernoulli(MLP(3, (8,)), 5),
    "categorical": lambda: ConditionalCategorical(MLP(3, (8,)), 5, 4),
    "flow": lambda: ConditionalFlow(MLP(3, (8,)), 5, hidden=(8,)),
    "coupling": lambda: ConditionalFlow(MLP(3, (8,)), 5, hidden=(8,), passes=2),
    "one-dimensional flow": lambda: ConditionalFlow(MLP(3, (8,)), 1, hidden=(8,)),
}


@pytest.mark.parametrize("make", CONDITIONALS.values(), ids=CONDITIONALS)
def test_shapes_moves_and_copies(make):
    p, h = make(), torch.randn(4, 6, 3)
    y = p(h)()
    assert p(h).batch_shape == (4, 6)
    assert p(h).event_shape == (p.out_features,)
    log_p = p(h).log_prob(y)
    assert log_p.shape == (4, 6)
    torch.testing.assert_close(p(h[:, 2]).log_prob(y[:, 2]), log_p[:, 2])  # batches do not mix
    torch.testing.assert_close(copy.deepcopy(p).eval()(h).log_prob(y), log_p, rtol=0, atol=1e-12)
    other = make()
    other.load_state_dict(p.state_dict())
    torch.testing.assert_close(other(h).log_prob(y), log_p, rtol=0, atol=1e-12)
    assert p.float()(h.float())().dtype == (torch.int64 if isinstance(p, ConditionalCategorical) else torch.float32)
    assert not dict(pyro.get_param_store())


@pytest.mark.parametrize("make", CONDITIONALS.values(), ids=CONDITIONALS)
def test_every_parameter_gets_a_gradient(make):
    p, h = make(), torch.randn(6, 3)
    p(h).log_prob(p(h)().detach()).sum().backward()
    assert all(q.grad is not None and q.grad.isfinite().all() for q in p.parameters())


@pytest.mark.parametrize("make", CONDITIONALS.values(), ids=CONDITIONALS)
def test_in_plates(make):
    with pyro.plate("particles", 4, dim=-2), pyro.plate("data", 6, dim=-1):
        y = pyro.sample("y", p := make()(torch.randn(6, 3)))
    assert y.shape == (4, 6, p.event_shape[0])
    assert len(y[:, 0].unique(dim=0)) > 1  # each particle draws its own


class TestBoundedExp:
    def test_is_the_exponential_inside(self):
        h = torch.linspace(-10, 10, 1001)
        assert torch.equal(bounded_exp(h), h.exp())

    def test_tangent_above_reciprocal_below(self):
        h = torch.tensor([10.5, 20.0, 1e6])
        torch.testing.assert_close(bounded_exp(h), math.exp(10) * (h - 9), rtol=1e-12, atol=0)
        torch.testing.assert_close(bounded_exp(-h) * bounded_exp(h), torch.ones(3), rtol=1e-12, atol=0)

    def test_gradient_is_continuous_and_nowhere_zero(self):
        h = torch.tensor([-1e4, -10 - 1e-9, -10 + 1e-9, 0.0, 10 - 1e-9, 10 + 1e-9, 1e4], requires_grad=True)
        (slope,) = torch.autograd.grad(bounded_exp(h).log().sum(), h)
        torch.testing.assert_close(slope[1:-1], torch.ones(5), rtol=0, atol=1e-8)
        torch.testing.assert_close(slope[[0, -1]], torch.full((2,), 1 / 9991), rtol=1e-9, atol=0)
        assert torch.autograd.gradcheck(bounded_exp, torch.tensor([-30.0, -3.0, 2.0, 11.0], requires_grad=True))

    def test_neither_overflows_nor_vanishes_in_float32(self):
        scale = bounded_exp(torch.tensor([-1e30, -89.0, 89.0, 1e30], dtype=torch.float32))
        assert scale.isfinite().all()
        assert (scale > 0).all()


def test_normal_is_scipys():
    p, h, y = ConditionalNormal(MLP(3), 2), torch.randn(7, 3), torch.randn(7, 2)
    features = p.trunk(h)
    loc, scale = p.loc(features), p.log_scale(features).exp()
    expected = stats.norm.logpdf(y, loc.detach(), scale.detach()).sum(-1)
    np.testing.assert_allclose(p(h).log_prob(y).detach(), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.3, torch.tensor([0.5, 2.0])])
def test_homoscedastic_normal_is_scipys(scale):
    p, h, y = HomoscedasticNormal(MLP(3, ()), 2, scale=scale), torch.randn(7, 3), torch.randn(7, 2)
    expected = stats.norm.logpdf(y, (h @ p.loc.weight.T + p.loc.bias).detach(), scale).sum(-1)
    np.testing.assert_allclose(p(h).log_prob(y).detach(), expected, rtol=1e-12)
    fixed = HomoscedasticNormal(MLP(3, ()), 2, scale=scale, learned=False)
    fixed.load_state_dict(p.state_dict())
    assert torch.equal(fixed(h).log_prob(y), p(h).log_prob(y))
    assert set(dict(p.named_parameters())) - set(dict(fixed.named_parameters())) == {"log_scale"}


def test_bernoulli_starts_at_the_logits():
    logits = torch.tensor([-3.0, 0.0, 2.0])
    p = ConditionalBernoulli(MLP(4), 3, logits=logits)
    h = torch.zeros(1, 4)  # through tanh without biases: zero features
    y = torch.tensor([[1.0, 0.0, 1.0]])
    expected = stats.bernoulli.logpmf(y, torch.sigmoid(logits)).sum()
    np.testing.assert_allclose(p(h).log_prob(y).item(), expected, rtol=1e-12)
    assert p.logits.bias.data_ptr() != logits.data_ptr()


def test_bernoulli_refuses_grey():
    with pytest.raises(ValueError, match="to be within the support"):
        ConditionalBernoulli(MLP(4), 3)(torch.zeros(1, 4)).log_prob(torch.full((1, 3), 0.5))


def test_continuous_bernoulli_is_a_density():
    p = ConditionalContinuousBernoulli(MLP(4), 1, logits=torch.tensor([1.7]))(torch.zeros(4))
    total, _ = integrate.quad(lambda y: p.log_prob(torch.tensor([y])).exp().item(), 0, 1)
    assert abs(total - 1) < 1e-9


def test_categorical_is_a_softmax_per_entry():
    p, h = ConditionalCategorical(MLP(3), 2, 4), torch.randn(5, 3)
    logits = p.logits[0](p.trunk(h)).reshape(5, 4, 2)  # categories before entries, as colours before pixels
    y = torch.tensor([[3, 0]]).expand(5, 2)
    expected = logits.log_softmax(1)[:, 3, 0] + logits.log_softmax(1)[:, 0, 1]
    torch.testing.assert_close(p(h).log_prob(y), expected)
    everything = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    torch.testing.assert_close(p(h).log_prob(everything[:, None]).exp().sum(0), torch.ones(5))


@pytest.mark.parametrize(
    "make", [ConditionalNormal, ConditionalBernoulli, lambda t, d: ConditionalCategorical(t, d, 3)]
)
def test_a_decoder_brings_its_own_head(make):
    p = make(ConvDecoder(4, (2, 6, 5)), 30)
    assert p(torch.randn(3, 7, 4)).event_shape == (30,)
    assert not any(isinstance(m, nn.Linear) and m.in_features == 60 for m in p.modules())


def test_logits_reach_the_bias_of_a_decoder():
    logits = torch.randn(30)
    assert torch.equal(ConditionalBernoulli(ConvDecoder(4, (2, 6, 5)), 30, logits=logits).logits.bias, logits)


def test_one_of_your_own_may_return_what_torch_has():
    class ConditionalLaplace(Conditional):
        def __init__(self, trunk, out_features):
            super().__init__(trunk, out_features)
            self.loc = nn.Linear(trunk.out_features, out_features)

        def distribution(self, features):
            return Laplace(self.loc(features), 1.0)

    p, h = ConditionalLaplace(MLP(3), 2), torch.randn(4, 3)
    y = p(h)()
    expected = stats.laplace.logpdf(y.detach(), p.loc(p.trunk(h)).detach()).sum(-1)
    np.testing.assert_allclose(p(h).log_prob(y).detach(), expected, rtol=1e-12)


class TestFlow:
    @pytest.mark.parametrize("passes", [None, 2])
    def test_density_is_the_change_of_variables(self, passes):
        flow = ConditionalFlow(MLP(2, (8,)), 3, hidden=(8,), passes=passes)
        q = flow(torch.randn(2))
        noise = torch.randn(3)
        jacobian = torch.autograd.functional.jacobian(q.transform.inv, noise)
        expected = stats.norm.logpdf(noise).sum() - torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(q.log_prob(q.transform.inv(noise)), expected.squeeze())

    def test_integrates_to_one(self):
        q = ConditionalFlow(MLP(2, (8,)), 2, hidden=(8,))(torch.randn(2))
        axis = torch.linspace(-12, 12, 481)
        with torch.no_grad():
            density = q.log_prob(torch.cartesian_prod(axis, axis)).exp()
        assert abs(float(density.sum()) * 0.05**2 - 1) < 1e-3

    def test_remembered_density_and_its_gradient_are_the_computed_ones(self):
        flow = ConditionalFlow(MLP(2, (8,)), 3, hidden=(8,))
        q = flow(torch.randn(5, 2))
        z = q.rsample((4,))
        remembered, computed = q.log_prob(z), q.log_prob(z + 0.0)
        torch.testing.assert_close(remembered, computed, rtol=0, atol=1e-12)
        for a, b in zip(
            torch.autograd.grad(remembered.sum(), list(flow.parameters()), retain_graph=True),
            torch.autograd.grad(computed.sum(), list(flow.parameters())),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)

    def test_a_draw_without_graph_leaves_the_gradient_alone(self):
        flow = ConditionalFlow(MLP(2, (8,)), 3, hidden=(8,))
        q = flow(torch.randn(5, 2))
        assert q.log_prob(q.sample()).requires_grad
        with torch.no_grad():
            z = q.rsample()
        assert q.log_prob(z).requires_grad

    @pytest.mark.parametrize(("passes", "expected"), [(None, 4), (2, 2)])
    def test_draws_take_one_pass_and_foreign_points_as_many_as_said(self, passes, expected):
        flow, calls = ConditionalFlow(MLP(2, (8,)), 4, transforms=3, hidden=(8,), passes=passes), []
        for module in flow.flow.modules():
            if type(module).__name__ == "MaskedMLP":
                module.register_forward_hook(lambda *_: calls.append(1))
        q = flow(torch.randn(5, 2))
        q.log_prob(z := q.rsample())
        assert len(calls) == 3
        q.log_prob(z.detach())
        assert len(calls) == 3 + 3 * (expected + 1)  # passes to invert, one for the Jacobian
        calls.clear()
        with torch.no_grad():
            q.log_prob(q.rsample())
        assert len(calls) == 3

    def test_without_zuko_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "zuko", None)
        with pytest.raises(ImportError, match=r"flows need zuko: `pip install 'ppmodels\[flows\]'`"):
            ConditionalFlow(MLP(2), 3)

    def test_importing_and_building_leave_validation_as_found(self):
        code = """
import sys, torch
assert torch.distributions.Distribution._validate_args
import guides, ppmodels.priors
assert "zuko" not in sys.modules
from ppmodels.nets import MLP
guides.AmortizedFlow(MLP(2), 2), ppmodels.priors.FlowPrior(2)
assert "zuko" in sys.modules and torch.distributions.Distribution._validate_args
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: ConditionalNormal(784, 50), TypeError, r"`trunk` must be a module that says its `out_features`.*784"),
        (lambda: ConditionalNormal(nn.Sequential(), 5), TypeError, "on a module of your own set that attribute"),
        (lambda: ConditionalNormal(MLP(3), 0), ValueError, "`out_features` must be an integer, at least 1, got 0"),
        (
            lambda: ConditionalNormal(MLP(3), 2)(torch.zeros(5, 4)),
            ValueError,
            r"ConditionalNormal takes vectors of length 3, shape \(\.\.\., 3\), got shape \(5, 4\)",
        ),
        (
            lambda: ConditionalBernoulli(MLP(3), 784, logits=torch.zeros(64)),
            ValueError,
            r"`logits` must have shape \(784,\), one for each output, got \(64,\); take them from the data",
        ),
        (
            lambda: ConditionalCategorical(MLP(3), 2, 1),
            ValueError,
            "`categories` must be an integer, at least 2, got 1",
        ),
        (lambda: HomoscedasticNormal(MLP(3), 2, scale=0.0), ValueError, "`scale` must be one positive number or 2"),
        (lambda: HomoscedasticNormal(MLP(3), 2, scale=torch.ones(3)), ValueError, "or 2 of them, got tensor"),
        (lambda: ConditionalFlow(MLP(3), 2, transforms=0), ValueError, "`transforms` must be an integer, at least 1"),
        (lambda: ConditionalFlow(MLP(3), 2, hidden=8), TypeError, r"`hidden` must be a sequence of integers"),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()
