"""Guides against closed forms: supports, chains, remembered draws, errors."""

import copy
import itertools

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from scipy import stats
from torch import nn
from torch.distributions import Beta, Dirichlet, Gamma, Independent, constraints

from guides import Amortized, AmortizedFlow, AmortizedNormal, HierarchicalNormal
from guides.amortized import _carry
from ppmodels.conditionals import ConditionalBernoulli, ConditionalFlow, ConditionalNormal
from ppmodels.nets import MLP
from ppmodels.priors.agreement import disagreements
from ppmodels.vae import VAE

pytestmark = pytest.mark.usefixtures("double")

SUPPORTS = {
    "real": (constraints.real, 3),
    "real vector": (constraints.real_vector, 3),
    "positive": (constraints.positive, 3),
    "unit interval": (constraints.unit_interval, 3),
    "interval": (constraints.interval(-2.0, 5.0), 3),
    "simplex": (constraints.simplex, 4),
}
GUIDES = {
    "normal": lambda support: AmortizedNormal(ConditionalNormal(MLP(5, (8,)), 3), support=support),
    "flow": lambda support: AmortizedFlow(MLP(5, (8,)), 3, hidden=(8,), transforms=2, support=support),
}


def site(guide, x, name="z"):
    return poutine.trace(guide).get_trace(x).nodes[name]


@pytest.mark.parametrize(("support", "guide"), list(itertools.product(SUPPORTS, GUIDES)))
def test_any_support(support, guide):
    support, length = SUPPORTS[support]
    guide, x = GUIDES[guide](support), torch.randn(6, 5)
    with pyro.plate("particles", 4, dim=-2):
        node = site(guide, x)
    assert node["value"].shape == (4, 6, length)
    assert support.check(node["value"]).all()
    assert node["fn"].support.check(node["value"]).all()
    torch.testing.assert_close(node["fn"].log_prob(node["value"]), node["fn"].log_prob(node["value"] + 0.0))
    with torch.no_grad():  # false alarm 1e-4
        assert disagreements(_carry(guide.layers[0](x[0]), support), 2000) == []
    assert site(copy.deepcopy(guide), x)["value"].shape == (6, length)


def test_positive_is_scipys_lognormal():
    guide, x = GUIDES["normal"](constraints.positive), torch.randn(6, 5)
    z = torch.rand(6, 3) + 0.1
    q = guide.layers[0](x).base_dist
    expected = stats.lognorm.logpdf(z, q.scale.detach(), scale=q.loc.exp().detach()).sum(-1)
    np.testing.assert_allclose(site(guide, x)["fn"].log_prob(z).detach(), expected, rtol=1e-10)


def test_draws_at_the_edge_are_scored_where_they_came_from():
    """The inverse of a saturated sigmoid is lost; the draw's origin is remembered instead."""
    guide, x = GUIDES["normal"](constraints.unit_interval).float(), torch.zeros(6, 5, dtype=torch.float32)
    with torch.no_grad():
        guide.layers[0].loc.bias.fill_(20.0)
    node = site(guide, x)
    origin = guide.layers[0](x).base_dist
    log_q = node["fn"].log_prob(node["value"])
    assert log_q.isfinite().all()
    # log sigmoid'(u) is -u for large u, and u is 20 plus noise
    entropy = (0.5 * np.log(2 * np.pi * np.e) + origin.scale.log()).sum(-1)
    assert ((log_q + entropy.detach() - 60).abs() < 15).all()


def test_real_support_leaves_the_normal_as_it_is():
    for support in (constraints.real, constraints.real_vector):
        node = site(copy.deepcopy(GUIDES["normal"](support)), torch.randn(6, 5))
        assert isinstance(node["fn"], Independent)


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize(
    "prior",
    [
        Independent(Gamma(torch.full((3,), 2.0), torch.ones(3)), 1),
        Independent(Beta(torch.full((3,), 2.0), torch.ones(3)), 1),
        Dirichlet(torch.ones(4)),
    ],
    ids=["gamma", "beta", "dirichlet"],
)
def test_a_prior_off_the_real_line_has_a_guide(prior, guide):
    guide = GUIDES[guide](prior.support)
    model = VAE(prior, ConditionalBernoulli(MLP(prior.event_shape[0]), 5)).double()
    x = torch.bernoulli(torch.full((6, 5), 0.5))
    Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1).differentiable_loss(
        model, guide, x
    ).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (*model.parameters(), *guide.parameters()))


def test_hierarchy_is_the_product_of_its_factors():
    guide = HierarchicalNormal([ConditionalNormal(MLP(5), 4), ConditionalNormal(MLP(4), 2)])
    x = torch.randn(6, 5)
    trace = poutine.trace(guide).get_trace(x)
    trace.compute_log_prob()
    z1, z2 = (trace.nodes[name]["value"].detach() for name in guide.sites)
    for name, layer, h, z in zip(guide.sites, guide.layers, (x, z1), (z1, z2), strict=True):
        q = layer(h).base_dist
        expected = stats.norm.logpdf(z, q.loc.detach(), q.scale.detach()).sum(-1)
        np.testing.assert_allclose(trace.nodes[name]["log_prob"].detach(), expected, rtol=1e-10)


def test_a_flow_fits_anywhere_and_supports_may_differ():
    guide = HierarchicalNormal(
        [ConditionalFlow(MLP(5), 3, hidden=(8,)), ConditionalNormal(MLP(4), 2), ConditionalFlow(MLP(2), 1)],
        supports=[constraints.simplex, constraints.real, constraints.positive],
    )
    x = torch.randn(6, 5)
    with pyro.plate("particles", 4, dim=-2):
        trace = poutine.trace(guide).get_trace(x)
    assert [trace.nodes[name]["value"].shape for name in ("z1", "z2", "z3")] == [(4, 6, 4), (4, 6, 2), (4, 6, 1)]
    assert guide(x).shape == (6, 1)


def test_names_of_sites():
    q = ConditionalNormal(MLP(5), 3)
    assert AmortizedNormal(q, site="latent").sites == ("latent",)
    assert AmortizedFlow(MLP(5), 3, site="latent").sites == ("latent",)
    assert Amortized([q]).sites == HierarchicalNormal([q]).sites == ("z",)
    assert Amortized([q, ConditionalNormal(MLP(3), 2)], sites=["a", "b"]).sites == ("a", "b")


def test_flow_gradients_are_those_of_the_density_computed_anew():
    """Trace_ELBO with remembered densities against the same with every density computed from the draw."""
    guide, x = GUIDES["flow"](constraints.real), torch.bernoulli(torch.full((6, 5), 0.5))
    model = VAE(
        lambda: torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3)), ConditionalBernoulli(MLP(3), 5)
    )
    torch.manual_seed(5)
    remembered = torch.autograd.grad(Trace_ELBO().differentiable_loss(model, guide, x), list(guide.parameters()))
    torch.manual_seed(5)
    trace = poutine.trace(guide).get_trace(x)
    z, q = trace.nodes["z"]["value"], trace.nodes["z"]["fn"]
    with poutine.condition(data={"z": z}):
        log_p = poutine.trace(model).get_trace(x).log_prob_sum()
    computed = torch.autograd.grad(q.log_prob(z + 0.0).sum() - log_p, list(guide.parameters()))
    for a, b in zip(remembered, computed, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: AmortizedNormal(3), TypeError, r"`layers\[0\]` must be a conditional, .*got int"),
        (lambda: HierarchicalNormal([]), ValueError, "`layers` and `sites` go in pairs, at least one, got 0 and 0"),
        (
            lambda: HierarchicalNormal([ConditionalNormal(MLP(5), 4), ConditionalNormal(MLP(3), 2)]),
            ValueError,
            r"`layers\[1\]` takes vectors of length 3, but `layers\[0\]` makes vectors of length 4",
        ),
        (
            lambda: HierarchicalNormal(
                [ConditionalNormal(MLP(5), 4), ConditionalNormal(MLP(4), 2)],
                supports=[constraints.simplex, constraints.real],
            ),
            ValueError,
            r"`layers\[1\]` takes vectors of length 4, but `layers\[0\]` makes vectors of length 5",
        ),
        (
            lambda: HierarchicalNormal([ConditionalNormal(MLP(5), 4)], supports=[]),
            ValueError,
            "`layers` and `supports` go in pairs, at least one, got 1 and 0",
        ),
        (
            lambda: AmortizedNormal(ConditionalNormal(MLP(5), 4))(torch.zeros(3, 28, 28)),
            ValueError,
            r"`x` must have shape \(n, x_dim\), one row per datum, got \(3, 28, 28\)",
        ),
        (
            lambda: AmortizedNormal(ConditionalNormal(MLP(5), 4))(torch.zeros(3, 6)),
            ValueError,
            r"ConditionalNormal takes vectors of length 5.*got shape \(3, 6\)",
        ),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_conditional_of_your_own_needs_no_base_class():
    class Point(nn.Module):
        def forward(self, x):
            return torch.distributions.Normal(x[..., :2], 1.0)

    assert Amortized([Point()])(torch.zeros(6, 5)).shape == (6, 2)
