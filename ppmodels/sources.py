"""Where published datasets come from: found in a folder or downloaded, verified, and parsed into arrays.

`SOURCES` maps a name to a function of the split and of a folder to look in first; it returns the images
(n, height, width), grey levels as bytes or as fractions, and the labels (n,). `ppmodels.data` makes datasets of them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["SOURCES", "CorruptFileError", "Folder", "Images", "find", "places", "read_idx"]

Folder: TypeAlias = str | Path | None
Images: TypeAlias = tuple[NDArray[Any], NDArray[Any]]  # (n, height, width) and labels (n,)
T = TypeVar("T")

LAYOUTS = ("", "raw", "MNIST", "MNIST/raw")  # below each folder


class CorruptFileError(OSError):
    """A data file is truncated, altered, or not what its name says."""


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, the format of MNIST and its imitations, plain or gzipped.

    Raises:
        CorruptFileError: it is truncated, or is no such file.
    """
    return _read(Path(path), _idx)


_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_SHA256 = {  # of the decompressed content
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_OMNIGLOT_URL = "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/"
_OMNIGLOT_SIZE = {"train": 24_345, "test": 8_070}


def _digits(split: str, _: Folder) -> Images:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = torch.randperm(1_797, generator=torch.Generator().manual_seed(0)).numpy()
    index = order[:1_500] if split == "train" else order[1_500:]
    return bunch.images[index] / 16, bunch.target[index]


def _mnist(split: str, folder: Folder) -> Images:
    def fetch(name: str) -> NDArray[np.uint8]:
        return _fetch(f"{name}.gz", _MNIST_URL, folder, partial(_idx, sha256=_MNIST_SHA256[name]))

    part = "train" if split == "train" else "t10k"
    return fetch(f"{part}-images-idx3-ubyte"), fetch(f"{part}-labels-idx1-ubyte")


def _omniglot(split: str, folder: Folder) -> Images:
    return _fetch("chardata.mat", _OMNIGLOT_URL, folder, _chardata)[split]


SOURCES: Mapping[str, Callable[[str, Folder], Images]] = {"digits": _digits, "mnist": _mnist, "omniglot": _omniglot}


def places(folder: Folder = None) -> list[Path]:
    """The folders where files are looked for, in this order; the last is the cache, which downloads go to."""
    import pooch

    named = (folder, os.environ.get("PPMODELS_DATA"), pooch.os_cache("ppmodels"))
    return [Path(place).expanduser() for place in named if place]


def find(file: str, folder: Folder = None) -> Path | None:
    """The first copy of a file, gzipped or plain, in the folders and their usual subfolders."""
    names = (file, file.removesuffix(".gz"))
    candidates = (p / layout / name for p, layout, name in product(places(folder), LAYOUTS, names))
    return next((path for path in candidates if path.is_file()), None)


def _fetch(file: str, base_url: str, folder: Folder, parse: Callable[[bytes], T]) -> T:
    """Parse the first copy of `file` in the folders; else download one, and keep it only if it parses."""
    import pooch

    if (path := find(file, folder)) is not None:
        return _read(path, parse, advice="delete it, and it is downloaded again")

    def download(url: str, output: str, _: Any) -> None:  # to a temporary name, which pooch changes at the end
        pooch.HTTPDownloader()(url, output, None)
        _read(Path(output), parse, name=url, advice="try again later, or take the file from elsewhere")

    try:
        pup = pooch.create(places(folder)[-1], base_url, registry={file: None})
        return _read(Path(pup.fetch(file, downloader=download)), parse)
    except CorruptFileError:
        raise
    except OSError as problem:
        looked = ", ".join(map(str, places(folder)))
        raise FileNotFoundError(
            f"`{file}` is not in {looked}, and {base_url}{file} cannot be had ({type(problem).__name__}): "
            "put the file into one of these folders, or name its folder in $PPMODELS_DATA"
        ) from None


def _read(path: Path, parse: Callable[[bytes], T], *, name: str = "", advice: str = "fetch it again") -> T:
    raw = path.read_bytes()
    try:
        return parse(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
    except (ValueError, struct.error, EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise CorruptFileError(f"`{name or path}` is corrupt: {problem}; {advice}") from None


def _idx(raw: bytes, *, sha256: str | None = None) -> NDArray[np.uint8]:
    """Parse IDX: zero, the type 8 for bytes, the number of sizes; the sizes, big-endian; the bytes."""
    if sha256 is not None and (got := hashlib.sha256(raw).hexdigest()) != sha256:
        raise ValueError(f"expected sha256 {sha256}, got {got}")
    zero, kind, ndim = struct.unpack_from(">HBB", raw)
    if (zero, kind) != (0, 8):
        raise ValueError(f"expected an IDX file of bytes, which begins with 00 00 08, got {raw[:3].hex(' ')}")
    sizes = struct.unpack_from(f">{ndim}I", raw, 4)
    content = raw[4 + 4 * ndim :]
    if len(content) != math.prod(sizes):
        raise ValueError(f"expected {math.prod(sizes)} bytes for the sizes {sizes}, got {len(content)}")
    return np.frombuffer(content, np.uint8).reshape(sizes)


def _chardata(raw: bytes) -> dict[str, Images]:
    """Parse `chardata.mat`: a column is an image, column by column, and `target` its alphabet, one-hot."""
    from scipy.io import loadmat

    try:
        mat = loadmat(io.BytesIO(raw))
    except Exception as problem:  # SciPy has no one type for a bad file
        raise ValueError(f"expected a MATLAB file ({problem})") from None
    images = {}
    for (split, n), prefix in zip(_OMNIGLOT_SIZE.items(), ("", "test"), strict=True):
        columns, target = (np.asarray(mat.get(f"{prefix}{key}")) for key in ("data", "target"))
        if columns.shape != (784, n) or target.shape[1:] != (n,):
            got = f"{columns.shape} and {target.shape}"
            raise ValueError(f"expected `{prefix}data` (784, {n}) and `{prefix}target` (50, {n}), got {got}")
        images[split] = columns.T.reshape(n, 28, 28).transpose(0, 2, 1), target.argmax(0)
    return images
