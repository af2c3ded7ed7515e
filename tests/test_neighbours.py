"""Codes of any guide against their closed forms, and errors by neighbours against a search by hand."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from inference import knn_error, latent_codes
from inference.neighbours import nearest_neighbours
from ppmodels.data import Dataset, digits, from_array
from ppmodels.labels import partly_labelled

pytestmark = pytest.mark.usefixtures("double")


def model(x: Tensor, y: Tensor | None = None) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def guide(x: Tensor, y: Tensor | None = None) -> None:
    """Half the datum; a known label would show as a hundred."""
    told = 0.0 if y is None else 100 * (y >= 0).unsqueeze(-1)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2 + told, 0.5).to_event(1))


def layered(x: Tensor) -> None:
    """a, then z given a: E[z | x] = 3 (x + 1) and Var[z | x] = 9 0.4^2 + 0.2^2."""
    with pyro.plate("data", len(x)):
        a = pyro.sample("a", dist.Normal(x, 0.4).to_event(1))
        pyro.sample("z", dist.Normal(3 * (a + 1), 0.2).to_event(1))


def layered_model(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        a = pyro.sample("a", dist.Normal(z, 1.0).to_event(1))
        pyro.sample("x", dist.Normal(a, 1.0).to_event(1), obs=x)


# -- codes -----------------------------------------------------------------------------------------------------


def test_means_are_those_of_the_guide() -> None:
    x = torch.randn(7, 2)
    for options in ({}, {"num_particles": 3}, {"batch_size": 2}):
        torch.testing.assert_close(latent_codes(model, guide, x, "z", **options), x / 2)


def test_means_of_layers_are_averages_of_means() -> None:
    """4 standard errors of 4,000 runs, 10 comparisons: false alarms 1e-3. Only a's draws scatter, 3 0.4 a run."""
    x, K = torch.randn(5, 2), 4000
    found = latent_codes(layered_model, layered, x, "z", num_particles=K)
    assert float((found - 3 * (x + 1)).abs().max()) <= 4 * 1.2 / math.sqrt(K)
    assert float((found - 3 * (x + 1)).abs().max()) > 0
    torch.testing.assert_close(latent_codes(layered_model, layered, x, "a"), x)


def test_draws_have_the_guides_spread() -> None:
    """A variance of 4,000 normals has a standard error of sqrt(2 / 4000) of itself; 4 of them: false alarm 6e-5."""
    x = torch.zeros(2000, 2)
    draws = latent_codes(layered_model, layered, x, "z", draw=True)
    assert float(draws.var()) == pytest.approx(9 * 0.16 + 0.04, rel=4 * math.sqrt(2 / 4000))
    means = latent_codes(layered_model, layered, x, "z", draw=True, num_particles=50)
    assert float(means.var()) == pytest.approx((9 * 0.16 + 0.04) / 50, rel=4 * math.sqrt(2 / 4000))


def test_a_class_that_the_guide_sums_over_is_drawn() -> None:
    """Codes are draws of the whole guide: half of them around -3, half around 3."""

    def mixed(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            pyro.sample("z", dist.Normal(6.0 * y - 3, 0.1))

    def clustered(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(6.0 * y - 3, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    codes = latent_codes(clustered, mixed, torch.zeros(1000), "z", draw=True)
    assert codes.shape == (1000, 1)
    assert bool(((codes.abs() - 3).abs() < 0.6).all())
    assert abs(float((codes > 0).double().mean()) - 0.5) <= 4 * 0.5 / math.sqrt(1000)  # false alarm 6e-5
    assert set(latent_codes(clustered, mixed, torch.zeros(50), "y", draw=True).flatten().tolist()) == {0.0, 1.0}


def test_labels_are_kept_from_the_guide_that_is_asked() -> None:
    data = partly_labelled(from_array(torch.randn(20, 2), protocol="real", labels=np.arange(20) % 2), 6, seed=0)
    expected = data.values.float() / 2
    torch.testing.assert_close(latent_codes(model, guide, data, "z").float(), expected)
    told = latent_codes(model, guide, data.all(), "z")
    assert int((told[:, 0] > 50).sum()) == 6


def test_codes_that_cannot_be_had() -> None:
    def flow(x: Tensor) -> None:
        base = dist.Normal(torch.zeros(2), 1.0).to_event(1).expand([len(x)])
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.TransformedDistribution(base, [dist.transforms.SigmoidTransform()]))

    x = torch.randn(4, 2)
    with pytest.raises(ValueError, match="`site` is 'w', expected a latent site that the guide samples, which are `z`"):
        latent_codes(model, guide, x, "w")
    with pytest.raises(ValueError, match="site `z` is TransformedDistribution, which does not know its mean: average"):
        latent_codes(model, flow, x, "z")
    assert latent_codes(model, flow, x, "z", draw=True, num_particles=100).shape == (4, 2)
    with pytest.raises(ValueError, match="`num_particles` is 0"):
        latent_codes(model, guide, x, "z", num_particles=0)


# -- neighbours ------------------------------------------------------------------------------------------------


def by_hand(train: Tensor, y: Tensor, test: Tensor, k: int) -> Tensor:
    """The most frequent class of the k nearest, the lowest of those that draw level, (m,)."""
    nearest = torch.cdist(test, train).topk(k, largest=False).indices
    return torch.stack([torch.bincount(y[row]).argmax() for row in nearest])


def points(n: int, split: str, seed: int) -> Dataset:
    """Three classes, a standard deviation apart."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    corners = torch.tensor([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
    x = corners[y] + torch.randn(n, 2, generator=generator)
    return from_array(x, protocol="real", labels=y, split=split, name="points")


def test_errors_are_those_of_a_search_by_hand() -> None:
    train, test = points(300, "train", 0), points(200, "test", 1)
    found = knn_error(None, None, train, test, site=None, k=(1, 5))
    for k in (1, 5):
        assert train.labels is not None
        wrong = (by_hand(train.all(), train.labels, test.all(), k) != test.labels).double().mean()
        assert found.error[k] == pytest.approx(float(wrong))
        assert found.standard_error[k] == pytest.approx(math.sqrt(wrong * (1 - wrong) / 200))
    assert (found.num_train, found.num_test, found.split, found.space) == (300, 200, "test", "data")
    frame = found.to_frame()
    assert list(frame["k"]) == [1, 5]
    assert list(frame["error"]) == [*found.error.values()]
    assert str(found).startswith(f"error by neighbours in `data`: {100 * found.error[1]:.2f} % ± ")


def test_means_scaled_alike_have_the_same_neighbours_and_draws_have_worse() -> None:
    train, test = points(300, "train", 0), points(200, "test", 1)
    pixels = knn_error(None, None, train, test, site=None, k=3)
    means = knn_error(model, guide, train, test, site="z", k=3, draw=False)
    assert means.error == pixels.error
    draws = knn_error(model, guide, train, test, site="z", k=3)
    assert draws.error[3] > means.error[3]
    assert draws.space == "z"
    assert draws.error == knn_error(model, guide, train, test, site="z", k=3).error  # the same seed


def test_a_function_of_the_codes() -> None:
    """Of codes that forget the class nothing is left but chance: two thirds wrong, within 4 standard errors."""
    train, test = points(300, "train", 0), points(300, "test", 1)
    found = knn_error(model, guide, train, test, site="z", k=1, draw=False, of=lambda z: torch.rand(len(z), 3))
    assert abs(found.error[1] - 2 / 3) <= 4 * math.sqrt(2 / 9 / 300)  # false alarm 6e-5
    same = knn_error(model, guide, train, test, site="z", k=1, draw=False, of=lambda z: 2 * z)
    assert same.error == knn_error(None, None, train, test, site=None, k=1).error


def test_train_and_test_have_noise_of_their_own() -> None:
    """With the same noise, draws of the same datum would coincide."""
    same = points(50, "train", 0)
    twin = replace(same, split="test")

    def noise(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0).to_event(1))

    assert knn_error(model, noise, same, twin, site="z", k=1).error[1] > 0.3


def test_partly_labelled_data_give_all_their_labels_to_the_judge_and_none_to_the_guide() -> None:
    train, test = points(300, "train", 0), points(200, "test", 1)
    plain = knn_error(model, guide, train, test, site="z", k=3, draw=False)
    partly = knn_error(model, guide, partly_labelled(train, 30, seed=0), test, site="z", k=3, draw=False)
    assert partly.error == plain.error


def test_digits_in_pixel_space() -> None:
    """Digits are easy for neighbours: a few in a hundred are wrong; 4 standard errors of 297 data."""
    train, test = digits("threshold"), digits("threshold", split="test")
    found = knn_error(None, None, train, test, site=None)
    assert list(found.error) == [3, 5, 10]
    assert found.error[3] < 0.04 + 4 * found.standard_error[3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "`k` is 0, expected a number of neighbours from 1 to 30, those there are"),
        ({"k": (3, 31)}, "`k` is 31, expected a number of neighbours from 1 to 30"),
        ({"site": "z"}, "`model` or `guide` is None, expected both, for codes of site `z`"),
    ],
)
def test_mistakes_are_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        knn_error(None, None, points(30, "train", 0), points(20, "test", 1), **{"site": None} | options)


def test_labels_that_may_not_be_judged_by() -> None:
    train, test = points(30, "train", 0), points(20, "test", 1)
    with pytest.raises(ValueError, match="`test` is of the split 'train', which holds data to learn from"):
        knn_error(None, None, test, train, site=None)
    assert knn_error(None, None, test, train, site=None, on_training_labels=True).split == "train"
    with pytest.raises(ValueError, match="`train` and `test` are the same data, expected two sets"):
        knn_error(None, None, test, test, site=None)
    with pytest.raises(ValueError, match="`train` has no labels, expected a dataset with one for each datum"):
        knn_error(None, None, replace(train, labels=None), test, site=None)
    with pytest.raises(TypeError, match="`test` is a Tensor, expected a dataset with `labels` and `split`"):
        knn_error(None, None, train, torch.zeros(3, 2), site=None)  # type: ignore[arg-type]


def test_a_vote_that_draws_level_goes_to_the_lowest_class() -> None:
    codes = np.array([[0.0], [1.0]])
    for y in itertools.permutations([0, 1]):
        assert nearest_neighbours(codes, np.array(y), np.array([[0.2]]), np.array([0]), 2) == {2: 0.0}
