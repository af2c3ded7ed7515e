"""Components that nobody uses, and guides that do not look: found and said, not hidden."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import pandas as pd
import torch
from torch import Tensor

from inference.assignments import assign, discrete_sites
from inference.batches import as_data, device_of
from inference.codes import latent_codes
from inference.diagnostics.units import ActiveUnits, active_units
from inference.display import fragment
from inference.pair import Pair
from inference.seeds import seeded
from inference.truth import without_labels
from inference.usage import ComponentUsage, component_usage
from ppmodels.contracts import Batch, Data, Program

__all__ = ["Collapse", "CollapseWarning", "find_collapse"]


class CollapseWarning(UserWarning):
    """A guide uses some of its components or units alone, or does not look at the datum."""


@dataclass(frozen=True, eq=False)
class Collapse:
    """How a pair uses its components and its latent units.

    Attributes:
        components: by site.
        units: of sites that are not discrete.
    """

    components: Mapping[str, ComponentUsage]
    units: ActiveUnits

    def findings(self) -> tuple[str, ...]:
        """What is wrong, and what to do about it, in a sentence each; none where nothing is."""
        of_components = [finding for usage in self.components.values() for finding in usage.findings()]
        return *of_components, *_inactive(self.units)

    def warn(self) -> Self:
        """Warn of every finding."""
        for finding in self.findings():
            warnings.warn(finding, CollapseWarning, stacklevel=2)
        return self

    def __str__(self) -> str:
        lines = [*map(str, self.components.values()), *([str(self.units)] if self.units.variance else [])]
        return "\n".join([*lines, *self.findings()])

    def _repr_html_(self) -> str:
        rows = [
            {
                "site": site,
                "components": usage.num_components,
                "in effect": usage.effective,
                "dead": len(usage.dead),
                "usage entropy": usage.entropy,
                "its s.e.": usage.entropy_se,
                "given the datum": usage.conditional_entropy,
                "s.e. of that": usage.conditional_entropy_se,
            }
            for site, usage in self.components.items()
        ]
        findings = self.findings()
        headline = f"findings: {len(findings)}, on the use of components and units"
        page = fragment(headline, pd.DataFrame(rows), findings)
        return page + self.units._repr_html_() if self.units.variance else page


def find_collapse(
    model: Program,
    guide: Program,
    data: Data | Batch,
    *,
    shares: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    num_particles: int = 10,
    batch_size: int = 100,
    seed: int = 0,
) -> Collapse:
    """Look for components that nobody uses, sites that ignore the datum, and units that stand still.

    Every discrete site is judged by its probabilities given the datum, every other by its active units.

    Args:
        model: any Pyro callable.
        guide: any Pyro callable over the same latent sites.
        data: a few hundred are enough.
        shares: latent sites that are shares of components once a function is applied to their draws `(n, z_dim)`, such
            as weights of sticks from their logits.
        num_particles: draws per datum to average probabilities over; ten times as many for the units.
        batch_size: data at a time.
        seed: seeds the draws.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         y = pyro.sample("y", dist.Categorical(torch.ones(3)))
    ...         pyro.sample("x", dist.Normal(1.0 * y, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("y", dist.Categorical(torch.ones(3)))
    >>> print(find_collapse(model, guide, torch.randn(20)))
    `y`: 3.0 of 3 components in effect (usage entropy 1.099 nats, given the datum 1.099), 0 dead
    `y` ignores the data: its entropy given the datum is 1.10 nats of 1.10 at most, so it says 0.00 nats about it;
    let a latent's prior depend on it, or give labels to some data
    """
    data, found = without_labels(as_data(data)), {}
    with seeded(seed, device_of(data)):
        first = data.batch(torch.arange(min(batch_size, len(data))))
    for site in discrete_sites(Pair(model, guide), first):
        r = assign(model, guide, data, site=site, num_particles=num_particles, batch_size=batch_size, seed=seed)
        found[site] = component_usage(r, name=site)
    for site, function in (shares or {}).items():
        codes = latent_codes(model, guide, data, site, draw=True, batch_size=batch_size, seed=seed)
        found[site] = component_usage(function(codes), name=site)
    units = active_units(model, guide, data, num_particles=10 * num_particles, batch_size=batch_size, seed=seed)
    others = {site: variance for site, variance in units.variance.items() if site not in found}
    return Collapse(found, ActiveUnits(others, units.threshold))


def _inactive(units: ActiveUnits) -> Iterator[str]:
    for site, variance in units.variance.items():
        still = int((variance <= units.threshold).sum())
        if still:
            yield (
                f"`{site}` has {still} inactive of {variance.numel()} units, whose mean is the same whatever "
                "the datum: let the KL rise slowly, weaken the decoder, or ask for fewer units"
            )
