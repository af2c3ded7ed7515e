"""The folder of a run: what was asked, what was done, what came out; nothing reported is ever lost.

`recipe.toml` (what was asked, resolved), `manifest.json` (versions, seed, data, device, wall time, status),
`metrics.jsonl` (appended to, never rewritten), `checkpoint/`, and whatever is evaluated later beside them.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w
import torch

from inference.checkpoint import Checkpoint, CheckpointError, checkpoints, load_checkpoint, write_atomically
from inference.display import fragment

__all__ = ["Run", "RunError"]


class RunError(ValueError):
    """A run folder cannot be used as asked; the message says what to do."""


class Run:
    """A run folder, read or written.

    >>> import tempfile
    >>> run = Run.create(Path(tempfile.mkdtemp()) / "a", manifest={"seed": 0})
    >>> run.log({"step": 1, "loss": 2.0})
    >>> run.metrics()["loss"].tolist()
    [2.0]
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise RunError(f"`{self.folder}` is no run: expected a folder with a manifest.json, as `fit` writes it")

    @classmethod
    def create(cls, folder: str | Path, *, manifest: Mapping[str, Any], recipe: Mapping[str, Any] | None = None) -> Run:
        """Make a run folder; a folder that holds a run already is refused."""
        folder = Path(folder)
        if (folder / "manifest.json").exists():
            raise RunError(f"`out` {folder} holds a run already: resume it, or choose another folder")
        try:
            (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
            if recipe is not None:
                write_atomically(folder / "recipe.toml", tomli_w.dumps(recipe))
            described = {**environment(), **manifest, "status": "started", "started": _now()}
            write_atomically(folder / "manifest.json", json.dumps(described, indent=2) + "\n")
        except OSError as error:
            raise RunError(f"`out` {folder} cannot be written: {error.strerror or error}; choose another") from error
        return cls(folder)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run says of itself."""
        path = self.folder / "manifest.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise RunError(f"`{path}` is not the JSON that `fit` wrote ({error}): restore it, or start again") from None
        return found

    def update(self, **entries: Any) -> None:
        """Change entries of the manifest."""
        write_atomically(self.folder / "manifest.json", json.dumps(self.manifest | entries, indent=2) + "\n")

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to the metrics; it is on its way to the disk when this returns."""
        line = json.dumps({k: _plain(v) for k, v in record.items()}) + "\n"
        path = self.folder / "metrics.jsonl"
        with path.open("ab") as file:
            if file.tell() and not _ends_with_newline(path):
                file.write(b"\n")  # a kill cut the last line short
            file.write(line.encode())

    def metrics(self) -> pd.DataFrame:
        """The metrics, one row per step; where a resumed run reported a step again, what it said last."""
        path = self.folder / "metrics.jsonl"
        records: dict[int, dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut short by a kill, and reported again
            records[record["step"]] = records.get(record["step"], {}) | record
        return pd.DataFrame([records[step] for step in sorted(records)])

    def sync(self) -> None:
        """Have the metrics on the disk."""
        path = self.folder / "metrics.jsonl"
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def write(self, name: str, content: str) -> Path:
        """Write a result beside the others, at once or not at all."""
        path = self.folder / name
        write_atomically(path, content)
        return path

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint, to go on from; `None` where there is none yet."""
        found = checkpoints(self.folder / "checkpoint")
        return load_checkpoint(found[0]) if found else None

    def result(self) -> Checkpoint:
        """The checkpoint to evaluate: the best on validation data where that was asked for, else the newest."""
        found = checkpoints(self.folder / "checkpoint", "best") or checkpoints(self.folder / "checkpoint")
        if not found:
            raise CheckpointError(f"`{self.folder}` has no checkpoint yet: resume it first")
        return load_checkpoint(found[0])

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        try:
            manifest, metrics = self.manifest, self.metrics()
        except (OSError, ValueError) as error:  # a folder that is damaged or gone is shown as that
            return fragment(f"run {self.folder}", notes=[str(error)])
        plain = [f"{name}: {value}" for name, value in manifest.items() if isinstance(value, str | int | float)]
        return fragment(f"run {self.folder}", metrics, plain, most=5, last=True)


def environment() -> dict[str, Any]:
    """Versions and machine, as far as numbers may depend on them."""
    packages = ("ppmodels", "torch", "pyro-ppl", "numpy", "arviz-stats")
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _plain(value: Any) -> Any:
    """JSON has no NaN; a metric that is one is written as text, not lost."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
