r"""The guide of Jiang et al., whose clusters are those of a draw of its own."""

from __future__ import annotations

from typing import Any, cast

import pyro
import pyro.distributions as dist
from pyro import poutine
from torch import Tensor, nn

from ppmodels.conditionals import check_fits
from ppmodels.distributions import as_vector
from ppmodels.observed import check_data

__all__ = ["VaDEGuide"]


class VaDEGuide(nn.Module):
    r"""An encoder, and clusters read off a draw of it, :math:`q(y, z \mid x) = \gamma_y(z')\, q(z \mid x)`.

    .. math:: \gamma_y(z') = p(y \mid z') = \frac{\pi_y\, p(z' \mid y)}{\sum_c \pi_c\, p(z' \mid c)}, \qquad
        z' \sim q(z \mid x) \text{ independent of } z

    With `ELBO(kl="analytic")` the bound is the paper's, estimated as there from one draw,

    .. math:: \mathbb{E}_{q(z \mid x)}[\log p(x \mid z)]
        - \sum_y \gamma_y(z')\, \mathrm{KL}(q(z \mid x) \,\|\, p(z \mid y)) - \mathrm{KL}(\gamma(z') \,\|\, \pi)

    The paper takes the same draw for :math:`z` and :math:`z'`. In the mean there is no difference, because the
    first term knows nothing of :math:`z'` and the others nothing of :math:`z`; as a program it is a proper
    guide this way, and its importance weights are right.

    The other guide of `VaDE` is an `AmortizedNormal`, with the cluster summed out in the model. Of the two it
    has the higher bound, by what the clusters of one draw know too little of those of another:

    .. math:: \mathbb{E}_{z, z' \sim q(z \mid x)}\, \mathrm{KL}(\gamma(z') \,\|\, \gamma(z)) \ge 0

    It is small where clusters lie apart. The paper has :math:`q(y \mid x) = \mathbb{E}_{q(z \mid x)}[p(y \mid z)]`
    for the best choice beside :math:`q(z \mid x)`; that would be the geometric mean,
    :math:`\propto \exp \mathbb{E}_{q(z \mid x)}[\log p(y \mid z)]`, and would leave a gap as well.

    Sites: `y` of shape `(n,)`, marked to be summed out; `z` of shape `(n, z_dim)`; and `redrawn_z`, the draw
    :math:`z'`, auxiliary and of no weight. Plate: `data`, dimension -1. All of it broadcasts under
    plates further left.

    Arguments:
        conditional: the encoder :math:`q(z \mid x)`, such as `ConditionalNormal(MLP(784, (500, 500)), 10)`. To
            train it as an autoencoder first, put it into an `AmortizedNormal`.
        prior: the model's own prior. Its parameters have two uses and one owner, the model: here they are
            neither registered nor saved. Hence copy and save the pair together,
            `copy.deepcopy((model, guide))`.

    Raises:
        TypeError: `conditional` is no module, or `prior` has no `log_responsibilities`.
        ValueError: `conditional` makes vectors of another length than the prior.

    References:
        Variational Deep Embedding: An Unsupervised and Generative Approach to Clustering (Jiang, Zheng, Tan,
        Tang and Zhou, 2017), arXiv:1611.05148

    Example:
        >>> import torch
        >>> from ppmodels.conditionals import ConditionalNormal
        >>> from ppmodels.nets import MLP
        >>> from ppmodels.priors import GaussianMixture
        >>> guide = VaDEGuide(ConditionalNormal(MLP(784, (500, 500)), 10), GaussianMixture(10, 10))
        >>> guide(torch.zeros(32, 784)).shape
        torch.Size([32, 10])
    """

    def __init__(self, conditional: nn.Module, prior: nn.Module) -> None:
        super().__init__()
        check_fits("conditional", conditional, "x", None)
        if not callable(getattr(prior, "log_responsibilities", None)):
            raise TypeError(
                "`prior` must be the mixture that the model has, such as GaussianMixture(10, 10), got "
                f"{type(prior).__name__} without `log_responsibilities`"
            )
        makes, takes = getattr(conditional, "out_features", None), prior().event_shape[0]
        if makes not in (None, takes):
            raise ValueError(
                f"`conditional` makes vectors of length {makes}, but `prior` is over vectors of length {takes}"
            )
        self.conditional = conditional
        self._prior = (prior,)  # a tuple hides it from registration: the model owns it

    def forward(self, x: Tensor) -> Tensor:
        """Draws the clusters and latents of `x`, `(n, x_dim)`; returns the latter."""
        prior: Any = self._prior[0]
        q = as_vector(self.conditional(check_data(x)))
        with pyro.plate("data", len(x), dim=-1):
            z: Tensor = pyro.sample("z", q)  # (..., n, z_dim)
            with poutine.mask(mask=False):
                other = pyro.sample("redrawn_z", q, infer={"is_auxiliary": True})  # (..., n, z_dim)
            log_gamma = prior.log_responsibilities(other)  # (..., n, C)
            pyro.sample("y", dist.Categorical(logits=log_gamma), infer={"enumerate": "parallel"})
        return z

    def _apply(self, fn: Any, recurse: bool = True) -> VaDEGuide:  # noqa: FBT001, FBT002
        self._prior[0]._apply(fn, recurse)
        return cast(VaDEGuide, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]
