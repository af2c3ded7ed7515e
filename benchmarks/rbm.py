r"""Restricted Boltzmann machines on MNIST, threshold 0.5: plain and centred, log Z exactly or from both sides.

    PPMODELS_DATA=... python -m benchmarks.rbm --hidden 16 --epochs 50
    PPMODELS_DATA=... python -m benchmarks.rbm --hidden 500 --epochs 50 --only centred --temperatures 14500

PCD-1, as many chains as a batch has images, stochastic gradient descent at a rate that stands or falls along a line;
the visible biases begin at the log-odds of the pixels. Prints a row of Markdown for each machine.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LinearLR

from inference.contrastive import PersistentContrastiveDivergence
from inference.energies import energy_likelihood
from inference.fit import fit
from inference.partition import annealed_log_z, exact_log_z
from ppmodels.data import Dataset, mnist
from ppmodels.rbm import RBM
from ppmodels.units import BernoulliUnits, log_odds

CENTRE = {"plain": 0.0, "centred": 0.01}
MOST_EXACT = 20


def main() -> None:
    """Train and judge the machines that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=16, help="hidden units")
    parser.add_argument("--epochs", type=int, default=50, help="passes over the 60,000 images")
    parser.add_argument("--rate", type=float, default=0.01, help="of the steps")
    parser.add_argument("--end", type=float, default=1.0, help="what is left of the rate at the end")
    parser.add_argument("--only", default="", help="plain or centred; both by default")
    parser.add_argument("--temperatures", type=int, default=14_500, help="of annealed chains, where log Z is not exact")
    parser.add_argument("--sweeps", type=int, default=5_000, help="of these chains before they come back")
    given = parser.parse_args()
    torch.set_num_threads(1)
    train, test = mnist("threshold"), mnist("threshold", split="test")
    print("| machine | test log p | train log p | log Z | s to train |\n| --- | --- | --- | --- | --- |", flush=True)
    for name in [given.only] if given.only else CENTRE:
        print(row(name, given, train, test), flush=True)


def row(name: str, given: argparse.Namespace, train: Dataset, test: Dataset) -> str:
    """One machine."""
    torch.manual_seed(0)
    x, rate = train.all(), CENTRE[name]
    rbm = RBM(BernoulliUnits(train.x_dim, logits=log_odds(x)), given.hidden)
    if rate:
        rbm.move_offsets(x.mean(0), torch.full((given.hidden,), 0.5))
    schedule = partial(LinearLR, start_factor=1.0, end_factor=given.end, total_iters=given.epochs)
    begun = time.monotonic()
    objective, optimizer = PersistentContrastiveDivergence(centre=rate), partial(SGD, lr=given.rate)
    fit(rbm, None, train, objective, epochs=given.epochs, optimizer=optimizer, schedule=schedule, report_every=600)
    seconds = time.monotonic() - begun
    if given.hidden <= MOST_EXACT:
        log_z = exact_log_z(rbm)
    else:
        path = rbm.path(BernoulliUnits(train.x_dim, logits=log_odds(x)))
        how: Any = {"num_temperatures": given.temperatures, "sweeps": given.sweeps}
        log_z = annealed_log_z(path, also_from=x[:100], **how)  # chains that begin at data find other modes
    columns = []
    for data in (test, train):
        frame = energy_likelihood(rbm, data, log_z).to_frame()
        columns.append(", ".join(f"{r.direction} {r.value:.2f} (s.e. {r.se:.2f})" for r in frame.itertuples()))
    return f"| {given.hidden} hidden, {name} | {' | '.join(columns)} | {log_z} | {seconds:.0f} |"


if __name__ == "__main__":
    main()
