"""Helmholtz machines that dream: the bars of Hinton et al., whose distribution is known, and 8x8 digits.

    python examples/helmholtz.py     # three minutes on one core; pictures in runs/helmholtz

Awake, the guide says which causes an image has and the model learns to make it of them; asleep, the model dreams causes
and an image and the guide learns to tell them. The distribution of bars is known, and so is how far the machine is from
it. That of digits is judged by importance sampling, and shows what it dreams as it learns.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from pyro import poutine
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from guides import MeanFieldBernoulli
from inference import WakeSleep, active_units, adam, fit, log_likelihood
from ppmodels.cli.pictures import grid, save
from ppmodels.data import Dataset, digits
from ppmodels.helmholtz import SigmoidBeliefNetwork
from ppmodels.toys import Bars

REWEIGHTED = WakeSleep(5, wake=0.5, sleep=0.5)


def machine(widths: tuple[int, ...], train: Dataset) -> tuple[SigmoidBeliefNetwork, MeanFieldBernoulli]:
    torch.manual_seed(0)
    model = SigmoidBeliefNetwork(train.x_dim, widths, logits=train.logits())
    return model, MeanFieldBernoulli(train.x_dim, widths)


@torch.no_grad()
def dream(model: SigmoidBeliefNetwork, shape: tuple[int, ...], path: Path, *, title: str) -> None:
    """What the model makes of causes it draws, as the means of its pixels."""
    causes = poutine.trace(model).get_trace(n=64).nodes[model.sites[0]]["value"]
    save(grid(model.likelihood(causes).mean, shape, title=title), path)


def bars(steps: int, out: Path) -> None:
    """Classic wake-sleep on 4x4 bars: how far is what it learned from what made them?"""
    toy = Bars()
    train = toy.sample(20_000, seed=0)
    pair = machine((24, 8), train)
    rates = {"wake": adam(0.05), "sleep": adam(0.25)}  # the guide follows the model
    schedule = partial(LinearLR, start_factor=1.0, end_factor=0.05, total_iters=max(1, steps // 200))
    fit(*pair, train, WakeSleep(), steps=steps, optimizer=rates, schedule=schedule)
    every = toy.patterns()
    weight = toy.log_prob(every).exp()  # of each of the 30 images there are
    found = log_likelihood(*pair, every, num_particles=20_000)
    far, error = (weight * (toy.log_prob(every) - found.value)).sum(), (weight * found.standard_error).norm()
    print(f"bars: KL(data, model) = {far:.3f} nats (error {error:.3f}) where the data's entropy is {toy.entropy():.3f}")
    dream(pair[0], (4, 4), out / "bars.png", title="dreams of bars")


def dreaming_digits(epochs: int, out: Path) -> None:
    """Reweighted wake-sleep on digits, with dreams after 1, 2, 4, ... epochs."""
    train, test = digits("dynamic", split="train"), digits("dynamic", split="test").realise(0)
    pair = machine((64, 32, 16), train)
    schedule = partial(CosineAnnealingLR, T_max=epochs, eta_min=1e-4)
    run = out / "digits"  # of which each fit goes on from the last
    for epoch in sorted({min(2**i, epochs) for i in range(epochs.bit_length() + 1)}):
        fit(*pair, train, REWEIGHTED, epochs=epoch, optimizer=adam(3e-3), schedule=schedule, out=run, resume=True)
        dream(pair[0], train.shape, out / f"digits-{epoch:03d}.png", title=f"dreams after {epoch} epochs")
    print(f"digits: {log_likelihood(*pair, test, num_particles=1000)}")
    print(f"units in use: {active_units(*pair, test)}")


def main(steps: int = 40_000, epochs: int = 300, out: Path = Path("runs/helmholtz")) -> None:
    torch.set_num_threads(1)  # nets this small only wait for each other on more
    bars(steps, out)
    dreaming_digits(epochs, out)
    print(f"what they dream is in {out}")


if __name__ == "__main__":
    main()
