r"""Non-Gaussian latents on MNIST: sticks against normals, mixtures that cluster and one that does not, at equal epochs.

    PPMODELS_DATA=... python -m benchmarks.latents sticks|contrast|vade|mixtures [--only NAMES] [--epochs E] [--out DIR]

Each row is a run of its own, kept in DIR, that can be stopped and started again; a row that is there is read, and
rows of an experiment stand in one table. Images are binarised once under a seed ("static"): what is drawn for one row
is drawn for all. The test split is touched by the judging alone, and labels by the scores alone.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from guides import (
    AmortizedNormal,
    BetaSticks,
    ClusterGuide,
    ConditionalKumaraswamy,
    GammaSticks,
    KumaraswamySticks,
    LogitNormalSticks,
    MixtureGuide,
    VaDEGuide,
)
from inference.assignments import assign
from inference.bounds import ELBO
from inference.clusters import cluster_scores
from inference.codes import latent_codes
from inference.compare import compare_bounds
from inference.fit import fit
from inference.likelihood import FewParticlesWarning, log_likelihood
from inference.neighbours import knn_error
from inference.objectives import Objective, Variational
from inference.optim import adam
from inference.reconstruction import Reconstruction
from ppmodels.components import ConditionalNormals
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import Dataset, mnist
from ppmodels.dlgmm import DLGMM, NormalComponents
from ppmodels.gmvae import GMVAE
from ppmodels.m2 import M2
from ppmodels.nets import MLP
from ppmodels.priors import DirichletSticks, GaussianMixture, StandardNormal, StickBreaking
from ppmodels.sbvae import SBVAE
from ppmodels.sticks import stick_weights
from ppmodels.vade import VaDE
from ppmodels.vae import VAE

Pair = tuple[nn.Module, nn.Module]
Row = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """How a row is trained.

    Attributes:
        epochs: passes over the training images.
        pretrain: those of an autoencoder before them, where there is one.
        num_train: how many of the 60,000, the first; 0 for all.
        batch: images per update.
        lr: Adam's first learning rate; a cosine takes it to a tenth.
        seed: of the parameters, the order and the noise.
        particles: K of the importance-sampled log p(x).
        num_test: test images that are judged, the first.
    """

    epochs: int = 50
    pretrain: int = 30
    num_train: int = 0
    batch: int = 100
    lr: float = 1e-3
    seed: int = 0
    particles: int = 100
    num_test: int = 10_000

    def data(self) -> tuple[Dataset, Dataset]:
        """What is trained on, and what is judged on."""
        train, test = (mnist("static", split=split) for split in ("train", "test"))
        return train.head(self.num_train or len(train)), test.head(self.num_test)

    def train(self, pair: Pair, data: Dataset, out: Path, objective: Objective, epochs: int = 0) -> float:
        """Fit a pair, or go on with it; returns the minutes it took."""
        epochs = epochs or self.epochs
        fitted = fit(
            *pair,
            data,
            objective,
            epochs=epochs,
            batch_size=self.batch,
            optimizer=adam(self.lr),
            schedule=partial(CosineAnnealingLR, T_max=epochs, eta_min=self.lr / 10),
            seed=self.seed,
            out=out,
            resume=True,
            report_every=600,
            checkpoint_seconds=60,
        )
        return round(fitted.seconds / 60, 1)


def judge(pair: Pair, test: Dataset, protocol: Protocol) -> Row:
    """The ELBO's and the importance-sampled log p(x) of the test images, nats per image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewParticlesWarning)  # k-hat is a column of the table
        found = log_likelihood(*pair, test, num_particles=protocol.particles)
    elbo = compare_bounds(*pair, test, ["elbo"], num_particles=10).table["value"].iloc[0]
    return {
        f"IS-{protocol.particles}": round(found.mean, 3),
        "s.e.": round(found.mean_se, 3),
        "ELBO": round(float(elbo), 3),
        "k-hat too high": round(found.unreliable, 3),
    }


def clusters(pair: Pair, test: Dataset) -> Row:
    """How well the clusters of the test images are digits, and how sure a datum is of its cluster."""
    scores = cluster_scores(assign(*pair, test), test)
    return {
        "accuracy": round(scores.accuracy, 4),
        "majority": round(scores.majority_accuracy, 4),
        "NMI": round(scores.nmi, 3),
        "H(y|x)": round(scores.usage.conditional_entropy, 3),
        "usage": round(scores.usage.entropy, 3),
        "dead": len(scores.usage.dead),
    }


def sticks(name: str, protocol: Protocol, out: Path) -> Row:
    """Nalisnick and Smyth: 784-500-50 and back, ReLU; 50 weights, alpha0 = 5."""
    train, test = protocol.data()
    encoder = MLP(784, (500,), nn.ReLU)
    prior = StickBreaking(50, 5.0)
    gain = 1.0 if name in ("normal", "kumaraswamy-glorot") else prior.gain
    likelihood = ConditionalBernoulli(MLP(50, (500,), nn.ReLU, gain=gain), 784, logits=train.logits())
    guides: dict[str, Callable[..., nn.Module]] = {
        "kumaraswamy": KumaraswamySticks,
        "logit-normal": LogitNormalSticks,
        "gamma": GammaSticks,
        "beta": BetaSticks,
    }
    pair: Pair
    if name == "normal":
        pair = VAE(StandardNormal(50), likelihood), AmortizedNormal(ConditionalNormal(encoder, 50))
        where: dict[str, Any] = {"site": "z"}
    else:
        pair = SBVAE(prior, likelihood), guides[name.removesuffix("-glorot")](encoder, 50, concentration=5.0)
        where = {"site": "logit_v", "of": stick_weights}
    closed = name not in ("logit-normal", "gamma")
    minutes = protocol.train(pair, train, out, Variational(ELBO("analytic" if closed else "monte_carlo")))
    errors = knn_error(*pair, train, test, k=(3, 5, 10), **where).error
    return judge(pair, test, protocol) | {f"kNN {k}": round(e, 4) for k, e in errors.items()} | {"min": minutes}


def contrast(name: str, protocol: Protocol, out: Path) -> Row:
    """Shu: the class where the latent is made, or where the datum is; 256-256 ReLU (his are twice as wide), z of 64.

    The classes have equal weights and begin close together, and no bias begins at the data: where clusters begin far
    apart, or the decoder has the mean image from the start, all data stay in one.
    """
    train, test = protocol.data()
    widths = (256, 256)
    guide = ClusterGuide(MLP(784, widths, nn.ReLU), ConditionalNormal(MLP(794, widths, nn.ReLU), 64), classes=10)
    model: nn.Module
    if name == "gmvae":
        prior = GaussianMixture(64, 10, spread=0.05)
        prior.logits.requires_grad_(False)
        model = GMVAE(prior, ConditionalBernoulli(MLP(64, widths, nn.ReLU), 784))
    else:
        likelihood = ConditionalBernoulli(MLP(74, widths, nn.ReLU), 784)
        model = M2(StandardNormal(64), likelihood, classes=10)
    minutes = protocol.train((model, guide), train, out, Variational())
    return judge((model, guide), test, protocol) | clusters((model, guide), test) | {"min": minutes}


def vade(name: str, protocol: Protocol, out: Path) -> Row:
    """Jiang et al.: 784-500-500-2000-10 ReLU and back; as an autoencoder first, then a mixture on its codes."""
    train, test = protocol.data()
    widths = (500, 500, 2000)
    model = VaDE(
        GaussianMixture(10, 10),
        ConditionalBernoulli(MLP(10, widths[::-1], nn.ReLU), 784, logits=train.logits()),
    )
    encoder = ConditionalNormal(MLP(784, widths, nn.ReLU), 10)
    plain = AmortizedNormal(encoder)
    minutes = protocol.train((model, plain), train, out.parent / "autoencoder", Reconstruction(), protocol.pretrain)
    model.initialise(latent_codes(model, plain, train, "z"), seed=protocol.seed)
    if name == "autoencoder":
        return clusters((model, plain), test) | {"min": minutes}
    with torch.no_grad():  # the code's noise begins small: what was trained was its mean
        encoder.log_scale.get_parameter("bias").fill_(-2.0)
    pair: Pair = (model, plain if name == "exact" else VaDEGuide(encoder, model.prior))
    objective = Variational(ELBO("monte_carlo" if name == "exact" else "analytic"))
    minutes = protocol.train(pair, train, out, objective)
    return judge((model, plain), test, protocol) | clusters((model, plain), test) | {"min": minutes}


def mixtures(name: str, protocol: Protocol, out: Path) -> Row:
    """Nalisnick et al.: 784-500-25 and back, ReLU; three components, all N(0, I) in the prior."""
    train, test = protocol.data()
    likelihood = ConditionalBernoulli(MLP(25, (500,), nn.ReLU), 784, logits=train.logits())
    pair: Pair
    if name == "normal":
        pair = (
            VAE(StandardNormal(25), likelihood),
            AmortizedNormal(ConditionalNormal(MLP(784, (500,), nn.ReLU), 25)),
        )
    else:
        K, sticks_prior = 3, DirichletSticks(3) if name == "dirichlet" else StickBreaking(3, 1.0)
        model = DLGMM(sticks_prior, NormalComponents(torch.zeros(K, 25)), likelihood)
        pair = (
            model,
            MixtureGuide(
                ConditionalKumaraswamy(MLP(500, ()), K - 1),
                ConditionalNormals(MLP(500, ()), 25, components=K),
                features=MLP(784, (500,), nn.ReLU),
            ),
        )
    minutes = protocol.train(pair, train, out, Variational())
    return judge(pair, test, protocol) | {"min": minutes}


EXPERIMENTS: dict[str, tuple[tuple[str, ...], Callable[[str, Protocol, Path], Row]]] = {
    "sticks": (("normal", "kumaraswamy", "logit-normal", "gamma", "beta", "kumaraswamy-glorot"), sticks),
    "contrast": (("gmvae", "m2"), contrast),
    "vade": (("autoencoder", "exact", "paper"), vade),
    "mixtures": (("normal", "dirichlet", "process"), mixtures),
}


def row(experiment: str, name: str, protocol: Protocol, folder: Path) -> Row:
    """A row that has been measured, or measure it."""
    out = folder / experiment / f"seed{protocol.seed}" / name
    kept = out.with_suffix(".json")
    if kept.exists():
        found: Row = json.loads(kept.read_text())
        return found
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(protocol.seed)
        found = {"pair": name} | EXPERIMENTS[experiment][1](name, protocol, out) | {"seed": protocol.seed}
    kept.write_text(json.dumps(found))
    return found


def main() -> None:
    """Print the table of an experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    for field in fields(Protocol):
        if field.name != "seed":
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", default="", help="which rows, by commas")
    parser.add_argument("--out", type=Path, default=Path("runs/latents"))
    args = vars(parser.parse_args())
    torch.set_num_threads(1)
    experiment, names = args["experiment"], EXPERIMENTS[args["experiment"]][0]
    only = tuple(filter(None, args["only"].split(","))) or names
    if unknown := set(only) - set(names):
        parser.error(f"`--only` has {', '.join(sorted(unknown))}, expected some of {', '.join(names)}")
    given = {field.name: args[field.name] for field in fields(Protocol) if field.name != "seed"}
    rows = [row(experiment, name, Protocol(**given, seed=seed), args["out"]) for seed in args["seeds"] for name in only]
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
