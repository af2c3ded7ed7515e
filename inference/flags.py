"""Validation of distributions, switched for a block and put back: Pyro's own switch and torch's, which it sets too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
from torch.distributions import Distribution

__all__ = ["validating"]


@contextmanager
def validating(*, enabled: bool) -> Iterator[None]:
    """Run a block with validation on or off; both flags are then as they were."""
    before = Distribution._validate_args
    try:
        with pyro.validation_enabled(enabled):
            yield
    finally:
        Distribution.set_default_validate_args(before)
