"""Autoencoders whose prior has clusters: one latent for the cluster, one for the place in it, one for the style."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .conditionals import check_fits
from .distributions import as_vector
from .nets import check_size
from .observed import check_data, check_labels
from .priors import as_prior

__all__ = ["GMVAE", "StyleGMVAE"]


class GMVAE(nn.Module):
    r"""A cluster, a place in it, and the datum, :math:`p(x, y, z) = p(y)\, p(z \mid y)\, p(x \mid z)`.

    With `y` summed out this is `VAE` with the mixture for a prior, and with a guide for `z` alone the two are
    the same pair. What is gained by telling `y` is a guide that says it too, `ClusterGuide`: each cluster has
    an encoder of its own, and :math:`q(y \mid x)` is what a datum is assigned by.

    Sites: `y` of shape `(n,)`, summed out where the guide does not draw it; `z` of shape `(n, z_dim)`; `x` of
    shape `(n, x_dim)`, observed where given and drawn where not. Plate: `data`, dimension -1. All of it
    broadcasts under plates further left.

    Arguments:
        prior: the mixture :math:`p(y)\, p(z \mid y)`: `GaussianMixture`, or a prior of your own with
            `log_weights`, `(C,)`, and `components_given(y)`, the distribution of `z` in the cluster `y`. For
            clusters of equal weight, as in the reference, leave the weights where they start:
            `prior.logits.requires_grad_(False)`.
        likelihood: the conditional :math:`p(x \mid z)`, a module from vectors to a distribution.

    Raises:
        TypeError: the prior is no mixture, or the likelihood no module.
        ValueError: the prior has one component, or what it makes the likelihood cannot take.

    References:
        Gaussian Mixture VAE: Lessons in Variational Inference, Generative Models, and Deep Nets (Shu, 2016),
        http://ruishu.io/2016/12/25/gmvae

    Example:
        >>> from ppmodels.conditionals import ConditionalBernoulli
        >>> from ppmodels.nets import MLP
        >>> from ppmodels.priors import GaussianMixture
        >>> model = GMVAE(GaussianMixture(64, 10), ConditionalBernoulli(MLP(64, (512, 512)), 784))
        >>> model(n=16).shape, model.classes
        (torch.Size([16, 784]), 10)
    """

    def __init__(self, prior: nn.Module, likelihood: nn.Module) -> None:
        super().__init__()
        size = as_prior(prior)().event_shape[0]
        missing = [name for name in ("log_weights", "components_given") if not hasattr(prior, name)]
        if not isinstance(prior, nn.Module) or missing:
            raise TypeError(
                "`prior` must be a module that is a mixture, such as GaussianMixture(64, 10), got "
                f"{type(prior).__name__} without {' and '.join(f'`{name}`' for name in missing) or '`state_dict`'}"
            )
        self.prior = prior
        self.classes = check_size("components", len(cast(Tensor, prior.log_weights)), least=2)
        check_fits("likelihood", likelihood, "prior", size)
        self.likelihood = likelihood

    def forward(self, x: Tensor | None = None, y: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Draws cluster, latent and, where `x` is not given, `n` data; returns the data. Labels are only checked."""
        n = n if x is None else len(check_data(x, getattr(self.likelihood, "out_features", None)))
        if y is not None:
            check_labels(y, n, self.classes)
        prior: Any = self.prior
        with pyro.plate("data", n, dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=prior.log_weights), infer={"enumerate": "parallel"})
            z = pyro.sample("z", as_vector(prior.components_given(y)))  # (..., n, z_dim)
            data: Tensor = pyro.sample("x", as_vector(self.likelihood(z)), obs=x)  # (..., n, x_dim)
        return data


class StyleGMVAE(nn.Module):
    r"""Clusters that move with a style, :math:`p(x, w, y, z) = p(w)\, p(y)\, p(z \mid w, y)\, p(x \mid z)`.

    Given the style, `z` is a mixture of normals, and given `z` the datum knows of nothing else. So the
    posterior of the cluster is at hand, `log_responsibilities`, and a guide need only draw `w` and `z`:
    where it leaves `y` out, `y` is summed out here, which is the same bound as with a guide that knows it.

    The paper calls the datum y, the place x and the cluster z; here they are `x`, `z` and `y` as in all models.

    Sites: `w` of shape `(n, w_dim)`; `y` of shape `(n,)`, summed out where the guide does not draw it; `z` of
    shape `(n, z_dim)`; `x` of shape `(n, x_dim)`, observed where given and drawn where not. Plate: `data`,
    dimension -1. All of it broadcasts under plates further left.

    Arguments:
        prior: :math:`p(w)`, anything that `as_prior` takes; standard normal in the paper.
        components: :math:`p(z \mid w, y)`, a `ConditionalNormals` or a module like it: called with `w` it
            returns all components, `given(w, y)` one. Clusters have equal weight.
        likelihood: the conditional :math:`p(x \mid z)`, a module from vectors to a distribution.

    Raises:
        TypeError: the prior, the components or the likelihood is not of its kind.
        ValueError: the prior has a wrong shape, or what one part makes the next cannot take.

    References:
        Deep Unsupervised Clustering with Gaussian Mixture Variational Autoencoders (Dilokthanakul et al.,
        2016), arXiv:1611.02648

    Example:
        >>> from ppmodels.components import ConditionalNormals
        >>> from ppmodels.conditionals import ConditionalBernoulli
        >>> from ppmodels.nets import MLP
        >>> from ppmodels.priors import StandardNormal
        >>> model = StyleGMVAE(
        ...     StandardNormal(150),
        ...     ConditionalNormals(MLP(150, (500,)), 200, components=10, spread=1.0),
        ...     ConditionalBernoulli(MLP(200, (500, 500)), 784),
        ... )
        >>> model(n=16).shape, model.log_responsibilities(torch.zeros(16, 150), torch.zeros(16, 200)).shape
        (torch.Size([16, 784]), torch.Size([16, 10]))
    """

    log_weights: Tensor

    def __init__(
        self,
        prior: nn.Module | Distribution | Callable[[], Distribution],
        components: nn.Module,
        likelihood: nn.Module,
    ) -> None:
        super().__init__()
        self.prior = as_prior(prior)
        check_fits("components", components, "prior", self.prior().event_shape[0])
        check_fits("likelihood", likelihood, "components", getattr(components, "out_features", None))
        with torch.no_grad():
            shape = components(self.prior()()).batch_shape
        if not hasattr(components, "given") or len(shape) != 1:
            raise TypeError(
                "`components` must return a distribution for each component, along a last batch dimension, and "
                f"have `given`, as ConditionalNormals(MLP(150), 200, 10) does, got {type(components).__name__}"
            )
        self.classes = check_size("components", shape[0], least=2)
        self.components, self.likelihood = components, likelihood
        self.register_buffer("log_weights", torch.zeros(self.classes))

    def forward(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Draws the latents and, where `x` is not given, `n` data; returns the data."""
        n = n if x is None else len(check_data(x, getattr(self.likelihood, "out_features", None)))
        components: Any = self.components
        prior = self.prior()  # here, so that what it samples itself is shared by all data
        with pyro.plate("data", n, dim=-1):
            w = pyro.sample("w", prior)  # (..., n, w_dim)
            y = pyro.sample("y", dist.Categorical(logits=self.log_weights), infer={"enumerate": "parallel"})
            z = pyro.sample("z", components.given(w, y))  # (..., n, z_dim)
            data: Tensor = pyro.sample("x", as_vector(self.likelihood(z)), obs=x)  # (..., n, x_dim)
        return data

    def log_responsibilities(self, w: Tensor, z: Tensor) -> Tensor:
        r""":math:`\log p(y \mid w, z) = \log p(z \mid w, y) - \log \sum_c p(z \mid w, c)`, `(..., C)`."""
        log_p: Tensor = self.components(w).log_prob(z.unsqueeze(-2))
        return (log_p + self.log_weights).log_softmax(-1)
