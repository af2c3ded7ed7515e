"""Data as the engines read them: resident on a device, checked once, served by index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inference.pair import first_tensor
from inference.seeds import seeded
from ppmodels.contracts import Batch, Data

__all__ = ["TensorData", "as_data", "batches", "device_of", "read_once"]


@dataclass(frozen=True, eq=False)
class TensorData:
    """Tensors served by index, each row as it is: the plain case of `ppmodels.contracts.Data`.

    >>> data = TensorData(torch.eye(3))
    >>> len(data), data.batch(torch.tensor([2]))
    (3, tensor([[0., 0., 1.]]))
    """

    rows: Batch
    name: str = "tensor"

    def __post_init__(self) -> None:
        if not self._named():
            raise ValueError(f"`data` is an empty {type(self.rows).__name__}, expected at least one tensor")
        for label, tensor in self._named().items():
            _check(label, tensor, len(first_tensor(self.rows)))

    def __len__(self) -> int:
        return len(first_tensor(self.rows))

    def batch(self, index: Tensor) -> Batch:
        """The rows at `index`, in the arrangement the pair is called with."""
        if isinstance(self.rows, Tensor):
            return self.rows[index]
        if isinstance(self.rows, Mapping):
            return {key: value[index] for key, value in self.rows.items()}
        return tuple(value[index] for value in self.rows)

    def describe(self) -> dict[str, Any]:
        """What a manifest says of it."""
        digest = hashlib.sha256()
        for tensor in self._named().values():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return {"name": self.name, "protocol": "as given", "n": len(self), "sha256": digest.hexdigest()}

    def _named(self) -> dict[str, Tensor]:
        if isinstance(self.rows, Tensor):
            return {"data": self.rows}
        if isinstance(self.rows, Mapping):
            return {f"data[{key!r}]": value for key, value in self.rows.items()}
        return {f"data[{i}]": value for i, value in enumerate(self.rows)}


def _check(label: str, tensor: Any, n: int) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"`{label}` is a {type(tensor).__name__}, expected a tensor: pass torch.as_tensor(...)")
    if tensor.dim() == 0 or len(tensor) == 0:
        raise ValueError(f"`{label}` is empty (shape {tuple(tensor.shape)}), expected at least one datum")
    if len(tensor) != n:
        raise ValueError(f"`{label}` has {len(tensor)} rows, expected {n} as in the first tensor")
    if label == "data" and tensor.dim() == 1 and not tensor.is_floating_point():
        raise ValueError(
            f"`data` is a vector of {tensor.dtype}, which looks like labels: expected data of shape (n, x_dim); "
            "give counts as floats"
        )
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        rows = (~torch.isfinite(tensor)).reshape(n, -1).any(1).nonzero().flatten()
        raise ValueError(
            f"`{label}` has NaN or infinite values in {len(rows)} rows, the first is row {int(rows[0])}: "
            "drop or impute them, or mask them in the model"
        )


def as_data(data: Data | Batch) -> Data:
    """A dataset as it is, or tensors wrapped as one; refuses what is empty, not finite, or looks like labels."""
    if isinstance(data, Tensor | tuple | Mapping):
        return TensorData(data)
    if not isinstance(data, Data):
        raise TypeError(
            f"`data` is a {type(data).__name__}, expected a tensor, a tuple or mapping of tensors, or a dataset with "
            "`__len__`, `batch(index)` and `describe()`"
        )
    if len(data) == 0:
        raise ValueError("`data` is empty, expected at least one datum")
    return data


def batches(data: Data, batch_size: int, order: Tensor | None = None) -> Iterator[Batch]:
    """Every datum once, in the given order or as they come; the last batch may be smaller."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}, expected at least 1")
    for part in (torch.arange(len(data)) if order is None else order).split(batch_size):
        yield data.batch(part)


def read_once(data: Data, seed: int, batch_size: int = 1000) -> TensorData:
    """Every datum as it is read under a seed: a dataset that draws noise is the same from then on.

    >>> data = TensorData(torch.eye(3))
    >>> read_once(data, seed=0) is data
    True
    """
    if isinstance(data, TensorData):
        return data
    with seeded(seed, device_of(data)):
        parts: list[Any] = list(batches(data, batch_size))
    first = parts[0]
    if isinstance(first, Tensor):
        return TensorData(torch.cat(parts))
    if isinstance(first, Mapping):
        return TensorData({name: torch.cat([part[name] for part in parts]) for name in first})
    return TensorData(tuple(torch.cat(list(column)) for column in zip(*parts, strict=True)))


def device_of(data: Data) -> torch.device:
    """Where a dataset lives."""
    with seeded(None):  # reading may draw noise
        return first_tensor(data.batch(torch.zeros(1, dtype=torch.long))).device
