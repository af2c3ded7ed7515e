r"""Do neighbours in latent space belong together? The error of classifying by the labels of the nearest codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from inference.batches import batches, device_of
from inference.codes import latent_codes
from inference.display import fragment
from inference.pair import first_tensor
from inference.seeds import seeded, stream
from inference.truth import Labelled, check_held_out, labels_of
from ppmodels.contracts import Data, Program

__all__ = ["NeighbourErrors", "knn_error", "nearest_neighbours"]


@dataclass(frozen=True, eq=False)
class NeighbourErrors:
    """Errors of classification by the k nearest neighbours.

    Attributes:
        space: what the neighbours are near in: a latent site, or "data".
        num_train: the data whose labels are read.
        num_test: the data classified.
        split: of the data classified.
        error: the share of them that is classified wrongly, by k.
    """

    space: str
    num_train: int
    num_test: int
    split: str
    error: dict[int, float]

    @property
    def standard_error(self) -> dict[int, float]:
        """Binomial, by k: of the data classified alone."""
        return {k: math.sqrt(e * (1 - e) / self.num_test) for k, e in self.error.items()}

    def to_frame(self) -> pd.DataFrame:
        """One row per k."""
        return pd.DataFrame({"k": [*self.error], "error": [*self.error.values()]}).assign(
            standard_error=[*self.standard_error.values()], space=self.space
        )

    def __str__(self) -> str:
        found = ", ".join(
            f"{100 * e:.2f} % ± {100 * se:.2f} (k = {k})"
            for (k, e), se in zip(self.error.items(), self.standard_error.values(), strict=True)
        )
        return (
            f"error by neighbours in `{self.space}`: {found}; {self.num_test} data ({self.split}) by {self.num_train}"
        )

    def _repr_html_(self) -> str:
        headline = f"error by neighbours in `{self.space}`: {self.num_test} data ({self.split}) by {self.num_train}"
        return fragment(headline, self.to_frame().drop(columns="space"))


def knn_error(
    model: Program | None,
    guide: Program | None,
    train: Data,
    test: Data,
    *,
    site: str | None,
    k: int | Sequence[int] = (3, 5, 10),
    draw: bool = True,
    of: Callable[[Tensor], Tensor] | None = None,
    num_particles: int = 1,
    batch_size: int = 100,
    seed: int = 0,
    on_training_labels: bool = False,
) -> NeighbourErrors:
    """Classify each datum by the labels of its nearest neighbours in a latent space, and count the errors.

    Args:
        model: any Pyro callable; not needed for the data's own space.
        guide: any Pyro callable over the same latent sites; neither.
        train: the data that are neighbours, with labels.
        test: the data to classify, with labels, held out.
        site: the latent site that codes are of; `None` for the data as they are, the baseline.
        k: how many neighbours vote; several for an error each.
        draw: take draws of the guide (as the paper does), not its means; see `latent_codes`.
        of: applied to the codes, `(n, z_dim)`: weights of sticks from their logits, say.
        num_particles: draws averaged for a code; 1 for the draws themselves.
        batch_size: data at a time.
        seed: seeds the draws (and the data's own noise); train and test have noise of their own.
        on_training_labels: whether `test` may be of a split that is learned from.

    Raises:
        TypeError: a set of data has no labels to read.
        ValueError: `test` is no held-out split, or there are fewer neighbours than asked for; see `latent_codes`.

    References:
        Nalisnick and Smyth, *Stick-Breaking Variational Autoencoders*, 2017, arXiv 1605.06197, section 6.

    >>> from inference.batches import TensorData
    >>> class Points(TensorData):
    ...     split, labels = "test", torch.tensor([0, 0, 1, 1])
    >>> train, test = Points(torch.tensor([0.0, 0.1, 5.0, 5.1])), Points(torch.tensor([1.0, 1.1, 2.0, 4.0]))
    >>> print(knn_error(None, None, train, test, site=None, k=1))
    error by neighbours in `data`: 25.00 % ± 21.65 (k = 1); 4 data (test) by 4
    """
    for name, data in (("train", train), ("test", test)):
        if not isinstance(data, Labelled):
            raise TypeError(f"`{name}` is a {type(data).__name__}, expected a dataset with `labels` and `split`")
    assert isinstance(train, Labelled)
    assert isinstance(test, Labelled)
    if train is test:
        raise ValueError(
            "`train` and `test` are the same data, expected two sets: each datum would be its own neighbour"
        )
    check_held_out(test.split, on_training_labels=on_training_labels, argument="test")
    y_train, y_test = labels_of(train, "train"), labels_of(test, "test")

    def codes(data: Data, noise: int) -> NDArray[np.float64]:
        if site is None:
            found = _as_read(data, batch_size, noise)
        elif model is None or guide is None:
            raise ValueError(f"`model` or `guide` is None, expected both, for codes of site `{site}`")
        else:
            found = latent_codes(
                model, guide, data, site, draw=draw, num_particles=num_particles, batch_size=batch_size, seed=noise
            )
        found = found if of is None else of(found)
        return found.reshape(len(found), -1).double().cpu().numpy()

    error = nearest_neighbours(
        codes(train, stream(seed, "train")), y_train, codes(test, stream(seed, "test")), y_test, k
    )
    return NeighbourErrors(site or "data", len(y_train), len(y_test), test.split, error)


def nearest_neighbours(
    train: NDArray[np.float64],
    train_labels: NDArray[np.int64],
    test: NDArray[np.float64],
    test_labels: NDArray[np.int64],
    k: int | Sequence[int] = (3, 5, 10),
) -> dict[int, float]:
    """Share of the test codes `(n, z_dim)` that a vote of their k nearest training codes classifies wrongly, by k.

    >>> nearest_neighbours(np.array([[0.0], [1.0]]), np.array([0, 1]), np.array([[0.2], [0.4]]), np.array([0, 1]), 1)
    {1: 0.5}
    """
    every = (k,) if isinstance(k, int) else tuple(k)
    for number in every:
        if not (isinstance(number, int) and 1 <= number <= len(train)):
            raise ValueError(
                f"`k` is {number}, expected a number of neighbours from 1 to {len(train)}, those there are"
            )
    errors = {}
    for number in every:
        classifier = KNeighborsClassifier(number, algorithm="brute").fit(train, train_labels)
        errors[number] = float((classifier.predict(test) != test_labels).mean())
    return errors


def _as_read(data: Data, batch_size: int, seed: int) -> Tensor:
    """The data as the programs see them, `(n, ...)`."""
    with seeded(seed, device_of(data)):
        return torch.cat([first_tensor(batch) for batch in batches(data, batch_size)])
