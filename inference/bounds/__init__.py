r"""Bounds on log p(x), each a function of one set of weights, in nats per datum, to be maximised.

With :math:`\log w_k = \log p(x, z_k) - \log q(z_k \mid x)` a bound maps `(K, n)` weights to `(n,)` values; K is the
weights' own. `estimate` evaluates a bound at a smaller K as the mean over disjoint groups of draws, so that one large
set of weights serves every row of a table, each at exactly its K, with its Monte Carlo error.

Most are functions of draws from the guide; `EUBO`, `AIS` and `ReverseAIS` of others, which `compare_bounds` draws.
"""

from inference.bounds.base import (
    Bound,
    Direction,
    FunctionBound,
    Guarantee,
    bound,
    check_bound,
    check_value,
    guarantee_of,
    label_of,
    log_mean_exp,
    refuse_other_draws,
    source_of,
    tilted,
)
from inference.bounds.estimating import Estimate, bootstrap, estimate
from inference.bounds.lower import CIWAE, ELBO, IWAE, MIWAE, PIWAE, Split
from inference.bounds.parsing import SPELLINGS, parse_bound
from inference.bounds.posterior import AIS, EUBO, ReverseAIS
from inference.bounds.renyi import CUBO, Renyi, VRMax
from inference.bounds.thermodynamic import TVO

__all__ = [
    "AIS",
    "CIWAE",
    "CUBO",
    "ELBO",
    "EUBO",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "SPELLINGS",
    "TVO",
    "Bound",
    "Direction",
    "Estimate",
    "FunctionBound",
    "Guarantee",
    "Renyi",
    "ReverseAIS",
    "Split",
    "VRMax",
    "bootstrap",
    "bound",
    "check_bound",
    "check_value",
    "estimate",
    "guarantee_of",
    "label_of",
    "log_mean_exp",
    "parse_bound",
    "refuse_other_draws",
    "source_of",
    "tilted",
]
