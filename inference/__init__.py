"""Engines that fit, judge and diagnose any Pyro model/guide pair; they know no model of ours."""

from inference.adversarial import Adversarial, density_ratio
from inference.ancestral import Ancestral, ancestral, inpaint
from inference.annealing import AnnealingWarning, ais, bdmc
from inference.assignments import assign
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
from inference.clamped import BoltzmannLearning
from inference.clusters import ClusterScores, cluster_scores
from inference.codes import latent_codes
from inference.compare import CrossedBoundsError, Ladder, compare_bounds
from inference.contrastive import ContrastiveDivergence, ExactLikelihood, PersistentContrastiveDivergence
from inference.denoising import Denoising
from inference.density import FlatDensity
from inference.diagnostics import (
    Calibration,
    Collapse,
    CollapseWarning,
    Diagnosis,
    PredictiveCheck,
    active_units,
    diagnose,
    effective_sample_size,
    find_collapse,
    load_tree,
    pareto_khat,
    ppc,
    save_tree,
)
from inference.diagnostics.sources import to_datatree
from inference.diffusion_bound import DiffusionBound, diffusion_bound
from inference.draws import log_weights
from inference.energies import EnergyLikelihood, energy_likelihood
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
from inference.exact import ExactLogLikelihood, exact_log_likelihood
from inference.fit import DivergedError, Fitted, fit
from inference.flags import flushing_denormals
from inference.free_bits import FreeBits
from inference.gradient_snr import GradientSNR, gradient_snr
from inference.graph import GraphWarning
from inference.likelihood import FewParticlesWarning, LogLikelihood, log_likelihood
from inference.mcmc import sample, sample_latents, sbc
from inference.neighbours import NeighbourErrors, knn_error
from inference.objectives import LossParts, Objective, Phase, Task, Variational
from inference.optim import adam, burda_schedule
from inference.partition import LogZ, annealed_log_z, exact_log_z
from inference.reconstruction import Reconstruction
from inference.report import Evidence, Report, examine, examine_worst, report
from inference.runs import Run, RunError
from inference.schedule import Annealing
from inference.simulate import Simulated, simulate
from inference.terms import Augmented, Term
from inference.usage import ComponentUsage, component_usage, sticks_for_mass
from inference.wake_sleep import WakeSleep
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
    "Adversarial",
    "Ancestral",
    "Annealing",
    "AnnealingWarning",
    "Augmented",
    "BoltzmannLearning",
    "Bound",
    "Bracket",
    "Calibration",
    "CheckpointError",
    "ClusterScores",
    "Collapse",
    "CollapseWarning",
    "ComponentUsage",
    "ContrastiveDivergence",
    "CrossedBoundsError",
    "DReG",
    "Denoising",
    "Diagnosis",
    "DiffusionBound",
    "DivergedError",
    "EnergyLikelihood",
    "Enumeration",
    "Evidence",
    "ExactLikelihood",
    "ExactLogLikelihood",
    "FewParticlesWarning",
    "Fitted",
    "FlatDensity",
    "FreeBits",
    "GradientSNR",
    "GraphWarning",
    "GumbelSoftmax",
    "Ladder",
    "LogLikelihood",
    "LogZ",
    "LossParts",
    "NeighbourErrors",
    "Objective",
    "Pathwise",
    "PersistentContrastiveDivergence",
    "Phase",
    "PredictiveCheck",
    "Reconstruction",
    "Renyi",
    "Report",
    "ReverseAIS",
    "ReweightedWakeSleep",
    "Run",
    "RunError",
    "ScoreFunction",
    "Simulated",
    "Split",
    "StraightThrough",
    "Task",
    "Term",
    "ThermodynamicCovariance",
    "VRMax",
    "Variational",
    "WakeSleep",
    "Weights",
    "active_units",
    "adam",
    "ais",
    "ancestral",
    "annealed_log_z",
    "assign",
    "bdmc",
    "bound",
    "burda_schedule",
    "cluster_scores",
    "compare_bounds",
    "component_usage",
    "density_ratio",
    "diagnose",
    "diffusion_bound",
    "effective_sample_size",
    "energy_likelihood",
    "enumerate_latents",
    "estimate",
    "exact_log_likelihood",
    "exact_log_z",
    "examine",
    "examine_worst",
    "find_collapse",
    "fit",
    "flushing_denormals",
    "gradient_snr",
    "inpaint",
    "knn_error",
    "latent_codes",
    "load_tree",
    "log_likelihood",
    "log_weights",
    "paired_difference",
    "pareto_khat",
    "ppc",
    "report",
    "sample",
    "sample_latents",
    "save_tree",
    "sbc",
    "simulate",
    "sticks_for_mass",
    "to_datatree",
]
