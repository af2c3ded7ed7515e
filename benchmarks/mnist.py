r"""Burda's one-layer network on dynamically binarised MNIST: VAE, IWAE, and IWAE by DReG, at equal epochs.

    PPMODELS_DATA=... python -m benchmarks.mnist --epochs 150 --out runs/mnist

Trains `vae`, `iwae` and `dreg` one after the other (or some of them, `--only vae,iwae`), and judges them by importance
sampling with 5,000 draws on the 10,000 test images, binarised once with a fixed seed. Can be stopped and started again.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from guides import AmortizedNormal
from inference.bounds import ELBO, IWAE
from inference.compare import paired_difference
from inference.diagnostics import active_units
from inference.estimators import DReG
from inference.fit import fit
from inference.likelihood import FewParticlesWarning, LogLikelihood, log_likelihood
from inference.objectives import Variational
from inference.optim import adam
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import mnist
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal
from ppmodels.vae import VAE

OBJECTIVES: dict[str, Variational] = {
    "vae": Variational(ELBO()),
    "iwae": Variational(IWAE()),
    "dreg": Variational(IWAE(), estimator=DReG()),
}


@dataclass(frozen=True)
class Protocol:
    """How a pair is trained; everything else is Burda's.

    Attributes:
        epochs: passes over the 60,000 training images.
        batch: images per update.
        lr: Adam's first learning rate; a cosine takes it to a tenth.
        eps: Adam's; Burda's code has 1e-4.
        warmup: epochs over which the KL's weight rises to 1; 0 for none.
        particles: draws of the importance-weighted bounds.
        seed: of the parameters, the order and the noise.
    """

    epochs: int = 150
    batch: int = 100
    lr: float = 1e-3
    eps: float = 1e-8
    warmup: int = 0
    particles: int = 5
    seed: int = 0


def network(seed: int = 0) -> tuple[VAE, AmortizedNormal]:
    """784-200-200-50 tanh both ways, the output's bias at the pixels' logits."""
    logits = mnist("dynamic", split="train").logits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VAE(StandardNormal(50), ConditionalBernoulli(MLP(50, (200, 200)), 784, logits=logits))
        return model, AmortizedNormal(ConditionalNormal(MLP(784, (200, 200)), 50))


def train_and_judge(
    name: str, protocol: Protocol, out: Path, num_test: int = 10_000
) -> tuple[dict[str, object], LogLikelihood]:
    """One row of the table, and log p(x) per test image for the paired difference."""
    train, test = mnist("dynamic", split="train"), mnist("dynamic", split="test").realise(0).head(num_test)
    model, guide = network(protocol.seed)
    K = 1 if name == "vae" else protocol.particles
    warmup = protocol.warmup * (len(train) // protocol.batch)
    fitted = fit(
        model,
        guide,
        train,
        replace(OBJECTIVES[name], num_particles=K, kl_warmup=warmup),
        epochs=protocol.epochs,
        batch_size=protocol.batch,
        optimizer=adam(protocol.lr, eps=protocol.eps),
        schedule=partial(CosineAnnealingLR, T_max=protocol.epochs, eta_min=protocol.lr / 10),
        seed=protocol.seed,
        out=out / name,
        resume=True,
        report_every=600,
        checkpoint_seconds=60,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewParticlesWarning)  # the share is a column of the table
        found = log_likelihood(model, guide, test, num_particles=5000)
    row: dict[str, object] = {
        "objective": name,
        **asdict(protocol),
        "IS-5000": f"{found.mean:.3f}",
        "s.e.": f"{found.mean_se:.3f}",
        "s.e. of draws": f"{found.mean_mc_se:.3f}",
        "active": active_units(model, guide, test.head(500)).count["z"],
        "k-hat too high": f"{found.unreliable:.1%}",
        "training": f"{fitted.seconds / 60:.1f} min",
    }
    found.to_frame().to_csv(out / f"{name}.csv", index=False)
    return row, found


def main() -> None:
    """Print the table, and the paired difference of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Protocol):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    parser.add_argument("--only", default=",".join(OBJECTIVES), help="which of them, by commas")
    parser.add_argument("--num-test", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    protocol = Protocol(**{field.name: getattr(args, field.name) for field in fields(Protocol)})
    names = args.only.split(",")
    if unknown := set(names) - OBJECTIVES.keys():
        parser.error(f"`--only` has {', '.join(sorted(unknown))}, expected some of {', '.join(OBJECTIVES)}")
    found = {name: train_and_judge(name, protocol, args.out, args.num_test) for name in names}
    print(pd.DataFrame([row for row, _ in found.values()]).to_string(index=False))
    first, *others = found
    for name in others:
        gain, error = paired_difference(found[name][1].value, found[first][1].value)
        print(f"{name} above {first} by {gain:.3f} nats (s.e. {error:.3f}, paired by image)")


if __name__ == "__main__":
    main()
