r"""Priors over one latent: modules whose call returns a distribution, `event_shape == (z_dim,)`.

Any module, function or distribution of that shape is as good as these (`as_prior`), and `check_prior` says
whether it is sound. One of your own, with parameters, in full:

>>> import torch
>>> import pyro.distributions as dist
>>> class LearnedLaplace(torch.nn.Module):
...     def __init__(self, z_dim):
...         super().__init__()
...         self.log_scale = torch.nn.Parameter(torch.zeros(z_dim))
...
...     def forward(self):
...         return dist.Laplace(torch.zeros_like(self.log_scale), self.log_scale.exp()).to_event(1)
>>> check_prior(LearnedLaplace(5)).ok
True
"""

from __future__ import annotations

from .adapters import as_prior
from .autoregressive import Autoregressive
from .bits import BernoulliPrior, NADEPrior
from .categorical import CategoricalPrior, RelaxedCategorical
from .check import PriorReport, check_prior
from .flows import FlowPrior
from .hierarchical import StudentT
from .hyper import LearnedHyper, SampledHyper
from .mixtures import GaussianMixture
from .normal import Normal, StandardNormal
from .processes import StickBreakingMixture
from .sparse import Horseshoe, SpikeAndSlab
from .sticks import DirichletSticks, StickBreaking
from .uniform import UniformPrior
from .vamp import VampPrior

__all__ = [
    "Autoregressive",
    "BernoulliPrior",
    "CategoricalPrior",
    "DirichletSticks",
    "FlowPrior",
    "GaussianMixture",
    "Horseshoe",
    "LearnedHyper",
    "NADEPrior",
    "Normal",
    "PriorReport",
    "RelaxedCategorical",
    "SampledHyper",
    "SpikeAndSlab",
    "StandardNormal",
    "StickBreaking",
    "StickBreakingMixture",
    "StudentT",
    "UniformPrior",
    "VampPrior",
    "as_prior",
    "check_prior",
]
