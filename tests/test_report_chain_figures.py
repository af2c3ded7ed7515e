"""Figures of chains and predictions, against the numbers they are of."""

import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from arviz_stats import loo_pit  # type: ignore[attr-defined]
from matplotlib.figure import Figure

from inference.report.figures import (
    energy_figure,
    evolution_figure,
    forest_figure,
    loo_khat_figure,
    loo_pit_figure,
    pair_figure,
    ppc_figure,
    rank_figure,
    ranks,
    sensitivity_figure,
    trace_figure,
)
from inference.report.figures.selecting import selected
from inference.report.figures.style import COLOURS
from inference.report.svg import inline_svg

NASTY = "<script>alert(1)<|script> $x_1$ " + "long" * 20


def tree(chains: int = 4, draws: int = 200, value: Any = None, name: str = "theta", **stats: Any) -> xr.DataTree:
    rng = np.random.default_rng(0)
    shape = (chains, draws)
    theta = rng.normal(size=(*shape, 3)) if value is None else np.full((*shape, 3), value)
    posterior = {name: (("chain", "draw", "school"), theta), "tau": (("chain", "draw"), rng.gamma(2.0, size=shape))}
    noted = {"energy": rng.normal(size=shape), "diverging": np.zeros(shape, dtype=bool), **stats}
    groups = {
        "posterior": xr.Dataset(posterior, coords={"school": ["A", "B", "C"]}),
        "sample_stats": xr.Dataset({k: (("chain", "draw"), v) for k, v in noted.items()}),
    }
    return xr.DataTree.from_dict(groups)


def predictive(data: Any, predicted: Any, name: str = "y") -> xr.DataTree:
    rng = np.random.default_rng(1)
    dims = ("chain", "draw", "d")
    groups = {
        "posterior": xr.Dataset({"mu": (("chain", "draw"), rng.normal(size=predicted.shape[:2]))}),
        "posterior_predictive": xr.Dataset({name: (dims, predicted)}),
        "observed_data": xr.Dataset({name: ("d", data)}),
        "log_likelihood": xr.Dataset({name: (dims, rng.normal(-1.0, 0.1, size=predicted.shape))}),
    }
    return xr.DataTree.from_dict(groups)


def _band(collection: Any) -> tuple[Any, Any]:
    """Lower and upper ends, by point, of what was filled between two lines."""
    corners = pd.DataFrame(collection.get_paths()[0].vertices, columns=["x", "y"]).round(9)
    ends = corners.groupby("x")["y"]
    return ends.min().to_numpy(), ends.max().to_numpy()


def hexes(artists: Any) -> list[str]:
    return [mpl.colors.to_hex(one.get_color()) for one in artists]


# -- what is selected ----------------------------------------------------------------------------------------


def test_scalars_are_picked_by_their_labels() -> None:
    whole = tree()
    small = selected(whole, ["theta[B]", "tau"])
    assert list(small) == ["theta[B]", "tau"]
    np.testing.assert_array_equal(small["theta[B]"], whole["posterior"]["theta"].sel(school="B"))


def test_matrices_are_picked_by_both_indices() -> None:
    values = np.arange(4 * 10 * 6.0).reshape(4, 10, 2, 3)
    given = xr.DataTree.from_dict({"posterior": xr.Dataset({"w": (("chain", "draw", "i", "j"), values)})})
    np.testing.assert_array_equal(selected(given, ["w[1, 2]"])["w[1, 2]"], values[:, :, 1, 2])


def test_labels_may_have_a_slash() -> None:
    given = tree()
    posterior = given["posterior"].to_dataset().assign_coords(school=["A/B", "<script>alert(1)</script>", "$C$"])
    given["posterior"] = posterior
    names = ["theta[A/B]", "theta[<script>alert(1)</script>]"]
    axes = trace_figure(given, names).axes
    np.testing.assert_array_equal(axes[0].lines[0].get_ydata(), posterior["theta"][0, :, 0])
    assert axes[0].get_title("left") == "theta[A/B]"
    for make in (rank_figure, evolution_figure, forest_figure, pair_figure):
        assert "<script" not in inline_svg(make(given, names), prefix="f", title="t")


@pytest.mark.parametrize("name", ["theta", "theta[D]", "mu", "tau[0]"])
def test_what_is_no_scalar_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"`names` has .* expected scalars of the posterior"):
        selected(tree(), [name])


# -- what is in them -----------------------------------------------------------------------------------------


def test_chains_that_agree_stay_in_the_band_and_others_leave_it() -> None:
    figure = rank_figure(tree(), ["tau"])
    axes = figure.axes[0]
    assert len(axes.lines) == 4
    assert axes.get_xlabel() == "rank; 0 of 4 chains leave the band"
    apart = tree()
    apart["posterior"]["tau"][2] += 3.0
    axes = rank_figure(apart, ["tau"]).axes[0]
    assert hexes(axes.lines)[2] == COLOURS[1].lower()
    assert int(axes.get_xlabel().split()[1]) >= 1


def test_the_band_holds_at_its_rate() -> None:
    """Independent chains leave a 95 % band in about one of twenty cases: at most 14 of 100, once in 5,000 suites."""
    left = 0
    for seed in range(100):
        draws = np.random.default_rng(seed).normal(size=(4, 100))
        given = xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("chain", "draw"), draws)})})
        left += rank_figure(given, ["x"]).axes[0].get_xlabel() != "rank; 0 of 4 chains leave the band"
    assert 0 < left <= 14


def test_the_band_of_many_draws_holds_at_its_rate() -> None:
    """4 chains of 1,000: 5 %, to four standard errors of 1,000 cases and of the 2,000 that the band is of."""
    points, rng, left = np.arange(1, 40) / 40, np.random.default_rng(1), 0
    reach = ranks._reach(4, 1000) * np.sqrt(points * (1 - points) / 1000)
    for _ in range(1000):
        found = ranks._ranks(rng.normal(size=(4, 1000)))
        left += bool((abs(ranks._ecdfs(found, points) - points) > reach).any())
    assert abs(left / 1000 - 0.05) <= 4 * np.sqrt(0.05 * 0.95 * (1 / 1000 + 1 / 2000))


def test_one_chain_is_not_said_to_agree() -> None:
    axes = rank_figure(tree(chains=1), ["tau"]).axes[0]
    assert not axes.lines
    assert axes.texts[0].get_text() == "one chain has none to agree with"


def test_traces_are_the_draws() -> None:
    given = tree()
    axes = trace_figure(given, ["theta[C]"]).axes[0]
    for line, chain in zip(axes.lines, given["posterior"]["theta"].sel(school="C").to_numpy(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), chain)
    with pytest.raises(ValueError, match="`tree` has 9 chains, expected at most 8: see `rank_figure`"):
        trace_figure(tree(chains=9), ["tau"])


def test_evolution_ends_at_the_verdicts_numbers() -> None:
    from inference.diagnostics.scalars import Draws, parameters_of

    given = tree(draws=500)
    left, right = evolution_figure(given, ["tau"]).axes
    table = parameters_of(Draws.of(given["posterior"].to_dataset()), markov=True).loc["tau"]
    np.testing.assert_allclose(left.lines[0].get_ydata()[-1], table["ess_bulk"], rtol=1e-6)
    np.testing.assert_allclose(left.lines[1].get_ydata()[-1], table["ess_tail"], rtol=1e-6)
    np.testing.assert_allclose(right.lines[0].get_ydata()[-1], table["r_hat"], rtol=1e-6)
    assert left.lines[0].get_xdata()[-1] == 500


def test_forests_stand_at_the_quantiles() -> None:
    given = tree()
    axes = forest_figure(given, ["theta[A]", "tau"]).axes[0]
    draws = given["posterior"]["tau"].to_numpy()
    np.testing.assert_allclose(axes.lines[3].get_xdata(), np.quantile(draws, [0.03, 0.97]))
    np.testing.assert_allclose(axes.lines[5].get_xdata(), [np.median(draws)])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["theta[A]", "tau"]


def test_divergences_are_marked() -> None:
    wild = np.zeros((4, 200), dtype=bool)
    wild[1, [3, 7]] = True
    given = tree(diverging=wild)
    shown = [axes for axes in pair_figure(given, ["tau", "theta[A]"]).axes if axes.get_visible()]
    points, marks = shown[0].collections
    assert len(points.get_offsets()) == 800
    np.testing.assert_allclose(marks.get_offsets()[:, 0], given["posterior"]["tau"].to_numpy()[1, [3, 7]])


def test_energies_have_bfmi_of_each_chain() -> None:
    given = tree()
    axes = energy_figure(given).axes
    energy = given["sample_stats"]["energy"].to_numpy()
    bfmi = (np.diff(energy, axis=1) ** 2).mean(1) / energy.var(1)
    np.testing.assert_allclose(np.sort(axes[0].collections[0].get_offsets()[:, 0]), np.sort(bfmi), rtol=0.05)
    assert "#ffffff" not in inline_svg(energy_figure(given), prefix="f", title="t")  # unseen on one page or the other


def test_data_stand_among_their_replicates() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=40)
    axes = ppc_figure(predictive(data, rng.normal(size=(2, 100, 40))), "y").axes[0]
    assert len(axes.lines) == 51
    np.testing.assert_array_equal(axes.lines[-1].get_xdata()[1:], np.sort(data))
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), np.arange(41) / 40)


def test_masked_data_are_compared_with_nothing() -> None:
    data, drawn = np.array([0.0, np.nan, 1.0, 0.5]), np.full((2, 10, 4), 0.25)
    drawn[:, :, 1] = 99.0
    axes = ppc_figure(predictive(data, drawn), "y").axes[0]
    assert max(line.get_xdata().max() for line in axes.lines) == 1.0


def test_far_tails_leave_the_frame_and_are_counted() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(1, 50, 100))
    drawn[0, 0, 0] = 1e6
    axes = ppc_figure(predictive(rng.normal(size=100), drawn), "y").axes[0]
    assert axes.get_xlim()[1] < 10
    assert "drawn lie beyond" in axes.get_xlabel()


def test_few_values_are_bars() -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 3, 60)
    axes = ppc_figure(predictive(data, rng.integers(0, 4, (2, 100, 60))), "y").axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, [(data == k).mean() for k in range(4)])


def test_leave_one_out_has_every_observation() -> None:
    axes = loo_khat_figure([0.1, 0.9, np.nan, 0.3], 0.7).axes[0]
    fine, high, unknown = axes.collections
    np.testing.assert_allclose(unknown.get_offsets(), [[2, 0.9]])
    np.testing.assert_allclose(fine.get_offsets(), [[0, 0.1], [3, 0.3]])
    np.testing.assert_allclose(high.get_offsets(), [[1, 0.9]])
    axes = loo_khat_figure([0.1, np.inf, np.nan], 0.7).axes[0]
    np.testing.assert_allclose(axes.collections[-1].get_offsets(), [[1, 0.7], [2, 0.7]])
    assert "2 not finite" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_loo_pit_is_that_of_arviz_less_the_uniform_one() -> None:
    rng = np.random.default_rng(0)
    given = predictive(rng.normal(size=30), rng.normal(size=(4, 100, 30)))
    axes = loo_pit_figure(given, "y").axes[0]
    given["posterior"] = given["log_likelihood"].to_dataset().sum("d")
    pit = loo_pit(given, var_names="y")["y"].to_numpy()
    points = np.arange(1, 100) / 100
    np.testing.assert_allclose(axes.lines[0].get_ydata()[1:-1], [(pit <= p).mean() - p for p in points])
    assert axes.get_xlabel() == "LOO-PIT of 30 observations"


def test_calibrated_predictions_stay_in_the_band_and_narrow_ones_leave_it() -> None:
    rng = np.random.default_rng(0)
    for spread, inside in ((1.0, True), (0.3, False)):
        axes = loo_pit_figure(predictive(rng.normal(size=200), spread * rng.normal(size=(4, 100, 200))), "y").axes[0]
        lower, upper = _band(axes.collections[0])
        line = axes.lines[0].get_ydata()[1:-1]
        assert bool(((lower - 1e-6 <= line) & (line <= upper + 1e-6)).all()) == inside


def test_observations_that_are_not_finite_are_not_ranked() -> None:
    rng = np.random.default_rng(0)
    data = np.where(np.arange(30) < 10, np.nan, rng.normal(size=30))
    axes = loo_pit_figure(predictive(data, rng.normal(size=(4, 100, 30))), "y").axes[0]
    assert axes.get_xlabel() == "LOO-PIT of 20 of 30 observations"
    many = loo_pit_figure(predictive(rng.normal(size=1200), rng.normal(size=(4, 25, 1200))), "y").axes[0]
    assert many.get_xlabel() == "LOO-PIT of 400 of 1200 observations"


def test_the_most_sensitive_come_first() -> None:
    names = [f"p{i}" for i in range(40)]
    frame = pd.DataFrame({"prior": np.arange(40) / 100, "likelihood": 0.001}, index=names)
    axes = sensitivity_figure(frame).axes[0]
    assert len(axes.patches) == 60
    assert axes.get_yticklabels()[0].get_text() == "p39"
    assert "10 more have less" in axes.get_xlabel()
    frame.loc["p39", "prior"] = np.inf
    assert sensitivity_figure(frame).axes[0].get_yticklabels()[0].get_text() == "p38"


@pytest.mark.parametrize("make", [ppc_figure, loo_pit_figure])
def test_a_variable_that_is_nowhere_is_refused(make: Callable[..., Figure]) -> None:
    with pytest.raises(ValueError, match="`tree` has no `z` in its group `observed_data`"):
        make(NOTHING, "z")


def test_pages_stay_small() -> None:
    """Many draws, chains and divergences: at most 300 kB each."""
    rng = np.random.default_rng(0)
    wild = rng.random((64, 1000)) < 0.1
    many = tree(chains=64, draws=1000, diverging=wild)
    names = ["theta[A]", "theta[B]", "theta[C]", "tau"]
    figures = [
        rank_figure(many, names),
        pair_figure(many, names),
        trace_figure(tree(chains=8, draws=3000), names),
        ppc_figure(predictive(rng.normal(size=5000), rng.normal(size=(2, 50, 5000))), "y"),
        loo_khat_figure(rng.normal(size=5000), 0.7),
    ]
    assert max(len(inline_svg(figure, prefix="f", title="t")) for figure in figures) < 300_000


# -- what is nasty -------------------------------------------------------------------------------------------

NAMES = ["theta[A]", "tau"]
FRAME = pd.DataFrame({"prior": [np.nan, np.inf], "likelihood": [np.nan, -np.inf]}, index=[NASTY, "b"])
NOTHING = predictive(np.full(5, np.nan), np.full((2, 10, 5), np.nan))
HARD: dict[str, Callable[[], Figure]] = {
    "nan ranks": lambda: rank_figure(tree(value=np.nan), NAMES),
    "constant ranks": lambda: rank_figure(tree(value=1.0), NAMES),
    "few draws": lambda: rank_figure(tree(draws=8), NAMES),
    "one chain": lambda: rank_figure(tree(chains=1), NAMES),
    "many chains": lambda: rank_figure(tree(chains=64), NAMES),
    "nan traces": lambda: trace_figure(tree(value=np.nan), NAMES),
    "infinite traces": lambda: trace_figure(tree(value=np.inf), NAMES),
    "nan energies": lambda: energy_figure(tree(energy=np.full((4, 200), np.nan))),
    "constant energies": lambda: energy_figure(tree(energy=np.zeros((4, 200)))),
    "nan evolution": lambda: evolution_figure(tree(value=np.nan), ["theta[A]"]),
    "short evolution": lambda: evolution_figure(tree(draws=8), NAMES),
    "nan forest": lambda: forest_figure(tree(value=np.nan), ["theta[A]", "theta[B]"]),
    "nasty forest": lambda: forest_figure(tree(name=NASTY), [f"{NASTY}[A]"]),
    "one parameter": lambda: pair_figure(tree(), ["tau"]),
    "nan pairs": lambda: pair_figure(tree(value=np.nan), NAMES),
    "nasty pairs": lambda: pair_figure(tree(name=NASTY), [f"{NASTY}[A]", "tau"]),
    "nasty ranks": lambda: rank_figure(tree(name=NASTY), [f"{NASTY}[A]", "tau"]),
    "huge traces": lambda: trace_figure(tree(value=1e308), NAMES),
    "huge forest": lambda: forest_figure(tree(value=1e308), NAMES),
    "huge pairs": lambda: pair_figure(tree(value=1e308), NAMES),
    "no energies": lambda: energy_figure(xr.DataTree.from_dict({"posterior": tree()["posterior"].to_dataset()})),
    "some nan energies": lambda: energy_figure(tree(energy=np.where(np.eye(4, 200) > 0, np.nan, 1.0))),
    "whole numbers": lambda: rank_figure(tree(value=3), NAMES),
    "truth values": lambda: pair_figure(tree(value=True), NAMES),
    "nan pit": lambda: loo_pit_figure(NOTHING, "y"),
    "infinite pit": lambda: loo_pit_figure(predictive(np.full(5, np.inf), np.full((2, 20, 5), -np.inf)), "y"),
    "one observation": lambda: loo_pit_figure(predictive(np.ones(1), np.linspace(0, 2, 80).reshape(4, 20, 1)), "y"),
    "one chain's pit": lambda: loo_pit_figure(predictive(np.zeros(9), np.linspace(-1, 1, 72).reshape(1, 8, 9)), "y"),
    "constant data": lambda: ppc_figure(predictive(np.full(5, 0.5), np.full((1, 1, 5), 0.5)), "y"),
    "truth data": lambda: ppc_figure(predictive(np.ones(5, dtype=bool), np.zeros((2, 8, 5), dtype=bool)), "y"),
    "counts far off": lambda: ppc_figure(predictive(np.arange(5), np.arange(2000).reshape(2, 200, 5)), "y"),
    "nan data": lambda: ppc_figure(NOTHING, "y"),
    "no limit": lambda: loo_khat_figure([0.1, np.inf, -np.inf], np.inf),
    "no k-hat": lambda: loo_khat_figure([], 0.7),
    "nan k-hat": lambda: loo_khat_figure([np.nan], np.nan),
    "nan sensitivity": lambda: sensitivity_figure(FRAME),
    "nasty sensitivity": lambda: sensitivity_figure(FRAME.fillna(0.1).replace([np.inf, -np.inf], 0.2)),
}


@pytest.mark.parametrize("name", HARD)
def test_nothing_is_fatal_and_nothing_global_changes(name: str) -> None:
    before, open_before, filters = dict(mpl.rcParams), plt.get_fignums(), list(warnings.filters)
    svg = inline_svg(HARD[name](), prefix="f", title=name)
    assert "<script" not in svg
    assert len(svg) < 300_000
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == open_before
    assert list(warnings.filters) == filters
