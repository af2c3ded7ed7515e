"""What is read off a program for its draws: log likelihoods, priors and predictions, against closed forms."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import stats
from scipy.special import logsumexp
from torch import Tensor

from inference.density import FlatDensity
from inference.diagnostics.datatree import OmittedWarning, assemble, constrained
from inference.diagnostics.dims import Axes, axes_of, check_names, coordinates
from inference.diagnostics.reading import Reader
from tests.programs import COUNTS, LEVELS, LOOP, RIGHT, SEEN, SERIES, TABLE, Program, X, Y, cases

pytestmark = pytest.mark.usefixtures("double")
close = torch.testing.assert_close
MU = torch.tensor([[-1.0, 0.5], [2.0, 0.0], [0.3, -0.4]], dtype=torch.float64)
"""Three draws of two locations."""
ATTRS = {"inference_method": "MCMC"}


def reader(name: str, **dims: Any) -> Reader:
    return Reader(RIGHT[name].density(), dims)


def read(of: Reader, group: str, **values: Any) -> dict[str, Tensor]:
    rows = {name: torch.as_tensor(value) for name, value in values.items()}
    return of.read(group, rows, of.density.data)


def normal(y: Any, mu: Any, sigma: Any = 1.0) -> Any:
    """Log densities by SciPy."""
    return stats.norm.logpdf(np.asarray(y), np.asarray(mu), sigma)


def agree(found: Tensor, expected: Any) -> None:
    close(found, torch.as_tensor(np.asarray(expected), dtype=torch.float64), rtol=1e-10, atol=1e-12)


# --- log likelihoods without discrete sites


def test_in_a_plate_every_datum_has_its_own() -> None:
    of = reader("normal")
    mu, sigma = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([1.0, 0.5, 2.0])
    found = read(of, "log_likelihood", mu=mu, sigma=sigma)
    assert of.axes["log_likelihood"] == {"y": ("data",)}
    agree(found["y"], normal(Y, mu[:, None], sigma[:, None]))


def test_without_a_plate_every_datum_has_its_own_too() -> None:
    of = reader("bare_vector")
    z, mu = torch.randn(2, 6), torch.tensor([0.4, -1.0])
    found = read(of, "log_likelihood", z=z, mu=mu)
    assert of.axes["log_likelihood"] == {"own": ("own_dim_0",), "shared": ("shared_dim_0",)}
    agree(found["own"], normal(Y, z, 0.5))
    agree(found["shared"], normal(Y, mu[:, None], 2.0))


def test_plates_have_one_axis_each() -> None:
    of = reader("nested_plates")
    own = torch.randn(3, 4)
    found = read(of, "log_likelihood", mu=torch.zeros(3), own=own)
    assert of.axes["log_likelihood"] == {"table": ("measurement", "group")}
    agree(found["table"], normal(TABLE, own[:, None, :], 0.5))


def test_a_vector_is_one_datum() -> None:
    of = reader("multivariate_normal")
    mean = torch.randn(2, 3)
    assert of.axes["log_likelihood"] == {"x": ("data",)}
    agree(read(of, "log_likelihood", mean=mean)["x"], normal(X, mean[:, None, :]).sum(-1))


def test_masked_data_are_left_out() -> None:
    of = reader("masked")
    mu = torch.tensor([0.0, 1.5])
    assert of.axes["log_likelihood"] == {"y": ("y_kept",)}
    agree(read(of, "log_likelihood", mu=mu)["y"], normal(Y[SEEN], mu[:, None]))
    tree = assemble(of.density, {"mu": mu[None]}, of.density.data, attrs=ATTRS, num_prior=2)
    assert tree["log_likelihood"]["y_kept"].values.tolist() == SEEN.nonzero().squeeze(-1).tolist()


def test_missing_data_are_left_out() -> None:
    of = reader("missing")
    mu = torch.tensor([0.0, 1.5])
    found = read(of, "log_likelihood", mu=mu, y_unobserved=torch.randn(2, 6))
    assert list(found) == ["y_observed"]
    assert of.axes["log_likelihood"] == {"y_observed": ("y_observed_kept",)}
    agree(found["y_observed"], normal(Y[SEEN], mu[:, None]))


def test_a_tempered_likelihood_is_read_as_it_is() -> None:
    mu = torch.tensor([0.0, 1.5])
    agree(read(reader("tempered"), "log_likelihood", mu=mu)["y"], normal(Y, mu[:, None]))


def under(handler: Callable[[Tensor], Any], masks: Callable[[Any, Tensor], Any] = lambda law, y: law) -> Program:
    """A normal plate with a handler around its observations, or with something done to its law."""

    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(y)), handler(y):
            pyro.sample("y", masks(dist.Normal(mu, 1.0), y), obs=y)

    return Program(model, (Y,))


def test_a_likelihood_that_is_masked_as_a_whole_has_no_data() -> None:
    density = under(lambda y: poutine.mask(mask=False)).density()
    found = Reader(density, {}).read("log_likelihood", {"mu": torch.zeros(2)}, density.data)
    assert sum(value.numel() for value in found.values()) == 0


def test_data_masked_by_their_law_are_left_out() -> None:
    density = under(lambda y: poutine.mask(mask=True), lambda law, y: law.mask(y > 0)).density()
    found = Reader(density, {}).read("log_likelihood", {"mu": torch.zeros(1)}, density.data)
    agree(found["y"][0], normal(Y[Y > 0], 0.0))


def test_a_factor_is_no_datum() -> None:
    of = reader("truncated")
    assert list(of.axes["log_likelihood"]) == ["y"]
    assert list(of.axes["posterior_predictive"]) == ["y"]


def test_a_reparametrised_site_is_computed_and_no_datum() -> None:
    of = reader("reparametrised")
    assert list(of.axes["log_likelihood"]) == ["y"]
    assert list(of.axes["posterior_predictive"]) == ["y"]
    assert "z" in of.axes["posterior"]


def test_data_shared_by_a_plate_have_an_axis_for_it() -> None:
    def model(y: Tensor) -> None:
        with pyro.plate("group", 3, dim=-2):
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
            with pyro.plate("data", len(y), dim=-1):
                pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    density = FlatDensity.of(model, Y)
    assert Reader(density, {}).axes["log_likelihood"] == {"y": ("group", "data")}
    assemble(density, {"mu": torch.randn(2, 2, 3, 1)}, density.data, attrs=ATTRS, num_prior=2)


# --- log likelihoods with discrete sites summed out


def over(k: Any, each: Any) -> Any:
    """log sum_k p(k) exp(each_k), k last."""
    return logsumexp(np.log(np.asarray(k)) + np.asarray(each), axis=-1)


def test_a_mixture_sums_over_its_components() -> None:
    of = reader("mixture")
    share = torch.tensor([[0.3, 0.7], [0.5, 0.5], [0.9, 0.1]])
    found = read(of, "log_likelihood", share=share, mu=MU)
    assert of.axes["log_likelihood"] == {"y": ("data",)}
    agree(found["y"], over(share[:, None, :], normal(Y[:, None], MU[:, None, :], 0.8)))


def test_sums_in_two_plates_stand_each_in_its_own() -> None:
    """And two sites that share a sum have one number together."""
    of = reader("two_mixtures")
    found = read(of, "log_likelihood", mu=MU)
    assert of.axes["log_likelihood"] == {"y..again": ("people",), "count": ("shops",)}
    both = normal(Y[:, None], MU[:, None, :]) + normal(Y.flip(0)[:, None], MU[:, None, :] + 1, 2.0)
    agree(found["y..again"], over([0.4, 0.6], both))
    rates = np.exp(MU.sum(-1).numpy()[:, None] / 5 + np.array([0.0, 1.0]))  # (draws, j)
    agree(found["count"], over([0.7, 0.3], stats.poisson.logpmf(COUNTS[:, None].numpy(), rates[:, None, :])))


def test_a_sum_for_a_group_has_one_number_for_it() -> None:
    of = reader("grouped_mixture")
    assert of.axes["log_likelihood"] == {"table": ("group",)}
    each = normal(TABLE[:, :, None], MU[:, None, None, :]).sum(2)  # (draws, group, k)
    agree(read(of, "log_likelihood", mu=MU)["table"].reshape(3, 3), over([0.4, 0.6], each))


def test_a_sum_for_all_data_has_one_number() -> None:
    of = reader("one_switch")
    assert of.axes["log_likelihood"] == {"y": ()}
    agree(read(of, "log_likelihood", mu=MU)["y"], over([0.5, 0.5], normal(Y[:, None], MU[:, None, :]).sum(1)))


def test_a_sequential_sum_has_one_number_for_each_site() -> None:
    found = read(reader("sequential_mixture"), "log_likelihood", mu=MU)
    for i, y in enumerate(SERIES):
        agree(found[f"y{i}"], over([0.2, 0.8], normal(y, MU)))


def along_paths(change: Tensor, mu: Tensor, series: Tensor) -> float:
    """Of a hidden Markov chain, by going through all of its paths from state 0."""
    paths = [
        sum(math.log(change[a, b]) for a, b in itertools.pairwise((0, *path))) + normal(series, mu[list(path)]).sum()
        for path in itertools.product(range(2), repeat=len(series))
    ]
    return float(logsumexp(paths))


def test_a_hidden_chain_has_one_number_together() -> None:
    of = reader("hidden_markov")
    stay = torch.tensor([0.9, 0.5, 0.2])
    found = read(of, "log_likelihood", stay=stay, mu=MU)
    assert of.axes["log_likelihood"] == {"y0..y3": ()}
    changes = [torch.tensor([[s, 1 - s], [1 - s, s]]) for s in stay]
    agree(found["y0..y3"], [along_paths(change, mu, SERIES) for change, mu in zip(changes, MU, strict=True)])


def test_hidden_chains_in_a_plate_have_one_number_each() -> None:
    of = reader("hidden_markov_plate")
    change = torch.tensor([[0.8, 0.2], [0.4, 0.6]]).expand(3, 2, 2)
    found = read(of, "log_likelihood", change=change, mu=MU)
    assert of.axes["log_likelihood"] == {"y0..y3": ("series",)}
    agree(found["y0..y3"], [[along_paths(change[0], mu, series) for series in TABLE] for mu in MU])


def test_given_a_latent_that_depends_on_the_sum_data_are_scored_by_it_alone() -> None:
    of = reader("member")
    z = torch.randn(3, 6)
    agree(read(of, "log_likelihood", mu=MU, z=z)["y"], normal(Y, z))
    assert list(of.axes["log_prior"]) == ["mu"]
    agree(read(of, "log_prior", mu=MU, z=z)["mu"], normal(MU, 0.0, 3.0).sum(-1))


def both_depend(y: Tensor) -> None:
    """k -> z, and both -> y."""
    with pyro.plate("data", len(y)):
        k = pyro.sample("k", dist.Bernoulli(0.5))
        z = pyro.sample("z", dist.Normal(8 * k, 1.0))
        pyro.sample("y", dist.Normal(z + 10 * k, 1.0), obs=y)


def test_given_a_latent_the_sum_is_over_what_that_leaves_open() -> None:
    density = FlatDensity.of(both_depend, Y)
    z = torch.tensor([[4.0], [3.5], [9.0]]).expand(3, 6)
    found = Reader(density, {}).read("log_likelihood", {"z": z}, density.data)["y"]
    k = np.array([0.0, 1.0])
    prior = normal(z[..., None], 8 * k)  # (draws, data, k), up to the half that cancels
    posterior = prior - logsumexp(prior, axis=-1, keepdims=True)
    agree(found, logsumexp(posterior + normal(Y[:, None], z[..., None].numpy() + 10 * k), axis=-1))


def masked_mixture(y: Tensor, seen: Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
    with pyro.plate("data", len(y)), poutine.mask(mask=seen):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])))
        pyro.sample("y", dist.Normal(mu[k], 1.0), obs=y)


def test_masked_data_are_left_out_of_a_mixture() -> None:
    density = FlatDensity.of(masked_mixture, Y, SEEN)
    of = Reader(density, {})
    agree(
        of.read("log_likelihood", {"mu": MU}, density.data)["y"],
        over([0.4, 0.6], normal(Y[SEEN][:, None], MU[:, None])),
    )
    assert of.axes["log_likelihood"] == {"y": ("y_kept",)}
    assemble(density, {"mu": MU[None]}, density.data, attrs=ATTRS, num_prior=2)


def test_discrete_sites_of_two_plates_may_meet_in_an_observation() -> None:
    def model(table: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
        with pyro.plate("group", 3, dim=-2):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])))
            with pyro.plate("member", 4, dim=-1):
                j = pyro.sample("j", dist.Bernoulli(0.3))
                pyro.sample("table", dist.Normal(mu[k] + 5 * j, 1.0), obs=table)

    density = FlatDensity.of(model, TABLE)
    found = Reader(density, {}).read("log_likelihood", {"mu": MU}, density.data)["table"]
    means = MU[:, None, None, :, None].numpy() + 5 * np.array([0.0, 1.0])  # (draws, 1, 1, k, j)
    each = over([0.7, 0.3], normal(TABLE[:, :, None, None], means)).sum(2)  # (draws, group, k)
    agree(found.reshape(3, 3), over([0.4, 0.6], each))


def test_a_tempered_mixture_is_read_as_it_is() -> None:
    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
        with poutine.scale(scale=0.5), pyro.plate("data", len(y)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])))
            pyro.sample("y", dist.Normal(mu[k], 1.0), obs=y)

    try:
        density = FlatDensity.of(model, Y)
    except ValueError:
        return  # refused, which would be right too
    found = Reader(density, {}).read("log_likelihood", {"mu": MU}, density.data)["y"]
    agree(found, over([0.4, 0.6], normal(Y[:, None], MU[:, None, :])))


def test_a_plate_of_one_is_a_plate() -> None:
    density = Program(RIGHT["mixture"].model, (Y[:1],)).density()
    assert Reader(density, {}).axes["log_likelihood"] == {"y": ("data",)}


# --- log priors


def test_priors_are_those_of_scipy() -> None:
    mu, sigma = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([1.0, 0.5, 2.0])
    found = read(reader("normal"), "log_prior", mu=mu, sigma=sigma)
    agree(found["mu"], normal(mu, 0.0, 2.0))
    agree(found["sigma"], stats.halfnorm.logpdf(sigma.numpy(), scale=1.5))
    freedom, scale = torch.tensor([0.5, 4.0]), torch.tensor([1.0, 0.2])
    found = read(reader("tails"), "log_prior", freedom=freedom, scale=scale)
    agree(found["freedom"], stats.gamma.logpdf(freedom.numpy(), 2.0, scale=2.0))
    agree(found["scale"], stats.invgamma.logpdf(scale.numpy(), 3.0, scale=2.0))
    share = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]])
    found = read(reader("shares"), "log_prior", share=share)
    agree(found["share"], [stats.dirichlet.logpdf(row.numpy(), [1.0, 2.0, 3.0, 1.5]) for row in share])


def test_priors_in_plates_have_their_axes_and_are_given_those_before_them() -> None:
    of = reader("crossed_plates")
    height, depth, cell = torch.randn(2, 3, 1), torch.rand(2, 4), torch.randn(2, 3, 4)
    assert of.axes["log_prior"]["depth"] == ("columns",)
    assert of.axes["log_prior"]["cell"] == ("rows", "columns")
    found = read(of, "log_prior", height=height, depth=depth, cell=cell)
    agree(found["cell"], normal(cell, height, depth[:, None, :].numpy()))
    agree(found["depth"], stats.expon.logpdf(depth.numpy()))


def test_an_improper_prior_counts_nothing_and_cannot_be_drawn() -> None:
    of = reader("positive")
    agree(read(of, "log_prior", a=torch.tensor([0.5, 3.0]))["a"], [0.0, 0.0])
    with pytest.raises(NotImplementedError, match="ImproperUniform does not support sampling"):
        of.prior(4, of.density.data, 0)
    tree = assemble(of.density, {"a": torch.rand(1, 3)}, of.density.data, attrs=ATTRS)
    assert "prior" not in tree.children
    assert "ImproperUniform does not support sampling" in tree.attrs["omitted"]


# --- one and the same density


NOT_A_SUM = ("tempered", "member", "solved", "truncated")
"""Where the density is not that of all priors times all likelihoods: scaled; a prior summed over; factors."""


@pytest.mark.parametrize("program", cases({name: program for name, program in RIGHT.items() if name not in NOT_A_SUM}))
def test_priors_and_likelihoods_add_up_to_the_density(program: Program) -> None:
    density = program.density()
    q = torch.randn(3, density.dim)
    of, rows = (
        Reader(density, {}),
        {name: value[0] for name, value in constrained(density, q[None], density.data).items()},
    )
    total = torch.zeros(3)
    for group in ("log_prior", "log_likelihood"):
        for name, value in of.read(group, rows, density.data).items():
            assert value.dim() == 1 + len(of.axes[group][name])
            total = total + value.reshape(3, -1).sum(-1)
    for row, joint in zip(q, total, strict=True):
        log_det = density.log_density(row) - joint
        expected = torch.autograd.functional.jacobian(lambda u: _flat(density, u), row)
        close(log_det, expected.slogdet()[1], rtol=1e-8, atol=1e-8)


def _flat(density: FlatDensity, u: Tensor) -> Tensor:
    """As many numbers as make up all values: shares without their last, triangles below the diagonal."""
    parts = []
    for latent in density.latents:
        value = density.constrain(u)[latent.name]
        if latent.free != latent.shape and len(latent.shape) > 1 and len(latent.free) == 1:
            i, j = torch.tril_indices(latent.shape[0], latent.shape[1], -1)
            value = value[i, j]
        elif latent.free != latent.shape:
            value = value[..., :-1]
        parts.append(value.reshape(-1))
    return torch.cat(parts)


WITHOUT_PREDICTIONS = {
    "hidden_markov": "summed out together",
    "hidden_markov_plate": "summed out together",
    "discrete_hmm": "AssertionError",
}
"""Programs of which some groups cannot be had, and what is said of them."""


@pytest.mark.parametrize("name", RIGHT | LOOP)
def test_every_program_makes_a_tree(name: str) -> None:
    density = (RIGHT | LOOP)[name].density()
    values = constrained(density, torch.randn(2, 3, density.dim), density.data)
    why = WITHOUT_PREDICTIONS.get(name)
    with pytest.warns(OmittedWarning, match=why) if why else nullcontext():
        tree = assemble(density, values, density.data, attrs=ATTRS, num_prior=4)
    for latent in density.latents:
        assert tree["posterior"][latent.name].shape == (2, 3, *latent.shape)
    if density.found.observed:
        assert {"log_likelihood", "observed_data"} <= set(tree.children)
        assert ("posterior_predictive" in tree.children) == (why is None)
    assert "omitted" not in tree.attrs or (why or "ImproperUniform") in tree.attrs["omitted"]


@pytest.mark.parametrize("name", ["normal", "mixture", "correlations", "missing"])
def test_a_tree_of_single_precision(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    density = RIGHT[name].density(torch.float32)
    values = constrained(density, torch.randn(2, 3, density.dim), density.data)
    tree = assemble(density, values, density.data, attrs=ATTRS, num_prior=4)
    found = [value.dtype for group in tree.children.values() for value in group.data_vars.values()]
    assert {str(dtype) for dtype in found if dtype.kind == "f"} == {"float32"}


def test_a_vector_in_a_plate_that_is_not_the_last_has_an_axis_for_everything() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("group", 3, dim=-2):
            mean = pyro.sample("mean", dist.Normal(torch.zeros(4), 1.0).to_event(1))
            with pyro.plate("member", 2, dim=-1):
                pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    density = FlatDensity.of(model, torch.randn(3, 2, 4))
    axes = axes_of(density.sites()["mean"]).all
    assert len(set(axes)) == 3, axes
    assemble(density, constrained(density, torch.randn(1, 2, 12), density.data), density.data, attrs=ATTRS, num_prior=2)


def test_data_under_one_law_in_a_plate_are_all_predicted() -> None:
    def model(y: Tensor) -> None:
        with pyro.plate("group", 3, dim=-2):
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    density = FlatDensity.of(model, torch.randn(3, 5))
    tree = assemble(density, {"mu": torch.randn(1, 2, 3, 1)}, density.data, attrs=ATTRS, num_prior=2)
    assert tree["log_likelihood"]["y"].shape == (1, 2, 3, 5)
    assert tree["posterior_predictive"]["y"].shape == (1, 2, 3, 5)


def test_without_a_plate_every_datum_is_predicted() -> None:
    of = reader("bare_vector")
    found = read(of, "posterior_predictive", z=torch.zeros(S, 6), mu=torch.full((S,), 1.5))
    within(found["own"], 0.0, 0.25)
    assert found["shared"].shape == (S, 6)
    within(found["shared"], 1.5, 4.0)


# --- predictions

S = 4000


def everything(y: Tensor) -> None:
    """One site of every kind; its latents are held at values that are the same in every draw."""
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("normal", dist.Normal(rate, 2.0), obs=y)
        pyro.sample("gamma", dist.Gamma(rate, 2.0), obs=y.exp())
        pyro.sample("poisson", dist.Poisson(rate), obs=COUNTS)
        pyro.sample("negative_binomial", dist.NegativeBinomial(rate, probs=torch.tensor(0.3)), obs=COUNTS)
        pyro.sample("exponential", dist.Exponential(rate), obs=y.exp())
        pyro.sample("uniform", dist.Uniform(0.0, 10 * rate), obs=y.sigmoid())
        pyro.sample("laplace", dist.Laplace(rate, 1.0), obs=y)
        pyro.sample("student", dist.StudentT(5.0 + rate, rate, 1.0), obs=y)
        pyro.sample("beta", dist.Beta(rate, 2.0), obs=y.sigmoid())
        pyro.sample("level", dist.Categorical(torch.tensor([0.1, 0.2, 0.3, 0.4])), obs=LEVELS)
        pyro.sample("switch", dist.Bernoulli(1 / (1 + rate)), obs=SEEN.double())
        pyro.sample("shares", dist.Dirichlet(torch.stack([rate, rate, 2 * rate])), obs=torch.full((6, 3), 1 / 3))


R = 1.6
MOMENTS = {
    "normal": (R, 4.0),
    "gamma": (R / 2, R / 4),
    "poisson": (R, R),
    "negative_binomial": (R * 0.3 / 0.7, R * 0.3 / 0.49),
    "exponential": (1 / R, 1 / R**2),
    "uniform": (5 * R, (10 * R) ** 2 / 12),
    "laplace": (R, 2.0),
    "student": (R, (5 + R) / (3 + R)),
    "beta": (R / (R + 2), 2 * R / ((R + 2) ** 2 * (R + 3))),
    "level": (2.0, 1.0),
    "switch": (1 / (1 + R), R / (1 + R) ** 2),
    "shares": ([0.25, 0.25, 0.5], [3 / 16 / (4 * R + 1), 3 / 16 / (4 * R + 1), 1 / 4 / (4 * R + 1)]),
}
"""Means and variances."""


def within(found: Tensor, mean: Any, variance: Any) -> None:
    """Means of S draws of six data each within four standard errors, and variances within six.

    False alarms: 6e-5 for a mean; the variances' standard errors are estimated from the draws. The seed is fixed.
    """
    draws = found.double().flatten(0, 1)
    mean, variance = torch.as_tensor(mean), torch.as_tensor(variance)
    assert bool(((draws.mean(0) - mean).abs() <= 4 * (variance / len(draws)).sqrt()).all()), draws.mean(0)
    squares = (draws - mean).square()
    assert bool(((squares.mean(0) - variance).abs() <= 6 * squares.std(0) / len(draws) ** 0.5).all()), squares.mean(0)


@pytest.fixture(scope="module")
def predicted() -> dict[str, Tensor]:
    torch.set_default_dtype(torch.float64)
    density = FlatDensity.of(everything, Y)
    found = Reader(density, {}).read("posterior_predictive", {"rate": torch.full((S,), R)}, density.data, seed=1)
    torch.set_default_dtype(torch.float32)
    return found


@pytest.mark.parametrize("name", MOMENTS)
def test_predictions_have_the_moments_of_their_laws(name: str, predicted: dict[str, Tensor]) -> None:
    assert predicted[name].shape[:2] == (S, 6)
    within(predicted[name], *MOMENTS[name])


@pytest.mark.parametrize("name", MOMENTS)
def test_predictions_are_independent(name: str, predicted: dict[str, Tensor]) -> None:
    """Of one datum's in other draws, and of other data's in the same draw: correlations within four standard errors."""
    draws = predicted[name].double().reshape(S, 6, -1)[..., 0]
    draws = (draws - draws.mean(0)) / draws.std(0)
    for product in (draws[1:] * draws[:-1], draws[:, 1:] * draws[:, :-1]):
        assert abs(float(product.mean())) <= 4 / product.numel() ** 0.5


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda p: dist.Binomial(7, p), id="binomial"),
        pytest.param(lambda p: dist.BetaBinomial(p, 1.0, 7), id="beta-binomial"),
    ],
)
def test_binomial_predictions_are_right_and_silent(make: Callable[[Tensor], Any]) -> None:
    def model(count: Tensor) -> None:
        p = pyro.sample("p", dist.Beta(1.0, 1.0))
        with pyro.plate("data", len(count)):
            pyro.sample("count", make(p), obs=count)

    density = FlatDensity.of(model, COUNTS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = Reader(density, {}).read("posterior_predictive", {"p": torch.full((S,), 0.4)}, density.data)
    law = make(torch.tensor(0.4))
    within(found["count"], law.mean, law.variance)
    assert [str(warning.message) for warning in caught] == []


def test_predictions_of_a_mixture_keep_the_component_of_each_datum() -> None:
    of = reader("mixture")
    share, mu = torch.tensor([0.3, 0.7]), torch.tensor([-2.0, 3.0])
    found = read(of, "posterior_predictive", share=share.expand(S, 2), mu=mu.expand(S, 2))
    of_data = (share.log() + torch.distributions.Normal(mu, 0.8).log_prob(Y.unsqueeze(-1))).softmax(-1)  # (n, k)
    shares = of_data.mean(0)  # of the components that the data came from, as latents that are sampled are kept
    mean = (shares * mu).sum()
    within(found["y"], mean, 0.64 + (shares * mu.square()).sum() - mean.square())


def test_predictions_of_missing_data_keep_the_latents() -> None:
    of = reader("missing")
    found = read(of, "posterior_predictive", mu=torch.full((S,), 1.5), y_unobserved=torch.zeros(S, 6))
    assert list(found) == ["y_observed"]
    within(found["y_observed"], 1.5, 1.0)


def test_the_prior_draws_everything() -> None:
    of = reader("normal")
    found = of.prior(S, of.density.data, seed=3)
    assert set(found) == {"mu", "sigma", "y"}
    within(found["mu"][:, None], 0.0, 4.0)
    within(found["sigma"][:, None], 1.5 * (2 / math.pi) ** 0.5, 1.5**2 * (1 - 2 / math.pi))
    variance = 4.0 + 1.5**2
    assert abs(float(found["y"][:, 0].mean())) <= 4 * (variance / S) ** 0.5
    assert not torch.equal(found["y"], of.prior(S, of.density.data, seed=4)["y"])


def test_predictions_given_a_latent_keep_what_it_says_of_the_sum() -> None:
    density = FlatDensity.of(both_depend, Y + 18)
    found = Reader(density, {}).read("posterior_predictive", {"z": torch.full((S, 6), 8.0)}, density.data)["y"]
    within(found, 18.0, 1.0)  # z = 8 and data of 18 leave no doubt of k = 1


def test_predictions_keep_what_the_data_say_of_a_switch_for_all_of_them() -> None:
    density = Program(RIGHT["one_switch"].model, (Y + 9,)).density()
    mu = torch.tensor([-9.0, 9.0]).expand(S, 2)
    found = Reader(density, {}).read("posterior_predictive", {"mu": mu}, density.data)["y"]
    within(found, 9.0, 1.0)


# --- deterministic sites, and names of axes


def test_deterministic_sites_are_in_the_posterior() -> None:
    of = reader("named")
    mu = torch.tensor([0.5, -1.0])
    found = read(of, "posterior", mu=mu)
    assert set(found) == {"mu", "twice", "shifted"}
    agree(found["twice"], 2 * mu)
    agree(found["shifted"], (2 * mu + 1)[:, None].expand(2, 6))
    assert of.axes["posterior"] == {"mu": (), "twice": (), "shifted": ("data",)}


def test_deterministic_sites_follow_the_posterior_of_a_sum() -> None:
    """Or they are left out, which would be right too."""
    density = Program(RIGHT["switch"].model, (torch.full((6,), 8.0),)).density()
    of = Reader(density, {})
    found = of.read("posterior", {"odds": torch.zeros(200), "jump": torch.full((200,), 8.0)}, density.data)
    if "level" in found:
        agree(found["level"], np.full((200, 6), 8.0))  # p(on | y) = 1 - e^-128


def computed(value: Callable[[Tensor], Tensor], *, inside: bool, event_dim: int | None = None) -> FlatDensity:
    """A program that gives a name to something, inside a plate of six or outside."""

    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        if not inside:
            pyro.deterministic("it", value(mu), event_dim=event_dim)
        with pyro.plate("data", len(y)):
            if inside:
                pyro.deterministic("it", value(mu), event_dim=event_dim)
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    return FlatDensity.of(model, Y)


@pytest.mark.parametrize(
    ("shape", "inside", "event_dim", "batch", "event"),
    [
        pytest.param((), False, None, (), (), id="a number"),
        pytest.param((3,), False, None, (), ("it_dim_0",), id="a vector"),
        pytest.param((6,), False, None, (), ("it_dim_0",), id="as long as a plate it is not in"),
        pytest.param((2, 3), False, None, (), ("it_dim_0", "it_dim_1"), id="a matrix"),
        pytest.param((6,), True, None, ("data",), (), id="in a plate"),
        pytest.param((6,), True, 0, ("data",), (), id="in a plate, said so"),
        pytest.param((6, 3), True, None, ("data",), ("it_dim_0",), id="a vector in a plate"),
        pytest.param((6, 3), True, 1, ("data",), ("it_dim_0",), id="a vector in a plate, said so"),
        pytest.param((6, 6), True, 1, ("data",), ("it_dim_0",), id="a vector as long as the plate, said so"),
        pytest.param((6, 2, 3), True, 2, ("data",), ("it_dim_0", "it_dim_1"), id="a matrix in a plate"),
        pytest.param((3,), True, None, (), ("it_dim_0",), id="a vector of another length in a plate"),
        pytest.param((2, 6), True, 0, ("it_dim_0", "data"), (), id="an axis left of the plate"),
    ],
)
def test_axes_of_what_is_computed(
    shape: tuple[int, ...], inside: bool, event_dim: int | None, batch: tuple[str, ...], event: tuple[str, ...]
) -> None:
    density = computed(
        lambda mu: mu + torch.arange(math.prod(shape)).reshape(shape), inside=inside, event_dim=event_dim
    )
    assert axes_of(density.sites()["it"]) == Axes(batch, event)
    mu = torch.tensor([0.5, -1.0])
    found = Reader(density, {}).read("posterior", {"mu": mu}, density.data)["it"]
    agree(found, mu.reshape(2, *(1 for _ in shape)) + torch.arange(math.prod(shape)).reshape(shape))


def test_axes_of_latents_are_plates_and_numbers() -> None:
    sites = RIGHT["mixture_by_vindex"].density().sites()
    assert axes_of(sites["mean"]) == Axes(("component",), ("mean_dim_0",))
    assert axes_of(sites["share"]) == Axes((), ("share_dim_0",))
    assert axes_of(sites["mean"]).all == ("component", "mean_dim_0")
    assert axes_of(sites["mean"], ["feature"]) == Axes(("component",), ("feature",))
    assert axes_of(sites["mean"], ["bump", "feature"]) == Axes(("bump",), ("feature",))
    table = RIGHT["nested_plates"].density().sites()["table"]
    assert axes_of(table) == Axes(("measurement", "group"), ())
    assert axes_of(table, ["m", "g"]) == Axes(("m", "g"), ())


def test_another_number_of_names_is_refused() -> None:
    density = RIGHT["mixture_by_vindex"].density()
    said = r"`dims` names 3 axes of site `mean`, expected 1 for one value, or 2 for all; its shape is \(2, 3\)"
    with pytest.raises(ValueError, match=said):
        Reader(density, {"mean": ["a", "b", "c"]})


def tree_of(name: str, **options: Any) -> Any:
    density = RIGHT[name].density()
    values = constrained(density, torch.randn(2, 3, density.dim), density.data)
    return assemble(density, values, density.data, attrs=ATTRS, num_prior=2, **options)


def test_names_and_labels_reach_the_tree() -> None:
    labels = ["a", "b", "c"]
    tree = tree_of("mixture_by_vindex", dims={"mean": ["feature"], "x": ["feature"]}, coords={"feature": labels})
    assert tree["posterior"]["mean"].dims == ("chain", "draw", "component", "feature")
    assert tree["posterior"]["feature"].values.tolist() == labels
    assert tree["observed_data"]["x"].dims == ("data", "feature")
    assert tree["log_likelihood"]["x"].dims == ("chain", "draw", "data")
    assert tree["posterior"]["component"].values.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dims": {"men": ["a"]}}, "`dims` has site `men`, expected some of share, mean"),
        ({"dims": {"mean": ["a", "b", "c"]}}, "`dims` names 3 axes of site `mean`"),
        ({"coords": {"componet": [0, 1]}}, "`coords` has `componet`, expected some of component"),
        ({"coords": {"component": [0, 1, 2]}}, "`coords` gives `component` 3 values, expected 2"),
    ],
)
def test_names_of_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tree_of("mixture_by_vindex", **options)


def test_coordinates_are_numbers_where_none_are_given() -> None:
    found = coordinates({"a": 3, "b": 2}, {"b": ["x", "y"]})
    assert found["a"].tolist() == [0, 1, 2]
    assert found["b"].tolist() == ["x", "y"]
    check_names({"s": ["a"]}, {"b": [1, 2]}, ["s"], ["a", "b"])
    with pytest.raises(ValueError, match="`coords` has `c`, expected some of no axes"):
        check_names({}, {"c": []}, ["s"], [])
