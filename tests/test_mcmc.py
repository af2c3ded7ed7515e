"""Chains of tensors: their law, their bits, what they say of themselves, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arviz_stats
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from inference import FlatDensity, GraphWarning, diagnose, sample
from inference.density import Batched, batched
from inference.mcmc.adaptation import Length, Step, chees_gradient, halton, harmonic_mean
from inference.mcmc.chees import ChEES
from inference.mcmc.leapfrog import Mover, Phase
from inference.mcmc.metric import choose_metric, fit_metric

LOC = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
TRIL = torch.tensor([[2.0, 0.0, 0.0], [1.8, 0.4, 0.0], [0.0, 0.1, 0.05]], dtype=torch.float64)

FEW: dict[str, Any] = {"mode": "replay", "num_chains": 16, "num_samples": 200, "num_warmup": 200, "predictive": False}


def normal() -> None:
    """Three latents, correlated, of scales from 0.1 to 2."""
    pyro.sample("z", dist.MultivariateNormal(LOC, scale_tril=TRIL))


def eight_schools(sigma: Tensor, y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(y)):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


SCHOOLS = (
    torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]),
    torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
)


def steep(x: Tensor, y: Tensor) -> None:
    """A regression whose flat coefficients are far from their starts: small sigmas are very steep there."""
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    beta = pyro.sample("beta", dist.ImproperUniform(dist.constraints.real_vector, (), (3,)))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(beta[0] + beta[1] * x + beta[2] * x**2, sigma), obs=y)


def funnel() -> None:
    v = pyro.sample("v", dist.Normal(0.0, 3.0))
    with pyro.plate("i", 9):
        pyro.sample("x", dist.Normal(0.0, (v / 2).exp()))


def two_modes() -> None:
    bumps = dist.Normal(torch.tensor([-10.0, 10.0]), 1.0)
    pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), bumps))


def branching() -> None:
    """Runs one chain at a time: a branch on a latent."""
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(z if z > 0 else 2 * z, 1.0), obs=torch.tensor(0.5, dtype=torch.float64))


def draws_of(tree: Any, name: str = "z") -> np.ndarray[Any, Any]:
    return tree["posterior"][name].to_numpy()


def assert_normal(tree: Any) -> None:
    """Means and covariances within 4.5 standard errors; 9 numbers, a false alarm in 15,000 runs."""
    z = tree["posterior"]["z"]
    ess = float(arviz_stats.ess(z, method="mean").min())
    flat = z.to_numpy().reshape(-1, 3)
    cov = (TRIL @ TRIL.T).numpy()
    sd = np.sqrt(cov.diagonal())
    assert (abs(flat.mean(0) - LOC.numpy()) < 4.5 * sd / math.sqrt(ess)).all()
    of_squares = float(min(arviz_stats.ess((z - z.mean()) ** 2, method="mean").min(), ess))
    error = 4.5 * np.sqrt((cov**2 + np.outer(cov.diagonal(), cov.diagonal())) / of_squares)
    assert (abs(np.cov(flat.T) - cov) < error).all()


@pytest.mark.parametrize("metric", ["diag", "dense"])
def test_chees_draws_from_a_normal_law(metric: Any) -> None:
    tree = sample(normal, metric=metric, seed=1, **{**FEW, "num_chains": 64, "num_samples": 100})
    assert_normal(tree)
    assert tree.attrs["backend"] == "chees"
    assert tree.attrs["metric"] == metric
    assert tree.attrs["restarts"] == 0
    assert diagnose(tree).row("divergences").verdict == "pass"


def test_a_dense_metric_makes_a_normal_law_round() -> None:
    """Draws with another law than the target's: the geometric mean of cov(q) and cov(grad)^-1 is the target's own."""
    torch.manual_seed(0)
    cov = torch.tensor([[2.0, 1.2, 0.0], [1.2, 1.0, 0.3], [0.0, 0.3, 0.5]], dtype=torch.float64)
    q = torch.randn(4000, 3, dtype=torch.float64) * torch.tensor([3.0, 0.5, 1.0])
    metric = fit_metric(q, -(q - LOC) @ torch.linalg.inv(cov), 10**9, dense=True)
    torch.testing.assert_close(metric.factor @ metric.factor.T, cov, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(metric.factor @ metric.inverse, torch.eye(3, dtype=torch.float64))


def test_a_diagonal_metric_is_the_fisher_one() -> None:
    torch.manual_seed(0)
    q = torch.randn(4000, 2, dtype=torch.float64) * torch.tensor([5.0, 0.1])
    metric = fit_metric(q, -q / torch.tensor([25.0, 0.01]), 4000, dense=False)
    torch.testing.assert_close(metric.factor, torch.tensor([5.0, 0.1], dtype=torch.float64), rtol=1e-6, atol=0)
    assert choose_metric("auto", 50, 64) == "dense"
    assert choose_metric("auto", 50, 4) == "diag"


def test_the_length_climbs_the_criterion() -> None:
    """The estimated gradient is the derivative of ChEES in the logarithm of the time, on a harmonic oscillator."""
    torch.manual_seed(0)
    q, v = torch.randn(2, 400_000, 1, dtype=torch.float64) * torch.tensor([[[0.5]], [[1.0]]])

    def at(time: Tensor) -> tuple[Tensor, Tensor]:
        return q * time.cos() + v * time.sin(), v * time.cos() - q * time.sin()

    time = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    ends, velocities = at(time)
    criterion = 0.25 * (ends.square().sum(-1) - q.square().sum(-1)).square().mean()
    (slope,) = torch.autograd.grad(criterion, time)
    nothing = torch.zeros_like(q[:, 0])
    start, end = Phase(q, v, q, nothing), Phase(ends.detach(), velocities.detach(), q, nothing)
    one = torch.ones(1, dtype=torch.float64)
    found = chees_gradient(start, end, torch.ones_like(nothing), one, 0.7)
    assert float(found) == pytest.approx(0.7 * float(slope), rel=0.02)


def test_the_step_settles_where_acceptance_is_as_asked() -> None:
    step = Step.start(0.1)
    for _ in range(3000):
        step = step.update(math.exp(-step.current), 0.651)
    assert math.exp(-step.settled) == pytest.approx(0.651, abs=0.01)
    assert float(harmonic_mean(torch.tensor([1.0, 1.0, 0.0]))) < 1e-9
    assert [halton(n) for n in range(1, 8)] == [0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]
    length = Length.start().after_metric(1e9)
    assert length.current == pytest.approx(math.pi / 2 * math.sqrt(50))


def test_leapfrogs_keep_the_energy_and_turn_back() -> None:
    density = FlatDensity.of(eight_schools, *SCHOOLS)
    batch = Batched(density)
    mover = Mover(batch, density.data, "replay", 10**6, 5)
    torch.manual_seed(0)
    q, factor = 0.5 * torch.randn(5, density.dim, dtype=torch.float64), torch.eye(density.dim, dtype=torch.float64)
    start = mover.at(q, factor)._replace(v=torch.randn_like(q))
    torch.testing.assert_close(start.log_p, torch.stack([density.log_density(row) for row in q]))
    step = torch.tensor(0.01, dtype=torch.float64)
    end = mover.trajectory(start, step, factor, 50)
    torch.testing.assert_close(end.energy(), start.energy(), rtol=0, atol=2e-3)
    back = mover.trajectory(end._replace(v=-end.v), step, factor, 50)
    torch.testing.assert_close(back.q, q, rtol=0, atol=1e-9)
    assert mover.gradient_calls == 101


def test_parts_of_the_chains_give_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {**FEW, "num_warmup": 20, "num_samples": 5}
    whole = sample(eight_schools, *SCHOOLS, **few)
    monkeypatch.setitem(batched.MEMORY, "cpu", 64 * 5)
    parts = sample(eight_schools, *SCHOOLS, **few)
    np.testing.assert_allclose(draws_of(parts, "mu"), draws_of(whole, "mu"), rtol=1e-9)


def test_equal_seeds_give_equal_draws_and_leave_the_caller_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    few = {**FEW, "num_warmup": 20, "num_samples": 5}
    first, again, other = (draws_of(sample(normal, seed=seed, **few)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.mark.parametrize("mode", ["replay", "eager"])
def test_modes_give_the_same_draws(mode: Any) -> None:
    few = {**FEW, "num_warmup": 20, "num_samples": 5}
    replayed = sample(eight_schools, *SCHOOLS, **few)
    tree = sample(eight_schools, *SCHOOLS, **{**few, "mode": mode})
    np.testing.assert_allclose(draws_of(tree, "theta"), draws_of(replayed, "theta"), rtol=1e-9)
    assert tree.attrs["mode"] == {"replay": "replay", "eager": "vmap"}[mode]


class Killed(Exception):  # noqa: N818 - it is no error
    """A kill."""


def stopping(monkeypatch: pytest.MonkeyPatch, name: str, after: int, why: BaseException) -> None:
    """Have a kind of transition fail after some."""
    original: Callable[..., Any] = getattr(ChEES, name)

    def transition(self: ChEES, state: Any, t: int) -> Any:
        if t >= after:
            raise why
        return original(self, state, t)

    monkeypatch.setattr(ChEES, name, transition)


BRIEF: dict[str, Any] = {**FEW, "num_warmup": 100, "num_samples": 60}


@pytest.fixture(scope="module")
def whole() -> Any:
    """A run that nobody stopped."""
    return sample(eight_schools, *SCHOOLS, **BRIEF)


@pytest.mark.parametrize(("name", "after"), [("climb", 33), ("adapt", 71), ("draw", 37)])
def test_a_killed_run_goes_on_with_the_same_bits(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: int
) -> None:
    few = BRIEF
    with monkeypatch.context() as patch:
        stopping(patch, name, after, Killed())
        with pytest.raises(Killed):
            sample(eight_schools, *SCHOOLS, checkpoint=tmp_path, checkpoint_every=10, **few)
        assert list(tmp_path.iterdir())
    resumed = sample(eight_schools, *SCHOOLS, checkpoint=tmp_path, checkpoint_every=10, **few)
    for variable in ("mu", "tau", "theta"):
        np.testing.assert_array_equal(draws_of(resumed, variable), draws_of(whole, variable))
    for variable in whole["sample_stats"].data_vars:
        np.testing.assert_array_equal(resumed["sample_stats"][variable], whole["sample_stats"][variable])


def test_an_interrupted_run_gives_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {**FEW, "num_warmup": 100, "num_samples": 60, "checkpoint": tmp_path}
    with monkeypatch.context() as patch:
        stopping(patch, "draw", 37, KeyboardInterrupt())
        tree = sample(eight_schools, *SCHOOLS, **few)
    assert tree["posterior"].sizes["draw"] == 37
    assert tree.attrs["partial"] == 1
    assert diagnose(tree).row("complete run").verdict == "fail"
    resumed = sample(eight_schools, *SCHOOLS, **few)
    assert "partial" not in resumed.attrs
    np.testing.assert_array_equal(draws_of(resumed, "mu")[:, :37], draws_of(tree, "mu"))
    with monkeypatch.context() as patch:
        stopping(patch, "adapt", 10, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            sample(eight_schools, *SCHOOLS, **{**few, "checkpoint": None})


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    few = {**FEW, "num_warmup": 10, "num_samples": 5, "checkpoint": tmp_path}
    sample(eight_schools, *SCHOOLS, **few)
    with pytest.raises(ValueError, match="its seed is 0, expected 1"):
        sample(eight_schools, *SCHOOLS, seed=1, **few)
    sigma, y = SCHOOLS
    with pytest.raises(ValueError, match="its data is"):
        sample(eight_schools, sigma, y + 1, **few)


@pytest.mark.slow
def test_chains_that_start_on_a_slope_come_down() -> None:
    """From U(-2, 2) some chains would never move again: they climb first, and what is left is started anew."""
    torch.manual_seed(0)
    x = torch.linspace(20.0, 120.0, 100, dtype=torch.float64)
    y = 30.0 + 0.8 * x - 0.004 * x**2 + 15 * torch.randn_like(x)
    tree = sample(steep, x, y, seed=2, **{**FEW, "num_chains": 64, "num_warmup": 300})
    design = np.stack([np.ones(100), x.numpy(), x.numpy() ** 2], 1)
    exact = np.linalg.lstsq(design, y.numpy(), rcond=None)[0]  # flat priors: the posterior mean
    beta = tree["posterior"]["beta"]
    error = beta.std(["chain", "draw"]) / np.sqrt(arviz_stats.ess(beta, method="mean"))
    assert (abs(beta.mean(["chain", "draw"]).to_numpy() - exact) < 4.5 * error.to_numpy()).all()
    found = diagnose(tree)
    assert all(found.row(name).verdict == "pass" for name in ("stuck chains", "divergences", "restarts"))


def assert_schools(tree: Any) -> None:
    """Against posteriordb's reference draws, good to 0.01 sd; within 0.06 sd, and no chain apart."""
    for name, mean, sd in (("mu", 4.4105, 3.3093), ("tau", 3.6021, 3.1985)):
        draws = draws_of(tree, name)
        assert abs(draws.mean() - mean) < 0.06 * sd
        assert abs(draws.std() / sd - 1) < 0.08
        assert (abs(draws.mean(1) - mean) < 1.2 * sd).all()
    assert not tree["sample_stats"]["diverging"].to_numpy().any()


def test_eight_schools_has_no_stuck_chain() -> None:
    """One seed; twenty more are slow."""
    assert_schools(sample(eight_schools, *SCHOOLS, **{**FEW, "num_chains": 64, "num_samples": 250}))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_eight_schools_has_no_stuck_chain_in_twenty_seeds(seed: int) -> None:
    tree = sample(eight_schools, *SCHOOLS, seed=seed, mode="inductor")
    assert_schools(tree)
    found = diagnose(tree)  # leave-one-out has an influential school, which is no fault of the chains
    assert all(row.verdict in ("pass", "not applicable") for row in found.rows if not row.check.startswith("LOO"))


def test_a_funnel_is_flagged() -> None:
    tree = sample(funnel, seed=0, max_leapfrogs=64, **{**FEW, "num_warmup": 60, "num_samples": 60})
    found = diagnose(tree)
    assert not found.passed
    assert "fail" in {found.row(name).verdict for name in ("divergences", "BFMI", "R-hat", "bulk ESS")}


@pytest.mark.parametrize("backend", ["chees", "nuts"])
def test_two_modes_are_flagged(backend: Any) -> None:
    num = {"num_chains": 6, "num_samples": 30, "num_warmup": 30} if backend == "nuts" else {"num_chains": 64}
    found = diagnose(sample(two_modes, backend=backend, **{**FEW, **num}))
    assert found.row("R-hat").verdict == "fail"
    assert not found.passed


def test_statistics_are_those_of_the_draws() -> None:
    tree = sample(normal, **FEW)
    stats, z = tree["sample_stats"], torch.tensor(draws_of(tree))
    law = torch.distributions.MultivariateNormal(LOC, scale_tril=TRIL)
    np.testing.assert_allclose(stats["lp"], law.log_prob(z), rtol=1e-9)
    assert (stats["energy"].to_numpy() >= -stats["lp"].to_numpy()).all()  # kinetic energy is positive
    kinetic = stats["energy"] + stats["lp"]  # of 3 momenta: 3 / 2 in the mean, sd sqrt(3 / 2)
    assert abs(float(kinetic.mean()) - 1.5) < 0.15
    assert stats["n_steps"].dtype.kind == "i"
    assert 0.6 < float(stats["acceptance_rate"].mean()) < 1
    assert float(arviz_stats.bfmi(tree)["energy"].min()) > 0.5
    assert tree.attrs["gradient_calls"] > int(stats["n_steps"].isel(chain=0).sum())


def test_nuts_draws_from_a_normal_law() -> None:
    tree = sample(normal, backend="nuts", seed=3, mode="replay", num_samples=60, num_warmup=50, num_chains=2)
    assert_normal(tree)
    stats = tree["sample_stats"]
    law = torch.distributions.MultivariateNormal(LOC, scale_tril=TRIL)
    np.testing.assert_allclose(stats["lp"], law.log_prob(torch.tensor(draws_of(tree))), rtol=1e-9)
    assert (
        (stats["energy"] > -stats["lp"].shift(draw=1).fillna(np.inf)).to_numpy()[:, 1:].all()
    )  # a positive kinetic part
    depth, leaves = stats["tree_depth"].to_numpy(), stats["n_steps"].to_numpy()
    assert (leaves < 2**depth).all()
    assert (leaves >= 2 ** (depth - 1)).all()
    assert float(arviz_stats.bfmi(tree)["energy"].min()) > 0.3


def test_nuts_is_saved_chain_by_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few: dict[str, Any] = {"backend": "nuts", "mode": "replay", "num_samples": 5, "num_warmup": 5, "num_chains": 3}
    whole = sample(normal, **few)
    from inference.mcmc import nuts

    original, count = nuts._run_chain, 0

    def run_chain(*args: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        original(*args)

    monkeypatch.setattr(nuts, "_run_chain", run_chain)
    tree = sample(normal, checkpoint=tmp_path, **few)
    assert tree["posterior"].sizes["chain"] == 2
    assert tree.attrs["partial"] == 1
    resumed = sample(normal, checkpoint=tmp_path, **few)
    np.testing.assert_array_equal(draws_of(resumed), draws_of(whole))


def test_nutpie_draws_from_a_normal_law() -> None:
    pytest.importorskip("nutpie", reason="nutpie is an extra", exc_type=ImportError)
    tree = sample(normal, backend="nutpie", seed=1, mode="replay", num_samples=100, num_warmup=80, num_chains=2)
    assert_normal(tree)
    law = torch.distributions.MultivariateNormal(LOC, scale_tril=TRIL)
    np.testing.assert_allclose(tree["sample_stats"]["lp"], law.log_prob(torch.tensor(draws_of(tree))), rtol=1e-9)
    assert diagnose(tree).row("divergences").verdict != "fail"


def test_auto_takes_nuts_where_a_program_cannot_be_mapped_over() -> None:
    few: dict[str, Any] = {"num_samples": 20, "num_warmup": 20, "num_chains": 2}
    with pytest.warns(GraphWarning, match='backend "nuts" in the place of "chees": `model` runs one chain at a time'):
        tree = sample(branching, **few)
    assert tree.attrs["backend"] == "nuts"
    assert tree.attrs["mode"] == "loop"
    assert "mapped over" in tree.attrs["backend_reason"]
    with pytest.warns(GraphWarning, match="runs one chain at a time"):
        tree = sample(branching, backend="chees", **few)
    assert tree.attrs["backend"] == "chees"


def test_chains_begin_where_they_are_told() -> None:
    at = {"z": torch.stack([LOC + 100, LOC - 100])}
    tree = sample(normal, init=at, **{**FEW, "num_warmup": 0, "num_samples": 1, "num_chains": 2})
    assert (abs(draws_of(tree)[:, 0] - at["z"].numpy()) < 50).all()
    with pytest.raises(ValueError, match="`init` has site `y`, expected some of z"):
        sample(normal, init={"y": LOC}, **FEW)
    with pytest.raises(ValueError, match=r"site `z` is given a value of shape \(2,\), expected \(3,\)"):
        sample(normal, init={"z": LOC[:2]}, **FEW)


def nan_density() -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("fault", torch.where(z > 100, 0.0, torch.nan) * z)


def nowhere() -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("wall", torch.where(z > 50, 0.0, -torch.inf))


def without_gradient() -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("root", (z - z).sqrt())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nan_density, "fault|Unit"),
        (nowhere, "no finite density and gradient at 100 random starts: site `wall` has log probability -inf"),
        (without_gradient, "its gradient, or a Jacobian, is not finite"),
    ],
)
def test_a_density_that_is_nowhere_finite_is_refused(model: Callable[[], None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(model, **FEW)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_samples": 0}, "`num_samples` is 0, expected a whole number, at least 1"),
        ({"num_chains": 0}, "`num_chains` is 0"),
        ({"num_warmup": -1}, "`num_warmup` is -1, expected a whole number, at least 0"),
        ({"target_acceptance": 1.5}, "`target_acceptance` is 1.5, expected a number between 0 and 1"),
        ({"backend": "stan"}, '`backend` is \'stan\', expected one of "auto", "chees", "nuts", "nutpie"'),
        ({"metric": "full"}, "`metric` is 'full'"),
        ({"mode": "jit"}, "`mode` is 'jit'"),
        ({"coords": {"axis": [1]}}, "`coords` has `axis`, expected some of z_dim_0"),
        ({"dims": {"x": ["a"]}}, "`dims` has site `x`, expected some of z"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(normal, **{**FEW, "num_warmup": 10, "num_samples": 5, **wrong})


@pytest.mark.parametrize(
    "few", [{"num_chains": 1}, {"num_samples": 1}, {"num_warmup": 0}, {"num_warmup": 3}, {"dtype": torch.float32}]
)
def test_small_runs_run_and_do_not_pass_for_more(few: dict[str, Any]) -> None:
    tree = sample(normal, **{**FEW, "num_warmup": 30, "num_samples": 30, **few})
    assert np.isfinite(draws_of(tree)).all()
    assert not diagnose(tree).passed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_chains_on_a_gpu() -> None:
    sigma, y = (value.cuda() for value in SCHOOLS)
    tree = sample(eight_schools, sigma, y, num_chains=256, num_samples=250, num_warmup=250)
    assert tree.attrs["device"].startswith("cuda")
    assert_schools(tree)
