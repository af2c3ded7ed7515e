"""Scores of samples against scikit-learn, SciPy, closed forms and supports that are known."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import binom, entropy, kstest, mannwhitneyu, multivariate_normal
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.neighbors import KernelDensity, NearestNeighbors
from torch import Tensor

from inference.samples import (
    judge_samples,
    k_means,
    label_statistics,
    mmd,
    modes_covered,
    nearest_training,
    parzen,
    parzen_window,
    precision_recall,
    train_classifier,
)
from inference.samples.distances import distance_blocks
from ppmodels.data import mnist
from ppmodels.toys import grid, ring
from tests.test_display import text_of

pytestmark = pytest.mark.usefixtures("double")


def normals(n: int, d: int = 2, *, seed: int = 0, loc: float = 0.0) -> Tensor:
    return loc + torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


class Nearest:
    """A classifier of points on a line: class 3 below zero, 7 above, with a confidence of 0.8 or 0.6."""

    classes_ = np.array([3, 7])

    def predict_proba(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        p = np.where(x[:, 0] > 0, 0.8, 0.4)
        return np.stack([1 - p, p], 1)


# -- Parzen windows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1, 7])
@pytest.mark.parametrize("sigma", [0.05, 0.7, 30.0])
def test_windows_are_a_kernel_density(sigma: float, chunk: int | None) -> None:
    samples, x = normals(50, 3), 2 * normals(20, 3, seed=1)
    expected = KernelDensity(bandwidth=sigma).fit(samples.numpy()).score_samples(x.numpy())
    torch.testing.assert_close(
        parzen_window(samples, x, sigma, chunk=chunk), torch.as_tensor(expected), rtol=1e-9, atol=0
    )


def test_one_window_is_a_normal_wherever_it_stands() -> None:
    """Far from the origin too, and in single precision: 10^4 with differences of a half is exact in it."""
    x = torch.tensor([[1e4 + 0.5, 1e4 - 1.0]], dtype=torch.float32)
    expected = multivariate_normal([1e4, 1e4], 0.25).logpdf(x.double().numpy())
    found = parzen_window(torch.full((1, 2), 1e4, dtype=torch.float32), x, 0.5)
    assert float(found) == pytest.approx(expected, rel=1e-10)


def test_the_width_is_the_best_on_validation_data_and_the_score_is_of_test_data() -> None:
    train, validation, test, samples = (normals(n, seed=n) for n in (60, 90, 80, 70))
    sigmas = (0.8, 0.1, 3.0, 0.4)
    found = parzen(samples, train=train, validation=validation, test=test, sigmas=sigmas, num_validation=50)
    densities = {s: KernelDensity(bandwidth=s).fit(samples.numpy()) for s in sigmas}
    best = max(sigmas, key=lambda s: densities[s].score(validation[:50].numpy()))
    log_p = densities[best].score_samples(test.numpy())
    assert found.samples.sigma == best
    assert found.samples.edge == ""
    assert found.value == pytest.approx(log_p.mean())
    assert found.se == pytest.approx(log_p.std(ddof=1) / math.sqrt(80))
    gap = log_p - found.real.log_p.numpy()
    assert found.gap == pytest.approx((gap.mean(), gap.std(ddof=1) / math.sqrt(80)))


def test_only_the_first_validation_data_are_read() -> None:
    x = normals(40)
    far = torch.cat([x[:20], x[20:] + 100])
    scores = [parzen(x, train=x, validation=v, test=x, num_validation=20).samples.sigma for v in (x, far)]
    assert scores[0] == scores[1]
    assert parzen(x, train=x, validation=far, test=x).samples.sigma > scores[0]


def test_anchors_stand_on_training_data() -> None:
    """With as many windows as training data both anchors are these; with fewer, they are a choice of them."""
    train, x = normals(30), normals(50, seed=1)
    found = parzen(normals(40, seed=2), train=train, validation=x, test=x)
    for anchor in (found.real, found.centroids):
        torch.testing.assert_close(anchor.log_p, parzen_window(train, x, anchor.sigma))
    fewer = parzen(normals(10, seed=2), train=train, validation=x, test=x)
    assert [row.num_samples for row in fewer.rows] == [10, 10, 10]
    capped = parzen(normals(20, seed=2), train=train, validation=x, test=x, max_anchors=5)
    assert [row.num_samples for row in capped.rows] == [20, 5, 5]
    assert any("fewer windows" in note for note in capped.notes())
    assert not any("fewer windows" in note for note in fewer.notes())


def test_centroids_score_above_real_data() -> None:
    """The flaw that the anchors are there to show: four standard errors, and more, in eight dimensions."""
    x = normals(3000, 8)
    found = parzen(x[2800:], train=x[:2000], validation=x[2000:2400], test=x[2400:2800])
    gain = found.centroids.log_p - found.real.log_p
    assert float(gain.mean()) > 4 * float(gain.std()) / math.sqrt(400)
    assert abs(found.gap[0]) <= 4 * found.gap[1] + 0.2  # samples of the data's law score as the data do


@pytest.mark.parametrize(
    ("sigmas", "edge"), [((1e-3, 1e-2), "largest"), ((20.0, 10.0), "smallest"), ((0.3,), "largest")]
)
def test_a_width_at_the_edge_is_said(sigmas: tuple[float, ...], edge: str) -> None:
    x = normals(80)
    found = parzen(x[:20], train=x[20:40], validation=x[40:60], test=x[60:], sigmas=sigmas)
    assert found.samples.edge == edge
    assert f"sigma of samples is the {edge} of those tried" in str(found)
    assert "sigma of k-means centroids" in found._repr_html_()


def test_parzen_reports_three_rows_and_a_warning() -> None:
    x = normals(80)
    found = parzen(x[:20], train=x[20:40], validation=x[40:60], test=x[60:])
    frame = found.to_frame()
    assert frame["windows on"].tolist() == ["samples", "real training data", "k-means centroids"]
    assert frame["log_p"].tolist() == [row.value for row in found.rows]
    assert "rewards memorisation" in str(found)
    assert f"{found.centroids.value:.1f} ± " in str(found)
    assert "rewards memorisation" in read(found)


def test_the_seed_alone_decides() -> None:
    x, state = normals(90), torch.get_rng_state()
    runs = [parzen(x[:5], train=x[5:40], validation=x[40:60], test=x[60:], seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    for of in ("real", "centroids"):
        first, again, other = (getattr(run, of).value for run in runs)
        assert first == again
        assert first != other


# -- centroids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 13])
@pytest.mark.parametrize("steps", [1, 4])
def test_lloyd_steps_are_those_of_scikit_learn(steps: int, chunk: int | None) -> None:
    x = normals(300, 3) + 50
    start = k_means(x, 6, steps=0, seed=4)
    assert all(any(torch.equal(row, datum) for datum in x) for row in start)
    assert len(start.unique(dim=0)) == 6
    reference = KMeans(6, init=start.numpy(), n_init=1, max_iter=steps, tol=0, algorithm="lloyd").fit(x.numpy())
    found = k_means(x, 6, steps=steps, seed=4, chunk=chunk)
    torch.testing.assert_close(found, torch.as_tensor(reference.cluster_centers_))


def test_an_empty_cluster_keeps_its_centre() -> None:
    x = torch.tensor([[2.0], [2.0], [2.0], [9.0]])
    assert sorted(k_means(x, 4).flatten().tolist()) == [2, 2, 2, 9]


# -- maximum mean discrepancy -------------------------------------------------------------------------------------


def kernel(x: Tensor, y: Tensor, widths: tuple[float, ...]) -> NDArray[np.float64]:
    squared = cdist(x.numpy(), y.numpy(), "sqeuclidean")
    return np.asarray(sum(np.exp(-squared / (2 * s**2)) for s in widths))


def by_pairs(x: Tensor, y: Tensor, widths: tuple[float, ...]) -> float:
    """The U-statistic by its definition."""
    xx, yy, xy = kernel(x, x, widths), kernel(y, y, widths), kernel(x, y, widths)
    S, n = len(x), len(y)
    others = [(k.sum() - np.trace(k)) / (m * (m - 1)) for k, m in ((xx, S), (yy, n))]
    return float(sum(others) - 2 * xy.mean())


@pytest.mark.parametrize("chunk", [None, 5])
def test_mmd_is_the_u_statistic(chunk: int | None) -> None:
    x, y = normals(12, 3), normals(17, 3, seed=1, loc=0.5)
    found = mmd(x, y, bandwidths=(0.5, 2.0), permutations=3, chunk=chunk)
    assert found.value == pytest.approx(by_pairs(x, y, (0.5, 2.0)), abs=1e-12)
    xx, yy, xy = (kernel(a, b, (0.5, 2.0)) for a, b in ((x, x), (y, y), (x, y)))
    h_x, h_y = (xx.sum(1) - 2) / 11 - xy.mean(1), (yy.sum(1) - 2) / 16 - xy.mean(0)
    assert found.se == pytest.approx(2 * math.sqrt(h_x.var(ddof=1) / 12 + h_y.var(ddof=1) / 17))


def test_relabellings_are_u_statistics_of_relabelled_rows() -> None:
    """Three rows and three make 20 labellings: each relabelling has the value of one of them, and all turn up."""
    x, y = normals(3), normals(3, seed=1)
    pooled, values = torch.cat([x, y]), []
    for code in range(64):
        chosen = torch.tensor([bool(code >> i & 1) for i in range(6)])
        if int(chosen.sum()) == 3:
            values.append(by_pairs(pooled[chosen], pooled[~chosen], (1.0,)))
    found = mmd(x, y, bandwidths=(1.0,), permutations=500)
    gaps = (found.null.unsqueeze(1) - torch.tensor(values)).abs()
    assert float(gaps.min(1).values.max()) < 1e-12
    assert float(gaps.min(0).values.max()) < 1e-12  # one of 10 pairs misses 500 draws with probability 1e-22
    larger = sum(float(v) >= found.value - 1e-9 for v in found.null)
    assert found.p_value == (1 + larger) / 501


def test_the_median_sets_the_bandwidths() -> None:
    x, y = normals(21), normals(20, seed=1)
    pooled = torch.cat([x, y]).numpy()
    median = np.median(cdist(pooled, pooled)[np.triu_indices(41, 1)])
    found = mmd(x, y, permutations=0)
    np.testing.assert_allclose(found.bandwidths, np.array([0.25, 0.5, 1, 2, 4]) * median, rtol=0.01)
    assert found.value == pytest.approx(by_pairs(x, y, found.bandwidths))
    assert found.p_value == 1


def truth(s: float, distance: float, a: float, b: float, d: int) -> float:
    """MMD^2 of N(0, a^2 I) and N(m, b^2 I) with |m| = distance, one Gaussian kernel of bandwidth s."""

    def mean(variance: float, gap: float) -> float:
        total = s**2 + variance
        return float((s**2 / total) ** (d / 2) * math.exp(-(gap**2) / (2 * total)))

    return mean(2 * a**2, 0) + mean(2 * b**2, 0) - 2 * mean(a**2 + b**2, distance)


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_mmd_is_unbiased_and_knows_its_error(shift: float) -> None:
    """400 pairs of sets: the mean within 4 standard errors of the closed form (false alarm 6e-5).

    With the diagonal it would be too high by some 30 of them. The standard error is the spread where the laws differ,
    within 4 errors of a standard deviation of 400 (1 / sqrt(800)), and up to 1.5 of it where they are the same.
    """
    found = [
        mmd(
            normals(15, seed=2 * i),
            0.8 * normals(45, seed=2 * i + 1) + shift if shift else normals(45, seed=2 * i + 1),
            bandwidths=(0.7, 1.5),
            permutations=0,
        )
        for i in range(400)
    ]
    values = np.array([one.value for one in found])
    expected = sum(truth(s, shift * math.sqrt(2), 1.0, 0.8 if shift else 1.0, 2) for s in (0.7, 1.5))
    spread = values.std(ddof=1)
    assert abs(values.mean() - expected) <= 4 * spread / 20
    ratio = math.sqrt(np.mean([one.se**2 for one in found])) / spread
    slack = 4 / math.sqrt(800)
    assert 1 - slack <= ratio <= (1.15 if shift else 1.5) + slack


def test_p_values_are_uniform_if_the_laws_are_the_same() -> None:
    """300 tests of 49 relabellings, each p-value spread over its step of 1/50: Kolmogorov-Smirnov at 1e-3."""
    within = np.random.default_rng(0).random(300)
    p = [mmd(normals(12, seed=2 * i), normals(18, seed=2 * i + 1), permutations=49, seed=i).p_value for i in range(300)]
    assert kstest(np.array(p) - within / 50, "uniform").pvalue > 1e-3


def test_a_shift_is_seen() -> None:
    assert mmd(normals(60), normals(60, seed=1, loc=1.0), permutations=199).p_value == 1 / 200
    same_mean = mmd(normals(100), 2 * normals(100, seed=1), permutations=199)
    assert same_mean.p_value == 1 / 200
    assert same_mean.value > 4 * same_mean.se


def test_mmd_reads_as_it_is() -> None:
    found = mmd(normals(10), normals(12, seed=1), permutations=9)
    assert str(found).startswith(f"MMD^2 {found.value:.3g} ± {found.se:.2g}, p = {found.p_value:.3g} (10 samples, 12 ")
    assert found.to_frame()["p_value"].item() == found.p_value
    assert "Gaussian kernels" in read(found)


# -- labels -------------------------------------------------------------------------------------------------------


def test_label_statistics_are_exact() -> None:
    x = torch.tensor([[-1.0], [1.0], [2.0], [3.0]])
    found = label_statistics(x, Nearest(), torch.tensor([3, 3, 7, 7, 7, 7, 7, 7, 7, 7]))
    assert found.classes.tolist() == [3, 7]
    assert found.counts.tolist() == [1, 3]
    assert found.entropy == pytest.approx(entropy([0.25, 0.75]))
    assert found.reference_entropy == pytest.approx(entropy([0.2, 0.8]))
    assert found.tv == pytest.approx(0.05)
    assert found.tv_se == pytest.approx(math.sqrt(0.25 * 0.75 / 4 + 0.2 * 0.8 / 10))
    assert found.squared_distance == pytest.approx(2 * 0.05**2)
    confidences = np.array([0.6, 0.8, 0.8, 0.8])
    assert found.confidence == pytest.approx(confidences.mean())
    assert found.confidence_se == pytest.approx(confidences.std(ddof=1) / 2)
    assert math.isnan(found.accuracy)
    assert found.to_histogram()["share"].tolist() == [0.25, 0.75]
    assert found.to_frame()["of the data"].tolist()[0] == found.reference_entropy
    assert "entropy 0.562" in str(found)
    assert "samples by class" in read(found)


class Told:
    """A classifier that reads the class off the datum."""

    def __init__(self, C: int) -> None:
        self.C = C

    def predict_proba(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.eye(self.C)[x[:, 0].astype(int)])


@pytest.mark.parametrize("p", [[0.25] * 4, [0.6, 0.2, 0.15, 0.05]], ids=["equal", "unequal"])
def test_errors_of_label_statistics_are_their_spread(p: list[float]) -> None:
    """Over 1,000 sets; a spread errs by sqrt((kurtosis - 1) / 4000), 0.039 for the chi-squared law of equal shares.

    4 of these are allowed (false alarms 3e-4 in all). Where shares are equal, errors may be too large as they say.
    """
    generator = np.random.default_rng(0)
    found = []
    for _ in range(1000):
        x = torch.as_tensor(generator.choice(4, size=(300, 1), p=p)).double()
        found.append(label_statistics(x, Told(4), torch.as_tensor(generator.choice(4, size=400))))
    equal = p[0] == p[1]
    slack = 0.155 if equal else 0.09
    for name, most in (("entropy", 1.4 if equal else 1.0), ("tv", 1.7 if equal else 1.0)):
        values, errors = (np.array([getattr(one, of) for one in found]) for of in (name, f"{name}_se"))
        ratio = math.sqrt(np.mean(errors**2)) / values.std(ddof=1)
        assert 1 - slack <= ratio <= most + slack, name
        if equal and name == "tv":
            by_chance = np.mean([one.tv_by_chance for one in found])
            assert abs(values.mean() - by_chance) <= 4 * values.std() / math.sqrt(1000)


def test_total_variation_by_chance() -> None:
    """Of 1,000 samples against so many labels that they are certain, by the binomial law, to one in a hundred."""
    q = np.array([0.1, 0.2, 0.3, 0.4])
    reference = torch.arange(4).repeat_interleave(torch.as_tensor((q * 10).astype(int)) * 100_000)
    found = label_statistics(torch.zeros(1000, 1), Told(4), reference)
    counts = np.arange(1001)
    exact = sum((binom.pmf(counts, 1000, share) * abs(counts / 1000 - share)).sum() for share in q) / 2
    assert found.tv_by_chance == pytest.approx(exact, rel=0.01)


def test_a_classifier_of_digits_knows_its_accuracy() -> None:
    """Over 97 % of the data left out; on a shuffle of the labels a tenth, within 4 standard errors (6e-5)."""
    x, y = (torch.as_tensor(found) for found in load_digits(return_X_y=True))
    classifier = train_classifier(x / 16, y.long())
    assert classifier.accuracy > 0.97
    assert classifier.num_held_out == 360
    probs = classifier.predict_proba((x / 16).numpy())
    np.testing.assert_allclose(probs.sum(1), 1)
    assert (classifier.classes_[probs.argmax(1)] == y.numpy()).mean() > 0.98
    assert str(classifier).startswith(f"classifier of 10 classes: {100 * classifier.accuracy:.1f} %")
    found = label_statistics(x[y != 4] / 16, classifier, y.long())
    assert found.accuracy == classifier.accuracy
    assert found.tv == pytest.approx(0.1, abs=0.02)
    assert found.entropy == pytest.approx(math.log(9), abs=0.03)
    shuffled = y[torch.randperm(len(y))].long()
    assert abs(train_classifier(x / 16, shuffled, hidden=16).accuracy - 0.1) <= 4 * math.sqrt(0.09 / 360)


# -- precision, recall and memorisation ----------------------------------------------------------------------------


def covered(points: Tensor, centres: Tensor, k: int) -> float:
    """The share of points in the balls around centres, by scikit-learn and a full table."""
    radii = NearestNeighbors(n_neighbors=k + 1).fit(centres.numpy()).kneighbors(centres.numpy())[0][:, -1]
    return float((cdist(points.numpy(), centres.numpy()) <= radii).any(1).mean())


@pytest.mark.parametrize("chunk", [None, 9])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_are_those_of_a_full_table(k: int, chunk: int | None) -> None:
    samples, data = normals(80, 4), normals(120, 4, seed=1, loc=0.7)
    found = precision_recall(samples, data, k=k, chunk=chunk)
    assert found.precision == covered(samples, data, k)
    assert found.recall == covered(data, samples, k)
    assert 0 < found.precision < 1
    assert 0 < found.recall < 1
    assert found.precision_se == pytest.approx(math.sqrt(found.precision * (1 - found.precision) / 80))
    assert found.to_frame()["se"].tolist() == [found.precision_se, found.recall_se]
    assert f"recall {found.recall:.3f}" in str(found)
    assert "k = " in read(found)


def test_precision_and_recall_on_known_supports() -> None:
    """Samples on the left half of a square: all in it, half of it reached; 4 standard errors, an edge of 0.04."""
    generator = torch.Generator().manual_seed(0)
    data, samples = torch.rand(2000, 2, generator=generator), torch.rand(2000, 2, generator=generator)
    half = precision_recall(samples * torch.tensor([0.5, 1.0]), data)
    assert half.precision > 0.97
    assert half.recall == pytest.approx(0.5, abs=4 * half.recall_se + 0.04)
    twice = precision_recall(samples * torch.tensor([2.0, 1.0]), data)
    assert twice.precision == pytest.approx(0.5, abs=4 * twice.precision_se + 0.04)
    assert twice.recall > 0.9
    apart = precision_recall(samples + 5, data)
    assert (apart.precision, apart.recall) == (0, 0)
    same = precision_recall(data, data)
    assert (same.precision, same.recall) == (1, 1)


def test_points_on_the_edge_of_a_ball_are_in_it() -> None:
    """Between bits, distances draw level and many are zero; counted in whole numbers here."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.bernoulli(torch.full((n, 6), 0.3), generator=generator) for n in (60, 70))

    def share(points: Tensor, centres: Tensor, k: int) -> float:
        table = (points.long().unsqueeze(1) - centres.long()).abs().sum(-1)
        own = (centres.long().unsqueeze(1) - centres.long()).abs().sum(-1)
        return float((table <= own.sort(1).values[:, k]).any(1).double().mean())

    found = precision_recall(a, b, k=2)
    assert (found.precision, found.recall) == (share(a, b, 2), share(b, a, 2))


def test_balls_without_an_extent_hold_their_own_copies() -> None:
    """Each datum four times, in so many numbers that products are rounded: radii are zero, and so are distances."""
    copies = normals(40, 300).repeat(4, 1)
    assert float(torch.cat([*distance_blocks(copies, copies, 7)]).diagonal().abs().max()) == 0
    found = precision_recall(copies.flip(0), copies, chunk=7)
    assert (found.precision, found.recall) == (1, 1)


def test_nearest_training_data_are_those_of_scikit_learn() -> None:
    samples, train, test = normals(40, 3), normals(200, 3, seed=1), normals(50, 3, seed=2)
    found = nearest_training(samples, train, test, chunk=7)
    search = NearestNeighbors(n_neighbors=1).fit(train.numpy())
    for rows, distance, index in (
        (samples, found.distance, found.index),
        (test, found.test_distance, found.test_index),
    ):
        expected_distance, expected_index = search.kneighbors(rows.numpy())
        np.testing.assert_allclose(distance, expected_distance[:, 0])
        assert index.tolist() == expected_index[:, 0].tolist()
    a, b = found.distance, found.test_distance
    assert found.nearer == pytest.approx(float((a.unsqueeze(1) < b).double().mean()))
    reference = mannwhitneyu(a.numpy(), b.numpy(), alternative="less")
    assert found.p_value == pytest.approx(reference.pvalue)
    assert (found.median, found.test_median) == (float(a.median()), float(b.median()))
    first, pair = found.pairs(5)
    assert first.tolist() == np.argsort(found.distance.numpy())[:5].tolist()
    assert torch.equal(pair, found.index[first])


def test_copies_are_found() -> None:
    train, test = normals(200, 5), normals(100, 5, seed=1)
    found = nearest_training(train[:30], train, test)
    assert found.copies == 30
    assert found.nearer == 1
    assert found.p_value < 1e-10
    assert found.index.tolist() == list(range(30))
    assert "30 samples equal a training datum" in str(found)
    assert "held-out data" in read(found)
    off = nearest_training(test + 3, train, test)
    assert off.nearer < 0.1
    assert off.p_value > 0.99
    ties = nearest_training(train[:30], train, train[30:60])
    assert (ties.nearer, ties.nearer_se) == (0.5, 0.0)


def test_new_data_are_no_nearer_than_held_out_data() -> None:
    """300 times: p-values uniform by Kolmogorov-Smirnov at 1e-3, the spread within 4 errors of a deviation of 300."""
    found = [nearest_training(*(normals(n, seed=3 * i + j) for j, n in enumerate((40, 30, 50)))) for i in range(300)]
    assert kstest([one.p_value for one in found], "uniform").pvalue > 1e-3
    nearer = np.array([one.nearer for one in found])
    assert abs(nearer.mean() - 0.5) <= 4 * nearer.std() / math.sqrt(300)
    ratio = math.sqrt(np.mean([one.nearer_se**2 for one in found])) / nearer.std()
    assert ratio == pytest.approx(1, abs=4 / math.sqrt(600))


# -- modes ----------------------------------------------------------------------------------------------------------


def test_modes_are_counted() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    samples = torch.tensor([[0.0, 2.9], [0.0, 3.1], [10.0, 0.0], [10.0, -1.0], [5.0, 5.0]])
    found = modes_covered(samples, centres, scale=1.0)
    assert found.counts.tolist() == [1, 2, 0]
    assert found.share.tolist() == [0.2, 0.4, 0.0]
    assert (found.covered, found.missed) == (2, (2,))
    assert found.quality == pytest.approx(0.6)
    assert found.tv == pytest.approx(((1 / 3 - 1 / 3) + (2 / 3 - 1 / 3) + 1 / 3) / 2)
    assert modes_covered(samples, centres, scale=1.0, least_share=0.3).missed == (0, 2)
    assert modes_covered(samples, centres, scale=0.1).counts.tolist() == [0, 1, 0]
    assert modes_covered(samples, centres, scale=0.1, within=32.0, chunk=2).counts.tolist() == [2, 2, 0]
    assert math.isnan(modes_covered(samples + 100, centres, scale=1.0).tv)
    assert "2 of 3 modes" in read(found)
    assert found.to_frame()["covered"].tolist() == [True, True, False]


@pytest.mark.parametrize("toy", [ring(), grid()], ids=["ring", "grid"])
def test_a_mixture_covers_its_own_modes(toy: Any) -> None:
    """20,000 samples: quality within 4 standard errors of that of a normal in the plane, 1 - exp(-4.5)."""
    samples, centres = toy.sample(20_000, seed=0).all().double(), toy.loc.double()
    found = modes_covered(samples, centres, scale=float(toy.scale))
    assert found.covered == len(centres)
    assert found.expected_quality == pytest.approx(1 - math.exp(-4.5))
    assert abs(found.quality - found.expected_quality) <= 4 * found.quality_se
    assert found.tv < 2 * found.tv_by_chance
    kept = samples[(samples - centres[0]).norm(dim=1) > 4 * float(toy.scale)]
    collapsed = modes_covered(kept, centres, scale=float(toy.scale))
    assert collapsed.missed == (0,)
    assert collapsed.tv == pytest.approx(1 / len(centres), abs=2 * found.tv_by_chance)


def test_shares_of_modes_by_chance() -> None:
    """Mean of 500 total variations of 400 samples in eight modes: to three in a hundred."""
    centres = 10 * torch.eye(8)
    draws = torch.randint(8, (500, 400), generator=torch.Generator().manual_seed(0))
    found = [modes_covered(centres[row], centres, scale=1.0) for row in draws]
    assert np.mean([one.tv for one in found]) == pytest.approx(found[0].tv_by_chance, rel=0.03)


# -- all of it -------------------------------------------------------------------------------------------------------


def read(found: Any) -> str:
    """What is read of a result in a notebook, checked as part of a page."""
    return text_of(found._repr_html_())


def test_a_report_holds_what_its_parts_measure() -> None:
    x, y = normals(400, 3), torch.arange(100) % 2
    train, validation, test, samples = x[:100] + 4 * y.unsqueeze(1), x[100:150], x[150:280], x[280:]
    sets: dict[str, Any] = {"train": train, "validation": validation, "test": test}
    found = judge_samples(samples, **sets, labels=y, permutations=19, most_for_mmd=1000)
    assert found.parzen.value == parzen(samples, **sets).value
    assert found.mmd.value == mmd(samples, test, permutations=0).value
    assert (found.mmd.num_samples, found.mmd.num_data) == (120, 130)
    assert found.precision_recall == precision_recall(samples, test)
    assert found.real == precision_recall(train, test)
    assert found.nearest.nearer == nearest_training(samples, train, test).nearer
    assert found.labels is not None
    assert found.labels.counts.tolist() == label_statistics(samples, train_classifier(train, y), y).counts.tolist()
    frame = found.to_frame()
    assert list(frame.columns) == ["measure", "value", "se", "mark", "compared with"]
    assert frame["value"].tolist() == [
        found.parzen.value,
        found.mmd.value,
        found.precision_recall.precision,
        found.precision_recall.recall,
        found.nearest.nearer,
        found.labels.entropy,
        found.labels.tv,
        found.labels.confidence,
    ]
    assert f"{found.parzen.real.value:.1f} of real training data" in str(found)
    assert f"{found.real.recall:.3f} of real training data" in read(found)
    assert "rewards memorisation" in read(found)
    assert len(judge_samples(samples, **sets, permutations=0).to_frame()) == 5


def test_a_sampler_is_drawn_from_under_the_seed() -> None:
    x, state = normals(300), torch.get_rng_state()
    sets: dict[str, Any] = {"train": x[:100], "validation": x[100:200], "test": x[200:]}

    def judge(seed: int) -> float:
        found = judge_samples(lambda n: torch.randn(n, 2), **sets, num_samples=50, permutations=0, seed=seed)
        assert found.parzen.samples.num_samples == 50
        return found.nearest.nearer

    assert judge(0) == judge(0)
    assert judge(0) != judge(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_classifier_of_the_users_own() -> None:
    x = normals(300, 1)
    sets: dict[str, Any] = {"train": x[:100], "validation": x[100:200], "test": x[200:]}
    y = torch.where(x[:100, 0] > 0, 7, 3)
    found = judge_samples(x[:100], **sets, labels=y, classifier=Nearest(), permutations=0)
    assert found.labels is not None
    assert found.labels.tv == 0
    with pytest.raises(ValueError, match="`labels` is None, expected those of the training data"):
        judge_samples(x, **sets, classifier=Nearest())


# -- mistakes --------------------------------------------------------------------------------------------------------

X = torch.randn(30, 2)
SETS: dict[str, Any] = {"train": X.flip(0) + 1, "validation": X[:5] - 1, "test": X[:9] * 2}
NOT_A_NUMBER = torch.tensor([[0.0, 1.0], [math.nan, 1.0], [0.0, math.inf]])

TAKE_SAMPLES: list[Callable[[Any], Any]] = [
    lambda x: parzen(x, **SETS),
    lambda x: parzen_window(x, X, 1.0),
    lambda x: mmd(x, X),
    lambda x: precision_recall(x, X),
    lambda x: nearest_training(x, X, X),
    lambda x: modes_covered(x, X, scale=1.0),
    lambda x: label_statistics(x, Nearest(), torch.tensor([3])),
    lambda x: judge_samples(x, **SETS),
]


@pytest.mark.parametrize("call", TAKE_SAMPLES)
def test_samples_that_are_none(call: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match=r"`samples` has shape \(0, 2\), expected \(n, d\) with at least one row"):
        call(torch.zeros(0, 2))
    with pytest.raises(ValueError, match=r"`samples` has shape \(4,\), expected \(n, d\)"):
        call(torch.zeros(4))
    with pytest.raises(
        ValueError, match="`samples` has NaN or infinite values in 2 of 3 rows, the first is row 1, exp"
    ):
        call(NOT_A_NUMBER)
    with pytest.raises(TypeError, match=r"`samples` is of torch.int64, expected floats, .* call `.float\(\)`"):
        call(torch.zeros(4, 2, dtype=torch.long))
    with pytest.raises(TypeError, match="`samples` is a list, expected a tensor"):
        call([[0.0, 1.0]])


@pytest.mark.parametrize("call", TAKE_SAMPLES[:-2])
def test_samples_of_another_width(call: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match=r"has 2 numbers a row, expected 3 as in `samples`: compare like with like"):
        call(torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parzen_window(X, X, 0.0), "`sigma` is 0.0, expected positive widths"),
        (lambda: parzen_window(X, X, math.nan), "`sigma` is nan, expected positive widths"),
        (lambda: parzen(X, **SETS, sigmas=(0.1, -1.0)), "`sigmas` holds -1.0, expected positive widths"),
        (lambda: parzen(X, **SETS, sigmas=()), "`sigmas` is empty, expected positive widths"),
        (lambda: parzen(X, **SETS, num_validation=0), "`num_validation` is 0, expected at least 1"),
        (lambda: parzen(X, **SETS, max_anchors=0), "`max_anchors` is 0, expected at least 1"),
        (lambda: parzen(X, **SETS, lloyd_steps=-1), "`steps` is -1, expected how often the centroids move"),
        (lambda: parzen(X, **SETS | {"test": X[:1]}), "`test` has one row, expected at least 2"),
        (lambda: parzen(X, **SETS | {"train": NOT_A_NUMBER}), "`train` has NaN or infinite values in 2 of 3 rows"),
        (lambda: parzen(X, **SETS, chunk=0), "`chunk` is 0, expected how many rows are taken at a time"),
        (lambda: k_means(X, 31), "`num` is 31, expected a number of centroids from 1 to 30, the data there are"),
        (lambda: mmd(X, X[:1]), "`data` has one row, expected at least 2"),
        (lambda: mmd(X, X, bandwidths=(1.0, 0.0)), "`bandwidths` holds 0.0, expected positive numbers"),
        (lambda: mmd(X, X, bandwidths=()), "`bandwidths` is empty, expected positive numbers"),
        (lambda: mmd(0 * X, 0 * X), "`bandwidths` cannot be found: most rows are equal"),
        (lambda: mmd(X, X, permutations=-1), "`permutations` is -1, expected how many relabellings are tried, from 0"),
        (lambda: precision_recall(X, X, k=0), "`k` is 0, expected a neighbour from 1 to 29, those that a row of `sam"),
        (lambda: precision_recall(X, X[:3], k=3), "`k` is 3, expected a neighbour from 1 to 2, those that a row of `d"),
        (lambda: nearest_training(X, X, X[:1]), "`test` has one row, expected at least 2"),
        (lambda: modes_covered(X, X, scale=0.0), "`scale` is 0.0, expected a positive number"),
        (lambda: modes_covered(X, X, scale=1.0, within=-1.0), "`within` is -1.0, expected a positive number"),
        (lambda: modes_covered(X, X, scale=1.0, least_share=2.0), "`least_share` is 2.0, expected a share of the sam"),
        (
            lambda: label_statistics(X, Nearest(), torch.tensor([3, 5])),
            r"`reference` holds label 5, expected the classes that the classifier knows \(3, 7\)",
        ),
        (
            lambda: label_statistics(X, Nearest(), torch.zeros(3, 1, dtype=torch.long)),
            r"`reference` has shape \(3, 1\), expected labels \(n,\)",
        ),
        (lambda: train_classifier(X, torch.arange(20) % 2), "`y` has 20 labels, expected 30, one for each row of `x`"),
        (lambda: train_classifier(X, torch.arange(30) % 2, held_out=1.0), "`held_out` is 1.0, expected a share"),
        (lambda: train_classifier(X, torch.arange(30) % 7), "`y` has 7 classes, the smallest of 4 data, expected at l"),
        (lambda: judge_samples(X, **SETS, labels=torch.arange(4)), "`labels` has 4 labels, expected 30, one for each"),
        (lambda: judge_samples(lambda n: X, **SETS, num_samples=1), "`num_samples` is 1, expected at least 2"),
    ],
)
def test_mistakes_are_one_sentence(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_mistakes_of_kind() -> None:
    with pytest.raises(TypeError, match=r"`classifier` is a int, expected an object with `predict_proba\(x\)`"):
        label_statistics(X, 3, torch.tensor([3]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`reference` is of torch\.float64, expected whole numbers"):
        label_statistics(X, Nearest(), torch.zeros(3, dtype=torch.float64))
    with pytest.raises(TypeError, match="`samples` is a NoneType, expected a tensor"):
        judge_samples(lambda n: None, **SETS)  # type: ignore[arg-type, return-value]


# -- devices and MNIST -----------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_cuda_finds_the_same() -> None:
    x, y = normals(400, 5), torch.arange(100) % 2
    sets: dict[str, Any] = {"train": x[:100] + 4 * y.unsqueeze(1), "validation": x[100:200], "test": x[200:300]}
    here = judge_samples(x[300:], **sets, labels=y, permutations=99)
    there = judge_samples(x[300:].cuda(), **{k: v.cuda() for k, v in sets.items()}, labels=y.cuda(), permutations=99)
    assert there.mmd.null.is_cuda
    np.testing.assert_allclose(there.to_frame()["value"], here.to_frame()["value"])


@pytest.mark.slow
def test_mnist_has_the_known_anchors() -> None:
    """Known for 10,000 images in the place of samples: 242.8 ± 2.1; for as many centroids: 334.7 ± 1.7; 3 of both."""
    folder = os.environ.get("PPMODELS_DATA")
    if not folder or not list(Path(folder).rglob("t10k-images-idx3-ubyte*")):
        pytest.skip("needs the MNIST files in $PPMODELS_DATA")
    train, test = (mnist(split=split).values.float() / 255 for split in ("train", "test"))
    found = parzen(train[:10_000], train=train[:50_000], validation=train[50_000:], test=test)
    assert found.value == pytest.approx(242.8, abs=3 * 2.1)  # the first images, which are others than the anchor's
    assert found.value != found.real.value
    assert found.real.value == pytest.approx(242.8, abs=3 * 2.1)
    assert found.centroids.value == pytest.approx(334.7, abs=3 * 1.7)
    assert found.real.se == pytest.approx(2.1, abs=0.1)
    assert found.centroids.se == pytest.approx(1.7, abs=0.1)
