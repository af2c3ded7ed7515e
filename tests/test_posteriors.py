"""The reference posteriors of tests and benchmarks: their densities against formulas, and their names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from pyro import poutine
from scipy import special, stats
from torch import Tensor

from benchmarks.judging import judge
from benchmarks.posteriors import POSTERIORS, Posterior, folder, load, read
from inference.density import FlatDensity

Values = Mapping[str, Any]

REFERENCED = [name for name in POSTERIORS if name != "hier_logit"]
needs_folder = pytest.mark.skipif(
    not folder().is_dir(), reason="no reference posteriors: set PPMODELS_POSTERIORDB to their folder"
)
ALL = [*(pytest.param(name, marks=needs_folder) for name in REFERENCED), "hier_logit"]


# -- densities, from the data as they are on file --------------------------------------------------------------


def half_cauchy(x: Any, scale: float) -> Any:
    return stats.halfcauchy.logpdf(x, scale=scale)


def schools(v: Values) -> Any:
    data = read("eight_schools-eight_schools_noncentered.data")
    likelihood = stats.norm.logpdf(data["y"], v["mu"] + v["tau"] * v["theta_trans"], data["sigma"]).sum()
    prior = stats.norm.logpdf(v["mu"], 0, 5) + half_cauchy(v["tau"], 5) + stats.norm.logpdf(v["theta_trans"]).sum()
    return likelihood + prior


def kidscore(v: Values) -> Any:
    data = read("kidiq-kidscore_interaction.data")
    hs, iq = np.array(data["mom_hs"]), np.array(data["mom_iq"])
    mean = np.stack([np.ones_like(hs), hs, iq, hs * iq], -1) @ v["beta"]
    return stats.norm.logpdf(data["kid_score"], mean, v["sigma"]).sum() + half_cauchy(v["sigma"], 2.5)


def ar_k(v: Values) -> Any:
    data = read("arK-arK.data")
    y, K = data["y"], data["K"]
    total = stats.norm.logpdf(v["alpha"], 0, 10) + stats.norm.logpdf(v["beta"], 0, 10).sum()
    for t in range(K, len(y)):
        mean = v["alpha"] + sum(v["beta"][k] * y[t - k - 1] for k in range(K))
        total += stats.norm.logpdf(y[t], mean, v["sigma"])
    return total + half_cauchy(v["sigma"], 2.5)


def mixture(v: Values) -> Any:
    y = np.array(read("low_dim_gauss_mix-low_dim_gauss_mix.data")["y"])
    weights = np.array([v["theta"], 1 - v["theta"]])
    likelihood = np.log(weights @ stats.norm.pdf(y, v["mu"][:, None], v["sigma"][:, None])).sum()
    prior = stats.norm.logpdf(v["mu"], 0, 2).sum() + stats.halfnorm.logpdf(v["sigma"], scale=2).sum()
    return likelihood + prior + stats.beta.logpdf(v["theta"], 5, 5)


def regression(v: Values) -> Any:
    data = read("sblrc-blr.data")
    prior = stats.norm.logpdf(v["beta"], 0, 10).sum() + stats.halfnorm.logpdf(v["sigma"], scale=10)
    return stats.norm.logpdf(data["y"], np.array(data["X"]) @ v["beta"], v["sigma"]).sum() + prior


def markov(v: Values) -> Any:
    """Over all paths of states, by products of matrices; rows uniform on a simplex of area 1."""
    y = read("hmm_example-hmm_example.data")["y"]
    ahead, total = stats.norm.pdf(y[0], v["mu"]), 0.0
    for value in y[1:]:
        ahead = ahead @ v["theta"] * stats.norm.pdf(value, v["mu"])
        total, ahead = total + np.log(ahead.sum()), ahead / ahead.sum()
    return total + stats.norm.logpdf(v["mu"], [3, 10]).sum()


def hierarchical(v: Values) -> Any:
    group, x, z, y = (value.numpy() for value in load("hier_logit").args[:4])
    a, b = v["m"][0] + v["s"][0] * v["raw_a"], v["m"][1] + v["s"][1] * v["raw_b"]
    p = special.expit(a[group] + b[group] * z + x @ v["w"])
    prior = sum(stats.norm.logpdf(v[name]).sum() for name in ("m", "w", "raw_a", "raw_b"))
    return stats.bernoulli.logpmf(y, p).sum() + prior + stats.halfnorm.logpdf(v["s"]).sum()


FORMULAS: dict[str, Callable[[Values], Any]] = {
    "eight_schools": schools,
    "kidscore_interaction": kidscore,
    "arK": ar_k,
    "low_dim_gauss_mix": mixture,
    "blr": regression,
    "hmm_example": markov,
    "hier_logit": hierarchical,
}


def points(posterior: Posterior, number: int = 3) -> list[dict[str, Tensor]]:
    """Values of the latent sites at random places, half a unit around the origin of the unconstrained scale."""
    density = FlatDensity.of(posterior.model, *posterior.args)
    return [density.constrain(0.5 * torch.randn(density.dim, dtype=torch.float64)) for _ in range(number)]


@pytest.mark.parametrize("name", ALL)
def test_density(name: str) -> None:
    posterior = load(name)
    for values in points(posterior):
        trace = poutine.trace(poutine.condition(posterior.model, data=values)).get_trace(*posterior.args)
        found = trace.log_prob_sum()
        assert isinstance(found, Tensor)
        assert found.dtype == torch.float64
        expected = FORMULAS[name]({site: value.numpy() for site, value in values.items()})
        np.testing.assert_allclose(found.item(), expected, rtol=1e-9)


@needs_folder
def test_hmm_sums_over_every_path() -> None:
    """The formula and the program agree on six emissions with the sum over all 64 paths, written out."""
    posterior = load("hmm_example")
    y = posterior.args[0][:6]
    theta, mu = (torch.tensor(value, dtype=torch.float64) for value in ([[0.7, 0.3], [0.2, 0.8]], [3.0, 9.0]))
    trace = poutine.trace(poutine.condition(posterior.model, data={"theta": theta, "mu": mu})).get_trace(y)
    paths = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1)
    emitted = stats.norm.pdf(y.numpy()[:, None], mu.numpy()[paths]).prod(0)
    total = (emitted * theta.numpy()[paths[:-1], paths[1:]].prod(0)).sum()
    prior = stats.norm.logpdf(mu, [3, 10]).sum()
    np.testing.assert_allclose(float(trace.log_prob_sum()), np.log(total) + prior, rtol=1e-9)


@needs_folder
@pytest.mark.parametrize(("name", "lowest"), [("low_dim_gauss_mix", -np.inf), ("hmm_example", 0.0)])
def test_components_are_in_order(name: str, lowest: float) -> None:
    for values in points(load(name), 20):
        assert lowest < values["mu"][0] < values["mu"][1]


# -- names and moments -----------------------------------------------------------------------------------------


DIMENSIONS = zip(REFERENCED, (10, 5, 7, 5, 6, 4), strict=True)


@pytest.mark.parametrize(("name", "dim"), [pytest.param(name, dim, marks=needs_folder) for name, dim in DIMENSIONS])
def test_reference(name: str, dim: int) -> None:
    posterior = load(name)
    assert FlatDensity.of(posterior.model, *posterior.args).dim == dim
    labels = [label for labels in posterior.labels.values() for label in labels]
    assert sorted(labels) == sorted(posterior.moments())
    assert all(sd > 0 for _, sd in posterior.moments().values())


@needs_folder
def test_scalars_are_elements_of_their_site() -> None:
    posterior = load("hmm_example")
    theta, mu = np.random.default_rng(0).random((3, 4, 2, 2)), np.zeros((3, 4, 2))
    found = posterior.scalars({"theta": theta, "mu": mu})
    np.testing.assert_array_equal(found["theta2[1]"], theta[:, :, 1, 0])
    np.testing.assert_array_equal(found["theta1[2]"], theta[:, :, 0, 1])
    again = posterior.scalars({"posterior": {"theta": theta, "mu": mu}})
    assert all(np.array_equal(found[name], again[name]) for name in found)


@needs_folder
def test_judging_of_perfect_draws() -> None:
    """Independent normals at the reference's moments, 4 x 1,000; then shifted by half a standard deviation."""
    posterior, rng = load("blr"), np.random.default_rng(0)
    moments = posterior.moments()

    def draws(shift: float) -> dict[str, Any]:
        drawn = {n: mean + sd * (rng.normal(size=(4, 1000)) + shift) for n, (mean, sd) in moments.items()}
        return {site: np.stack([drawn[n] for n in names], -1) for site, names in posterior.labels.items()}

    good, shifted = (judge(posterior, draws(shift), 2.0, 0) for shift in (0.0, 0.5))
    assert 3200 < good.ess < 4800  # the least of six, whose standard deviation is about 3 %
    assert good.speed == good.ess / 2.0
    assert good.err < 4 / np.sqrt(4000)
    assert good.rhat < 1.01
    assert 0.5 - 4 / np.sqrt(4000) < shifted.err < 0.5 + 4 / np.sqrt(4000)


def test_a_missing_folder_is_said(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPMODELS_POSTERIORDB", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="set PPMODELS_POSTERIORDB to the folder that holds it"):
        load("arK")
    (tmp_path / "arK-arK.data.json").write_text(json.dumps({"K": 1, "T": 3, "y": [1, 2, 4]}))
    lags, y = load("arK").args
    assert (lags.tolist(), y.tolist()) == ([[1.0], [2.0]], [2.0, 4.0])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="`name` is 'schools', expected one of eight_schools"):
        load("schools")
