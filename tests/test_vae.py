"""The generative side against closed forms, and every prior in every model with every guide."""

import copy
import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.mcmc.util import initialize_model
from scipy import stats
from torch import distributions as td
from torch import nn

from guides import AmortizedFlow, AmortizedNormal, HierarchicalNormal
from ppmodels.conditionals import (
    ConditionalBernoulli,
    ConditionalCategorical,
    ConditionalFlow,
    ConditionalNormal,
    HomoscedasticNormal,
)
from ppmodels.nets import MLP
from ppmodels.priors import FlowPrior, GaussianMixture, Normal, StandardNormal, VampPrior
from ppmodels.vae import VAE

pytestmark = pytest.mark.usefixtures("double")

X_DIM, Z1, Z2 = 6, 4, 3


def linear(in_features, out_features, **options):
    """x | z ~ N(W z + b, scale^2): a conditional without a net."""
    return HomoscedasticNormal(MLP(in_features, ()), out_features, **options)


def mean(layer):
    return layer.loc.bias.detach().numpy(), layer.loc.weight.detach().numpy()


# every prior, model and guide; a line adds one
PRIORS = {
    "standard normal": lambda encoder: StandardNormal(encoder.out_features),
    "mixture": lambda encoder: GaussianMixture(encoder.out_features, 5),
    "vamp": lambda encoder: VampPrior(encoder, 4),
    "flow": lambda encoder: FlowPrior(encoder.out_features, hidden=(8,), transforms=2),
    "torch distribution": lambda encoder: td.Independent(td.Laplace(torch.zeros(encoder.out_features), 1.0), 1),
}
GUIDES = {
    "one normal": lambda: AmortizedNormal(ConditionalNormal(MLP(X_DIM, (8,)), Z1)),
    "one flow": lambda: AmortizedFlow(MLP(X_DIM, (8,)), Z1, hidden=(8,), transforms=2),
    "two normal": lambda: HierarchicalNormal(
        [ConditionalNormal(MLP(X_DIM, (8,)), Z1), ConditionalNormal(MLP(Z1, (8,)), Z2)]
    ),
    "two with a flow": lambda: HierarchicalNormal(
        [ConditionalFlow(MLP(X_DIM, (8,)), Z1, hidden=(8,), transforms=2), ConditionalNormal(MLP(Z1, (8,)), Z2)]
    ),
}


def make_pair(prior, guide):
    guide = GUIDES[guide]()
    layers = [ConditionalNormal(MLP(Z2, (8,)), Z1)] if len(guide.layers) == 2 else []
    likelihood = ConditionalBernoulli(MLP(Z1, (8,)), X_DIM, logits=torch.randn(X_DIM))
    return VAE(PRIORS[prior](guide.layers[-1]), likelihood, layers=layers), guide


@pytest.mark.parametrize(("prior", "guide"), list(itertools.product(PRIORS, GUIDES)))
class TestPairs:
    def test_trains_in_pyro_with_vectorised_particles(self, prior, guide):
        model, guide = make_pair(prior, guide)
        x = torch.bernoulli(torch.full((7, X_DIM), 0.5))
        elbo = Trace_ELBO(num_particles=5, vectorize_particles=True, max_plate_nesting=1)
        elbo.differentiable_loss(model, guide, x).backward()
        for module in (model, guide):
            assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
        assert not dict(pyro.get_param_store())
        owned = [id(p) for p in (*model.parameters(), *guide.parameters())]
        assert len(owned) == len(set(owned))  # every parameter has one owner

    def test_sites_broadcast_over_particles(self, prior, guide):
        model, guide = make_pair(prior, guide)
        x = torch.bernoulli(torch.full((7, X_DIM), 0.5))
        with pyro.plate("particles", 5, dim=-2):
            q = poutine.trace(guide).get_trace(x)
            p = poutine.trace(poutine.replay(model, trace=q)).get_trace(x)
        p.compute_log_prob()
        q.compute_log_prob()
        dims = {"z": Z1} if len(guide.layers) == 1 else {"z1": Z1, "z2": Z2}
        assert model.sites == guide.sites == tuple(dims)
        for site, dim in dims.items():
            assert q.nodes[site]["value"].shape == (5, 7, dim)
            assert p.nodes[site]["log_prob"].shape == q.nodes[site]["log_prob"].shape == (5, 7)
        assert p.nodes["x"]["log_prob"].shape == (5, 7)

    def test_the_same_after_eval_copy_save_and_move(self, prior, guide):
        name = guide
        model, guide = pair = nn.ModuleList(make_pair(prior, name))
        x = torch.bernoulli(torch.full((7, X_DIM), 0.5))

        def loss(model, guide, x):
            torch.manual_seed(3)
            return Trace_ELBO().differentiable_loss(model, guide, x).detach()

        expected = loss(model, guide, x)
        assert torch.equal(loss(*copy.deepcopy(pair), x), expected)
        assert torch.equal(loss(*pair.eval(), x), expected)
        other = nn.ModuleList(make_pair(prior, name))
        other.load_state_dict(pair.state_dict())
        assert torch.equal(loss(*other, x), expected)
        model, guide = pair.float()
        assert loss(model, guide, x.float()).isfinite()
        assert model(n=3).dtype == torch.float32

    def test_hmc_finds_its_coordinates(self, prior, guide):
        model, _ = make_pair(prior, guide)
        x = torch.bernoulli(torch.full((7, X_DIM), 0.5))
        start, potential, _, _ = initialize_model(model, (x,))
        assert set(start) == set(model.sites)
        assert potential(start).isfinite()


def test_joint_density_is_the_formula():
    prior = Normal(torch.tensor([1.0, -1.0]), torch.tensor([0.5, 2.0]))
    model = VAE(prior, linear(3, 4, scale=0.7), layers=[linear(2, 3, scale=0.2)])
    z2, z1, x = torch.randn(5, 2), torch.randn(5, 3), torch.randn(5, 4)
    with poutine.condition(data={"z1": z1, "z2": z2}):
        trace = poutine.trace(model).get_trace(x)
    trace.compute_log_prob()
    (b1, W1), (b2, W2) = mean(model.likelihood), mean(model.layers[0])
    expected = (
        stats.norm.logpdf(z2, [1.0, -1.0], [0.5, 2.0]).sum(-1)
        + stats.norm.logpdf(z1, z2.numpy() @ W2.T + b2, 0.2).sum(-1)
        + stats.norm.logpdf(x, z1.numpy() @ W1.T + b1, 0.7).sum(-1)
    )
    log_p = sum(trace.nodes[site]["log_prob"] for site in ("z1", "z2", "x"))
    np.testing.assert_allclose(log_p.detach(), expected, rtol=1e-12)


def test_drawn_data_have_the_marginal_moments():
    model, n = VAE(StandardNormal(2), linear(3, 4, scale=0.7), layers=[linear(2, 3, scale=0.2)]), 20_000
    (b1, W1), (b2, W2) = mean(model.likelihood), mean(model.layers[0])
    location = W1 @ b2 + b1
    covariance = W1 @ (W2 @ W2.T + 0.2**2 * np.eye(3)) @ W1.T + 0.7**2 * np.eye(4)
    with torch.no_grad():
        x = model(n=n).numpy()
    centred = x - location
    errors = np.sqrt(np.diag(covariance) / n)
    assert (np.abs(centred.mean(0)) <= 4 * errors).all()  # false alarm 3e-4 over 4 means
    products = centred[:, :, None] * centred[:, None, :]
    assert (np.abs(products.mean(0) - covariance) <= 4 * products.std(0) / n**0.5).all()  # 6e-4 over 10 products


def test_exact_posterior_makes_the_bound_exact():
    """W with orthogonal columns has a diagonal posterior, which an amortised normal can be set to."""
    z_dim, x_dim, s = 2, 5, 0.7
    W = torch.linalg.qr(torch.randn(x_dim, z_dim)).Q * torch.tensor([1.5, 0.4])
    b = torch.randn(x_dim)
    model = VAE(StandardNormal(z_dim), linear(z_dim, x_dim, scale=s))
    guide = AmortizedNormal(ConditionalNormal(MLP(x_dim, ()), z_dim))
    (q,) = guide.layers
    variance = 1 / (1 + (W**2).sum(0) / s**2)
    with torch.no_grad():
        model.likelihood.loc.weight.copy_(W)
        model.likelihood.loc.bias.copy_(b)
        q.loc.weight.copy_(variance[:, None] * W.T / s**2)
        q.loc.bias.copy_(-variance * (W.T @ b) / s**2)
        q.log_scale.weight.zero_()
        q.log_scale.bias.copy_(variance.log() / 2)
    x = torch.randn(6, x_dim)
    expected = stats.multivariate_normal.logpdf(x, b, (W @ W.T + s**2 * torch.eye(x_dim)).numpy()).sum()
    for elbo in (Trace_ELBO(), Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)):
        assert -elbo.loss(model, guide, x) == pytest.approx(expected, abs=1e-9)


def test_closed_form_divergence_is_used():
    """With the KL in closed form and a likelihood that ignores z, the ELBO has no noise."""
    model, guide = VAE(StandardNormal(2), linear(2, 3)), AmortizedNormal(ConditionalNormal(MLP(3), 2))
    with torch.no_grad():
        model.likelihood.loc.weight.zero_()
    x, elbo = torch.randn(4, 3), TraceMeanField_ELBO()
    assert elbo.loss(model, guide, x) == elbo.loss(model, guide, x)


def test_plates_sites_and_return_value():
    model = VAE(StandardNormal(2), linear(2, 3))
    trace = poutine.trace(model).get_trace(n=4)
    assert [name for name, node in trace.nodes.items() if node["type"] == "sample"] == ["data", "z", "x"]
    assert not trace.nodes["x"]["is_observed"]
    assert model(n=4).shape == (4, 3)
    x = torch.randn(5, 3)
    assert model(x) is x
    assert poutine.trace(model).get_trace(x).nodes["x"]["is_observed"]
    assert VAE(StandardNormal(2), linear(2, 3), layers=[linear(2, 2), linear(2, 2)]).sites == ("z1", "z2", "z3")


def test_a_likelihood_of_your_own_needs_no_base_class():
    class Poisson(nn.Module):
        def __init__(self):
            super().__init__()
            self.rate = nn.Linear(2, 3)

        def forward(self, z):
            return td.Poisson(self.rate(z).exp())  # of torch, and without an event

    model = VAE(lambda: dist.Normal(torch.zeros(2), 1.0).to_event(1), Poisson())
    assert model(n=4).shape == (4, 3)
    assert poutine.trace(model).get_trace(torch.ones(5, 3)).log_prob_sum().isfinite()


def test_discrete_data():
    model = VAE(StandardNormal(2), ConditionalCategorical(MLP(2), 3, 4))
    assert model(n=5).dtype == torch.int64


def test_burdas_networks_have_his_size():
    one = VAE(StandardNormal(50), ConditionalBernoulli(MLP(50, (200, 200)), 784))
    guide = AmortizedNormal(ConditionalNormal(MLP(784, (200, 200)), 50))
    assert sum(p.numel() for p in (*one.parameters(), *guide.parameters())) == 425_284


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: VAE(StandardNormal(40), ConditionalBernoulli(MLP(50), 784)),
            ValueError,
            "`likelihood` takes vectors of length 50, but `prior` makes vectors of length 40: give its trunk",
        ),
        (
            lambda: VAE(StandardNormal(2), linear(3, 4), layers=[linear(5, 3)]),
            ValueError,
            r"`layers\[0\]` takes vectors of length 5, but `prior` makes vectors of length 2",
        ),
        (
            lambda: VAE(StandardNormal(2), linear(3, 4), layers=[linear(2, 6), linear(6, 7)]),
            ValueError,
            r"`likelihood` takes vectors of length 3, but `layers\[1\]` makes vectors of length 7",
        ),
        (
            lambda: VAE(td.Normal(torch.zeros(5), 1.0), linear(5, 4)),
            ValueError,
            r"`prior` must be .* got batch_shape \(5,\)",
        ),
        (lambda: VAE("gaussian", linear(5, 4)), TypeError, "`prior` must be a module, a distribution or a function"),
        (lambda: VAE(StandardNormal(2), lambda z: z), TypeError, "`likelihood` must be a conditional.*got function"),
        (lambda: VAE(StandardNormal(2), linear(2, 4), layers=[3]), TypeError, r"`layers\[0\]` must be a conditional"),
        (
            lambda: VAE(StandardNormal(2), linear(2, 4))(torch.zeros(3, 5)),
            ValueError,
            r"`x` must have shape \(n, 4\), one row per datum, got \(3, 5\)",
        ),
        (lambda: VAE(StandardNormal(2), linear(2, 4))(torch.zeros(4)), ValueError, r"got \(4,\)"),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()
