"""The variational autoencoder's generative side, with one stochastic layer or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyro
from torch import Tensor, nn
from torch.distributions import Distribution

from .conditionals import check_fits, layer_sites
from .distributions import as_vector
from .observed import check_data
from .priors import as_prior

__all__ = ["VAE"]


class VAE(nn.Module):
    r"""A deep latent variable model, :math:`p(x, z) = p(z_L) \prod_{l<L} p(z_l \mid z_{l+1})\, p(x \mid z_1)`.

    The story is told in the order of its arguments: the prior draws the top latent, each layer the latent
    below, the likelihood the data. Layers are numbered from the data up, so with two of them `layers[0]` is
    :math:`p(z_1 \mid z_2)`.

    Sites: `z` of shape `(n, z_dim)`, or `z1`, `z2`, ... of as many layers; `x` of shape `(n, x_dim)`,
    observed where given and drawn where not. Plate: `data`, dimension -1. All of it broadcasts under plates
    further left, so latents may have shape `(K, n, z_dim)`.

    Arguments:
        prior: :math:`p(z_L)`, anything that `as_prior` takes. It is called outside the plate, so that what a
            `SampledHyper` draws is shared by all data.
        likelihood: the conditional :math:`p(x \mid z_1)`, a module from vectors to a distribution.
        layers: the conditionals :math:`p(z_l \mid z_{l+1})` from the top down, in the order they are drawn.

    Raises:
        TypeError: the prior, a layer or the likelihood is not of its kind.
        ValueError: the prior has a wrong shape, or what one part makes the next cannot take.

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), arXiv:1312.6114
        Stochastic Backpropagation and Approximate Inference in Deep Generative Models (Rezende, Mohamed and
        Wierstra, 2014), arXiv:1401.4082
        Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), arXiv:1509.00519, for the
        networks of the example

    Example:
        >>> import torch
        >>> from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
        >>> from ppmodels.nets import MLP
        >>> from ppmodels.priors import StandardNormal
        >>> one = VAE(StandardNormal(50), ConditionalBernoulli(MLP(50, (200, 200)), 784))
        >>> two = VAE(
        ...     StandardNormal(50),
        ...     ConditionalBernoulli(MLP(100, (200, 200)), 784),
        ...     layers=[ConditionalNormal(MLP(50, (100, 100)), 100)],
        ... )
        >>> one(n=16).shape, two.sites
        (torch.Size([16, 784]), ('z1', 'z2'))
    """

    def __init__(
        self,
        prior: nn.Module | Distribution | Callable[[], Distribution],
        likelihood: nn.Module,
        *,
        layers: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.prior = as_prior(prior)
        source, size = "prior", self.prior().event_shape[0]
        named = [(f"layers[{i}]", layer) for i, layer in enumerate(layers)]
        for name, layer in [*named, ("likelihood", likelihood)]:
            check_fits(name, layer, source, size)
            source, size = name, getattr(layer, "out_features", None)
        self.layers = nn.ModuleList(layers)
        self.likelihood = likelihood
        self.sites = layer_sites(1 + len(layers))
        """The names of the latent sites, from the data up."""

    def forward(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Draws the latents and, where `x` is not given, `n` data; returns the data."""
        if x is not None:
            check_data(x, getattr(self.likelihood, "out_features", None))
        top, *below = reversed(self.sites)
        prior = self.prior()  # what it draws itself is shared by all data
        with pyro.plate("data", n if x is None else len(x), dim=-1):
            z = pyro.sample(top, prior)  # (..., n, z_dim)
            for site, layer in zip(below, self.layers, strict=True):
                z = pyro.sample(site, as_vector(layer(z)))
            data: Tensor = pyro.sample("x", as_vector(self.likelihood(z)), obs=x)  # (..., n, x_dim)
        return data
