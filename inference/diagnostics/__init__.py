"""What the numbers are worth: importance-sampling diagnostics, per datum."""

from inference.diagnostics.khat import effective_sample_size, khat_threshold, pareto_khat
from inference.diagnostics.units import ActiveUnits, active_units

__all__ = ["ActiveUnits", "active_units", "effective_sample_size", "khat_threshold", "pareto_khat"]
