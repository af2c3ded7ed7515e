r"""Which modes of a known mixture the samples reach: what a generator that collapses does not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import torch
from scipy.stats import chi2
from torch import Tensor

from inference.display import fragment
from inference.samples.distances import as_rows, distance_blocks

__all__ = ["ModeCoverage", "modes_covered"]

LEAST = 0.1
"""A mode is covered if it holds this part of an equal share, where the caller does not say how much."""


@dataclass(frozen=True, eq=False)
class ModeCoverage:
    """How S samples are spread over C modes.

    Attributes:
        counts: samples within reach of each mode, `(C,)`.
        num_samples: S.
        least_share: of the samples, that a mode must hold to be covered.
        expected_quality: what `quality` is for the mixture itself, if its modes are Gaussian.
    """

    counts: Tensor
    num_samples: int
    least_share: float
    expected_quality: float

    @property
    def share(self) -> Tensor:
        """Of all samples, by mode, `(C,)`; they sum to `quality`."""
        return self.counts / self.num_samples

    @property
    def covered(self) -> int:
        """How many modes hold at least `least_share` of the samples."""
        return self.num_modes - len(self.missed)

    @property
    def missed(self) -> tuple[int, ...]:
        """The modes that hold less."""
        return tuple((self.share < self.least_share).nonzero().flatten().tolist())

    @property
    def num_modes(self) -> int:
        """C."""
        return len(self.counts)

    @property
    def quality(self) -> float:
        """Share of the samples that are within reach of a mode."""
        return float(self.counts.sum() / self.num_samples)

    @property
    def quality_se(self) -> float:
        """Its binomial standard error."""
        return math.sqrt(self.quality * (1 - self.quality) / self.num_samples)

    @property
    def tv(self) -> float:
        """Total variation of the modes' shares of the samples within reach from equal ones; NaN if there are none."""
        return float((self.counts / self.counts.sum() - 1 / self.num_modes).abs().sum() / 2)

    @property
    def tv_by_chance(self) -> float:
        """What `tv` is on average for equal shares and as many samples within reach (by normal approximation)."""
        reached = max(int(self.counts.sum()), 1)
        return math.sqrt((self.num_modes - 1) / (2 * math.pi * reached))

    def to_frame(self) -> pd.DataFrame:
        """One row per mode."""
        columns = {"mode": range(self.num_modes), "samples": self.counts.tolist(), "share": self.share.tolist()}
        return pd.DataFrame(columns).assign(covered=(self.share >= self.least_share).tolist())

    def __str__(self) -> str:
        return (
            f"{self.covered} of {self.num_modes} modes hold {100 * self.least_share:.3g} % of {self.num_samples} "
            f"samples or more; {self.quality:.1%} are within reach of one ({self.expected_quality:.1%} expected), "
            f"total variation from equal shares {self.tv:.3f} ({self.tv_by_chance:.3f} by chance)"
        )

    def _repr_html_(self) -> str:
        return fragment(str(self), self.to_frame())


def modes_covered(
    samples: Tensor,
    centres: Tensor,
    *,
    scale: float,
    within: float = 3.0,
    least_share: float | None = None,
    chunk: int | None = None,
) -> ModeCoverage:
    r"""Count the samples near each mode of a mixture of equal parts :math:`\mathcal N(c_j, \sigma^2 I)`.

    A sample belongs to its nearest mode, if it is within so many standard deviations of it, and to none otherwise.

    Args:
        samples: `(S, d)`.
        centres: the modes, `(C, d)`.
        scale: :math:`\sigma`, in the units of the data.
        within: the reach of a mode in standard deviations; 3 in two dimensions hold 98.9 % of it.
        least_share: of the samples, that make a mode covered; by default a tenth of an equal share.
        chunk: samples at a time; by default as many as keep memory bounded.

    Raises:
        TypeError: samples or centres are no tensors of floats.
        ValueError: they are empty, not finite or of different widths, or a number is out of range.

    References:
        Srivastava, Valkov, Russell, Gutmann and Sutton, *VEEGAN: Reducing Mode Collapse in GANs using Implicit
        Variational Learning*, 2017, arXiv 1705.07761, section 4.1.

    >>> modes_covered(torch.tensor([[0.0], [0.1], [5.0], [9.0]]), torch.tensor([[0.0], [5.0]]), scale=0.1).counts
    tensor([2, 1])
    """
    x, modes = as_rows(samples=samples, centres=centres)
    C, d = modes.shape
    for name, value in (("scale", scale), ("within", within)):
        if not 0 < value < math.inf:
            raise ValueError(f"`{name}` is {value}, expected a positive number")
    least = LEAST / C if least_share is None else least_share
    if not 0 < least <= 1:
        raise ValueError(f"`least_share` is {least}, expected a share of the samples above 0 and up to 1")
    counts = torch.zeros(C, dtype=torch.long, device=x.device)
    for squared in distance_blocks(x, modes, chunk):  # (rows, C)
        least_squared, nearest = squared.min(1)  # (rows,)
        counts += torch.bincount(nearest[least_squared <= (within * scale) ** 2], minlength=C)
    return ModeCoverage(counts, len(x), least, float(chi2.cdf(within**2, d)))
