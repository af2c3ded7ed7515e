"""The ladder's own arithmetic: intervals that hold together, brackets that cover, directions that are not confused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from inference.bounds import CUBO, ELBO, EUBO, IWAE, Bound, Estimate, estimate, guarantee_of
from inference.bracket import Bracket, Row, paired_difference
from inference.figures import ladder_figure
from inference.intervals import critical_value
from inference.ladder import CrossedBoundsError, Ladder
from inference.weights import Weights

pytestmark = pytest.mark.usefixtures("double")


def row(label: str, direction: str, value: Tensor, error: float = 0.01, guarantee: str = "expectation") -> Row:
    errors = torch.full_like(value, error)
    ends = value - 2 * errors, value + 2 * errors
    return Row(label, label.partition("-")[0], direction, guarantee, 1, value, errors, *ends, 0.1)  # type: ignore[arg-type]


def ladder(*rows: Row) -> Ladder:
    return Ladder(rows, torch.full((len(rows[0].value),), math.nan))


# -- intervals -----------------------------------------------------------------------------------------------


def test_critical_values_of_independent_rows_are_sidaks() -> None:
    """Rows that have nothing in common need P(|Z| <= c)^R = level; Monte Carlo error of c about 0.01."""
    torch.manual_seed(0)
    for rows in (1, 5, 20):
        sidak = norm.ppf((1 + 0.95 ** (1 / rows)) / 2)
        assert critical_value(torch.randn(rows, 5000), 0.95) == pytest.approx(sidak, abs=0.05)


def test_critical_values_of_one_row_repeated_are_those_of_one() -> None:
    shared = torch.randn(1, 500)
    assert critical_value(torch.cat([shared, shared, 3 * shared + 1]), 0.9) == pytest.approx(norm.ppf(0.95), abs=0.03)
    assert critical_value(torch.cat([shared, torch.ones(1, 500)]), 0.9) < 2.0  # a constant row adds next to nothing
    assert math.isnan(critical_value(torch.randn(3, 1), 0.95))


def test_intervals_cover_all_rows_at_once() -> None:
    """250 samples of 200 data, 6 correlated bounds, 90 %: 84.3 to 95.7 % cover (3 standard errors: alarm 0.3 %)."""
    torch.manual_seed(1)
    mean, covered = torch.arange(6.0), 0
    for _ in range(250):
        shared = torch.randn(200)
        rows = [row(f"b{i}", "lower", mean[i] + 2 * shared + torch.randn(200)) for i in range(6)]
        ends = ladder(*rows).intervals(0.9)
        covered += bool(((ends["low"] < mean.numpy()) & (mean.numpy() < ends["high"])).all())
    assert 0.843 < covered / 250 < 0.957


def test_levels_are_probabilities() -> None:
    for wrong in (95, 0, 1.0):
        with pytest.raises(ValueError, match=rf"`level` is {wrong}, expected a probability between 0 and 1"):
            ladder(row("a", "lower", torch.zeros(3))).bracket(wrong)


# -- brackets ------------------------------------------------------------------------------------------------


def gaussian_weights(source: str, K: int, n: int) -> Weights:
    """Log-normal weights whose mean is one, so that log p(x) = 0: of the guide, or tilted by themselves."""
    s = 0.8
    shift = s**2 if source == "posterior" else 0.0
    log_w = -(s**2) / 2 + shift + s * torch.randn(K, n)
    return Weights(log_p=log_w, log_q=torch.zeros(K, n), source=source)  # type: ignore[arg-type]


def of(bound: Bound, weights: Weights) -> Row:
    found: Estimate = estimate(bound, weights)
    return Row(bound.name, bound.name, bound.direction, guarantee_of(bound), weights.num_particles, *found, seconds=0.0)


def test_brackets_cover_log_p() -> None:
    """200 repetitions at 80 %, 30 data each, IWAE-64 and exact EUBO-64: both ends together hold at least that often.

    The bounds' own distance makes coverage higher than the level; a wrong sign or error would take it far below.
    """
    torch.manual_seed(2)
    brackets = [
        ladder(
            of(IWAE(), gaussian_weights("guide", 64, 30)), of(EUBO(exact=True), gaussian_weights("posterior", 64, 30))
        )
        .check()
        .bracket(0.8)
        for _ in range(200)
    ]
    assert all(bracket.certified for bracket in brackets)
    assert sum(bracket.low <= 0.0 <= bracket.high for bracket in brackets) >= 0.8 * 200
    assert np.mean([bracket.gap for bracket in brackets]) == pytest.approx(0.8**2 / 2, abs=0.05)  # the KL, and L_64's


def test_a_tight_lower_end_covers_at_its_level() -> None:
    """With an unbiased estimate at both ends the level is exact: 1,000 repetitions at 90 %, 3 standard errors."""
    torch.manual_seed(3)
    hits = 0
    for _ in range(1000):
        low, high = (0.1 * torch.randn(20) for _ in range(2))
        bracket = ladder(row("l", "lower", low, 0.1), row("u", "upper", high, 0.1)).bracket(0.9)
        hits += bracket.low <= 0.0 <= bracket.high
    assert abs(hits / 1000 - 0.9025) < 3 * math.sqrt(0.09 / 1000)  # (1 - 0.05)^2: the two ends err apart


def test_the_best_row_of_each_side_makes_the_bracket() -> None:
    low, high, limit = torch.tensor([-3.0, -1.0]), torch.tensor([1.0, 2.0]), torch.tensor([0.1, 0.1])
    rows = [row("a", "lower", low), row("b", "lower", low - 1), row("c", "upper", high), row("d", "estimate", low + 9)]
    rows.append(row("e", "upper", limit, guarantee="limit"))
    bracket = ladder(*rows).bracket()
    assert bracket.lower is not None
    assert bracket.upper is not None
    assert (bracket.lower.label, bracket.upper.label) == ("a", "c")  # sure before near
    assert bracket.gap == pytest.approx(3.5)
    assert bracket.reach == pytest.approx(norm.ppf(1 - 0.05 / 4))
    assert bracket.low == pytest.approx(-2 - bracket.reach * 0.01 / math.sqrt(2))
    assert list(bracket.per_datum["high"]) == pytest.approx([1 + 0.01 * bracket.reach, 2 + 0.01 * bracket.reach])
    assert "by a and c, 3.500 apart" in str(bracket)
    near = ladder(rows[0], rows[4]).bracket()
    assert not near.certified
    assert str(near).endswith("not certified: e bounds it only in the limit")


def test_a_side_that_is_missing_is_said_to_be() -> None:
    only = ladder(row("a", "lower", torch.zeros(3))).bracket()
    assert only.high == math.inf
    assert only.gap == math.inf
    assert not only.certified
    assert str(only) == "log p(x) is not bracketed: there is no upper bound; a is 0.000"
    assert isinstance(only, Bracket)


def test_a_row_without_an_error_is_no_end() -> None:
    rows = [
        row("a", "lower", torch.zeros(3), math.nan),
        row("b", "lower", -torch.ones(3)),
        row("c", "upper", torch.ones(3)),
    ]
    bracket = ladder(*rows).bracket()
    assert bracket.lower is not None
    assert bracket.lower.label == "b"


# -- crossings -----------------------------------------------------------------------------------------------


def test_sure_bounds_that_cross_raise_and_others_are_noted() -> None:
    low, high = row("low", "lower", torch.zeros(50)), row("high", "upper", torch.full((50,), -1.0))
    with pytest.raises(CrossedBoundsError, match=r"`low` \(lower\) is above `high` \(upper\) by 1 nats"):
        ladder(low, high).check()
    with pytest.raises(CrossedBoundsError):
        Ladder((), torch.zeros(0), simulated=ladder(low, high)).check()
    near = row("near", "upper", torch.full((50,), -1.0), guarantee="limit")
    assert "near lies 1 nats below low" in ladder(low, near).check().warnings[0]
    assert "note: near lies 1 nats below low" in str(ladder(low, near))


def test_cubo_of_few_draws_is_noted_not_believed() -> None:
    """Weights with a heavy tail: CUBO of 10 draws lies below IWAE of 10,000, and no bracket is certified."""
    torch.manual_seed(4)
    heavy = Weights(log_p=4 * torch.randn(10_000, 40), log_q=torch.zeros(10_000, 40))
    few = of(CUBO(2), heavy.map(lambda v: v[:10]))
    found = ladder(of(IWAE(), heavy), few)
    assert len(found.check().warnings) == 1
    assert not found.bracket().certified


def test_a_guide_with_heavy_weights_gives_no_upper_end_where_there_is_another() -> None:
    low, near = row("low", "lower", torch.zeros(10)), row("near", "upper", torch.ones(10), guarantee="limit")
    far = replace(row("far", "upper", torch.full((10,), 8.0), guarantee="limit"), source="posterior")
    good, bad = torch.full((10,), 0.2), torch.tensor([0.2] * 8 + [0.9] * 2)
    for khat, expected in ((good, near), (bad, far)):
        assert Ladder((low, near, far), khat).bracket().upper is expected
    assert Ladder((low, near), bad).bracket().upper is near
    assert (
        "k-hat is above 0.7 for 20% of the data: from this guide near may lie far too low"
        in Ladder((low, near), bad).warnings
    )
    assert Ladder((low, near), good).warnings == ()


# -- tables and pictures -------------------------------------------------------------------------------------


def both() -> Ladder:
    rows = [row(f"IWAE-{K}", "lower", torch.arange(4.0) - 1 / K) for K in (1, 10)]
    above = row("<b>", "upper", torch.arange(4.0) + 1, guarantee="limit")
    simulated = ladder(
        row("AIS-10x4", "lower", torch.zeros(7)), row("reverse AIS-10x4", "upper", torch.full((7,), 0.1))
    )
    return Ladder((*rows, above), torch.tensor([0.1, 0.2, math.nan, 0.9]), simulated, ("chains were short",))


def test_tables_tell_given_from_simulated_data() -> None:
    table = both().table
    assert list(table["on"]) == ["data"] * 3 + ["simulated"] * 2
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert table["khat"][0] == pytest.approx(0.2)
    errors = both().errors
    assert len(errors) == 12
    assert (errors["high"] - errors["value"]).to_numpy() == pytest.approx(0.02)
    assert paired_difference(torch.ones(4), torch.zeros(4)) == (1.0, 0.0)


def test_what_is_printed_says_what_holds() -> None:
    text = str(both())
    assert "upper*" in text
    assert "* only in the limit of many draws" in text
    assert "on 7 data simulated from the model:" in text
    assert "note: chains were short" in text
    html = both()._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
    assert "chains were short" in html


def test_figures_have_an_axes_for_each_ladder() -> None:
    figure = ladder_figure([("one", both()), ("two", both())])
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == [
        "one",
        "one (simulated data)",
        "two",
        "two (simulated data)",
    ]
    left, right = figure.axes[:2]
    assert [label.get_text() for label in left.get_yticklabels()] == ["IWAE-1", "IWAE-10", "<b>"]
    assert right.get_xscale() == "log"
    assert both().plot("one").axes[0].get_title(loc="left") == "one"


# -- few data, single precision, promises ----------------------------------------------------------------------


def test_intervals_of_few_data_cover_too() -> None:
    """400 samples of 4 data, 3 rows, 90 %: 85.5 to 94.5 % cover (3 standard errors); normal quantiles cover 72 %."""
    torch.manual_seed(5)
    covered = 0
    for _ in range(400):
        ends = ladder(*(row(f"b{i}", "lower", torch.randn(4)) for i in range(3))).intervals(0.9)
        covered += bool(((ends["low"] < 0) & (ends["high"] > 0)).all())
    assert 0.855 < covered / 400 < 0.945


def test_few_data_do_not_cry_wolf() -> None:
    """Equal bounds of two data whose draws' errors are not known: 500 ladders, an alarm in 3e-5 of them."""
    torch.manual_seed(6)
    for _ in range(500):
        ladder(*(row(side, side, torch.randn(2), math.nan) for side in ("lower", "upper"))).check()
    one = ladder(*(row(side, side, torch.randn(1), math.nan) for side in ("lower", "upper")))
    assert one.check() is one  # nothing is known of any error


def test_rounding_is_no_crossing() -> None:
    value = torch.full((20,), -90.0, dtype=torch.float32)
    rows = row("low", "lower", value + 2e-5, 0.0), row("high", "upper", value, 0.0)
    assert not ladder(*rows).check().warnings


def test_who_promises_nothing_is_no_end_and_no_alarm() -> None:
    low, high = row("low", "lower", torch.zeros(9)), row("high", "upper", torch.ones(9))
    boast = row("boast", "lower", torch.full((9,), 5.0), guarantee="none")
    hope = row("hope", "lower", torch.full((9,), 0.5), guarantee="limit")
    bracket = ladder(low, boast, hope, high).check().bracket()
    assert bracket.lower is low
    assert bracket.certified
    weak = ladder(hope, high).bracket()
    assert weak.lower is hope
    assert str(weak).endswith("not certified: hope bounds it only in the limit")


def test_intervals_from_few_groups_cover() -> None:
    """3 groups of draws, 4,000 data: 95 % of the intervals hold the mean, give or take 1.4 % (4 standard errors)."""
    torch.manual_seed(7)
    found = estimate(ELBO(), Weights(log_p=torch.randn(3, 4000), log_q=torch.zeros(3, 4000)), 1)
    assert abs(float(((found.low < 0) & (found.high > 0)).double().mean()) - 0.95) < 0.014
