"""Whether a sampler or a guide is right about data whose parameters are known."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from inference.diagnostics import Calibration
from inference.report.blocks import Block, Note, Picture, Section, Table
from inference.report.evidence import Evidence
from inference.report.figures import styled
from inference.report.glossary import terms_for
from inference.report.words import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["calibration"]


def calibration(evidence: Evidence) -> Section | None:
    """Ranks of true values among draws; `None` where nothing was simulated."""
    if evidence.calibration is None:
        return None
    return Section("calibration", "Calibration by simulation", tuple(_blocks(evidence.calibration)))


def _blocks(found: Calibration) -> Iterator[Block]:
    frame, head = found.frame, str(found).splitlines()[0]
    if not found.passed:
        yield Note(f"{head}.", "bad")
    least = frame.sort_values("p_value").iloc[0]
    yield Picture(
        partial(_figure, found),
        f"{head}. The least p-value of uniform ranks is {number(least['p_value'])}, of {least['parameter']}.",
        "Ranks of the true values among the draws, as distribution functions less the uniform one; 95 % of uniform "
        "ranks stay in the band, at every point at once.",
    )
    yield Table("ranks", "Ranks of each parameter's true value", frame, terms_for(map(str, frame.columns)))


def _figure(found: Calibration) -> Figure:
    with styled():
        return found.plot()
