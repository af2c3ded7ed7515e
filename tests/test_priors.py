"""Priors against SciPy and quadrature; anything as a prior; and that `check_prior` tells sound from broken."""

import copy
import math
import re
from typing import ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.contrib.zuko import ZukoToPyro
from scipy import stats
from torch import distributions as td
from torch import nn
from torch.distributions import biject_to, constraints, kl_divergence

from ppmodels.conditionals import ConditionalFlow, ConditionalNormal
from ppmodels.distributions import load_zuko
from ppmodels.nets import MLP
from ppmodels.priors import (
    Autoregressive,
    BernoulliPrior,
    CategoricalPrior,
    FlowPrior,
    GaussianMixture,
    Horseshoe,
    LearnedHyper,
    NADEPrior,
    Normal,
    RelaxedCategorical,
    SpikeAndSlab,
    StandardNormal,
    StickBreakingMixture,
    StudentT,
    VampPrior,
    agreement,
    as_prior,
    check_prior,
)
from ppmodels.priors.agreement import disagreements

pytestmark = pytest.mark.usefixtures("double")


def at_random(prior):
    """The same prior at other parameters: where it starts, half of them are zero."""
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return prior


def three_normals():
    return td.Independent(td.Normal(torch.randn(4, 3), 1.0), 1)


class MixtureModule(nn.Module):
    """A module that returns what torch has."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(4))
        self.register_buffer("loc", torch.randn(4, 3))

    def forward(self):
        components = td.Independent(td.Normal(self.loc, 0.5), 1)
        return td.MixtureSameFamily(td.Categorical(logits=self.logits), components)


class WrappedFlow(nn.Module):
    """As Pyro's tutorial on flow priors has it."""

    def __init__(self):
        super().__init__()
        self.flow = load_zuko().flows.MAF(3, hidden_features=(8,))

    def forward(self):
        return ZukoToPyro(self.flow())


OURS = {
    "standard normal": lambda: StandardNormal(3),
    "normal": lambda: Normal(torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.1, 1.0, 3.0])),
    "learned normal": lambda: Normal(torch.ones(3), 2.0, learned=True),
    "mixture": lambda: GaussianMixture(3, 10),
    "mixture of one": lambda: GaussianMixture(3, 1),
    "full mixture": lambda: at_random(GaussianMixture(3, 4, covariance="full")),
    "tied mixture": lambda: at_random(GaussianMixture(3, 4, covariance="tied")),
    "mixture by sticks": lambda: at_random(StickBreakingMixture(3, 4)),
    "horseshoe": lambda: Horseshoe(3, scale=torch.tensor([0.1, 1.0, 5.0]), learned=True),
    "spike and slab": lambda: SpikeAndSlab(3, learned=True),
    "student": lambda: StudentT(3, torch.tensor([1.0, 3.0, 30.0]), learned=True),
    "student together": lambda: StudentT(3, 2.0, shared=True, learned=True),
    "autoregressive": lambda: at_random(Autoregressive(3, (8,), components=3)),
    "autoregressive of one": lambda: at_random(Autoregressive(1, (8,))),
    "category": lambda: at_random(CategoricalPrior(3)),
    "bits": lambda: at_random(BernoulliPrior(3)),
    "bits after bits": lambda: at_random(NADEPrior(3, 4)),
    "soft category": lambda: at_random(RelaxedCategorical(3, 0.5)),
    "soft category near the corners": lambda: at_random(RelaxedCategorical(3, 0.05)),
    "learned hyperprior": lambda: LearnedHyper(
        {"scale": dist.Gamma(2.0, 2.0)}, lambda scale: dist.Laplace(torch.zeros(3), scale).to_event(1)
    ),
    "vamp": lambda: VampPrior(ConditionalNormal(MLP(5, (8,)), 3), 7),
    "vamp of a flow": lambda: VampPrior(ConditionalFlow(MLP(5, (8,)), 3, hidden=(8,)), 4),
    "flow": lambda: FlowPrior(3, hidden=(8,)),
    "flow of one": lambda: FlowPrior(1, hidden=(8,)),
}
FOREIGN = {
    "torch normal": lambda: td.Independent(td.Normal(torch.zeros(3), torch.ones(3)), 1),
    "pyro laplace": lambda: dist.Laplace(torch.zeros(3), 1.0).to_event(1),
    "multivariate normal": lambda: td.MultivariateNormal(torch.zeros(3), torch.eye(3) + 0.5),
    "student": lambda: dist.StudentT(3.0, torch.zeros(3), 2.0).to_event(1),
    "mixture": lambda: td.MixtureSameFamily(td.Categorical(logits=torch.randn(4)), three_normals()),
    "pyro mixture": lambda: dist.MixtureSameFamily(dist.Categorical(logits=torch.randn(4)), three_normals()),
    "log normal": lambda: td.Independent(td.LogNormal(torch.zeros(3), 0.5), 1),
    "transformed": lambda: td.TransformedDistribution(
        td.Independent(td.Normal(torch.zeros(3), 1.0), 1),
        [td.AffineTransform(torch.ones(3), torch.full((3,), 2.0), event_dim=1)],
    ),
    "beta": lambda: dist.Beta(torch.full((3,), 2.0), 3.0).to_event(1),
    "uniform": lambda: td.Independent(td.Uniform(-torch.ones(3), torch.ones(3)), 1),
    "dirichlet": lambda: td.Dirichlet(torch.tensor([0.7, 2.0, 5.0])),
    "bits": lambda: dist.Bernoulli(torch.full((3,), 0.3)).to_event(1),
    "function": lambda: lambda: td.Independent(td.Normal(torch.zeros(3), 1.0), 1),
    "module of torch": MixtureModule,
    "zuko flow": lambda: load_zuko().flows.NSF(3, hidden_features=(8,)),
    "wrapped zuko flow": WrappedFlow,
}
ALL = {**OURS, **{f"foreign {name}": make for name, make in FOREIGN.items()}}


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_sound_priors(make):
    prior = make()
    state = torch.get_rng_state()
    validate = td.Distribution._validate_args
    report = check_prior(prior, num_samples=2000)  # false alarm 1e-4 for each
    assert report.ok, str(report)
    assert len(report.passed) == 6
    assert str(report).splitlines()[0].endswith(": sound")
    assert torch.equal(torch.get_rng_state(), state)
    assert td.Distribution._validate_args is validate
    assert report == check_prior(prior, num_samples=2000)  # the same seed, the same report


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_state_moves_and_plates(make):
    prior = as_prior(make())
    with pyro.plate("particles", 4, dim=-2), pyro.plate("data", 6, dim=-1):
        z = pyro.sample("z", p := prior())
    assert z.shape == (4, 6, *p.event_shape)
    log_p = p.log_prob(z)
    torch.testing.assert_close(copy.deepcopy(prior)().log_prob(z), log_p, rtol=0, atol=1e-12)
    copied = copy.deepcopy(prior)
    with torch.no_grad():
        for tensor in copied.state_dict().values():
            tensor.mul_(0.9) if tensor.is_floating_point() else None
    copied.load_state_dict(prior.state_dict())
    torch.testing.assert_close(copied().log_prob(z), log_p, rtol=0, atol=1e-12)
    assert prior.float()()().dtype == torch.float32
    assert not dict(pyro.get_param_store())


@pytest.mark.parametrize("name", [name for name in FOREIGN if name not in ("function", "bits")])
def test_adapted_density_is_the_original(name):
    foreign = FOREIGN[name]()
    p = as_prior(foreign)()
    original = foreign if isinstance(foreign, td.Distribution) else foreign()
    z = p((5,))
    torch.testing.assert_close(p.log_prob(z), original.log_prob(z), rtol=0, atol=1e-12)
    biject_to(p.support)  # HMC asks for it


def test_normal_is_scipys():
    loc, scale, z = torch.randn(3), torch.rand(3) + 0.5, torch.randn(5, 3)
    for prior in (Normal(loc, scale), Normal(loc, scale, learned=True)):
        np.testing.assert_allclose(prior().log_prob(z).detach(), stats.norm.logpdf(z, loc, scale).sum(-1), rtol=1e-12)
    assert [p.shape for p in Normal(loc, 2.0, learned=True).parameters()] == [(3,), (3,)]
    assert not list(Normal(loc, scale).parameters())
    assert Normal(loc, scale).loc.data_ptr() != loc.data_ptr()


@pytest.mark.parametrize(
    "make", [lambda: StandardNormal(3), lambda: FOREIGN["torch normal"](), lambda: Normal(torch.zeros(3), 1.0)]
)
def test_closed_form_divergence_is_found(make):
    q = ConditionalNormal(MLP(5), 3)(torch.randn(4, 5))
    loc, scale = q.base_dist.loc, q.base_dist.scale
    expected = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
    torch.testing.assert_close(kl_divergence(q, as_prior(make())().expand((4,))), expected)


class TestVampPrior:
    def test_is_the_average_of_the_encoder(self):
        q = ConditionalNormal(MLP(5, (8,)), 3)
        prior, z = VampPrior(q, 7), torch.randn(6, 3)
        expected = q(prior.inputs).log_prob(z[:, None]).logsumexp(-1) - math.log(7)
        torch.testing.assert_close(prior().log_prob(z), expected)

    def test_the_encoder_has_one_owner_and_still_learns_and_moves(self):
        q = ConditionalNormal(MLP(5, (8,)), 3)
        prior = VampPrior(q, 7)
        assert list(prior.state_dict()) == ["unconstrained"]
        assert [name for name, _ in prior.named_parameters()] == ["unconstrained"]
        prior().log_prob(torch.randn(6, 3)).sum().backward()
        assert all(p.grad is not None for p in q.parameters())
        prior.float()
        assert {p.dtype for p in q.parameters()} == {torch.float32}
        assert prior()().dtype == torch.float32

    def test_a_pair_copied_together_still_shares(self):
        q = ConditionalNormal(MLP(5, (8,)), 3)
        prior, encoder = copy.deepcopy((VampPrior(q, 7), q))
        with torch.no_grad():
            encoder.loc.bias += 100.0
        assert prior().mean.min() > 90.0

    def test_starts_at_data_inside_the_support(self):
        data = torch.bernoulli(torch.full((6, 5), 0.5))
        prior = VampPrior(ConditionalNormal(MLP(5), 3), inputs=data, support=constraints.unit_interval)
        torch.testing.assert_close(prior.inputs.detach(), data.clamp(0.01, 0.99))
        real = VampPrior(ConditionalNormal(MLP(5), 3), inputs=data)
        assert torch.equal(real.inputs, data)


def test_flow_prior_integrates_to_one():
    axis = torch.linspace(-8, 8, 201)
    with torch.no_grad():
        density = FlowPrior(2, hidden=(8,))().log_prob(torch.cartesian_prod(axis, axis)).exp()
    assert abs(float(density.sum()) * 0.08**2 - 1) < 1e-3


def test_a_function_follows_its_model():
    prior = as_prior(lambda: dist.Normal(torch.zeros(3, dtype=torch.float32), 1.0).to_event(1))
    assert prior()().dtype == torch.float32
    assert prior.double()()().dtype == torch.float64
    assert not prior.state_dict()


def test_a_function_is_called_each_time():
    width = [1.0]
    prior = as_prior(lambda: dist.Normal(torch.zeros(3), width[0]).to_event(1))
    width[0] = 2.0
    assert prior().variance.tolist() == [4.0] * 3


def test_a_density_of_your_own_needs_no_more_than_three_methods():
    class Logistic(td.Distribution):
        arg_constraints: ClassVar[dict] = {}
        support = constraints.real_vector

        def __init__(self, loc):
            self.loc = loc
            super().__init__(event_shape=loc.shape)

        def sample(self, sample_shape=()):
            return self.loc + torch.rand((*sample_shape, *self.loc.shape)).logit()

        def log_prob(self, z):
            return (nn.functional.logsigmoid(z - self.loc) + nn.functional.logsigmoid(self.loc - z)).sum(-1)

    report = check_prior(Logistic(torch.zeros(3)))
    assert report.ok, str(report)


class Broken(td.Distribution):
    """A normal whose parts can be spoilt."""

    arg_constraints: ClassVar[dict] = {}
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, dim=3, *, width=1.0, shift=0.0, constant=0.0, draws=None, density=None, support=None):
        super().__init__(event_shape=torch.Size([dim]))
        self.dim, self.width, self.shift, self.constant = dim, width, shift, constant
        self.draws, self.density = draws, density
        if support is not None:
            self.support = support

    def sample(self, sample_shape=()):
        z = torch.randn(*sample_shape, self.dim)
        return self.shift + self.width * (z if self.draws is None else self.draws(z))

    def log_prob(self, z):
        log_p = td.Normal(0.0, 1.0).log_prob(z).sum(-1)
        return (log_p if self.density is None else self.density(log_p, z)) + self.constant

    def expand(self, batch_shape, _instance=None):
        return dist.torch_distribution.ExpandedDistribution(self, batch_shape)


class Half(nn.Module):
    """A scale that stays behind, and a parameter that nobody uses."""

    def __init__(self):
        super().__init__()
        self.loc, self.unused = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))
        self.scale = torch.ones(3, dtype=torch.float32)

    def forward(self):
        return dist.Normal(self.loc, self.scale).to_event(1)


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(3))

    def forward(self):
        return dist.Normal(self.loc.detach(), 1.0).to_event(1)


def correlated(z):
    return torch.cat([z[..., :1], 0.3 * z[..., :1] + 0.91**0.5 * z[..., 1:2], z[..., 2:]], -1)


BROKEN = {
    "no event": (lambda: td.Normal(torch.zeros(5), 1.0), r"got batch_shape \(5,\) and event_shape \(\): make its"),
    "a batch": (lambda: dist.Normal(torch.zeros(2, 5), 1.0).to_event(1), r"\(2,\) and event_shape \(5,\): the model"),
    "a scalar": (lambda: td.Normal(0.0, 1.0), r"a latent of one entry has event_shape \(1,\)"),
    "a matrix": (lambda: dist.Normal(torch.zeros(2, 5), 1.0).to_event(2), r"event_shape \(2, 5\)"),
    "no prior": (lambda: 3, "`prior` must be a module, a distribution or a function.*got int"),
    "draws too wide": (lambda: Broken(width=1.3), "as if the draws were 1.3. times as wide as the density"),
    "draws a little narrow": (lambda: Broken(width=0.9), "as if the draws were 0.[89]. times"),
    "draws shifted": (lambda: Broken(shift=0.2), "draws and log_prob disagree"),
    "draws correlated": (lambda: Broken(draws=correlated), "draws and log_prob disagree"),
    "draws of another family": (
        lambda: Broken(draws=lambda z: td.Normal(0.0, 1.0).cdf(z) * 12**0.5 - 3**0.5),
        "disagree",
    ),
    "in fifty dimensions": (lambda: Broken(50, width=1.3), "as if the draws were 1.[23]. times"),
    "constant forgotten": (lambda: Broken(constant=0.1), r"log_prob integrates to about 1\.1"),
    "constant forgotten in fifty": (lambda: Broken(50, constant=-0.3), r"log_prob integrates to about 0\.7"),
    "log_prob NaN": (lambda: Broken(constant=math.nan), "log_prob is NaN at 4096 of 4096 draws"),
    "log_prob infinite": (
        lambda: Broken(density=lambda p, z: p.where(z[..., 0] > 0, -math.inf)),
        "log_prob is -inf at",
    ),
    "draws NaN": (lambda: Broken(draws=lambda z: z.where(z < 1, math.nan)), "of 4096 draws are not finite"),
    "draws of wrong shape": (
        lambda: Broken(draws=lambda z: z[..., :2]),
        r"draws have shape \(2, 2\), expected \(2, 3\)",
    ),
    "log_prob of wrong shape": (
        lambda: Broken(density=lambda p, z: td.Normal(0.0, 1.0).log_prob(z)),
        r"log_prob has shape \(2, 3\), expected \(2,\)",
    ),
    "outside the support": (
        lambda: Broken(support=constraints.independent(constraints.positive, 1)),
        "outside `support`",
    ),
    "support too wide": (  # torch takes the codomain of the last transform, which is the real line
        lambda: td.TransformedDistribution(
            td.Independent(td.Normal(torch.zeros(3), 1.0), 1), [biject_to(constraints.greater_than(1.0))]
        ),
        r"log_prob is NaN at \d+ of 4096 points inside `support`",
    ),
    "scale left behind": (Half, r"`base_dist.scale` stays torch.float32 under `.double\(\)`"),
    "parameter unused": (Half, "the parameter `unused` gets no gradient from log_prob"),
    "gradient cut": (Detached, "no parameter gets a gradient from log_prob, of 1: loc"),
    "bits": (
        lambda: Broken(
            draws=lambda z: (z > 0.2).to(z), density=lambda p, z: p * 0 - 3 * math.log(2), support=constraints.boolean
        ),
        r"\[[01.0, ]+\] came \d+ times in 4096, expected 512.0",
    ),
    "probabilities above 1": (
        lambda: Broken(draws=lambda z: (z > 0).to(z), density=lambda p, z: p * 0 - 2.0, support=constraints.boolean),
        r"the probabilities of 8 values sum to 1\.083, above 1",
    ),
    "raises": (lambda: Broken(density=lambda p, z: p / z.missing), "raised AttributeError"),
}


@pytest.mark.parametrize(("make", "text"), BROKEN.values(), ids=BROKEN)
def test_broken_priors(make, text):
    report = check_prior(make())
    assert not report.ok
    assert re.search(text, "\n".join(report.problems)), str(report)
    assert "problem" in str(report)


def test_accusations_are_as_rare_as_said(monkeypatch):
    """At a rate of 0.2, at most 0.2 of sound distributions are accused; 4 standard errors over 100 seeds."""
    monkeypatch.setattr(agreement, "FALSE_ALARM", 0.2)
    p = dist.Laplace(torch.zeros(3), 1.0).to_event(1)
    accused = 0
    for seed in range(100):
        torch.manual_seed(seed)
        accused += bool(disagreements(p, 1000))
    assert accused / 100 <= 0.2 + 4 * math.sqrt(0.2 * 0.8 / 100)


def test_what_cannot_be_tested_is_noted():
    far = GaussianMixture(50, 10, spread=0.99)
    assert any("hardly tested: far from normal, 50 dimensions" in note for note in check_prior(far).notes)
    many = dist.Bernoulli(torch.full((60,), 0.5)).to_event(1)
    assert "whether the probabilities of 2**60 values sum to 1 was not tested" in check_prior(many).notes
    counts = dist.Poisson(torch.full((60,), 5.0)).to_event(1)
    assert any("no value is common enough" in note for note in check_prior(counts).notes)


def test_num_samples_has_a_floor():
    with pytest.raises(ValueError, match="`num_samples` must be an integer, at least 100, got 10"):
        check_prior(StandardNormal(2), num_samples=10)


learned_loc = nn.Parameter(torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: as_prior(td.Independent(td.Normal(learned_loc, 1.0), 1)),
            ValueError,
            r"to learn \(base_dist.loc\).*built once",
        ),
        (lambda: as_prior(load_zuko().flows.MAF(3)()), ValueError, r"to learn \(inside\).*`flow` and not `flow\(\)`"),
        (
            lambda: as_prior(lambda: dist.Normal(learned_loc, 1.0).to_event(1)),
            ValueError,
            "a function, and nobody finds",
        ),
        (lambda: as_prior(lambda: 3), TypeError, "`prior` must return a distribution when called, got int"),
        (lambda: as_prior("standard normal"), TypeError, r"such as StandardNormal\(50\), got str"),
        (
            lambda: Normal(torch.zeros(2, 2), 1.0),
            ValueError,
            r"`loc` must be a vector of shape \(z_dim,\), got shape \(2, 2\)",
        ),
        (lambda: Normal(torch.zeros(2), -1.0), ValueError, "`scale` must be one positive number or 2 of them"),
        (lambda: Normal(torch.zeros(2), torch.ones(3)), ValueError, "`scale` must be one positive number or 2 of them"),
        (lambda: StandardNormal(0), ValueError, "`z_dim` must be an integer, at least 1, got 0"),
        (lambda: GaussianMixture(2, 0), ValueError, "`components` must be an integer, at least 1, got 0"),
        (lambda: GaussianMixture(2, 3, spread=1.0), ValueError, r"`spread` is a share of the variance, in \[0, 1\)"),
        (lambda: VampPrior(lambda x: x, 3), TypeError, r"`encoder` must be a conditional q\(z | x\), got function"),
        (lambda: VampPrior(ConditionalNormal(MLP(5), 3)), ValueError, "give either `components`"),
        (
            lambda: VampPrior(ConditionalNormal(MLP(5), 3), inputs=torch.zeros(7, 4)),
            ValueError,
            r"`inputs` must have shape \(components, 5\), got \(7, 4\)",
        ),
        (lambda: VampPrior(nn.Identity(), inputs=torch.zeros(5)), ValueError, r"\(components, x_dim\), got \(5,\)"),
        (lambda: VampPrior(nn.Identity(), 3), ValueError, "Identity does not say its `in_features`: give `inputs`"),
        (lambda: FlowPrior(50, hidden=(64, 48)), ValueError, "`hidden` must be layers of at least 49 units"),
        (lambda: FlowPrior(2, bins=1), ValueError, "`bins` must be an integer, at least 2, got 1"),
        (lambda: disagreements(3, 100), TypeError, "expected a distribution, got int"),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()
