"""What running a pair on data shows of it, as plain arrays, so that it can be kept beside a run and read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Components", "Examination", "LatentUse", "Pictures", "Worst", "worst_index"]

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LatentUse:
    """How a guide uses the D units of one latent site that is not discrete.

    Attributes:
        site: its name.
        codes: one draw of the guide for each of n data, `(n, D)`.
        prior: as many draws of the model's own, `(n, D)`.
        variance: over data, of the guide's mean of each unit, `(D,)`.
        threshold: a unit whose variance is above it is active.
        kl: KL(q, p) of each unit, nats per datum, averaged over data, `(D,)`; `(1,)` for the site as a whole where its
            units depend on each other, which is NaN where its law sums over another site.
        kl_se: the standard error of each over data and draws.
        total_kl_se: that of their sum, which is not theirs added up: units move together from datum to datum.
        told_apart: the share of draws of `codes` and `prior` that a classifier tells rightly from each other, on draws
            it was not trained on; 0.5 where guide and prior agree on the whole.
        told_apart_se: its standard error.
    """

    site: str
    codes: Array
    prior: Array
    variance: Array
    threshold: float
    kl: Array
    kl_se: Array
    total_kl_se: float
    told_apart: float
    told_apart_se: float

    @property
    def total_kl(self) -> float:
        """KL(q, p) of the site, nats per datum."""
        return float(self.kl.sum())

    @property
    def active(self) -> int:
        """Units above the threshold."""
        return int((self.variance > self.threshold).sum())


@dataclass(frozen=True, eq=False)
class Components:
    """How data are spread over the C components of a site: clusters, or the pieces of a stick.

    Attributes:
        site: its name.
        share: of the data, by component, `(C,)`.
        entropy: of `share`, nats, from 0 to log C.
        entropy_se: its standard error over data.
        conditional_entropy: of the components given the datum, nats, averaged; from 0 to `entropy`.
        conditional_entropy_se: its standard error over data.
        dead_below: the share below which a component is dead.
        ordered: whether components have an order of their own, as sticks do.
        confusion: data by component and class, `(C, classes)`; `None` without labels, or where these are no clusters.
        scores: of clusters against classes: `accuracy`, `nmi`, `ari`, ...; empty without labels.
        scores_se: their standard errors.
    """

    site: str
    share: Array
    entropy: float
    entropy_se: float
    conditional_entropy: float
    conditional_entropy_se: float
    dead_below: float
    ordered: bool = False
    confusion: Array | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    scores_se: Mapping[str, float] = field(default_factory=dict)

    @property
    def information(self) -> float:
        """What the component says of the datum, nats."""
        return self.entropy - self.conditional_entropy

    @property
    def dead(self) -> tuple[int, ...]:
        """Components whose share is below `dead_below`."""
        return tuple(np.flatnonzero(self.share < self.dead_below).tolist())


@dataclass(frozen=True, eq=False)
class Pictures:
    """What a pair makes, as grey levels from 0 to 1 where data are images, else as rows of numbers.

    Attributes:
        shape: of a datum: `(height, width)` for images, else `(x_dim,)`.
        data: some of those examined, `(m, x_dim)`.
        reconstructions: the mean of each given one draw of its latents from the guide, `(m, x_dim)`.
        samples: means given draws of the latents from the model's prior, `(s, x_dim)`.
        interpolations: means along straight lines in the latents from one datum to another, `(rows, steps, x_dim)`.
    """

    shape: tuple[int, ...]
    data: Array
    reconstructions: Array
    samples: Array
    interpolations: Array

    @property
    def are_images(self) -> bool:
        """Whether a datum has a height and a width."""
        return len(self.shape) == 2


@dataclass(frozen=True, eq=False)
class Worst:
    """The data whose k-hat is highest, the worst first.

    Attributes:
        index: their numbers among the data examined, `(k,)`.
        data: `(k, x_dim)`.
        reconstructions: `(k, x_dim)`.
    """

    index: NDArray[np.int64]
    data: Array
    reconstructions: Array


@dataclass(frozen=True, eq=False)
class Examination:
    """What running a pair on held-out data has shown.

    Attributes:
        per_datum: `value` (the estimate of log p(x), nats), `standard_error`, `khat`, `ess`, a row for each datum.
        num_particles: K, the draws per datum behind `per_datum`.
        data: what the data say of themselves: `name`, `split`, `protocol`, `n`, `sha256`.
        train: the same columns on as many training data; `None` where none were given.
        latents: sites that are not discrete.
        components: sites whose values are components.
        pictures: `None` where the observed site has no mean.
        worst: `None` where the observed site has no mean.
        seconds: what it took.
        missing: what could not be found out, and why, by part.
    """

    per_datum: pd.DataFrame
    num_particles: int
    data: Mapping[str, Any] = field(default_factory=dict)
    train: pd.DataFrame | None = None
    latents: tuple[LatentUse, ...] = ()
    components: tuple[Components, ...] = ()
    pictures: Pictures | None = None
    worst: Worst | None = None
    seconds: float = float("nan")
    missing: Mapping[str, str] = field(default_factory=dict)


def worst_index(khat: Array, k: int) -> NDArray[np.int64]:
    """The numbers of the k data of highest k-hat, the worst first; one that is no number is worse than any.

    >>> worst_index(np.array([0.1, np.nan, 0.9, 0.5]), 3).tolist()
    [1, 2, 3]
    """
    return np.argsort(-np.nan_to_num(khat, nan=np.inf), kind="stable")[:k].astype(np.int64)
