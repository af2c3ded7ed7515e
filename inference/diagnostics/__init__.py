"""What the numbers are worth, and whether a guide uses what it has: per datum, and by component."""

from inference.diagnostics.collapse import Collapse, CollapseWarning, find_collapse
from inference.diagnostics.khat import effective_sample_size, khat_threshold, pareto_khat
from inference.diagnostics.units import ActiveUnits, active_units

__all__ = [
    "ActiveUnits",
    "Collapse",
    "CollapseWarning",
    "active_units",
    "effective_sample_size",
    "find_collapse",
    "khat_threshold",
    "pareto_khat",
]
