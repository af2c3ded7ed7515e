"""A class and a style: against sums by hand and Pyro's own enumeration, with labels known, unknown and mixed."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import nn

from guides import AmortizedNormal, ClusterGuide, ConditionalKumaraswamy, MarginalClusters
from inference.annealing import ais
from inference.bounds import ELBO, IWAE
from inference.draws import log_weights
from inference.fit import DivergedError, fit
from inference.objectives import Variational
from inference.schedule import Annealing
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.m2 import M2
from ppmodels.nets import MLP, joined
from ppmodels.priors import GaussianMixture, StandardNormal, StickBreaking
from ppmodels.sticks import stick_weights

pytestmark = pytest.mark.usefixtures("double")

X, Z, C, N = 6, 2, 3, 5


class Point(nn.Module):
    """A conditional without noise, of log density 0.3 at its one value: bounds become exact numbers."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.net = nn.Linear(in_features, out_features)

    def forward(self, h: torch.Tensor) -> dist.TorchDistribution:
        return dist.Delta(self.net(h), log_density=0.3, event_dim=1)


def make(conditional=None, **options) -> tuple[M2, ClusterGuide]:
    model = M2(StandardNormal(Z), ConditionalBernoulli(MLP(Z + C, (8,)), X, logits=torch.randn(X)), C, **options)
    return model, ClusterGuide(MLP(X, (8,)), conditional or ConditionalNormal(MLP(X + C, (8,)), Z), C)


def data(n: int = N) -> torch.Tensor:
    return torch.bernoulli(torch.full((n, X), 0.5))


def elbo(model, guide, batch, K: int = 1) -> torch.Tensor:
    torch.manual_seed(3)
    return ELBO()(log_weights(model, guide, batch, K, vectorize=K > 1))


def by_hand(model: M2, guide: ClusterGuide, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """With a guide of points: log q(y | x) and log p(x, y, z_y) - log q(z_y | x, y), both `(n, C)`."""
    log_w = []
    for c in range(C):
        hot = torch.eye(C)[c].expand(len(x), C)
        z = guide.conditional.net(torch.cat([x, hot], -1))
        log_p = dist.Normal(0.0, 1.0).log_prob(z).sum(-1) + model.log_weights.log_softmax(-1)[c]
        log_w.append(log_p + model.likelihood(torch.cat([z, hot], -1)).log_prob(x) - 0.3)
    return guide.classifier(x).log_softmax(-1), torch.stack(log_w, -1)


@pytest.mark.parametrize("log_weights_", [None, torch.tensor([0.5, 0.2, 0.3]).log()], ids=["equal", "given"])
def test_the_bound_is_the_sum_by_hand(log_weights_: torch.Tensor | None) -> None:
    (model, guide), x = make(Point(X + C, Z), log_weights=log_weights_), data()
    log_q, log_w = by_hand(model, guide, x)
    weights = log_weights(model, guide, x, 1, vectorize=False)
    torch.testing.assert_close(ELBO()(weights), (log_q.exp() * (log_w - log_q)).sum(-1), rtol=0, atol=1e-12)
    torch.testing.assert_close(weights.log_w[0], log_w.logsumexp(-1), rtol=0, atol=1e-12)  # q(y | x) cancels


def test_the_bound_is_pyros_by_enumeration_on_both_sides() -> None:
    (model, guide), x = make(), data()
    pyros = TraceEnum_ELBO(max_plate_nesting=1)
    for batch in (x, *x.split(1)):  # one by one: the values per datum are right, not only their sum
        torch.manual_seed(3)
        expected = -pyros.loss(model, guide, batch)
        assert float(elbo(model, guide, batch).detach().sum()) == pytest.approx(expected, abs=1e-10)


def test_its_gradient_is_pyros() -> None:
    (model, guide), x = make(), data()
    names, parameters = zip(*nn.ModuleList([model, guide]).named_parameters(), strict=True)
    torch.manual_seed(3)
    loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, x)
    expected = torch.autograd.grad(-loss, parameters)
    found = torch.autograd.grad(elbo(model, guide, x).sum(), parameters)
    for name, mine, pyros in zip(names, found, expected, strict=True):
        torch.testing.assert_close(mine, pyros, rtol=1e-9, atol=1e-9, msg=name)
        assert mine.abs().max() > 0, name


def test_a_label_makes_it_a_bound_of_x_and_y() -> None:
    (model, guide), x = make(Point(X + C, Z)), data()
    y = torch.tensor([0, 1, 2, 2, 1])
    _, log_w = by_hand(model, guide, x)
    expected = log_w.gather(-1, y[:, None]).squeeze(-1)
    weights = log_weights(model, guide, (x, y), 1, vectorize=False)
    torch.testing.assert_close(ELBO()(weights), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(weights.log_w[0], expected, rtol=0, atol=1e-12)
    assert all(value.isfinite().all() for value in weights.tensors())


def test_importance_sampling_of_a_labelled_datum_finds_its_marginal() -> None:
    """log p(x, y) by quadrature over z in two dimensions; within 4 s.e., false alarm 5 x 6e-5."""
    (model, guide), x = make(), data()
    y = torch.tensor([0, 1, 2, -1, -1])
    line = torch.linspace(-8, 8, 321)
    z = torch.cartesian_prod(line, line)[:, None]  # (grid, 1, z_dim)
    hot = torch.eye(C)[:, None, None].expand(C, len(z), 1, C)
    with torch.no_grad():
        log_p = model.likelihood(torch.cat([z.expand(C, -1, -1, -1), hot], -1)).log_prob(x)  # (C, grid, n)
        log_p = log_p + dist.Normal(0.0, 1.0).log_prob(z).sum(-1) + 2 * (line[1] - line[0]).log() - math.log(C)
        log_p_xy = log_p.logsumexp(1)  # (C, n)
        weights = log_weights(model, guide, (x, y), 4000)
    expected = torch.where(y < 0, log_p_xy.logsumexp(0), log_p_xy.gather(0, y.clamp(min=0)[None])[0])
    w = (weights.log_w - expected).exp()
    assert ((w.mean(0) - 1).abs() < 4 * w.std(0) / 4000**0.5).all()


def test_a_partly_labelled_batch_is_its_parts() -> None:
    (model, guide), x = make(Point(X + C, Z)), data()
    y = torch.tensor([2, -1, 0, -1, -1])
    known = y >= 0
    found = elbo(model, guide, (x, y))
    torch.testing.assert_close(found[known], elbo(model, guide, (x[known], y[known])), rtol=0, atol=1e-12)
    torch.testing.assert_close(found[~known], elbo(model, guide, x[~known]), rtol=0, atol=1e-12)


def test_the_classifiers_term() -> None:
    (_, guide), x = make(), data()
    y = torch.tensor([2, -1, 0, -1, 1])
    log_q = guide.classifier(x).log_softmax(-1)
    expected = torch.stack([log_q[0, 2], torch.tensor(0.0), log_q[2, 0], torch.tensor(0.0), log_q[4, 1]])
    torch.testing.assert_close(guide.log_prob(x, y), expected, rtol=0, atol=0)
    torch.testing.assert_close(guide.responsibilities(x), log_q.exp())
    known = guide.responsibilities(x, y)[y >= 0]
    assert torch.equal(known, torch.eye(C)[y[y >= 0]])


def test_labels_train_everything_but_the_classifier() -> None:
    (model, guide), x = make(), data()
    elbo(model, guide, (x, torch.tensor([0, 1, 2, 0, 1])), K=3).sum().backward()
    for name, parameter in guide.named_parameters():
        zero = parameter.grad is None or not parameter.grad.any()
        assert zero == name.startswith("classifier"), name
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    (_, guide), y = make(), torch.tensor([0, -1, -1, -1, -1])
    elbo(model, guide, (x, y), K=3).sum().backward()  # one unlabelled datum is enough
    assert all(p.grad.isfinite().all() and p.grad.any() for p in guide.parameters())


def test_a_guide_without_the_class_has_it_summed_out_in_the_model() -> None:
    model, _ = make()
    guide, x = AmortizedNormal(ConditionalNormal(MLP(X, (8,)), Z)), data()
    torch.manual_seed(3)
    z = guide(x)
    log_p = []
    for c in range(C):
        with poutine.condition(data={"y": torch.full((N,), c), "z": z}):
            trace = poutine.trace(model).get_trace(x)
        trace.compute_log_prob()
        log_p.append(sum(trace.nodes[site]["log_prob"] for site in ("y", "z", "x")))
    log_q = guide.layers[0](x).log_prob(z)
    expected = torch.stack(log_p).logsumexp(0) - log_q
    torch.testing.assert_close(elbo(model, guide, x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stratify", [False, True])
def test_the_marginal_guide_estimates_the_same_likelihood(stratify: bool) -> None:
    """Two estimates of log p(x), within 4 s.e. of their difference; false alarm 5 x 6e-5."""
    (model, guide), x = make(), data()
    with torch.no_grad():
        pairs = [log_weights(model, q, x, 4000).log_w for q in (guide, MarginalClusters(guide, stratify=stratify))]
    means, errors = zip(
        *((w.mean(0), w.std(0) / 4000**0.5) for w in ((lw - pairs[0].mean()).exp() for lw in pairs)), strict=True
    )
    assert ((means[0] - means[1]).abs() < 4 * (errors[0] ** 2 + errors[1] ** 2).sqrt()).all()


def test_the_marginal_bound_is_the_higher_one() -> None:
    """Jensen, over the class that a draw came from; one-sided at 4 s.e., false alarm 5 x 3e-5."""
    (model, guide), x = make(), data()
    with torch.no_grad():
        joint, marginal = (
            log_weights(model, q, x, 4000).elbo_terms for q in (guide, MarginalClusters(guide, stratify=True))
        )
    error = ((joint.var(0) + marginal.var(0)) / 4000).sqrt()
    assert (marginal.mean(0) - joint.mean(0) > -4 * error).all()
    assert (marginal.mean() - joint.mean()) > 0.01


def test_the_stratified_marginal_trains_the_classifier() -> None:
    (model, guide), x = make(), data()
    elbo(model, MarginalClusters(guide, stratify=True), x).sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in guide.parameters())


def test_sticks_in_the_place_of_the_normal() -> None:
    """The likelihood sees the K weights of K - 1 breaks; by hand at the guide's draws, for every class."""
    K = 4
    likelihood = ConditionalBernoulli(MLP(K + C, (8,)), X)
    model = M2(StickBreaking(K, 2.0), likelihood, C, site="logit_v", link=stick_weights)
    guide = ClusterGuide(MLP(X, (8,)), ConditionalKumaraswamy(MLP(X + C, (8,)), K - 1), C, site="logit_v")
    x, every = data(), torch.eye(C)[:, None, None]
    torch.manual_seed(3)
    q = guide.conditional(joined(x, every))
    s = q.rsample()  # (C, 1, n, K - 1)
    v = s.sigmoid()
    pi = torch.stack(
        [v[..., 0], v[..., 1] * (1 - v[..., 0]), v[..., 2] * (1 - v[..., :2]).prod(-1), (1 - v).prod(-1)], -1
    )
    log_p = dist.Beta(1.0, 2.0).log_prob(v).sum(-1) + (v * (1 - v)).log().sum(-1)  # of logits: times dv/ds
    log_w = (log_p + likelihood(joined(pi, every)).log_prob(x) - q.log_prob(s)).squeeze(1).T - math.log(C)
    log_q = guide.classifier(x).log_softmax(-1)
    expected = (log_q.exp() * (log_w - log_q)).sum(-1)
    torch.testing.assert_close(elbo(model, guide, x), expected, rtol=0, atol=1e-9)
    assert set(log_weights(model, guide, (x, torch.tensor([0, -1, 2, 1, -1])), 4).kl) == {"y", "logit_v"}
    with pytest.raises(ValueError, match=r"`likelihood` takes vectors of length 6, but `prior and classes` makes .* 7"):
        M2(StickBreaking(K), ConditionalBernoulli(MLP(3 + C, (8,)), X), C, link=stick_weights)


def test_features_are_shared_and_run_once_per_datum() -> None:
    features, calls = MLP(X, (7,)), []
    features.register_forward_hook(lambda module, args, out: calls.append(tuple(args[0].shape)))
    guide = ClusterGuide(MLP(7, ()), ConditionalNormal(MLP(7 + C, (8,)), Z), C, features=features)
    model, _ = make()
    elbo(model, guide, data()).sum().backward()
    assert calls == [(N, X)] * len(calls)
    assert all(p.grad.any() for p in guide.parameters())


def test_it_draws_data_of_a_class() -> None:
    model, _ = make()
    assert model(n=4).shape == (4, X)
    with torch.no_grad():
        model.likelihood.logits.weight.zero_()
        model.likelihood.logits.bias.fill_(-30.0)
        model.likelihood.trunk[0].weight.zero_()
        model.likelihood.trunk[0].weight[:, Z + 1] = 5.0  # only class 1 is seen
        model.likelihood.logits.weight.fill_(10.0)
    for c in range(C):
        x = poutine.condition(model, {"y": torch.full((20,), c)})(n=20)
        assert x.mean() == (c == 1)


@pytest.mark.parametrize("prior", [lambda: StandardNormal(Z), lambda: GaussianMixture(Z, 4)], ids=["normal", "mixture"])
def test_training_from_graphs_has_the_bits_of_training_eagerly(prior) -> None:
    x, y = data(20), torch.randint(-1, C, (20,))
    torch.manual_seed(1)
    model = M2(prior(), ConditionalBernoulli(MLP(Z + C, (8,)), X), C)
    pair = nn.ModuleList([model, make()[1]])
    before = copy.deepcopy(pair.state_dict())
    states = []
    for mode in ("eager", "replay"):
        pair.load_state_dict(before)
        fitted = fit(*pair, (x, y), Variational(), steps=6, batch_size=10, mode=mode)
        assert fitted.modes == {"bound": {"10": mode}}
        states.append(copy.deepcopy(pair.state_dict()))
    assert all(torch.equal(states[0][k], states[1][k]) for k in before)
    names = [name for name, parameter in pair.named_parameters() if parameter.requires_grad]
    assert [name for name in names if torch.equal(states[0][name], before[name])] == []


def test_copies_move_and_save() -> None:
    pair = nn.ModuleList(make())
    other = nn.ModuleList(make())
    other.load_state_dict(pair.state_dict())
    x = data()
    assert torch.equal(elbo(*pair, x), elbo(*other, x))
    assert torch.equal(elbo(*pair, x), elbo(*copy.deepcopy(pair), x))
    single = pair.float()
    assert elbo(*single, x.float()).dtype == torch.float32
    with pyro.validation_enabled(False):
        model, guide = pair.to("meta")
        assert guide(x.float().to("meta"), torch.zeros(N, dtype=torch.int64, device="meta")).device.type == "meta"
        assert model(n=2).device.type == "meta"


def test_annealing_goes_from_the_marginal_guide() -> None:
    """AIS from there and importance sampling agree on log p(x) within 5 s.e. of the former, false alarm 3 x 6e-7."""
    (model, guide), x = make(), data(3)
    marginal = MarginalClusters(guide)
    annealed = ais(model, marginal, x, Annealing(num_temperatures=20, num_chains=64), mode="eager")
    with torch.no_grad():
        log_p = IWAE()(log_weights(model, marginal, x, 20_000))
    assert ((annealed.value - log_p).abs() < 5 * annealed.standard_error).all()
    assert (annealed.standard_error < 0.1).all()
    with pytest.raises(ValueError, match="site `y` takes every value in the guide"):
        ais(model, guide, x, Annealing(num_temperatures=2, num_chains=2))


@pytest.mark.parametrize(
    ("make_it", "error", "text"),
    [
        (lambda: M2(StandardNormal(Z), nn.Identity(), 1), ValueError, "`classes` must be .* at least 2, got 1"),
        (
            lambda: M2(StandardNormal(Z), ConditionalBernoulli(MLP(Z), X), C),
            ValueError,
            "`likelihood` takes vectors of length 2, but `prior and classes` makes vectors of length 5: give its trunk",
        ),
        (lambda: M2(StandardNormal(Z), "bernoulli", C), TypeError, "`likelihood` must be a conditional.*got str"),
        (lambda: M2("normal", nn.Identity(), C), TypeError, "`prior` must be a module, a distribution or a function"),
        (
            lambda: make(log_weights=torch.zeros(4)),
            ValueError,
            r"`log_weights` must have shape \(3,\), one per class, got \(4,\)",
        ),
        (
            lambda: make()[0](data(), torch.zeros(4, dtype=torch.int64)),
            ValueError,
            r"`y` must be int64 of shape \(5,\), a label per datum, got torch.int64 of \(4,\)",
        ),
        (lambda: make()[0](data(), torch.zeros(N)), ValueError, r"`y` must be int64 .* got torch.float64 of \(5,\)"),
        (
            lambda: make()[0](data(), torch.tensor([0, 3, 1, 1, 1])),
            ValueError,
            "`y` must hold classes from 0 to 2, or -1 where a label is unknown, got 3",
        ),
        (lambda: make()[1](data(), torch.tensor([0, -2, 1, 1, 1])), ValueError, "or -1 where a label is .* got -2"),
        (lambda: make()[1].log_prob(data(), torch.tensor([0, 9, 1, 1, 1])), ValueError, "from 0 to 2.*got 9"),
        (lambda: make()[0](torch.zeros(N, X, 1)), ValueError, r"`x` must have shape \(n, 6\), one row per datum"),
        (lambda: make()[0](torch.zeros(N, X + 1)), ValueError, r"`x` must have shape \(n, 6\).*got \(5, 7\)"),
        (lambda: make()[1](torch.zeros(X)), ValueError, r"`x` must have shape \(n, x_dim\).*got \(6,\)"),
        (
            lambda: ClusterGuide(MLP(X), ConditionalNormal(MLP(X), Z), C),
            ValueError,
            "`conditional` takes vectors of length 6, but `x and classes` makes vectors of length 9: give its trunk",
        ),
        (
            lambda: ClusterGuide(MLP(X), ConditionalNormal(MLP(X + C), Z), C, features=MLP(X, (4,))),
            ValueError,
            "`trunk` takes vectors of length 6, but `features` makes vectors of length 4",
        ),
        (lambda: ClusterGuide(MLP(X), nn.Linear, C), TypeError, "`conditional` must be a conditional"),
        (lambda: ClusterGuide(nn.ReLU(), nn.Identity(), C), TypeError, "`trunk` must be a module that says its `out_f"),
        (lambda: ClusterGuide(MLP(X), nn.Identity(), 1), ValueError, "`classes` must be an integer, at least 2, got 1"),
    ],
)
def test_errors(make_it, error, text) -> None:
    with pytest.raises(error, match=text):
        make_it()


def test_a_label_out_of_range_is_never_taken_for_another() -> None:
    """Where values are not read, in a captured step, the number is NaN and training stops."""
    (model, guide), x = make(), data()
    with pyro.validation_enabled(False):
        log_mass = guide.responsibilities(x, torch.tensor([0, 3, -2, -1, 1]))
    assert log_mass.isnan().all(-1).tolist() == [False, True, True, False, False]
    with pytest.raises(ValueError, match="`y` must hold classes from 0 to 2"):
        fit(model, guide, (x, torch.tensor([0, 3, 1, -1, 1])), steps=1)


def test_the_label_of_a_later_batch_stops_training_too() -> None:
    (model, guide), x = make(), data(40)
    y = torch.zeros(40, dtype=torch.int64)
    y[20:] = 7  # the batch that is inspected, the first two data, has none of them
    with pytest.raises(DivergedError, match="does not run on this batch: `y` must hold classes from 0 to 2, or -1"):
        fit(model, guide, (x, y), steps=20, batch_size=2, seed=3)
