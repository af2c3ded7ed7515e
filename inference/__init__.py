"""Engines that fit, judge and diagnose any Pyro model/guide pair; they know no model of ours."""

from inference.bounds import ELBO, IWAE, Bound, Renyi, VRMax, estimate
from inference.checkpoint import CheckpointError
from inference.compare import CrossedBoundsError, Ladder, compare_bounds, paired_difference
from inference.diagnostics import active_units, effective_sample_size, pareto_khat
from inference.draws import log_weights
from inference.fit import DivergedError, Fitted, fit
from inference.flags import flushing_denormals
from inference.graph import GraphWarning
from inference.likelihood import FewParticlesWarning, LogLikelihood, log_likelihood
from inference.objectives import LossParts, Objective, Phase, Task, Variational
from inference.optim import adam, burda_schedule
from inference.runs import Run, RunError
from inference.weights import Weights

__all__ = [
    "ELBO",
    "IWAE",
    "Bound",
    "CheckpointError",
    "CrossedBoundsError",
    "DivergedError",
    "FewParticlesWarning",
    "Fitted",
    "GraphWarning",
    "Ladder",
    "LogLikelihood",
    "LossParts",
    "Objective",
    "Phase",
    "Renyi",
    "Run",
    "RunError",
    "Task",
    "VRMax",
    "Variational",
    "Weights",
    "active_units",
    "adam",
    "burda_schedule",
    "compare_bounds",
    "effective_sample_size",
    "estimate",
    "fit",
    "flushing_denormals",
    "log_likelihood",
    "log_weights",
    "paired_difference",
    "pareto_khat",
]
