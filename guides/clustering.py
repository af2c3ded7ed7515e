r"""Guides of models with a class or cluster beside a vector, :math:`q(y \mid x)\, q(z \mid x, y)`."""

from __future__ import annotations

import math
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ppmodels.conditionals import check_fits
from ppmodels.distributions import as_pyro, as_vector
from ppmodels.nets import Trunk, check_size, head, joined, one_hot
from ppmodels.observed import UNKNOWN, check_data, check_labels

__all__ = ["ClusterGuide", "MarginalClusters"]


class ClusterGuide(nn.Module):
    r"""A class and, given it, a vector, :math:`q(y, z \mid x) = q(y \mid x)\, q(z \mid x, y)`.

    The class is marked to be summed out, with a draw of `z` for each of its values, so the bound is

    .. math:: \sum_y q(y \mid x) \bigl[ \log p(x, y, z_y) - \log q(z_y \mid x, y) \bigr] + H(q(y \mid x)),
        \qquad z_y \sim q(z \mid x, y)

    Where a label is given, :math:`q(y \mid x)` is a point mass at it and the bound that of
    :math:`\log p(x, y)`. Then nothing trains the classifier: what learning from labels adds, `log_prob`, is a
    term of the objective.

    Sites: `y` of shape `(n,)`, an integer from 0 to C - 1; `z`, or what `site` names, of shape `(n, z_dim)`.
    Plate: `data`, dimension -1. All of it broadcasts under plates further left.

    Arguments:
        trunk: the net of the classifier, whose features one linear head turns into logits.
        conditional: the conditional :math:`q(z \mid x, y)`, a module from the vector of `x` with the one-hot
            vector of `y` to its right, `(..., x_dim + classes)`, to a distribution.
        classes: the number `C` of values of `y`.
        features: a net that `x` goes through first; its output takes the place of `x` in both of the above.
            What it does is done once per datum, not once per class, and it may take images apart.
        site: the name of the latent `z`.

    Raises:
        TypeError: `trunk` does not say its `out_features`, or `conditional` is no module.
        ValueError: there is one class or none, or nets do not take what they are given.

    References:
        Semi-Supervised Learning with Deep Generative Models (Kingma, Rezende, Mohamed and Welling, 2014),
        arXiv:1406.5298, equations 6 and 7
        Gaussian Mixture VAE: Lessons in Variational Inference, Generative Models, and Deep Nets (Shu, 2016),
        http://ruishu.io/2016/12/25/gmvae

    Example:
        >>> from ppmodels.conditionals import ConditionalNormal
        >>> from ppmodels.nets import MLP
        >>> guide = ClusterGuide(MLP(784, (500,)), ConditionalNormal(MLP(784 + 10, (500,)), 50), classes=10)
        >>> x = torch.zeros(32, 784)
        >>> guide(x).shape, guide.responsibilities(x).shape
        (torch.Size([32, 50]), torch.Size([32, 10]))
    """

    def __init__(
        self,
        trunk: Trunk,
        conditional: nn.Module,
        classes: int,
        *,
        features: nn.Module | None = None,
        site: str = "z",
    ) -> None:
        super().__init__()
        if not isinstance(trunk, nn.Module) or not hasattr(trunk, "out_features"):
            raise TypeError(f"`trunk` must be a module that says its `out_features`, such as MLP(784), got {trunk!r}")
        self.classes = check_size("classes", classes, least=2)
        if features is None:
            source, size = "x", getattr(trunk, "in_features", None)
        else:
            source, size = "features", getattr(features, "out_features", None)
        check_fits("trunk", trunk, source, size)
        check_fits("conditional", conditional, f"{source} and classes", None if size is None else size + classes)
        self.features = nn.Identity() if features is None else features
        self.classifier = nn.Sequential(trunk, head(trunk, classes))
        self.conditional = conditional
        self.site = site

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Draws the class of `x`, `(n, x_dim)`, and the latent given it; labels `y`, `(n,)`, are kept. Returns `z`."""
        h = self.features(check_data(x))
        with pyro.plate("data", len(x), dim=-1):
            q_y = dist.Categorical(logits=self._logits(h, y))
            y = pyro.sample("y", q_y, infer={"enumerate": "parallel"})  # (n,) or, summed out, (C, 1, 1)
            hot = one_hot(y, self.classes, dtype=h.dtype)
            z: Tensor = pyro.sample(self.site, as_vector(self.conditional(joined(h, hot))))  # (..., n, z_dim)
        return z

    def responsibilities(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        r""":math:`q(y \mid x)` of `x`, `(n, x_dim)`, one row per datum, `(n, C)`; labels `y` count as certain."""
        return self._logits(self.features(check_data(x)), y).softmax(-1)

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        r""":math:`\log q(y \mid x)` of the labels `y`, `(n,)`, as if they were not given; 0 where unknown."""
        check_labels(y, len(x), self.classes)
        log_q = self._logits(self.features(check_data(x)), None).log_softmax(-1)  # (n, C)
        return (log_q * one_hot(y, self.classes, dtype=log_q.dtype)).sum(-1)

    def mixture(self, x: Tensor, y: Tensor | None = None) -> TorchDistribution:
        r"""The latent with the class summed out, :math:`\sum_y q(y \mid x)\, q(z \mid x, y)`."""
        h = self.features(check_data(x))
        every = torch.eye(self.classes, dtype=h.dtype, device=h.device)
        components = as_vector(self.conditional(joined(h.unsqueeze(-2), every)))  # batch (n, C), event (z_dim,)
        return as_pyro(dist.MixtureSameFamily(dist.Categorical(logits=self._logits(h, y)), components))

    def _logits(self, h: Tensor, y: Tensor | None) -> Tensor:
        """Of each class, `(n, C)`: minus infinity where a label says that it is another."""
        logits: Tensor = self.classifier(h)
        if y is None:
            return logits
        check_labels(y, len(h), self.classes)
        possible = one_hot(y, self.classes, dtype=torch.bool) | (y == UNKNOWN).unsqueeze(-1)
        return logits.masked_fill(~possible, -math.inf)


class MarginalClusters(nn.Module):
    r"""The same guide with the class summed out, :math:`q(z \mid x) = \sum_y q(y \mid x)\, q(z \mid x, y)`.

    The model then sums its own class out, and a vector is the pair's only latent: what annealing needs. A
    draw is weighed by the density of the whole mixture and not of the component that it came from, so that
    the bound is the higher one. Labels narrow down where draws are taken from; the weights are those of `x`
    alone all the same.

    Site: `z`, or what the guide calls it, of shape `(n, z_dim)`. Plate: `data`, dimension -1.

    Arguments:
        guide: whose parameters these are.
        stratify: take a draw of every component in the place of one of the mixture: its ELBO has a gradient
            for every parameter, where a draw of a mixture has none for the weights.

    References:
        Sticking the Landing (Roeder, Wu and Duvenaud, 2017), arXiv:1703.09194, section 5, for the strata

    Example:
        >>> from ppmodels.conditionals import ConditionalNormal
        >>> from ppmodels.nets import MLP
        >>> guide = ClusterGuide(MLP(784, (500,)), ConditionalNormal(MLP(784 + 10, (500,)), 50), classes=10)
        >>> MarginalClusters(guide)(torch.zeros(32, 784)).shape
        torch.Size([32, 50])
    """

    def __init__(self, guide: ClusterGuide, *, stratify: bool = False) -> None:
        super().__init__()
        self.guide, self.stratify = guide, stratify

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Draws the latent of `x`, `(n, x_dim)`, of labels `y`, `(n,)`, where there are any; returns it."""
        mixture, mark = self.guide.mixture(x, y), cast(Any, {"stratify": self.stratify})  # a mark of ours, not Pyro's
        with pyro.plate("data", len(x), dim=-1):
            z: Tensor = pyro.sample(self.guide.site, mixture, infer=mark)  # (..., n, z_dim)
        return z
