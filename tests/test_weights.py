"""One (K, n) object: exact K, scale divided out, enumeration exact, masks honoured, wrong pairs refused by site."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import Tensor, nn

from inference.closed_form import closed_form_sites
from inference.compare import compare_bounds
from inference.diagnostics import active_units
from inference.draws import draw_weights, log_weights
from inference.likelihood import log_likelihood
from inference.pair import Pair
from inference.particles import inspect_pair
from ppmodels.contracts import Program
from tests.oracles import LinearGaussian

pytestmark = pytest.mark.usefixtures("double")
toy = LinearGaussian.make()


@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize(("K", "chunk"), [(1, None), (10, None), (10, 1), (10, 7), (10, 10), (10, 50), (11, 4)])
def test_exact_posterior_gives_log_p_with_exactly_k_particles(n: int, K: int, chunk: int | None) -> None:
    x = toy.data(n)
    weights = log_weights(toy.model, toy.exact, x, K, chunk=chunk)
    assert weights.log_w.shape == (K, n)
    torch.testing.assert_close(weights.log_w, toy.log_prob(x).expand(K, n), atol=1e-9, rtol=0)


@pytest.mark.parametrize("K", [1, 4])
def test_weights_do_not_depend_on_subsampling_scale(K: int) -> None:
    x = toy.data(6)

    def model(x: Tensor, N: int) -> None:
        with pyro.plate("data", N, subsample=torch.arange(len(x))):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ toy.W.T + toy.b, toy.s).to_event(1), obs=x)

    def guide(x: Tensor, N: int) -> None:
        with pyro.plate("data", N, subsample=torch.arange(len(x))):
            pyro.sample("z", dist.Normal(torch.zeros(2), 2.0).to_event(1))

    def seeded_weights(N: int) -> Tensor:
        torch.manual_seed(5)
        return log_weights(partial(model, N=N), partial(guide, N=N), x, K).log_p

    torch.manual_seed(5)
    z = 2 * torch.randn(K, 6, 2)  # what the guide draws
    by_hand = dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
    by_hand = by_hand + dist.Normal(z @ toy.W.T + toy.b, toy.s).log_prob(x).sum(-1)
    torch.testing.assert_close(seeded_weights(6), by_hand, atol=1e-12, rtol=0)
    assert torch.equal(seeded_weights(60), seeded_weights(6))


def test_a_programs_own_scale_counts_in_training_only() -> None:
    x = toy.data(5)

    def model(x: Tensor, beta: float, N: int) -> None:
        with pyro.plate("data", N, subsample=torch.arange(len(x))):
            with poutine.scale(scale=beta):  # of the prior alone: the guide keeps its own
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ toy.W.T + toy.b, toy.s).to_event(1), obs=x)

    def guide(x: Tensor, N: int) -> None:
        with pyro.plate("data", N, subsample=torch.arange(len(x))):
            pyro.sample("z", dist.Delta(torch.ones(5, 2), log_density=2.0, event_dim=1))

    def weigh(beta: float, *, keep_scale: bool) -> Tensor:
        pair = Pair(partial(model, beta=beta, N=50), partial(guide, N=50))
        return draw_weights(pair, x, 1, inspect_pair(pair, x), keep_scale=keep_scale).log_w

    prior = dist.Normal(0.0, 1.0).log_prob(torch.ones(2)).sum()
    assert torch.equal(weigh(0.3, keep_scale=False), weigh(1.0, keep_scale=False))
    torch.testing.assert_close(weigh(0.3, keep_scale=True), weigh(1.0, keep_scale=True) - 0.7 * prior)


def mixture(x: Tensor, *, marginal: bool) -> None:
    probs, means = torch.tensor([0.2, 0.3, 0.5]), torch.tensor([[-2.0, 0.0], [0.5, 1.0], [3.0, -1.0]])
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        if marginal:
            components = dist.Normal(z.unsqueeze(-2) + means, 0.5).to_event(1)
            pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(probs), components), obs=x)
        else:
            y = pyro.sample("y", dist.Categorical(probs), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(z + means[y], 0.5).to_event(1), obs=x)


def mixture_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 1.0).to_event(1))


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("K", [1, 3])
def test_enumeration_agrees_with_the_marginalised_model(K: int, n: int) -> None:
    x = torch.randn(n, 2)
    found = []
    for marginal in (False, True):
        torch.manual_seed(1)
        found.append(log_weights(partial(mixture, marginal=marginal), mixture_guide, x, K).log_w)
    torch.testing.assert_close(found[0], found[1], atol=1e-10, rtol=0)


def test_enumeration_agrees_with_pyros_trace_enum_elbo() -> None:
    x, model = torch.randn(5, 2), partial(mixture, marginal=False)
    pair = Pair(model, mixture_guide)
    layout = inspect_pair(pair, x)
    torch.manual_seed(2)
    ours = draw_weights(pair, x, 1, layout).log_w.sum()
    torch.manual_seed(2)
    theirs = -TraceEnum_ELBO(max_plate_nesting=1).loss(model, mixture_guide, x)
    assert ours.item() == pytest.approx(theirs, abs=1e-9)


def test_enumerated_sums_do_not_underflow() -> None:
    """Two observations that agree on nothing: each alone would underflow the other's best component."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            pyro.sample("a", dist.Normal(100 * y, 1.0), obs=x)
            pyro.sample("b", dist.Normal(100 - 100 * y, 1.0), obs=x)

    log_w = log_weights(model, lambda x: None, torch.zeros(1), 1).log_w
    assert log_w.item() == pytest.approx(-math.log(2 * math.pi) - 5000.0, abs=1e-9)


def test_enumerated_sites_in_an_inner_plate_are_summed_one_by_one() -> None:
    x = torch.randn(4, 3)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2), pyro.plate("pixels", 3, dim=-1):
            y = pyro.sample("y", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(2 * y, 1.0), obs=x)

    log_w = log_weights(model, lambda x: None, x, 2).log_w
    terms = torch.stack([math.log(0.7) - x**2 / 2, math.log(0.3) - (x - 2) ** 2 / 2]) - math.log(2 * math.pi) / 2
    torch.testing.assert_close(log_w, terms.logsumexp(0).sum(-1).expand(2, 4), atol=1e-12, rtol=0)


def test_masks_are_honoured() -> None:
    x, seen = torch.randn(5), torch.tensor([True, False, True, True, False])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with poutine.mask(mask=seen):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    weights = log_weights(model, guide, x, 3)
    assert torch.equal(weights.log_w[:, ~seen], torch.zeros(3, 2))
    assert bool((weights.log_w[:, seen] != 0).all())


def test_agrees_with_pyros_trace_elbo_under_one_seed() -> None:
    x = toy.data(8)
    pair = Pair(toy.model, toy.wrong)
    layout = inspect_pair(pair, x)
    torch.manual_seed(3)
    ours = draw_weights(pair, x, 1, layout).log_w.sum().item()
    torch.manual_seed(3)
    assert ours == pytest.approx(-Trace_ELBO().loss(toy.model, toy.wrong, x), abs=1e-10)
    torch.manual_seed(4)
    ours = draw_weights(pair, x, 6, layout).log_w.mean(0).sum().item()
    torch.manual_seed(4)
    theirs = -Trace_ELBO(num_particles=6, vectorize_particles=True, max_plate_nesting=1).loss(toy.model, toy.wrong, x)
    assert ours == pytest.approx(theirs, abs=1e-10)


def chain_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z1 = pyro.sample("z1", dist.Normal(x / 2, 0.8))
        z2 = pyro.sample("z2", dist.Normal(z1 / 2, 0.7))
        pyro.sample("z3", dist.Normal(z2, 0.7))


def fork_model(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z3 = pyro.sample("z3", dist.Normal(0.0, 1.0))
        pyro.sample("z2", dist.Normal(z3, 1.0))
        z1 = pyro.sample("z1", dist.Normal(z3, 1.0))
        pyro.sample("x", dist.Normal(z1, 1.0), obs=x)


def test_closed_form_kl_looks_through_the_whole_chain_of_the_guide() -> None:
    """z1's parent z3 was drawn from it through z2: neither z1 nor z2 may be integrated."""
    x = torch.randn(3)
    pair = Pair(fork_model, chain_guide)
    assert closed_form_sites(pair, x, inspect_pair(pair, x)) == ("z3",)


def test_closed_form_kl_needs_both_sides_to_count_the_site_alike() -> None:
    x, seen = torch.randn(3), torch.tensor([True, False, True])

    def model(x: Tensor, beta: float, mask: Tensor | None) -> None:
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=beta), poutine.mask(mask=True if mask is None else mask):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def sites(beta: float, mask: Tensor | None) -> tuple[str, ...]:
        pair = Pair(partial(model, beta=beta, mask=mask), unit_guide)
        return closed_form_sites(pair, x, inspect_pair(pair, x))

    assert sites(0.1, None) == sites(1.0, seen) == ()


def unit_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x, 1.0))


def test_programs_that_draw_their_own_minibatch_are_for_training_only() -> None:
    x = torch.randn(20)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), subsample_size=5) as rows:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), subsample_size=5) as rows:
            pyro.sample("z", dist.Normal(x[rows] / 2, 0.5**0.5))

    assert log_weights(model, guide, x, 6).log_w.std(0).max() < 1e-10  # all particles see the same rows
    with pytest.raises(ValueError, match="plate `data` draws its own minibatch, another for every chunk"):
        log_weights(model, guide, x, 6, chunk=2)
    for evaluate in (log_likelihood, compare_bounds, active_units):
        with pytest.raises(ValueError, match="plate `data` draws its own minibatch from the batch"):
            evaluate(model, guide, x)


def test_two_plates_of_one_size_are_not_guessed_between() -> None:
    x = torch.randn(8, 8)

    def model(x: Tensor, outer: str) -> None:
        with pyro.plate(outer, len(x), dim=-2), pyro.plate("pixels", 8, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor, outer: str) -> None:
        with pyro.plate(outer, len(x), dim=-2), pyro.plate("pixels", 8, dim=-1):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))

    named = log_weights(partial(model, outer="data"), partial(guide, outer="data"), x, 2).log_w
    exact = dist.Normal(0.0, 2**0.5).log_prob(x).sum(-1)
    torch.testing.assert_close(named, exact.expand(2, 8), atol=1e-9, rtol=0)
    with pytest.raises(ValueError, match=r"plates `(images|pixels)` and `(images|pixels)` both have 8 entries"):
        log_weights(partial(model, outer="images"), partial(guide, outer="images"), x, 2)


def test_the_worlds_flags_and_random_state_are_left_as_found() -> None:
    before = torch.get_rng_state()
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        log_likelihood(toy.model, toy.exact, toy.data(3), num_particles=30)
        assert not torch.distributions.Distribution._validate_args
    finally:
        torch.distributions.Distribution.set_default_validate_args(True)
    assert torch.equal(before, torch.get_rng_state())


def test_modules_a_function_closes_over_are_switched_and_saved() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))

    def guide(x: Tensor) -> None:
        pyro.module("net", net)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(net(x), 1.0).to_event(1))

    x, before = toy.data(10), {k: v.clone() for k, v in net.state_dict().items()}
    inspect_pair(Pair(toy.model, guide), x)
    active_units(toy.model, guide, x)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training
    state = Pair(toy.model, guide).state(x)
    assert {"guide.net.0.running_mean", "guide.net.1.weight"} <= set(state)
    assert not any(name.startswith("store.") for name in state)


def test_a_module_in_two_places_is_one_set_of_parameters() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> None:
            toy.model(x)

    model = Model()

    class Guide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model.encoder

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))

    assert list(Pair(model, Guide()).parameters(toy.data(4))) == ["model.encoder.weight", "model.encoder.bias"]


def test_grey_levels_under_a_bernoulli_are_scored_with_a_warning() -> None:
    x = torch.rand(4, 3)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(0.3 * torch.ones(3)).to_event(1), obs=x)

    with pytest.warns(UserWarning, match="site `x` scores values between 0 and 1 under a Bernoulli: .* no likelihood"):
        log_w = log_weights(model, lambda x: None, x, 2).log_w
    expected = (x * math.log(0.3) + (1 - x) * math.log(0.7)).sum(-1)
    torch.testing.assert_close(log_w, expected.expand(2, 4), atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="site `x` cannot score its value"):
        log_weights(model, lambda x: None, 2 * x, 2)


def test_joint_weights_sum_the_data_and_allow_global_latents() -> None:
    x = torch.randn(4)

    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def posterior(x: Tensor) -> None:
        pyro.sample("mean", dist.Normal(x.sum() / 5, 5**-0.5))

    log_w = log_weights(model, posterior, x, 3, joint=True).log_w
    covariance = torch.eye(4) + torch.ones(4, 4)
    exact = torch.distributions.MultivariateNormal(torch.zeros(4), covariance).log_prob(x)
    torch.testing.assert_close(log_w, exact.expand(3, 1), atol=1e-10, rtol=0)
    with pytest.raises(ValueError, match=r"site `mean` is latent outside the data plate `data`.*joint=True"):
        log_weights(model, posterior, x, 3)


def test_programs_wrong_in_a_particle_plate_run_one_by_one() -> None:
    x = toy.data(4)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            first = z[0].abs().sum()  # the first datum, or under an outer plate the first particle
            pyro.sample("x", dist.Normal(z @ toy.W.T + first, toy.s).to_event(1), obs=x)

    with pytest.warns(UserWarning, match="`model` gives site `x` another density in a plate of particles"):
        weights = log_weights(model, toy.wrong, x, 3)
    assert weights.log_w.shape == (3, 4)


def test_inspection_leaves_no_trace() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2))

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(net(x), 1.0).to_event(1))

    before = {k: v.clone() for k, v in net.state_dict().items()}
    random, validating = torch.get_rng_state(), torch.distributions.Distribution._validate_args  # type: ignore[attr-defined]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> None:
            toy.model(x)

    inspect_pair(Pair(Model(), guide), toy.data(4))
    assert torch.equal(random, torch.get_rng_state())
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.distributions.Distribution._validate_args is validating  # type: ignore[attr-defined]


def test_closed_form_kl_only_where_the_mean_stays() -> None:
    """q(z1) q(z2 | z1) against p(z2) p(z1 | z2): the top layer may be integrated, the bottom one may not."""
    x = torch.randn(3)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Normal(0.0, 1.0))
            z1 = pyro.sample("z1", dist.Normal(z2, 1.0))
            pyro.sample("x", dist.Normal(z1, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Normal(x / 2, 0.8))
            pyro.sample("z2", dist.Normal(z1 / 2, 0.7))

    pair = Pair(model, guide)
    layout = inspect_pair(pair, x)
    assert closed_form_sites(pair, x, layout) == ("z2",)
    weights = draw_weights(pair, x, 20_000, layout, analytic_kl=("z2",))
    gap = weights.kl["z2"] - weights.analytic_kl["z2"]  # mean zero, draw by draw given z1
    assert bool((gap.mean(0).abs() < 4 * gap.std(0) / 20_000**0.5).all())  # false alarm: 3 x 6e-5
    assert bool((weights.analytic_kl["z2"].var(0) < weights.kl["z2"].var(0)).all())


def no_plate(x: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(2))
    pyro.sample("x", dist.Normal(z @ toy.W.T, 1.0).to_event(2), obs=x)


def no_event(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
    pyro.sample("x", dist.Normal(torch.zeros_like(x), 1.0), obs=x)


def extra_site(x: Tensor) -> None:
    toy.exact(x)
    with pyro.plate("more", len(x)):
        pyro.sample("extra", dist.Normal(0.0, 1.0))


def unsupported(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=z @ toy.W.T).to_event(1), obs=x)


def empty_guide(x: Tensor) -> None:
    return None


def unobserved(x: Tensor) -> None:
    poutine.uncondition(toy.model)(x)


def mismatched(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ toy.W, 1.0).to_event(1), obs=x)


def short(x: Tensor) -> None:
    toy.model(x[:, :2])


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (toy.model, empty_guide, "site `z` is sampled by the model and missing from the guide"),
        (toy.model, extra_site, "site `extra` is sampled by the guide and missing from the model"),
        (
            no_plate,
            poutine.block(no_plate, hide=["x"]),
            "site `x` is observed in no plate, expected a plate over the 4 data",
        ),
        (no_event, toy.exact, r"site `x` has a log probability of shape \(4, 3\), expected \(\) from its plates"),
        (unsupported, toy.exact, "site `x` cannot score its value"),
        (unobserved, toy.exact, "`model` observes nothing"),
        (mismatched, toy.exact, r"the pair does not take a batch of shape \(4, 3\): mat1 and mat2"),
        (short, toy.exact, "site `x` cannot score its value: Value is not broadcastable"),
    ],
)
def test_pairs_that_cannot_be_weighed_are_refused_by_site(model: Program, guide: Program, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_weights(model, guide, toy.data(4), 2)


@pytest.mark.parametrize("arguments", [{"num_particles": 0}, {"num_particles": 3, "chunk": 0}])
def test_counts_must_be_positive(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"`(num_particles|chunk)` is 0, expected"):
        log_weights(toy.model, toy.exact, toy.data(2), **arguments)
