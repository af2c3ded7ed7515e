"""A prior of one's own in a posterior: eight schools with three priors for their spread, judged and compared.

    python examples/posterior.py [--chains C] [--draws N] [--datasets S]

The program is called with its prior: a distribution, or anything whose call gives one. Prints the verdict on the
chains, what the prior does to the answer, the leave-one-out comparison, and whether the sampler is right about such
programs.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import arviz_stats
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from inference import diagnose, sample, sbc

SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])


def half_t(scale: float) -> Any:
    """A prior of one's own: the absolute value of a Student's t with three degrees of freedom."""
    return dist.FoldedDistribution(dist.StudentT(3.0, 0.0, scale))


PRIORS = {"half-Cauchy": dist.HalfCauchy, "half-normal": dist.HalfNormal, "half-t": half_t}


def schools(prior: Any, sigma: Tensor, y: Tensor) -> None:
    """Effects of coaching in eight schools, Rubin 1981, not centred."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", prior(5.0))
    with pyro.plate("school", len(sigma)):
        effect = pyro.sample("effect", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * effect)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def main(num_chains: int, num_draws: int, num_datasets: int) -> None:
    """Sample under every prior."""
    trees = {}
    for name, prior in PRIORS.items():
        trees[name] = sample(
            partial(schools, prior),
            SIGMA,
            EFFECTS,
            num_chains=num_chains,
            num_samples=num_draws,
            coords={"school": list("ABCDEFGH")},
        )
        found = diagnose(trees[name])
        print(f"-- {name}: {found if not found.passed else str(found).splitlines()[0]}")
        print(found.parameters.loc[["mu", "tau", "theta[A]"]].round(2).to_string())
    print(arviz_stats.compare(trees).round(2).to_string())
    print(sbc(partial(schools, dist.HalfNormal), SIGMA, EFFECTS, num_datasets=num_datasets))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--datasets", type=int, default=64)
    arguments = parser.parse_args()
    main(arguments.chains, arguments.draws, arguments.datasets)
