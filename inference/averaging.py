"""A number for each datum with its error, and what they come to on average."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["PerDatum"]


class PerDatum:
    """What has a value and a standard error for each of n data.

    Attributes:
        value: nats, `(n,)`.
        standard_error: of the draws, the data fixed, `(n,)`.
    """

    value: Tensor
    standard_error: Tensor

    @property
    def mean(self) -> float:
        """Average over the data, nats per datum."""
        return float(self.value.mean())

    @property
    def mean_se(self) -> float:
        """Standard error of `mean` if the data are a sample of a population; draws included."""
        return float(self.value.std()) / math.sqrt(len(self.value)) if len(self.value) > 1 else math.nan

    @property
    def mean_mc_se(self) -> float:
        """Standard error of `mean` for these very data: the draws alone."""
        return float(self.standard_error.square().sum().sqrt()) / len(self.value)
