"""What the latents are used for, and what the model makes of its prior."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from inference.report.blocks import Block, Note, Picture, Section, Table
from inference.report.evidence import Evidence
from inference.report.examination import Examination, LatentUse, Pictures
from inference.report.figures import grid_figure, kl_figure, pairs_figure, projection_figure, strips_figure
from inference.report.glossary import terms_for
from inference.report.words import ends, number, percent

__all__ = ["latents"]


def latents(evidence: Evidence) -> Section | None:
    """Units, the prior against the guide's draws over all data, samples, reconstructions; `None` without any."""
    found = evidence.examination
    if found is None or not (found.latents or found.pictures or found.missing):
        return None
    return Section("latents", "Latents, samples and reconstructions", tuple(_blocks(found)))


def _blocks(found: Examination) -> Iterator[Block]:
    for part, why in found.missing.items():
        yield Note(f"There are no {part}: {why}.")
    if found.latents:
        table = pd.DataFrame([_summary(use) for use in found.latents])
        yield Table(
            "latents",
            "Every latent site: its units, its KL from the prior, and how often a classifier tells the guide's draws "
            "over all data from the prior's (0.5 where they agree)",
            table,
            terms_for(map(str, table.columns), **{"KL se": "standard error", "told apart se": "standard error"}),
        )
    for use in found.latents:
        yield from _site(use)
    if found.pictures is not None:
        yield from _pictures(found.pictures)


def _summary(use: LatentUse) -> dict[str, object]:
    return {
        "site": use.site,
        "units": len(use.variance),
        "active": use.active,
        "KL": use.total_kl,
        "KL se": use.total_kl_se,
        "told apart": use.told_apart,
        "told apart se": use.told_apart_se,
    }


def _site(use: LatentUse) -> Iterator[Block]:
    whole = len(use.kl) != len(use.variance)
    if whole or np.isnan(use.kl).all():
        mixed = "mixes over a site that is summed out" if np.isnan(use.kl).all() else "is not one of independent units"
        yield Note(f"The KL of `{use.site}` has no parts by unit: its law {mixed}.")
    else:
        yield Picture(
            partial(kl_figure, use),
            f"KL of each of {len(use.kl)} units of {use.site}, {number(np.nansum(use.kl))} nats in all, "
            f"{number(ends(use.kl)[2])} at most; {use.active} units are active.",
            f"KL(q, p) of each unit of {use.site}, with two standard errors; nats per datum.",
        )
    yield Picture(
        partial(projection_figure, use),
        f"Draws of {use.site} from the prior, and from the guide over {len(use.codes)} data; a classifier tells them "
        f"apart in {percent(use.told_apart, use.told_apart_se)} of cases.",
        f"The prior of {use.site}, and the guide's draws over all data: where only the prior reaches, samples come "
        "from where no datum is.",
    )
    units = pd.DataFrame({"unit": np.arange(len(use.variance)), "activity": use.variance})
    units["active"] = np.where(use.variance > use.threshold, "yes", "no")
    if not whole:
        units["KL"], units["KL se"] = use.kl, use.kl_se
    terms = terms_for(map(str, units.columns), **{"KL se": "standard error"})
    yield Table(f"units-{use.site}", f"Units of {use.site}; KL in nats per datum", units, terms, top=10)


def _pictures(found: Pictures) -> Iterator[Block]:
    kind = "images" if found.are_images else "data"
    if len(found.data):
        mse = float(((found.data - found.reconstructions) ** 2).mean())
        yield Picture(
            partial(pairs_figure, found.data, found.reconstructions, found.shape),
            f"{len(found.data)} {kind} over their reconstructions; the root mean square difference is "
            f"{number(math.sqrt(mse))}.",
            "Held-out data, and below each the mean of the data given one draw of its latents from the guide.",
        )
    if len(found.samples):
        yield Picture(
            partial(grid_figure, found.samples, found.shape),
            f"{len(found.samples)} {kind} that the model makes of draws of its prior.",
            "Means of the data given draws of the latents from the model's own prior.",
        )
    if len(found.interpolations):
        rows, steps = found.interpolations.shape[:2]
        yield Picture(
            partial(strips_figure, found.interpolations, found.shape),
            f"{rows} ways of {steps} steps between the latents of two {kind} each.",
            "Means of the data along straight lines in the latents, from the guide's draw for one datum to that for "
            "another.",
        )
