"""The report's figures as functions, each of which returns a matplotlib figure: for notebooks, papers and pages.

>>> import pandas as pd
>>> metrics = pd.DataFrame({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.5]})
>>> loss_figure(metrics).axes[0].lines[0].get_ydata().tolist()
[3.0, 2.0, 1.5]
"""

from inference.report.figures.chains import (
    energy_figure,
    evolution_figure,
    forest_figure,
    pair_figure,
    trace_figure,
)
from inference.report.figures.clusters import confusion_figure, usage_figure
from inference.report.figures.differences import differences_figure
from inference.report.figures.guide import guide_figure, khat_figure
from inference.report.figures.latents import kl_figure, projection_figure
from inference.report.figures.leaving_out import loo_khat_figure, loo_pit_figure
from inference.report.figures.outcome import (
    classes_figure,
    filters_figure,
    free_energies_figure,
    per_step_figure,
    scatter_figure,
)
from inference.report.figures.pictures import grid_figure, pairs_figure, strips_figure
from inference.report.figures.predictive import ppc_figure, sensitivity_figure
from inference.report.figures.ranks import rank_figure
from inference.report.figures.style import styled
from inference.report.figures.training import loss_figure, parts_figure

__all__ = [
    "classes_figure",
    "confusion_figure",
    "differences_figure",
    "energy_figure",
    "evolution_figure",
    "filters_figure",
    "forest_figure",
    "free_energies_figure",
    "grid_figure",
    "guide_figure",
    "khat_figure",
    "kl_figure",
    "loo_khat_figure",
    "loo_pit_figure",
    "loss_figure",
    "pair_figure",
    "pairs_figure",
    "parts_figure",
    "per_step_figure",
    "ppc_figure",
    "projection_figure",
    "rank_figure",
    "scatter_figure",
    "sensitivity_figure",
    "strips_figure",
    "styled",
    "trace_figure",
    "usage_figure",
]
