"""Every bound against closed forms, against all 4096 states of a belief net, and against plain NumPy at the extremes.

Monte Carlo comparisons allow 4 standard errors, which a right value misses with probability 6e-5 under a fresh seed, or
5 where the error itself comes from twenty parts of the draws: 8e-5. Each docstring says how many are made.
"""

import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from numpy.typing import NDArray
from pyro.infer import RenyiELBO
from scipy.special import logsumexp
from torch import Tensor

from inference.bounds import (
    AIS,
    CIWAE,
    CUBO,
    ELBO,
    EUBO,
    IWAE,
    MIWAE,
    PIWAE,
    TVO,
    Bound,
    Direction,
    Guarantee,
    Renyi,
    ReverseAIS,
    Split,
    VRMax,
    bootstrap,
    bound,
    estimate,
    guarantee_of,
    label_of,
    source_of,
)
from inference.draws import log_weights
from inference.weights import Source, Weights
from tests.oracles import BeliefNet, Guided, LinearGaussian

pytestmark = pytest.mark.usefixtures("double")

oo = math.inf
Column = NDArray[np.float64]
Definition = Callable[[Column], float]


def power_mean(order: float) -> Definition:
    return lambda w: float((logsumexp(order * w) - math.log(len(w))) / order)


def riemann(betas: tuple[float, ...], side: str) -> Definition:
    def value(w: Column) -> float:
        def at(beta: float) -> float:
            if beta == 0:
                return float(w.mean())
            top = beta * w.max() if np.isfinite(w.max()) else 0.0
            powers = np.exp(beta * w - top)
            kept = powers > 0
            return float((powers[kept] * w[kept]).sum() / powers.sum()) if kept.any() else -math.inf

        return sum((b - a) * at(a if side == "left" else b) for a, b in pairwise(betas))

    return value


def grouped(M: int) -> Definition:
    return lambda w: float(np.mean([power_mean(1)(group) for group in w.reshape(M, -1)]))


def mean(w: Column) -> float:
    return float(w.mean())


quarters = (0.0, 0.01, 0.1, 1.0)  # what TVO(3) should use: three intervals, the first to 0.01, then growing tenfold

# each bound; what it is of one datum's weights; direction, guarantee, draws; row of a table at K = 40; paper
TABLE: list[tuple[Bound, Definition, Direction, Guarantee, Source, str, str]] = [
    (ELBO(), mean, "lower", "expectation", "guide", "ELBO", "1312.6114"),
    (IWAE(), power_mean(1), "lower", "expectation", "guide", "IWAE-40", "1509.00519"),
    (MIWAE(2), grouped(2), "lower", "expectation", "guide", "MIWAE-2x20", "1802.04537"),
    (MIWAE(8), grouped(8), "lower", "expectation", "guide", "MIWAE-8x5", "1802.04537"),
    (
        CIWAE(0.3),
        lambda w: 0.3 * mean(w) + 0.7 * power_mean(1)(w),
        "lower",
        "expectation",
        "guide",
        "CIWAE(0.3)-40",
        "1802.04537",
    ),
    (CIWAE(0), power_mean(1), "lower", "expectation", "guide", "CIWAE(0)-40", "1802.04537"),
    (CIWAE(1), mean, "lower", "expectation", "guide", "CIWAE(1)-40", "1802.04537"),
    (PIWAE(8), power_mean(1), "lower", "expectation", "guide", "IWAE-40/MIWAE-8x5", "1802.04537"),
    (
        Split(ELBO(), CUBO(2), paper="1611.00328"),
        mean,
        "lower",
        "expectation",
        "guide",
        "ELBO/CUBO(2)-40",
        "1611.00328",
    ),
    (Renyi(0.5), power_mean(0.5), "lower", "expectation", "guide", "Renyi(0.5)-40", "1602.02311"),
    (Renyi(1.0), mean, "lower", "expectation", "guide", "Renyi(1)-40", "1602.02311"),
    (Renyi(1.5), power_mean(-0.5), "lower", "expectation", "guide", "Renyi(1.5)-40", "1602.02311"),
    (Renyi(-0.5), power_mean(1.5), "upper", "limit", "guide", "Renyi(-0.5)-40", "1602.02311"),
    (VRMax(), lambda w: float(w.max()), "estimate", "none", "guide", "VR-max-40", "1602.02311"),
    (CUBO(), power_mean(2), "upper", "limit", "guide", "CUBO(2)-40", "1611.00328"),
    (CUBO(1), power_mean(1), "upper", "limit", "guide", "CUBO(1)-40", "1611.00328"),
    (TVO(3), riemann(quarters, "left"), "lower", "expectation", "guide", "TVO(3)-40", "1907.00031"),
    (TVO(3, side="right"), riemann(quarters, "right"), "upper", "limit", "guide", "TVO-right(3)-40", "1907.00031"),
    (TVO(1), mean, "lower", "expectation", "guide", "TVO(1)-40", "1907.00031"),
    (EUBO(), mean, "upper", "limit", "posterior", "EUBO-40", "1912.00650"),
    (EUBO(exact=True), mean, "upper", "expectation", "posterior", "EUBO-40", "1912.00650"),
    (AIS(), power_mean(1), "lower", "expectation", "annealing", "AIS-1000x40", "1611.04273"),
    (
        ReverseAIS(),
        power_mean(-1),
        "upper",
        "expectation",
        "reverse annealing",
        "reverse AIS-1000x40",
        "1511.02543",
    ),
]
ALL = [row[0] for row in TABLE]
each_bound = pytest.mark.parametrize("bound", ALL, ids=repr)
each_row = pytest.mark.parametrize("row", TABLE, ids=lambda row: repr(row[0]))


def weights_of(log_w: Tensor, source: Source = "guide") -> Weights:
    return Weights(log_p=log_w, log_q=torch.zeros_like(log_w), source=source)


def suited(bound: Bound, log_w: Tensor) -> Weights:
    """Weights said to be of the draws the bound wants."""
    return weights_of(log_w, source_of(bound))


# what each is


@each_row
def test_what_every_bound_says_of_itself(row: tuple[Bound, Definition, str, str, str, str, str]) -> None:
    bound, _, direction, guarantee, source, label, paper = row
    assert isinstance(bound, Bound)
    assert (bound.direction, guarantee_of(bound), source_of(bound)) == (direction, guarantee, source)
    assert label_of(bound, 40) == label
    assert paper in getattr(bound, "paper", "")


@each_row
def test_every_bound_is_its_definition(row: tuple[Bound, Definition, str, str, str, str, str]) -> None:
    bound, definition, *_ = row
    log_w = 2 * torch.randn(16, 30)
    expected = torch.tensor([definition(column) for column in log_w.T.numpy()])
    torch.testing.assert_close(bound(suited(bound, log_w)), expected, atol=1e-12, rtol=1e-12)


@each_bound
def test_log_weights_shifted_together_shift_the_bound(bound: Bound) -> None:
    """So that a bound of unnormalised densities is one of log p(x) plus what normalises them."""
    log_w = torch.randn(8, 5)
    shift = torch.tensor([-3.0, 0.0, 1.0, 50.0, 1e3])
    torch.testing.assert_close(bound(suited(bound, log_w + shift)), bound(suited(bound, log_w)) + shift)


def test_a_row_names_what_the_bound_was_given() -> None:
    assert TVO(5, first=0.05).name != TVO(5).name
    assert TVO(5, first=0.05).name == "TVO(5, first 0.05)"
    assert TVO(5, side="right", first=0.05).name == "TVO-right(5, first 0.05)"


def test_the_path_of_the_tvo() -> None:
    """Geometric from `first` to 1, and 0 before it."""
    assert TVO(1).betas == (0.0, 1.0)
    assert TVO(2).betas == (0.0, 0.01, 1.0)
    assert TVO(3).betas == pytest.approx(quarters, abs=1e-15)
    assert TVO(4, first=1e-3).betas == pytest.approx((0, 1e-3, 1e-2, 1e-1, 1), abs=1e-15)
    for partitions in (1, 2, 7, 100):
        assert sum(length for length, _ in TVO(partitions).terms) == pytest.approx(1.0, abs=1e-12)


# against other implementations


@pytest.mark.parametrize("alpha", [-2.0, 0.0, 0.3, 1.7])
def test_renyi_is_pyros(alpha: float) -> None:
    """A model that is nothing but a factor hands our weights to Pyro's estimator; it has one datum at a time."""
    log_w = torch.randn(9, 4)
    for i in range(4):
        particles = iter(log_w[:, i])

        def model(particles: Iterator[Tensor] = particles) -> None:
            pyro.factor("log_w", next(particles))

        found = -RenyiELBO(alpha=alpha, num_particles=9).loss(model, lambda: None)
        assert float(Renyi(alpha)(weights_of(log_w))[i]) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("alpha", [-2.0, 0.0, 0.3, 1.7])
def test_renyi_has_the_gradient_of_numpyros_surrogate(alpha: float) -> None:
    """NumPyro differentiates the mean of K log weights, each times its power's share, with the shares held fixed."""
    log_w = torch.randn(9, 4, requires_grad=True)
    value = Renyi(alpha)(weights_of(log_w))
    powers = (1 - alpha) * log_w.detach().numpy()
    log_mean = logsumexp(powers, axis=0) - math.log(9)
    torch.testing.assert_close(value.detach(), torch.tensor(log_mean / (1 - alpha)))
    (gradient,) = torch.autograd.grad(value.sum(), log_w)
    torch.testing.assert_close(gradient, torch.tensor(np.exp(powers - log_mean) / 9))


# large K against exact values


def near() -> Guided:
    """Wider than the posterior by a fifth: w to the power -1 ... infinity has a mean, so Renyi(1.5) a variance."""
    return Guided(LinearGaussian.make(), shift=0.1, spread=1.2, diagonal=False)


PAIRS: dict[str, Callable[[], Guided | BeliefNet]] = {"linear Gaussian": near, "belief net": BeliefNet}


@cache
def drawn(name: str) -> tuple[Guided | BeliefNet, Tensor, Tensor]:
    """A pair, five data, and the log weights of 20,000 draws each, `(K, n)`."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        pair = PAIRS[name]()
        x = pair.data(5)
        return pair, x, log_weights(pair.model, pair.guide, x, 20_000).log_w


Exactly = Callable[[Guided | BeliefNet, Tensor], Tensor]
LIMITS: list[tuple[Bound, Exactly]] = [
    (ELBO(), lambda p, x: p.elbo(x)),
    (IWAE(), lambda p, x: p.log_prob(x)),
    (MIWAE(20), lambda p, x: p.log_prob(x)),
    (CIWAE(0.25), lambda p, x: 0.25 * p.elbo(x) + 0.75 * p.log_prob(x)),
    (PIWAE(4), lambda p, x: p.log_prob(x)),
    (Split(ELBO(), CUBO(2)), lambda p, x: p.elbo(x)),
    (Renyi(0.5), lambda p, x: p.renyi(x, 0.5)),
    (Renyi(1.0), lambda p, x: p.elbo(x)),
    (Renyi(1.5), lambda p, x: p.renyi(x, 1.5)),
    (Renyi(-0.5), lambda p, x: p.renyi(x, -0.5)),
    (CUBO(1), lambda p, x: p.log_prob(x)),
    (CUBO(2), lambda p, x: p.log_prob(x) + torch.log1p(p.chi_square(x)) / 2),
    (TVO(5), lambda p, x: p.tvo(x, (0, 0.01, 10**-1.5, 0.1, 10**-0.5, 1))),
    (TVO(5, side="right"), lambda p, x: p.tvo(x, (0, 0.01, 10**-1.5, 0.1, 10**-0.5, 1), "right")),
    (TVO(1), lambda p, x: p.elbo(x)),
    (TVO(1, side="right"), lambda p, x: p.eubo(x)),
]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(("bound", "exactly"), LIMITS, ids=lambda b: b.name if isinstance(b, Bound) else "")
def test_large_k_is_the_exact_value(bound: Bound, exactly: Exactly, pair: str) -> None:
    """16 bounds x 2 pairs x 5 data: a false alarm in 1 %.

    A function of means is off by about their squared errors: a few hundredths of an error bar, which is below 0.04.
    """
    made, x, log_w = drawn(pair)
    found = estimate(bound, weights_of(log_w))
    with torch.no_grad():
        z_scores = (found.value - exactly(made, x)) / found.standard_error
    assert bool((z_scores.abs() < 5).all()), z_scores
    assert bool((found.standard_error < 0.04).all())


@pytest.mark.parametrize("pair", PAIRS)
def test_exact_values_lie_on_their_sides(pair: str) -> None:
    """What a bound says of its direction is true of its limit; the gaps are far from nothing."""
    made, x, _ = drawn(pair)
    with torch.no_grad():
        log_p = made.log_prob(x)
        for bound, exactly in LIMITS:
            gap = exactly(made, x) - log_p
            assert bool((gap <= 1e-9 if bound.direction == "lower" else gap >= -1e-9).all()), bound
        assert bool((made.kl(x) > 0.05).all())
        assert bool((made.reverse_kl(x) > 0.05).all())
        orders = [made.renyi(x, alpha) for alpha in (-2.0, -1.0, 0.0, 0.5, 1.0, 1.5)]
        assert all(bool((high > low).all()) for high, low in pairwise(orders))


@pytest.mark.parametrize("pair", PAIRS)
def test_the_integrand_is_the_slope_of_the_moments(pair: str) -> None:
    """What the oracles say is consistent: central differences of log E[w^beta], and log p(x) the moment of order 1."""
    made, x, _ = drawn(pair)
    with torch.no_grad():
        torch.testing.assert_close(made.log_moment(x, 1.0), made.log_prob(x))
        for beta in (-0.5, 0.0, 0.3, 1.0, 2.0):
            slope = (made.log_moment(x, beta + 1e-5) - made.log_moment(x, beta - 1e-5)) / 2e-5
            torch.testing.assert_close(made.integrand(x, beta), slope, atol=1e-7, rtol=0)


def test_moments_that_do_not_exist_are_said_not_to() -> None:
    """A wide diagonal guide: E[w^-1/2] is infinite, so the Renyi bound of order 1.5 is minus infinity."""
    pair = Guided(LinearGaussian.make())
    x = pair.data(3)
    torch.testing.assert_close(pair.elbo(x), pair.toy.wrong_elbo(x))
    assert bool((pair.renyi(x, 1.5) == -oo).all())
    assert bool(pair.integrand(x, -0.5).isnan().all())
    assert bool(pair.cubo(x, 50.0).isfinite().all())


@pytest.mark.parametrize("pair", PAIRS)
def test_the_ladder_rises_from_the_exact_elbo_to_the_exact_log_p(pair: str) -> None:
    """L_1 = ELBO, and L_1 <= L_5 <= L_50 <= log p(x): 2 pairs x 5 data x 4 comparisons, a false alarm in 0.3 %."""
    made, x, log_w = drawn(pair)
    rungs = [estimate(IWAE(), weights_of(log_w), K) for K in (1, 5, 50)]
    with torch.no_grad():
        assert bool(((rungs[0].value - made.elbo(x)).abs() < 4 * rungs[0].standard_error).all())
        assert bool((rungs[-1].value < made.log_prob(x) + 4 * rungs[-1].standard_error).all())
    for low, high in pairwise(rungs):
        assert bool((low.value < high.value + 4 * (low.standard_error**2 + high.standard_error**2).sqrt()).all())


def test_draws_of_a_belief_net_are_weighed_as_its_states_are() -> None:
    """Each of 20,000 x 5 log weights is that of one of the 4096 states."""
    made, x, log_w = drawn("belief net")
    assert isinstance(made, BeliefNet)
    with torch.no_grad():
        states = made.log_w(x).sort(-1).values  # (n, 4096)
    found = log_w.T.contiguous()  # (n, K)
    at = torch.searchsorted(states, found).clamp(1, 4095)
    nearest = torch.minimum((states.gather(1, at) - found).abs(), (states.gather(1, at - 1) - found).abs())
    assert float(nearest.max()) < 1e-9


TWO: list[tuple[Bound, Callable[[Tensor, Tensor], Tensor]]] = [
    (IWAE(), lambda v, w: torch.logaddexp(v, w) - math.log(2)),
    (VRMax(), torch.maximum),
    (CUBO(2), lambda v, w: torch.logaddexp(2 * v, 2 * w) / 2 - math.log(2) / 2),
    (Renyi(2.0), lambda v, w: math.log(2) - torch.logaddexp(-v, -w)),
]


@pytest.mark.parametrize(("bound", "of_two"), TWO, ids=lambda b: b.name if isinstance(b, Bound) else "")
def test_two_draws_have_the_mean_of_all_pairs_of_states(
    bound: Bound, of_two: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """A bound's bias at K = 2, over 4096 x 4096 pairs of one datum: 4 comparisons, a false alarm in 0.03 %."""
    made, x, log_w = drawn("belief net")
    assert isinstance(made, BeliefNet)
    with torch.no_grad():
        states, q = made.log_w(x[:1])[0], made.log_guide(x[:1])[0].exp()
        exact = sum(q[i] * (q * of_two(states[i], states)).sum() for i in range(4096))
        log_p = made.log_prob(x[:1])
    found = estimate(bound, weights_of(log_w[:, :1]), 2)
    assert abs(float((found.value - exact) / found.standard_error)) < 4
    assert abs(float((found.value - log_p) / found.standard_error)) > 10  # biased, and visibly


@pytest.mark.parametrize("pair", PAIRS)
def test_draws_of_the_posterior_give_the_eubo(pair: str) -> None:
    """2 pairs x 5 data: a false alarm in 0.1 %."""
    made, x, _ = drawn(pair)
    with torch.no_grad():
        if isinstance(made, BeliefNet):
            at = torch.multinomial(made.posterior(x), 20_000, replacement=True)  # (n, K)
            log_p, log_q = made.log_joint(x).gather(1, at).T, made.log_guide(x).gather(1, at).T
        else:
            posterior = torch.distributions.MultivariateNormal(*made.toy.posterior(x))
            z = posterior.sample((20_000,))
            log_p, log_q = made.log_prob(x) + posterior.log_prob(z), made.q(x).log_prob(z)
        found = estimate(EUBO(exact=True), Weights(log_p, log_q, source="posterior"))
        z_scores = (found.value - made.log_prob(x) - made.reverse_kl(x)) / found.standard_error
    assert bool((z_scores.abs() < 5).all()), z_scores
    assert bool((found.standard_error < 0.02).all())


# bounds of the same draws


def heavy(K: int = 8, n: int = 400) -> Tensor:
    return 3 * torch.randn(K, n)


ASCENDING: list[list[Bound]] = [
    [Renyi(3.0), Renyi(1.5), ELBO(), Renyi(0.5), IWAE(), Renyi(-0.5), CUBO(2), CUBO(5), VRMax()],
    [ELBO(), TVO(2), TVO(3), TVO(5), TVO(9), TVO(17), IWAE()],  # each path holds the points of the one before
    [IWAE(), TVO(17, side="right"), TVO(9, side="right"), TVO(3, side="right"), TVO(1, side="right"), VRMax()],
    [ELBO(), MIWAE(8), MIWAE(4), MIWAE(2), MIWAE(1), IWAE()],
    [CIWAE(1), CIWAE(0.9), CIWAE(0.1), CIWAE(0)],
]


@pytest.mark.parametrize("ladder", ASCENDING, ids=lambda ladder: f"{ladder[0].name} to {ladder[-1].name}")
def test_bounds_of_the_same_draws_are_ordered_for_every_draw(ladder: list[Bound]) -> None:
    weights = weights_of(heavy())
    same = [{"ELBO", "MIWAE(8)"}, {"MIWAE(1)", "IWAE"}, {"VR-max", "TVO-right(1)"}]
    for low, high in pairwise(ladder):
        gap = high(weights) - low(weights)
        assert float(gap.min()) > -1e-12, (low, high)
        if {low.name, high.name} not in same:
            assert float(gap.mean()) > 1e-3, (low, high)


def test_riemann_sums_close_on_the_iwae_value_of_their_draws() -> None:
    """The integrand rises, so the sums are at most its rise times the longest interval apart; their mean is closer."""
    log_w = heavy()
    weights = weights_of(log_w)
    rise = TVO(1, side="right")(weights) - ELBO()(weights)
    gaps = []
    for partitions in (50, 200, 800):
        left, right = (TVO(partitions, side=side, first=1 / partitions) for side in ("left", "right"))
        longest = max(b - a for a, b in pairwise(left.betas))
        gap = right(weights) - left(weights)
        assert bool((gap <= longest * rise + 1e-12).all())
        middle = (left(weights) + right(weights)) / 2
        assert float((middle - IWAE()(weights)).abs().max()) < longest * float(gap.max())
        gaps.append(float(gap.mean()))
    assert gaps[2] < gaps[1] / 2.5 < gaps[0] / 6


def test_miwae_is_the_mean_of_iwae_over_its_groups() -> None:
    log_w = heavy(12)
    groups = [IWAE()(weights_of(part)) for part in log_w.split(4)]
    torch.testing.assert_close(MIWAE(3)(weights_of(log_w)), torch.stack(groups).mean(0))
    assert not torch.allclose(MIWAE(3)(weights_of(log_w)), MIWAE(4)(weights_of(log_w)))
    with pytest.raises(
        ValueError, match=r"`weights` hold 12 draws, expected a multiple of 5, the groups of MIWAE\(5\)"
    ):
        MIWAE(5)(weights_of(log_w))
    with pytest.raises(ValueError, match="hold 12 draws, expected a multiple of 24"):
        MIWAE(24)(weights_of(log_w))


def test_a_split_has_the_value_of_its_model() -> None:
    weights = weights_of(heavy())
    split = Split(CIWAE(0.3), VRMax())
    torch.testing.assert_close(split(weights), CIWAE(0.3)(weights), atol=0, rtol=0)
    torch.testing.assert_close(PIWAE(4)(weights), IWAE()(weights), atol=0, rtol=0)
    assert guarantee_of(Split(VRMax(), ELBO())) == "none"
    assert guarantee_of(Split(IWAE(), CUBO(2))) == "expectation"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Split(CUBO(2), ELBO()), r"`model` is CUBO\(2\), an upper bound: .* expected a lower bound"),
        (lambda: Split(ELBO(), EUBO()), "`guide` is EUBO, expected a plain bound of draws from the guide"),
        (lambda: Split(ELBO(), PIWAE(2)), r"`guide` is IWAE/MIWAE\(2\), expected a plain bound"),
        (lambda: Split(AIS(), ELBO()), "`model` is AIS-1000, expected a plain bound of draws from the guide"),
        (lambda: CUBO(0.5), "`order` is 0.5, expected a finite number n, at least 1"),
        (lambda: CUBO(math.inf), "`order` is inf"),
        (lambda: Renyi(-math.inf), "`alpha` is -inf, expected a finite number; alpha to minus infinity is `VRMax`"),
        (lambda: CIWAE(1.1), "`beta` is 1.1, expected the ELBO's share, 0 to 1"),
        (lambda: MIWAE(0), "`groups` is 0, expected a whole number M, at least 1"),
        (lambda: MIWAE(2.0), "`groups` is 2.0, expected a whole number"),  # type: ignore[arg-type]
        (lambda: TVO(0), "`partitions` is 0, expected a whole number of intervals"),
        (lambda: TVO(5, side="middle"), "`side` is 'middle', expected \"left\""),  # type: ignore[arg-type]
        (lambda: TVO(5, first=1.0), "`first` is 1.0, expected the end of the first interval, between 0 and 1"),
    ],
)
def test_what_makes_no_bound_is_refused(make: Callable[[], Bound], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# annealed draws: log-normal weights, whose mean is known


def test_ais_lies_below_and_reverse_ais_above_the_mean_weight() -> None:
    """log w ~ N(mu -+ s^2 / 2, s^2) has E[w] = e^mu, respectively 1 / E[1 / w] = e^mu.

    At K = 1 the values are log w itself, s^2 / 2 away on either side; at K = 5,000 they are mu. 2 x 2 x 40
    comparisons: a false alarm in 1 %.
    """
    mu, s = torch.linspace(-90, 90, 40), 0.8
    forward = mu - s**2 / 2 + s * torch.randn(5000, 40)
    backward = mu + s**2 / 2 + s * torch.randn(5000, 40)
    low, high = weights_of(forward, "annealing"), weights_of(backward, "reverse annealing")
    for made, weights, sign in ((AIS(), low, -1), (ReverseAIS(), high, 1)):
        for K, exact in ((1, mu + sign * s**2 / 2), (5000, mu)):
            found = estimate(made, weights, K)
            assert bool(((found.value - exact).abs() < 5 * found.standard_error).all()), (made, K)
            assert bool((found.standard_error < 0.025).all())
    rising, falling = (
        [estimate(b, w, K).value.mean() for K in (1, 5, 50)] for b, w in ((AIS(), low), (ReverseAIS(), high))
    )
    assert rising[0] < rising[1] < rising[2] < mu.mean() < falling[2] < falling[1] < falling[0]


SAID: dict[Source, str] = {
    "guide": "the guide",
    "posterior": "the posterior",
    "annealing": "annealing towards the posterior",
    "reverse annealing": "annealing away from the posterior",
}


@each_bound
def test_estimates_of_other_draws_are_refused(bound: Bound) -> None:
    for source, said in SAID.items():
        weights = weights_of(heavy(), source)
        if source == source_of(bound):
            assert bool(estimate(bound, weights).value.isfinite().all())
        else:
            wanted = f"draws from {said}, but {bound.name} needs draws from {SAID[source_of(bound)]}"
            with pytest.raises(ValueError, match=re.escape(wanted)):
                estimate(bound, weights)


@pytest.mark.parametrize("bound", [EUBO(), AIS(), ReverseAIS()], ids=lambda b: b.name)
def test_draws_of_the_guide_are_refused_by_the_bound_itself(bound: Bound) -> None:
    with pytest.raises(ValueError, match=r"`weights` are of draws from the guide, but .* see `compare_bounds`"):
        bound(weights_of(heavy()))


# errors


@each_bound
@pytest.mark.parametrize("K", [16, 64])
def test_standard_errors_are_what_replication_shows(bound: Bound, K: int) -> None:
    """The root of the mean reported variance over 1,500 replications against the spread over them, K = 64 being one
    group and K = 16 four. Its own error is near 0.02; the jackknife of a maximum is known to be a tenth too wide."""
    found = estimate(bound, suited(bound, 0.5 * torch.randn(64, 1500)), K)
    ratio = float((found.standard_error.square().mean() / found.value.var()).sqrt())
    assert 0.87 < ratio < (1.25 if isinstance(bound, VRMax) else 1.15)


def test_grouped_bounds_take_their_error_from_their_groups() -> None:
    """Five draws of eight groups: leaving draws out would regroup the others, and 38 are no multiple of 8."""
    weights = weights_of(heavy(40, 6))
    values = torch.stack([IWAE()(weights_of(part)) for part in weights.log_w.split(5)])
    found = estimate(MIWAE(8), weights)
    torch.testing.assert_close(found.value, values.mean(0))
    torch.testing.assert_close(found.standard_error, values.std(0) / math.sqrt(8))


def test_bootstrap_intervals_cover_as_often_as_they_say() -> None:
    """w ~ U(1/2, 3/2) has E[w^2] = 13/12. The 90 % interval of CUBO(2) over 1,000 repetitions: 0.9 +- 4 x 0.0095,
    less 0.01 that a percentile interval of 200 resamples is known to lose at K = 300."""
    log_w = (torch.rand(300, 1000) + 0.5).log()
    resampled = bootstrap(CUBO(2), weights_of(log_w), resamples=200, seed=3)
    low, high = resampled.quantile(torch.tensor([0.05, 0.95]), 0)
    exact = math.log(13 / 12) / 2
    covered = float(((low <= exact) & (exact <= high)).double().mean())
    assert 0.85 < covered < 0.94
    assert 0.02 < float((high - low).mean()) < 0.06


@pytest.mark.parametrize(
    "bound", [CUBO(2), Renyi(-0.5), Renyi(0.5), TVO(4, side="right"), ELBO()], ids=lambda b: b.name
)
def test_bootstrap_is_the_bound_of_draws_drawn_again(bound: Bound) -> None:
    """Whatever short way a bound takes, it gives what the plain function of resampled weights gives."""

    class Plain:
        name, direction = "plain", bound.direction

        def __call__(self, weights: Weights) -> Tensor:
            return bound(weights)

    weights = weights_of(heavy(50, 7))
    found = bootstrap(bound, weights, resamples=30, seed=2)
    assert found.shape == (30, 7)
    torch.testing.assert_close(found, bootstrap(Plain(), weights, resamples=30, seed=2))
    torch.testing.assert_close(found, bootstrap(bound, weights, resamples=30, seed=2), atol=0, rtol=0)
    assert not torch.equal(found, bootstrap(bound, weights, resamples=30, seed=4))
    assert bool((found.std(0) > 0.01).all())


def test_bootstrap_leaves_the_callers_random_state_alone() -> None:
    weights = weights_of(heavy())
    before = torch.get_rng_state()
    bootstrap(CUBO(2), weights)
    assert torch.equal(before, torch.get_rng_state())


# extremes

EXTREMES: dict[str, list[float]] = {
    "huge both ways": [1e4, 1e4 - 1, -1e4, 0.0, 1.0, 1e4 - 50, -9e3, 3.0],
    "hopeless": [-1e4, -1e4 + 1, -1e4 - 2, -1e4, -1e4, -1e4 + 3, -1e4 - 9, -1e4],
    "one dominates": [800.0, *[-1.0] * 7],
    "one dead": [-oo, 0.0, 1.0, 2.0, -1.0, 0.5, 0.3, -0.2],
    "one alive": [*[-oo] * 7, 1.5],
    "none alive": [-oo] * 8,
    "all equal": [-85.0] * 8,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", EXTREMES)
@each_row
def test_extreme_weights(row: tuple[Bound, Definition, str, str, str, str, str], case: str, dtype: torch.dtype) -> None:
    """Each is as defined, minus infinity included; where finite so is its gradient, which adds up to one.

    A quiet datum beside the extreme one keeps its value and gradient.
    """
    bound, definition, *_ = row
    columns = torch.tensor([EXTREMES[case], [0.1, -0.3, 0.2, 0.4, -0.1, 0.0, 0.3, -0.5]], dtype=dtype).T
    log_w = columns.clone().requires_grad_()
    value = bound(suited(bound, log_w))
    assert value.dtype == dtype
    expected = [definition(column) for column in columns.double().T.numpy()]
    assert value.tolist() == pytest.approx(expected, rel=3e-6 if dtype == torch.float32 else 1e-12, abs=1e-6)
    finite = value.isfinite()
    assert bool(finite[1])
    assert not bool(value.isnan().any())
    (gradient,) = torch.autograd.grad(value[finite].sum(), log_w)
    assert bool(gradient[:, finite].isfinite().all())
    rounding = 4 * torch.finfo(dtype).eps * float(columns[columns.isfinite()].abs().max())  # of 2 log w, in e^(2 log w)
    assert gradient[:, finite].sum(0).tolist() == pytest.approx([1.0] * int(finite.sum()), abs=rounding + 1e-6)


@pytest.mark.parametrize("case", ["one dominates", "one dead", "none alive"])
@each_bound
def test_an_extreme_estimate_is_the_extreme_value(bound: Bound, case: str) -> None:
    """An error bar it may not have; a number it has, and no exception. The quiet datum beside it has both."""
    weights = suited(bound, torch.tensor([EXTREMES[case], [0.1, -0.3, 0.2, 0.4, -0.1, 0.0, 0.3, -0.5]]).T)
    found = estimate(bound, weights)
    torch.testing.assert_close(found.value, bound(weights))
    assert float(found.standard_error[1]) > 0


def test_which_bounds_survive_a_draw_of_no_weight() -> None:
    """Those that average log weights, at any share, do not; those that average weights do."""
    log_w = torch.tensor(EXTREMES["one dead"])[:, None]
    dead = {repr(bound) for bound in ALL if float(bound(suited(bound, log_w))) == -oo}
    lost = (ELBO(), MIWAE(8), CIWAE(0.3), CIWAE(1), Renyi(1.0), Renyi(1.5), TVO(3), TVO(1), EUBO(), EUBO(exact=True))
    assert dead == {*map(repr, lost), repr(ReverseAIS()), repr(ALL[8])}
    assert isinstance(ALL[8], Split)


@each_bound
def test_nan_does_not_disappear(bound: Bound) -> None:
    log_w = torch.randn(8, 3)
    log_w[2, 1] = math.nan
    weights = suited(bound, log_w.requires_grad_())
    value = bound(weights)
    assert value.isnan().tolist() == [False, True, False]
    assert estimate(bound, weights.map(Tensor.detach)).value.isnan().tolist() == [False, True, False]
    (gradient,) = torch.autograd.grad(value[[0, 2]].sum(), log_w)
    assert bool(gradient[:, [0, 2]].isfinite().all())


@each_bound
@pytest.mark.parametrize("n", [1, 3])
def test_one_draw_is_its_own_bound(bound: Bound, n: int) -> None:
    log_w = torch.randn(1, n)
    if isinstance(bound, MIWAE):
        with pytest.raises(ValueError, match=f"`weights` hold 1 draws, expected a multiple of {bound.groups}"):
            bound(weights_of(log_w))
    else:
        torch.testing.assert_close(bound(suited(bound, log_w)), log_w[0])
        found = estimate(bound, suited(bound, log_w))
        torch.testing.assert_close(found.value, log_w[0])
        assert bool(found.standard_error.isnan().all())  # not 0: a single draw cannot know


@each_bound
def test_gradients_are_finite_differences(bound: Bound) -> None:
    log_w = torch.randn(8, 2, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: bound(suited(bound, v)), log_w)


@pytest.mark.parametrize("bound", [b for b in ALL if hasattr(b, "curvature")], ids=repr)
def test_curvature_is_the_second_derivative(bound: Any) -> None:
    log_w = torch.randn(8, 2)
    hessian = torch.autograd.functional.hessian(lambda v: bound(suited(bound, v)).sum(), log_w)
    exact = torch.einsum("knkn->kn", hessian)
    torch.testing.assert_close(bound.curvature(log_w), exact, atol=1e-12, rtol=1e-9)


# bounds of one's own


@bound("lower", paper="of our own")
def smallest(weights: Weights) -> Tensor:
    """The worst draw."""
    return weights.log_w.amin(0)


def test_a_function_becomes_a_bound() -> None:
    weights = weights_of(heavy())
    assert isinstance(smallest, Bound)
    assert (smallest.name, smallest.direction, smallest.guarantee) == ("smallest", "lower", "expectation")
    assert (smallest.paper, label_of(smallest, 40), source_of(smallest)) == ("of our own", "smallest-40", "guide")
    torch.testing.assert_close(smallest(weights), weights.log_w.amin(0), atol=0, rtol=0)
    found = estimate(smallest, weights, 4)
    torch.testing.assert_close(found.value, (weights.log_w[:4].amin(0) + weights.log_w[4:].amin(0)) / 2)
    assert Split(smallest, CUBO(2)).name == "smallest/CUBO(2)"


def test_a_bound_of_ones_own_says_what_it_promises() -> None:
    def middle(weights: Weights) -> Tensor:
        return weights.log_w.median(0).values

    assert guarantee_of(bound("estimate")(middle)) == "none"
    assert guarantee_of(bound("upper")(middle)) == "expectation"
    assert guarantee_of(bound("upper", guarantee="limit")(middle)) == "limit"
    assert bound("estimate", name="the median")(middle).name == "the median"


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda weights: weights.log_w, r"\(8, 5\)"),
        (lambda weights: weights.log_w.mean(), r"\(\)"),
        (lambda weights: weights.log_w.mean(0, keepdim=True), r"\(1, 5\)"),
        (lambda weights: float(weights.log_w.mean()), "a float"),
        (lambda weights: None, "a NoneType"),
    ],
)
def test_a_bound_of_the_wrong_shape_is_told_the_right_one(function: Callable[[Weights], Tensor], got: str) -> None:
    wrong = bound("lower", name="wrong")(function)
    with pytest.raises(
        ValueError,
        match=rf"bound `wrong` gave {got}, expected one value per datum, shape \(5,\): .* over its first axis",
    ):
        wrong(weights_of(heavy(8, 5)))


def test_a_direction_or_guarantee_there_is_not() -> None:
    with pytest.raises(ValueError, match='`direction` is \'below\', expected "lower", "upper" or "estimate"'):
        bound("below")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='`guarantee` is \'always\', expected "expectation", "limit" or "none"'):
        bound("lower", guarantee="always")  # type: ignore[arg-type]
