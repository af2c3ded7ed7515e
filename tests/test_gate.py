"""The gate: each check against synthetic draws whose fault is known, and its numbers against ArviZ called directly."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import xarray as xr
from arviz_stats import bfmi, ess, loo, mcse, rhat, rhat_nested
from numpy.typing import NDArray

from inference.diagnostics.gate import Diagnosis, diagnose

Array = NDArray[Any]


def dataset(variables: Mapping[str, Any], dims: Mapping[str, tuple[str, ...]]) -> xr.Dataset:
    """Draws `(chain, draw, ...)` by name; further dimensions by name too, or numbered."""
    found = {}
    for name, values in variables.items():
        rest = dims.get(name, tuple(f"{name}_dim_{i}" for i in range(np.ndim(values) - 2)))
        found[name] = (("chain", "draw", *rest), np.asarray(values))
    return xr.Dataset(found)


def tree_of(
    posterior: Mapping[str, Any],
    *,
    stats: Mapping[str, Any] | None = None,
    log_likelihood: Mapping[str, Any] | None = None,
    dims: Mapping[str, tuple[str, ...]] | None = None,
    **attrs: Any,
) -> xr.DataTree:
    """A tree of a sampler that noted healthy energies and no divergences, unless `stats` says otherwise."""
    C, N = np.shape(next(iter(posterior.values())))[:2]
    healthy = {"energy": np.random.default_rng(99).normal(size=(C, N)), "diverging": np.zeros((C, N), dtype=bool)}
    groups = {"posterior": posterior, "sample_stats": healthy if stats is None else stats}
    if log_likelihood is not None:
        groups["log_likelihood"] = log_likelihood
    tree = xr.DataTree.from_dict({name: dataset(group, dims or {}) for name, group in groups.items() if group})
    tree.attrs |= attrs
    return tree


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def ar1(C: int, N: int, rho: float, seed: int = 0) -> Array:
    noise, x = normal(C, N, seed=seed), np.zeros((C, N))
    x[:, 0] = noise[:, 0]
    for t in range(1, N):
        x[:, t] = rho * x[:, t - 1] + (1 - rho**2) ** 0.5 * noise[:, t]
    return x


def verdicts(found: Diagnosis, verdict: str) -> set[str]:
    return {row.check for row in found.rows if row.verdict == verdict}


# -- Markov chains -------------------------------------------------------------------------------------------


def test_well_mixed_chains_pass_every_check() -> None:
    found = diagnose(tree_of({"theta": normal(16, 500, 3), "n": normal(16, 500, seed=1) > 0}, restarts=0, partial=0))
    assert found.passed
    assert verdicts(found, "not applicable") == {"LOO k-hat"}
    assert str(found).startswith("passed (MCMC): 12 checks")
    assert list(found.parameters.index) == ["theta[0]", "theta[1]", "theta[2]", "n"]


@pytest.mark.parametrize(("C", "N"), [(4, 201), (16, 100), (20, 60)])
def test_every_number_is_that_of_arviz(C: int, N: int) -> None:
    """Slow chains, ties among the draws as rejections make them, an odd number of draws; 8 or 5 superchains."""
    x = np.stack([ar1(C, N, 0.8), np.round(normal(C, N, seed=1), 1), np.exp(3 * normal(C, N, seed=2))], axis=-1)
    table = diagnose(tree_of({"x": x})).parameters
    expected = {
        "r_hat": rhat(x),
        "ess_bulk": ess(x, method="bulk"),
        "ess_tail": ess(x, method="tail", prob=(0.05, 0.95)),
    }
    expected |= {"mcse_mean": mcse(x, method="mean"), "mcse_sd": mcse(x, method="sd"), "mean": x.mean((0, 1))}
    if C >= 16:
        groups = {16: 8, 20: 5}[C]
        expected["r_hat_nested"] = rhat_nested(x, superchain_ids=np.repeat(np.arange(groups), C // groups))
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-9, err_msg=name)
    assert ("r_hat_nested" in table) == (C >= 16)


def test_chains_that_no_number_divides_are_grouped_without_the_last() -> None:
    x = normal(17, 100)
    x[16] += 100.0
    found = diagnose(tree_of({"x": x}))
    assert found.row("nested R-hat").verdict == "pass"  # the 17th is beside the groups
    assert found.row("R-hat").verdict == "fail"


def test_a_small_scale_is_not_taken_for_a_constant() -> None:
    """ArviZ takes a range below 1e-15 for a constant, of which it says that all draws are effective."""
    x = ar1(4, 500, 0.95)
    large, small = (diagnose(tree_of({"x": scale * x})) for scale in (1.0, 1e-17))
    assert small.row("MCSE of the mean / sd").value == pytest.approx(large.row("MCSE of the mean / sd").value, rel=1e-6)
    assert small.row("constant parameters").verdict == "pass"


def test_slow_chains_fail_by_their_effective_sample_size() -> None:
    found = diagnose(tree_of({"fast": normal(4, 500, seed=1), "slow": ar1(4, 500, 0.97)}))
    row = found.row("bulk ESS")
    assert (row.verdict, row.where, row.count, row.of) == ("fail", "slow", 1, 2)
    assert row.value == pytest.approx(float(ess(ar1(4, 500, 0.97), method="bulk")))
    assert "not mixed" in found.row("R-hat").advice
    assert found.row("R-hat").value > 1.05
    assert diagnose(tree_of({"slow": ar1(4, 500, 0.97)}), ess_bulk=5, ess_tail=5).row("bulk ESS").verdict == "pass"


def test_the_mean_of_a_slow_chain_is_not_known() -> None:
    row = diagnose(tree_of({"slow": ar1(4, 200, 0.97)})).row("MCSE of the mean / sd")
    x = ar1(4, 200, 0.97)
    assert row.verdict == "fail"
    assert row.value == pytest.approx(float(mcse(x)) / x.std(ddof=1))


def test_one_stuck_chain_of_64_is_found() -> None:
    x = normal(64, 200, 2)
    x[41] = 2.5
    found = diagnose(tree_of({"theta": x}))
    stuck = found.row("stuck chains")
    assert (stuck.verdict, stuck.where, stuck.count, stuck.of) == ("fail", "chain 41", 1, 64)
    assert found.row("R-hat").verdict == "fail"


@pytest.mark.parametrize("how", ["diverging", "acceptance_rate"])
def test_a_chain_is_stuck_that_diverges_or_rejects_at_every_draw(how: str) -> None:
    stats = {"diverging": np.zeros((4, 100), dtype=bool), "acceptance_rate": np.full((4, 100), 0.8)}
    stats[how][2] = how == "diverging"
    row = diagnose(tree_of({"x": normal(4, 100)}, stats=stats)).row("stuck chains")
    assert (row.verdict, row.where, row.count) == ("fail", "chain 2", 1)


def test_a_parameter_at_rest_in_a_chain_that_moves_is_not_a_stuck_chain() -> None:
    label = np.zeros((4, 100), dtype=int)
    label[1:, ::2] = 1
    assert diagnose(tree_of({"x": normal(4, 100), "label": label})).row("stuck chains").verdict == "pass"


def test_chains_in_two_modes_fail_with_the_reason() -> None:
    x = normal(4, 500, 2)
    x[:2, :, 1] += 10.0
    found = diagnose(tree_of({"theta": x}))
    row = found.row("R-hat")
    assert (row.verdict, row.where, row.count, row.of) == ("fail", "theta[1]", 1, 2)
    assert "modes" in row.advice
    assert row.value == pytest.approx(float(rhat(x[..., 1])))


def test_many_chains_that_are_short_are_not_taken_for_modes() -> None:
    found = diagnose(tree_of({"x": ar1(64, 60, 0.6)}))
    assert found.row("nested R-hat").verdict == "pass"
    assert found.row("R-hat").verdict == "fail"
    assert "more chains do not help" in found.row("R-hat").advice


def test_superchains_in_two_modes_fail() -> None:
    x = normal(16, 200)
    x[:8] += 3.0
    assert diagnose(tree_of({"x": x})).row("nested R-hat").verdict == "fail"
    assert diagnose(tree_of({"x": x[::4]})).row("nested R-hat").verdict == "not applicable"


def test_divergences_are_counted() -> None:
    diverging = np.zeros((4, 250), dtype=bool)
    diverging[0, 3] = diverging[2, :4] = True
    tree = tree_of({"x": normal(4, 250)}, stats={"diverging": diverging, "energy": normal(4, 250)})
    row = diagnose(tree).row("divergences")
    assert (row.verdict, row.value, row.count, row.of, row.where) == ("fail", 5, 5, 1000, "chain 2")
    assert "0.50%" in row.advice
    assert diagnose(tree, divergences=5).row("divergences").verdict == "pass"


def test_energy_that_moves_slowly_fails() -> None:
    energy = normal(4, 300)
    energy[3] = ar1(1, 300, 0.98)[0]
    row = diagnose(tree_of({"x": normal(4, 300)}, stats={"energy": energy})).row("BFMI")
    assert (row.verdict, row.where, row.count, row.of) == ("fail", "chain 3", 1, 4)
    assert row.value == pytest.approx(float(bfmi(energy)[3]))


def test_what_the_sampler_did_not_note_is_unknown() -> None:
    found = diagnose(tree_of({"x": normal(4, 500)}, stats={}))
    assert verdicts(found, "unknown") == {"BFMI", "divergences"}
    assert not found.passed


def test_energy_that_never_moves_is_unknown() -> None:
    found = diagnose(tree_of({"x": normal(4, 100)}, stats={"energy": np.ones((4, 100))}))
    assert found.row("BFMI").verdict == "unknown"


def test_restarts_are_reported() -> None:
    tree = tree_of({"x": normal(4, 500)}, restarts=3)
    row = diagnose(tree).row("restarts")
    assert (row.verdict, row.value) == ("fail", 3)
    assert "minor modes" in row.advice
    assert diagnose(tree, restarts=3).passed
    assert diagnose(tree_of({"x": normal(4, 500)})).row("restarts").verdict == "not applicable"


def test_an_interrupted_run_fails() -> None:
    found = diagnose(tree_of({"x": normal(4, 300)}, partial=True, num_samples=500))
    row = found.row("complete run")
    assert (row.verdict, row.value, row.threshold) == ("fail", 300, 500)
    assert "interrupted: 300 of 500 draws" in row.advice
    assert (
        "of how many is not said" in diagnose(tree_of({"x": normal(4, 300)}, partial=True)).row("complete run").advice
    )
    assert diagnose(tree_of({"x": normal(4, 500)}, num_samples=500)).row("complete run").verdict == "pass"


def test_one_chain_is_never_more_than_unknown() -> None:
    row = diagnose(tree_of({"x": normal(1, 1000)})).row("R-hat")
    assert row.verdict == "unknown"
    assert row.value == pytest.approx(1, abs=0.01)
    assert "another mode" in row.advice
    drift = normal(1, 1000) + np.linspace(0, 5, 1000)
    assert diagnose(tree_of({"x": drift})).row("R-hat").verdict == "fail"


@pytest.mark.parametrize("N", [1, 3, 7])
def test_a_few_draws_are_unknown(N: int) -> None:
    found = diagnose(tree_of({"x": normal(64, N)}))
    assert {"R-hat", "nested R-hat", "bulk ESS", "tail ESS", "BFMI", "stuck chains"} <= verdicts(found, "unknown")
    assert f"({N})" in found.row("R-hat").advice


# -- draws ---------------------------------------------------------------------------------------------------


def test_a_constant_parameter_is_named() -> None:
    found = diagnose(tree_of({"x": normal(4, 500), "fixed": np.ones((4, 500, 2))}))
    row = found.row("constant parameters")
    assert (row.verdict, row.where, row.count, row.of) == ("fail", "fixed", 1, 2)
    unknown = found.row("R-hat")
    assert (unknown.verdict, unknown.where, unknown.count) == ("unknown", "fixed[0]", 2)
    assert np.isnan(found.parameters.loc["fixed[1]", "ess_bulk"])  # ArviZ would say 2000
    assert diagnose(tree_of({"x": normal(4, 500), "fixed": np.ones((4, 500))}), var_names="x").passed


def test_the_form_of_a_variable_is_left_out() -> None:
    L = np.zeros((4, 500, 2, 2))
    L[..., 1, 0] = normal(4, 500)
    L[..., 0, 0] = 1.0
    L[..., 1, 1] = 1.0 + 1e-16 * normal(4, 500, seed=1).round()  # rounding
    found = diagnose(tree_of({"L": L}))
    row = found.row("constant parameters")
    assert (row.verdict, row.where) == ("pass", "3 constant elements of L left out")
    assert (found.row("R-hat").where, found.row("R-hat").of) == ("L[1, 0]", 1)
    assert found.passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_draws_that_are_not_finite_fail_and_leave_no_check_green(value: float) -> None:
    x = normal(4, 500, 2)
    x[1, 7, 1] = value
    found = diagnose(tree_of({"x": x}))
    row = found.row("non-finite draws")
    assert (row.verdict, row.where, row.value, row.count) == ("fail", "x[1]", 1, 1)
    assert (found.row("R-hat").verdict, found.row("R-hat").where) == ("unknown", "x[1]")
    assert {"bulk ESS", "tail ESS", "MCSE of the mean / sd"} <= verdicts(found, "unknown")
    assert found.row("constant parameters").verdict == "pass"


def test_a_rare_event_has_no_tail_of_its_own() -> None:
    """Of a slow 0/1 variable that is nearly always 1 ArviZ says that all draws are effective in the tail."""
    x = (ar1(4, 500, 0.98) > -2.2).astype(int)
    assert 0.95 < x.mean() < 1
    assert ess(x, method="tail", prob=(0.05, 0.95)) == 2000
    assert diagnose(tree_of({"x": x})).row("tail ESS").value == pytest.approx(float(ess(x, method="bulk")))


def test_the_worst_image_is_reported_and_not_the_mean() -> None:
    z = normal(4, 200, 50, 2)
    z[0, :, 37, 1] += 8.0
    z[1, :, 12] = 0.3  # the chain of one image
    found = diagnose(tree_of({"z": z}, dims={"z": ("data", "z_dim_0")}))
    assert (found.row("R-hat").where, found.row("R-hat").of) == ("z[37, 1]", 100)
    stuck = found.row("stuck chains")
    assert (stuck.verdict, stuck.where, stuck.count, stuck.of) == ("fail", "chain 1, data 12", 1, 200)


def test_statistics_of_each_image_are_judged_one_by_one() -> None:
    dims = dict.fromkeys(("z", "energy", "diverging"), ("data",))
    stats = {"energy": normal(4, 200, 5), "diverging": np.zeros((4, 200, 5), dtype=bool)}
    stats["energy"][2, :, 4] = ar1(1, 200, 0.98)[0]
    stats["diverging"][3, :7, 1] = True
    found = diagnose(tree_of({"z": normal(4, 200, 5, seed=1)}, stats=stats, dims=dims))
    assert found.row("BFMI").where == "chain 2, data 4"
    assert (found.row("divergences").where, found.row("divergences").value) == ("chain 3, data 1", 7)


# -- guides --------------------------------------------------------------------------------------------------


def guide_tree(khat: Any = None, **attrs: Any) -> xr.DataTree:
    posterior = dataset({"z": normal(1, 1000, 3)}, {"z": ("data",)})
    stats = {} if khat is None else {"sample_stats": xr.Dataset({"khat": (("data",)[: np.ndim(khat)], khat)})}
    tree = xr.DataTree.from_dict({"posterior": posterior, **stats})
    tree["posterior"].attrs["inference_method"] = "VI"
    tree.attrs |= attrs
    return tree


def test_checks_of_chains_are_refused_for_a_guide() -> None:
    found = diagnose(guide_tree(0.2))
    refused = {"R-hat", "nested R-hat", "bulk ESS", "tail ESS", "BFMI", "divergences", "restarts", "stuck chains"}
    assert refused <= verdicts(found, "not applicable")
    assert "whether or not they are the posterior" in found.row("R-hat").advice
    assert found.method == "VI"
    assert found.passed
    assert "r_hat" not in found.parameters


@pytest.mark.parametrize("limit", ["rhat", "nested_rhat", "ess_bulk", "ess_tail", "bfmi", "divergences", "restarts"])
def test_a_threshold_for_chains_is_refused_for_a_guide(limit: str) -> None:
    with pytest.raises(ValueError, match=rf"`{limit}` was given, but the draws are of VI"):
        diagnose(guide_tree(0.2), **{limit: 1.05})
    with pytest.raises(ValueError, match=r"`khat` was given, but the draws are of MCMC"):
        diagnose(tree_of({"x": normal(4, 100)}), khat=0.7)


def test_the_worst_khat_of_the_data_is_judged() -> None:
    row = diagnose(guide_tree([0.1, 0.9, 0.8])).row("k-hat")
    assert (row.verdict, row.value, row.where, row.count, row.of) == ("fail", 0.9, "data 1", 2, 3)
    assert row.threshold == pytest.approx(1 - 1 / np.log10(1000))
    assert diagnose(guide_tree([0.1, 0.9, 0.8], num_particles=100)).row("k-hat").threshold == pytest.approx(0.5)
    assert diagnose(guide_tree([0.1, 0.9, 0.8]), khat=0.95).passed
    assert diagnose(guide_tree([-np.inf, 0.1, 0.2])).passed


def test_khat_may_be_an_attribute() -> None:
    assert diagnose(guide_tree()).row("k-hat").verdict == "unknown"
    tree = guide_tree()
    tree.attrs["khat"] = 0.65
    assert (diagnose(tree).row("k-hat").verdict, diagnose(tree).row("k-hat").value) == ("pass", 0.65)


@pytest.mark.parametrize("khat", [None, np.nan, [0.1, np.nan, 0.2]])
def test_a_khat_that_is_not_known_is_no_pass(khat: Any) -> None:
    found = diagnose(guide_tree(khat))
    assert found.row("k-hat").verdict == "unknown"
    assert not found.passed


# -- leaving one out -----------------------------------------------------------------------------------------


def likelihoods(outlier: float = 0.0) -> tuple[Array, Array]:
    """Draws of a normal mean given 20 data of which one is far away, and the log likelihood of each."""
    y = normal(20, seed=3)
    y[6] += outlier
    mu = y.mean() + normal(4, 500) / 20**0.5
    return mu, -0.5 * (y - mu[..., None]) ** 2


def test_an_outlier_is_found_by_leaving_it_out() -> None:
    mu, log_p = likelihoods(outlier=15.0)
    tree = tree_of({"mu": mu}, log_likelihood={"y": log_p, "other": likelihoods()[1]})
    found = diagnose(tree)
    with pytest.warns(UserWarning, match="Pareto"):
        expected = loo(tree, var_name="y", pointwise=True).pareto_k.values
    row = found.row("LOO k-hat of y")
    assert (row.verdict, row.where, row.of, row.count) == ("fail", "y[6]", 20, int((expected > 0.7).sum()))
    assert row.value == pytest.approx(float(expected[6]), rel=1e-6)
    assert row.threshold == pytest.approx(min(0.7, 1 - 1 / np.log10(2000)))
    assert found.row("LOO k-hat of other").verdict == "pass"
    assert diagnose(tree, loo_khat=0.01).row("LOO k-hat of other").verdict == "fail"


def test_data_that_are_masked_have_nothing_to_leave_out() -> None:
    mu, log_p = likelihoods()
    log_p[..., :5] = 0.0
    assert diagnose(tree_of({"mu": mu}, log_likelihood={"y": log_p})).row("LOO k-hat of y").verdict == "pass"
    log_p[0, 0, 3] = -np.inf
    row = diagnose(tree_of({"mu": mu}, log_likelihood={"y": log_p})).row("LOO k-hat of y")
    assert (row.verdict, row.where, row.count, row.of) == ("unknown", "y[3]", 1, 20)


def test_a_failure_of_loo_is_told() -> None:
    mu, log_p = likelihoods()
    found = diagnose(tree_of({"mu": mu}, log_likelihood={"none": 0 * log_p, "nan": log_p * np.nan}))
    assert {"LOO k-hat of none", "LOO k-hat of nan"} <= verdicts(found, "unknown")
    assert "finite and differs" in found.row("LOO k-hat of none").advice
    tree = tree_of({"mu": mu})
    tree["log_likelihood"] = xr.DataTree(xr.Dataset({"y": ("datum", np.zeros(3))}))
    assert "LOO failed (ValueError" in diagnose(tree).row("LOO k-hat of y").advice


# -- what is shown -------------------------------------------------------------------------------------------


def test_names_are_escaped() -> None:
    bad = "<script>alert(1)</script>"
    x = normal(4, 100, 1)
    x[0] += 5.0
    tree = tree_of({"x": x}, dims={"x": ("name",)})
    tree["posterior"] = xr.DataTree(tree["posterior"].to_dataset().assign_coords(name=[bad]))
    tree["log_likelihood"] = xr.DataTree(dataset({bad.replace("/", ""): np.zeros((4, 100))}, {}))
    page = diagnose(tree)._repr_html_()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 3  # where, check and advice


def test_the_verdict_is_one_line_then_rows_then_advice() -> None:
    found = diagnose(tree_of({"x": ar1(4, 100, 0.9)}, stats={}))
    first, header, *lines = str(found).splitlines()
    assert first.startswith("not passed (MCMC): fail: ")
    assert first.endswith("unknown: BFMI, divergences")
    assert header.split() == ["check", "threshold", "value", "where", "count", "of", "verdict"]
    assert len(lines) > len(found.rows)
    assert list(found.frame["advice"] == "") == [not row.advice for row in found.rows]
    assert all(row.advice for row in found.rows if row.verdict != "pass")


def test_everything_is_json() -> None:
    x = normal(4, 100, 2)
    x[:, :, 1] = np.arange(4)[:, None]
    x[0, 0, 0] = np.inf
    kept = json.loads(json.dumps(diagnose(tree_of({"x": x})).to_dict(), allow_nan=False))
    assert kept["passed"] is False
    assert {row["check"]: row["verdict"] for row in kept["rows"]}["non-finite draws"] == "fail"
    assert kept["parameters"][0]["name"] == "x[0]"
    assert (kept["parameters"][0]["mean"], kept["parameters"][0]["r_hat"]) == ("inf", None)


# -- mistakes ------------------------------------------------------------------------------------------------


def test_mistakes_are_said_in_a_sentence() -> None:
    good = tree_of({"x": normal(4, 10)})
    with pytest.raises(TypeError, match=r"`tree` is a Dataset, expected an `xarray.DataTree`"):
        diagnose(good["posterior"].to_dataset())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`tree` has prior, expected a group `posterior`"):
        diagnose(xr.DataTree.from_dict({"prior": dataset({"x": normal(1, 2)}, {})}))
    with pytest.raises(ValueError, match=r"4 chains of 0 draws, expected at least one"):
        diagnose(tree_of({"x": normal(4, 0)}))
    with pytest.raises(ValueError, match=r"posterior of no elements"):
        diagnose(tree_of({"x": normal(4, 10, 0)}))
    with pytest.raises(ValueError, match=r"`x` of dimensions .* and type .*, expected numbers"):
        diagnose(xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("chain", "draw"), [["a"]])})}))
    with pytest.raises(ValueError, match=r"`var_names` has \['y'\], expected some of x"):
        diagnose(good, var_names=["x", "y"])
    with pytest.raises(ValueError, match=r"`rhat` is nan, expected a number"):
        diagnose(good, rhat=float("nan"))
    with pytest.raises(ValueError, match=r"`inference_method` 'ABC', expected MCMC, VI or IS"):
        diagnose(tree_of({"x": normal(4, 10)}, inference_method="ABC"))
    with pytest.raises(ValueError, match=r"`energy` of sizes .* expected the 4 chains"):
        diagnose(tree_of({"x": normal(4, 10)}, stats={"energy": normal(3, 10)}))
