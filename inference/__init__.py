"""Engines that fit, judge and diagnose any Pyro model/guide pair; they know no model of ours."""

from inference.annealing import AnnealingWarning, ais, bdmc
from inference.bounds import (
    AIS,
    CIWAE,
    CUBO,
    ELBO,
    EUBO,
    IWAE,
    MIWAE,
    PIWAE,
    TVO,
    Bound,
    Renyi,
    ReverseAIS,
    Split,
    VRMax,
    bound,
    estimate,
)
from inference.bracket import Bracket, paired_difference
from inference.checkpoint import CheckpointError
from inference.compare import CrossedBoundsError, Ladder, compare_bounds
from inference.diagnostics import active_units, effective_sample_size, pareto_khat
from inference.draws import log_weights
from inference.estimators import (
    STL,
    VIMCO,
    DReG,
    Enumeration,
    GumbelSoftmax,
    Pathwise,
    ReweightedWakeSleep,
    ScoreFunction,
    StraightThrough,
    ThermodynamicCovariance,
    enumerate_latents,
)
from inference.fit import DivergedError, Fitted, fit
from inference.flags import flushing_denormals
from inference.gradient_snr import GradientSNR, gradient_snr
from inference.graph import GraphWarning
from inference.likelihood import FewParticlesWarning, LogLikelihood, log_likelihood
from inference.objectives import LossParts, Objective, Phase, Task, Variational
from inference.optim import adam, burda_schedule
from inference.runs import Run, RunError
from inference.schedule import Annealing
from inference.simulate import Simulated, simulate
from inference.weights import Weights

__all__ = [
    "AIS",
    "CIWAE",
    "CUBO",
    "ELBO",
    "EUBO",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "STL",
    "TVO",
    "VIMCO",
    "Annealing",
    "AnnealingWarning",
    "Bound",
    "Bracket",
    "CheckpointError",
    "CrossedBoundsError",
    "DReG",
    "DivergedError",
    "Enumeration",
    "FewParticlesWarning",
    "Fitted",
    "GradientSNR",
    "GraphWarning",
    "GumbelSoftmax",
    "Ladder",
    "LogLikelihood",
    "LossParts",
    "Objective",
    "Pathwise",
    "Phase",
    "Renyi",
    "ReverseAIS",
    "ReweightedWakeSleep",
    "Run",
    "RunError",
    "ScoreFunction",
    "Simulated",
    "Split",
    "StraightThrough",
    "Task",
    "ThermodynamicCovariance",
    "VRMax",
    "Variational",
    "Weights",
    "active_units",
    "adam",
    "ais",
    "bdmc",
    "bound",
    "burda_schedule",
    "compare_bounds",
    "effective_sample_size",
    "enumerate_latents",
    "estimate",
    "fit",
    "flushing_denormals",
    "gradient_snr",
    "log_likelihood",
    "log_weights",
    "paired_difference",
    "pareto_khat",
    "simulate",
]
