"""Log p(x) with its error and its warning; k-hat against ArviZ, ESS and active units against closed forms."""

import math
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from inference.diagnostics import active_units, effective_sample_size, khat_threshold, pareto_khat
from inference.likelihood import FewParticlesWarning, log_likelihood
from tests.oracles import LinearGaussian

pytestmark = pytest.mark.usefixtures("double")
toy = LinearGaussian.make()


def test_per_datum_values_errors_and_summary() -> None:
    x = toy.data(25)
    found = log_likelihood(toy.model, toy.wrong, x, num_particles=4000, batch_size=7)
    z = (found.value - toy.log_prob(x)) / found.standard_error
    assert bool((z.abs() < 4.5).all())  # false alarm: 25 x 7e-6
    assert 0.6 < float(z.square().mean()) < 1.6  # errors are neither too small nor too large
    assert found.mean == pytest.approx(float(found.value.mean()))
    assert found.mean_mc_se == pytest.approx(float(found.standard_error.square().sum().sqrt()) / 25)
    assert found.mean_se == pytest.approx(float(found.value.std()) / 5)
    assert found.to_frame().shape == (25, 4)
    assert "nats per datum" in str(found)


@pytest.mark.parametrize("batch_size", [1, 4, 25])
def test_the_exact_posterior_needs_one_draw_at_any_batch_size(batch_size: int) -> None:
    x = toy.data(9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewParticlesWarning)  # one draw does not know its error
        found = log_likelihood(toy.model, toy.exact, x, num_particles=1, batch_size=batch_size)
    torch.testing.assert_close(found.value, toy.log_prob(x), atol=1e-9, rtol=0)
    sure = log_likelihood(toy.model, toy.exact, x, num_particles=30, batch_size=batch_size)
    assert bool((sure.khat == -math.inf).all())
    torch.testing.assert_close(sure.ess, torch.full((9,), 30.0))


def test_a_seed_gives_the_same_numbers_and_leaves_the_callers_alone() -> None:
    before = torch.get_rng_state()
    K = 400
    first, second = (log_likelihood(toy.model, toy.wrong, toy.data(3), num_particles=K, seed=5) for _ in range(2))
    other = log_likelihood(toy.model, toy.wrong, toy.data(3), num_particles=K, seed=6)
    assert torch.equal(first.value, second.value)
    assert not torch.equal(first.value, other.value)
    assert torch.equal(before, torch.get_rng_state())


def test_a_guide_too_narrow_is_called_out() -> None:
    def narrow(x: Tensor) -> None:
        mean, _ = toy.posterior(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(mean, 0.05).to_event(1))

    with pytest.warns(FewParticlesWarning, match=r"K = 500 is too small for this guide: k-hat is above 0.63 for"):
        found = log_likelihood(toy.model, narrow, toy.data(10), num_particles=500)
    assert found.unreliable >= 0.8


def test_khat_recovers_the_shape_of_pareto_weights() -> None:
    """Weights u^-k have a Pareto tail of shape k; the mean estimate over 20 columns is within 0.1."""
    for k in (0.2, 0.5, 0.9):
        found = pareto_khat(-k * torch.rand(4000, 20).log())
        assert float(found.mean()) == pytest.approx(k, abs=0.1)


def test_khat_of_degenerate_weights() -> None:
    w = torch.randn(100, 3)
    w[:, 1] = 2.0
    w[5, 2] = math.nan
    found = pareto_khat(w)
    assert torch.isfinite(found[0])
    assert found[1] == -math.inf
    assert torch.isnan(found[2])
    assert bool(torch.isnan(pareto_khat(torch.randn(10, 2))).all())
    assert khat_threshold(100) == 0.5
    assert khat_threshold(10**6) == 0.7


def test_khat_of_a_few_states_that_tie() -> None:
    """Weights of discrete latents are of few values: fitted or not, they raise nothing (warnings are errors here)."""
    for states in range(2, 10):
        values = 3 * torch.randn(states)
        found = pareto_khat(values[torch.randint(states, (1000, 30))])
        assert found.shape == (30,)


def test_a_weight_of_zero_leaves_khat_as_it_is() -> None:
    ratios = -0.5 * torch.rand(4000, 1).log()
    ratios[ratios.argmin()] = -math.inf
    assert float(pareto_khat(ratios)[0]) == pytest.approx(0.5, abs=0.15)


def test_active_units_need_two_draws_and_take_whole_numbers() -> None:
    with pytest.raises(ValueError, match="`num_particles` is 1, expected at least 2"):
        active_units(toy.model, toy.exact, toy.data(5), num_particles=1)

    def counted(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("n", dist.Poisson(1.0))
            pyro.sample("x", dist.Normal(0.0, 1.0).expand([3]).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("n", dist.Poisson(x[:, 0].exp()))

    assert active_units(counted, guide, toy.data(50)).count == {"n": 1}


def test_ess_is_kishs() -> None:
    w = np.random.default_rng(0).gamma(0.3, size=(50, 4))
    expected = w.sum(0) ** 2 / (w**2).sum(0)
    np.testing.assert_allclose(effective_sample_size(torch.from_numpy(np.log(w) - 700)), expected)


def test_active_units_are_those_the_guide_moves() -> None:
    """Posterior means of the linear-Gaussian model have a known covariance; a third unit is never moved."""
    x = toy.data(2000)

    def padded_model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[..., :2] @ toy.W.T + toy.b, toy.s).to_event(1), obs=x)

    def padded_guide(x: Tensor) -> None:
        mean, _ = toy.posterior(x)
        mean = torch.cat([mean, torch.zeros(len(x), 1)], -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(mean, 0.5).to_event(1))

    found = active_units(padded_model, padded_guide, x)
    expected = toy.posterior(x)[0].var(0)
    torch.testing.assert_close(found.variance["z"][:2], expected, atol=0.02, rtol=0)
    assert found.count == {"z": 2}
    assert str(found) == "z: 2 of 3 active"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.empty(0, 3), "`data` is empty"),
        ((), "`data` is an empty tuple"),
        (torch.tensor([[0.0, math.nan, 1.0]]), r"`data` has NaN or infinite values in 1 rows, the first is row 0"),
        (torch.tensor([[0.0, 1.0, math.inf]]), "NaN or infinite"),
        (torch.tensor([0, 1, 2]), "looks like labels"),
        (torch.zeros(4, 2), "site `x` cannot score its value"),
        ((torch.zeros(4, 3), torch.zeros(3)), r"`data\[1\]` has 3 rows, expected 4"),
    ],
)
def test_bad_data_is_refused(data: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_likelihood(toy.model, lambda x: toy.wrong(torch.zeros(len(x), 3)), data, num_particles=2)


def test_bad_types_and_counts_are_refused() -> None:
    with pytest.raises(TypeError, match="`data` is a list, expected a tensor"):
        log_likelihood(toy.model, toy.exact, [[1.0, 2.0, 3.0]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`num_particles` is 0"):
        log_likelihood(toy.model, toy.exact, toy.data(2), num_particles=0)
    with pytest.raises(ValueError, match="`data` is one datum, expected at least two"):
        active_units(toy.model, toy.exact, toy.data(1))
    with pytest.raises(ValueError, match="`batch_size` is 0"):
        log_likelihood(toy.model, toy.exact, toy.data(2), batch_size=0)


def test_mixture_weights_have_the_khat_of_an_independent_fit() -> None:
    """SciPy's maximum-likelihood Pareto fit of the same tail agrees to its own error."""
    ratios = -0.6 * torch.rand(20_000, 1).log()
    tail = np.sort(ratios.exp().numpy()[:, 0])[-400:]
    shape, _, _ = stats.genpareto.fit(tail - tail[0] + 1e-9, floc=0)
    assert float(pareto_khat(ratios)[0]) == pytest.approx(shape, abs=0.15)


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_without_particles_is_refused(chunk: int) -> None:
    def story(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 1.0))

    with pytest.raises(ValueError, match=f"`chunk` is {chunk}, expected at least 1"):
        log_likelihood(story, guide, torch.zeros(2), num_particles=10, chunk=chunk)
