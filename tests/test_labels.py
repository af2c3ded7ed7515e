"""Partly labelled data: which labels are known, that nothing else is told, and that programs can be fitted to them."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from inference import compare_bounds, fit, log_likelihood
from inference.batches import as_data
from ppmodels.contracts import Data
from ppmodels.data import Dataset, digits, from_array
from ppmodels.labels import PartlyLabelled, partly_labelled
from ppmodels.observed import UNKNOWN


def few(n: int = 12, classes: int = 3, **options: Any) -> Dataset:
    x = np.arange(2 * n, dtype=float).reshape(n, 2)
    return from_array(x, **{"protocol": "real", "labels": np.arange(n) % classes, "name": "few"} | options)


def known(data: PartlyLabelled) -> Tensor:
    return data.known[data.known != UNKNOWN]


# -- which labels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_labels", [10, 95, 100, 1000])
def test_balanced_labels_are_as_many_of_each_class(num_labels: int) -> None:
    data = partly_labelled(digits(), num_labels, seed=0)
    counts = torch.bincount(known(data), minlength=10)
    assert counts.sum() == data.num_labels == num_labels
    assert counts.max() - counts.min() <= 1
    assert data.labels is not None
    assert torch.equal(known(data), data.labels[data.known != UNKNOWN])  # what is told is true
    assert data.labelled_share == num_labels / 1500


def test_labels_that_are_not_balanced_are_drawn_whatever_their_class() -> None:
    """Of two classes, one in ten: 500 of 5,000 labels; hypergeometric, 4 standard errors: false alarm 6e-5."""
    data = partly_labelled(few(5000, labels=(np.arange(5000) % 10 == 0).astype(int)), 1000, seed=0, balanced=False)
    assert abs(int(known(data).sum()) - 100) <= 4 * (1000 * 0.1 * 0.9 * (4000 / 4999)) ** 0.5
    assert partly_labelled(few(), 2, seed=0, balanced=False).num_labels == 2


def test_every_datum_may_be_chosen() -> None:
    """200 draws of 3 in 12: a datum is missed by all with probability 0.75^200."""
    chosen = [partly_labelled(few(), 3, seed=seed).known != UNKNOWN for seed in range(200)]
    share = torch.stack(chosen).double().mean(0)
    assert float((share - 0.25).abs().max()) <= 4.5 * (0.25 * 0.75 / 200) ** 0.5  # false alarm 1e-4


def test_the_seed_decides_and_more_labels_include_the_fewer() -> None:
    data = digits()
    one, more = partly_labelled(data, 50, seed=3), partly_labelled(data, 120, seed=3)
    assert torch.equal(one.known, partly_labelled(data, 50, seed=3).known)
    assert not torch.equal(one.known, partly_labelled(data, 50, seed=4).known)
    assert bool((more.known[one.known != UNKNOWN] != UNKNOWN).all())


def test_all_labels_may_be_known() -> None:
    data = few()
    assert data.labels is not None
    assert torch.equal(partly_labelled(data, 12, seed=0).known, data.labels)


# -- what the programs see -------------------------------------------------------------------------------------


def test_batches_are_data_and_labels() -> None:
    data = partly_labelled(few(), 6, seed=0)
    index = torch.tensor([5, 2, 2])
    x, y = data.batch(index)
    assert torch.equal(x, data.dataset.batch(index))
    assert torch.equal(y, data.known[index])
    assert y.dtype == torch.int64
    assert data.batch(index, dtype=torch.float64)[0].dtype == torch.float64
    assert [len(part) for part in data.all()] == [12, 12]
    assert torch.equal(data.without_labels().all()[1], torch.full((12,), -1))
    assert data.without_labels().num_labels == 0
    assert data.num_labels == 6


def test_a_dynamic_set_draws_anew_and_its_realisation_does_not() -> None:
    data = partly_labelled(digits().head(50), 10, seed=0)
    assert not torch.equal(data.all()[0], data.all()[0])
    drawn = data.realise(5)
    assert torch.equal(drawn.all()[0], data.dataset.realise(5).all())
    assert drawn.protocol == "static"
    assert torch.equal(drawn.known, data.known)


def test_the_known_go_with_their_data() -> None:
    data = partly_labelled(few(), 6, seed=0)
    order = torch.tensor([11, 0, 4])
    assert torch.equal(data.subset(order).known, data.known[order])
    assert torch.equal(data.subset(order).values, data.values[order])
    assert torch.equal(data.head(4).known, data.known[:4])
    assert len(data.head(99)) == 12
    rest, valid = data.hold_out(5, seed=2)
    for mine, its in zip((rest, valid), data.dataset.hold_out(5, seed=2), strict=True):
        assert torch.equal(mine.values, its.values)
        assert mine.labels is not None
        assert its.labels is not None
        assert torch.equal(mine.labels, its.labels)
        assert mine.split == its.split
        assert torch.equal(mine.known[mine.known != UNKNOWN], mine.labels[mine.known != UNKNOWN])
    assert rest.num_labels + valid.num_labels == 6
    plain = data.labelled()
    assert isinstance(plain, Dataset)
    assert plain.labels is not None
    assert torch.equal(plain.labels, known(data))
    assert len(plain) == 6
    moved = data.to("cpu")
    assert torch.equal(moved.known, data.known)


def test_what_a_dataset_offers_is_there() -> None:
    data = digits(split="test")
    mine = partly_labelled(data, 20, seed=0)
    for name in ("name", "protocol", "shape", "split", "x_dim", "values", "labels"):
        assert getattr(mine, name) is getattr(data, name) or getattr(mine, name) == getattr(data, name)
    assert torch.equal(mine.logits(), data.logits())
    assert torch.equal(mine.pixel_mean(), data.pixel_mean())
    assert repr(mine) == "PartlyLabelled(digits, test, dynamic, 297 x 64, 20 labels, cpu)"
    assert isinstance(mine, Data)
    assert as_data(mine) is mine


def test_the_description_is_json_and_knows_which_labels() -> None:
    data = partly_labelled(few(), 6, seed=7)
    described = json.loads(json.dumps(data.describe()))
    assert {k: v for k, v in described.items() if k != "labels"} == json.loads(json.dumps(few().describe()))
    assert (described["labels"]["known"], described["labels"]["seed"]) == (6, 7)
    other = data.known.clone()
    other[0] = UNKNOWN if other[0] >= 0 else 0
    assert replace(data, known=other).describe()["labels"]["sha256"] != described["labels"]["sha256"]


# -- fitting ---------------------------------------------------------------------------------------------------


class Pixels(nn.Module):
    """A class makes every pixel black or white with a probability of its own; the guide is told what is known."""

    def __init__(self, x_dim: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(0.1 * torch.randn(10, x_dim))
        self.recognise = nn.Linear(x_dim, 10)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(torch.ones(10)), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Bernoulli(logits=self.logits[y]).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        logits = self.recognise(x).log_softmax(-1)
        if y is not None:
            point = torch.where(y.unsqueeze(-1) == torch.arange(10), 0.0, -torch.inf)
            logits = torch.where(y.unsqueeze(-1) >= 0, point, logits)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})


@pytest.mark.parametrize("mode", ["eager", "replay"])
def test_fit_and_evaluation_take_them_as_they_are(mode: Any) -> None:
    data = partly_labelled(digits().head(200), 50, seed=0)
    pair = Pixels(data.x_dim)
    train, valid = data.hold_out(40)
    fitted = fit(pair.model, pair.guide, train, epochs=4, batch_size=40, validation=valid, mode=mode)
    assert fitted.metrics["loss"].iloc[-1] < fitted.metrics["loss"].iloc[0]
    assert fitted.best_score is not None
    still = valid.realise(0)
    found = log_likelihood(pair.model, pair.guide, still.without_labels(), num_particles=30)
    x, y = still.all()
    with torch.no_grad():
        joint = dist.Bernoulli(logits=pair.logits).log_prob(x.unsqueeze(1)).sum(-1) - np.log(10)  # (n, 10)
    torch.testing.assert_close(found.value, joint.logsumexp(1), rtol=1e-4, atol=1e-3)
    told = log_likelihood(pair.model, pair.guide, still, num_particles=30)
    expected = torch.where(y >= 0, joint.gather(1, y.clamp_min(0).unsqueeze(1)).squeeze(1), joint.logsumexp(1))
    torch.testing.assert_close(told.value, expected, rtol=1e-4, atol=1e-3)  # log p(x, y) where y is known
    ladder = compare_bounds(pair.model, pair.guide, still, ["elbo"])
    assert float(ladder.table["value"].iloc[0]) <= told.mean + 1e-3


# -- mistakes --------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[Dataset, int, dict[str, Any], str]] = {
    "no labels": (few(labels=None), 3, {}, "`dataset` is `few` without labels, expected a class for each datum"),
    "unlabelled only": (few(), 0, {}, "`num_labels` is 0, expected at least 1: to train without labels, give"),
    "negative": (few(), -3, {}, "`num_labels` is -3, expected at least 1"),
    "too many": (few(), 13, {}, "`num_labels` is 13, expected at most the 12 data of `few`"),
    "fewer than classes": (few(), 2, {}, "`num_labels` is 2, expected one for each of 3 classes at least, or"),
    "unknown": (few(labels=[-1] + 11 * [0]), 3, {}, "`dataset` has the label -1, expected classes from 0$"),
    "out of range": (few(), 3, {"classes": 2}, "`dataset` has the label 2, expected classes from 0 to 1"),
    "a rare class": (few(labels=[0] * 11 + [1]), 6, {}, "`num_labels` is 6, but class 1 has 1 data, fewer than"),
    "a missing class": (few(), 8, {"classes": 4}, "`num_labels` is 8, but class 3 has 0 data, fewer than its part"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "num_labels", "options", "message"), BAD.values(), ids=BAD)
def test_mistakes_are_one_sentence(data: Dataset, num_labels: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        partly_labelled(data, num_labels, seed=0, **options)
    assert "\n" not in str(caught.value)
