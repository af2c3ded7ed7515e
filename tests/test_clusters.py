"""Scores of clusters against brute force, other formulas and resampling; and labels that must not be looked at."""

import itertools
import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from inference import cluster_scores, component_usage, sticks_for_mass
from ppmodels.data import digits, from_array
from ppmodels.labels import partly_labelled

Integers = NDArray[np.int64]
scores = partial(cluster_scores, num_resamples=0)


def sample(n: int = 400, C: int = 5, classes: int = 5, seed: int = 0, noise: float = 0.4) -> tuple[Integers, Integers]:
    """Clusters that agree with classes but for noise."""
    generator = np.random.default_rng(seed)
    y = generator.integers(classes, size=n)
    hard = np.where(generator.random(n) < noise, generator.integers(C, size=n), (y + 2) % C)
    return hard, y


# -- accuracies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("C", "classes"), [(4, 4), (5, 3), (3, 5), (2, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_accuracy_is_the_best_of_all_one_to_one_names(C: int, classes: int, seed: int) -> None:
    hard, y = sample(60, C, classes, seed, noise=0.8)
    wide, narrow = (C, classes) if classes <= C else (classes, C)
    best = 0.0
    for chosen in itertools.permutations(range(wide), narrow):  # a cluster for each class, or a class for each cluster
        names = dict(zip(chosen, range(narrow), strict=True) if classes <= C else enumerate(chosen))
        best = max(best, np.mean([names.get(c) == k for c, k in zip(hard, y, strict=True)]))
    found = scores(hard, y, num_clusters=C, split="test")
    assert found.accuracy == best
    assert found.accuracy == np.mean([found.naming.get(c) == k for c, k in zip(hard, y, strict=True)])
    assert len(set(found.naming.values())) == len(found.naming) <= narrow
    assert found.standard_error["accuracy"] == pytest.approx(math.sqrt(best * (1 - best) / 60))


def test_majority_accuracy_names_each_cluster_for_most_of_its_data() -> None:
    hard, y = sample(300, C=8)
    expected = sum(np.bincount(y[hard == c]).max() for c in range(8) if (hard == c).any()) / 300
    found = scores(hard, y, num_clusters=8, split="test")
    assert found.majority_accuracy == expected
    assert found.majority_accuracy > found.accuracy


def test_majority_accuracy_is_one_where_every_datum_is_a_cluster_and_the_report_says_so() -> None:
    _, y = sample(30)
    found = scores(np.arange(30), y, split="test")
    assert found.majority_accuracy == 1.0
    assert found.accuracy == 5 / 30
    assert "optimistic: more clusters than classes" in str(found)
    assert "optimistic" not in str(scores(*sample(), split="test"))


def test_names_may_come_from_other_data() -> None:
    """Clusters 0 and 1 swap their classes in the data judged on; cluster 2 is empty in the data that name it."""
    found = scores([0, 0, 1, 1, 2], [8, 8, 7, 9, 9], num_clusters=3, split="test", fit_on=([0, 1, 0, 1], [7, 8, 7, 8]))
    assert (found.naming, found.majority) == ({0: 7, 1: 8}, {0: 7, 1: 8})
    assert found.accuracy == found.majority_accuracy == 0.0
    assert "names from other data" in str(found)
    assert list(found.confusion.columns) == [7, 8, 9]
    same = scores(*sample(), split="test", fit_on=sample())
    assert same.accuracy == scores(*sample(), split="test").accuracy


def test_majority_names_from_other_data_are_not_optimistic() -> None:
    """Clusters at random: 100 of them name 200 data rather well, and other data no better than by chance."""
    generator = np.random.default_rng(0)
    hard, y = generator.integers(100, size=2200), generator.integers(5, size=2200)
    here = scores(hard[:200], y[:200], num_clusters=100, split="test")
    there = scores(hard[200:], y[200:], num_clusters=100, split="test", fit_on=(hard[:200], y[:200]))
    assert here.majority_accuracy > 0.5
    unnamed = 1 - len(there.majority) / 100
    chance = 0.2 * (1 - unnamed)
    assert abs(there.majority_accuracy - chance) <= 4 * math.sqrt(chance * (1 - chance) / 2000)


# -- measures without names ------------------------------------------------------------------------------------


def shares_of(hard: Integers, y: Integers) -> Tensor:
    """The joint table, (C, classes), float64."""
    table = torch.zeros(hard.max() + 1, y.max() + 1, dtype=torch.float64)
    for c, k in zip(hard, y, strict=True):
        table[c, k] += 1 / len(y)
    return table


def nmi_of(table: Tensor) -> Tensor:
    """I / ((H_y + H_c) / 2) of shares."""
    by_cluster, by_class, joint = (torch.special.entr(t).sum() for t in (table.sum(1), table.sum(0), table))
    return 2 * (by_cluster + by_class - joint) / (by_cluster + by_class)


def ari_of(table: Tensor, n: int) -> Tensor:
    """Hubert and Arabie, equation 5, of shares of n data."""

    def pairs(count: Tensor | float) -> Tensor:
        return torch.as_tensor(count * (count - 1) / 2)

    counts = n * table
    index, rows, columns = (pairs(t).sum() for t in (counts, counts.sum(1), counts.sum(0)))
    expected = rows * columns / pairs(float(n))
    return (index - expected) / ((rows + columns) / 2 - expected)


def test_mutual_information_and_rand_index_by_their_definitions() -> None:
    hard, y = sample(150, C=7)
    found = scores(hard, y, split="test")
    assert found.nmi == pytest.approx(float(nmi_of(shares_of(hard, y))), rel=1e-10)
    assert found.ari == pytest.approx(float(ari_of(shares_of(hard, y), 150)), rel=1e-10)
    together = np.array([(a == b, c == d) for (a, c), (b, d) in itertools.combinations(zip(hard, y, strict=True), 2)])
    share, left, right = (together[:, 0] & together[:, 1]).mean(), *together.mean(0)
    assert found.ari == pytest.approx((share - left * right) / ((left + right) / 2 - left * right), rel=1e-10)


def test_bootstrap_errors_agree_with_the_delta_method() -> None:
    """Relative error of a standard deviation of 400 resamples: 1 / sqrt(800); 4 of them, twice: false alarms 1e-4."""
    hard, y = sample(2000)
    errors = cluster_scores(hard, y, split="test", num_resamples=400).standard_error
    table = shares_of(hard, y).requires_grad_()
    for name, value in {"nmi": nmi_of(table), "ari": ari_of(table, 2000)}.items():
        (slope,) = torch.autograd.grad(value, table)
        p = table.detach()
        delta = (((p * slope**2).sum() - (p * slope).sum() ** 2) / 2000).sqrt()
        assert errors[name] == pytest.approx(float(delta), rel=4 / math.sqrt(800))


def test_clusters_at_random_have_no_rand_index() -> None:
    """4 standard errors: false alarm 6e-5."""
    generator = np.random.default_rng(1)
    found = cluster_scores(generator.integers(6, size=3000), generator.integers(4, size=3000), split="test")
    assert abs(found.ari) <= 4 * found.standard_error["ari"]
    assert found.nmi < 0.01


# -- usage -----------------------------------------------------------------------------------------------------


def test_entropies_are_those_of_the_mean_and_of_the_rows() -> None:
    r = torch.softmax(2 * torch.randn(500, 6, dtype=torch.float64), 1)
    usage = component_usage(r)
    assert usage.entropy == pytest.approx(stats.entropy(r.mean(0)), rel=1e-10)
    rows = stats.entropy(r, axis=1)
    assert usage.conditional_entropy == pytest.approx(rows.mean(), rel=1e-10)
    assert usage.conditional_entropy_se == pytest.approx(rows.std(ddof=1) / math.sqrt(500), rel=1e-10)
    assert usage.effective == pytest.approx(math.exp(usage.entropy))
    assert usage.information == pytest.approx(usage.entropy - usage.conditional_entropy)
    y = np.arange(500) % 3
    assert scores(r, y, split="test").usage.entropy == pytest.approx(usage.entropy)


def test_error_of_the_usage_entropy_is_its_spread_over_samples() -> None:
    """Over 800 samples of data; a standard deviation of so many errs by 1 / sqrt(1600), 4 of them allowed."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0], dtype=torch.float64)

    def drawn() -> Tensor:
        return torch.softmax(logits + torch.randn(300, 4, generator=generator, dtype=torch.float64), 1)

    usages = [component_usage(drawn()) for _ in range(800)]
    spread = np.std([usage.entropy for usage in usages], ddof=1)
    assert np.mean([usage.entropy_se for usage in usages]) == pytest.approx(spread, rel=4 / math.sqrt(1600))


@pytest.mark.parametrize(
    ("shares", "finding"),
    [
        (torch.full((50, 10), 0.1), r"`y` ignores the data: its entropy given the datum is 2.30 nats of 2.30 at most"),
        (torch.eye(10)[[3]].repeat(50, 1), r"`y` has collapsed: component 3 of 10 holds 100.0% of the data; start"),
        (torch.eye(10)[torch.arange(50) % 8], r"`y` has 2 dead of 10 components, .* 1.0% .* \(8, 9\): ask"),
        (torch.eye(30)[torch.arange(50) % 10], r"`y` has 20 dead of 30 .*\(10, .*, 19, \.\.\.\)"),
    ],
    ids=["ignored", "one cluster", "dead", "many dead"],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(shares: Tensor, finding: str) -> None:
    (found,) = component_usage(shares).findings()
    assert re.match(finding, found)
    assert "\n" not in found


def test_sound_components_have_no_findings_and_dead_is_what_you_say() -> None:
    sound = torch.eye(5)[torch.arange(50) % 5]
    assert component_usage(sound).findings() == ()
    rare = torch.eye(2)[(torch.arange(100) < 3).long()]
    assert component_usage(rare).dead == (1,)
    assert component_usage(rare, dead_below=0.01).dead == ()


def test_sticks_for_a_mass_are_counted_in_their_order() -> None:
    weights = torch.tensor([[0.01, 0.99, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)
    assert sticks_for_mass(weights, 0.99).tolist() == [2, 3]
    assert sticks_for_mass(weights, 0.1).tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"`mass` is 99, expected a share between 0 and 1"):
        sticks_for_mass(weights, 99)
    with pytest.raises(ValueError, match=r"`weights` has a row that is no probabilities, first row 0 with sum 2"):
        sticks_for_mass(2 * weights)


# -- the report ------------------------------------------------------------------------------------------------


def test_dead_clusters_stand_in_table_and_report() -> None:
    hard, y = sample(C=5)
    found = cluster_scores(hard, y, num_clusters=7, split="valid")
    assert found.usage.dead == (5, 6)
    assert found.confusion.shape == (7, 5)
    assert found.confusion.to_numpy().sum() == found.num_data == 400
    frame = found.to_frame().set_index("score")
    assert frame.loc["dead_clusters", "value"] == 2
    assert frame.loc["accuracy", "value"] == found.accuracy
    assert frame.loc["accuracy", "standard_error"] == found.standard_error["accuracy"]
    assert frame.loc["usage_entropy", "value"] == found.usage.entropy
    assert set(frame["split"]) == {"valid"}
    said = str(found).splitlines()
    assert said[0] == "400 data (valid), 7 clusters, 5 classes, names from these data"
    assert said[-1].startswith("`clusters` has 2 dead of 7 components")


def test_probabilities_count_for_the_most_probable_cluster() -> None:
    hard, y = sample()
    soft = 0.6 * torch.eye(5)[torch.from_numpy(hard)] + 0.4 / 5
    one, other = scores(soft, y, split="test"), scores(hard, y, split="test")
    assert one.confusion.equals(other.confusion)
    assert (one.accuracy, one.nmi) == (other.accuracy, other.nmi)
    assert one.usage.conditional_entropy > other.usage.conditional_entropy == 0
    assert math.isnan(one.standard_error["nmi"])


# -- labels that must not be looked at -------------------------------------------------------------------------


def test_labels_of_training_data_are_refused_unless_meant() -> None:
    test, train = digits(split="test"), digits()
    assert scores(test.labels, test).accuracy == 1.0
    with pytest.raises(ValueError, match=r"`labels` is of the split 'train', which holds data to learn from: expected"):
        scores(train.labels, train)
    found = scores(train.labels, train, on_training_labels=True)
    assert found.split == "train"
    assert "1500 data (train)" in str(found)
    with pytest.raises(ValueError, match=r"split 'all', which holds data to learn from"):
        scores(train.labels, digits(split="all"))
    held_out = train.hold_out(100)[1]
    assert scores(held_out.labels, held_out).split == "valid"
    with pytest.raises(
        ValueError, match=r"`split` is missing, expected what `labels` are of: \"test\" or \"valid\", or"
    ):
        scores(test.labels, test.labels)
    with pytest.raises(ValueError, match=r"`split` is 'valid', but `labels` is of the split 'test': leave it out"):
        scores(test.labels, test, split="valid")
    with pytest.raises(ValueError, match=r"`split` is 'tset', expected one of \"test\" or \"valid\" or"):
        scores(test.labels, test.labels, split="tset")


def test_names_may_come_from_training_labels() -> None:
    train, test = digits(), digits(split="test")
    found = scores(test.labels, test, fit_on=(train.labels, train))
    assert found.accuracy == 1.0
    partly = partly_labelled(train, 20, seed=0)
    assert scores(test.labels, test, fit_on=(train.labels, partly)).accuracy == 1.0


BAD = {
    "lengths": ([0, 1], [0, 1, 1], {}, "`assignments` has 2 rows and 3 labels, expected a row for each label"),
    "negative clusters": ([-1, 1], [0, 1], {}, "`assignments` holds -1 to 1, expected clusters from 0 to 1"),
    "more than said": ([0, 3], [0, 1], {"num_clusters": 3}, "holds 0 to 3, expected clusters from 0 to 2"),
    "one cluster": ([0, 0], [0, 1], {}, "`assignments` holds cluster 0 alone, .* set `num_clusters`"),
    "another number": (np.eye(3), [0, 1, 2], {"num_clusters": 4}, "`num_clusters` is 4, but `assignments` has 3"),
    "no probabilities": (np.ones((2, 2)), [0, 1], {}, "`assignments` has a row that is no probabilities, first row 0"),
    "negative shares": ([[1.5, -0.5], [0, 1]], [0, 1], {}, "a row that is no probabilities, first row 0 with sum 1"),
    "NaN": ([[0.5, 0.5], [math.nan, 0.5]], [0, 1], {}, "a row that is no probabilities, first row 1 with sum nan"),
    "floats": ([0.0, 1.0], [0, 1], {}, r"`assignments` is torch.float64 of shape \(2,\), expected probabilities"),
    "a matrix": ([[0, 1], [1, 0]], [0, 1], {}, r"of shape \(2, 2\), expected clusters \(n,\) or probabilities"),
    "unknown labels": ([0, 1], [-1, 1], {}, "`labels` holds -1, expected classes from 0: leave data of unknown"),
    "other unknown labels": ([0, 1], [0, 1], {"fit_on": ([0, 1], [0, -1])}, "`fit_on` holds -1, expected"),
    "other lengths": ([0, 1], [0, 1], {"fit_on": ([0, 1, 1], [0, 1])}, "`fit_on` has 3 rows and 2 labels"),
}  # fmt: skip


@pytest.mark.parametrize(("assignments", "labels", "options", "message"), BAD.values(), ids=BAD)
def test_mistakes_are_one_sentence(
    assignments: object, labels: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        scores(assignments, labels, split="test", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_labels_that_are_none() -> None:
    with pytest.raises(ValueError, match="`labels` has no labels, expected a dataset with one for each datum"):
        scores([0, 1], from_array(np.eye(2), protocol="binary", split="test"))
    with pytest.raises(TypeError, match=r"`labels` is float64 of shape \(2,\), expected whole numbers"):
        scores([0, 1], [0.0, 1.0], split="test")
