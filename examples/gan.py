"""Two players: a ring and a grid of normals, where what is missed can be counted, and 8x8 digits.

    python examples/gan.py     # three minutes on one core; pictures in runs/gan

The value of the game is -log 4 + 2 JSD where the discriminator is at its best: how far it is above -log 4 says what the
discriminator can still tell. It does not say what is missing of the data, so modes are counted, and draws looked at.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from inference import adam, fit
from inference.adversarial import Adversarial
from ppmodels.cli.pictures import grid as pictures
from ppmodels.cli.pictures import save
from ppmodels.contracts import Data
from ppmodels.gan import GAN, ConvDiscriminator, ConvGenerator, Discriminator
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal, UniformPrior
from ppmodels.toys import NormalMixture, grid, ring

LEAKY = partial(nn.LeakyReLU, 0.2)  # a critic of plain ReLUs lost a mode of the ring and half of the grid
PLAYERS = ("discriminator", "generator")


def play(model: GAN, critic: Discriminator, data: Data | Tensor, steps: int, size: int, *rates: float) -> float:
    """Train both, at rates that fall to nothing, and return V + log 4, of the end."""
    players = {name: adam(rate, betas=(0.5, 0.999)) for name, rate in zip(PLAYERS, rates, strict=True)}
    schedule = partial(CosineAnnealingLR, T_max=max(1, steps * size // len(data)))
    fitted = fit(model, critic, data, Adversarial(), steps=steps, batch_size=size, optimizer=players, schedule=schedule)
    return float(fitted.metrics["discriminator/value"].iloc[-1]) + math.log(4)


def modes(toy: NormalMixture, steps: int, width: int, out: Path, *, gain: float = 1.0) -> None:
    """Two layers against two layers; a larger `gain` lets the discriminator begin with finer distinctions."""
    torch.manual_seed(0)
    model = GAN(StandardNormal(2), nn.Sequential(MLP(2, (width, width), nn.ReLU), nn.Linear(width, 2)))
    critic = Discriminator(MLP(2, (width, width), LEAKY, gain=gain))
    value = play(model, critic, toy.sample(50_000), steps, 2 * width, 3e-3, 2e-3)
    x = model(n=10_000).detach()
    distance, mode = torch.cdist(x, toy.loc).min(1)
    near = distance < 3 * toy.scale
    found = int((torch.bincount(mode[near]) > len(x) / len(toy.loc) / 5).sum())  # a fifth of its share, at least
    share = float(near.float().mean())
    print(f"{toy.name}: {found} of {len(toy.loc)} modes, {share:.0%} of draws near one, V + log 4 = {value:.3f}")
    figure = Figure((5, 5))
    axes = figure.add_subplot(aspect="equal", title=f"{toy.name}: draws, and where the modes are")
    axes.scatter(x[:, 0], x[:, 1], s=1)
    axes.scatter(toy.loc[:, 0], toy.loc[:, 1], marker="+", color="black")
    save(figure, out / f"{toy.name}.png")


def digits(steps: int, out: Path) -> None:
    """Convolutions on both sides, batch norm in the generator."""
    torch.manual_seed(0)
    x = torch.as_tensor(load_digits().data / 16, dtype=torch.float32)
    model = GAN(UniformPrior(16), ConvGenerator(16, 8))
    print(f"digits: V + log 4 = {play(model, ConvDiscriminator(8), x, steps, 64, 5e-4, 1e-3):.3f}")
    save(pictures(model.eval()(n=64), (8, 8), title="draws"), out / "digits.png")


def main(steps: int = 8000, out: Path = Path("runs/gan")) -> None:
    torch.set_num_threads(1)  # nets this small only wait for each other on more
    modes(ring(8), steps // 4, 64, out)
    modes(grid(5), steps, 128, out, gain=3.0)
    digits(steps, out)


if __name__ == "__main__":
    main()
