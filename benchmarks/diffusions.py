r"""Diffusions of two toys against what is best on them, and the anchors of Parzen windows on MNIST.

    python -m benchmarks.diffusions
    PPMODELS_DATA=... python -m benchmarks.diffusions --anchors

A heartbeat in bits, whose best bound is log2(1/5), and a thin swiss roll against a standard normal, K - L_null; with
`--anchors` real training images and k-means centroids in the place of samples.
"""

from __future__ import annotations

import argparse
import math
import time
from functools import partial

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from inference import Denoising, adam, diffusion_bound, fit
from inference.samples import parzen
from ppmodels.clocks import TimeMLP, sinusoids
from ppmodels.data import mnist
from ppmodels.diffusion import Diffusion
from ppmodels.kernels import BinomialKernel, GaussianKernel
from ppmodels.patterns import Heartbeat
from ppmodels.rates import geometric, harmonic
from ppmodels.reverses import Flip
from ppmodels.toys import swiss_roll


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anchors", action="store_true", help="Parzen windows on MNIST in place of the toys")
    torch.set_num_threads(1)
    if parser.parse_args().anchors:
        known, test = (mnist(split=split).values / 255 for split in ("train", "test"))
        begun = time.monotonic()
        print(parzen(known[:10_000], train=known[:50_000], validation=known[50_000:], test=test))
        print(f"{time.monotonic() - begun:.0f} s")
        return
    for toy in (heartbeat, roll):
        torch.manual_seed(0)
        begun = time.monotonic()
        print(toy(), f"{time.monotonic() - begun:.0f} s", flush=True)


def heartbeat() -> str:
    """In bits a sequence, over all five of them, by 1,000 draws."""
    beats, net = Heartbeat(), TimeMLP(20, (100, 100), times=sinusoids(50, 16), activation=nn.SiLU)
    model = Diffusion(BinomialKernel(harmonic(50)), net, Flip())
    train(model, beats.sample(10_000).all(), 3000, 0.01)
    found = diffusion_bound(model, beats.patterns(), num_draws=1000)
    return f"heartbeat, T = 50: {found.bits:.3f} bits (s.e. {found.monte_carlo_error / math.log(2):.3f}) of -2.322;"


def roll() -> str:
    """In bits a point above a standard normal, over 10,000 new ones."""
    data, test = (swiss_roll(10_000, scale=0.002, seed=seed).all() for seed in (0, 1))
    loc, scale = data.mean(0), data.std(0)
    net = TimeMLP(2, (128, 128, 128), times=sinusoids(40, 16), outputs=2, activation=nn.SiLU)
    model = Diffusion(GaussianKernel(geometric(40, first=3e-6, last=0.99)), net)
    train(model, (data - loc) / scale, 10_000, 3e-3)
    found = diffusion_bound(model, (test - loc) / scale, batch_size=2000)
    error = float(found.gain.std()) / math.sqrt(len(test)) / math.log(2)
    return f"swiss roll of scale 0.002, T = 40: K - L_null = {found.gain_bits:.2f} bits (s.e. {error:.2f});"


def train(model: Diffusion, x: torch.Tensor, steps: int, rate: float) -> None:
    """By the bound, 500 data an update, at a rate that falls along a cosine."""
    schedule = partial(CosineAnnealingLR, T_max=steps // math.ceil(len(x) / 500), eta_min=1e-5)
    fit(model, None, x, Denoising(), steps=steps, batch_size=500, optimizer=adam(rate), schedule=schedule)


if __name__ == "__main__":
    main()
