r"""Which latent dimensions a guide uses."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.batches import as_data, batches, device_of
from inference.display import fragment, spread
from inference.evaluation import inspect_for_evaluation
from inference.pair import Pair
from inference.particles import draw_latents
from inference.seeds import seeded
from ppmodels.contracts import Batch, Data, Program

__all__ = ["ActiveUnits", "active_units"]


@dataclass(frozen=True, eq=False)
class ActiveUnits:
    """How far a guide moves each latent dimension as the datum changes.

    Attributes:
        variance: per site, the variance over data of the guide's mean, one number per dimension.
        threshold: a unit above it is active.
    """

    variance: dict[str, Tensor]
    threshold: float

    @property
    def count(self) -> dict[str, int]:
        """Active units per site."""
        return {site: int((v > self.threshold).sum()) for site, v in self.variance.items()}

    def __str__(self) -> str:
        return ", ".join(f"{site}: {self.count[site]} of {v.numel()} active" for site, v in self.variance.items())

    def _repr_html_(self) -> str:
        sizes = [v.numel() for v in self.variance.values()]
        table = spread({site: v.cpu().numpy() for site, v in self.variance.items()})
        if sizes:
            table = table.rename(columns={"of": "site"})
            table.insert(1, "active", [*self.count.values()])
            table.insert(2, "units", sizes)
        note = f"a unit is active where its mean has a variance above {self.threshold:g}; the numbers are variances"
        return fragment(f"{sum(self.count.values())} of {sum(sizes)} units active", table, [note])


def active_units(
    model: Program,
    guide: Program,
    data: Data | Batch,
    *,
    threshold: float = 0.01,
    num_particles: int = 100,
    batch_size: int = 100,
    seed: int = 0,
) -> ActiveUnits:
    r"""Units u with :math:`\mathrm{Var}_x(\mathbb{E}_{q(z \mid x)}[z_u]) > 0.01`.

    The inner mean is over draws of the whole guide, so it is right for layers that depend on others; the variance it
    adds, the draws' own over K, is taken off.

    Args:
        model: the model, whose latent sites are counted.
        guide: the guide.
        data: the data the variance is over; a few hundred are enough.
        threshold: variance from which a unit counts as active.
        num_particles: draws per datum for the inner mean.
        batch_size: data at a time.
        seed: seeds the draws.

    References:
        Burda, Grosse and Salakhutdinov, *Importance Weighted Autoencoders*, 2016, arXiv 1509.00519.
    """
    data = as_data(data)
    if len(data) < 2:
        raise ValueError("`data` is one datum, expected at least two: activity is a variance over data")
    if num_particles < 2:
        raise ValueError(
            f"`num_particles` is {num_particles}, expected at least 2: the draws' own variance is taken off"
        )
    pair, layout = Pair(model, guide), None
    means: dict[str, list[Tensor]] = defaultdict(list)
    noise: dict[str, list[Tensor]] = defaultdict(list)
    with seeded(seed, device_of(data)), pair.mode(training=False), torch.no_grad():
        for batch in batches(data, batch_size):
            layout = layout or inspect_for_evaluation(pair, batch)
            for site, z in draw_latents(pair, batch, num_particles, layout).items():  # (K, n, *event)
                z = z.flatten(2) if z.dim() > 2 else z.unsqueeze(-1)  # (K, n, z_dim)
                z = z if z.is_floating_point() else z.double()
                means[site].append(z.mean(0))
                noise[site].append(z.var(0) / num_particles)
    variance = {k: torch.cat(means[k]).var(0) - torch.cat(noise[k]).mean(0) for k in means}
    return ActiveUnits({k: v.clamp_min(0) for k, v in variance.items()}, threshold)
