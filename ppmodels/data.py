r"""Datasets that live on a device and are read by index: one tensor, one named binarisation protocol.

Four incompatible "MNIST log-likelihoods" are in print, because grey images are made binary in four ways. Here
the way is a property of the dataset, `protocol`, and stands in everything computed from it:

- `dynamic`: every read draws each pixel anew, Bernoulli with its grey level as probability;
- `static`: one such draw, made from a seed, the same for everybody who names that seed;
- `threshold`: white where the grey level is above one half;
- `grey`: the grey levels themselves; a Bernoulli "log-likelihood" of them is no likelihood, and a warning says so.

Data that is binary from the start is `binary`, and points in the plane are `real`.

References:
    - On the quantitative analysis of deep belief networks, Salakhutdinov & Murray, 2008 (dynamic).
    - The neural autoregressive distribution estimator, Larochelle & Murray, 2011 (static).
    - Importance weighted autoencoders, Burda, Grosse & Salakhutdinov, 2016, arXiv 1509.00519 (the two compared).
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

__all__ = [
    "CorruptFile",
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

Protocol: TypeAlias = Literal["dynamic", "static", "threshold", "grey", "binary", "real"]
"""How grey levels become what the model sees; part of every number computed from the data."""

Folder: TypeAlias = str | Path | None
Images: TypeAlias = tuple[NDArray[Any], NDArray[Any]]  # (n, height, width) and labels (n,)
T = TypeVar("T")


class LikelihoodWarning(UserWarning):
    """A number about to be computed is not the likelihood it will be taken for."""


class CorruptFile(OSError):
    """A data file is truncated, altered or not what its name says."""


def binarise(grey: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    r"""Draw every pixel :math:`x \sim \mathrm{Bernoulli}(v / 255)` by comparing integers, on the device of `grey`.

    Two random bytes per pixel are one 16-bit number, and :math:`P(256\, u_1 + u_0 < 257\, v) = 257 v / 65536` lies
    within :math:`2^{-16}` of :math:`v / 255`; black stays black and white stays white.

    Args:
        grey: grey levels 0 to 255, uint8, of any shape.
        generator: a generator on the device of `grey`; torch's global one if `None`.

    Returns:
        Zeros and ones, uint8, of the same shape.

    Example:
        >>> binarise(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([0, 1], dtype=torch.uint8)
    """
    n = grey.numel()
    words = torch.empty((n + 3) // 4, dtype=torch.int64, device=grey.device)  # eight random bytes at a time
    words.random_(torch.iinfo(torch.int64).min, None, generator=generator)
    high, low = words.view(torch.uint8)[: 2 * n].view(2, *grey.shape)
    low.clamp_(max=254)  # below 255 always: white is certain
    return ((high < grey) | (high == grey) & (low < grey)).view(torch.uint8)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    r"""n data of x_dim values each, in one tensor on one device, read by index under a named protocol.

    Made by `digits`, `mnist`, `omniglot`, `load`, the toys, and `from_array`, which check their input.

    Args:
        name: what the data is called in tables and manifests.
        values: (n, x_dim); uint8 grey levels 0 to 255 (just 0 and 255 once binary), floats if `protocol` is "real".
        protocol: "dynamic", "static", "threshold", "grey", "binary" or "real".
        labels: (n,), int64, or `None`.
        shape: of one datum, such as (28, 28); (x_dim,) if empty.
        split: "train", "test" or "all" as published, "valid" once held out.
        seed: of the draw of a static set, else `None`.

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
    labels: Tensor | None = None
    shape: tuple[int, ...] = ()
    split: str = "all"
    seed: int | None = None

    def __post_init__(self) -> None:
        _one_of("protocol", self.protocol, get_args(Protocol))
        object.__setattr__(self, "shape", self.shape or (self.x_dim,))

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        size = f"{len(self)} x {self.x_dim}"
        return f"Dataset({self.name}, {self.split}, {self.protocol}, {size}, {self.values.device})"

    @property
    def x_dim(self) -> int:
        return self.values.shape[-1]

    def batch(self, index: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the data at `index` (B,) as the model sees it, (B, x_dim); each read of a dynamic set is a new draw."""
        values = self.values.index_select(0, index.to(self.values.device))
        if self.protocol == "dynamic":
            return binarise(values).to(dtype)
        return values.to(dtype) if self.protocol == "real" else values.to(dtype) / 255

    def all(self, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return `batch` of everything, (n, x_dim)."""
        return self.batch(torch.arange(len(self)), dtype=dtype)

    def pixel_mean(self) -> Tensor:
        """Return the mean probability of white per pixel, (x_dim,), float64."""
        return _levels(self).sum(0, dtype=torch.int64).double() / (255 * len(self))

    def logits(self, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the logit of `pixel_mean` clipped to [0.001, 0.999], (x_dim,): Burda's bias of the output layer."""
        return self.pixel_mean().clamp(0.001, 0.999).logit().to(dtype)

    def realise(self, seed: int = 0) -> Dataset:
        """Return one draw of a dynamic set, static under `seed`, to evaluate on; a set without noise is returned as is."""
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
        """Return the rest and `n` data drawn at random under `seed`, whose split is called "valid"."""
        if not 0 < n < len(self):
            raise ValueError(f"`n` must be between 1 and {len(self) - 1} to split {len(self)} data, got {n}")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.subset(order[n:]), replace(self.subset(order[:n]), split="valid")

    def to(self, device: torch.device | str | None) -> Dataset:
        """Return the same data on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, values=self.values.to(device), labels=labels)

    def describe(self) -> dict[str, Any]:
        """Return what a manifest must say, as plain JSON; `likelihood`: whether a Bernoulli number on it is one."""
        seed = {} if self.seed is None else {"seed": self.seed}
        return {
            "name": self.name,
            "split": self.split,
            "protocol": self.protocol,
            **seed,
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
    seed: int = 0,
) -> Dataset:
    """Make a dataset of a NumPy array, a torch tensor or a pandas frame, after checking it.

    Args:
        x: (n, x_dim) or (n, *shape). Images are integers 0 to 255 or floats in [0, 1], the latter rounded to 255
            levels, halves downwards; "binary" data is 0 and 1 in any type; "real" data is floats.
        protocol: how the model sees them; there is no default, because every number depends on it.
        labels: (n,) integers.
        shape: of one datum; read off `x` if `None`.
        seed: of the draw, if `protocol` is "static".

    Raises:
        TypeError: `x` does not hold numbers, or "real" data is not floats.
        ValueError: `x` is empty, not finite, out of range or of another shape; labels were passed for data.

    Example:
        >>> from_array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], protocol="binary", name="pairs")
        Dataset(pairs, all, binary, 3 x 2, cpu)
    """
    _one_of("protocol", protocol, get_args(Protocol))
    values = _tensor("x", x)
    integers = not values.is_floating_point()
    if values.ndim < 2:
        advice = "these look like labels, which go into `labels`" if integers else "use x.reshape(-1, 1)"
        raise ValueError(f"`x` must have the shape (n, x_dim), got {tuple(values.shape)}: {advice}")
    if values.numel() == 0:
        raise ValueError(f"`x` must hold data, got shape {tuple(values.shape)}: check how it was selected")
    if not integers and not values.isfinite().all():
        row = int((~values.isfinite()).flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"`x` must be finite, got NaN or inf, first in row {row}: drop or impute such values"
        )
    if protocol == "real" and integers:
        raise TypeError(
            f"`x` must be floats under 'real', got {values.dtype}: convert it, or name a binary protocol"
        )
    shape = tuple(values.shape[1:]) if shape is None else tuple(shape)
    values = values.flatten(1)  # (n, x_dim)
    if math.prod(shape) != values.shape[1]:
        raise ValueError(f"`shape` must multiply to x_dim = {values.shape[1]}, got {shape}")
    if protocol == "grey":
        advice = "its Bernoulli log-probability is no likelihood and compares with no other; prefer 'dynamic'"
        warnings.warn(f"{name} is grey: {advice}", LikelihoodWarning, stacklevel=2)
    return Dataset(
        name,
        values if protocol == "real" else _under(protocol, _grey_levels(values, protocol), seed),
        protocol,
        None if labels is None else _labels(labels, len(values)).to(values.device),
        shape,
        split,
        seed if protocol == "static" else None,
    )


def binarisation_entropy(data: Dataset) -> float:
    r"""Entropy of drawing the pixels, :math:`\frac1n \sum_i \sum_d H(v_{id} / 255)`, in nats per image.

    No model that is told the grey image can be better, on average, than minus this on its dynamic draws.
    MNIST: 45.53 on the test split, 45.76 on train, 45.73 on both; 0 once the set is static.

    Raises:
        ValueError: the data is real-valued.

    Example:
        >>> half = from_array(torch.full((1, 3), 0.5), protocol="dynamic")
        >>> round(binarisation_entropy(half) / 3 / math.log(2), 4)
        1.0
    """
    p = torch.arange(256, dtype=torch.float64) / 255
    nats = torch.special.entr(p) + torch.special.entr(1 - p)  # of one pixel, for each of the 256 levels
    counts = torch.bincount(_levels(data).flatten(), minlength=256).cpu()
    return float(counts.double() @ nats) / len(data)


def independent_pixels(train: Dataset, test: Dataset) -> float:
    r"""Mean log-likelihood of `test` under independent pixels fitted to `train`, in nats per image.

    .. math:: \frac1n \sum_i E \Big[ \sum_d x_{id} \log p_d + (1 - x_{id}) \log (1 - p_d) \Big],

    with :math:`p_d` the mean of pixel d in `train`, clipped to [0.001, 0.999] as in `Dataset.logits`; the expectation
    over the draws of a dynamic set is exact. What every model has to beat. MNIST test, by the protocols of train and
    test: dynamic -205.97 (one draw scatters by 0.05), threshold -206.01, threshold then dynamic -205.93.

    Raises:
        ValueError: one of them is real-valued, or they differ in `x_dim`.

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
    """Scikit-learn's 1,797 digits of 8 x 8 pixels, embedded: 1,500 to train and 297 to test, drawn once and for all.

    The 17 grey levels g are kept as round(255 g / 16) of 255, halves downwards: P(white) is within 0.002 of g / 16,
    and `threshold` is exactly g > 8.

    Reference: Optical recognition of handwritten digits, Alpaydin & Kaynak, 1998 (UCI repository).

    Example:
        >>> digits("static", seed=3)
        Dataset(digits, train, static, 1500 x 64, cpu)
    """
    return load("digits", protocol, split=split, seed=seed)


def mnist(
    protocol: Protocol = "dynamic", *, split: str = "train", seed: int = 0, folder: Folder = None
) -> Dataset:
    """MNIST, 28 x 28: 60,000 images to train, 10,000 to test, "all" in that order; see `load` for the folders.

    Reference: Gradient-based learning applied to document recognition, LeCun, Bottou, Bengio & Haffner, 1998.
    """
    return load("mnist", protocol, split=split, seed=seed, folder=folder)


def omniglot(
    protocol: Protocol = "dynamic", *, split: str = "train", seed: int = 0, folder: Folder = None
) -> Dataset:
    """OMNIGLOT as Burda et al. reduced it to 28 x 28: 24,345 images to train, 8,070 to test, 50 alphabets as labels.

    No hash of the file is published by its authors: shapes are checked, and `describe` records what was read.

    References:
        - Human-level concept learning through probabilistic program induction, Lake, Salakhutdinov & Tenenbaum, 2015.
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
    """Load "digits", "mnist" or "omniglot".

    Files are looked for in `folder`, in `$PPMODELS_DATA`, in the user's cache (each also under `raw`, `MNIST` and
    `MNIST/raw`), and are downloaded into the cache otherwise. MNIST is verified by the hash of its content.

    Args:
        name: of the dataset.
        protocol: how the model sees the images.
        split: "train", "test" or "all".
        seed: of the draw, if `protocol` is "static".
        folder: where the files are, if not in one of the usual places.
        device: where the data shall live; the CPU if `None`.

    Raises:
        ValueError: an unknown name, protocol or split.
        FileNotFoundError: the files are nowhere and cannot be downloaded, or `folder` does not exist.
        CorruptFile: a file is not what it should be.

    Example:
        >>> load("digits", "threshold", split="test")
        Dataset(digits, test, threshold, 297 x 64, cpu)
    """
    _one_of("name", name, _SOURCES)
    _one_of("split", split, ("train", "test", "all"))
    if folder is not None and not Path(folder).expanduser().is_dir():
        raise FileNotFoundError(f"`folder` must be an existing directory, got {folder}")
    parts = ("train", "test") if split == "all" else (split,)
    images, labels = zip(*(_SOURCES[name](part, folder) for part in parts), strict=True)
    x, y = np.concatenate(images), np.concatenate(labels)
    return from_array(x, protocol=protocol, name=name, labels=y, split=split, seed=seed).to(device)


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, plain or gzipped: the format of MNIST and of what imitates it.

    Raises:
        CorruptFile: it is not such a file, or is truncated.
    """
    return _read(Path(path), _idx)


# -- the files ---------------------------------------------------------------------------------------------------

_LAYOUTS = ("", "raw", "MNIST", "MNIST/raw")
_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_SHA256 = {  # of the decompressed content
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_OMNIGLOT_URL = "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/"
_OMNIGLOT_SIZE = {"train": 24_345, "test": 8_070}


def _digits(split: str, folder: Folder) -> Images:  # noqa: ARG001
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = torch.randperm(1_797, generator=torch.Generator().manual_seed(0)).numpy()
    index = order[:1_500] if split == "train" else order[1_500:]
    return bunch.images[index] / 16, bunch.target[index]


def _mnist(split: str, folder: Folder) -> Images:
    part = "train" if split == "train" else "t10k"
    names = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
    images, labels = (
        _fetch(f"{name}.gz", _MNIST_URL, folder, partial(_idx, sha256=_MNIST_SHA256[name])) for name in names
    )
    return images, labels


def _omniglot(split: str, folder: Folder) -> Images:
    return _fetch("chardata.mat", _OMNIGLOT_URL, folder, _chardata)[split]


_SOURCES: Mapping[str, Callable[[str, Folder], Images]] = {
    "digits": _digits,
    "mnist": _mnist,
    "omniglot": _omniglot,
}


def _fetch(file: str, base_url: str, folder: Folder, parse: Callable[[bytes], T]) -> T:
    """Parse the first copy of `file` among the folders, or else a download, which is kept only if it parses."""
    import pooch

    cache = Path(pooch.os_cache("ppmodels"))
    folders = [Path(f).expanduser() for f in (folder, os.environ.get("PPMODELS_DATA"), cache) if f]
    for place, layout, name in product(folders, _LAYOUTS, (file, file.removesuffix(".gz"))):
        if (path := place / layout / name).is_file():
            return _read(path, parse, advice="delete it, and it is downloaded again")

    def download(url: str, output: str, _: Any) -> None:
        pooch.HTTPDownloader()(url, output, None)
        _read(Path(output), parse, name=url, advice=f"try again, or put a good copy into {cache}")

    try:
        return _read(
            Path(pooch.create(cache, base_url, registry={file: None}).fetch(file, downloader=download)), parse
        )
    except CorruptFile:
        raise
    except OSError as problem:
        raise FileNotFoundError(
            f"`{file}` is in none of {', '.join(map(str, folders))}, and {base_url}{file} cannot be downloaded"
            f" ({type(problem).__name__}): put it into one of them, or name its folder in $PPMODELS_DATA"
        ) from None


def _read(path: Path, parse: Callable[[bytes], T], *, name: str = "", advice: str = "fetch it again") -> T:
    """Parse the content of a plain or gzipped file."""
    raw = path.read_bytes()
    try:
        return parse(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise CorruptFile(f"`{name or path}` is corrupt: {problem}; {advice}") from None


def _idx(raw: bytes, *, sha256: str | None = None) -> NDArray[np.uint8]:
    """Parse IDX: two zeros, type 8 (a byte), the number of dimensions; each size, big-endian uint32; the bytes."""
    if sha256 is not None and (got := hashlib.sha256(raw).hexdigest()) != sha256:
        raise ValueError(f"expected sha256 {sha256}, got {got}")
    if raw[:3] != b"\0\0\x08":
        raise ValueError(
            f"expected an IDX file of bytes, which begins with 00 00 08, got {raw[:3].hex(' ')!r}"
        )
    start = 4 + 4 * raw[3] if len(raw) > 3 else 4
    sizes = struct.unpack(f">{start // 4 - 1}I", raw[4:start].ljust(start - 4, b"\0"))
    if len(raw) != start + math.prod(sizes):
        raise ValueError(f"expected {start + math.prod(sizes)} bytes for sizes {sizes}, got {len(raw)}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(sizes)


def _chardata(raw: bytes) -> dict[str, Images]:
    """Parse `chardata.mat`: an image is a column, its pixels column by column; its alphabet is one-hot in `target`."""
    from scipy.io import loadmat

    try:
        mat = loadmat(io.BytesIO(raw))
    except Exception as problem:
        raise ValueError(f"expected a MATLAB file ({problem})") from None
    parts = {}
    for (split, n), prefix in zip(_OMNIGLOT_SIZE.items(), ("", "test"), strict=True):
        columns, target = (np.asarray(mat.get(f"{prefix}{key}")) for key in ("data", "target"))
        if columns.shape != (784, n) or target.shape[1:] != (n,):
            shapes = f"{columns.shape} and {target.shape}"
            raise ValueError(
                f"expected `{prefix}data` (784, {n}) and `{prefix}target` (50, {n}), got {shapes}"
            )
        parts[split] = (
            columns.T.reshape(n, 28, 28).transpose(0, 2, 1),
            target.argmax(0),
        )  # (n, row, column), (n,)
    return parts


# -- checks and conversions -------------------------------------------------------------------------------------


def _one_of(argument: str, value: str, valid: Iterable[str]) -> None:
    valid = list(valid)
    if value not in valid:
        near = difflib.get_close_matches(str(value), valid, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"`{argument}` must be one of {', '.join(valid)}, got {value!r}{hint}")


def _tensor(argument: str, x: Tensor | ArrayLike) -> Tensor:
    """Copy numbers into a tensor."""
    array = x if isinstance(x, Tensor) else np.asarray(x)
    if array.dtype.is_complex if isinstance(array, Tensor) else array.dtype.kind not in "buif":
        raise TypeError(
            f"`{argument}` must hold real numbers, got {array.dtype}: convert or drop what is not"
        )
    if isinstance(array, Tensor):
        return array.detach().clone()
    return torch.tensor(array.astype(array.dtype.newbyteorder("=")))


def _labels(labels: Tensor | ArrayLike, n: int) -> Tensor:
    y = _tensor("labels", labels)
    if y.shape != (n,) or y.is_floating_point():
        raise ValueError(
            f"`labels` must be {n} integers, one per row of `x`, got shape {tuple(y.shape)} of {y.dtype}"
        )
    return y.long()


def _grey_levels(x: Tensor, protocol: Protocol) -> Tensor:
    """Read integers as grey levels, floats and "binary" data as fractions of 255; halves go down: 1/2 is not white."""
    fractions = x.is_floating_point() or x.dtype is torch.bool or protocol == "binary"
    top, low, high = 1 if fractions else 255, x.min().item(), x.max().item()
    if low < 0 or high > top:
        advice = "rescale it, or use protocol='real'"
        raise ValueError(
            f"`x` must lie in [0, {top}] under {protocol!r}, got values {low:g} to {high:g}: {advice}"
        )
    if protocol == "binary" and not ((x == 0) | (x == 1)).all():
        raise ValueError(
            "`x` must be 0 and 1 under 'binary', got values between: use 'dynamic', 'static' or 'threshold'"
        )
    if not fractions and high == 1:
        raise ValueError(
            f"`x` must be grey levels 0 to 255 under {protocol!r}, got 0 and 1: use protocol='binary'"
        )
    return (255 * x.double() - 0.5).ceil().to(torch.uint8) if fractions else x.to(torch.uint8)


def _under(protocol: Protocol, grey: Tensor, seed: int) -> Tensor:
    """Make grey levels black or white where the protocol does so once and for all."""
    if protocol == "static":  # drawn on the CPU, so that a seed means the same on every device
        return 255 * binarise(grey.cpu(), generator=torch.Generator().manual_seed(seed)).to(grey.device)
    return 255 * (grey > 127).to(torch.uint8) if protocol == "threshold" else grey


def _levels(data: Dataset) -> Tensor:
    if data.protocol == "real":
        raise ValueError(
            f"`{data.name}` must be an image dataset, got protocol 'real': it has no pixel probabilities"
        )
    return data.values
