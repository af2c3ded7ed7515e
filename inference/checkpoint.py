"""Checkpoints that survive a kill, a full disk and a curious editor.

A checkpoint is a folder, written under a temporary name, synced, and renamed: it is whole or absent. Its JSON holds
the digests of the other two files, so that a truncated or edited one is refused and the one before it named.
No classes are pickled: weights are safetensors, optimiser and random state load with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "checkpoints",
    "load_checkpoint",
    "save_checkpoint",
    "write_atomically",
]

FORMAT = 1
Kind = Literal["step", "best"]


class CheckpointError(OSError):
    """A checkpoint cannot be written or read; the message says which, why, and what is still there."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run after `step` updates.

    Attributes:
        step: updates done.
        parameters: parameters and buffers by name.
        training: optimiser, schedule and random state: tensors and plain values.
        progress: plain values of the loop (best validation score, seconds, ...).
    """

    step: int
    parameters: Mapping[str, Tensor]
    training: Mapping[str, Any]
    progress: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, kind: Kind = "step", keep: int = 2) -> Path:
    """Write a checkpoint and drop all but the newest `keep` of its kind.

    Raises:
        CheckpointError: if it cannot be written; those before it are left as they were.
    """
    target = folder / f"{kind}-{checkpoint.step:09d}"
    temporary = folder / f".{target.name}.{os.getpid()}"
    tensors = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in checkpoint.parameters.items()}
    training = io.BytesIO()
    torch.save(dict(checkpoint.training), training)
    files = {"parameters.safetensors": save_safetensors(tensors), "training.pt": training.getvalue()}
    meta: dict[str, Any] = {
        "format": FORMAT,
        "step": checkpoint.step,
        "progress": dict(checkpoint.progress),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    meta["sha256"]["checkpoint.json"] = _digest(meta)
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        for name, content in (files | {"checkpoint.json": json.dumps(meta, indent=2).encode()}).items():
            _write(temporary / name, content)
        if target.exists():
            _discard(target)
        temporary.rename(target)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"checkpoint {target} cannot be written: {error.strerror or error}; {_survivors(folder, 'it')}"
        ) from error
    for old in checkpoints(folder, kind)[keep:]:
        _discard(old)
    for left_by_a_kill in folder.glob(".*-*"):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    return target


def checkpoints(folder: Path, kind: Kind = "step") -> list[Path]:
    """The whole checkpoints of a kind, newest first."""
    return sorted((p for p in folder.glob(f"{kind}-*") if re.fullmatch(rf"{kind}-\d{{9}}", p.name)), reverse=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back, refusing one that was truncated or changed.

    Raises:
        CheckpointError: naming the file, what is wrong with it, and the checkpoint that is still good.
    """
    try:
        meta = json.loads((path / "checkpoint.json").read_text())
        files = {name: (path / name).read_bytes() for name in ("parameters.safetensors", "training.pt")}
        if meta["format"] != FORMAT:
            raise _bad(path, "checkpoint.json", f"has format {meta['format']}, expected {FORMAT}")
        if _digest(meta) != meta["sha256"]["checkpoint.json"]:
            raise _bad(path, "checkpoint.json", "is not what was written")
        for name, content in files.items():
            if hashlib.sha256(content).hexdigest() != meta["sha256"][name]:
                raise _bad(path, name, f"is not what was written ({len(content)} bytes, another sha256)")
        return Checkpoint(
            step=int(meta["step"]),
            parameters=load_safetensors(files["parameters.safetensors"]),
            training=torch.load(io.BytesIO(files["training.pt"]), weights_only=True),
            progress=dict(meta["progress"]),
        )
    except FileNotFoundError as error:
        raise _bad(path, Path(error.filename).name, "is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise _bad(path, "checkpoint.json", f"cannot be read ({type(error).__name__}: {error})") from None


def _digest(meta: Mapping[str, Any]) -> str:
    """SHA-256 of what a checkpoint says of itself, less this very digest."""
    files = {name: digest for name, digest in meta["sha256"].items() if name != "checkpoint.json"}
    return hashlib.sha256(json.dumps({**meta, "sha256": files}, sort_keys=True).encode()).hexdigest()


def write_atomically(path: Path, content: str) -> None:
    """Replace a file's content at once: readers see the old or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    _write(temporary, content.encode())
    temporary.replace(path)


def _bad(path: Path, name: str, why: str) -> CheckpointError:
    return CheckpointError(f"checkpoint {path}: {name} {why}; {_survivors(path.parent, path.name)}")


def _survivors(folder: Path, without: str) -> str:
    others = [p.name for p in checkpoints(folder) if p.name != without]
    if not others:
        return "there is no other checkpoint beside it"
    return f"{others[0]} is still there: remove the bad one and resume from that"


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    """Take a checkpoint out of sight before deleting it, so that a kill in between leaves no half of it."""
    hidden = path.with_name(f".{path.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
