"""Guides, the recognition side of a pair: each is named for what it assumes about q(z | x)."""

from .amortized import Amortized
from .flow import AmortizedFlow
from .hierarchical import HierarchicalNormal
from .normal import AmortizedNormal

__all__ = ["Amortized", "AmortizedFlow", "AmortizedNormal", "HierarchicalNormal"]
