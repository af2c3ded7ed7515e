"""The sections of a page, each from the evidence of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from inference.report.blocks import Note, Section
from inference.report.evidence import Evidence
from inference.report.sections.calibration import calibration
from inference.report.sections.chains import chains
from inference.report.sections.clusters import clusters
from inference.report.sections.comparison import comparison
from inference.report.sections.density import density
from inference.report.sections.drawn import drawn, draws
from inference.report.sections.guide import guide
from inference.report.sections.ladder import ladder
from inference.report.sections.latents import latents
from inference.report.sections.predictive import predictive
from inference.report.sections.provenance import provenance
from inference.report.sections.training import training
from inference.report.verdict import Verdict

__all__ = ["comparison", "sections_of"]

PARTS: dict[str, tuple[str, Callable[[Evidence], Section | None], str]] = {
    "training": ("Training", training, "nothing was trained here, or its metrics are gone"),
    "ladder": ("Both sides of log p(x)", ladder, "no bound was evaluated: `compare_bounds`, `ppmodels bounds RUN`"),
    "density": ("What is known of log p(x)", density, "the model was not evaluated: `ppmodels evaluate RUN`"),
    "drawn": ("What it draws", drawn, "nothing was drawn: `ppmodels evaluate RUN`"),
    "draws": ("What its draws say", draws, "no draws were judged: `ppmodels evaluate RUN --samples`"),
    "guide": ("The guide, datum by datum", guide, "the pair was not examined: `examine`, `ppmodels report RUN`"),
    "latents": ("Latents, samples and reconstructions", latents, "the pair was not examined: `examine`"),
    "clusters": ("Clusters and sticks", clusters, "the pair has no site of components, or was not examined"),
    "chains": ("Draws of the posterior", chains, "no posterior was drawn from: `sample`, `ppmodels mcmc`"),
    "predictive": ("Data, predictions and the prior", predictive, "there are no predictions to hold the data against"),
    "calibration": ("Calibration by simulation", calibration, "it was not simulated: `sbc`"),
    "provenance": ("Provenance", provenance, ""),
}
"""By id: the title, the section, and why it is not there where it is not."""


def sections_of(evidence: Evidence, verdict: Verdict) -> Iterator[Section]:
    """What there is of a run; a section that a judgement points at and that is not there says why.

    A section that cannot be made is named in its place, and the others are there; a page does the same for a figure.
    """
    pointed_at = {one.section for one in (*verdict.judgements, *verdict.others)}
    for name, (title, make, why) in PARTS.items():
        try:
            section = make(evidence)
        except Exception as error:  # whatever the numbers of a broken run do to a plot, its report is written
            note = Note(f"This section could not be made: {type(error).__name__}: {error}", "doubt")
            section = Section(name, title, (note,))
        if section is None and name in pointed_at:
            section = Section(name, title, (Note(f"Not in this report: {why}."),))
        if section is not None:
            yield replace(section, run=evidence.name)
