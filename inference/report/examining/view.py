"""A pair with the data it is looked at on: what the parts of an examination share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine
from pyro.distributions import Delta, Unit
from pyro.poutine import Trace
from torch import Tensor

from inference.batches import TensorData, as_data, device_of, read_once
from inference.evaluation import inspect_for_evaluation
from inference.flags import validating
from inference.layout import Layout
from inference.pair import Pair, call
from inference.seeds import seeded, stream
from inference.sites import Site, sample_sites
from inference.truth import labels_of, without_labels
from inference.unobserving import unobserved
from ppmodels.contracts import Batch, Data, Program

__all__ = ["View", "rows_of"]


@dataclass(frozen=True, eq=False)
class View:
    """A pair and data, each read once and their labels kept from the programs.

    Attributes:
        pair: the model and its guide.
        data: the data as the programs see them.
        layout: how the pair is run, its strata drawn like other sites.
        labels: a class for each datum, `(n,)`, to judge by; `None` where there are none.
        shape: of a datum, where the data say.
        described: what the data say of themselves.
        seed: seeds whatever is drawn.
    """

    pair: Pair
    data: TensorData
    layout: Layout
    labels: NDArray[np.int64] | None
    shape: tuple[int, ...]
    described: dict[str, Any]
    seed: int

    @classmethod
    def of(cls, model: Program, guide: Program, data: Data | Batch, seed: int) -> View:
        """Look at a pair on data."""
        given = as_data(data)
        read = read_once(without_labels(given), seed)
        pair = Pair(model, guide)
        with seeded(seed, device_of(read)), pair.mode(training=False), torch.no_grad():
            layout = inspect_for_evaluation(pair, read.batch(torch.arange(min(100, len(read))))).without_strata()
        labels = None if getattr(given, "labels", None) is None else labels_of(given, "data")  # type: ignore[arg-type]
        shape = tuple(getattr(given, "shape", ()))
        return cls(pair, read, layout, labels, shape, given.describe(), seed)

    def batch(self, index: Tensor) -> Batch:
        """Rows of the data, in turn from the first again where there are fewer."""
        return self.data.batch(index % len(self.data))

    @contextmanager
    def running(self, purpose: str) -> Iterator[None]:
        """As programs are run to look at them: without gradients, in evaluation mode, under a seed of the purpose."""
        seed, device = stream(self.seed, purpose), device_of(self.data)
        with seeded(seed, device), self.pair.mode(training=False), torch.no_grad(), validating(enabled=False):
            yield

    def dreamed(self, batch: Batch) -> Trace:
        """A run of the model that draws what it observes, as many data as the batch has."""
        return poutine.trace(unobserved(lambda: call(self.pair.model, batch))).get_trace()

    def observed(self, trace: Trace) -> Site:
        """The site of the data: of what the model observes, that with most numbers in a datum.

        Raises:
            ValueError: if the model observes nothing.
        """
        sites = [site for name, site in sample_sites(trace).items() if name not in self.layout.latents]
        seen = [site for site in sites if site["name"] not in self.layout.enumerated and not _is_fixed(site)]
        if not seen:
            raise ValueError("`model` observes nothing that could be drawn, expected a site with `obs=x`")
        return max(seen, key=lambda site: site["value"].numel())

    def means(self, trace: Trace, shares: Tensor | None = None) -> Tensor:
        """The mean of each datum given the latents of a run, `(n, x_dim)`.

        Args:
            trace: the run.
            shares: where a site is summed out in it, the probabilities of its values for each datum, `(n, C)`.

        Raises:
            ValueError: if the distribution of the data does not know its mean.
        """
        site = self.observed(trace)
        shape = site["value"].shape
        try:
            mean: Tensor = site["fn"].mean
        except NotImplementedError:
            law = type(site["fn"]).__name__
            raise ValueError(f"site `{site['name']}` is {law}, which does not know its mean") from None
        extra = mean.dim() - len(shape)
        if extra <= 0:
            return rows_of(mean.expand(shape), site, self.layout)
        C = mean.shape[:extra].numel()
        if shares is None or shares.shape[1] != C:
            raise ValueError(f"site `{site['name']}` has a mean for each value of several sites that are summed out")
        each = mean.reshape(C, *mean.shape[extra:]).expand(C, *shape)
        rows = torch.stack([rows_of(one, site, self.layout) for one in each], 1)  # (n, C, x_dim)
        return (shares.to(rows).unsqueeze(-1) * rows).sum(1)

    def values(self, trace: Trace) -> Tensor:
        """The data of a run, `(n, x_dim)`."""
        site = self.observed(trace)
        return rows_of(site["value"], site, self.layout)


def rows_of(value: Tensor, site: Site, layout: Layout) -> Tensor:
    """A site's value with the data's axis first and all others flattened, `(n, D)`."""
    rows = value.movedim(layout.data_dim - site["fn"].event_dim, 0)
    return rows.flatten(1) if rows.dim() > 1 else rows.unsqueeze(-1)


def _is_fixed(site: Site) -> bool:
    return isinstance(site["fn"], Delta | Unit) or bool(site["infer"].get("_deterministic"))
