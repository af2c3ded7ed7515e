r"""Guides that are mixtures given the datum, with a draw of every component in place of one of the mixture.

A draw of a mixture has no gradient for the weights. Taken apart into strata it has one for everything:

.. math:: \mathbb{E}_q[\log w(z)] = \sum_k \pi_k\, \mathbb{E}_{q_k}[\log w(z_k)], \qquad
    w(z) = \frac{p(x, z)}{\sum_j \pi_j\, q_j(z)}

Every component is evaluated at every draw. The code of the DLGMM's authors has for the density
:math:`\sum_k \pi_k\, q_k(z_k)`, each component at its own draw alone. By Jensen's inequality its logarithm is no less
than :math:`\sum_k \pi_k \log q_k(z_k)`, so what it gives is a bound, but one below that of a guide which tells the
component as a latent of its own. Of three like components in 25 dimensions it gives away 2 nats.
"""

from __future__ import annotations

from typing import Any, cast

import pyro
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution

from ppmodels.conditionals import check_fits
from ppmodels.distributions import as_pyro, as_vector
from ppmodels.nets import Trunk, check_size, head
from ppmodels.observed import check_data
from ppmodels.priors.mixtures import mixture
from ppmodels.sticks import log_stick_weights

__all__ = ["AmortizedMixture", "MixtureGuide"]


class AmortizedMixture(nn.Module):
    r"""One latent, a mixture given the datum, :math:`q(z \mid x) = \sum_k \pi_k(x)\, q_k(z \mid x)`.

    Site: `z`, or what `site` names, of shape `(n, z_dim)`, marked to be stratified. Plate: `data`, dimension
    -1. All of it broadcasts under plates further left.

    Arguments:
        trunk: the net of the weights, whose features one linear head turns into logits.
        components: the conditional of the components, a module from vectors to a distribution with the
            components along its last batch dimension, such as `ConditionalNormals`.
        features: a net that `x` goes through first; its output takes the place of `x` in both of the above.
        site: the name of the latent.
        stratify: take a draw of every component in the place of one of the mixture; without it the site is
            drawn like any other, and the weights have no pathwise gradient.

    Raises:
        TypeError: a net is no module, or `trunk` does not say its `out_features`.
        ValueError: there is one component, or nets do not take what they are given.

    References:
        Sticking the Landing (Roeder, Wu and Duvenaud, 2017), arXiv:1703.09194, section 5
        Approximate Inference for Deep Latent Gaussian Mixtures (Nalisnick, Hertel and Smyth, 2016), NIPS
        Workshop on Bayesian Deep Learning

    Example:
        >>> import torch
        >>> from ppmodels.components import ConditionalNormals
        >>> from ppmodels.nets import MLP
        >>> guide = AmortizedMixture(
        ...     MLP(200, ()), ConditionalNormals(MLP(200, ()), 50, components=3), features=MLP(784, (200, 200))
        ... )
        >>> guide(torch.zeros(32, 784)).shape, guide.mixture(torch.zeros(32, 784)).mixture_distribution.probs.shape
        (torch.Size([32, 50]), torch.Size([32, 3]))
    """

    def __init__(
        self,
        trunk: Trunk,
        components: nn.Module,
        *,
        features: nn.Module | None = None,
        site: str = "z",
        stratify: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(trunk, nn.Module) or not hasattr(trunk, "out_features"):
            raise TypeError(f"`trunk` must be a module that says its `out_features`, such as MLP(784), got {trunk!r}")
        count = _components_of(components)
        _check_features(features, trunk=trunk, components=components)
        self.features = nn.Identity() if features is None else features
        self.weights = nn.Sequential(trunk, head(trunk, count))
        self.components = components
        self.site, self.stratify = site, stratify

    def forward(self, x: Tensor) -> Tensor:
        """Draws the latent of `x`, `(n, x_dim)`; returns it."""
        q, mark = self.mixture(x), cast(Any, {"stratify": self.stratify})
        with pyro.plate("data", len(x), dim=-1):
            z: Tensor = pyro.sample(self.site, q, infer=mark)  # (..., n, z_dim)
        return z

    def mixture(self, x: Tensor) -> TorchDistribution:
        """The distribution of the latent of each `x`, `(n, x_dim)`."""
        h = self.features(check_data(x))
        return _weighted(self.weights(h), self.components(h))


class MixtureGuide(nn.Module):
    r"""Sticks, and a mixture weighted by them, :math:`q(v, z \mid x) = q(v \mid x) \sum_k \pi_k(v)\, q_k(z \mid x)`.

    The guide of `DLGMM`. A draw of the sticks gives the weights, and each component then a draw of its own:

    .. math:: \sum_k \pi_k(v) \Bigl[\log p(x \mid z_k) + \log p(z_k \mid v)
        - \log \sum_j \pi_j(v)\, q_j(z_k \mid x)\Bigr] - \mathrm{KL}(q(v \mid x) \,\|\, p(v))

    Sites: `logit_v`, the sticks' logits, of shape `(n, K - 1)`; `z` of shape `(n, z_dim)`, marked to be
    stratified. Plate: `data`, dimension -1. All of it broadcasts under plates further left.

    Arguments:
        sticks: the conditional of the sticks' logits, of K - 1 outputs, such as `ConditionalKumaraswamy`.
        components: the conditional of the K components, a module from vectors to a distribution with the
            components along its last batch dimension, such as `ConditionalNormals`.
        features: a net that `x` goes through first; its output takes the place of `x` in both of the above.
        stratify: take a draw of every component in the place of one of the mixture; without it `z` is drawn
            like any other site, with no pathwise gradient for the sticks.

    Raises:
        TypeError: a net is no module.
        ValueError: sticks and components do not go together, or nets do not take what they are given.

    References:
        Approximate Inference for Deep Latent Gaussian Mixtures (Nalisnick, Hertel and Smyth, 2016), NIPS
        Workshop on Bayesian Deep Learning

    Example:
        >>> import torch
        >>> from guides.sticks import ConditionalKumaraswamy
        >>> from ppmodels.components import ConditionalNormals
        >>> from ppmodels.nets import MLP
        >>> sticks, components = ConditionalKumaraswamy(MLP(500, ()), 2), ConditionalNormals(MLP(500, ()), 25, 3)
        >>> MixtureGuide(sticks, components, features=MLP(784, (500,)))(torch.zeros(32, 784)).shape
        torch.Size([32, 25])
    """

    def __init__(
        self, sticks: nn.Module, components: nn.Module, *, features: nn.Module | None = None, stratify: bool = True
    ) -> None:
        super().__init__()
        count = _components_of(components)
        _check_features(features, sticks=sticks, components=components)
        made = getattr(sticks, "out_features", None)
        if made not in (None, count - 1):
            raise ValueError(
                f"`sticks` makes {made} sticks, enough for {made + 1} components, but `components` makes {count}: "
                "expected one stick less than components"
            )
        self.features = nn.Identity() if features is None else features
        self.sticks, self.components = sticks, components
        self.stratify = stratify

    def forward(self, x: Tensor) -> Tensor:
        """Draws sticks and latent of `x`, `(n, x_dim)`; returns the latter."""
        h, mark = self.features(check_data(x)), cast(Any, {"stratify": self.stratify})
        with pyro.plate("data", len(x), dim=-1):
            logit_v = pyro.sample("logit_v", as_vector(self.sticks(h)))  # (..., n, K - 1)
            q = _weighted(log_stick_weights(logit_v), self.components(h))
            z: Tensor = pyro.sample("z", q, infer=mark)  # (..., n, z_dim)
        return z


def _weighted(logits: Tensor, components: Distribution) -> TorchDistribution:
    """The mixture of components whose batch is `(n, K)`, with weights for each draw of the sticks, `(..., n, K)`."""
    every: Any = as_pyro(components)
    return mixture(logits, every.expand(logits.shape))


def _components_of(components: nn.Module) -> int:
    check_fits("components", components, "x", None)
    count = getattr(components, "components", None)
    if count is None:
        raise ValueError(
            f"`components` must say how many it makes, got {type(components).__name__}: set its attribute `components`"
        )
    return check_size("components", count, least=2)


def _check_features(features: nn.Module | None, **layers: nn.Module) -> None:
    """Refuses nets that do not take what the net before them makes, or without one the same as each other."""
    source, size = ("x", None) if features is None else ("features", getattr(features, "out_features", None))
    for name, layer in layers.items():
        check_fits(name, layer, source, size)
        size = size or getattr(layer, "in_features", None)
