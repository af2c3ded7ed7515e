"""A mixture for a guide on real digits: one normal, a mixture of three, and the DLGMM with its sticks, at equal width.

    python examples/deep_latent_mixture.py     # two minutes on one core

A mixture in the guide can cost nothing: it has the normal for a special case. The authors' code found its bound lower
all the same. It has the density of each component at its own draw where that of the whole mixture at each draw is due;
the last lines say what of the entropy, and so of the bound, that gives away for the DLGMM trained here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from guides import AmortizedMixture, AmortizedNormal, ConditionalKumaraswamy, MixtureGuide
from inference import adam, compare_bounds, fit, paired_difference
from ppmodels.components import ConditionalNormals
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import Dataset, digits
from ppmodels.dlgmm import DLGMM, NormalComponents
from ppmodels.nets import MLP
from ppmodels.priors import DirichletSticks, StandardNormal
from ppmodels.sticks import log_stick_weights
from ppmodels.vae import VAE

X, Z, K, WIDTH = 64, 8, 3, 128


def make(name: str, train: Dataset) -> tuple[nn.Module, nn.Module]:
    """One of the three pairs; all have the same nets up to their last layers."""
    torch.manual_seed(0)
    likelihood = ConditionalBernoulli(MLP(Z, (WIDTH,), nn.ReLU), X, logits=train.logits())
    features, heads = MLP(X, (WIDTH,), nn.ReLU), MLP(WIDTH, ())
    if name == "normal":
        return VAE(StandardNormal(Z), likelihood), AmortizedNormal(ConditionalNormal(features, Z))
    components = ConditionalNormals(heads, Z, K)
    if name == "mixture":
        return VAE(StandardNormal(Z), likelihood), AmortizedMixture(heads, components, features=features)
    sticks = ConditionalKumaraswamy(heads, K - 1)
    model = DLGMM(DirichletSticks(K), NormalComponents(torch.zeros(K, Z)), likelihood)
    return model, MixtureGuide(sticks, components, features=features)


@torch.no_grad()
def entropies(guide: MixtureGuide, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of q(z | x, v): of the whole mixture, and as the authors' code has it; one estimate for each datum."""
    h = guide.features(x)
    log_pi, q = log_stick_weights(guide.sticks(h).sample()), guide.components(h)  # (n, K)
    z = q.sample().movedim(-2, 0).unsqueeze(-2)  # (K, n, 1, Z), a draw of each component
    log_q = q.log_prob(z)  # (K, n, K), under each
    whole = (log_pi + log_q).logsumexp(-1).T  # (n, K)
    own = (log_pi + log_q.diagonal(dim1=0, dim2=2)).logsumexp(-1)  # (n,)
    return -(log_pi.exp() * whole).sum(-1), -own


def main(epochs: int = 200, size: int | None = None) -> None:
    torch.set_num_threads(1)  # nets this small only wait for each other on more
    train, test = digits("dynamic", split="train"), digits("dynamic", split="test").realise(0)
    train, test = train.head(size or len(train)), test.head(size or len(test))
    ladders = {}
    for name in ("normal", "mixture", "dlgmm"):
        model, guide = make(name, train)
        fit(model, guide, train, epochs=epochs, batch_size=50, optimizer=adam(1e-3))
        ladders[name] = compare_bounds(model, guide, test, ["elbo", "iwae:500"])
        print(f"\n{name}\n{ladders[name]}")
    for bound in ("ELBO", "IWAE-500"):
        gain, error = paired_difference(ladders["dlgmm"].row(bound).value, ladders["normal"].row(bound).value)
        print(f"{bound} of the DLGMM less the normal's: {gain:+.2f} nats (s.e. {error:.2f}, paired by image)")
    draws = [torch.stack(entropies(guide, test.all())) for _ in range(100)]
    lost, error = paired_difference(*torch.stack(draws).mean(0))
    print(f"with the authors' entropy it would be {lost:.2f} nats lower (s.e. {error:.2f})")


if __name__ == "__main__":
    main()
