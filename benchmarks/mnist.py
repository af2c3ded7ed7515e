r"""Burda's one-layer network on dynamically binarised MNIST: VAE against IWAE-5 at equal epochs.

    PPMODELS_DATA=... python -m benchmarks.mnist --epochs 150 --out runs/mnist

Trains `vae` and `iwae` one after the other (or one of them, `--only vae`), and judges both by importance sampling
with 5,000 draws on the 10,000 test images, binarised once with a fixed seed. Can be stopped and started again.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from guides import AmortizedNormal
from inference.bounds import ELBO, IWAE
from inference.compare import paired_difference
from inference.diagnostics import active_units
from inference.fit import fit
from inference.likelihood import LogLikelihood, log_likelihood
from inference.objectives import Variational
from inference.optim import adam
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import mnist
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal
from ppmodels.vae import VAE

OBJECTIVES = {"vae": Variational(ELBO(), num_particles=1), "iwae": Variational(IWAE(), num_particles=5)}


def train_and_judge(
    name: str, epochs: int, out: Path, *, seed: int = 0, num_test: int = 10_000, batch_size: int = 100, lr: float = 1e-3
) -> tuple[dict[str, object], LogLikelihood]:
    """One row of the table, and log p(x) per test image for the paired difference."""
    train, test = mnist("dynamic", split="train"), mnist("dynamic", split="test").realise(0).head(num_test)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VAE(StandardNormal(50), ConditionalBernoulli(MLP(50, (200, 200)), 784, logits=train.logits()))
        guide = AmortizedNormal(ConditionalNormal(MLP(784, (200, 200)), 50))
    cosine = partial(CosineAnnealingLR, T_max=epochs, eta_min=lr / 10)
    fitted = fit(
        model,
        guide,
        train,
        OBJECTIVES[name],
        epochs=epochs,
        batch_size=batch_size,
        optimizer=adam(lr),
        schedule=cosine,
        seed=seed,
        out=out / name,
        resume=True,
        report_every=600,
        checkpoint_seconds=60,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the k-hat share is a column of the table
        found = log_likelihood(model, guide, test, num_particles=5000, batch_size=50, chunk=100)
    units = active_units(model, guide, test.head(500))
    row = {
        "objective": name,
        "epochs": epochs,
        "batch": batch_size,
        "lr": lr,
        "IS-5000 (nats)": f"{found.mean:.3f}",
        "s.e. over images": f"{found.mean_se:.3f}",
        "s.e. over draws": f"{found.mean_mc_se:.3f}",
        "active units": units.count["z"],
        "k-hat too high": f"{found.unreliable:.1%}",
        "training": f"{fitted.seconds / 60:.1f} min",
    }
    pd.DataFrame([row]).to_json(out / f"{name}.json", orient="records")
    found.to_frame().to_csv(out / f"{name}.csv")
    return row, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--only", choices=list(OBJECTIVES))
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-3, help="first learning rate; a cosine takes it to a tenth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-test", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    args = parser.parse_args()
    names = [args.only] if args.only else list(OBJECTIVES)
    options = {"seed": args.seed, "num_test": args.num_test, "batch_size": args.batch_size, "lr": args.lr}
    found = {name: train_and_judge(name, args.epochs, args.out, **options) for name in names}
    print(pd.DataFrame([row for row, _ in found.values()]).to_string(index=False))
    if len(found) == 2:
        gain, error = paired_difference(found["iwae"][1].value, found["vae"][1].value)
        print(f"\nIWAE-5 above VAE by {gain:.3f} nats (s.e. {error:.3f}, paired by image)")


if __name__ == "__main__":
    main()
