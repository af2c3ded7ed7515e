"""Is this machine fit to work on? Versions, devices, a compiler, the data, and whose packages are imported."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any, Literal

import torch

import ppmodels
from ppmodels import sources

__all__ = ["examine"]

State = Literal["ok", "missing", "bad"]

NEEDED = (
    "ppmodels",
    "torch",
    "pyro-ppl",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "arviz-base",
    "arviz-stats",
    "safetensors",
)
WELCOME = ("zuko", "nutpie")
FILES = {"mnist": "train-images-idx3-ubyte.gz", "omniglot": "chardata.mat"}


def examine() -> list[dict[str, Any]]:
    """One row per finding: what it is about, what was found, and "ok", "missing" (one can do without) or "bad"."""
    rows = [("python", platform.python_version(), "ok"), *_versions(), *_devices(), *_data(), *_packages()]
    return [dict(zip(("what", "found", "state"), row, strict=True)) for row in rows]


def _versions() -> Iterator[tuple[str, str, State]]:
    for name in (*NEEDED, *WELCOME):
        try:
            yield name, version(name), "ok"
        except PackageNotFoundError:
            yield name, "not installed", "missing" if name in WELCOME else "bad"


def _devices() -> Iterator[tuple[str, str, State]]:
    yield "cpu", f"{torch.get_num_threads()} threads on {os.cpu_count()} cores", "ok"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield "cuda", ", ".join(names) or "no device", "ok" if names else "missing"
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
    yield "C++ compiler", compiler or "none of $CXX, c++, g++, clang++", "ok" if compiler else "missing"


def _data() -> Iterator[tuple[str, str, State]]:
    """Where the files of a dataset lie, or where they were looked for."""
    for name, file in FILES.items():
        path = sources.find(file)
        looked = f"not in {', '.join(map(str, sources.places()))}; downloaded when asked for"
        yield name, str(path.parent) if path else looked, "ok" if path else "missing"


def _packages() -> Iterator[tuple[str, str, State]]:
    """Whether anything else is called like our packages, here or among what is installed."""
    home = Path(ppmodels.__file__).parents[1]
    installed = packages_distributions()
    for name in ("guides", "inference"):
        others = [other for other in installed.get(name, []) if other != "ppmodels"]
        here = [path for path in (Path(f"{name}.py"), Path(name)) if path.exists() and path.resolve() != home / name]
        if others:
            yield name, f"also installed by {', '.join(others)}: uninstall one of the two", "bad"
        elif here:
            yield name, f"{here[0].resolve()} is imported in its place by Python started here: rename it", "bad"
        else:
            yield name, str(home / name), "ok"
