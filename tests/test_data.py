"""Datasets, their protocols, the files they come from, and the toys.

Statistical tests fix their seed; each would fail a right program with probability below 1e-4 under another one
(4 standard errors: 6e-5; a chi-square or Kolmogorov-Smirnov p-value of 1e-5).
"""

# ruff: noqa: PD011 (the `values` of a Dataset are no pandas)

import ast
import gzip
import hashlib
import io
import itertools
import json
import math
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import pytest
import requests
import scipy.io
import torch
from scipy import stats
from sklearn.datasets import load_digits

import ppmodels.sources
import ppmodels.toys
from ppmodels.contracts import Data
from ppmodels.data import (
    CorruptFileError,
    Dataset,
    LikelihoodWarning,
    binarisation_entropy,
    binarise,
    digits,
    from_array,
    independent_pixels,
    load,
    mnist,
    omniglot,
    read_idx,
)
from ppmodels.toys import Bars, grid, linear_gaussian, pinwheel, ring, swiss_roll

SE = 4  # standard errors
P_VALUE = 1e-5


def images(*levels: int, n: int = 1) -> Dataset:
    """`n` copies of an image of these grey levels, dynamic."""
    return from_array(np.tile(np.array(levels, np.uint8), (n, 1)), protocol="dynamic")


# -- binarisation ----------------------------------------------------------------------------------------------


def test_every_level_is_drawn_with_its_probability():
    torch.manual_seed(1)
    level, n = np.arange(1, 255), 40_000
    mean = binarise(torch.from_numpy(level).to(torch.uint8).expand(n, -1)).double().mean(0).numpy()

    def p_value(p):
        return stats.chi2.sf(((mean - p) ** 2 / (p * (1 - p) / n)).sum(), len(level))

    assert p_value(level / 255) > P_VALUE
    assert p_value(level / 256) < 1e-20  # one random byte per pixel would be found out


def test_black_and_white_are_certain():
    torch.manual_seed(2)
    assert binarise(torch.zeros(2**21, dtype=torch.uint8)).sum() == 0
    assert binarise(torch.full((2**21,), 255, dtype=torch.uint8)).sum() == 2**21  # 16 bits alone would miss 32


def test_pixels_are_drawn_independently():
    torch.manual_seed(3)
    x = binarise(torch.full((2_000, 101), 100, dtype=torch.uint8)).double() - 100 / 255
    variance = 100 / 255 * 155 / 255
    for lagged in (x[:, 1:] * x[:, :-1], x[:, 8:] * x[:, :-8], x[1:] * x[:-1], x[:1_000] * x[1_000:]):
        assert abs(lagged.mean()) <= SE * variance / math.sqrt(lagged.numel())


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 3), (0, 4)])
def test_binarise_keeps_any_shape(shape):
    x = binarise(torch.full(shape, 255, dtype=torch.uint8))
    assert x.shape == shape
    assert x.dtype is torch.uint8
    assert (x == 1).all()


def test_dynamic_batches_follow_the_global_generator():
    data, index = digits(), torch.arange(50)
    state = torch.get_rng_state()
    first, second = data.batch(index), data.batch(index)
    torch.set_rng_state(state)
    assert data.batch(index).equal(first)
    assert not second.equal(first)


def test_a_generator_leaves_the_global_one_alone():
    state = torch.get_rng_state()
    digits("static", seed=5)
    digits().realise(5)
    assert torch.get_rng_state().equal(state)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_batches_are_made_on_the_gpu():
    data = images(0, 51, 255, n=100_000).to("cuda")
    mean = data.all().mean(0).cpu()
    assert data.batch(torch.arange(3)).is_cuda
    assert (mean[[0, 2]] == torch.tensor([0.0, 1.0])).all()
    assert abs(mean[1] - 0.2) <= SE * math.sqrt(0.2 * 0.8 / 100_000)
    assert data.realise(3).values.cpu().equal(data.to("cpu").realise(3).values)


# -- datasets and protocols --------------------------------------------------------------------------------------


def test_a_dataset_is_data():
    assert isinstance(digits(), Data)
    assert repr(digits()) == "Dataset(digits, train, dynamic, 1500 x 64, cpu)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_is_what_the_protocol_says(dtype):
    x = np.array([[0, 127, 128, 255], [1, 2, 3, 4]], np.uint8)
    with pytest.warns(LikelihoodWarning):
        grey = from_array(x, protocol="grey")
    index = torch.tensor([1, 0])
    assert grey.batch(index, dtype=dtype).equal(torch.tensor(x[::-1].copy()).to(dtype) / 255)
    threshold = from_array(x, protocol="threshold").batch(index, dtype=dtype)
    assert threshold.equal(torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1]], dtype=dtype))
    real = from_array(x / 3, protocol="real").batch(index, dtype=dtype)
    assert real.equal(torch.tensor(x[::-1] / 3).to(dtype))


def test_static_is_one_seeded_draw_for_everybody():
    data = digits("static", seed=1)
    assert data.all().equal(digits("static", seed=1).all())
    assert data.all().equal(digits("dynamic").realise(1).all())
    assert not data.all().equal(digits("static", seed=2).all())
    assert set(data.all().unique().tolist()) == {0.0, 1.0}
    sha256 = "e70c4a205bac7df989b0b6805f3959c6c8a6e6d877404daefb5d8528835547b8"  # for as long as torch's generator
    assert data.describe()["sha256"] == sha256


def test_a_realisation_is_a_draw_of_the_grey_levels():
    dynamic = digits(split="all")
    drawn, p = dynamic.realise(3).pixel_mean(), dynamic.values.double() / 255
    error = (p * (1 - p)).sum(0).sqrt() / len(dynamic)
    assert ((drawn - p.mean(0)).abs() <= 5 * error).all()  # 64 pixels at 6e-7
    assert dynamic.realise(3).describe()["protocol"] == "static"
    assert dynamic.realise(3).describe()["seed"] == 3
    assert dynamic.realise(3).realise(4).seed == 3


def test_grey_warns_once_and_says_so_for_ever():
    with pytest.warns(LikelihoodWarning, match="`digits` is grey: .* is no likelihood"):
        grey = digits("grey")
    assert grey.head(3).describe()["likelihood"] is False  # and no further warning, which would be an error here
    assert digits("threshold").describe()["likelihood"] is True


def test_digits_are_those_of_scikit_learn():
    bunch = load_digits()
    train, test = digits(split="train"), digits(split="test")
    assert (len(train), len(test), train.shape) == (1500, 297, (8, 8))
    both = torch.cat([train.values, test.values])
    assert both.equal(digits(split="all").values)
    levels = np.ceil(bunch.data * 255 / 16 - 0.5)
    assert np.abs(levels / 255 - bunch.data / 16).max() <= 0.5 / 255 + 1e-12
    rows = [(*row, y) for row, y in zip(levels, bunch.target, strict=True)]
    labels = torch.cat([train.labels, test.labels])
    assert sorted(rows) == sorted((*row, y) for row, y in zip(both.tolist(), labels.tolist(), strict=True))
    white = digits("threshold", split="all").all().sum().item()
    assert white == (bunch.data > 8).sum()


def test_subsets_keep_data_and_labels_together():
    data = digits(split="test")
    part = data.subset(torch.tensor([7, 3]))
    assert part.values.equal(data.values[[7, 3]])
    assert part.labels.equal(data.labels[[7, 3]])
    assert data.head(2).values.equal(data.values[:2])
    assert len(data.head(10_000)) == 297


def test_held_out_data_is_seeded_and_disjoint():
    data = from_array(torch.arange(20.0).reshape(20, 1), protocol="real", split="train")
    rest, valid = data.hold_out(5, seed=3)
    assert (len(rest), rest.split, len(valid), valid.split) == (15, "train", 5, "valid")
    assert sorted(torch.cat([rest.values, valid.values]).flatten().tolist()) == list(range(20))
    assert data.hold_out(5, seed=3)[1].values.equal(valid.values)
    assert not data.hold_out(5, seed=4)[1].values.equal(valid.values)
    with pytest.raises(ValueError, match=r"`n` must be between 1 and 19 .* got 20"):
        data.hold_out(20)


def test_description_is_json_and_knows_every_byte():
    data = digits("static", split="test", seed=4)
    described = json.loads(json.dumps(data.describe()))
    expected = {"name": "digits", "split": "test", "protocol": "static", "seed": 4, "n": 297, "x_dim": 64}
    assert expected.items() <= described.items()
    assert described["shape"] == [8, 8]
    assert described["sha256"] == hashlib.sha256(np.ascontiguousarray(data.values.numpy())).hexdigest()
    data.values[100, 30] ^= 1
    assert data.describe()["sha256"] != described["sha256"]


def test_logits_are_those_of_the_clipped_mean():
    data = digits()
    p = (data.values.numpy() / 255).mean(0).clip(0.001, 0.999)
    assert p.min() == 0.001  # the corners are always black
    np.testing.assert_allclose(data.logits(dtype=torch.float64), np.log(p / (1 - p)), rtol=1e-12)
    assert data.logits().dtype is torch.float32


def test_entropy_is_that_of_the_bernoullis():
    data = digits(split="test")
    expected = stats.bernoulli(data.values.numpy() / 255).entropy().sum(1).mean()
    assert binarisation_entropy(data) == pytest.approx(expected, rel=1e-12)
    assert binarisation_entropy(data.realise()) == 0


def test_baseline_is_the_mean_over_draws():
    train, test = digits(), digits(split="test")
    p = (train.values.numpy() / 255).mean(0).clip(0.001, 0.999)
    draws = np.array([stats.bernoulli(p).logpmf(test.realise(s).all().numpy()).sum(1).mean() for s in range(50)])
    error = draws.std(ddof=1) / math.sqrt(len(draws))
    assert abs(draws.mean() - independent_pixels(train, test)) <= SE * error
    assert independent_pixels(train, test.realise(7)) == pytest.approx(draws[7], rel=1e-9)


def test_pixel_measures_refuse_what_has_no_pixels():
    for measure in (binarisation_entropy, Dataset.logits):
        with pytest.raises(ValueError, match="`swiss-roll` is real-valued: expected images"):
            measure(swiss_roll(10))
    with pytest.raises(ValueError, match="`test` must have the x_dim of `train`, 64, got 2"):
        independent_pixels(digits(), swiss_roll(10))


# -- a user's own data -------------------------------------------------------------------------------------------

X = np.array([[0.0, 0.2], [1.0, 0.4], [0.6, 0.8]])


@pytest.mark.parametrize(
    "x",
    [X, X.tolist(), torch.tensor(X), pd.DataFrame(X), X.astype(">f8"), X.astype(np.float32), np.asfortranarray(X)],
    ids=["numpy", "list", "torch", "pandas", "big-endian", "float32", "fortran"],
)
def test_any_array_will_do(x):
    assert from_array(x, protocol="dynamic").values.tolist() == [[0, 51], [255, 102], [153, 204]]


def test_levels_and_zeros_and_ones_come_in_any_type():
    levels = np.array([[0, 7], [255, 9]])
    for dtype in (np.uint8, np.uint16, np.int64):
        assert from_array(levels.astype(dtype), protocol="dynamic").values.tolist() == levels.tolist()
    for dtype in (bool, np.uint8, np.int64, np.float32):
        data = from_array(np.eye(2).astype(dtype), protocol="binary")
        assert data.all().equal(torch.eye(2))


def test_one_half_is_not_above_one_half():
    data = from_array([[0.5, np.nextafter(0.5, 1) + 1e-6]], protocol="threshold")
    assert data.all().tolist() == [[0.0, 1.0]]


def test_an_array_is_copied_and_may_have_axes():
    x = np.zeros((4, 2, 3), np.uint8)
    x.flags.writeable = False
    data = from_array(x, protocol="dynamic", labels=pd.Series([1, 2, 3, 4]))
    assert (data.x_dim, data.shape, data.labels.tolist()) == (6, (2, 3), [1, 2, 3, 4])
    assert from_array(np.zeros((4, 6)), protocol="real", shape=(2, 3)).shape == (2, 3)
    mine = torch.zeros(2, 2)
    theirs = from_array(mine, protocol="real")
    mine += 1
    assert theirs.values.sum() == 0


BAD = {
    "labels": (np.arange(5), {}, ValueError, r"`x` must have the shape \(n, x_dim\), got \(5,\): .*look like labels"),
    "a vector": (np.ones(5), {}, ValueError, r"got \(5,\): use x.reshape"),
    "a number": (3.0, {}, ValueError, r"got \(\)"),
    "no rows": (np.ones((0, 3)), {}, ValueError, r"`x` must hold data, got the shape \(0, 3\)"),
    "no columns": (np.ones((3, 0)), {}, ValueError, r"`x` must hold data"),
    "NaN": ([[0.0], [math.nan]], {}, ValueError, "`x` must be finite, got NaN or inf, first in row 1: drop"),
    "inf": ([[math.inf], [0.0]], {"protocol": "real"}, ValueError, "first in row 0"),
    "text": ([["a"]], {}, TypeError, "`x` must hold real numbers, got <U1"),
    "a mixed frame": (pd.DataFrame({"a": [1.0], "b": ["z"]}), {}, TypeError, "`x` must hold real numbers, got object"),
    "complex": (np.ones((1, 1), complex), {}, TypeError, "got complex128"),
    "complex tensor": (torch.ones(1, 1, dtype=torch.complex64), {}, TypeError, "got torch.complex64"),
    "integers as real": (np.eye(2, dtype=int), {"protocol": "real"}, TypeError, "`x` must be floats .* got torch.int"),
    "negative": ([[-0.5, 1.0]], {}, ValueError, r"`x` must lie in 0 to 1 under 'dynamic', got -0.5 to 1: rescale"),
    "floats to 255": ([[0.0, 255.0]], {}, ValueError, "`x` must lie in 0 to 1 .* got 0 to 255"),
    "levels above 255": (np.array([[0, 256]]), {}, ValueError, "`x` must lie in 0 to 255 .* got 0 to 256"),
    "0/1 integers as levels": (np.eye(2, dtype=int), {}, ValueError, "got 0 and 1 only: use 'binary'"),
    "grey as binary": ([[0.5]], {"protocol": "binary"}, ValueError, "`x` must be 0 and 1 under 'binary'"),
    "a wrong shape": (np.ones((2, 6)), {"shape": (2, 2)}, ValueError, r"`shape` must multiply to x_dim = 6, got"),
    "few labels": (np.ones((2, 6)), {"labels": [1]}, ValueError, r"`labels` must be 2 integers.* torch.int64 \(1,\)"),
    "float labels": (np.ones((1, 6)), {"labels": [0.5]}, ValueError, "`labels` must be 1 integers.* got torch.float64"),
    "a protocol": (X, {"protocol": "dynamc"}, ValueError, "`protocol` must be one of .* did you mean 'dynamic'"),
}  # fmt: skip


@pytest.mark.parametrize(("x", "options", "error", "message"), BAD.values(), ids=BAD)
def test_a_mistake_is_one_sentence(x, options, error, message):
    with pytest.raises(error, match=message) as caught:
        from_array(x, **{"protocol": "dynamic"} | options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mnits"}, "`name` must be one of digits, mnist, omniglot, got 'mnits': did you mean 'mnist'?"),
        ({"name": "xyzzy"}, "`name` must be one of digits, mnist, omniglot, got 'xyzzy'$"),
        ({"name": "digits", "split": "tests"}, "`split` must be one of .* got 'tests': did you mean 'test'?"),
        ({"name": "digits", "protocol": "treshold"}, "`protocol` must be .* did you mean 'threshold'?"),
        (
            {"name": "digits", "protocol": "real"},
            "`protocol` must be one of dynamic, static, threshold, grey, signed, got 'real'$",
        ),
    ],
)
def test_an_unknown_word_gets_the_nearest_known_one(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(**arguments)


# -- files -------------------------------------------------------------------------------------------------------


class Server:
    """Stands in for pooch's downloader: answers every address with `content`, or fails with `error`."""

    content: bytes = b""
    error: Exception | None = None
    asked: list[str]

    def __call__(self):
        def download(url, output, _):
            self.asked.append(url)
            if self.error:
                raise self.error
            Path(output).write_bytes(self.content)

        return download


@pytest.fixture
def server(monkeypatch, tmp_path):
    """No network and no files: an own cache, no `$PPMODELS_DATA`, nobody connected."""
    server = Server()
    server.asked, server.error = [], requests.ConnectionError("host=... Max retries exceeded with url ...")
    monkeypatch.setattr(pooch, "HTTPDownloader", server)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    monkeypatch.delenv("PPMODELS_DATA", raising=False)
    return server


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def small_mnist(monkeypatch, server):
    """The four files of an MNIST of 6 + 3 images, its hashes pinned."""
    rng = np.random.default_rng(0)
    files = {}
    for part, n in (("train", 6), ("t10k", 3)):
        files[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (n, 28, 28), np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(n, dtype=np.uint8))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(ppmodels.sources, "_MNIST_SHA256", hashes)
    return files


def chardata(*pictures: np.ndarray) -> bytes:
    """An OMNIGLOT file of these pictures, the last of them to test; picture i has the alphabet i."""
    columns = np.stack([picture.flatten(order="F") for picture in pictures], 1)  # (784, n)
    target = np.eye(50)[:, : len(pictures)]
    parts = {"data": columns[:, :-1], "testdata": columns[:, -1:], "target": target[:, :-1]}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, parts | {"testtarget": target[:, -1:]})
    return buffer.getvalue()


@pytest.fixture
def small_omniglot(monkeypatch, server):
    """Make an OMNIGLOT of two pictures to train and one to test, its sizes pinned; the first is of one level."""
    monkeypatch.setattr(ppmodels.sources, "_OMNIGLOT_SIZE", {"train": 2, "test": 1})
    rest = np.random.default_rng(0).integers(0, 256, (2, 28, 28)) / 255
    return lambda level: chardata(np.full((28, 28), level / 255), *rest)


@pytest.mark.parametrize("layout", ["", "raw", "MNIST", "MNIST/raw"])
@pytest.mark.parametrize("gzipped", [True, False])
def test_mnist_is_read_from_any_usual_layout(small_mnist, tmp_path, layout, gzipped):
    for name, content in small_mnist.items():
        path = tmp_path / "mine" / layout / (f"{name}.gz" if gzipped else name)
        put(path, gzip.compress(content) if gzipped else content)
    train, test = (mnist("threshold", split=split, folder=tmp_path / "mine") for split in ("train", "test"))
    first = np.frombuffer(small_mnist["train-images-idx3-ubyte"][16:800], np.uint8)
    assert train.head(1).all().tolist() == [(first > 127.5).astype(float).tolist()]
    assert (len(train), len(test), train.shape) == (6, 3, (28, 28))
    both = mnist("threshold", split="all", folder=tmp_path / "mine")
    assert both.values.equal(torch.cat([train.values, test.values]))
    assert both.labels.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]


def test_folder_comes_before_environment_before_cache(small_omniglot, server, monkeypatch, tmp_path):
    def level(folder=None):
        return omniglot(folder=folder).values[0, 0].item()

    server.error, server.content = None, small_omniglot(10)
    assert level() == 10  # downloaded
    assert level() == 10  # from the cache
    assert len(server.asked) == 1
    assert server.asked[0].endswith("/OMNIGLOT/chardata.mat")
    put(tmp_path / "environment/chardata.mat", small_omniglot(20))
    monkeypatch.setenv("PPMODELS_DATA", str(tmp_path / "environment"))
    assert level() == 20
    put(tmp_path / "mine/chardata.mat", small_omniglot(30))
    assert level(tmp_path / "mine") == 30
    (tmp_path / "mine/chardata.mat").unlink()
    assert level(str(tmp_path / "mine")) == 20


def test_omniglot_stands_upright(small_omniglot, monkeypatch, tmp_path):
    picture = np.zeros((28, 28))
    picture[3, 5:20] = 1  # a horizontal stroke in row 3
    put(tmp_path / "chardata.mat", chardata(picture, picture.T, picture))
    train = omniglot("threshold", folder=tmp_path)
    np.testing.assert_array_equal(train.all().reshape(2, 28, 28), [picture, picture.T])
    assert train.labels.tolist() == [0, 1]
    assert omniglot(split="test", folder=tmp_path).labels.tolist() == [2]


@pytest.mark.parametrize("content", [b"", b"no such format", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_what_is_no_omniglot_is_refused(server, tmp_path, content):
    put(tmp_path / "chardata.mat", content)
    with pytest.raises(CorruptFileError, match=r"chardata.mat` is corrupt: expected .*; delete it"):
        omniglot(folder=tmp_path)


def test_omniglot_of_other_sizes_is_refused(small_omniglot, tmp_path):
    put(tmp_path / "chardata.mat", chardata(*np.zeros((5, 28, 28))))
    with pytest.raises(CorruptFileError, match=r"expected `data` \(784, 2\) .* got \(784, 4\) and \(50, 4\)"):
        omniglot(folder=tmp_path)


@pytest.mark.parametrize("damage", ["altered", "cut", "cut after unpacking"])
def test_a_corrupt_file_is_named(small_mnist, tmp_path, damage):
    name = "train-images-idx3-ubyte"
    for file, content in small_mnist.items():
        put(tmp_path / f"{file}.gz", gzip.compress(content))
    good = small_mnist[name]
    bad = {
        "altered": gzip.compress(good[:-1] + bytes([good[-1] ^ 1])),
        "cut": gzip.compress(good)[:-100],
        "cut after unpacking": gzip.compress(good[:-100]),
    }[damage]
    path = put(tmp_path / f"{name}.gz", bad)
    with pytest.raises(CorruptFileError) as caught:
        mnist(folder=tmp_path)
    message = str(caught.value)
    assert message.startswith(f"`{path}` is corrupt: ")
    assert message.endswith("; delete it, and it is downloaded again")
    if damage != "cut":
        got = hashlib.sha256(gzip.decompress(bad)).hexdigest()
        assert f"expected sha256 {hashlib.sha256(good).hexdigest()}, got {got}" in message


def test_a_download_is_verified_before_it_is_kept(small_mnist, server, tmp_path):
    server.error, server.content = None, b"<html>Please log in</html>"
    with pytest.raises(CorruptFileError, match=r"`https.*train-images-idx3-ubyte.gz` is corrupt: expected sha256"):
        mnist()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_good_download_is_kept(small_mnist, server, tmp_path):
    server.error, server.content = None, gzip.compress(small_mnist["t10k-labels-idx1-ubyte"])
    put(tmp_path / "cache/t10k-images-idx3-ubyte", small_mnist["t10k-images-idx3-ubyte"])
    assert mnist(split="test").labels.tolist() == [0, 1, 2]
    assert (tmp_path / "cache/t10k-labels-idx1-ubyte.gz").read_bytes() == server.content


@pytest.mark.parametrize("error", [requests.ConnectionError("a\nb"), requests.HTTPError("404"), OSError("disk full")])
def test_no_network_is_one_sentence_without_a_chain(server, monkeypatch, tmp_path, error):
    server.error = error
    monkeypatch.setenv("PPMODELS_DATA", "/nowhere")
    with pytest.raises(FileNotFoundError) as caught:
        mnist(folder=tmp_path)
    message = str(caught.value)
    assert message.startswith(
        f"`train-images-idx3-ubyte.gz` is not in {tmp_path}, /nowhere, {tmp_path / 'cache'}, and "
    )
    assert f"({type(error).__name__}): put the file into one of these folders" in message
    assert message.endswith("$PPMODELS_DATA")
    assert "\n" not in message
    assert caught.value.__suppress_context__


def test_a_folder_that_is_none_is_refused(server, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"`folder` must be an existing folder, got {tmp_path}/none"):
        mnist(folder=tmp_path / "none")
    assert server.asked == []


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4)])
def test_idx_is_read_as_it_was_written(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(read_idx(put(tmp_path / "plain", idx(array))), array)
    np.testing.assert_array_equal(read_idx(str(put(tmp_path / "packed", gzip.compress(idx(array))))), array)


GOOD = idx(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD[:-1], r"expected 6 bytes for the sizes \(2, 3\), got 5"),
        (GOOD + b"0", r"expected 6 bytes for the sizes \(2, 3\), got 7"),
        (GOOD[:9], "requires a buffer of at least 12 bytes"),
        (b"", "requires a buffer of at least 4 bytes"),
        (b"\x89PNG" + GOOD, "which begins with 00 00 08, got 89 50 4e"),
        (b"\0\0\x0d" + GOOD[3:], "IDX file of bytes, .* got 00 00 0d"),
        (gzip.compress(GOOD, mtime=0)[:-9], "ended before the end-of-stream"),
        (gzip.compress(GOOD, mtime=0)[:-8] + bytes(8), "CRC check failed"),
        (gzip.compress(GOOD, mtime=0)[:10] + b"\xff" * 20, "invalid block type"),
    ],
)
def test_a_bad_idx_file_is_one_sentence(tmp_path, content, message):
    path = put(tmp_path / "file", content)
    with pytest.raises(CorruptFileError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"`{path}` is corrupt: ")
    assert "\n" not in str(caught.value)


def test_importing_is_light():
    for module in (ppmodels.data, ppmodels.toys):
        tree = ast.parse(Path(module.__file__).read_text())
        imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
        roots = {name.split(".")[0] for name in imported} - sys.stdlib_module_names
        assert roots <= {"numpy", "torch", "ppmodels"}
        assert {name for name in imported if name.startswith("ppmodels")} <= {
            "ppmodels.contracts",
            "ppmodels.data",
            "ppmodels.sources",
        }


# -- the real MNIST ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_mnist():
    """The published files, by split."""
    folder = os.environ.get("PPMODELS_DATA")
    if not folder or not list(Path(folder).rglob("t10k-images-idx3-ubyte*")):
        pytest.skip("needs the MNIST files in $PPMODELS_DATA")
    return {(split, protocol): mnist(protocol, split=split) for split, protocol in PARTS}


PARTS = [("train", "dynamic"), ("test", "dynamic"), ("train", "threshold"), ("test", "threshold")]


def test_mnist_is_mnist(real_mnist):
    train, test = real_mnist["train", "dynamic"], real_mnist["test", "dynamic"]
    assert (len(train), len(test), train.x_dim) == (60_000, 10_000, 784)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_mnist_has_the_known_entropy(real_mnist):
    assert binarisation_entropy(real_mnist["test", "dynamic"]) == pytest.approx(45.53, abs=0.005)
    assert binarisation_entropy(real_mnist["train", "dynamic"]) == pytest.approx(45.76, abs=0.005)


def test_mnist_has_the_known_baselines(real_mnist):
    def baseline(train, test):
        return independent_pixels(real_mnist["train", train], real_mnist["test", test])

    assert baseline("threshold", "threshold") == pytest.approx(-206.01, abs=0.005)
    assert baseline("threshold", "dynamic") == pytest.approx(-205.93, abs=0.005)
    assert baseline("dynamic", "dynamic") == pytest.approx(-205.967, abs=0.0005)


# -- toys --------------------------------------------------------------------------------------------------------

TOYS = {
    "linear-gaussian": linear_gaussian().sample,
    "ring": ring().sample,
    "grid": grid().sample,
    "bars": Bars().sample,
    "pinwheel": pinwheel,
    "swiss-roll": swiss_roll,
}


@pytest.mark.parametrize(("name", "draw"), TOYS.items(), ids=TOYS)
def test_a_toy_is_drawn_from_its_seed_alone(name, draw):
    state = torch.get_rng_state()
    data = draw(50, seed=1)
    assert torch.get_rng_state().equal(state)
    assert (data.name, len(data), data.describe()["seed"]) == (name, 50, 1)
    assert data.values.equal(draw(50, seed=1).values)
    assert not data.values.equal(draw(50, seed=2).values)
    with pytest.raises(ValueError, match="`n` must be at least 1, got 0"):
        draw(0)


def test_linear_gaussian_is_the_closed_form():
    toy = linear_gaussian(z_dim=3, x_dim=5, scale=0.7, seed=2)
    x = toy.sample(20, seed=3).all(dtype=torch.float64)
    W, b = toy.W.numpy(), toy.b.numpy()
    covariance = W @ W.T + 0.7**2 * np.eye(5)
    np.testing.assert_allclose(toy.log_prob(x), stats.multivariate_normal(b, covariance).logpdf(x), rtol=1e-10)
    gain = np.linalg.solve(covariance, W).T  # the conditional of the joint normal of z and x
    np.testing.assert_allclose(toy.posterior(x).mean, (x.numpy() - b) @ gain.T, rtol=1e-10)
    expected = np.broadcast_to(np.eye(3) - gain @ W, (20, 3, 3))
    np.testing.assert_allclose(toy.posterior(x).covariance_matrix, expected, rtol=1e-9, atol=1e-12)
    assert toy.log_prob(x.float()).dtype is torch.float64


def test_linear_gaussian_draws_from_its_density():
    toy = linear_gaussian(seed=4)
    x = toy.sample(20_000, seed=5).all(dtype=torch.float64)
    whitened = torch.linalg.solve_triangular(
        torch.linalg.cholesky(toy.W @ toy.W.mT + 0.25 * torch.eye(5)), (x - toy.b).mT, upper=False
    )  # (x_dim, n), standard normal
    for row in whitened:
        assert stats.kstest(row, "norm").pvalue > P_VALUE
    correlation = np.corrcoef(whitened)[np.triu_indices(5, 1)]
    assert (np.abs(correlation) * math.sqrt(20_000) <= SE + 1).all()  # ten of them


def test_a_mixture_is_the_sum_of_its_modes():
    mixture = grid(3, spacing=0.5, scale=0.3)
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    modes = itertools.product([-0.5, 0.0, 0.5], repeat=2)
    density = np.mean([stats.multivariate_normal(mode, 0.09 * np.eye(2)).pdf(x) for mode in modes], axis=0)
    np.testing.assert_allclose(mixture.log_prob(x), np.log(density), rtol=1e-5)


@pytest.mark.parametrize("mixture", [ring(8), grid(5)], ids=["ring", "grid"])
def test_a_mixture_draws_from_its_density(mixture):
    data = mixture.sample(20_000, seed=6)
    assert stats.chisquare(data.labels.bincount()).pvalue > P_VALUE
    noise = (data.values - mixture.loc[data.labels]) / mixture.scale
    assert stats.kstest(noise.flatten(), "norm").pvalue > P_VALUE
    assert abs(np.corrcoef(noise.mT)[0, 1]) * math.sqrt(20_000) <= SE


def test_a_ring_is_round_and_a_grid_square():
    torch.testing.assert_close(ring(8, radius=3.0).loc.norm(dim=1), torch.full((8,), 3.0))
    torch.testing.assert_close(ring(4, radius=1.0).loc, torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]))
    assert grid(5).loc.sum(0).tolist() == [0, 0]
    assert len({tuple(mode) for mode in grid(5).loc.tolist()}) == 25


def bars_by_enumeration() -> dict[tuple[float, ...], float]:
    """Every image of 4 x 4 bars with its probability, told as the story goes."""
    p: dict[tuple[float, ...], float] = {}
    for bars in itertools.product([0.0, 1.0], repeat=4):
        p_bars = math.prod(0.2 if bar else 0.8 for bar in bars)
        standing = tuple(bars[column] for row in range(4) for column in range(4))
        lying = tuple(bars[row] for row in range(4) for column in range(4))
        p[standing] = p.get(standing, 0) + 2 / 3 * p_bars
        p[lying] = p.get(lying, 0) + 1 / 3 * p_bars
    return p


def test_bars_have_the_enumerated_probabilities():
    p, bars = bars_by_enumeration(), Bars()
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 16).double()  # (65536, 16)
    expected = torch.tensor([p.get(tuple(x), 0.0) for x in every.tolist()], dtype=torch.float64)
    torch.testing.assert_close(bars.log_prob(every).exp(), expected, rtol=1e-12, atol=0)
    assert {tuple(x) for x in bars.patterns().tolist()} == set(p)
    assert len(bars.patterns()) == len(p) == 30
    assert bars.entropy() == pytest.approx(-sum(q * math.log(q) for q in p.values()), rel=1e-12)
    assert bars.log_prob(torch.full((16,), 0.5)) == -math.inf


def test_bars_are_drawn_with_these_probabilities():
    p, n = bars_by_enumeration(), 100_000
    data = Bars().sample(n, seed=7)
    patterns, counts = data.all().unique(dim=0, return_counts=True)
    seen = dict(zip(map(tuple, patterns.tolist()), counts.tolist(), strict=True))
    assert set(seen) <= set(p)
    assert stats.chisquare([seen.get(x, 0) for x in p], [n * q for q in p.values()]).pvalue > P_VALUE
    standing = data.subset(data.labels.nonzero().flatten()).all().reshape(-1, 4, 4)
    assert standing.eq(standing[:, :1]).all()


def test_a_pinwheel_without_width_lies_on_its_arms():
    data = pinwheel(20_000, arms=3, scale=(0.2, 0.0), rate=0.4, seed=8)
    x = torch.view_as_complex(data.values)
    r = x.abs()
    turned = x * torch.exp(-1j * (2 * math.pi * data.labels / 3 + 0.4 * r.exp()))
    torch.testing.assert_close(turned, r.to(turned), atol=1e-5, rtol=0)
    assert stats.kstest(r, stats.norm(1, 0.2).cdf).pvalue > P_VALUE
    assert stats.chisquare(data.labels.bincount()).pvalue > P_VALUE


def test_a_pinwheel_has_width_across_its_arms():
    wide, thin = (torch.view_as_complex(pinwheel(5_000, scale=(0.1, t), seed=9).values) for t in (0.3, 0.0))
    across = (wide - thin) / (1j * thin / thin.abs())
    assert across.imag.abs().max() < 1e-5
    assert stats.kstest(across.real / 0.3, "norm").pvalue > P_VALUE


def test_a_swiss_roll_without_noise_is_a_spiral():
    x = torch.view_as_complex(swiss_roll(20_000, scale=0.0, seed=10).values)
    t = 3 * math.pi * x.abs()
    torch.testing.assert_close(x / x.abs(), torch.exp(1j * t), atol=1e-4, rtol=0)
    assert stats.kstest(t, stats.uniform(1.5 * math.pi, 3 * math.pi).cdf).pvalue > P_VALUE
    noise = swiss_roll(20_000, scale=0.2, seed=10).values - swiss_roll(20_000, scale=0.0, seed=10).values
    assert stats.kstest(noise.flatten() / 0.2, "norm").pvalue > P_VALUE
