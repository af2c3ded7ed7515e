"""Annealed importance sampling, there and back, and MCMC, for the latents of any pair with continuous ones.

| question | call | its answer |
|---|---|---|
| how large is log p(x), surely at least? | `ais` | a lower bound that closes with temperatures and chains |
| how far is that from the truth? | `bdmc` | a lower and an upper bound, on data drawn from the model |
| what is the posterior, and how far is the guide from it? | `posterior_data` | draws by MCMC, with R-hat |

Chains of all data move at once, as one tensor `(C, n, D)`, by Hamiltonian transitions whose every leapfrog is one run
of a compiled graph. Step sizes come from a pilot run that is thrown away.
"""

from inference.annealing.bracketing import AnnealingWarning, ais, bdmc
from inference.annealing.passes import Pass, anneal_back, anneal_data, posterior_data
from inference.annealing.results import Annealed, Bidirectional

__all__ = [
    "Annealed",
    "AnnealingWarning",
    "Bidirectional",
    "Pass",
    "ais",
    "anneal_back",
    "anneal_data",
    "bdmc",
    "posterior_data",
]
