"""Data of which some have a label: what semi-supervised models learn from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ppmodels.data import Dataset
from ppmodels.observed import UNKNOWN

__all__ = ["PartlyLabelled", "partly_labelled"]


@dataclass(frozen=True, eq=False, repr=False)
class PartlyLabelled:
    """A dataset that tells the programs the labels of some of its data; batches are `(x, y)`.

    `partly_labelled` makes them. What a `Dataset` offers is here too, and says the same.

    Args:
        dataset: the data, with all their labels.
        known: (n,), int64: the label where the programs may know it, -1 where not.
        seed: of the draw of those that are known.

    Example:
        >>> from ppmodels.data import digits
        >>> train = partly_labelled(digits(), 100, seed=0)
        >>> train
        PartlyLabelled(digits, train, dynamic, 1500 x 64, 100 labels, cpu)
        >>> x, y = train.batch(torch.arange(5))
        >>> x.shape, y.shape
        (torch.Size([5, 64]), torch.Size([5]))
    """

    dataset: Dataset
    known: Tensor
    seed: int

    def __len__(self) -> int:
        return len(self.dataset)

    def __repr__(self) -> str:
        size = f"{len(self)} x {self.x_dim}, {self.num_labels} labels"
        return f"PartlyLabelled({self.name}, {self.split}, {self.protocol}, {size}, {self.values.device})"

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def values(self) -> Tensor:
        return self.dataset.values

    @property
    def protocol(self) -> str:
        return self.dataset.protocol

    @property
    def shape(self) -> tuple[int, ...]:
        return self.dataset.shape

    @property
    def split(self) -> str:
        return self.dataset.split

    @property
    def x_dim(self) -> int:
        return self.dataset.x_dim

    @property
    def labels(self) -> Tensor | None:
        """The true labels of all data, (n,), to judge by: the programs see `known`."""
        return self.dataset.labels

    @property
    def num_labels(self) -> int:
        """How many labels are known."""
        return int((self.known != UNKNOWN).sum())

    @property
    def labelled_share(self) -> float:
        """The share of the data whose label is known."""
        return self.num_labels / len(self)

    def batch(self, index: Tensor, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Return the data at `index` (B,) and their labels: (B, x_dim) and (B,), -1 where unknown."""
        return self.dataset.batch(index, dtype=dtype), self.known.index_select(0, index.to(self.known.device))

    def all(self, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Return the whole set as one batch, (n, x_dim) and (n,)."""
        return self.batch(torch.arange(len(self)), dtype=dtype)

    def pixel_mean(self) -> Tensor:
        """Return `Dataset.pixel_mean`, (x_dim,), float64."""
        return self.dataset.pixel_mean()

    def logits(self, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return `Dataset.logits`, (x_dim,)."""
        return self.dataset.logits(dtype=dtype)

    def realise(self, seed: int = 0) -> PartlyLabelled:
        """Return one draw of a dynamic set; the same labels are known."""
        return replace(self, dataset=self.dataset.realise(seed))

    def subset(self, index: Tensor) -> PartlyLabelled:
        """Return the data at `index` (m,), in that order, with what is known of their labels."""
        return replace(self, dataset=self.dataset.subset(index), known=self.known[index.to(self.known.device)])

    def head(self, n: int) -> PartlyLabelled:
        """Return the first `n` data."""
        return self.subset(torch.arange(min(n, len(self))))

    def hold_out(self, n: int, *, seed: int = 0) -> tuple[PartlyLabelled, PartlyLabelled]:
        """Return the rest, and `n` data drawn at random under `seed`, whose split is "valid"."""
        places = torch.arange(len(self), device=self.values.device)
        rest, held = replace(self.dataset, labels=places).hold_out(n, seed=seed)
        assert rest.labels is not None
        assert held.labels is not None
        valid = self.subset(held.labels)
        return self.subset(rest.labels), replace(valid, dataset=replace(valid.dataset, split=held.split))

    def without_labels(self) -> PartlyLabelled:
        """Return the same data with no label known, to evaluate on."""
        return replace(self, known=torch.full_like(self.known, UNKNOWN))

    def labelled(self) -> Dataset:
        """Return the data whose label is known, as a plain dataset: what a classifier alone could learn from."""
        return self.dataset.subset((self.known != UNKNOWN).nonzero().flatten())

    def to(self, device: torch.device | str | None) -> PartlyLabelled:
        """Return the same data on another device."""
        return replace(self, dataset=self.dataset.to(device), known=self.known.to(device))

    def describe(self) -> dict[str, Any]:
        """Return plain JSON for a manifest: of the dataset, and of the labels that are known."""
        digest = hashlib.sha256(self.known.cpu().numpy().tobytes()).hexdigest()
        known = {"known": self.num_labels, "seed": self.seed, "sha256": digest}
        return self.dataset.describe() | {"labels": known}


def partly_labelled(
    dataset: Dataset, num_labels: int, *, seed: int, balanced: bool = True, classes: int | None = None
) -> PartlyLabelled:
    """Let the programs know the labels of some of the data, drawn once under a seed: more labels include the fewer.

    Args:
        dataset: the data, with labels from 0 to C - 1.
        num_labels: how many labels are known.
        seed: of the draw; it means the same on every device.
        balanced: as many labels of each class, to within one; if not, data are drawn whatever their class.
        classes: C; by default one more than the largest label.

    Raises:
        ValueError: the dataset has no labels, or some out of range; no label is to be known, more than there are
            data, fewer than classes where they are balanced, or more of a class than it has data.

    Reference: Semi-Supervised Learning with Deep Generative Models, Kingma, Rezende, Mohamed & Welling, 2014, arXiv
    1406.5298, section 4 (balanced labels).

    Example:
        >>> from ppmodels.data import digits
        >>> train = partly_labelled(digits(), 20, seed=1)
        >>> torch.bincount(train.known[train.known >= 0])
        tensor([2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    y = _labels(dataset, classes)
    C = int(y.max()) + 1 if classes is None else classes
    if num_labels < 1:
        raise ValueError(
            f"`num_labels` is {num_labels}, expected at least 1: to train without labels, give the dataset itself, "
            "whose batches are x alone"
        )
    if num_labels > len(y):
        raise ValueError(f"`num_labels` is {num_labels}, expected at most the {len(y)} data of `{dataset.name}`")
    if balanced and num_labels < C:
        raise ValueError(
            f"`num_labels` is {num_labels}, expected one for each of {C} classes at least, or `balanced=False`"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=generator)
    chosen = (_turns(y, order, C, generator) if balanced else order)[:num_labels]
    if balanced:
        _check_balance(torch.bincount(y[chosen], minlength=C), num_labels)
    known = torch.full_like(y, UNKNOWN)
    known[chosen] = y[chosen]
    return PartlyLabelled(dataset, known.to(dataset.values.device), seed)


def _turns(y: Tensor, order: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """The data in an order in which each class in turn gives one, (n,)."""
    turn = torch.randperm(classes, generator=generator)
    round_of = torch.empty_like(y)
    for c in range(classes):
        members = order[y[order] == c]
        round_of[members] = torch.arange(len(members))
    return (round_of * classes + turn[y]).argsort()


def _labels(dataset: Dataset, classes: int | None) -> Tensor:
    y = dataset.labels
    if y is None:
        raise ValueError(f"`dataset` is `{dataset.name}` without labels, expected a class for each datum")
    wrong = y[(y < 0) | (y >= (classes or int(y.max()) + 1))]
    if len(wrong):
        top = "" if classes is None else f" to {classes - 1}"
        raise ValueError(f"`dataset` has the label {int(wrong[0])}, expected classes from 0{top}")
    return y.cpu()


def _check_balance(counts: Tensor, num_labels: int) -> None:
    if counts.max() - counts.min() > 1:
        c = int(counts.argmin())
        raise ValueError(
            f"`num_labels` is {num_labels}, but class {c} has {int(counts[c])} data, fewer than its part: expected "
            "fewer labels, or `balanced=False`"
        )
