"""An RBM on 8x8 digits, its likelihood exactly and from both sides, and a deep belief network with an RBM on top.

    python examples/boltzmann.py     # a minute on one core; pictures in runs/boltzmann

The greedy step of a deep belief network: what the first machine makes of the data is data for the second, which then
stands above the first machine's weights as a prior. Below it everything goes on learning, and as the codes are few,
what was gained is known exactly.
"""

from __future__ import annotations

from pathlib import Path

import torch

from guides import MeanFieldBernoulli
from inference import (
    IWAE,
    VIMCO,
    PersistentContrastiveDivergence,
    Variational,
    adam,
    annealed_log_z,
    energy_likelihood,
    exact_log_likelihood,
    exact_log_z,
    fit,
)
from ppmodels.cli.pictures import grid, save
from ppmodels.data import digits
from ppmodels.helmholtz import SigmoidBeliefNetwork
from ppmodels.rbm import RBM
from ppmodels.rbm_prior import RBMPrior
from ppmodels.units import BernoulliUnits, log_odds


def learn(x: torch.Tensor, hidden: int, epochs: int) -> RBM:
    """A machine that begins at the means of its data, centred while it learns."""
    rbm = RBM(BernoulliUnits(x.shape[-1], logits=log_odds(x)), hidden)
    fit(rbm, None, x, PersistentContrastiveDivergence(centre=0.01), epochs=epochs, optimizer=adam(3e-3))
    return rbm


def main(epochs: int = 100, hidden: int = 12, out: Path = Path("runs/boltzmann")) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train, test = (digits("static", split=split) for split in ("train", "test"))
    first = learn(train.all(), hidden, epochs)
    print(exact_log_z(first))
    print(annealed_log_z(first.path(BernoulliUnits(64, logits=log_odds(train.all()))), num_temperatures=500))
    print(f"test digits, nats per image:\n{energy_likelihood(first, test.all(), exact_log_z(first))}\n")
    save(grid(first.sample(64, mean=True), (8, 8), title="after 1,000 sweeps"), out / "rbm.png")

    codes = first.hidden(train.all()).sample()  # data for the next
    second = learn(codes, hidden, epochs).requires_grad_(False)  # it stands still: its log Z stays right
    prior = RBMPrior(second, exact_log_z(second).lower)
    belief = SigmoidBeliefNetwork(64, (hidden,), prior=prior, logits=train.logits())
    with torch.no_grad():
        belief.get_parameter("likelihood.logits.weight").copy_(first.weight)
    objective = Variational(IWAE(), num_particles=10, estimator=VIMCO())
    guide = MeanFieldBernoulli(64, (hidden,))
    fit(belief, guide, train, objective, epochs=epochs, optimizer=adam(3e-3))
    print(f"a deep belief network, all {2**hidden:,} codes added up:\n{exact_log_likelihood(belief, guide, test)}")
    save(grid(belief(n=64), (8, 8), title="a deep belief network"), out / "belief.png")


if __name__ == "__main__":
    main()
