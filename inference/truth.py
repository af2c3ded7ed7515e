"""True labels, to judge by: of which split they are, and kept from the programs that are judged."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ppmodels.contracts import Data

__all__ = ["Labelled", "Labels", "check_held_out", "labels_of", "labels_to_judge_by", "without_labels"]

TRAINING = ("train", "all")
"""Splits that hold data to learn from."""

HELD_OUT = ("test", "valid")


@runtime_checkable
class Labelled(Protocol):
    """A dataset that knows the label of every datum, `(n,)`, and which split it is."""

    @property
    def split(self) -> str: ...

    @property
    def labels(self) -> Tensor | None: ...


Labels: TypeAlias = Labelled | Tensor | ArrayLike


def labels_to_judge_by(
    labels: Labels, *, split: str | None, on_training_labels: bool, argument: str = "labels"
) -> tuple[NDArray[np.int64], str]:
    """Labels `(n,)` and their split, refused if they are of data to learn from and nobody said so.

    Args:
        labels: a dataset that knows its labels and its split, or the labels alone.
        split: "train", "valid", "test" or "all"; a dataset says it itself.
        on_training_labels: whether labels of data to learn from will do.
        argument: what the caller calls `labels`, for messages.

    Raises:
        TypeError: the labels are no whole numbers.
        ValueError: the split is missing, unknown, or one to learn from; or a label is negative.

    >>> labels_to_judge_by([0, 2, 1], split="test", on_training_labels=False)
    (array([0, 2, 1]), 'test')
    """
    known = labels.split if isinstance(labels, Labelled) else None
    if known is not None and split not in (None, known):
        raise ValueError(f"`split` is {split!r}, but `{argument}` is of the split {known!r}: leave it out")
    split = known or split
    if split is None:
        raise ValueError(
            f"`split` is missing, expected what `{argument}` are of: {_names(HELD_OUT)}, or, with "
            f"`on_training_labels=True`, {_names(TRAINING)}"
        )
    check_held_out(split, on_training_labels=on_training_labels, argument=argument)
    return labels_of(labels, argument), split


def check_held_out(split: str, *, on_training_labels: bool, argument: str) -> None:
    """A split is held out, or the caller has said that it is not."""
    if split not in (*HELD_OUT, *TRAINING):
        raise ValueError(f"`split` is {split!r}, expected one of {_names((*HELD_OUT, *TRAINING))}")
    if split in TRAINING and not on_training_labels:
        raise ValueError(
            f"`{argument}` is of the split {split!r}, which holds data to learn from: expected {_names(HELD_OUT)}; "
            "say `on_training_labels=True` if that is meant, and the result will say so too"
        )


def labels_of(labels: Labels, argument: str) -> NDArray[np.int64]:
    """Labels `(n,)` as an array, every one of them known."""
    found: Any = labels.labels if isinstance(labels, Labelled) else labels
    if found is None:
        raise ValueError(f"`{argument}` has no labels, expected a dataset with one for each datum")
    array = np.asarray(found.detach().cpu() if isinstance(found, Tensor) else found)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(
            f"`{argument}` is {array.dtype} of shape {array.shape}, expected whole numbers of shape (n,): a class for "
            "each datum"
        )
    if array.size and array.min() < 0:
        raise ValueError(f"`{argument}` holds {array.min()}, expected classes from 0: leave data of unknown class out")
    return array.astype(np.int64)


def without_labels(data: Data) -> Data:
    """The same data with its labels kept from the programs, where it hands any to them (`without_labels()`)."""
    hide = getattr(data, "without_labels", None)
    return data if hide is None else hide()


def _names(splits: tuple[str, ...]) -> str:
    return " or ".join(f'"{split}"' for split in splits)
