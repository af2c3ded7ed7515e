"""NADE against a slow loop, sums over all states, and finite differences.

Sums and slopes are exact up to rounding; only the frequencies of draws are random, and their tests say how often they
fail for a sound law. Seeds are fixed.
"""

import copy
from itertools import product

import pyro
import pytest
import torch
from scipy import stats
from torch.distributions import Bernoulli, constraints
from torch.fx.experimental.proxy_tensor import make_fx

from ppmodels.bits import ConditionalNADE
from ppmodels.conditionals import Conditional
from ppmodels.distributions import validation
from ppmodels.nade import NADELaw
from ppmodels.nets import MLP
from ppmodels.priors import BernoulliPrior, NADEPrior, check_prior
from ppmodels.priors.agreement import disagreements

pytestmark = pytest.mark.usefixtures("double")

MODULES = {
    "conditional": lambda: ConditionalNADE(MLP(3, (8,)), 5),
    "narrow conditional": lambda: ConditionalNADE(MLP(3, (8,)), 5, 1, logits=torch.randn(5)),
    "conditional of one": lambda: ConditionalNADE(MLP(3, ()), 1, 4),
    "prior": lambda: NADEPrior(5, 7),
    "prior of one": lambda: NADEPrior(1),
    "independent prior": lambda: BernoulliPrior(5, logits=torch.randn(5)),
    "fixed prior": lambda: BernoulliPrior(5, learned=False),
}


def states(d):
    return torch.tensor(list(product([0.0, 1.0], repeat=d)))  # (2^d, d)


def law(d=5, H=7, batch=(), size=3.0):
    """With weights so large that bits all but decide those after them."""
    b, c, W, V = torch.randn(*batch, d), torch.randn(*batch, H), torch.randn(d, H), torch.randn(d, H)
    return NADELaw(b, size * c, size * W, size * V)


def at_random(module, size=2.0):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(size * torch.randn_like(parameter))
    return module


def called(module, n=4):
    """The law that a module makes, for a conditional at n inputs."""
    return module(torch.randn(n, module.in_features)) if isinstance(module, Conditional) else module()


def slow_log_prob(b, c, W, V, y):
    """One vector, bit by bit, as the paper writes it."""
    total = 0.0
    for i in range(len(y)):
        a = c.clone()
        for j in range(i):
            a += W[j] * y[j]
        probability = torch.sigmoid(b[i] + (V[i] * torch.sigmoid(a)).sum())
        total += torch.log(probability if y[i] else 1 - probability)
    return total


class TestDensity:
    @pytest.mark.parametrize("d", [1, 2, 5, 10])
    @pytest.mark.parametrize("H", [1, 20])
    def test_sums_to_one(self, d, H):
        total = law(d, H, (3,)).log_prob(states(d)[:, None]).exp().sum(0)
        torch.testing.assert_close(total, torch.ones(3), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
    def test_that_of_a_module_sums_to_one(self, make):
        p = called(at_random(make()))
        y = states(*p.event_shape)
        total = p.log_prob(y.reshape(len(y), *[1] * len(p.batch_shape), -1)).exp().sum(0)
        torch.testing.assert_close(total, torch.ones(p.batch_shape), rtol=0, atol=1e-12)

    @pytest.mark.parametrize(("d", "H"), [(1, 1), (1, 6), (2, 1), (6, 4), (4, 9)])
    def test_is_that_of_the_slow_loop(self, d, H):
        p = law(d, H, size=1.0)
        expected = torch.stack([slow_log_prob(p.logits, p.features, p.W, p.V, y) for y in states(d)])
        torch.testing.assert_close(p.log_prob(states(d)), expected, rtol=0, atol=1e-11)

    @pytest.mark.parametrize("d", [15, 16, 17, 40])
    def test_of_long_vectors_too(self, d):
        """They are scored some bits at a time."""
        p = law(d, 6, size=0.7)
        y = torch.bernoulli(torch.full((5, d), 0.5))
        expected = torch.stack([slow_log_prob(p.logits, p.features, p.W, p.V, one) for one in y])
        torch.testing.assert_close(p.log_prob(y), expected)

    def test_of_a_conditional_moves_with_its_input(self):
        q, h, y = at_random(ConditionalNADE(MLP(3, (8,)), 4, 6), 0.5), torch.randn(5, 3), states(4)[[0, 3, 9, 14, 15]]
        f = q.trunk(h)
        b, c = f @ q.logits.weight.T + q.logits.bias, f @ q.features.weight.T + q.features.bias
        expected = torch.stack([slow_log_prob(*row, q.W, q.V, at) for *row, at in zip(b, c, y, strict=True)])
        torch.testing.assert_close(q(h).log_prob(y), expected, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("d", [1, 6])
    def test_with_nothing_to_read_bits_are_independent(self, d):
        p = law(d)
        free = NADELaw(p.logits, p.features, p.W, torch.zeros_like(p.V))
        expected = Bernoulli(logits=p.logits).log_prob(states(d)).sum(-1)
        torch.testing.assert_close(free.log_prob(states(d)), expected, rtol=0, atol=1e-12)

    def test_modules_start_almost_independent_at_the_logits_but_not_dead(self):
        logits = torch.linspace(-2, 2, 8)
        q = ConditionalNADE(MLP(4), 8, 50, logits=logits)
        y, at_zero = states(8), q(torch.zeros(4))  # through tanh without biases: zero features
        expected = Bernoulli(logits=logits).log_prob(y).sum(-1)
        assert 0 < (at_zero.log_prob(y) - expected).abs().max() < 1.0
        assert q.logits.bias.data_ptr() != logits.data_ptr()
        q(torch.randn(6, 4)).log_prob(y[:6]).sum().backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in q.parameters())

    def test_refuses_grey(self):
        with pytest.raises(ValueError, match="to be within the support"):
            law().log_prob(torch.full((5,), 0.5))


class TestSlopes:
    @pytest.mark.parametrize(("d", "H"), [(1, 3), (4, 3)])
    def test_are_finite_differences(self, d, H):
        p = law(d, H, (2,), size=1.0)
        y = torch.bernoulli(torch.full((3, 2, d), 0.5))
        inputs = [t.requires_grad_() for t in (p.logits, p.features, p.W, p.V)]
        assert torch.autograd.gradcheck(lambda *tensors: NADELaw(*tensors).log_prob(y), inputs)

    @pytest.mark.parametrize("make", [lambda: NADEPrior(4, 3), lambda: ConditionalNADE(MLP(3, (2,)), 4, 3)])
    def test_of_a_module_are_finite_differences(self, make):
        module, h = at_random(make(), 1.0), torch.randn(2, 3)
        names, values = zip(*module.named_parameters(), strict=True)
        assert {"W", "V"} < set(names)

        def log_p(*tensors):
            p = torch.func.functional_call(
                module, dict(zip(names, tensors, strict=True)), h if isinstance(module, Conditional) else ()
            )
            return p.log_prob(states(4)[:, None])

        assert torch.autograd.gradcheck(log_p, values)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("size", [1e4, 1e30])
    def test_and_densities_are_numbers_where_all_saturates(self, dtype, size):
        signs = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0], dtype=dtype)
        W, V = (size * torch.outer(signs, signs[:3]).roll(k, 0) for k in (0, 2))
        for b, c in product([0.0, size, -size], repeat=2):
            leaves = [b * signs, c * signs[:3], W.clone(), V.clone()]
            p = NADELaw(*(leaf.requires_grad_() for leaf in leaves))
            log_p = p.log_prob(states(5).to(dtype))
            assert not log_p.isnan().any()
            assert (log_p <= 0).all()
            assert all(not g.isnan().any() for g in torch.autograd.grad(log_p.sum(), leaves))
            assert p.log_prob(p.sample((50,))).isfinite().all()

    def test_no_draw_has_one(self):
        p = law()
        p.logits.requires_grad_()
        assert not p.has_rsample
        assert not p.has_enumerate_support
        assert not p.sample().requires_grad


class TestDraws:
    @pytest.mark.parametrize("size", [0.5, 3.0])
    def test_are_as_frequent_as_the_density_says(self, size):
        """Pearson's test over the 64 states of six bits, the rare ones together; false alarm 1e-4 for each."""
        p, n = law(6, 8, size=size), 20_000
        y = p.sample((n,))
        index = (y @ 2.0 ** torch.arange(5, -1, -1)).long()
        counts, expected = index.bincount(minlength=64), n * p.log_prob(states(6)).exp()
        rare = expected < 10
        pairs = [torch.cat([t[~rare], t[rare].sum(0, keepdim=True)]) for t in (counts.double(), expected)]
        observed, expected = (t[pairs[1] > 0] for t in pairs)
        assert len(expected) > 4
        assert stats.chisquare(observed, expected).pvalue > 1e-4

    def test_are_independent_of_each_other(self):
        """Whether two fair bits agree is a fair coin: of a batch, two draws, one vector; false alarm 1e-4 for each."""
        y = NADELaw(torch.zeros(2, 3), torch.zeros(4), torch.randn(3, 4), torch.zeros(3, 4)).sample((4000,))
        for agree in (y[:, 0] == y[:, 1], y[::2, 0] == y[1::2, 0], y[..., 0] == y[..., 2]):
            assert stats.binomtest(int(agree.sum()), agree.numel()).pvalue > 1e-4

    @pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
    def test_in_plates(self, make):
        module = make()
        with pyro.plate("particles", 3, dim=-2), pyro.plate("data", 4, dim=-1):
            y = pyro.sample("y", p := called(module))
        assert y.shape == (3, 4, *p.event_shape)
        assert p.expand((3, 4)).log_prob(y).shape == (3, 4)
        assert p.support.check(y).all()
        assert module.float() is module
        p = module(torch.zeros(4, 3, dtype=torch.float32)) if isinstance(module, Conditional) else module()
        y = p.sample()
        assert y.dtype == p.log_prob(y).dtype == torch.float32
        assert not dict(pyro.get_param_store())


class TestShapes:
    def test_batches_do_not_mix(self):
        p, y = law(5, 7, (4,)), torch.bernoulli(torch.full((3, 4, 5), 0.5))
        rows = [NADELaw(p.logits[i], p.features[i], p.W, p.V).log_prob(y[:, i]) for i in range(4)]
        for wide in (p, p.expand((3, 4)), p.expand((1, 4)), p.expand((1, 4)).expand((3, 4))):
            assert wide.event_shape == (5,)
            torch.testing.assert_close(wide.log_prob(y), torch.stack(rows, -1), rtol=0, atol=1e-12)
        torch.testing.assert_close(p.expand((3, 4)).log_prob(y[0]), torch.stack(rows, -1)[:1].expand(3, 4))
        assert p.expand((3, 4)).log_prob(y[0, 0]).shape == (3, 4)

    @pytest.mark.parametrize("logits", [(5,), (4, 5), (3, 1, 5)])
    @pytest.mark.parametrize("features", [(7,), (4, 7), (1, 7)])
    def test_logits_and_features_are_broadcast(self, logits, features):
        W, V = torch.randn(2, 5, 7)
        p = NADELaw(torch.randn(logits), torch.randn(features), W, V)
        assert p.batch_shape == torch.broadcast_shapes(logits[:-1], features[:-1])
        y = p((2,))
        assert y.shape == (2, *p.batch_shape, 5)
        assert p.log_prob(y).shape == (2, *p.batch_shape)
        full = NADELaw(p.logits.expand(*p.batch_shape, 5), p.features.expand(*p.batch_shape, 7), W, V)
        torch.testing.assert_close(p.log_prob(y), full.log_prob(y), rtol=0, atol=1e-12)

    def test_expanding_copies_nothing(self):
        p = law(5, 7, (4,))
        wide = p.expand((100, 4))
        assert wide.batch_shape == (100, 4)
        assert wide.logits.data_ptr() == p.logits.data_ptr()
        assert all(getattr(wide, name) is getattr(p, name) for name in ("features", "W", "V"))

    def test_lives_on_vectors_of_bits(self):
        p = law().expand((4,))
        assert p.support.is_discrete
        assert p.support.event_dim == 1
        assert p.support.base_constraint is constraints.boolean

    def test_a_prior_is_the_law_of_its_parameters(self):
        prior = at_random(NADEPrior(5, 7))
        expected = NADELaw(prior.logits, prior.features, prior.W, prior.V).log_prob(states(5))
        assert torch.equal(prior().log_prob(states(5)), expected)
        assert (32 * NADEPrior(5, 7)().log_prob(states(5)).exp() - 1).abs().max() < 0.5  # it starts at almost even odds


class TestModules:
    @pytest.mark.parametrize("make", [m for name, m in MODULES.items() if "prior" in name])
    def test_priors_are_sound(self, make):
        """False alarm 1e-4 for each."""
        report = check_prior(at_random(make(), 1.0))
        assert report.ok, str(report)
        assert len(report.passed) == 6

    @pytest.mark.parametrize("make", [lambda: NADEPrior(60, 20), lambda: BernoulliPrior(60)])
    def test_priors_of_many_bits_are_sound(self, make):
        assert check_prior(make(), num_samples=500).ok

    def test_a_factorial_prior_starts_where_it_is_told(self):
        logits = torch.tensor([-3.0, 0.0, 2.0])
        prior = BernoulliPrior(3, logits=logits)
        expected = stats.bernoulli.logpmf(states(3), torch.sigmoid(logits)).sum(-1)
        torch.testing.assert_close(prior().log_prob(states(3)).detach(), torch.as_tensor(expected))
        assert prior.logits.data_ptr() != logits.data_ptr()
        assert BernoulliPrior(3).logits.tolist() == [0.0] * 3
        assert [name for name, _ in prior.named_parameters()] == ["logits"]
        assert not list(BernoulliPrior(3, learned=False).parameters())

    @pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
    def test_state_comes_back(self, make):
        module, other, h = at_random(make()), make(), torch.randn(4, 3)
        other.load_state_dict(module.state_dict())
        laws = [m(h) if isinstance(m, Conditional) else m() for m in (module, other, copy.deepcopy(module).eval())]
        y = laws[0]((6,))
        assert all(torch.equal(p.log_prob(y), laws[0].log_prob(y)) for p in laws)

    def test_hidden_units_are_as_many_as_bits_where_not_given(self):
        assert ConditionalNADE(MLP(3), 5).W.shape == NADEPrior(5).V.shape == (5, 5)
        assert {name for name, _ in ConditionalNADE(MLP(3), 5).named_parameters(recurse=False)} == {"W", "V"}


@pytest.mark.parametrize("mode", ["real", "fake"])
@pytest.mark.parametrize("d", [1, 6])
def test_has_a_graph(mode, d):
    p, y = law(d, 7, (4,)), torch.bernoulli(torch.full((3, 4, d), 0.5))

    def run(b, c, W, V, y):
        p = NADELaw(b, c, W, V).expand((3, 4))
        return p.sample(), *torch.func.grad_and_value(lambda V: NADELaw(b, c, W, V).log_prob(y).sum())(V), p.log_prob(y)

    tensors = p.logits, p.features, p.W, p.V, y
    with validation(enabled=False):  # which reads values
        graph = make_fx(run, tracing_mode=mode)(*tensors)
        torch.manual_seed(1)
        expected = run(*tensors)
    torch.manual_seed(1)
    found = graph(*tensors)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert len({tuple(graph(*tensors)[0].flatten().tolist()) for _ in range(5)}) > 1  # fresh noise at every call
    other = [t + 0.5 for t in tensors[:4]]
    torch.testing.assert_close(graph(*other, 1 - y)[-1], NADELaw(*other).log_prob(1 - y), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ConditionalNADE(MLP(3), 5, 0), "`hidden` must be an integer, at least 1, got 0"),
        (lambda: NADEPrior(5, 0), "`hidden` must be an integer, at least 1, got 0"),
        (lambda: NADEPrior(5, (8,)), r"`hidden` must be an integer, at least 1, got \(8,\)"),
        (lambda: ConditionalNADE(MLP(3), 0), "`out_features` must be an integer, at least 1, got 0"),
        (lambda: ConditionalNADE(MLP(3), 5, logits=torch.zeros(4)), r"`logits` must have shape \(5,\).*got \(4,\)"),
        (lambda: ConditionalNADE(MLP(3), 5)(torch.zeros(2, 4)), "ConditionalNADE takes vectors of length 3"),
        (lambda: NADEPrior(0), "`z_dim` must be an integer, at least 1, got 0"),
        (lambda: BernoulliPrior(0), "`z_dim` must be an integer, at least 1, got 0"),
        (
            lambda: BernoulliPrior(3, logits=torch.zeros(2)),
            r"`logits` must have shape \(3,\), one for each bit, got \(2,\)",
        ),
        (
            lambda: NADELaw(torch.zeros(5), torch.zeros(7), torch.zeros(7, 5), torch.zeros(5, 7)),
            r"`W` must have shape \(5, 7\), a row for each of the `logits` and .* `features`, got \(7, 5\)",
        ),
        (
            lambda: NADELaw(*torch.full((2, 5), torch.nan), torch.zeros(5, 5), torch.zeros(5, 5)),
            "parameter logits .* of distribution NADELaw",
        ),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()


class Backwards(NADELaw):
    """Draws by the law, a density of the bits in the other order."""

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return super().log_prob(value.flip(-1))


def test_a_wrong_density_of_many_bits_is_found_out() -> None:
    """No value of forty bits comes twice: each bit is judged given the others. False alarm of the first part 1e-4."""
    prior = NADEPrior(40, 5).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter))
    notes: list[str] = []
    assert disagreements(prior(), 1000, notes) == []
    assert notes == ["whether the probabilities of 2**40 values sum to 1 was not tested"]
    (found,) = disagreements(Backwards(prior.logits, prior.features, prior.W, prior.V), 1000)
    assert found.startswith("draws and log_prob disagree: by how much a bit is set more often than log_prob says")
