"""Programs for posteriors: densities by other means, moments of priors, types; and the data for them."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from scipy import stats
from scipy.special import expit, logsumexp
from torch import Tensor

from inference.density import FlatDensity
from ppmodels import studies
from ppmodels.programs import PROGRAMS, dp_mixture, eight_schools, hidden_markov, hierarchical_logistic, program, table
from ppmodels.recipes.posterior import load_posterior
from ppmodels.recipes.programs import STUDIES
from ppmodels.studies import Study, clumps, groups, regimes, schools


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def log_joint(model: Callable[..., Any], values: Mapping[str, Tensor], **arguments: Any) -> float:
    """What a program says of latents and data, nothing summed out."""
    return float(poutine.trace(poutine.condition(model, values)).get_trace(**arguments).log_prob_sum())


def marginal(model: Callable[..., Any], values: Mapping[str, Tensor], **arguments: Any) -> float:
    """What chains see of it, discrete latents summed out, without the Jacobian of the constraints."""
    density = FlatDensity.of(model, kwargs=arguments)
    q = density.unconstrain(values)
    jacobian = torch.autograd.functional.jacobian(lambda u: free(density, u), q)
    return float(density.log_density(q)) - float(torch.linalg.slogdet(jacobian).logabsdet)


def free(density: FlatDensity, q: Tensor) -> Tensor:
    """As many coordinates of the latents as there are of the vector: the last share of a simplex follows."""
    parts = []
    for latent in density.latents:
        value = density.constrain(q)[latent.name]
        parts.append((value if latent.shape == latent.free else value[..., :-1]).reshape(-1))
    return torch.cat(parts)


# -- densities -----------------------------------------------------------------------------------------------


def test_eight_schools_by_scipy() -> None:
    sigma, y, eta = tensor(15, 10, 16), tensor(28, 8, -3), tensor(0.3, -1.2, 0.7)
    mu, tau = 4.0, 6.0
    values = {"mu": tensor(mu)[0], "tau": tensor(tau)[0], "eta": eta}
    expected = stats.norm.logpdf(mu, 0, 5) + stats.halfcauchy.logpdf(tau, scale=5) + stats.norm.logpdf(eta).sum()
    expected += stats.norm.logpdf(y, mu + tau * eta, sigma).sum()
    assert log_joint(eight_schools, values, sigma=sigma, y=y) == pytest.approx(expected, rel=1e-12)
    assert marginal(eight_schools, values, sigma=sigma, y=y) == pytest.approx(expected, rel=1e-12)


def test_hierarchical_logistic_by_scipy() -> None:
    group, x, y = torch.tensor([0, 1, 1, 0]), tensor(0.5, -1, 2, 0.1).reshape(4, 1), tensor(1, 0, 1, 0)
    mu, tau, eta = tensor(0.2, -0.6), tensor(0.9, 0.4), tensor(0.3, -1, 0.8, 0.5).reshape(2, 2)
    expected = stats.norm.logpdf(mu, 0, 2.5).sum() + stats.halfnorm.logpdf(tau).sum() + stats.norm.logpdf(eta).sum()
    for i in range(4):
        beta = (mu + tau * eta[group[i]]).tolist()
        expected += stats.bernoulli.logpmf(int(y[i]), expit(beta[0] + beta[1] * float(x[i, 0])))
    found = log_joint(hierarchical_logistic, {"mu": mu, "tau": tau, "eta": eta}, group=group, x=x, y=y, num_groups=2)
    assert found == pytest.approx(float(expected), rel=1e-12)


MIXTURE = {
    "alpha": tensor(1.3)[0],
    "v": tensor(0.3, 0.6),
    "loc": tensor(-1, 0.5, 3),
    "scale": tensor(0.4, 1.1, 0.7),
}


def test_dp_mixture_by_scipy_and_by_every_assignment_of_three_data() -> None:
    y, T = tensor(-0.8, 0.1, 2.5), 3
    alpha, v, loc, scale = (value.numpy() for value in MIXTURE.values())
    weights = np.array([0.3, 0.7 * 0.6, 0.7 * 0.4])
    prior = stats.gamma.logpdf(alpha, 2, scale=1 / 2)
    prior += sum(stats.beta.logpdf(v[t], alpha / T, alpha * (1 - (t + 1) / T)) for t in range(T - 1))
    prior += stats.norm.logpdf(loc).sum() + stats.lognorm.logpdf(scale, 0.5, scale=0.3).sum()
    expected = prior + sum(np.log(weights @ stats.norm.pdf(float(one), loc, scale)) for one in y)
    assert marginal(dp_mixture, MIXTURE, n=3, y=y, sticks=T) == pytest.approx(expected, rel=1e-12)
    assigned = [
        log_joint(dp_mixture, {**MIXTURE, "z": torch.tensor(z)}, n=3, y=y, sticks=T)
        for z in itertools.product(range(T), repeat=3)
    ]
    assert len(assigned) == 27
    assert logsumexp(assigned) == pytest.approx(expected, rel=1e-12)


def test_what_a_dp_mixture_says_of_its_components() -> None:
    y, grid, loc, scale = tensor(-0.8, 0.1, 2.5), tensor(-2, 0, 2), MIXTURE["loc"], MIXTURE["scale"]
    with poutine.trace() as trace, poutine.condition(data=MIXTURE):
        dp_mixture(3, y, grid=grid, sticks=3)
    found = {name: trace.trace.nodes[name]["value"].numpy() for name in ("weights", "occupied", "density")}
    weights = np.array([0.3, 0.42, 0.28])
    assert found["weights"] == pytest.approx(np.array([0.42, 0.3, 0.28]))
    pdf = stats.norm.pdf(grid.numpy()[:, None], loc.numpy(), scale.numpy())
    assert found["density"] == pytest.approx(pdf @ weights)
    r = weights * stats.norm.pdf(y.numpy()[:, None], loc.numpy(), scale.numpy())
    r /= r.sum(1, keepdims=True)
    sets = [(len(set(z)), math.prod(r[i, z[i]] for i in range(3))) for z in itertools.product(range(3), repeat=3)]
    assert found["occupied"] == pytest.approx(sum(size * p for size, p in sets))


def test_the_law_of_a_dp_mixture_is_the_same_under_every_numbering() -> None:
    """With the weights for coordinates: sticks that are relabelled have another density, and another Jacobian."""
    y, T, alpha = tensor(-0.8, 0.1, 2.5), 3, MIXTURE["alpha"]
    weights, found = np.array([0.3, 0.42, 0.28]), []
    for order in itertools.permutations(range(T)):
        w = weights[list(order)]
        values = {"alpha": alpha, "v": tensor(w[0], w[1] / (1 - w[0]))}
        values |= {name: MIXTURE[name][list(order)] for name in ("loc", "scale")}
        found.append(marginal(dp_mixture, values, n=3, y=y, sticks=T) - math.log(1 - w[0]))  # dw / dv = 1 - w_1
    assert found == pytest.approx([found[0]] * 6, rel=1e-12)


@pytest.mark.parametrize("states", [2, 3])
def test_hidden_markov_by_every_path(states: int) -> None:
    T, y = 6, tensor(-0.3, 0.8, 1.9, 0.2, -0.5, 2.2)
    rows = torch.eye(states, dtype=torch.float64) + torch.arange(1.0, 1 + states**2).reshape(states, states) / 7
    transition = rows / rows.sum(-1, keepdim=True)
    gap, scale = tensor(0.9, 1.4)[: states - 1], tensor(0.7, 0.5, 0.9)[:states]
    values = {"lowest": tensor(-0.2)[0], "gap": gap, "scale": scale, "transition": transition}
    loc = -0.2 + np.concatenate([[0], gap.cumsum(0)])
    paths = [
        -math.log(states)
        + sum(
            math.log(transition[z[t], z[t + 1]]) + stats.norm.logpdf(float(y[t]), loc[z[t + 1]], float(scale[z[t + 1]]))
            for t in range(T)
        )
        for z in itertools.product(range(states), repeat=T + 1)  # z_0 before the first measurement
    ]
    prior = stats.norm.logpdf(-0.2) + stats.gamma.logpdf(gap, 2, scale=1 / 2).sum() + stats.halfnorm.logpdf(scale).sum()
    prior += sum(stats.dirichlet.logpdf(transition[k], 1 + 2.0 * np.eye(states)[k]) for k in range(states))
    arguments = {"num_series": 1, "length": T, "y": y.reshape(1, T), "states": states}
    expected = pytest.approx(prior + logsumexp(paths), rel=1e-12)
    assert log_joint(hidden_markov, values, **arguments) == expected
    assert marginal(hidden_markov, values, **arguments) == expected


def test_series_are_independent_given_their_law() -> None:
    values = {"lowest": tensor(0)[0], "gap": tensor(1), "scale": tensor(1, 2), "transition": tensor(0.7, 0.3, 0.2, 0.8)}
    values["transition"] = values["transition"].reshape(2, 2)
    y = torch.randn(3, 5, dtype=torch.float64)

    def of(*rows: int) -> float:
        trace = poutine.trace(poutine.condition(hidden_markov, values)).get_trace(len(rows), 5, y[list(rows)])
        trace.compute_log_prob()
        return float(trace.nodes["y"]["log_prob_sum"])

    assert of(0, 1, 2) == pytest.approx(of(0) + of(1) + of(2), rel=1e-12)


# -- priors --------------------------------------------------------------------------------------------------

DRAWS = 500


def prior(model: Callable[..., Any], **arguments: Any) -> dict[str, Tensor]:
    """Draws of all its sites."""
    found: dict[str, list[Tensor]] = {}
    with pyro.validation_enabled(False):
        for _ in range(DRAWS):
            trace = poutine.trace(model).get_trace(**arguments)
            for name, node in trace.nodes.items():
                if node["type"] == "sample" and isinstance(node["value"], Tensor):
                    found.setdefault(name, []).append(node["value"])
    return {name: torch.stack(values).double() for name, values in found.items()}


def assert_mean(values: Tensor, expected: float) -> None:
    """Within four standard errors: a false alarm in 16,000."""
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - expected) <= 4 * error


def test_prior_of_eight_schools() -> None:
    drawn = prior(eight_schools, sigma=tensor(3, 3))
    assert_mean(drawn["mu"], 0)
    assert_mean(drawn["mu"] ** 2, 25)
    assert_mean((drawn["tau"] < 5).double(), 0.5)  # its median; it has no mean
    assert torch.equal(drawn["theta"], drawn["mu"][:, None] + drawn["tau"][:, None] * drawn["eta"])
    noise = (drawn["y"] - drawn["theta"])[:, 0] / 3
    assert_mean(noise, 0)
    assert_mean(noise**2, 1)


def test_prior_of_hierarchical_logistic() -> None:
    drawn = prior(hierarchical_logistic, group=torch.tensor([0, 1]), x=tensor(1, -2).reshape(2, 1), num_groups=2)
    assert drawn["beta"].shape == (DRAWS, 2, 2)
    assert_mean(drawn["beta"][:, 0, 1], 0)
    assert_mean(drawn["beta"][:, 0, 1] ** 2, 2.5**2 + 1)  # of its mean over groups, and around it
    assert_mean(drawn["beta"][:, 0, 1] * drawn["beta"][:, 1, 1], 2.5**2)
    logits = drawn["beta"][:, 1, 0] - 2 * drawn["beta"][:, 1, 1]
    assert_mean(drawn["y"][:, 1] - logits.sigmoid(), 0)


def test_prior_of_dp_mixture() -> None:
    drawn = prior(dp_mixture, n=2, sticks=4, centre=3.0, spread=2.0, width=0.5)
    assert_mean(drawn["alpha"], 1)
    assert_mean(drawn["y"][:, 0], 3)
    assert_mean((drawn["y"][:, 0] - 3) ** 2, 2**2 + 0.5**2 * math.exp(0.5))
    together = (drawn["z"][:, 0] == drawn["z"][:, 1]).double()
    assert_mean(together - (1 + drawn["alpha"] / 4) / (1 + drawn["alpha"]), 0)  # 1 / (1 + alpha) for many sticks
    assert_mean(drawn["occupied"] + together, 2)
    assert_mean(drawn["weights"].sum(-1) + together, float(1 + together.mean()))
    first = drawn["v"][:, 0]
    assert_mean(first, 1 / 4)  # no number is likelier than another


def test_prior_of_hidden_markov() -> None:
    drawn = prior(hidden_markov, num_series=1, length=3, states=3, centre=2.0, spread=1.5)
    assert drawn["y"].shape == (DRAWS, 1, 3)
    assert_mean(drawn["lowest"], 2)
    assert_mean(drawn["loc"][:, 2], 2 + 2 * 1.5)
    assert (drawn["loc"].diff() > 0).all()
    assert_mean(drawn["transition"][:, 1, 1], 3 / 5)
    for t in range(3):
        assert_mean(drawn["y"][:, 0, t], 2 + 1.5)  # every state is as likely as the others, at any time


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("default", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.usefixtures("double")
def test_floats_have_the_type_of_the_data(name: str, default: torch.dtype, dtype: torch.dtype) -> None:
    torch.set_default_dtype(default)
    values = study_of(name).values
    cast = {k: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in values.items()}
    trace = poutine.trace(program(name).call).get_trace(**cast)
    trace.compute_log_prob()
    sites = [node for node in trace.nodes.values() if node["type"] == "sample" and isinstance(node["value"], Tensor)]
    assert {s["value"].dtype for s in sites if s["value"].is_floating_point()} == {dtype}
    assert trace.nodes["y"]["log_prob"].dtype == dtype


# -- the table, and the data ---------------------------------------------------------------------------------


def study_of(name: str) -> Study:
    return getattr(studies, STUDIES[name][0])()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_takes_its_study_with_or_without_observations(name: str) -> None:
    found, study = program(name), study_of(name)
    assert found.description
    assert found.paper
    trace = poutine.trace(found.call).get_trace(**study.values)
    observed = [name for name, node in trace.nodes.items() if node["type"] == "sample" and node["is_observed"]]
    assert "y" in observed
    hidden = {key: value for key, value in study.values.items() if key != "y"}
    assert found.call(**hidden).shape == study.values["y"].shape
    assert set(found.identified or ()) <= set(trace.nodes)
    assert set(study.truth) <= set(trace.nodes)


def test_the_table_of_programs() -> None:
    assert [row["program"] for row in table()] == list(PROGRAMS) == list(STUDIES)
    with pytest.raises(ValueError, match=r"`eight` is no program, expected one of eight_schools, "):
        program("eight")


def test_the_eight_schools_are_rubins() -> None:
    found = schools()
    assert found.values["y"].tolist() == [28, 8, -3, 7, -1, 1, 18, 12]
    assert found.values["sigma"].tolist() == [15, 10, 16, 11, 9, 11, 10, 18]
    assert found.coords == {"school": list("ABCDEFGH")}


@pytest.mark.parametrize("make", [groups, clumps, regimes])
def test_synthetic_data_depend_on_their_seed_alone(make: Callable[..., Study]) -> None:
    before = torch.get_rng_state()
    first, again, other = make(), make(), make(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.describe() == again.describe()
    assert first.describe()["sha256"] != other.describe()["sha256"]
    assert all(
        v.dtype == torch.float64 for v in first.values.values() if isinstance(v, Tensor) and v.is_floating_point()
    )
    with pytest.raises(ValueError, match="`n` must be at least 1, got 0"):
        make(0)


def test_synthetic_data_are_what_their_truth_says() -> None:
    """Against the moments of the truth, within four standard errors."""
    y: Any = clumps(4000).values["y"]
    assert_mean(y, 0.15 * 10 + 0.55 * 20 + 0.30 * 30)
    assert_mean((y < 15).double(), 0.15)
    series: Any = regimes(2000, length=3).values["y"]
    assert_mean(series[:, 0], -1.0 * (0.5 * 0.9 + 0.5 * 0.2) + 1.5 * (0.5 * 0.1 + 0.5 * 0.8))
    outcomes = groups(20_000, num_groups=3)
    group, x, y = (outcomes.values[name] for name in ("group", "x", "y"))
    design = torch.cat([torch.ones(len(x), 1), x], 1)
    assert_mean(y - (outcomes.truth["beta"][group] * design).sum(-1).sigmoid(), 0)


def test_the_options_of_a_recipe_are_those_of_its_program() -> None:
    for name in ("eight-schools", "hierarchical-logistic", "dp-mixture", "hmm"):
        recipe = load_posterior(name)
        assert recipe.program is not None
        trace = poutine.trace(program(recipe.program.name).call).get_trace(
            **study_of(recipe.program.name).values, **recipe.program.model_dump(exclude={"name"})
        )
        assert math.isfinite(float(trace.log_prob_sum()))
