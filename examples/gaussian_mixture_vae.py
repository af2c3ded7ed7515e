"""Clusters of digits without labels: a mixture that finds them, and a class variable that is left unused.

    python examples/gaussian_mixture_vae.py     # three minutes on one core

Two pairs with the same nets and the same guide, and a third. In `GMVAE` the cluster says where the latent lies; in `M2`
it stands beside the latent, in front of the decoder. By the bound there is little between them. But nothing makes M2
use its class: q(y | x) stays close to 1/10 for every y, whose entropy is log 10 = 2.30 nats; clusters are no digits.
In `StyleGMVAE` the clusters move with a style of each datum; the model sums its cluster out, and no guide names it.
"""

from __future__ import annotations

import torch
from torch import nn

from guides import ClusterGuide, MeanFieldStyle
from inference import ClusterScores, Ladder, adam, assign, cluster_scores, compare_bounds, fit
from ppmodels.components import ConditionalNormals
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import digits
from ppmodels.gmvae import GMVAE, StyleGMVAE
from ppmodels.m2 import M2
from ppmodels.nets import MLP
from ppmodels.priors import GaussianMixture, StandardNormal

X, Z, STYLE, CLUSTERS = 64, 8, 4, 10


def net(in_features: int) -> MLP:
    return MLP(in_features, (128, 128), nn.ReLU)


def make(name: str) -> tuple[nn.Module, nn.Module]:
    """One of the three models, and its guide."""
    if name == "StyleGMVAE":
        components = ConditionalNormals(MLP(STYLE, (32,), nn.ReLU), Z, components=CLUSTERS, spread=1.0)
        style, latent = (ConditionalNormal(MLP(128, ()), size) for size in (STYLE, Z))  # heads on one net
        model = StyleGMVAE(StandardNormal(STYLE), components, ConditionalBernoulli(net(Z), X))
        return model, MeanFieldStyle(style, latent, features=net(X))
    guide = ClusterGuide(net(X), ConditionalNormal(net(X + CLUSTERS), Z), CLUSTERS)
    if name == "M2":
        return M2(StandardNormal(Z), ConditionalBernoulli(net(Z + CLUSTERS), X), CLUSTERS), guide
    prior = GaussianMixture(Z, CLUSTERS, spread=0.5)
    prior.logits.requires_grad_(False)  # clusters of equal weight, as in M2
    return GMVAE(prior, ConditionalBernoulli(net(Z), X)), guide


def fit_and_judge(name: str, epochs: int, size: int | None = None) -> tuple[Ladder, ClusterScores]:
    """Fit one of them to digits, and judge it on digits it has not seen."""
    train, test = digits("dynamic", split="train"), digits("dynamic", split="test").realise(0)
    train, test = train.head(size or len(train)), test.head(size or len(test))
    torch.manual_seed(0)
    model, guide = make(name)
    fit(model, guide, train, epochs=epochs, batch_size=50, optimizer=adam(1e-3))
    ladder = compare_bounds(model, guide, test, ["elbo", "iwae:100"])
    return ladder, cluster_scores(assign(model, guide, test), test)


def main(epochs: int = 150, size: int | None = None) -> None:
    torch.set_num_threads(1)  # nets this small only wait for each other on more
    for name in ("GMVAE", "M2", "StyleGMVAE"):
        ladder, scores = fit_and_judge(name, epochs, size)
        print(f"\n{name}\n{ladder}\n{scores}")
        print(f"{name}: H(y|x) {scores.usage.conditional_entropy:.2f} nats, accuracy {scores.accuracy:.2f}")


if __name__ == "__main__":
    main()
