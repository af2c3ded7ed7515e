"""A VAE trained in three ways, under eight bounds: how tightly is log p(x) known?  python examples/compare_bounds.py"""

import math

import torch

from guides import AmortizedNormal
from inference import ELBO, IWAE, DReG, Variational, Weights, bound, compare_bounds, fit
from inference.figures import ladder_figure
from ppmodels.cli.pictures import save
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import digits
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal
from ppmodels.vae import VAE


@bound("lower", paper="Ionides 2008")
def truncated(weights: Weights) -> torch.Tensor:  # a bound of one's own: no draw counts for more than sqrt(K) others
    ceiling = IWAE()(weights) + 0.5 * math.log(weights.num_particles)
    return weights.log_w.minimum(ceiling).logsumexp(0) - math.log(weights.num_particles)


def main(epochs: int = 100, n: int = 100, temperatures: int = 200, out: str = "runs/bounds.svg") -> None:
    bounds = ["elbo", "iwae:20", "iwae:1000", "renyi:0.5", "tvo", truncated, "cubo:2", f"bdmc:{temperatures}"]
    objectives = Variational(ELBO()), Variational(IWAE(), 20), Variational(IWAE(), 20, estimator=DReG())
    ladders, test = [], digits("static", split="test").head(n)
    for name, objective in zip(("ELBO", "IWAE", "DReG"), objectives, strict=True):
        torch.manual_seed(0)
        model = VAE(StandardNormal(8), ConditionalBernoulli(MLP(8, (64, 64)), 64))
        guide = AmortizedNormal(ConditionalNormal(MLP(64, (64, 64)), 8))
        fit(model, guide, digits("dynamic", split="train"), objective, epochs=epochs)
        ladders.append((name, compare_bounds(model, guide, test, bounds)))
        print(f"\ntrained with {name}\n{ladders[-1][1]}")
    print(save(ladder_figure(ladders), out))


if __name__ == "__main__":
    main()
