"""Chains on every datum's latents under a fitted pair: exact posteriors, each in its own place, whatever the guide.

Seeds are fixed; a test at 4 standard errors would fail for one seed in 16,000 for each number that it compares.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import arviz_stats
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from torch import Tensor

import inference.annealing.running
from inference import diagnose, load_tree, sample_latents, save_tree
from inference.annealing.hamiltonian import Kinetics
from inference.annealing.running import Run
from tests.oracles import LinearGaussian

pytestmark = pytest.mark.usefixtures("double")
toy = LinearGaussian.make()

FEW: dict[str, Any] = {"mode": "replay", "num_chains": 8, "num_samples": 100, "num_warmup": 40, "progress": False}
SHORT: dict[str, Any] = {**FEW, "mode": "eager", "num_chains": 3, "num_samples": 5, "num_warmup": 4}


def of(tree: xr.DataTree, name: str, group: str = "posterior") -> np.ndarray[Any, Any]:
    return tree[group][name].to_numpy()


def off(tree: xr.DataTree, name: str, exact: Any, power: int = 1) -> np.ndarray[Any, Any]:
    """How many standard errors the mean of a power of a variable is off, element by element."""
    values = tree["posterior"][name] ** power
    error = values.std(["chain", "draw"]) / np.sqrt(arviz_stats.ess(values, method="mean"))
    found: np.ndarray[Any, Any] = ((values.mean(["chain", "draw"]) - np.asarray(exact)) / error).to_numpy()
    return found


def assert_exact(tree: xr.DataTree, x: Tensor) -> None:
    mean, cov = toy.posterior(x)
    assert (abs(off(tree, "z", mean)) < 4).all()
    assert (abs(off(tree, "z", mean.square() + cov.diagonal(), 2)) < 4).all()
    z = of(tree, "z") - mean.numpy()
    product = tree["posterior"]["z"].isel(z_dim_0=0).copy(data=z[..., 0] * z[..., 1])
    error = product.std(["chain", "draw"]) / np.sqrt(arviz_stats.ess(product, method="mean"))
    assert (abs(product.mean(["chain", "draw"]) - float(cov[0, 1])) < 4 * error).all()


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    with torch.random.fork_rng(devices=[]):
        torch.set_default_dtype(torch.float64)
        try:
            return sample_latents(toy.model, toy.wrong, toy.data(10), coords={"data": list("abcdefghij")}, **FEW)
        finally:
            torch.set_default_dtype(torch.float32)


def test_every_datum_has_its_own_posterior(tree: xr.DataTree) -> None:
    """Means, squares and products of two latents of ten data: 50 comparisons."""
    assert_exact(tree, toy.data(10))


def bad(x: Tensor) -> None:
    """Far off, half as wide in one latent, and three times too wide in the other."""
    mean, cov = toy.posterior(x)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(mean + 2.0, torch.tensor([0.5, 3.0]) * cov.diagonal().sqrt()).to_event(1))


@pytest.mark.parametrize("guide", [toy.exact, bad])
def test_whatever_the_guide(guide: Callable[[Tensor], None]) -> None:
    x = toy.data(8)
    tree = sample_latents(toy.model, guide, x, seed=1, **FEW)
    assert_exact(tree, x)
    assert 0.4 < float(tree["sample_stats"]["acceptance_rate"].mean()) < 0.9
    assert float(arviz_stats.rhat(tree)["z"].max()) < 1.2


def test_the_tree_keeps_the_axis_of_the_data(tree: xr.DataTree) -> None:
    x = toy.data(10)
    assert {name: {v: group[v].dims for v in group.data_vars} for name, group in tree.children.items()} == {
        "posterior": {"z": ("chain", "draw", "data", "z_dim_0")},
        "log_prior": {"z": ("chain", "draw", "data")},
        "log_likelihood": {"x": ("chain", "draw", "data")},
        "observed_data": {"x": ("data", "x_dim_0")},
        "sample_stats": dict.fromkeys(("lp", "acceptance_rate", "energy", "diverging"), ("chain", "draw", "data")),
    }
    assert dict(tree["posterior"].sizes) == {"chain": 8, "draw": 100, "data": 10, "z_dim_0": 2}
    for group in tree.children.values():
        assert group["data"].to_numpy().tolist() == list("abcdefghij")
    np.testing.assert_array_equal(of(tree, "x", "observed_data"), x)
    z = torch.from_numpy(of(tree, "z"))
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    likelihood = torch.distributions.Normal(z @ toy.W.T + toy.b, toy.s).log_prob(x).sum(-1)
    np.testing.assert_allclose(of(tree, "z", "log_prior"), prior)
    np.testing.assert_allclose(of(tree, "x", "log_likelihood"), likelihood)
    np.testing.assert_allclose(of(tree, "lp", "sample_stats"), prior + likelihood)


def test_energies_are_those_of_two_momenta(tree: xr.DataTree) -> None:
    """Momenta are drawn anew at every transition: kinetic energies of where they set off are chi^2 / 2 of 2 degrees.

    Where chains come to they are weighed by acceptance, which leaves the law as it is: mean 1, variance 1.
    """
    kinetic = tree["sample_stats"]["energy"] + tree["sample_stats"]["lp"]
    assert float(kinetic.min()) >= 0
    assert kinetic.dims == ("chain", "draw", "data")
    for power, exact in ((1, 1.0), (2, 2.0)):
        values = kinetic**power
        error = values.std(["chain", "draw"]) / np.sqrt(arviz_stats.ess(values, method="mean"))
        assert (abs(values.mean(["chain", "draw"]) - exact) < 4.5 * error).all()
    assert of(tree, "diverging", "sample_stats").dtype == bool


def test_nothing_diverges_on_a_normal_law(tree: xr.DataTree) -> None:
    """Two latents, of correlation 0.73: no trajectory there may gain 1,000 nats."""
    assert not of(tree, "diverging", "sample_stats").any()
    assert diagnose(tree).row("divergences").verdict == "pass"


def test_attributes_say_what_was_run(tree: xr.DataTree, tmp_path: Path) -> None:
    found = load_tree(save_tree(tree, tmp_path / "latents.nc"))
    xr.testing.assert_identical(found, tree)
    wanted = {"inference_method": "MCMC", "backend": "hmc", "mode": "replay", "seed": 0, "device": "cpu"}
    assert {name: found.attrs[name] for name in wanted} == wanted
    assert (found.attrs["num_warmup"], found.attrs["num_samples"], found.attrs["restarts"]) == (40, 100, 0)
    assert found.attrs["seconds_sampling"] > 0


def test_the_gate_looks_at_every_datum(tree: xr.DataTree) -> None:
    found = diagnose(tree)
    row = found.row("R-hat")
    assert row.of == 20
    assert row.where.startswith("z[")
    assert row.value == pytest.approx(float(arviz_stats.rhat(tree)["z"].max()))
    assert len(found.parameters) == 20
    assert found.row("stuck chains").verdict == "pass"
    assert found.row("stuck chains").of == 80
    assert found.row("LOO k-hat of x").verdict != "not applicable"
    assert found.row("divergences").of == 8000
    assert found.row("BFMI").of == 80


def test_the_datum_whose_chains_disagree_is_named() -> None:
    """x ~ N(|z|, 0.3^2): of x = 3 the posterior has two modes, and chains stay in the one that they come to first."""

    def model(x: Tensor) -> None:
        with pyro.plate("image", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 2.0))
            pyro.sample("x", dist.Normal(z.abs(), 0.3), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("image", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros_like(x), 2.0))

    few = {**FEW, "num_chains": 16}
    tree = sample_latents(model, guide, torch.tensor([0.0, -0.5, 3.0, -0.2]), **few)
    row = diagnose(tree).row("R-hat")
    assert (row.verdict, row.where, row.of) == ("fail", "z[2]", 4)
    assert row.value > 1.5
    others = arviz_stats.rhat(tree)["z"].to_numpy()[[0, 1, 3]]
    assert (others < 1.1).all()
    assert "modes" in diagnose(tree).row("R-hat").advice


# --- batches


@pytest.mark.parametrize(("n", "batch_size"), [(7, 4), (3, 1)])
def test_batches_change_nothing_but_the_noise(tree: xr.DataTree, n: int, batch_size: int) -> None:
    """The last batch is filled up, and its filling thrown away."""
    x = toy.data(n)
    found = sample_latents(toy.model, toy.wrong, x, batch_size=batch_size, **FEW)
    assert found["posterior"].sizes["data"] == n
    assert_exact(found, x)
    np.testing.assert_array_equal(of(found, "x", "observed_data"), x)
    few = {**SHORT, "batch_size": batch_size}
    again, other = (sample_latents(toy.model, toy.wrong, x, seed=seed, **few) for seed in (0, 1))
    np.testing.assert_array_equal(of(sample_latents(toy.model, toy.wrong, x, **few), "z"), of(again, "z"))
    assert (of(again, "z") != of(other, "z")).all()


def test_data_stay_in_their_order() -> None:
    """Posteriors so narrow that one draw tells whose it is."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 100.0))
            pyro.sample("x", dist.Normal(z, 0.01), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 0.02))

    x = torch.tensor([5.0, -3.0, 8.0, 0.0, 2.0, -9.0, 4.0])
    for size in (None, 3, 2):
        z = of(sample_latents(model, guide, x, batch_size=size, **SHORT), "z")
        assert abs(z - x.numpy()).max() < 0.2


def test_more_chains_than_fit_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.annealing.running, "default_chunk", lambda x: 128 * 6 // x.numel())  # six at once
    x = toy.data(2)
    tree = sample_latents(toy.model, toy.wrong, x, **FEW)
    assert dict(tree["posterior"].sizes) == {"chain": 8, "draw": 100, "data": 2, "z_dim_0": 2}
    assert len(np.unique(of(tree, "z")[:, 0, :, 0])) == 16
    assert_exact(tree, x)


# --- latents in more than one plate


class Levels:
    """w per datum, z in a plate of three beside the data's: z_j ~ N(w, 1), x_j ~ N(z_j, s^2).

    The data's plate is left of the other, or right of it, and has any name.
    """

    s = 0.5

    def __init__(self, data: str = "data", part: str = "part", *, leftmost: bool = True) -> None:
        self.data, self.part, self.leftmost = data, part, leftmost
        J = torch.eye(4)
        J[0, 0] += 3
        J[0, 1:] = J[1:, 0] = -1
        J[1:, 1:] += torch.eye(3) / self.s**2
        self.cov = J.inverse().double()

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means of w and z, `(n,)` and `(n, 3)`."""
        loc = torch.cat([torch.zeros(len(x), 1), x / self.s**2], -1) @ self.cov
        return loc[:, 0], loc[:, 1:]

    def plates(self, x: Tensor) -> tuple[Any, Any]:
        dims = (-2, -1) if self.leftmost else (-1, -2)
        return pyro.plate(self.data, len(x), dim=dims[0]), pyro.plate(self.part, 3, dim=dims[1])

    def turned(self, x: Tensor) -> Tensor:
        return x if self.leftmost else x.T

    def model(self, x: Tensor) -> None:
        data, part = self.plates(x)
        with data:
            w = pyro.sample("w", dist.Normal(0.0, 1.0))  # (n, 1), or (n,)
            with part:
                z = pyro.sample("z", dist.Normal(w, 1.0))  # (n, 3), or (3, n)
                pyro.sample("x", dist.Normal(z, self.s), obs=self.turned(x))

    def guide(self, x: Tensor) -> None:
        data, part = self.plates(x)
        mean = x.mean(-1, keepdim=True)
        with data:
            pyro.sample("w", dist.Normal(mean if self.leftmost else mean[:, 0], 1.0))
            with part:
                pyro.sample("z", dist.Normal(0.5 * self.turned(x), 1.0))

    def only(self, x: Tensor) -> None:
        """Without w."""
        data, part = self.plates(x)
        with data, part:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, self.s), obs=self.turned(x))

    def only_guide(self, x: Tensor) -> None:
        data, part = self.plates(x)
        with data, part:
            pyro.sample("z", dist.Normal(0.5 * self.turned(x), 1.0))


X = torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("leftmost", [True, False])
def test_two_latents_in_nested_plates(leftmost: bool, batch_size: int | None) -> None:
    pair = Levels("case", leftmost=leftmost)
    x = X
    tree = sample_latents(pair.model, pair.guide, x, batch_size=batch_size, **{**FEW, "num_warmup": 60})
    w, z = pair.posterior(x)
    exact = {"w": w.unsqueeze(-1) if leftmost else w, "z": pair.turned(z)}
    names = ("case", "part") if leftmost else ("part", "case")
    assert tree["posterior"]["z"].dims == ("chain", "draw", *names)
    assert tree["posterior"]["w"].dims[:3] == ("chain", "draw", "case")
    assert tree["log_likelihood"]["x"].dims == ("chain", "draw", *names)
    assert tree["sample_stats"]["lp"].dims == ("chain", "draw", "case")
    for name, mean in exact.items():
        assert (abs(off(tree, name, mean)) < 4).all()
    variance = pair.cov.diagonal()
    assert (abs(off(tree, "w", exact["w"].square() + variance[0], 2)) < 4).all()
    assert (abs(off(tree, "z", exact["z"].square() + variance[1], 2)) < 4).all()
    total = sum(tree["log_prior"][v].sum([d for d in tree["log_prior"][v].dims if d not in ("chain", "draw", "case")])
                for v in ("w", "z")) + tree["log_likelihood"]["x"].sum("part")  # fmt: skip
    np.testing.assert_allclose(total, of(tree, "lp", "sample_stats"))


@pytest.mark.parametrize(
    ("data", "part", "leftmost"),
    [
        ("data", "component", True),
        ("case", "part", False),
        pytest.param("row", "part", True),
        pytest.param("row", "part", False),
    ],
)
def test_names_of_plates_do_not_matter(data: str, part: str, leftmost: bool) -> None:
    """As many data as parts, which no shape can tell from each other: z_ij | x ~ N(x_ij / (1 + s^2), ...)."""
    pair = Levels(data, part, leftmost=leftmost)
    x = X[:3]
    tree = sample_latents(pair.only, pair.only_guide, x, batch_size=2, **{**FEW, "num_samples": 60})
    exact = pair.turned(x) / (1 + pair.s**2)
    assert (abs(off(tree, "z", exact)) < 4).all()
    assert tree["sample_stats"]["lp"].dims == ("chain", "draw", data)


# --- supports, arguments, sums


def test_supports_are_those_of_the_model() -> None:
    """rate | x ~ Gamma(2 + x, 1 + weight) and share | k ~ Beta(1 + k, 1 + 10 - k), of data by name."""

    def model(x: Tensor, k: Tensor, weight: Tensor) -> None:
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
            share = pyro.sample("share", dist.Beta(1.0, 1.0))
            pyro.sample("x", dist.Poisson(weight * rate), obs=x)
            pyro.sample("k", dist.Binomial(10, share), obs=k)

    def guide(x: Tensor, k: Tensor, weight: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("rate", dist.LogNormal(torch.zeros_like(x), 1.0))
            pyro.sample("share", dist.Beta(2.0 + 0.0 * k, 2.0))

    batch = {
        "x": torch.tensor([0.0, 3.0, 9.0, 1.0]),
        "k": torch.tensor([10.0, 0.0, 5.0, 7.0]),
        "weight": torch.tensor([1.0, 0.5, 2.0, 3.0]),
    }
    tree = sample_latents(model, guide, batch, **{**FEW, "num_warmup": 60})
    shape, pace = 2 + batch["x"], 1 + batch["weight"]
    assert (abs(off(tree, "rate", shape / pace)) < 4).all()
    assert (abs(off(tree, "rate", shape * (shape + 1) / pace**2, 2)) < 4).all()
    a = 1 + batch["k"]
    assert (abs(off(tree, "share", a / 12)) < 4).all()
    assert (abs(off(tree, "share", a * (a + 1) / (12 * 13), 2)) < 4).all()
    assert tree["constant_data"]["weight"].dims == ("data",)
    assert set(tree["log_likelihood"].data_vars) == {"x", "k"}


def test_discrete_latents_are_summed_out() -> None:
    """z ~ 1/2 N(-2, 1) + 1/2 N(2, 1), x ~ N(z, 1): the posterior is a mixture of N((x -+ 2) / 2, 1/2)."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.ones(2) / 2), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(torch.tensor([-2.0, 2.0])[k], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.5))

    x = torch.tensor([-1.0, 0.5, 3.0])
    tree = sample_latents(model, guide, x, **{**FEW, "num_chains": 16, "num_samples": 200})
    right = torch.sigmoid(2 * x)  # N(x; 2, 2) against N(x; -2, 2)
    assert (abs(off(tree, "z", right * (x + 2) / 2 + (1 - right) * (x - 2) / 2)) < 4).all()
    assert set(tree["posterior"].data_vars) == {"z"}


def test_predictions_are_of_their_own_datum() -> None:
    """x_new | x ~ N(W E[z | x] + b, W cov W^T + s^2)."""
    x = toy.data(5)
    tree = sample_latents(toy.model, toy.exact, x, predictive=True, **FEW)
    assert tree["posterior_predictive"]["x"].dims == ("chain", "draw", "data", "x_dim_0")
    mean, cov = toy.posterior(x)
    new = tree["posterior_predictive"]["x"]
    error = new.std(["chain", "draw"]) / np.sqrt(arviz_stats.ess(new, method="mean"))
    assert (abs(new.mean(["chain", "draw"]) - (mean @ toy.W.T + toy.b).numpy()) < 4 * error).all()
    variance = (toy.W @ cov @ toy.W.T).diagonal() + toy.s**2
    squares = (new - (mean @ toy.W.T + toy.b).numpy()) ** 2
    error = squares.std(["chain", "draw"]) / np.sqrt(arviz_stats.ess(squares, method="mean"))
    assert (abs(squares.mean(["chain", "draw"]) - variance.numpy()) < 4 * error).all()
    assert set(tree["prior"].data_vars) == {"z"}


@pytest.mark.parametrize("name", ["energy", "lp", "seconds"])
def test_a_latent_may_have_the_name_of_a_statistic(name: str) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample(name, dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample(name, dist.Normal(0.5 * x, 1.0))

    tree = sample_latents(model, guide, torch.tensor([50.0, -50.0]), **{**SHORT, "num_warmup": 20})
    assert (abs(of(tree, name) - [25.0, -25.0]) < 5).all()


# --- taking up again


class Killed(Exception):  # noqa: N818 - it is no error
    """A kill."""


@pytest.mark.parametrize("after", [5, 20, 50])
def test_a_killed_run_goes_on_with_the_same_bits(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the warm-up and the draws of either of two batches, of 12 + 3 + 15 transitions each."""
    few = {**FEW, "num_samples": 15, "num_warmup": 12, "num_leapfrogs": 3, "mode": "eager", "batch_size": 3}
    x = toy.data(6)
    whole = sample_latents(toy.model, toy.wrong, x, **few)
    original, count = Kinetics.transition, 0

    def transition(self: Kinetics, *args: Any) -> Any:
        nonlocal count
        count += 1
        if count > after:
            raise Killed
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Kinetics, "transition", transition)
        with pytest.raises(Killed):
            sample_latents(toy.model, toy.wrong, x, checkpoint=tmp_path, checkpoint_seconds=0.0, **few)
    moves = 0

    def counting(self: Kinetics, *args: Any) -> Any:
        nonlocal moves
        moves += 1
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Kinetics, "transition", counting)
        resumed = sample_latents(toy.model, toy.wrong, x, checkpoint=tmp_path, **few)
    assert moves <= 60 - after + 1
    for group in ("posterior", "sample_stats", "log_likelihood"):
        xr.testing.assert_equal(resumed[group].to_dataset(), whole[group].to_dataset())
    with pytest.raises(ValueError, match="its seed is 0, expected 1"):
        sample_latents(toy.model, toy.wrong, x, checkpoint=tmp_path, seed=1, **few)
    with pytest.raises(ValueError, match="its data"):
        sample_latents(toy.model, toy.wrong, x + 1, checkpoint=tmp_path, **few)


def test_nothing_outside_changes() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    sample_latents(toy.model, toy.wrong, toy.data(3), **SHORT)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float64
    assert torch.is_grad_enabled()


# --- refusals


def plain(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def plain_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0))


def counting(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Poisson(3.0))
        pyro.sample("x", dist.Normal(k, 1.0), obs=x)


def counting_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("k", dist.Poisson(3.0 + 0 * x))


def shared(x: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def shared_guide(x: Tensor) -> None:
    pyro.sample("mu", dist.Normal(0.0, 1.0))


def missing_guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (counting, counting_guide, r"site `k` is discrete \(Poisson\), but HMC needs continuous latents"),
        (shared, shared_guide, "site `mu` is latent outside the data plate `data`"),
        (plain, missing_guide, "site `y`|site `z`"),
    ],
)
def test_pairs_that_chains_cannot_move_in_are_refused_by_name(model: Any, guide: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_latents(model, guide, torch.ones(3), **SHORT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_chains": 0}, "`num_chains` is 0"),
        ({"num_leapfrogs": 0}, "`num_leapfrogs` is 0"),
        ({"target_acceptance": 1.5}, "`target_acceptance` is 1.5"),
        ({"batch_size": 0}, "`batch_size` is 0, expected at least 1"),
        ({"mode": "jit"}, "`mode` is 'jit'"),
        ({"coords": {"images": [1]}}, "`coords` has `images`, expected some of data"),
        pytest.param({"num_samples": 0}, "`num_samples` is 0"),
        pytest.param({"num_warmup": 0}, "`num_warmup` is 0"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_latents(plain, plain_guide, torch.ones(3), **{**SHORT, **wrong})


def test_names_are_looked_at_before_anything_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
            pyro.sample("x", dist.Poisson(rate), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("rate", dist.Gamma(2.0 + x, 2.0))

    x = torch.tensor([0.0, 4.0])
    tree = sample_latents(model, guide, x, coords={"data": ["a", "b"]}, **FEW)
    rate = torch.tensor(tree["posterior"]["rate"].to_numpy())
    log_p = torch.distributions.Gamma(2.0, 1.0).log_prob(rate) + torch.distributions.Poisson(rate).log_prob(x)
    lp = torch.tensor(tree["sample_stats"]["lp"].to_numpy())
    torch.testing.assert_close(lp, log_p + rate.log())  # of log rate, which is what chains move
    monkeypatch.setattr(Run, "results", None)  # would fail
    with pytest.raises(ValueError, match="`coords` has `datum`"):
        sample_latents(model, guide, x, coords={"datum": ["a", "b"]}, **FEW)
