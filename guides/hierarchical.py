"""The guide of a model with several stochastic layers, bottom-up as in Burda et al."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.distributions import constraints

from .amortized import Amortized

__all__ = ["HierarchicalNormal"]


class HierarchicalNormal(Amortized):
    r"""Each latent normal given the one below, :math:`q(z \mid x) = q(z_1 \mid x) \prod_l q(z_{l+1} \mid z_l)`.

    Each factor is a diagonal normal; their product is not. A `ConditionalFlow` fits in any place.

    Sites: `z1`, `z2`, ... from the data up, each `(n, z_dim)`; `z` where there is one. Plate: `data`,
    dimension -1.

    Arguments:
        layers: the conditionals :math:`q(z_1 \mid x)`, :math:`q(z_2 \mid z_1)`, ..., from the data up.
        supports: where each latent lives; all on the real line where not given.

    References:
        Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), arXiv:1509.00519, for the
        networks of the example

    Example:
        >>> import torch
        >>> from ppmodels.conditionals import ConditionalNormal
        >>> from ppmodels.nets import MLP
        >>> guide = HierarchicalNormal([
        ...     ConditionalNormal(MLP(784, (200, 200)), 100),
        ...     ConditionalNormal(MLP(100, (100, 100)), 50),
        ... ])
        >>> guide.sites, guide(torch.zeros(32, 784)).shape
        (('z1', 'z2'), torch.Size([32, 50]))
    """

    def __init__(
        self, layers: Sequence[nn.Module], *, supports: Sequence[constraints.Constraint] | None = None
    ) -> None:
        super().__init__(layers, supports=supports)
