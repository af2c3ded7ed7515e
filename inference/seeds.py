"""Randomness that leaves the caller's untouched."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["permutation", "reseed", "rng_state", "seeded", "set_rng_state", "stream"]


_ALONE = threading.RLock()


@contextmanager
def seeded(seed: int | None, device: torch.device | None = None) -> Iterator[None]:
    """Run a block under its own seed (or, with `None`, on a copy of the present state), then put the state back.

    Raises:
        RuntimeError: if another thread is in such a block: torch's generators and Pyro's handlers serve all threads
            at once, so two would mix.
    """
    if not _ALONE.acquire(blocking=False):
        raise RuntimeError(
            "another thread of this process is running Pyro programs, and torch's generators and Pyro's handlers are "
            "shared by all: expected one at a time; use a process for each, or wait for the other"
        )
    try:
        with _forked(seed, device):
            yield
    finally:
        _ALONE.release()


@contextmanager
def _forked(seed: int | None, device: torch.device | None) -> Iterator[None]:
    devices = [device] if device is not None and device.type == "cuda" else []  # others are left alone
    with torch.random.fork_rng(devices=devices):
        if seed is not None:
            reseed(seed, device)
        yield


def reseed(seed: int, device: torch.device | None = None) -> None:
    """Seed the CPU's generator and, for work on it, that of a CUDA device; no other."""
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        torch.cuda.manual_seed(seed)


def stream(seed: int, purpose: str) -> int:
    """A seed for one purpose among several that must not share their noise: the same for the same two, on any machine.

    >>> stream(0, "simulated data") == stream(0, "draws")
    False
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:7])


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """The state of every generator that training on `device` draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Put back what `rng_state` saved."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def permutation(n: int, *, seed: int, epoch: int) -> Tensor:
    """The order of the data in one epoch: a function of the seed and the epoch alone, so nothing need be saved."""
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + epoch)
    return torch.randperm(n, generator=generator)
