"""Digits of which fifty have a label: what do the other 1,450 teach a classifier?

    python examples/semi_supervised.py     # a minute on one core

The semi-supervised model of Kingma et al. (M2), with a normal latent and with the weights of a broken stick, beside the
same classifier trained on the labelled data alone. One objective for all data: a bound on log p(x, y) where the label
is known, on log p(x) where not, and log q(y | x) of the labels, without which nothing would teach the classifier.
"""

from __future__ import annotations

import torch
from torch import nn

from guides import ClusterGuide, ConditionalKumaraswamy
from inference import Augmented, Term, Variational, adam, fit
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import Dataset, digits
from ppmodels.labels import PartlyLabelled, partly_labelled
from ppmodels.m2 import M2
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal, StickBreaking
from ppmodels.sticks import stick_weights

X, Z, CLASSES = 64, 8, 10
ALPHA = 1.0  # the weight of the mean log q(y | x) of the labels; 0.1 in the paper
Pair = tuple[M2, ClusterGuide]


def net(in_features: int) -> MLP:
    return MLP(in_features, (128,), nn.ReLU)


def normal() -> Pair:
    model = M2(StandardNormal(Z), ConditionalBernoulli(net(Z + CLASSES), X), CLASSES)
    return model, ClusterGuide(net(X), ConditionalNormal(net(X + CLASSES), Z), CLASSES)


def sticks() -> Pair:
    likelihood = ConditionalBernoulli(net(Z + CLASSES), X)  # of Z weights, made by Z - 1 breaks
    model = M2(StickBreaking(Z, 5.0), likelihood, CLASSES, site="logit_v", link=stick_weights)
    conditional = ConditionalKumaraswamy(net(X + CLASSES), Z - 1, concentration=5.0)
    return model, ClusterGuide(net(X), conditional, CLASSES, site="logit_v")


def semi_supervised(pair: Pair, train: PartlyLabelled, epochs: int) -> ClusterGuide:
    """Fit to all data; the classifier is a part of the guide."""
    model, guide = pair
    objective = Augmented(Variational(), {"labels": Term(guide.log_prob, ALPHA / train.labelled_share)})
    fit(model, guide, train, objective, epochs=epochs, optimizer=adam(1e-3))
    return guide


def supervised(guide: ClusterGuide, train: Dataset, steps: int) -> ClusterGuide:
    """Fit the classifier alone, to the labelled data alone."""
    optimizer = torch.optim.Adam(guide.classifier.parameters(), lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        (-guide.log_prob(train.all(), train.labels).mean()).backward()
        optimizer.step()
    return guide


def main(epochs: int = 300, num_labels: int = 50, size: int | None = None) -> None:
    torch.set_num_threads(1)  # nets this small only wait for each other on more
    whole, test = digits("dynamic", split="train"), digits("dynamic", split="test").realise(0)
    train = partly_labelled(whole.head(size or len(whole)), num_labels, seed=0)
    for name, make in {"normal latent": normal, "stick weights": sticks, "labels alone": normal}.items():
        torch.manual_seed(0)
        pair = make()
        alone = name == "labels alone"
        guide = supervised(pair[1], train.labelled(), 10 * epochs) if alone else semi_supervised(pair, train, epochs)
        with torch.no_grad():
            wrong = (guide.responsibilities(test.all()).argmax(-1) != test.labels).float()
        error, se = wrong.mean(), wrong.std() / len(wrong) ** 0.5
        print(f"{name}: error {error:.1%} (s.e. {se:.1%}), {num_labels} labels of {len(train)}, {len(test)} test data")


if __name__ == "__main__":
    main()
