"""VaDE on real digits: an autoencoder's codes, a mixture put where they are, both trained together, and two bounds.

    python examples/vade.py              # a minute on one core

The exact bound sums the cluster out, the paper's takes it from a second draw of the code. Each trains a pair from the
same start, and each pair is judged by both: the paper's is the lower by the mean of KL(gamma(z') || gamma(z)).
Clusters get the names of classes one to one, on test data; training sees no label.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from guides import AmortizedNormal, VaDEGuide
from inference import (
    ELBO,
    Reconstruction,
    Variational,
    assign,
    cluster_scores,
    compare_bounds,
    fit,
    latent_codes,
    paired_difference,
)
from ppmodels.cli.pictures import grid, save
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import Dataset, digits
from ppmodels.nets import MLP
from ppmodels.priors import GaussianMixture
from ppmodels.vade import VaDE

OBJECTIVES = {"exact": Variational(ELBO()), "paper": Variational(ELBO(kl="analytic"))}


def pretrained(train: Dataset, epochs: int) -> tuple[VaDE, AmortizedNormal]:
    """An autoencoder, and a mixture of ten at its codes."""
    torch.manual_seed(0)
    decoder, encoder = MLP(8, (128, 128), nn.ReLU), MLP(train.x_dim, (128, 128), nn.ReLU)
    model = VaDE(GaussianMixture(8, 10), ConditionalBernoulli(decoder, train.x_dim, logits=train.logits()))
    guide = AmortizedNormal(ConditionalNormal(encoder, 8))
    fit(model, guide, train, Reconstruction(), epochs=epochs)
    model.initialise(latent_codes(model, guide, train, "z"))
    return model, guide


def main(epochs: int = 100, size: int | None = None, out: Path = Path("runs/vade.png")) -> None:
    torch.set_num_threads(1)  # nets this small only wait for each other on more
    train, test = digits("dynamic", split="train"), digits("dynamic", split="test").realise(0)
    train, test = train.head(size or len(train)), test.head(size or len(test))
    start = pretrained(train, epochs)
    clusters = start[0].prior.log_responsibilities(latent_codes(*start, test, "z")).exp()
    print(f"codes and their mixture: accuracy {cluster_scores(clusters, test).accuracy:.3f}")
    for name, objective in OBJECTIVES.items():
        model, exact = copy.deepcopy(start)
        guides = {"exact": exact, "paper": VaDEGuide(exact.layers[0], model.prior)}
        fit(model, guides[name], train, objective, epochs=epochs)
        print(
            f"\ntrained by the {name} bound: accuracy {cluster_scores(assign(model, exact, test), test).accuracy:.3f}"
        )
        ladders = {
            name: compare_bounds(model, guide, test, ["elbo"], num_particles=500) for name, guide in guides.items()
        }
        bounds = {name: ladder.row("ELBO").value for name, ladder in ladders.items()}
        gap, error = paired_difference(bounds["exact"], bounds["paper"])
        print(
            f"exact {bounds['exact'].mean():.3f} nats, the paper's {gap:.3f} lower (s.e. {error:.3f}, paired by image)"
        )
    with torch.no_grad():
        means = model.likelihood(model.prior.components().sample((8,))).mean  # (8, clusters, x_dim)
    print(save(grid(means.flatten(0, 1), train.shape, columns=means.shape[1], title="a column for each cluster"), out))


if __name__ == "__main__":
    main()
