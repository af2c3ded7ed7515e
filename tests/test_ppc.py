"""Posterior predictive checks: programs that make such data pass, others fail in what they are wrong about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro import poutine
from scipy import stats
from torch import Tensor

from inference import PredictiveCheck, ppc, sample
from inference.diagnostics.ppc import STATISTICS

FEW: dict[str, Any] = {"mode": "replay", "num_chains": 8, "num_samples": 100, "num_warmup": 60, "progress": False}


def tree_of(predicted: Mapping[str, Any], observed: Mapping[str, Any]) -> xr.DataTree:
    """Predictions `(chain, draw, ...)` and data, axes numbered."""
    axes = {name: tuple(f"{name}_dim_{i}" for i in range(np.ndim(value))) for name, value in observed.items()}
    drawn = {name: (("chain", "draw", *axes[name]), np.asarray(value)) for name, value in predicted.items()}
    seen = {name: (axes[name], np.asarray(value)) for name, value in observed.items()}
    return xr.DataTree.from_dict({"posterior_predictive": xr.Dataset(drawn), "observed_data": xr.Dataset(seen)})


def verdicts(found: PredictiveCheck) -> dict[str, str]:
    return dict(zip(found.frame["statistic"], found.frame["verdict"], strict=True))


def counts(y: Tensor) -> None:
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.5))
    with pyro.plate("day", len(y)):
        pyro.sample("y", dist.Poisson(rate), obs=y)


def normals(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(10.0))
    with pyro.plate("day", len(y)):
        pyro.sample("y", dist.Normal(mu, sigma), obs=y)


def poisson(size: int = 60) -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).poisson(4.0, size).astype(float)


def test_a_right_program_passes() -> None:
    """Five or six statistics, each of which fails for fewer than one seed in 100."""
    found = ppc(sample(counts, torch.from_numpy(poisson()), **FEW))
    assert found.passed, str(found)
    assert list(found.frame["statistic"]) == list(STATISTICS)
    assert set(found.frame["variable"]) == {"y"}
    assert str(found).startswith("the data look like the program's own in 6 statistics\n")
    assert ppc(sample(normals, torch.from_numpy(np.random.default_rng(4).normal(3.0, 2.0, 60)), **FEW)).passed


def test_counts_that_vary_too_much_fail_in_their_spread() -> None:
    y = np.random.default_rng(3).negative_binomial(1, 0.2, 60).astype(float)  # mean 4, variance 20
    found = ppc(sample(counts, torch.from_numpy(y), **FEW))
    assert verdicts(found)["mean"] == "pass"  # fitted to it
    assert verdicts(found)["sd"] == verdicts(found)["largest"] == "fail"
    sd = found.frame.set_index("statistic").loc["sd"]
    assert sd["observed"] == pytest.approx(y.std())
    assert sd["predicted"] == pytest.approx(2.1, abs=0.3)
    assert sd["p_value"] == 0
    assert "sd of y" in str(found).splitlines()[0]


def test_too_many_zeros_are_noticed() -> None:
    y = poisson(100)
    y[::5] = 0.0
    found = ppc(sample(counts, torch.from_numpy(y), **FEW))
    assert verdicts(found)["share of zeros"] == "fail"
    assert verdicts(found)["mean"] == "pass"


def test_a_heavy_tail_is_noticed_at_its_end() -> None:
    y = np.random.default_rng(4).normal(3.0, 1.0, 60)
    y[7] = 12.0
    found = ppc(sample(normals, torch.from_numpy(y), **FEW))
    assert {name for name, verdict in verdicts(found).items() if verdict == "fail"} == {"largest"}
    assert "share of zeros" not in verdicts(found)  # there are none


def test_numbers_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    drawn, data = rng.normal(size=(3, 200, 4, 5)), rng.normal(size=(4, 5))
    found = ppc(tree_of({"x": drawn}, {"x": data})).frame.set_index("statistic")
    flat = drawn.reshape(600, 20)
    for name, function in (("mean", np.mean), ("sd", np.std), ("least", np.min), ("median", np.median)):
        values = function(flat, -1)
        row = found.loc[name]
        assert row["observed"] == pytest.approx(function(data))
        assert row["predicted"] == pytest.approx(values.mean())
        assert row["sd"] == pytest.approx(values.std())
        assert row["p_value"] == pytest.approx((values >= function(data)).mean())


def test_p_values_are_uniform_where_draws_and_data_are_of_one_law() -> None:
    """Of 400 data sets: a Kolmogorov-Smirnov test that fails for one seed in 1,000."""
    rng = np.random.default_rng(1)
    p = []
    for _ in range(400):
        tree = tree_of({"x": rng.normal(size=(1, 199, 10))}, {"x": rng.normal(size=10)})
        p.append(ppc(tree, {"mean": STATISTICS["mean"]}).frame["p_value"][0])
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 400))


def test_ties_count_half() -> None:
    drawn = np.repeat([0.0, 1.0, 1.0, 2.0], 25).reshape(1, 100, 1)
    for value, expected in ((0.0, 0.75 + 0.125), (1.0, 0.25 + 0.25), (2.0, 0.125), (-1.0, 1.0), (3.0, 0.0)):
        found = ppc(tree_of({"k": drawn}, {"k": [value]}), {"mean": STATISTICS["mean"]})
        assert found.frame["p_value"][0] == pytest.approx(expected)
        assert found.passed == (0 <= value <= 2)


def test_all_draws_at_the_value_of_the_data_are_no_surprise() -> None:
    """A law of one value: p = 1/2, not 1."""
    found = ppc(tree_of({"k": np.ones((2, 50, 4), dtype=int)}, {"k": np.ones(4, dtype=int)}))
    assert (found.frame["p_value"] == 0.5).all()
    assert found.passed


def test_statistics_of_ones_own() -> None:
    rng = np.random.default_rng(0)
    waves = np.sin(np.arange(50) / 3) + 0.1 * rng.normal(size=50)
    tree = tree_of({"x": rng.normal(0, 0.7, size=(2, 200, 50))}, {"x": waves})
    lag = {"lag": lambda x: ((x - x.mean(-1, keepdims=True))[:, 1:] * x[:, :-1]).mean(-1)}
    found = ppc(tree, lag)
    assert verdicts(found) == {"lag": "fail"}
    assert ppc(tree, {"mean": STATISTICS["mean"]}).passed


def test_order_is_that_of_the_data() -> None:
    """Axes may stand in any order in the tree."""
    rng = np.random.default_rng(0)
    tree = tree_of({"x": rng.normal(size=(2, 100, 3))}, {"x": [5.0, 0.0, -5.0]})
    predicted = tree["posterior_predictive"].to_dataset().transpose("x_dim_0", "draw", "chain")
    tree = xr.DataTree.from_dict(
        {"posterior_predictive": predicted, "observed_data": tree["observed_data"].to_dataset()}
    )
    found = ppc(tree, {"first": lambda x: x[:, 0], "last": lambda x: x[:, -1]})
    assert found.frame["p_value"].tolist() == [0.0, 1.0]


def test_data_and_predictions_are_matched_by_the_names_of_their_axes() -> None:
    drawn = np.zeros((1, 100, 2, 3)) + np.arange(6.0).reshape(2, 3)
    tree = tree_of({"x": drawn}, {"x": drawn[0, 0]})
    turned = tree["observed_data"].to_dataset().transpose("x_dim_1", "x_dim_0")
    tree = xr.DataTree.from_dict(
        {"posterior_predictive": tree["posterior_predictive"].to_dataset(), "observed_data": turned}
    )
    assert ppc(tree, {"second": lambda x: x[:, 1]}).passed


@pytest.mark.parametrize(
    ("statistic", "shape"),
    [(lambda x: x, r"\(300, 5\)"), (lambda x: x.mean(), r"\(\)"), (lambda x: x.mean(0), r"\(5,\)")],
)
def test_a_statistic_of_another_shape_is_refused(statistic: Any, shape: str) -> None:
    tree = tree_of({"x": np.random.default_rng(0).normal(size=(1, 300, 5))}, {"x": np.zeros(5)})
    message = rf"`statistics` has `mine`, which gives {shape} for 300 sets, expected one number each"
    with pytest.raises(ValueError, match=message):
        ppc(tree, {"mine": statistic})


@pytest.mark.parametrize("group", ["posterior_predictive", "observed_data"])
def test_a_group_that_is_missing_is_named(group: str) -> None:
    tree = tree_of({"x": np.zeros((1, 10, 5))}, {"x": np.zeros(5)})
    del tree[group]
    with pytest.raises(ValueError, match=f"`tree` has no group `{group}`, expected it: sample with `predictive=True`"):
        ppc(tree)


def test_variables_are_chosen_by_name() -> None:
    rng = np.random.default_rng(0)
    tree = tree_of({name: rng.normal(size=(1, 300, 5)) for name in "xy"}, {"x": np.zeros(5), "y": np.full(5, 9.0)})
    assert set(ppc(tree).frame["variable"]) == {"x", "y"}
    one = ppc(tree, var_names=["x"])
    assert set(one.frame["variable"]) == {"x"}
    assert verdicts(one)["mean"] == "pass"
    assert verdicts(ppc(tree, var_names=["y"]))["mean"] == "fail"
    with pytest.raises(ValueError, match="`var_names` has `z`, expected some of x, y"):
        ppc(tree, var_names=["z"])


def test_the_level_is_that_of_each_end() -> None:
    drawn = np.arange(1000.0).reshape(1, 1000, 1)
    mean = {"mean": STATISTICS["mean"]}
    for value, alpha, passes in ((979.5, 0.05, False), (979.5, 0.02, True), (19.5, 0.05, False), (40.5, 0.05, True)):
        assert ppc(tree_of({"x": drawn}, {"x": [value]}), mean, alpha=alpha).passed == passes


def test_data_that_are_not_numbers_fail() -> None:
    drawn = np.random.default_rng(0).normal(size=(1, 300, 5))
    found = ppc(tree_of({"x": drawn}, {"x": [0.0, 0.1, np.nan, -0.1, 0.2]}))
    assert not found.passed
    assert np.isnan(
        found.frame.set_index("statistic").loc[["mean", "sd", "least", "median", "largest"], "observed"]
    ).all()
    worse = drawn.copy()
    worse[0, :, 2] = np.nan
    assert not ppc(tree_of({"x": worse}, {"x": np.zeros(5)})).passed


def test_scalars_and_booleans_are_data_too() -> None:
    rng = np.random.default_rng(0)
    tree = tree_of(
        {"x": rng.normal(size=(1, 300)), "b": rng.random((1, 300, 20)) < 0.5}, {"x": 0.3, "b": rng.random(20) < 0.5}
    )
    assert ppc(tree).passed
    assert tree["observed_data"]["x"].shape == ()


def missing(y: Tensor, mask: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("day", len(y)), poutine.mask(mask=mask):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def test_masked_data_are_not_compared() -> None:
    y = torch.from_numpy(np.random.default_rng(4).normal(3.0, 1.0, 40))
    mask = torch.arange(40) % 4 > 0
    found = ppc(sample(missing, torch.where(mask, y, -99.0), mask, **FEW))
    assert found.passed, str(found)
    row = found.frame.set_index("statistic").loc["least"]
    assert row["observed"] == pytest.approx(float(y[mask].min()))


def test_a_factor_is_left_out() -> None:
    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.factor("penalty", -mu.square())
        with pyro.plate("day", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    assert set(ppc(sample(model, torch.zeros(4), **FEW)).frame["variable"]) == {"y"}


def test_html_is_escaped() -> None:
    tree = tree_of({"x": np.random.default_rng(0).normal(size=(1, 300, 5))}, {"x": np.full(5, 9.0)})
    shown = ppc(tree, {"<script>": STATISTICS["mean"]})._repr_html_()
    assert "the program does not make such data: &lt;script&gt; of x" in shown
    assert "<script>" not in shown
