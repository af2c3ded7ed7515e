"""The ladder: every row at exactly its K, errors paired by datum, crossed bounds called out, nothing lost."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import Tensor

from inference.bounds import ELBO, IWAE, MIWAE, Renyi, bound
from inference.compare import CrossedBoundsError, Ladder, compare_bounds, paired_difference
from inference.weights import Weights
from tests.oracles import LinearGaussian

pytestmark = pytest.mark.usefixtures("double")
toy = LinearGaussian.make()


class Above:
    """An upper bound that holds (or does not): log p(x) plus a margin."""

    name, direction = "above", "upper"

    def __init__(self, x: Tensor, margin: float) -> None:
        self.value = toy.log_prob(x) + margin

    def __call__(self, weights: Weights) -> Tensor:
        return self.value.repeat(weights.num_data // len(self.value))


def ladder(n: int = 40) -> Ladder:
    bounds = ["elbo", ELBO("analytic"), "iwae:5", (IWAE(), 50), Renyi(0.5)]
    return compare_bounds(toy.model, toy.wrong, toy.data(n), bounds, num_particles=2000, batch_size=13)


def test_table() -> None:
    table = ladder().table
    assert list(table.columns) == [
        *["on", "bound", "K", "direction", "guarantee", "value", "se", "mc_se", "low", "high", "seconds", "khat"]
    ]
    assert list(table["bound"]) == ["ELBO", "ELBO (analytic KL)", "IWAE-5", "IWAE-50", "Renyi(0.5)-2000"]
    assert list(table["K"]) == [1, 1, 5, 50, 2000]
    exact, log_p = float(toy.wrong_elbo(toy.data(40)).mean()), float(toy.log_prob(toy.data(40)).mean())
    for row in table.itertuples():
        assert row.value < log_p + 4 * row.mc_se
        if row.K == 1:
            assert abs(row.value - exact) < 4 * row.mc_se  # false alarm: 6e-5 each
        assert 0 < row.mc_se < row.se
        assert row.seconds > 0


def test_rows_share_draws_and_differences_are_paired() -> None:
    found = ladder()
    columns = found.per_datum
    assert len(columns) == 40
    differences = found.differences.set_index("difference")
    d = columns["IWAE-50"] - columns["IWAE-5"]
    row = differences.loc["IWAE-50 - IWAE-5"]
    assert row["value"] == pytest.approx(d.mean())
    assert row["se"] == pytest.approx(d.std() / math.sqrt(40))
    assert row["se"] < columns["IWAE-50"].std() / math.sqrt(40) / 3  # pairing is worth it


def test_crossed_bounds_name_both_rows_and_keep_the_numbers() -> None:
    x = toy.data(30)
    assert len(compare_bounds(toy.model, toy.wrong, x, ["iwae:50", Above(x, 0.0)], num_particles=500).rows) == 2
    with pytest.raises(CrossedBoundsError, match=r"`IWAE-50` \(lower\) is above `above-500` \(upper\)") as error:
        compare_bounds(toy.model, toy.wrong, x, ["iwae:50", Above(x, -1.0)], num_particles=500)
    assert isinstance(error.value.ladder.table, pd.DataFrame)


def test_a_bound_that_fails_leaves_the_world_as_it_was() -> None:
    """Even while somebody holds on to the exception, and so to every frame it passed."""

    class Fails:
        name, direction = "fails", "estimate"

        def __call__(self, weights: Weights) -> Tensor:
            raise KeyboardInterrupt

    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt) as held:
        compare_bounds(toy.model, toy.wrong, toy.data(4), [Fails()], num_particles=30)
    assert held.value.__traceback__ is not None
    assert torch.is_grad_enabled()
    assert torch.equal(before, torch.get_rng_state())


def test_rows_by_name() -> None:
    found = ladder(5)
    assert found.row("IWAE-50").num_particles == 50
    with pytest.raises(KeyError, match="`label` is 'IWAE', expected one of ELBO, "):
        found.row("IWAE")


def test_one_datum_has_no_spread_but_a_value() -> None:
    found = compare_bounds(toy.model, toy.wrong, toy.data(1), ["elbo", "iwae:20"], num_particles=100)
    assert found.table["se"].isna().all()
    assert found.table["mc_se"].notna().all()
    assert math.isnan(paired_difference(torch.zeros(1), torch.ones(1))[1])


def test_prints_and_displays() -> None:
    found = ladder(5)
    assert "IWAE-50" in str(found)
    assert found._repr_html_().startswith("<table")


@pytest.mark.parametrize(
    ("bounds", "error", "message"),
    [
        (["iwae:5", "iwae:5"], ValueError, "`bounds` has IWAE-5 twice"),
        (["iwea:5"], ValueError, "`bounds` has 'iwea:5', expected"),
        ([3], TypeError, "`bounds` has a int, expected a string, a bound"),
        ([], ValueError, "`bounds` is empty"),
        ([(IWAE(), 0)], ValueError, "K is 0"),
        ([(IWAE(), 5.0)], ValueError, "K is 5.0, expected a whole number"),
        ([IWAE], TypeError, "`bounds` has the class IWAE, expected one of its bounds"),
        (["iwae:50", MIWAE(8)], ValueError, r"MIWAE\(8\) with 50 draws, expected a multiple of its 8 groups: .* 48"),
        ([replace(bound("lower")(len), direction="Lower")], ValueError, "bound `len` has `direction` 'Lower'"),
    ],
)
def test_bad_bounds_are_refused(bounds: list[object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compare_bounds(toy.model, toy.wrong, toy.data(2), bounds)  # type: ignore[arg-type]
