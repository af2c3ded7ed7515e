r"""Datasets: one tensor that lives on a device and is read by index, under a named binarisation protocol.

Four incompatible "log-likelihoods of MNIST" are in print, because grey images are made binary in four ways.
Here the way is a property of the dataset, its `protocol`, and stands in everything that is computed from it:

- `dynamic`: every read draws each pixel anew, Bernoulli with its grey level as the probability of white;
- `static`: one such draw, made under a seed, the same for everybody who names that seed;
- `threshold`: white where the grey level is above one half;
- `grey`: the grey levels; their "log-likelihood" under a Bernoulli is none, and a warning says so;
- `signed`: the grey levels from -1 for black to 1 for white, for models of real numbers.

Data that is binary from the start is `binary`; points of a real vector space are `real`.

References:
    - On the quantitative analysis of deep belief networks, Salakhutdinov & Murray, 2008 (dynamic).
    - The neural autoregressive distribution estimator, Larochelle & Murray, 2011 (static).
    - Importance weighted autoencoders, Burda, Grosse & Salakhutdinov, 2016, arXiv 1509.00519 (both).
"""

from __future__ import annotations

import difflib
import hashlib
import math
import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppmodels.sources import SOURCES, CorruptFileError, Folder, read_idx

__all__ = [
    "CorruptFileError",
    "Dataset",
    "LikelihoodWarning",
    "Protocol",
    "binarisation_entropy",
    "binarise",
    "digits",
    "from_array",
    "independent_pixels",
    "load",
    "mnist",
    "omniglot",
    "read_idx",
]

Protocol: TypeAlias = Literal["dynamic", "static", "threshold", "grey", "signed", "binary", "real"]


class LikelihoodWarning(UserWarning):
    """What will be computed is not the likelihood it may be taken for."""


def binarise(grey: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    r"""Draw each pixel from Bernoulli(v / 255) by comparing random bytes with its grey level v; no floats.

    Two bytes make a 16-bit number, and :math:`P(256\, u_1 + u_0 < 257\, v) = 257\, v / 65536` is within
    :math:`2^{-16}` of v / 255. Black stays black and white stays white.

    Args:
        grey: grey levels 0 to 255, uint8, of any shape.
        generator: on the device of `grey`; torch's global one if `None`.

    Returns:
        Zeros and ones, uint8, of the shape of `grey`.

    Example:
        >>> binarise(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([0, 1], dtype=torch.uint8)
    """
    n = grey.numel()
    words = torch.empty((n + 3) // 4, dtype=torch.int64, device=grey.device)  # eight random bytes each
    words.random_(torch.iinfo(torch.int64).min, None, generator=generator)
    high, low = words.view(torch.uint8)[: 2 * n].view(2, *grey.shape)
    low.clamp_(max=254)  # so that 255 is always above it
    white: Tensor = (high < grey) | (high == grey) & (low < grey)
    return white.view(torch.uint8)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """n data of x_dim values each, in one tensor, read by index under a named protocol.

    `digits`, `mnist`, `omniglot`, `load`, `from_array` and the toys make them, and check what goes in.

    Args:
        name: what tables and manifests call it.
        values: (n, x_dim), uint8 grey levels 0 to 255, only 0 and 255 once binary; floats if "real".
        protocol: "dynamic", "static", "threshold", "grey", "signed", "binary" or "real".
        shape: of one datum, such as (28, 28).
        split: "train", "test" or "all", as published; "valid" once held out.
        labels: (n,), int64, or `None`.
        seed: of the draw, of a static set or of a toy.

    Example:
        >>> test = digits(split="test")
        >>> test
        Dataset(digits, test, dynamic, 297 x 64, cpu)
        >>> test.batch(torch.tensor([0, 1, 2])).shape
        torch.Size([3, 64])
    """

    name: str
    values: Tensor
    protocol: Protocol
    shape: tuple[int, ...]
    split: str = "all"
    labels: Tensor | None = None
    seed: int | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        size = f"{len(self)} x {self.x_dim}"
        return f"Dataset({self.name}, {self.split}, {self.protocol}, {size}, {self.values.device})"

    @property
    def x_dim(self) -> int:
        return self.values.shape[1]

    def batch(self, index: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return what the model sees of the data at `index` (B,), (B, x_dim); a dynamic set draws anew."""
        values = self.values.index_select(0, index.to(self.values.device))  # (B, x_dim)
        if self.protocol == "dynamic":
            return binarise(values).to(dtype)
        if self.protocol == "real":
            return values.to(dtype)
        grey = values.to(dtype) / 255
        return 2 * grey - 1 if self.protocol == "signed" else grey

    def all(self, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the whole set as one batch, (n, x_dim)."""
        return self.batch(torch.arange(len(self)), dtype=dtype)

    def pixel_mean(self) -> Tensor:
        """Return the mean probability of white, pixel by pixel, (x_dim,), float64."""
        return _levels(self).sum(0, dtype=torch.int64).double() / (255 * len(self))

    def logits(self, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the logit of `pixel_mean` clipped to [0.001, 0.999], (x_dim,): Burda's output bias."""
        return self.pixel_mean().clamp(0.001, 0.999).logit().to(dtype)

    def realise(self, seed: int = 0) -> Dataset:
        """Return one draw of a dynamic set, static from then on, to evaluate on; other sets as they are."""
        if self.protocol != "dynamic":
            return self
        return replace(self, values=_under("static", self.values, seed), protocol="static", seed=seed)

    def subset(self, index: Tensor) -> Dataset:
        """Return the data at `index` (m,), in that order."""
        index = index.to(self.values.device)
        labels = None if self.labels is None else self.labels[index]
        return replace(self, values=self.values[index], labels=labels)

    def head(self, n: int) -> Dataset:
        """Return the first `n` data."""
        return self.subset(torch.arange(min(n, len(self))))

    def hold_out(self, n: int, *, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Return the rest, and `n` data drawn at random under `seed`, whose split is "valid"."""
        if not 0 < n < len(self):
            raise ValueError(f"`n` must be between 1 and {len(self) - 1} to leave data on both sides, got {n}")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.subset(order[n:]), replace(self.subset(order[:n]), split="valid")

    def to(self, device: torch.device | str | None) -> Dataset:
        """Return the same data on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, values=self.values.to(device), labels=labels)

    def describe(self) -> dict[str, Any]:
        """Return plain JSON for a manifest; `likelihood` says whether a Bernoulli log-probability is one."""
        return {
            "name": self.name,
            "split": self.split,
            "protocol": self.protocol,
            "seed": self.seed,
            "n": len(self),
            "x_dim": self.x_dim,
            "shape": list(self.shape),
            "sha256": hashlib.sha256(self.values.cpu().numpy().tobytes()).hexdigest(),
            "likelihood": self.protocol != "grey",
        }


def from_array(
    x: Tensor | ArrayLike,
    *,
    protocol: Protocol,
    name: str = "array",
    labels: Tensor | ArrayLike | None = None,
    shape: tuple[int, ...] | None = None,
    split: str = "all",
    seed: int | None = None,
) -> Dataset:
    """Make a dataset of a NumPy array, a torch tensor or a pandas frame, and check it.

    Args:
        x: (n, x_dim) or (n, *shape). Images are integers 0 to 255, or floats in [0, 1], which are rounded to
            255ths, halves down; "binary" data is 0 and 1 in any type; "real" data is floats.
        protocol: how the model sees them; every number depends on it, so it has no default.
        labels: (n,) integers.
        shape: of one datum; that of `x` without its first axis if `None`.
        seed: of the draw, if `protocol` is "static" (0 if `None`); else of the draw that `x` is, for the record.

    Raises:
        TypeError: `x` is not made of real numbers, or is "real" and not made of floats.
        ValueError: `x` is empty, not finite, out of range, or of another shape; labels came as data.

    Example:
        >>> from_array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], protocol="binary", name="pairs")
        Dataset(pairs, all, binary, 3 x 2, cpu)
    """
    _one_of("protocol", protocol, get_args(Protocol))
    values = _tensor("x", x)
    floats = values.is_floating_point()
    if values.ndim < 2:
        advice = "use x.reshape(-1, 1)" if floats else "these look like labels, which go into `labels`"
        raise ValueError(f"`x` must have the shape (n, x_dim), got {tuple(values.shape)}: {advice}")
    if values.numel() == 0:
        raise ValueError(f"`x` must hold data, got the shape {tuple(values.shape)}: check how it was selected")
    shape = tuple(values.shape[1:] if shape is None else shape)
    values = values.flatten(1)  # (n, x_dim)
    if math.prod(shape) != values.shape[1]:
        raise ValueError(f"`shape` must multiply to x_dim = {values.shape[1]}, got {shape}")
    if not (finite := values.isfinite().all(1)).all():
        row = finite.logical_not().nonzero()[0].item()
        raise ValueError(f"`x` must be finite, got NaN or inf, first in row {row}: drop or impute such rows")
    if protocol == "real" and not floats:
        raise TypeError(f"`x` must be floats under 'real', got {values.dtype}: convert it, or name another protocol")
    if protocol == "grey":
        advice = "a Bernoulli log-probability of grey levels is no likelihood and compares with none"
        warnings.warn(f"`{name}` is grey: {advice}; prefer 'dynamic'", LikelihoodWarning, stacklevel=2)
    seed = 0 if protocol == "static" and seed is None else seed
    return Dataset(
        name=name,
        values=values if protocol == "real" else _under(protocol, _grey_levels(values, protocol), seed or 0),
        protocol=protocol,
        shape=shape,
        split=split,
        labels=None if labels is None else _labels(labels, len(values)).to(values.device),
        seed=seed,
    )


def binarisation_entropy(data: Dataset) -> float:
    r"""Entropy of the draw of the pixels, :math:`\frac1n \sum_i \sum_d H(v_{id} / 255)`, in nats per image.

    The floor of the negative log-likelihood of dynamic data, even for a model that is told the grey image.
    MNIST: 45.53 on the test split, 45.76 on train, 45.73 on both; nothing once the set is static.

    Raises:
        ValueError: the data is real-valued.

    Example:
        >>> half = from_array(torch.full((1, 3), 0.5), protocol="dynamic")
        >>> round(binarisation_entropy(half) / math.log(2), 3)
        3.0
    """
    p = torch.arange(256, dtype=torch.float64) / 255
    nats = torch.special.entr(p) + torch.special.entr(1 - p)  # of one pixel, for each of the 256 levels
    counts = torch.bincount(_levels(data).flatten(), minlength=256).cpu()
    return float(counts.double() @ nats) / len(data)


def independent_pixels(train: Dataset, test: Dataset) -> float:
    r"""Mean log-likelihood of `test` under independent pixels fitted to `train`, in nats per image.

    .. math:: \frac1n \sum_i \mathbb E \sum_d x_{id} \log p_d + (1 - x_{id}) \log (1 - p_d)

    What a model has to beat. p is the mean of `train` clipped as in `Dataset.logits`; the expectation is over
    the draws of a dynamic `test`, and exact. MNIST: dynamic test -205.97, or -205.93 where p is fitted to the
    threshold train set (single draws of the test set scatter by 0.05); threshold test -206.01.

    Raises:
        ValueError: one set is real-valued, or they differ in `x_dim`.

    Example:
        >>> coin = from_array([[0], [1]], protocol="binary")
        >>> round(independent_pixels(coin, coin), 4)
        -0.6931
    """
    if train.x_dim != test.x_dim:
        raise ValueError(f"`test` must have the x_dim of `train`, {train.x_dim}, got {test.x_dim}")
    logits = train.logits(dtype=torch.float64)
    return float((test.pixel_mean() * logits - torch.nn.functional.softplus(logits)).sum())


def digits(protocol: Protocol = "dynamic", *, split: str = "train", seed: int = 0) -> Dataset:
    """Load scikit-learn's 1,797 digits of 8 x 8 pixels, embedded: 1,500 to train, 297 to test, drawn once.

    The grey levels g of 0 to 16 become 255 g / 16, rounded, halves down: the probability of white is within
    0.002 of g / 16, and the threshold is g > 8 exactly.

    Reference: Optical recognition of handwritten digits, Alpaydin & Kaynak, 1998 (UCI repository).

    Example:
        >>> digits("static", seed=3)
        Dataset(digits, train, static, 1500 x 64, cpu)
    """
    return load("digits", protocol, split=split, seed=seed)


def mnist(protocol: Protocol = "dynamic", *, split: str = "train", seed: int = 0, folder: Folder = None) -> Dataset:
    """Load MNIST, 28 x 28: 60,000 images to train, 10,000 to test; `load` says where files are looked for.

    Reference: Gradient-based learning applied to document recognition, LeCun, Bottou, Bengio & Haffner, 1998.
    """
    return load("mnist", protocol, split=split, seed=seed, folder=folder)


def omniglot(protocol: Protocol = "dynamic", *, split: str = "train", seed: int = 0, folder: Folder = None) -> Dataset:
    """Load OMNIGLOT as Burda et al. did, 28 x 28: 24,345 images to train, 8,070 to test; 50 alphabets.

    The authors publish no hash of the file: shapes are checked, and `Dataset.describe` says what was read.

    References:
        - Human-level concept learning through probabilistic program induction, Lake et al., 2015.
        - Importance weighted autoencoders, Burda, Grosse & Salakhutdinov, 2016, arXiv 1509.00519.
    """
    return load("omniglot", protocol, split=split, seed=seed, folder=folder)


def load(
    name: str,
    protocol: Protocol = "dynamic",
    *,
    split: str = "train",
    seed: int = 0,
    folder: Folder = None,
    device: torch.device | str | None = None,
) -> Dataset:
    """Load a dataset by name: "digits", "mnist" or "omniglot".

    Files are looked for in `folder`, in `$PPMODELS_DATA` and in the user's cache, each time also under `raw`,
    `MNIST` and `MNIST/raw`; if they are nowhere, they are downloaded into the cache. MNIST is verified by the
    SHA-256 of its decompressed content.

    Args:
        name: of the dataset.
        protocol: how the model sees the images.
        split: "train", "test" or "all", which is one after the other.
        seed: of the draw, if `protocol` is "static".
        folder: where to look first.
        device: where the data shall live.

    Raises:
        ValueError: the name, protocol or split is unknown.
        FileNotFoundError: `folder` does not exist, or the files are nowhere and cannot be downloaded.
        CorruptFileError: a file is not what it should be.

    Example:
        >>> load("digits", "threshold", split="test")
        Dataset(digits, test, threshold, 297 x 64, cpu)
    """
    _one_of("name", name, SOURCES)
    _one_of("protocol", protocol, ("dynamic", "static", "threshold", "grey", "signed"))
    _one_of("split", split, ("train", "test", "all"))
    if folder is not None and not Path(folder).expanduser().is_dir():
        raise FileNotFoundError(f"`folder` must be an existing folder, got {folder}")
    parts = ("train", "test") if split == "all" else (split,)
    images, labels = map(np.concatenate, zip(*(SOURCES[name](part, folder) for part in parts), strict=True))
    drawn = seed if protocol == "static" else None
    return from_array(images, protocol=protocol, name=name, labels=labels, split=split, seed=drawn).to(device)


# -- checks --------------------------------------------------------------------------------------------------


def _one_of(argument: str, value: str, valid: Collection[str]) -> None:
    if value not in valid:
        near = difflib.get_close_matches(str(value), valid, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"`{argument}` must be one of {', '.join(valid)}, got {value!r}{hint}")


def _tensor(argument: str, x: Tensor | ArrayLike) -> Tensor:
    """Copy real numbers into a tensor."""
    array = x if isinstance(x, Tensor) else np.asarray(x)
    real = not array.is_complex() if isinstance(array, Tensor) else array.dtype.kind in "buif"
    if not real:
        raise TypeError(f"`{argument}` must hold real numbers, got {array.dtype}: convert or drop the others")
    if isinstance(array, Tensor):
        return array.detach().clone()
    return torch.tensor(array.astype(array.dtype.newbyteorder("=")))


def _labels(labels: Tensor | ArrayLike, n: int) -> Tensor:
    y = _tensor("labels", labels)
    if y.shape != (n,) or y.is_floating_point():
        raise ValueError(f"`labels` must be {n} integers, one per row of `x`, got {y.dtype} {tuple(y.shape)}")
    return y.long()


def _grey_levels(x: Tensor, protocol: Protocol) -> Tensor:
    """Bring images to 0 to 255: integers are levels already; floats and "binary" data are fractions."""
    fractions = x.is_floating_point() or x.dtype is torch.bool or protocol == "binary"
    x = x if x.is_floating_point() or x.dtype is torch.uint8 else x.long()
    top, low, high = 1 if fractions else 255, x.min().item(), x.max().item()
    if low < 0 or high > top:
        advice = "rescale it, or use 'real'"
        raise ValueError(f"`x` must lie in 0 to {top} under {protocol!r}, got {low:g} to {high:g}: {advice}")
    if protocol == "binary" and not ((x == 0) | (x == 1)).all():
        raise ValueError("`x` must be 0 and 1 under 'binary', got values between: use 'dynamic' or 'threshold'")
    if not fractions and high == 1:
        raise ValueError(f"`x` must be levels 0 to 255 under {protocol!r}, got 0 and 1 only: use 'binary'")
    return (255 * x.double() - 0.5).ceil().to(torch.uint8) if fractions else x.to(torch.uint8)


def _under(protocol: Protocol, grey: Tensor, seed: int) -> Tensor:
    """Make pixels 0 or 255 where the protocol does it once for all."""
    if protocol == "static":  # drawn on the CPU: a seed means the same on every device
        return 255 * binarise(grey.cpu(), generator=torch.Generator().manual_seed(seed)).to(grey.device)
    return 255 * (grey > 127).to(torch.uint8) if protocol == "threshold" else grey


def _levels(data: Dataset) -> Tensor:
    if data.protocol == "real":
        raise ValueError(f"`{data.name}` is real-valued: expected images, which have pixel probabilities")
    return data.values
