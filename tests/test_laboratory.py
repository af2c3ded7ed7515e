"""`compare_bounds` with every source of draws, against closed forms.

Seeds are fixed. A comparison of means at 4 standard errors would fail for one seed in 16,000 for each number compared,
one of 100 values at 5 standard errors for one in 17,000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import inference.annealing.running as running
import inference.climb
from inference.annealing.hamiltonian import Kinetics
from inference.bounds import AIS, CUBO, ELBO, EUBO, IWAE, TVO, Bound, ReverseAIS, bound
from inference.compare import CrossedBoundsError, Ladder, compare_bounds, paired_difference
from inference.intervals import one_sided
from inference.journal import Journal
from inference.schedule import Annealing
from inference.simulate import simulate
from inference.weights import Weights
from tests.oracles import BeliefNet, Factor, Guided, LinearGaussian

pytestmark = pytest.mark.usefixtures("double")
toy = LinearGaussian.make()
pair = Guided(toy)  # its guide is off by 0.3 and half again too wide


def short(**settings: Any) -> Annealing:
    return Annealing(**({"num_leapfrogs": 3, "num_pilot": 30, "num_warmup": 20, "num_chains": 16} | settings))


TINY = short(num_temperatures=4, num_chains=4, num_pilot=5, num_warmup=3)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains of bounds that do not say how they are annealed are short too."""
    monkeypatch.setattr(inference.climb, "Annealing", lambda **settings: replace(TINY, **settings))


def by(model: Any, guide: Any, data: Any, bounds: Any, **how: Any) -> Ladder:
    """`compare_bounds` of programs as they are, which is quickest for little work."""
    return compare_bounds(model, guide, data, bounds, **({"mode": "eager"} | how))


# -- every source at once ------------------------------------------------------------------------------------

REPEATS = 200


@cache
def whole() -> Ladder:
    """All sources of draws in one call: 50 data, and 200 simulated ones."""
    annealing = short(num_temperatures=40)
    guided = ["elbo", "iwae:50", "tvo:10:1000", "tvo-right:10:1000", "cubo:2:1000"]
    bounds = [*guided, "eubo:64", AIS(annealing), ReverseAIS(annealing)]
    return by(toy.model, pair.guide, toy.data(50), bounds, num_simulated=REPEATS, mode="replay")


def simulated(n: int = REPEATS) -> Tensor:
    x = simulate(toy.model, toy.data(50), n, seed=0).data
    assert isinstance(x, Tensor)
    return x


def part(on: str) -> tuple[Ladder, Tensor]:
    """The ladder on the data or on simulated ones, and these."""
    found = whole()
    if on == "data":
        return found, toy.data(50)
    assert found.simulated is not None
    return found.simulated, simulated()


TVO_PATH = TVO(10).betas
CLOSED: dict[str, Callable[[Tensor], Tensor]] = {
    "ELBO": pair.elbo,
    "IWAE-50": lambda x: pair.log_prob(x) - pair.chi_square(x) / 100,  # its bias to first order, var(w) / 2K
    "TVO(10)-1000": lambda x: pair.tvo(x, TVO_PATH),
    "TVO-right(10)-1000": lambda x: pair.tvo(x, TVO_PATH, "right"),
    "CUBO(2)-1000": pair.cubo,
}


@pytest.mark.parametrize("on", ["data", "simulated"])
@pytest.mark.parametrize("label", CLOSED)
def test_rows_of_the_guides_draws_are_their_closed_forms(label: str, on: str) -> None:
    """Each datum at 5 standard errors, and errors of the right size: a mean square of 1 within 4 standard errors."""
    ladder, x = part(on)
    row = ladder.row(label)
    z = (row.value - CLOSED[label](x)) / row.standard_error
    assert float(z.abs().max()) < 5
    assert abs(float(z.square().mean()) - 1) < 4 * math.sqrt(2 / len(x))


@pytest.mark.parametrize("on", ["data", "simulated"])
def test_eubo_is_its_closed_form(on: str) -> None:
    """On average over the data, with the error that the data show: chains of MCMC are no independent draws."""
    ladder, x = part(on)
    row = ladder.row("EUBO-64")
    d = row.value - pair.eubo(x)
    assert abs(float(d.mean())) < 4 * float(d.std()) / math.sqrt(len(x))
    assert row.guarantee == ("limit" if on == "data" else "expectation")
    assert float(pair.reverse_kl(x).min()) > 0.5  # it is not log p(x) that was met


@pytest.mark.parametrize("on", ["data", "simulated"])
def test_every_row_lies_on_its_side_of_every_datum(on: str) -> None:
    ladder, x = part(on)
    exact = pair.log_prob(x)
    assert {row.direction for row in ladder.rows} == {"lower", "upper"}
    for row in ladder.rows:
        sign = 1 if row.direction == "lower" else -1
        over = sign * (row.value - exact)  # of 8 or 16 chains' errors, which have heavy tails, the mean is compared
        assert float(over.mean()) < 4 * max(row.mean_mc_se, float(over.std()) / math.sqrt(len(x)))
        assert bool((over < 6 * row.standard_error + 0.3).all())


def test_the_ladder_is_ordered_and_the_rungs_of_annealing_are_the_tightest() -> None:
    ladder, x = part("simulated")
    order = ["ELBO", "TVO(10)-1000", "IWAE-50", "AIS-40x16", "reverse AIS-40x16", "TVO-right(10)-1000", "CUBO(2)-1000"]
    means = [ladder.row(label).mean for label in [*order, "EUBO-64"]]
    assert means == sorted(means)
    exact = float(pair.log_prob(x).mean())
    assert means[3] < exact < means[4]
    assert means[4] - means[3] < 0.1


def test_the_bracket_on_simulated_data_holds_their_mean_and_is_certified() -> None:
    ladder, x = part("simulated")
    found = ladder.bracket()
    assert found.certified
    assert found.upper is not None
    assert found.upper.label == "reverse AIS-40x16"
    assert found.low < float(pair.log_prob(x).mean()) < found.high
    assert found.high - found.low < 0.2
    assert not whole().bracket().certified  # no sure upper bound is known on the data


@pytest.mark.parametrize("upper", ["reverse AIS-40x16", "EUBO-64"])
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_brackets_cover_as_often_as_they_say(level: float, upper: str) -> None:
    """200 repetitions, a simulated datum each: coverage is no more than 3 standard errors (0.1 %) below the level."""
    ladder, x = part("simulated")
    kept = [row for row in ladder.rows if row.direction == "lower" or row.label == upper]
    bracket = replace(ladder, rows=tuple(kept)).bracket(level)
    assert bracket.certified
    ends, exact = bracket.per_datum, pair.log_prob(x).numpy()
    covered = (ends["low"] < exact) & (exact < ends["high"])
    assert covered.mean() > level - 3 * math.sqrt(level * (1 - level) / REPEATS)
    margin = 3 if upper == "EUBO-64" else 1  # it is as far off as the guide
    assert (ends["high"] - ends["low"]).median() < margin


def test_what_is_printed_and_drawn_tells_data_from_simulated_ones() -> None:
    found = whole()
    table = found.table
    assert list(table["on"]) == ["data"] * 7 + ["simulated"] * 8
    assert (table["seconds"] > 0).all()
    assert table["khat"].nunique() == 2
    assert "on 200 data simulated from the model:" in str(found)
    titles = [axes.get_title(loc="left") for axes in found.plot("toy").axes[::2]]
    assert titles == ["toy", "toy (simulated data)"]


# -- draws are shared ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [10, 4])
def test_ten_rows_cost_the_draws_of_the_dearest(batch_size: int) -> None:
    calls = []

    def counting(x: Tensor) -> None:
        calls.append(len(x))
        toy.wrong(x)

    def count(bounds: Any) -> list[int]:
        calls.clear()
        by(toy.model, counting, toy.data(10), bounds, batch_size=batch_size, chunk=20)
        return list(calls)

    ten = ["elbo", "iwae:5", "iwae:100", "renyi:0.5", "vrmax", "tvo", "tvo-right", "cubo:2", "miwae:4:25", "ciwae:0.5"]
    alone = count("iwae:100")
    assert count(ten) == alone
    assert len(alone) >= 5 * math.ceil(10 / batch_size)  # 100 draws, 20 at a time, for each batch


# -- several seeds -------------------------------------------------------------------------------------------

SEEDS = [0, 1, 2]


def test_several_seeds_are_averaged_and_kept() -> None:
    x, bounds = toy.data(8), ["elbo", "iwae:20", AIS(TINY), ReverseAIS(TINY)]
    found = by(toy.model, toy.wrong, x, bounds, num_particles=200, num_simulated=5, seed=SEEDS)
    alone = [by(toy.model, toy.wrong, x, bounds, num_particles=200, num_simulated=5, seed=[s]) for s in SEEDS]
    assert len(found.replications) == 3
    assert [row.label for row in found.rows] == ["ELBO", "IWAE-20", "AIS-4x4"]
    for i, row in enumerate(found.rows):
        for kept, single in zip(found.replications, alone, strict=True):
            torch.testing.assert_close(kept.rows[i].value, single.rows[i].value, rtol=0, atol=0)
        torch.testing.assert_close(row.value, torch.stack([one.rows[i].value for one in alone]).mean(0))
        errors = [one.rows[i].mean_mc_se for one in alone]
        assert row.mean_mc_se == pytest.approx(math.sqrt(sum(e**2 for e in errors)) / 3)
    spread = found.across_seeds.set_index("bound")
    means = torch.tensor([one.row("IWAE-20").mean for one in alone])
    assert spread.loc["IWAE-20", "sd"] == pytest.approx(float(means.std()))
    assert spread.loc["IWAE-20", "seeds"] == 3
    assert found.simulated is not None
    assert [row.label for row in found.simulated.rows] == [*(row.label for row in found.rows), "reverse AIS-4x4"]
    assert len(found.simulated.replications) == 3
    x_drawn = simulate(toy.model, x, 5, seed=SEEDS[0]).data  # the same for every seed
    assert isinstance(x_drawn, Tensor)
    for one in found.simulated.replications:
        row = one.row("IWAE-20")
        assert bool(((row.value - toy.log_prob(x_drawn)).abs() < 0.5).all())


def test_one_draw_alone_learns_its_error_from_other_seeds() -> None:
    x = toy.data(400)
    (alone,) = by(toy.model, toy.wrong, x, "elbo").rows
    assert bool(alone.standard_error.isnan().all())
    found = by(toy.model, toy.wrong, x, "elbo", seed=range(8))
    (row,) = found.rows
    (many,) = by(toy.model, toy.wrong, x, "elbo", num_particles=500).rows
    one, known = 8 * row.standard_error.square().mean(), 500 * many.standard_error.square().mean()
    assert float(one / known) == pytest.approx(1, abs=0.2)  # the variance of a log weight; error 0.04
    assert abs(row.mean - float(toy.wrong_elbo(x).mean())) < 4 * row.mean_mc_se
    assert math.isnan(found.across_seeds["expected"][0])


@pytest.mark.parametrize("seed", [[], [1, 1]])
def test_seeds_differ(seed: list[int]) -> None:
    with pytest.raises(ValueError, match=r"`seed` is \[.*\], expected a whole number, or several that differ"):
        by(toy.model, toy.wrong, toy.data(3), "elbo", seed=seed)


# -- with and without simulated data -------------------------------------------------------------------------


def test_simulated_data_without_bdmc() -> None:
    found = by(toy.model, toy.wrong, toy.data(4), ["elbo", "iwae:500"], num_simulated=30)
    assert found.simulated is not None
    assert [row.label for row in found.simulated.rows] == ["ELBO", "IWAE-500"]
    exact = pair.log_prob(simulated(30))
    assert float((found.simulated.row("IWAE-500").value - exact).abs().max()) < 0.3
    assert by(toy.model, toy.wrong, toy.data(4), ["elbo"]).simulated is None


def bdmc_alone() -> Ladder:
    return by(toy.model, toy.wrong, toy.data(4), ReverseAIS(TINY), num_simulated=3)


def test_bdmc_alone_has_no_rows_on_the_data() -> None:
    found = bdmc_alone()
    assert found.rows == ()
    table = found.table
    assert list(zip(table["on"], table["bound"], strict=True)) == [
        ("simulated", "AIS-4x4"),
        ("simulated", "reverse AIS-4x4"),
    ]
    assert list(found.per_datum.columns) == ["khat"]
    assert len(found.differences) == len(found.across_seeds) == len(found.intervals()) == 0
    assert str(found.bracket()) == "log p(x) is not bracketed: there is no upper bound"
    assert len(found.plot("alone").axes) == 2
    assert found._repr_html_().startswith("<table")
    assert by(toy.model, toy.wrong, toy.data(4), ReverseAIS(TINY), num_simulated=3, seed=SEEDS).replications


def test_bdmc_alone_prints() -> None:
    assert "reverse AIS-4x4" in str(bdmc_alone())


def test_errors_of_bdmc_alone() -> None:
    found = bdmc_alone()
    assert list(found.errors.columns) == ["bound", "datum", "value", "standard_error", "low", "high"]
    assert len(found.errors) == 0


# -- bounds of one's own -------------------------------------------------------------------------------------


@bound("lower", paper="nobody")
def mean_less_one(weights: Weights) -> Tensor:
    return weights.log_w.mean(0) - 1


class Geometric:
    """An instance of a plain class."""

    name, direction = "geometric", "lower"

    def __call__(self, weights: Weights) -> Tensor:
        return weights.log_w.mean(0)


@dataclass
class Shifted:
    """A dataclass that is neither frozen nor hashable."""

    by: float
    name: str = "shifted"
    direction: str = "estimate"

    def __call__(self, weights: Weights) -> Tensor:
        return IWAE()(weights) + self.by


class FromPosterior:
    """Of other draws than the guide's, and sure of less."""

    name, direction, source, guarantee = "from posterior", "upper", "posterior", "limit"

    def __call__(self, weights: Weights) -> Tensor:
        assert weights.source == "posterior"
        return weights.log_w.mean(0)


@pytest.mark.usefixtures("brief")
def test_bounds_of_ones_own_in_every_shape() -> None:
    x = toy.data(12)
    mine = [mean_less_one, (Geometric(), 10), (Shifted(2.0), 50), Shifted(0.0), (FromPosterior(), 16)]
    assert Shifted.__hash__ is None
    found = by(toy.model, toy.wrong, x, ["elbo", "iwae:50", *mine, "eubo:16"], num_particles=100, num_simulated=6)
    labels = ["mean_less_one-100", "geometric-10", "shifted-50", "shifted-100", "from posterior-16"]
    for one in (found, found.simulated):
        assert one is not None
        assert [row.label for row in one.rows] == ["ELBO", "IWAE-50", *labels, "EUBO-16"]
        torch.testing.assert_close(one.row(labels[0]).value, one.row("ELBO").value - 1)
        torch.testing.assert_close(one.row(labels[1]).value, one.row("ELBO").value)
        torch.testing.assert_close(one.row(labels[2]).value, one.row("IWAE-50").value + 2)
        torch.testing.assert_close(one.row(labels[4]).value, one.row("EUBO-16").value)  # the same draws
    table = found.table[found.table["on"] == "data"].set_index("bound")
    assert list(table.loc[labels, "guarantee"]) == ["expectation", "expectation", "none", "none", "limit"]
    assert list(table.loc[labels, "direction"]) == ["lower", "lower", "estimate", "estimate", "upper"]
    assert found.row(labels[0]).paper == "nobody"


def test_a_bound_of_ones_own_alone() -> None:
    for alone in (mean_less_one, Geometric(), Shifted(0.5)):
        (row,) = by(toy.model, toy.wrong, toy.data(3), alone, num_particles=5).rows
        assert row.family == alone.name


class Annealed:
    """Of annealed chains, as many as it has draws, or of those of an AIS with its settings."""

    direction, source, guarantee = "lower", "annealing", "expectation"

    def __init__(self, name: str, **settings: Any) -> None:
        self.name = name
        self.__dict__.update(settings)

    def __call__(self, weights: Weights) -> Tensor:
        return weights.log_w.mean(0)


@pytest.mark.usefixtures("brief")
def test_annealed_bounds_of_ones_own_have_their_own_chains_or_share_some() -> None:
    bounds = [(Annealed("apart"), 9), Annealed("shared", annealing=TINY), AIS(TINY), "iwae:50"]
    found = by(toy.model, toy.wrong, toy.data(6), bounds)
    assert [(row.label, row.num_particles) for row in found.rows[:2]] == [("apart-9", 9), ("shared-4", 4)]
    assert bool((found.row("shared-4").value <= found.row("AIS-4x4").value).all())  # a mean of the same four
    assert float((found.row("apart-9").value - toy.log_prob(toy.data(6))).mean()) < 0


@pytest.mark.usefixtures("brief")
def test_sure_draws_come_first_whoever_asks() -> None:
    """On simulated data a doubtful bound that stands before EUBO does not put MCMC in place of exact draws."""
    settings: dict[str, Any] = {"num_simulated": 5, "num_particles": 4}
    before, after = (
        by(toy.model, toy.wrong, toy.data(3), bounds, **settings).simulated
        for bounds in ([(FromPosterior(), 16), "eubo:16"], ["eubo:16"])
    )
    assert before is not None
    assert after is not None
    torch.testing.assert_close(before.row("EUBO-16").value, after.row("EUBO-16").value)


@pytest.mark.usefixtures("brief")
def test_exact_draws_are_not_claimed_of_data() -> None:
    with pytest.raises(ValueError, match=r"`bounds` has EUBO\(exact=True\), but exact draws .* simulated data alone"):
        by(toy.model, toy.wrong, toy.data(3), ["elbo", EUBO(exact=True)])


def test_a_bound_that_holds_in_the_limit_only_notes_that_it_is_below() -> None:
    near = bound("upper", guarantee="limit", name="near")(lambda weights: weights.log_w.mean(0) - 1)
    found = by(toy.model, toy.wrong, toy.data(20), ["iwae:20", near], num_particles=100, num_simulated=6)
    (said,) = found.warnings
    assert said.startswith("near-100 lies ")
    assert found.simulated is not None
    assert said.partition(" lies ")[0] in found.simulated.warnings[0]


@pytest.mark.parametrize("seed", [0, [0, 1]])
def test_sure_bounds_that_cross_raise_and_lose_nothing(seed: Any) -> None:
    sure = bound("upper", name="sure")(lambda weights: weights.log_w.mean(0) - 1)
    with pytest.raises(CrossedBoundsError, match=r"`IWAE-20` \(lower\) is above `sure-100` \(upper\) by") as error:
        by(
            toy.model,
            toy.wrong,
            toy.data(20),
            ["iwae:20", sure, ReverseAIS(TINY)],
            num_simulated=4,
            num_particles=100,
            seed=seed,
        )
    kept = error.value.ladder
    assert [row.label for row in kept.rows] == ["IWAE-20", "sure-100"]
    assert kept.simulated is not None
    assert len(kept.replications) == (0 if seed == 0 else 2)


# -- what it refuses, and what it takes ----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["ais:5:2", "bdmc:5:2", "eubo:4"])
def test_discrete_latents_are_refused_by_site_where_chains_move(text: str) -> None:
    net = BeliefNet().requires_grad_(False)
    with pytest.raises(ValueError, match=r"site `z[12]` is discrete \(Bernoulli\), but HMC needs continuous latents"):
        by(net.model, net.guide, net.data(4), ["elbo", text], num_simulated=3)


def test_discrete_latents_under_all_other_bounds() -> None:
    net = BeliefNet().requires_grad_(False)
    x = net.data(40)
    bounds = ["elbo", "iwae:50", "tvo:10:500", "tvo-right:10:500", (CUBO(2), 500)]
    found = by(net.model, net.guide, x, bounds, num_simulated=7)
    expected = {"ELBO": net.elbo(x), "TVO(10)-500": net.tvo(x, TVO_PATH), "IWAE-50": net.log_prob(x)}
    for label, exact in expected.items():
        row = found.row(label)
        bias = net.chi_square(x).mean() / 100 if label == "IWAE-50" else 0.0
        assert abs(float((row.value - exact).mean() + bias)) < 4 * row.mean_mc_se + 0.02 * float(bias)
    assert found.simulated is not None
    assert len(found.simulated.rows[0].value) == 7


def grouped(x: Tensor, group: Tensor, y: Tensor) -> None:
    """z ~ N(group, 1), x ~ N(z, 1), y ~ N(z, 2): a covariate, and two observations."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(group, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        pyro.sample("y", dist.Normal(z, 2.0), obs=y)


def grouped_guide(x: Tensor, group: Tensor, y: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal((x + group) / 2, 1.0))


def grouped_log_prob(x: Tensor, group: Tensor, y: Tensor) -> Tensor:
    covariance = torch.tensor([[2.0, 1.0], [1.0, 5.0]])
    both: Tensor = torch.distributions.MultivariateNormal(torch.zeros(2), covariance).log_prob(
        torch.stack([x - group, y - group], -1)
    )
    return both


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("kind", [tuple, dict])
def test_tuples_and_mappings_with_a_covariate(kind: type) -> None:
    parts = torch.zeros(20), 20 * (torch.arange(20.0) % 2), torch.zeros(20)
    rows: Any = parts if kind is tuple else dict(zip(("x", "group", "y"), parts, strict=True))
    drawn: Any = simulate(grouped, rows, 60, seed=0).data
    values = drawn if kind is tuple else [drawn[name] for name in ("x", "group", "y")]
    exact = grouped_log_prob(*values)
    assert float(exact.min()) > -20  # the covariate was heeded: without it half would be near -100
    bounds = ["iwae:200", "eubo:16", ReverseAIS(short(num_temperatures=30))]
    found = by(grouped, grouped_guide, rows, bounds, num_simulated=60)
    assert found.simulated is not None
    bracket = found.simulated.bracket()
    assert bracket.certified
    assert bracket.low < float(exact.mean()) < bracket.high
    assert bracket.high - bracket.low < 0.3
    on_data = found.row("IWAE-200")
    assert float((on_data.value - grouped_log_prob(*parts)).abs().max()) < 5 * float(on_data.standard_error.max()) + 0.1


class WithDropout(Factor):
    """A guide that is another in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def guide(self, x: Tensor) -> None:
        super().guide(self.dropout(x))


@pytest.mark.usefixtures("brief")
def test_the_callers_world_is_as_it_was() -> None:
    ours, x = WithDropout().train(), toy.data(6)
    bounds = ["elbo", "eubo:4", AIS(TINY), ReverseAIS(TINY)]
    before = torch.get_rng_state()
    first = by(ours.model, ours.guide, x, bounds, num_simulated=3, num_particles=50)
    assert torch.equal(torch.get_rng_state(), before)
    assert ours.training
    assert ours.dropout.training
    assert torch.is_grad_enabled()
    torch.rand(3)
    second = by(ours.model, ours.guide, x, bounds, num_simulated=3, num_particles=50)
    same(first, second)
    elbo = first.row("ELBO")
    assert bool(((elbo.value - ours.elbo(x).detach()).abs() < 5 * elbo.standard_error).all())  # of evaluation mode


# -- cut short, and taken up again ---------------------------------------------------------------------------


def same(mine: Ladder, its: Ladder) -> None:
    """All numbers are, to the bit, but not the time they took."""
    for (on, a), (_, b) in zip(mine.parts(), its.parts(), strict=True):
        pd.testing.assert_frame_equal(a.per_datum, b.per_datum, check_exact=True, obj=on)
        for one, other in zip(a.rows, b.rows, strict=True):
            assert torch.equal(one.standard_error, other.standard_error)


class Interrupt:
    """A bar that stops everything after a number of steps of any chains."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise KeyboardInterrupt

    def note(self, **values: float) -> None: ...


FACTOR_BOUNDS: list[Any] = ["elbo", "eubo:8", AIS(TINY), ReverseAIS(TINY)]


def ladder_of(ours: Factor, **how: Any) -> Ladder:
    return by(ours.model, ours.guide, toy.data(5), FACTOR_BOUNDS, num_simulated=3, num_particles=20, **how)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("after", [3, 15, 25, 37, 46])
def test_a_call_cut_short_goes_on_to_the_same_numbers(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut short in EUBO's 10 steps, AIS's 9 and BDMC's 12 on simulated data, or in the two on the data given."""
    ours, bar, moves, transition = Factor(), Interrupt(after), [0], Kinetics.transition

    @contextmanager
    def interrupted(*_: Any, **__: Any) -> Iterator[Interrupt]:
        yield bar

    def often(*args: Any, **named: Any) -> Journal:
        return Journal(*args, **{**named, "seconds": 0.0})

    def counted(*args: Any) -> Any:
        moves[0] += 1
        return transition(*args)

    monkeypatch.setattr(Kinetics, "transition", counted)
    alone = ladder_of(ours)
    total, moves[0] = moves[0], 0
    with monkeypatch.context() as patch:
        patch.setattr(running, "progress_bar", interrupted)
        patch.setattr(running, "Journal", often)
        with pytest.raises(KeyboardInterrupt):
            ladder_of(ours, checkpoint=tmp_path)
    assert 0 < moves[0] < total
    same(ladder_of(ours, checkpoint=tmp_path), alone)
    assert moves[0] == total  # nothing was done twice
    same(ladder_of(ours, checkpoint=tmp_path), alone)
    assert moves[0] == total  # all is read back


@pytest.mark.usefixtures("brief")
def test_a_bound_that_interrupts_loses_no_chains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, x = Factor(), toy.data(5)
    stop = [True]

    class Stops:
        name, direction, source = "stops", "estimate", "annealing"

        def __call__(self, weights: Weights) -> Tensor:
            if stop[0]:
                raise KeyboardInterrupt
            return weights.log_w.mean(0)

    alone = by(ours.model, ours.guide, x, [AIS(TINY), "iwae:4"])
    with pytest.raises(KeyboardInterrupt):
        by(ours.model, ours.guide, x, [AIS(TINY), (Stops(), 5)], checkpoint=tmp_path)
    monkeypatch.setattr(Kinetics, "transition", None)  # the chains of AIS were over, and are read back
    same(by(ours.model, ours.guide, x, [AIS(TINY), "iwae:4"], checkpoint=tmp_path), alone)


@pytest.mark.usefixtures("brief")
def test_what_is_kept_of_another_pair_or_of_other_data_is_left_alone(tmp_path: Path) -> None:
    """Redone: the folder of chains is named after all they stand on, so that the first are there to come back to."""
    ours = Factor()
    first = ladder_of(ours, checkpoint=tmp_path)
    kept = set(tmp_path.iterdir())
    with torch.no_grad():
        ours.b.add_(0.5)
    moved = ladder_of(ours, checkpoint=tmp_path)
    same(moved, ladder_of(ours))
    assert not torch.equal(moved.row("AIS-4x4").value, first.row("AIS-4x4").value)
    assert len(set(tmp_path.iterdir())) == 2 * len(kept)
    with torch.no_grad():
        ours.b.sub_(0.5)
    by(ours.model, ours.guide, toy.data(4), [AIS(TINY)], checkpoint=tmp_path)  # other data
    by(ours.model, ours.guide, toy.data(5), [AIS(replace(TINY, num_leapfrogs=1))], checkpoint=tmp_path)
    by(ours.model, ours.guide, toy.data(5), [AIS(TINY)], checkpoint=tmp_path, mode="replay")
    assert len(set(tmp_path.iterdir())) == 2 * len(kept) + 3


def test_a_bracket_reaches_as_far_as_its_level() -> None:
    ladder, _ = part("simulated")
    found = ladder.bracket(0.9)
    assert found.upper is not None
    assert found.lower is not None
    gap = paired_difference(found.upper.value, found.lower.value)[1]  # the one exact draw's part of the error is in it
    error = max(found.upper.mean_mc_se, gap)
    assert found.high == pytest.approx(found.upper.mean + one_sided(0.9, len(ladder.rows)) * error)


def test_the_types_of_bounds_are_told_apart() -> None:
    for one in (mean_less_one, Geometric(), Shifted(1.0), FromPosterior(), ELBO(), AIS(TINY)):
        assert isinstance(one, Bound)
