"""Variational deep embedding: clusters of codes, begun where an autoencoder has put the codes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .gmvae import GMVAE

__all__ = ["VaDE"]


class VaDE(nn.Module):
    r"""Clusters of codes, :math:`p(x, y, z) = \pi_y\, \mathcal{N}(z;\, \mu_y, \sigma_y^2)\, p(x \mid z)`.

    The story is that of `GMVAE`; what makes it this method is one encoder for all clusters, and how it begins.
    Which clusters it finds is decided there, and the bound hardly tells good ones from bad. Hence

    1. train the pair as an autoencoder, the code at the mean of an `AmortizedNormal`,
       `fit(model, guide, data, Reconstruction())`;
    2. put the mixture where the codes are, `model.initialise(latent_codes(model, guide, data, "z"))`;
    3. train all of it, `fit(model, guide, data)`.

    With that guide the cluster is summed out here, and the bound is exact in it:

    .. math:: \mathbb{E}_{q(z \mid x)} \Bigl[\log p(x \mid z)
        + \log \sum_y \pi_y\, \mathcal{N}(z;\, \mu_y, \sigma_y^2) - \log q(z \mid x)\Bigr]

    The paper's own is that of a `VaDEGuide` of the same encoder, and lower; by how much is said there. Both
    bound log p(x). The loss that the authors' code reports does not: it has
    :math:`\tfrac{1}{2} D^2 \log 2 \pi` in it that does not belong there, 92 nats at their D = 10, weights that
    need not sum to one, and grey levels scored as if they were bits. Here weights are a softmax.

    Sites: `y` of shape `(n,)`, summed out where the guide does not draw it; `z` of shape `(n, z_dim)`; `x` of
    shape `(n, x_dim)`, observed where given and drawn where not. Plate: `data`, dimension -1. All of it
    broadcasts under plates further left.

    Arguments:
        prior: the mixture :math:`\sum_y \pi_y\, \mathcal{N}(\mu_y, \sigma_y^2)`, a `GaussianMixture`.
        likelihood: the conditional :math:`p(x \mid z)`, a module from vectors to a distribution.

    Raises:
        TypeError: the prior is no mixture, or the likelihood no module.
        ValueError: the prior has one component, or what it makes the likelihood cannot take.

    References:
        Variational Deep Embedding: An Unsupervised and Generative Approach to Clustering (Jiang, Zheng, Tan,
        Tang and Zhou, 2017), arXiv:1611.05148

    Example:
        >>> import torch
        >>> from guides import AmortizedNormal
        >>> from inference import Reconstruction, assign, fit, latent_codes
        >>> from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
        >>> from ppmodels.nets import MLP
        >>> from ppmodels.priors import GaussianMixture
        >>> x = torch.bernoulli(torch.full((100, 8), 0.5))
        >>> model = VaDE(GaussianMixture(2, 3), ConditionalBernoulli(MLP(2, (16,)), 8))
        >>> guide = AmortizedNormal(ConditionalNormal(MLP(8, (16,)), 2))
        >>> autoencoder = fit(model, guide, x, Reconstruction(), epochs=1)
        >>> model.initialise(latent_codes(model, guide, x, "z"))
        >>> fitted = fit(model, guide, x, epochs=1)
        >>> assign(model, guide, x).shape
        torch.Size([100, 3])
    """

    def __init__(self, prior: nn.Module, likelihood: nn.Module) -> None:
        super().__init__()
        self.story = GMVAE(prior, likelihood)

    @property
    def prior(self) -> nn.Module:
        """The mixture."""
        return self.story.prior

    @property
    def likelihood(self) -> nn.Module:
        """The conditional of the data."""
        return self.story.likelihood

    @property
    def classes(self) -> int:
        """The number of clusters."""
        return self.story.classes

    def forward(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Draws cluster, latent and, where `x` is not given, `n` data; returns the data."""
        return self.story.forward(x, n=n)

    def initialise(self, codes: Tensor, *, seed: int = 0) -> None:
        """Put the mixture where the codes are, as scikit-learn's finds it.

        Arguments:
            codes: what an encoder makes of the data, `(N, z_dim)`, as `latent_codes` returns them.
            seed: where the fit begins.

        Raises:
            ValueError: the codes have another width, are not finite, or are fewer than the clusters.
        """
        prior: Any = self.prior
        prior.initialise(codes, seed=seed)
