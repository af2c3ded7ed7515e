"""What the numbers are worth: guides per datum, chains and draws as trees for ArviZ, calibration, predictive checks."""

from inference.diagnostics.calibration import Calibration
from inference.diagnostics.collapse import Collapse, CollapseWarning, find_collapse
from inference.diagnostics.gate import Diagnosis, diagnose
from inference.diagnostics.khat import effective_sample_size, khat_threshold, pareto_khat
from inference.diagnostics.ppc import PredictiveCheck, ppc
from inference.diagnostics.storage import load_tree, save_tree
from inference.diagnostics.units import ActiveUnits, active_units

__all__ = [
    "ActiveUnits",
    "Calibration",
    "Collapse",
    "CollapseWarning",
    "Diagnosis",
    "PredictiveCheck",
    "active_units",
    "diagnose",
    "effective_sample_size",
    "find_collapse",
    "khat_threshold",
    "load_tree",
    "pareto_khat",
    "ppc",
    "save_tree",
]
