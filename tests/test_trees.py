"""Trees of posteriors: what stands in them under which name, on disk and back, and what ArviZ makes of them.

Seeds are fixed; a test at 4 standard errors would fail for one seed in 16,000 for each number that it compares.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import arviz_stats
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro import poutine
from pyro.infer import HMC, MCMC, NUTS
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from scipy import special, stats
from torch import Tensor

from inference import (
    FlatDensity,
    diagnose,
    effective_sample_size,
    load_tree,
    log_weights,
    pareto_khat,
    sample,
    save_tree,
    to_datatree,
)
from inference.diagnostics.reading import Reader
from tests.oracles import LinearGaussian

FEW: dict[str, Any] = {"mode": "replay", "num_chains": 8, "num_samples": 50, "num_warmup": 50, "progress": False}
SHORT: dict[str, Any] = {**FEW, "mode": "eager", "num_chains": 2, "num_samples": 5, "num_warmup": 5}


def numbers(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(y: Any, loc: Any, scale: Any = 1.0) -> Any:
    """Log densities by SciPy."""
    return stats.norm.logpdf(np.asarray(y), np.asarray(loc), scale)


def of(tree: xr.DataTree, group: str, name: str) -> np.ndarray[Any, Any]:
    return tree[group][name].to_numpy()


# --- names


def survey(
    x: Tensor, seen: Mapping[str, Tensor], prior: tuple[Tensor, float], label: str, *, spread: Mapping[str, Tensor]
) -> None:
    """Two plates, vectors in them, data and constants in tuples and mappings, and a count on the side."""
    mu = pyro.sample("mu", dist.Normal(0.0, prior[0]))
    with pyro.plate("school", 4, dim=-2), pyro.plate("year", 3, dim=-1):
        slope = pyro.sample("slope", dist.Normal(torch.zeros(2), spread["slope"]).to_event(1))
        mean = pyro.deterministic("mean", mu + (slope * x).sum(-1))
        pyro.deterministic("twice", 2 * slope, event_dim=1)
        pyro.sample("score", dist.Normal(mean, prior[1]), obs=seen["y"])
    with pyro.plate("visit", 5):
        pyro.sample("visits", dist.Poisson(mu.exp()), obs=seen["n"])


torch_rng = torch.Generator().manual_seed(3)
SURVEY = {
    "x": torch.randn(4, 3, 2, generator=torch_rng, dtype=torch.float64),
    "y": torch.randn(4, 3, generator=torch_rng, dtype=torch.float64),
    "n": numbers(1.0, 0.0, 2.0, 1.0, 3.0),
    "slope": numbers(0.5, 2.0),
}


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return sample(
        survey,
        SURVEY["x"],
        {"y": SURVEY["y"], "n": SURVEY["n"]},
        (torch.tensor(1.5), 0.7),
        "no tensor",
        model_kwargs={"spread": {"slope": SURVEY["slope"]}},
        dims={"slope": ["side"]},
        coords={"school": ["A", "B", "C", "D"], "year": [2001, 2002, 2003], "side": ["left", "right"]},
        **FEW,
    )


def test_every_group_has_the_axes_of_the_program(tree: xr.DataTree) -> None:
    drawn = ("chain", "draw")
    latents = {
        "mu": drawn,
        "slope": (*drawn, "school", "year", "side"),
        "mean": (*drawn, "school", "year"),
        "twice": (*drawn, "school", "year", "twice_dim_0"),
    }
    data = {"score": (*drawn, "school", "year"), "visits": (*drawn, "visit")}
    assert {name: {v: group[v].dims for v in group.data_vars} for name, group in tree.children.items()} == {
        "posterior": latents,
        "log_prior": {"mu": drawn, "slope": (*drawn, "school", "year")},
        "log_likelihood": data,
        "posterior_predictive": data,
        "prior": latents,
        "prior_predictive": data,
        "observed_data": {"score": ("school", "year"), "visits": ("visit",)},
        "constant_data": {
            "x": ("school", "x_dim_1", "x_dim_2"),
            "prior_0": (),
            "spread_slope": ("spread_slope_dim_0",),
        },
        "sample_stats": dict.fromkeys(("lp", "energy", "acceptance_rate", "diverging", "n_steps", "step_size"), drawn),
    }
    assert {
        name: tuple(group.sizes[axis] for axis in drawn if axis in group.sizes) for name, group in tree.children.items()
    } == {
        **dict.fromkeys(("posterior", "log_prior", "log_likelihood", "posterior_predictive", "sample_stats"), (8, 50)),
        **dict.fromkeys(("prior", "prior_predictive"), (1, 500)),
        **dict.fromkeys(("observed_data", "constant_data"), ()),
    }


def test_labels_stand_wherever_their_axis_does(tree: xr.DataTree) -> None:
    for group in tree.children.values():
        for axis, labels in (("school", list("ABCD")), ("year", [2001, 2002, 2003]), ("side", ["left", "right"])):
            if axis in group.dims:
                assert group[axis].to_numpy().tolist() == labels
        if "visit" in group.dims:
            assert group["visit"].to_numpy().tolist() == [0, 1, 2, 3, 4]
    assert "school" in tree["constant_data"].dims
    assert float(tree["observed_data"]["score"].sel(school="C", year=2002)) == SURVEY["y"][2, 1]


def test_every_number_is_what_its_name_says(tree: xr.DataTree) -> None:
    mu, slope = of(tree, "posterior", "mu"), of(tree, "posterior", "slope")
    mean = mu[..., None, None] + (slope * SURVEY["x"].numpy()).sum(-1)
    np.testing.assert_allclose(of(tree, "posterior", "mean"), mean)
    np.testing.assert_array_equal(of(tree, "posterior", "twice"), 2 * slope)
    np.testing.assert_allclose(of(tree, "log_prior", "mu"), normal(mu, 0.0, 1.5))
    np.testing.assert_allclose(of(tree, "log_prior", "slope"), normal(slope, 0.0, SURVEY["slope"]).sum(-1))
    np.testing.assert_allclose(of(tree, "log_likelihood", "score"), normal(SURVEY["y"], mean, 0.7))
    counts = stats.poisson.logpmf(SURVEY["n"].numpy(), np.exp(mu)[..., None])
    np.testing.assert_allclose(of(tree, "log_likelihood", "visits"), counts)
    parts = [v.sum([d for d in v.dims if d not in ("chain", "draw")]) for g in ("log_prior", "log_likelihood")
             for v in tree[g].data_vars.values()]  # fmt: skip
    np.testing.assert_allclose(sum(parts), of(tree, "sample_stats", "lp"))  # no support here needs a Jacobian
    for group, name, value in (
        ("observed_data", "score", SURVEY["y"]),
        ("observed_data", "visits", SURVEY["n"]),
        ("constant_data", "x", SURVEY["x"]),
        ("constant_data", "prior_0", 1.5),
        ("constant_data", "spread_slope", SURVEY["slope"]),
    ):
        np.testing.assert_array_equal(of(tree, group, name), value)
    drawn = of(tree, "prior", "slope")
    np.testing.assert_array_equal(of(tree, "prior", "twice"), 2 * drawn)
    assert (of(tree, "posterior_predictive", "visits") % 1 == 0).all()


def test_attributes_say_what_was_run_and_what_it_cost(tree: xr.DataTree) -> None:
    attrs = tree.attrs
    assert {name: attrs[name] for name in ("inference_library", "inference_method", "backend", "mode", "metric")} == {
        "inference_library": "ppmodels",
        "inference_method": "MCMC",
        "backend": "chees",
        "mode": "replay",
        "metric": "diag",
    }
    assert (attrs["seed"], attrs["device"], attrs["dtype"]) == (0, "cpu", "float64")
    assert (attrs["num_warmup"], attrs["num_samples"]) == (50, 50)
    assert json.loads(attrs["versions"])["torch"] == torch.__version__
    assert {"python", "pyro-ppl", "arviz-stats"} <= json.loads(attrs["versions"]).keys()
    assert all(attrs[f"seconds_{part}"] >= 0 for part in ("build", "warmup", "sampling"))
    assert attrs["gradient_calls"] > int(tree["sample_stats"]["n_steps"].isel(chain=0).sum())
    assert (attrs["restarts"], json.loads(attrs["restarts_by_window"])) == (0, [0] * 5)
    assert tree["posterior"].attrs["inference_method"] == "MCMC"
    assert "omitted" not in attrs
    assert "partial" not in attrs


def line(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("day", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


THREE = numbers(1.0, 2.0, 0.5)


def test_groups_that_nobody_wants_are_left_out() -> None:
    assert set(sample(line, THREE, log_likelihood=False, predictive=False, **SHORT).children) == {
        "posterior",
        "log_prior",
        "observed_data",
        "sample_stats",
    }


def test_a_program_without_data_has_no_groups_of_them() -> None:
    def model() -> None:
        pyro.deterministic("twice", 2 * pyro.sample("z", dist.Normal(0.0, 1.0)))

    tree = sample(model, **SHORT)
    assert set(tree.children) == {"posterior", "log_prior", "prior", "sample_stats"}
    assert set(tree["prior"].data_vars) == {"z", "twice"}


def test_masked_observations_have_no_log_likelihood() -> None:
    mask = torch.tensor([True, False, True, True])
    y = numbers(1.0, -99.0, 0.5, 2.0)

    def model(y: Tensor, mask: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("day", len(y)), poutine.mask(mask=mask):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    tree = sample(model, y, mask, coords={"day": list("abcd")}, **SHORT)
    found = tree["log_likelihood"]["y"]
    assert found.dims == ("chain", "draw", "y_kept")
    assert found["y_kept"].to_numpy().tolist() == [0, 2, 3]
    mu = of(tree, "posterior", "mu")[..., None]
    np.testing.assert_allclose(found, normal(y[mask], mu))
    assert tree["posterior_predictive"]["y"].dims == ("chain", "draw", "day")
    assert of(tree, "constant_data", "mask").dtype == bool


def improper(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.ImproperUniform(dist.constraints.real, (), ()))
    with pyro.plate("day", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def test_what_cannot_be_drawn_is_left_out_with_the_reason(tmp_path: Path) -> None:
    tree = sample(improper, THREE, **SHORT)
    assert {"prior", "prior_predictive"}.isdisjoint(tree.children)
    assert {"posterior_predictive", "log_likelihood", "log_prior"} <= set(tree.children)
    assert (of(tree, "log_prior", "mu") == 0).all()
    omitted = json.loads(load_tree(save_tree(tree, tmp_path / "a.nc")).attrs["omitted"])
    assert omitted == {"prior": "ImproperUniform does not support sampling"}


def test_names_and_labels_in_the_wrong_number_are_refused() -> None:
    with pytest.raises(ValueError, match="`coords` gives `day` 2 values, expected 3: one for each"):
        sample(line, THREE, coords={"day": ["a", "b"]}, **SHORT)
    with pytest.raises(ValueError, match="`coords` has `days`, expected some of day"):
        sample(line, THREE, coords={"days": [1, 2, 3]}, **SHORT)
    with pytest.raises(ValueError, match="`dims` names 2 axes of site `mu`, expected 0 for one value"):
        sample(line, THREE, dims={"mu": ["a", "b"]}, **SHORT)


@pytest.mark.parametrize(
    "wrong", [{"coords": {"days": [1, 2, 3]}}, {"coords": {"day": [1]}}, {"dims": {"mu": ["a"]}}, {"dims": {"m": []}}]
)
def test_wrong_names_are_refused_before_anything_is_drawn(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: Any) -> None:
        raise AssertionError("it has begun to draw")

    monkeypatch.setattr("inference.mcmc.sampling._run", run)
    with pytest.raises(ValueError, match=r"`coords`|`dims`"):
        sample(line, THREE, **wrong, **SHORT)


@pytest.mark.parametrize("name", ["chain", "draw"])
def test_plates_that_are_named_as_axes_of_draws_are_refused(name: str) -> None:
    def model(y: Tensor) -> None:
        with pyro.plate(name, len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    with pytest.raises(ValueError, match=f"plate `{name}`"):
        sample(model, THREE, **SHORT)


def test_an_argument_may_have_the_name_of_its_plate() -> None:
    def model(day: Tensor, y: Tensor) -> None:
        rate = pyro.sample("rate", dist.Normal(0.0, 1.0))
        with pyro.plate("day", len(y)):
            pyro.sample("y", dist.Normal(rate * day, 1.0), obs=y)

    tree = sample(model, numbers(2.0, 3.0, 5.0), THREE, **SHORT)
    assert "constant_data" in tree.children
    np.testing.assert_array_equal(of(tree, "posterior_predictive", "y").shape, (2, 5, 3))


def test_sites_in_scopes_have_a_place() -> None:
    def model(y: Tensor) -> None:
        z = pyro.sample("encoder/z", dist.Normal(0.0, 1.0))
        with pyro.plate("day", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    assert len(sample(model, THREE, **SHORT)["posterior"].data_vars) == 1


def test_a_covariate_that_equals_the_data_is_a_constant() -> None:
    def model(x: Tensor, y: Tensor) -> None:
        rate = pyro.sample("rate", dist.Normal(0.0, 1.0))
        with pyro.plate("day", len(y)):
            pyro.sample("y", dist.Normal(rate * x, 1.0), obs=y)

    assert "x" in sample(model, THREE, THREE.clone(), **SHORT)["constant_data"]


# --- on disk

SUFFIXES = (
    ".nc",
    pytest.param(".zarr", marks=pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:The data type:Warning")),
)


def needs(suffix: str) -> str:
    if suffix == ".zarr":
        pytest.importorskip("zarr", reason="zarr is an extra")
    return suffix


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_tree_survives_the_disk(tree: xr.DataTree, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / f"posterior{needs(suffix)}"
    assert save_tree(tree, str(path)) == path
    found = load_tree(path)
    xr.testing.assert_identical(found, tree)
    assert set(found.children) == set(tree.children)
    for name, group in tree.children.items():
        for variable in group.variables:
            kind = found[name][variable].dtype.kind
            assert kind == group[variable].dtype.kind, (name, variable)
    assert found["sample_stats"]["diverging"].dtype == bool
    assert found.attrs == tree.attrs
    before, after = (diagnose(one).parameters.sort_index() for one in (tree, found))
    assert after.equals(before)
    path.unlink() if suffix == ".nc" else shutil.rmtree(path)  # what was read does not hang on the file
    np.testing.assert_array_equal(found["posterior"]["mu"], tree["posterior"]["mu"])


def test_zarr_is_written_and_read_without_warnings(tree: xr.DataTree, tmp_path: Path) -> None:
    found = load_tree(save_tree(tree, tmp_path / f"a{needs('.zarr')}"))
    xr.testing.assert_identical(found, tree)
    assert set(found["posterior"].data_vars) == set(tree["posterior"].data_vars)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_later_tree_takes_the_place_of_an_earlier_one(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{needs(suffix)}"
    for value in (1.0, 2.0):
        save_tree(xr.DataTree.from_dict({"posterior": xr.Dataset({f"mu{value:.0f}": ("draw", [value])})}), path)
    assert list(load_tree(path)["posterior"].data_vars) == ["mu2"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_write_that_fails_leaves_what_was_there(
    tree: xr.DataTree, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_tree(tree, tmp_path / f"a{needs(suffix)}")

    def half(self: xr.DataTree, written: Path, **options: Any) -> None:
        if suffix == ".nc":
            Path(written).write_bytes(b"half")
        else:
            (Path(written) / "posterior").mkdir(parents=True)
        raise OSError("the disk is full")

    for name in ("to_netcdf", "to_zarr"):
        monkeypatch.setattr(xr.DataTree, name, half)
    for target in (path, tmp_path / f"b{suffix}"):
        with pytest.raises(OSError, match="the disk is full"):
            save_tree(tree, target)
    assert list(tmp_path.iterdir()) == [path]
    xr.testing.assert_identical(load_tree(path), tree)


def test_a_folder_that_cannot_be_put_in_its_place_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(".zarr")
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"mu": ("draw", [1.0])})})
    path, move, count = save_tree(tree, tmp_path / "a.zarr"), shutil.move, 0

    def second_fails(source: Any, target: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise OSError("the disk is gone")
        return move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "move", second_fails)
        with pytest.raises(OSError, match="the disk is gone"):
            save_tree(tree, path)
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("there_is_none.nc", "is not there: expected a tree that `save_tree` wrote"),
        ("there_is_none.zarr", "is not there"),
        ("posterior.csv", r"expected a name that ends in \.nc or \.zarr"),
        ("text.nc", r"text\.nc is no nc tree that can be read \("),
        ("empty.nc", r"empty\.nc is no nc tree that can be read \("),
        ("text.zarr", r"text\.zarr is no zarr tree that can be read \("),
    ],
)
def test_what_is_no_tree_is_refused(name: str, message: str, tmp_path: Path) -> None:
    needs(Path(name).suffix)
    (tmp_path / "text.nc").write_text("mu,tau\n1.0,2.0\n")
    (tmp_path / "empty.nc").touch()
    (tmp_path / "text.zarr").write_text("mu,tau\n1.0,2.0\n")
    with pytest.raises(ValueError, match=message):
        load_tree(tmp_path / name)
    with pytest.raises(ValueError, match=r"expected a name that ends in \.nc or \.zarr"):
        save_tree(xr.DataTree(), tmp_path / "posterior.csv")


# --- ArviZ


class Conjugate(NamedTuple):
    """mu ~ N(0, s^2), y_i ~ N(mu, 1)."""

    y: Tensor
    s: float = 2.0

    def model(self, y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, self.s))
        with pyro.plate("day", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    def leave_one_out(self) -> Any:
        """log p(y_i | y_-i)."""
        precision = len(self.y) - 1 + self.s**-2
        loc = (self.y.sum() - self.y) / precision
        return normal(self.y, loc, math.sqrt(1 + 1 / precision))


CONJUGATE = Conjugate(1.0 + torch.randn(12, generator=torch_rng, dtype=torch.float64))


@pytest.fixture(scope="module")
def conjugate() -> xr.DataTree:
    return sample(CONJUGATE.model, CONJUGATE.y, **{**FEW, "num_chains": 32, "num_samples": 100, "num_warmup": 100})


def test_loo_is_that_of_leaving_one_out(conjugate: xr.DataTree) -> None:
    """Its 12 terms within 4 standard errors of importance sampling from the whole posterior, by the delta method."""
    found = arviz_stats.loo(conjugate, pointwise=True)
    log_ratio = -of(conjugate, "log_likelihood", "y")
    ratio = np.exp(log_ratio - log_ratio.max((0, 1)))
    error = ratio.std((0, 1)) / ratio.mean((0, 1)) / np.sqrt(arviz_stats.ess(ratio, method="mean"))
    exact = CONJUGATE.leave_one_out()
    assert (abs(found.elpd_i.to_numpy() - exact) < 4 * error).all()
    assert error.max() < 0.05
    assert found.elpd == pytest.approx(exact.sum(), abs=4 * error.sum())
    assert (found.pareto_k.to_numpy() < 0.7).all()
    assert diagnose(conjugate).row("LOO k-hat of y").verdict == "pass"


@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # ArviZ's use of pandas
def test_programs_are_compared_by_what_they_predict(conjugate: xr.DataTree) -> None:
    wrong = sample(Conjugate(CONJUGATE.y, s=0.05).model, CONJUGATE.y, **{**FEW, "num_chains": 16})
    found = arviz_stats.compare({"wrong": wrong, "right": conjugate})
    assert list(found.index) == ["right", "wrong"]
    assert found["rank"].tolist() == [0, 1]


def test_arviz_takes_trees_as_they_are(tree: xr.DataTree) -> None:
    table = diagnose(tree).parameters
    assert float(arviz_stats.rhat(tree)["mu"]) == pytest.approx(table.loc["mu", "r_hat"])
    label = "slope[A, 2002, right]"
    one = {"school": "A", "year": 2002, "side": "right"}
    assert float(arviz_stats.ess(tree)["slope"].sel(one)) == pytest.approx(table.loc[label, "ess_bulk"])
    assert float(arviz_stats.mcse(tree)["slope"].sel(one)) == pytest.approx(table.loc[label, "mcse_mean"])
    assert arviz_stats.bfmi(tree)["energy"].shape == (8,)
    summary = arviz_stats.summary(tree, round_to="none")
    assert summary.loc[label, "mean"] == pytest.approx(float(tree["posterior"]["slope"].sel(one).mean()))
    assert np.isfinite(arviz_stats.loo(tree, var_name="visits").elpd)


def test_power_scaling_tells_a_prior_that_the_data_contradict(conjugate: xr.DataTree) -> None:
    """mu given y is normal, so scaling the prior by a moves its mean to sum(y) / (n + a / s^2)."""
    weak = arviz_stats.psense_summary(conjugate)
    far = sample(Conjugate(CONJUGATE.y + 3, s=0.3).model, CONJUGATE.y + 3, **{**FEW, "num_chains": 32})
    strong = arviz_stats.psense_summary(far)
    assert float(weak.loc["mu", "prior"]) < 0.05 < float(weak.loc["mu", "likelihood"])
    assert weak.loc["mu", "diagnosis"] in ("-", "✓")
    assert float(strong.loc["mu", "prior"]) > 0.05
    assert "conflict" in strong.loc["mu", "diagnosis"]


# --- predictions: draws under `vmap` have the right law


class Law(NamedTuple):
    """A law, and functions of a draw `(S, ...)` whose means `(k,)` are known."""

    fn: Callable[[], Any]
    moments: Callable[[Tensor], Tensor]
    means: Any
    num_draws: int = 4000


def powers(y: Tensor) -> Tensor:
    return torch.stack([y, y.square()], -1)


def products(y: Tensor) -> Tensor:
    return torch.cat([y, (y.unsqueeze(-1) * y.unsqueeze(-2)).flatten(-2)], -1)


def of_vector(loc: Any, cov: Any) -> Any:
    loc = np.asarray(loc)
    return np.concatenate([loc, (np.asarray(cov) + np.outer(loc, loc)).ravel()])


P = np.array([0.2, 0.3, 0.5])
ALPHA = np.array([1.0, 2.0, 3.0])
SHARES = ALPHA / 6
COV = np.array([[2.0, 0.8], [0.8, 1.0]])

LAWS = {
    "normal": Law(lambda: dist.Normal(1.0, 2.0), powers, [1, 5]),
    "student": Law(lambda: dist.StudentT(9.0, 1.0, 2.0), powers, [1, 1 + 4 * 9 / 7]),
    "poisson": Law(lambda: dist.Poisson(3.0), powers, [3, 12]),
    "binomial": Law(lambda: dist.Binomial(10, torch.tensor(0.3)), powers, [3, 2.1 + 9], 1000),
    "beta": Law(lambda: dist.Beta(2.0, 3.0), powers, [0.4, 0.2]),
    "dirichlet": Law(
        lambda: dist.Dirichlet(torch.from_numpy(ALPHA)),
        products,
        of_vector(SHARES, (np.diag(SHARES) - np.outer(SHARES, SHARES)) / 7),
    ),
    "multinomial": Law(
        lambda: dist.Multinomial(7, torch.from_numpy(P)),
        products,
        of_vector(7 * P, 7 * (np.diag(P) - np.outer(P, P))),
        1000,
    ),
    "categorical": Law(
        lambda: dist.Categorical(torch.from_numpy(P)), lambda y: (y.unsqueeze(-1) == torch.arange(3)).double(), P
    ),
    "vector": Law(
        lambda: dist.MultivariateNormal(numbers(1.0, -2.0), torch.from_numpy(COV)),
        products,
        of_vector([1.0, -2.0], COV),
    ),
    "gamma": Law(lambda: dist.Gamma(2.0, 1.5), powers, [2 / 1.5, 6 / 2.25]),
    "cauchy": Law(  # its quartiles are a scale from its median, its octiles 1 + sqrt(2)
        lambda: dist.Cauchy(1.0, 2.0),
        lambda y: ((y.unsqueeze(-1) - 1) / 2 < numbers(-1 - math.sqrt(2), -1.0, 0.0, 1.0, 1 + math.sqrt(2))).double(),
        [1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8],
    ),
    "exponential": Law(lambda: dist.Exponential(2.0), powers, [0.5, 0.5]),
    "uniform": Law(lambda: dist.Uniform(-1.0, 3.0), powers, [1, 1 + 16 / 12]),
    "angle": Law(
        lambda: dist.VonMises(0.5, 3.0),
        lambda y: torch.stack([(y - 0.5).cos(), (y - 0.5).sin(), (2 * (y - 0.5)).cos()], -1),
        [special.iv(1, 3.0) / special.iv(0, 3.0), 0, special.iv(2, 3.0) / special.iv(0, 3.0)],
        500,
    ),
}  # fmt: skip


def z_scores(found: Tensor, means: Any) -> Tensor:
    """Of `(S, k)`: how many standard errors the means are off."""
    found = found.double()
    error: Tensor = found.std(0) / math.sqrt(len(found))
    off = found.mean(0) - torch.as_tensor(np.asarray(means, dtype=float))
    return off / error.clamp(min=1e-12)


def law_reader(name: str) -> Reader:
    law = LAWS[name].fn
    value = torch.stack([law().sample()] * 2)  # beside the point, but in the support

    def model() -> None:
        pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("twice", 2):
            pyro.sample("y", law(), obs=value)

    return Reader(FlatDensity.of(model), {})


@pytest.mark.parametrize("name", LAWS)
def test_data_are_drawn_from_their_laws(name: str) -> None:
    """About 100 comparisons over all laws."""
    law, reader = LAWS[name], law_reader(name)
    found = reader.prior(law.num_draws, (), seed=1)["y"]  # (S, 2, ...)
    for y in found.unbind(1):
        assert (z_scores(law.moments(y.double()), law.means).abs() < 4).all()
    one, other = (law.moments(y.double()) for y in found.unbind(1))
    both = (one - torch.as_tensor(np.asarray(law.means))) * (other - torch.as_tensor(np.asarray(law.means)))
    assert (z_scores(both, np.zeros(both.shape[1])).abs() < 4).all()  # elements of a plate are independent
    few = [reader.prior(20, (), seed=seed)["y"] for seed in (1, 1, 2)]
    assert torch.equal(few[0], few[1])
    assert not torch.equal(few[0], few[2])
    assert len(few[0].unique(dim=0)) > 2
    if name not in ("poisson", "binomial", "multinomial", "categorical"):
        assert len(few[0].unique(dim=0)) == 20


class Given(NamedTuple):
    """A law whose parameter is a latent a, another in every row, with the mean and sd of a draw given it."""

    fn: Callable[[Tensor], Any]
    mean: Callable[[Tensor], Tensor]
    sd: Callable[[Tensor], Tensor]
    read: Callable[[Tensor], Tensor] = lambda y: y
    num_draws: int = 4000


def angle_moments(kappa: Tensor) -> tuple[Tensor, Tensor]:
    k = kappa.numpy()
    first, second = (torch.from_numpy(special.ive(i, k) / special.ive(0, k)) for i in (1, 2))
    return first, ((1 + second) / 2 - first.square()).sqrt()


GIVEN = {
    "normal": Given(lambda a: dist.Normal(a, a.exp()), lambda a: a, lambda a: a.exp()),
    "student": Given(lambda a: dist.StudentT(9.0, a, 2.0), lambda a: a, lambda a: (2 * math.sqrt(9 / 7)) + 0 * a),
    "poisson": Given(lambda a: dist.Poisson(a.exp()), lambda a: a.exp(), lambda a: (a / 2).exp()),
    "binomial": Given(
        lambda a: dist.Binomial(10, a.sigmoid()),
        lambda a: 10 * a.sigmoid(),
        lambda a: (10 * a.sigmoid() * (-a).sigmoid()).sqrt(),
        num_draws=1000,
    ),
    "beta": Given(
        lambda a: dist.Beta(4 * a.sigmoid(), 4 * (-a).sigmoid()),
        lambda a: a.sigmoid(),
        lambda a: (a.sigmoid() * (-a).sigmoid() / 5).sqrt(),
    ),
    "dirichlet": Given(
        lambda a: dist.Dirichlet(torch.stack([4 * a.sigmoid(), 2 * (-a).sigmoid(), 2 * (-a).sigmoid()])),
        lambda a: a.sigmoid(),
        lambda a: (a.sigmoid() * (-a).sigmoid() / 5).sqrt(),
        lambda y: y[..., 0],
    ),
    "multinomial": Given(
        lambda a: dist.Multinomial(7, torch.stack([a.sigmoid(), (-a).sigmoid() / 2, (-a).sigmoid() / 2])),
        lambda a: 7 * a.sigmoid(),
        lambda a: (7 * a.sigmoid() * (-a).sigmoid()).sqrt(),
        lambda y: y[..., 0],
        num_draws=1000,
    ),
    "categorical": Given(
        lambda a: dist.Categorical(torch.stack([(-a).sigmoid() / 2, a.sigmoid(), (-a).sigmoid() / 2])),
        lambda a: a.sigmoid(),
        lambda a: (a.sigmoid() * (-a).sigmoid()).sqrt(),
        lambda y: (y == 1).double(),
    ),
    "vector": Given(
        lambda a: dist.MultivariateNormal(torch.stack([a, -a]), a.exp() * torch.from_numpy(COV)),
        lambda a: 2 * a,
        lambda a: (a.exp() * (COV[0, 0] + COV[1, 1] - 2 * COV[0, 1])).sqrt(),
        lambda y: y[..., 0] - y[..., 1],
    ),
    "gamma": Given(lambda a: dist.Gamma(2.0, a.exp()), lambda a: 2 / a.exp(), lambda a: math.sqrt(2) / a.exp()),
    "cauchy": Given(lambda a: dist.Cauchy(a, 1.0), lambda a: 0.75 + 0 * a, lambda a: math.sqrt(3 / 16) + 0 * a),
    "angle": Given(
        lambda a: dist.VonMises(torch.zeros_like(a), a.exp()),
        lambda a: angle_moments(a.exp())[0],
        lambda a: angle_moments(a.exp())[1],
        torch.cos,
        num_draws=500,
    ),
}


@pytest.mark.parametrize("name", GIVEN)
def test_predictions_follow_the_latents_of_their_own_draw(name: str) -> None:
    """Standardised by their own mean and sd, they have mean 0 and variance 1, and nothing in common with the latent."""
    given = GIVEN[name]

    value = given.fn(numbers(0.0)[0]).sample()

    def model() -> None:
        pyro.sample("y", given.fn(pyro.sample("a", dist.Normal(0.0, 1.0))), obs=value)

    reader = Reader(FlatDensity.of(model), {})
    a = torch.randn(given.num_draws, dtype=torch.float64)
    y = reader.read("posterior_predictive", {"a": a}, (), seed=2)["y"].double()
    y = (y < (a + 1)).double() if name == "cauchy" else given.read(y)
    u = (y - given.mean(a)) / given.sd(a)
    found = torch.stack([u, u.square(), u * a, u * a.square()], -1)
    assert (z_scores(found, [0, 1, 0, 0]).abs() < 4).all()


def laws() -> None:
    """One of each, so that every draw in place is met."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("b", dist.Beta(2.0, 3.0))
    pyro.sample("d", dist.Dirichlet(torch.ones(3)))
    pyro.sample("c", dist.Cauchy(0.0, 1.0))
    pyro.sample("e", dist.Exponential(1.0))
    pyro.sample("y", dist.StudentT(5.0, a, 1.0), obs=numbers(0.5)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_outside_changes(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    pyro.set_rng_seed(5)

    def outside() -> tuple[Any, ...]:
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002 - Pyro seeds it
            torch.get_default_dtype(),
            torch.distributions.Distribution._validate_args,
            pyro.poutine.util.is_validation_enabled(),
            pyro.infer.util.is_validation_enabled(),
            torch.is_grad_enabled(),
            sorted(pyro.get_param_store().keys()),
            torch.distributions.Multinomial.sample,
        )

    with pyro.validation_enabled(dtype == torch.float64):
        before = outside()
        tree = sample(laws, **SHORT)
        assert outside() == before
    assert of(tree, "prior", "d").shape == (1, 500, 3)
    assert of(tree, "prior", "c").dtype == np.float64


def test_seeds_are_those_of_everything() -> None:
    first, again, other = (sample(laws, seed=seed, **SHORT) for seed in (0, 0, 1))
    for group in ("posterior", "posterior_predictive", "prior", "prior_predictive"):
        for name in first[group].data_vars:
            np.testing.assert_array_equal(of(first, group, name), of(again, group, name))
            assert (of(first, group, name) != of(other, group, name)).any()
    u = special.ndtri(stats.t.cdf(of(first, "prior_predictive", "y") - of(first, "prior", "a"), 5))
    assert abs(np.corrcoef(u.ravel(), of(first, "prior", "a").ravel())[0, 1]) < 4 / math.sqrt(500)


# --- Pyro's own sampler


def two(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    pyro.deterministic("twice", 2 * mu)
    with pyro.plate("day", len(y)):
        pyro.sample("y", dist.Normal(mu, sigma), obs=y)


def run(kernel: Any, *args: Any, num_chains: int = 1, num_samples: int = 20, **options: Any) -> MCMC:
    pyro.set_rng_seed(0)
    keys = {key: options.pop(key) for key in ("y",) if key in options}
    mcmc = MCMC(kernel, num_samples, 20, num_chains=num_chains, disable_progbar=True, **options)
    mcmc.run(*args, **keys)
    return mcmc


@pytest.mark.usefixtures("double")
def test_a_run_of_nuts_becomes_a_tree() -> None:
    mcmc = run(NUTS(two), THREE)
    tree = to_datatree(mcmc, coords={"day": list("abc")})
    for name, value in mcmc.get_samples(group_by_chain=True).items():
        np.testing.assert_array_equal(of(tree, "posterior", name), value)
    mu, sigma = of(tree, "posterior", "mu"), of(tree, "posterior", "sigma")
    np.testing.assert_array_equal(of(tree, "posterior", "twice"), 2 * mu)
    np.testing.assert_allclose(of(tree, "log_prior", "sigma"), stats.halfnorm.logpdf(sigma))
    np.testing.assert_allclose(of(tree, "log_likelihood", "y"), normal(THREE, mu[..., None], sigma[..., None]))
    assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "day")
    assert tree["posterior_predictive"]["day"].to_numpy().tolist() == list("abc")
    assert {name: tree.attrs[name] for name in ("inference_method", "backend", "num_warmup", "num_samples")} == {
        "inference_method": "MCMC",
        "backend": "pyro NUTS",
        "num_warmup": 20,
        "num_samples": 20,
    }
    assert tree["sample_stats"]["diverging"].dtype == bool
    found = diagnose(tree)
    assert found.row("R-hat").verdict in ("unknown", "fail")  # one chain
    assert found.row("divergences").verdict != "unknown"
    assert found.row("LOO k-hat of y").verdict != "not applicable"


@pytest.mark.usefixtures("double")
def test_chains_of_hmc_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.multiprocessing.cpu_count", lambda: 1)  # one after another, wherever this runs
    with pytest.warns(UserWarning, match="num_chains"):
        mcmc = run(HMC(two, num_steps=3), y=THREE, num_chains=2)
    tree = to_datatree(mcmc)
    assert dict(tree["posterior"].sizes) == {"chain": 2, "draw": 20}
    np.testing.assert_array_equal(of(tree, "posterior", "mu"), mcmc.get_samples(group_by_chain=True)["mu"])
    assert tree.attrs["backend"] == "pyro HMC"
    assert set(tree["observed_data"].data_vars) == {"y"}  # given by name


def test_divergences_are_where_they_were() -> None:
    def funnel() -> None:
        v = pyro.sample("v", dist.Normal(0.0, 3.0))
        with pyro.plate("i", 9):
            pyro.sample("x", dist.Normal(0.0, (v / 2).exp()))

    mcmc = run(NUTS(funnel, step_size=1.0, adapt_step_size=False), num_samples=60)
    tree = to_datatree(mcmc)
    where = mcmc.diagnostics()["divergences"]["chain 0"]
    assert 0 < len(where) < 60
    assert np.flatnonzero(of(tree, "sample_stats", "diverging")[0]).tolist() == where
    assert diagnose(tree).row("divergences").value == len(where)
    assert of(tree, "posterior", "x").dtype == np.float32  # as it was run


def test_runs_that_say_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="`source` has no draws: call its `run` first"):
        to_datatree(MCMC(NUTS(two), 5))
    place = {"z": torch.zeros(2)}
    potential = run(NUTS(potential_fn=lambda z: z["z"].square().sum() / 2), initial_params=place)
    with pytest.raises(ValueError, match="was run on a potential function, which names no sites"):
        to_datatree(potential)
    with pytest.raises(ValueError, match="`guide` and `x` are given with a run of MCMC"):
        to_datatree(potential, x=THREE)
    with pytest.raises(ValueError, match=r"`guide` is missing: expected a `pyro.infer.MCMC` that has run, or a model"):
        to_datatree(two)
    with pytest.raises(ValueError, match="`x` is missing"):
        to_datatree(two, two)
    with pytest.raises(ValueError, match="`num_samples` is 0, expected at least 1"):
        to_datatree(two, two, THREE, num_samples=0)


def test_no_particles_are_too_few() -> None:
    with pytest.raises(ValueError, match="`num_particles` is 0"):
        to_datatree(two, two_guide, THREE.float(), num_particles=0)


def two_guide(y: Tensor) -> None:
    pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("sigma", dist.LogNormal(0.0, 1.0))


def test_a_run_that_did_not_keep_every_site_is_refused() -> None:
    mcmc = run(NUTS(two), THREE.float(), save_params=["mu"])
    with pytest.raises(ValueError, match="sigma"):
        to_datatree(mcmc)


def test_a_run_of_three_draws_becomes_a_tree() -> None:
    assert to_datatree(run(NUTS(two), THREE.float(), num_samples=3))["posterior"].sizes["draw"] == 3


# --- guides


class Crossed:
    """Per datum: z in a plate of two left of the data's, a vector w, and x_g ~ N(z_g + w_1 + w_2, s^2)."""

    s = 0.5

    def __init__(self, n: int, shift: float, spread: float) -> None:
        self.x = torch.randn(n, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        self.shift, self.spread = shift, spread
        A = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
        self.cov = (torch.eye(4) + A.T @ A / self.s**2).inverse()
        self.loc = self.x @ A @ self.cov / self.s**2  # (n, 4): z_1, z_2, w_1, w_2

    def model(self, x: Tensor) -> None:
        data = pyro.plate("data", len(x), dim=-1)
        with data:
            w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))  # (n, 2)
        with pyro.plate("group", 2, dim=-2), data:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))  # (2, n)
            pyro.sample("x", dist.Normal(z + w.sum(-1), self.s), obs=x.T)

    def guide(self, x: Tensor) -> None:
        """The posterior's own factors of z given w, moved and stretched."""
        data = pyro.plate("data", len(x), dim=-1)
        cov = self.spread**2 * self.cov
        with data:
            w = pyro.sample("w", dist.MultivariateNormal(self.loc[: len(x), 2:] + self.shift, cov[2:, 2:]))
        gain = cov[:2, 2:] @ cov[2:, 2:].inverse()
        away = w - self.loc[: len(x), 2:]  # (n, 2), or (K, 1, n, 2)
        mean = self.loc[: len(x), :2] + (away if away.dim() == 2 else away.squeeze(-3)) @ gain.T + self.shift
        rest = cov[:2, :2] - gain @ cov[2:, :2]
        with pyro.plate("group", 2, dim=-2), data:
            pyro.sample("z", dist.Normal(mean.mT, rest.diagonal().sqrt().unsqueeze(-1)))  # (2, n)


@pytest.mark.usefixtures("double")
def test_resampling_corrects_an_amortised_guide() -> None:
    """Means of two latents of every datum, each in its place, within 4 standard errors of the exact posterior's."""
    pair = Crossed(6, shift=0.2, spread=1.3)
    tree = to_datatree(pair.model, pair.guide, pair.x, num_particles=8000, num_samples=1000)
    posterior = tree["posterior"]
    assert posterior["z"].dims == ("chain", "draw", "group", "data")
    assert posterior["w"].dims == ("chain", "draw", "data", "w_dim_0")
    assert tree["sample_stats"]["khat"].dims == ("data",)
    assert tree["log_likelihood"]["x"].dims == ("chain", "draw", "group", "data")
    means = np.concatenate([posterior["z"].mean(["chain", "draw"]).T, posterior["w"].mean(["chain", "draw"])], -1)
    ess = effective_sample_size(log_weights(pair.model, pair.guide, pair.x, 8000).log_w)
    error = (pair.cov.diagonal() * (1 / ess + 1 / 1000).unsqueeze(-1)).sqrt().numpy()
    assert (abs(means - pair.loc.numpy()) < 4 * error).all()
    assert error.max() < 0.05
    z, w = of(tree, "posterior", "z")[0], of(tree, "posterior", "w")[0]  # latents of one particle stay together
    found = np.stack([np.cov(z[:, 0, i], w[:, i, 1])[0, 1] for i in range(6)])
    sd = math.sqrt((pair.cov[0, 3] ** 2 + pair.cov[0, 0] * pair.cov[3, 3]) * float(1 / ess.min() + 1 / 1000))
    assert (abs(found - float(pair.cov[0, 3])) < 4 * sd).all()
    loc = z + w.sum(-1)[:, None]
    np.testing.assert_allclose(of(tree, "log_likelihood", "x")[0], normal(pair.x.T, loc, pair.s))
    assert (tree.attrs["inference_method"], tree.attrs["num_particles"], tree.attrs["num_samples"]) == (
        "IS",
        8000,
        1000,
    )


@pytest.mark.usefixtures("double")
def test_draws_of_a_guide_are_the_guides() -> None:
    pair = Crossed(4, shift=0.2, spread=1.3)
    tree = to_datatree(pair.model, pair.guide, pair.x, num_samples=2000)
    w = of(tree, "posterior", "w")[0]
    error = 1.3 * np.sqrt(pair.cov[2:, 2:].diagonal().numpy() / 2000)
    assert (abs(w.mean(0) - pair.loc[:, 2:].numpy() - 0.2) < 4 * error).all()
    assert tree.attrs["inference_method"] == tree["posterior"].attrs["inference_method"] == "VI"
    assert tree.attrs["backend"] == "guide"
    again, other = (to_datatree(pair.model, pair.guide, pair.x, num_samples=50, seed=seed) for seed in (0, 1))
    assert (of(again, "posterior", "w") != of(other, "posterior", "w")).any()


@pytest.mark.usefixtures("double")
def test_khat_of_every_datum_is_that_of_its_weights() -> None:
    """Of a guide too narrow in half of the data: other draws of the same weights, the mean difference over 40 data."""
    toy = LinearGaussian.make()
    x = toy.data(80)
    narrow = torch.where(torch.arange(80) < 40, 0.3, 1.2)

    def guide(x: Tensor) -> None:
        mean, cov = toy.posterior(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(mean, cov * narrow.square().reshape(-1, 1, 1)))

    tree = to_datatree(toy.model, guide, x, num_samples=2000, predictive=False)
    khat = torch.from_numpy(of(tree, "sample_stats", "khat"))
    torch.manual_seed(1)
    other = pareto_khat(log_weights(toy.model, guide, x, 2000).log_w)
    for half in (slice(0, 40), slice(40, 80)):
        difference = (khat - other)[half]
        assert abs(float(difference.mean())) < 4 * float(difference.std()) / math.sqrt(40)
    assert khat[:40].median() > 0.7 > 0.5 > khat[40:].max()
    found = diagnose(tree)
    assert found.method == "VI"
    row = found.row("k-hat")
    assert (row.verdict, row.of) == ("fail", 80)
    assert row.where in {f"data {i}" for i in range(40)}
    assert row.value == pytest.approx(float(khat.max()))
    for check in ("R-hat", "bulk ESS", "BFMI", "divergences"):
        assert found.row(check).verdict == "not applicable"
    with pytest.raises(ValueError, match="`rhat` was given, but the draws are of VI"):
        diagnose(tree, rhat=1.01)


def regression(y: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
    with pyro.plate("day", len(y)):
        pyro.sample("y", dist.Normal(mu + slope * torch.linspace(0.0, 1.0, len(y)), 0.5), obs=y)


def counts(y: Tensor) -> None:
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    with pyro.plate("day", len(y)):
        pyro.sample("y", dist.Poisson(rate), obs=y)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("make", [AutoNormal, AutoMultivariateNormal])
def test_resampling_corrects_an_automatic_guide(make: Any) -> None:
    """Latents of no single datum are weighed together: a regression, exactly, before any fit."""
    y = numbers(0.2, 0.9, 0.4, 1.5)
    guide = make(regression, init_loc_fn=pyro.infer.autoguide.init_to_median, init_scale=1.5)
    guide(y)
    tree = to_datatree(regression, guide, y, num_particles=20_000, num_samples=2000)
    design = np.stack([np.ones(4), np.linspace(0.0, 1.0, 4)], 1)
    cov = np.linalg.inv(design.T @ design / 0.25 + np.diag([1.0, 0.25]))
    loc = cov @ design.T @ y.numpy() / 0.25
    khat = tree["sample_stats"]["khat"]
    assert khat.dims == ()
    assert float(khat) < 0.7
    ess = float(effective_sample_size(log_weights(regression, guide, y, 20_000, joint=True).log_w.detach()))
    for name, exact, sd in zip(("mu", "slope"), loc, np.sqrt(cov.diagonal()), strict=True):
        assert abs(float(tree["posterior"][name].mean()) - exact) < 4 * sd * math.sqrt(1 / ess + 1 / 2000)
    assert tree.attrs["backend"] == make.__name__
    assert diagnose(tree).row("k-hat").verdict == "pass"


@pytest.mark.usefixtures("double")
def test_resampling_reckons_with_the_support() -> None:
    """rate | y ~ Gamma(2 + sum y, 1 + n), from a guide that is log-normal."""
    y = numbers(3.0, 1.0, 2.0)
    guide = AutoNormal(counts, init_scale=0.5)
    guide(y)
    tree = to_datatree(counts, guide, y, num_particles=10_000, num_samples=2000)
    ess = float(effective_sample_size(log_weights(counts, guide, y, 10_000, joint=True).log_w.detach()))
    rate = of(tree, "posterior", "rate")
    error = math.sqrt(8) / 4 * math.sqrt(1 / ess + 1 / 2000)
    assert abs(rate.mean() - 2) < 4 * error
    assert abs((rate**2).mean() - 4.5) < 4 * math.sqrt(1 / ess + 1 / 2000) * math.sqrt(8 * 9 * (10 * 11 - 8 * 9)) / 16
    np.testing.assert_allclose(of(tree, "log_prior", "rate"), stats.gamma.logpdf(rate, 2.0))


def test_a_point_is_not_passed_for_a_posterior() -> None:
    y = torch.tensor([3.0, 1.0, 2.0])
    guide = AutoDelta(counts)
    guide(y)
    tree = to_datatree(counts, guide, y, num_samples=100)
    assert len(np.unique(of(tree, "posterior", "rate"))) == 1
    found = diagnose(tree)
    assert not found.passed
    assert found.row("constant parameters").verdict == "fail"


def test_a_guide_without_a_latent_is_refused_by_name() -> None:
    def guide(y: Tensor) -> None:
        pyro.sample("mu", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match="site `sigma` is sampled by the model and missing from the guide"):
        to_datatree(two, guide, THREE.float())


@pytest.mark.parametrize("pack", [lambda y: (y, y.square()), lambda y: {"y": y, "weight": y.square()}])
def test_data_of_a_guide_may_be_tuples_and_mappings(pack: Callable[[Tensor], Any]) -> None:
    def model(y: Tensor, weight: Tensor) -> None:
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, weight), obs=y)

    def guide(y: Tensor, weight: Tensor) -> None:
        with pyro.plate("data", len(y)):
            pyro.sample("z", dist.Normal(torch.zeros_like(y), 1.0))

    tree = to_datatree(model, guide, pack(torch.tensor([1.0, 2.0, 0.5])), num_samples=10)
    assert tree["constant_data"]["weight"].dims == ("data",)
    assert tree["posterior"]["z"].dims == ("chain", "draw", "data")
    assert tree["posterior"].sizes["draw"] == 10
