"""Diffusion, old and new: a heartbeat in bits, and a swiss roll, each learned by walking back from noise.

    python examples/diffusion.py     # one minute on one core; pictures in runs/diffusion

What there is to know of a heartbeat is the place of its first beat, log2(1/5) = -2.322 bits, and the bound falls short
of it by what T steps of independent bits cannot say. The swiss roll is learned twice: by the bound, as in 2015, and by
the noise alone, as in DDPM; its bound is set against a standard normal, K - L_null. Half a heartbeat is then continued.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from inference import Denoising, adam, ancestral, diffusion_bound, fit, inpaint
from ppmodels.clocks import TimeMLP, sinusoids
from ppmodels.contracts import Data
from ppmodels.diffusion import Diffusion
from ppmodels.kernels import BinomialKernel, GaussianKernel
from ppmodels.patterns import Heartbeat
from ppmodels.rates import geometric, harmonic
from ppmodels.reverses import Epsilon, Flip
from ppmodels.toys import swiss_roll


def train(model: Diffusion, data: Data | torch.Tensor, objective: Denoising, steps: int, *, rate: float) -> None:
    schedule = partial(CosineAnnealingLR, T_max=max(1, steps // 20), eta_min=1e-5)
    fit(model, None, data, objective, steps=steps, batch_size=500, optimizer=adam(rate), schedule=schedule)


def heartbeat(steps: int) -> None:
    beats = Heartbeat()
    net = TimeMLP(20, (100, 100), times=sinusoids(50, 16), activation=nn.SiLU)
    model = Diffusion(BinomialKernel(harmonic(50)), net, Flip())
    train(model, beats.sample(10_000, seed=0), Denoising(), steps, rate=0.01)
    found = diffusion_bound(model, beats.patterns(), num_draws=200)
    print(f"heartbeat: {found.bits:.3f} bits of at best -2.322")
    half = torch.arange(20) < 10
    continued = inpaint(model, beats.patterns()[2], half, 500, repeats=5)
    right = (continued == beats.patterns()[2]).all(-1).float().mean()
    print(f"of 500 halves {right:.0%} are continued as they began")


def roll(steps: int, out: Path) -> None:
    data, test = (swiss_roll(10_000, seed=seed).all() for seed in (0, 1))
    loc, scale = data.mean(0), data.std(0)
    kernel, figure = GaussianKernel(geometric(40, first=1e-3, last=0.99)), Figure((12, 6))
    for row, (name, reverse) in enumerate({"bound": None, "simple": Epsilon()}.items()):
        outputs = 2 if reverse is None else 1
        net = TimeMLP(2, (128, 128, 128), times=sinusoids(40, 16), outputs=outputs, activation=nn.SiLU)
        model = Diffusion(kernel, net, reverse)
        train(model, (data - loc) / scale, Denoising(name), steps, rate=3e-3)
        print(f"swiss roll by {name}: {diffusion_bound(model, (test - loc) / scale, batch_size=2000)}")
        found = ancestral(model, 2000, keep=(40, 20, 5))
        for column, (t, state) in enumerate({**found.states, 0: found.x}.items()):
            place, title = (2, 4, 4 * row + column + 1), f"by {name}, {t} steps to go"
            axes = figure.add_subplot(*place, title=title, aspect="equal", xticks=[], yticks=[])
            axes.scatter(state[:, 0], state[:, 1], s=1)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "swiss-roll.png")


def main(steps: int = 3000, out: Path = Path("runs/diffusion")) -> None:
    torch.set_num_threads(1)  # nets this small only wait for each other on more
    torch.manual_seed(0)
    heartbeat(steps)
    roll(steps, out)


if __name__ == "__main__":
    main()
