"""Process-wide switches, set for a block and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from torch.distributions import Distribution

__all__ = ["default_dtype", "exchanged", "flushing_denormals", "validating"]


@contextmanager
def validating(*, enabled: bool) -> Iterator[None]:
    """Run a block with validation of distributions on or off: Pyro's flag, and torch's, which it sets too."""
    before = Distribution._validate_args
    try:
        with pyro.validation_enabled(enabled):
            yield
    finally:
        Distribution.set_default_validate_args(before)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Run a block in which floats that are made without a type have this one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def exchanged(*parts: tuple[Any, str, Any]) -> Iterator[None]:
    """Run a block with parts of other libraries in the form that it needs: owner, name, and what stands there."""
    before = [getattr(owner, name) for owner, name, _ in parts]
    for owner, name, value in parts:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(parts, before, strict=True):
            setattr(owner, name, value)


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Have a CPU take numbers below 1e-38 for zero while a block runs; then as it was.

    Denormal numbers are worked on in microcode, and a step full of them takes four times as long. The bounds here mask
    the weights they used to come from; this is for programs that make their own. The flag belongs to the thread that
    sets it and to those it starts afterwards.

    Raises:
        RuntimeError: if this CPU cannot.

    >>> tiny = torch.tensor(1e-38)
    >>> with flushing_denormals():
    ...     flushed = tiny / 10
    >>> flushed == 0, tiny / 10 == 0
    (tensor(True), tensor(False))
    """
    before = bool(torch.tensor(1e-38) / 10 == 0)
    if not torch.set_flush_denormal(True):
        raise RuntimeError("this CPU cannot flush denormal numbers to zero: leave `flushing_denormals` out")
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
