"""Guides, the recognition side of a pair: each is named for what it assumes about q(z | x)."""

from .amortized import Amortized
from .bits import AutoregressiveBernoulli, MeanFieldBernoulli
from .clustering import ClusterGuide, MarginalClusters
from .flow import AmortizedFlow
from .hierarchical import HierarchicalNormal
from .mixture import AmortizedMixture, MixtureGuide
from .normal import AmortizedNormal
from .shared import SharedNormal
from .sticks import BetaSticks, ConditionalKumaraswamy, GammaSticks, KumaraswamySticks, LogitNormalSticks
from .style import MeanFieldStyle
from .vade import VaDEGuide

__all__ = [
    "Amortized",
    "AmortizedFlow",
    "AmortizedMixture",
    "AmortizedNormal",
    "AutoregressiveBernoulli",
    "BetaSticks",
    "ClusterGuide",
    "ConditionalKumaraswamy",
    "GammaSticks",
    "HierarchicalNormal",
    "KumaraswamySticks",
    "LogitNormalSticks",
    "MarginalClusters",
    "MeanFieldBernoulli",
    "MeanFieldStyle",
    "MixtureGuide",
    "SharedNormal",
    "VaDEGuide",
]
