"""How many pieces does a digit need? The weights of a broken stick for a code, broken further while mass remains.

    python examples/stick_breaking.py     # half a minute on one core

The stick starts with few pieces; while the last of them, which has all that is left, keeps more than a hundredth, it
is broken further, and what was learned stays. Beside it a normal latent as long as the weights have become, after as
many epochs in all: the bound of each, log p(x) by importance sampling, and the error of classifying by the neighbours
of a code, where dimensions that nothing uses are in the way.
"""

from __future__ import annotations

import torch
from torch import nn

from guides import AmortizedNormal, KumaraswamySticks
from inference import ELBO, Variational, adam, compare_bounds, fit, knn_error, latent_codes, sticks_for_mass
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import Dataset, digits
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal, StickBreaking
from ppmodels.sbvae import SBVAE
from ppmodels.sticks import stick_weights
from ppmodels.vae import VAE

OBJECTIVE = Variational(ELBO(kl="analytic"))


def weights(model: SBVAE, guide: nn.Module, data: Dataset) -> torch.Tensor:
    """A draw of the weights of each datum, `(n, K)`."""
    return stick_weights(latent_codes(model, guide, data, "logit_v", draw=True))


def grow(train: Dataset, components: int, most: int, epochs: int) -> tuple[SBVAE, nn.Module, int]:
    """Fit; while mass remains break the stick further, and go on. The last of the results counts the fits."""
    prior, fits = StickBreaking(components, 3.0), 0
    decoder = MLP(components, (128,), nn.ReLU, gain=prior.gain)
    model = SBVAE(prior, ConditionalBernoulli(decoder, 64, logits=train.logits()))
    guide = KumaraswamySticks(MLP(64, (128,), nn.ReLU), components, concentration=3.0)
    while True:
        fit(model, guide, train, OBJECTIVE, epochs=epochs, optimizer=adam(3e-3))
        fits += 1
        left = float(weights(model, guide, train)[:, -1].mean())
        print(f"{model.components} components leave {left:.1%} of the stick in the last")
        if left < 0.01 or 2 * model.components > most:
            return model, guide, fits
        model, guide = model.grown(2 * model.components), guide.grown(2 * model.components)


def main(epochs: int = 60, size: int | None = None, components: int = 5, most: int = 40) -> None:
    torch.set_num_threads(1)  # nets this small only wait for each other on more
    torch.manual_seed(0)
    train, test = digits("static", split="train"), digits("static", split="test")
    train, test = (data.head(size or len(data)) for data in (train, test))
    model, guide, fits = grow(train, components, most, epochs)
    sticks, width = (model, guide), model.components
    needed = sticks_for_mass(weights(*sticks, test)).double()
    print(f"99 % of the mass is in {needed.mean():.1f} components on average, {int(needed.max())} at most\n")
    normal = (
        VAE(StandardNormal(width), ConditionalBernoulli(MLP(width, (128,), nn.ReLU), 64, logits=train.logits())),
        AmortizedNormal(ConditionalNormal(MLP(64, (128,), nn.ReLU), width)),
    )
    fit(*normal, train, OBJECTIVE, epochs=fits * epochs, optimizer=adam(3e-3))
    for name, pair, of in (("sticks", sticks, stick_weights), ("normal", normal, None)):
        print(f"{name}\n{compare_bounds(*pair, test, ['elbo', 'iwae:5', 'iwae:500'])}")
        print(f"{knn_error(*pair, train, test, site=pair[0].sites[0], of=of, k=(3, 5))}\n")


if __name__ == "__main__":
    main()
