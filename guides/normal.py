"""The guide of the variational autoencoder: one diagonal normal per datum."""

from __future__ import annotations

from torch import nn
from torch.distributions import constraints

from .amortized import Amortized

__all__ = ["AmortizedNormal"]


class AmortizedNormal(Amortized):
    r"""One latent, normal given the datum, :math:`q(z \mid x) = \mathcal{N}(z;\, \mu(x), \sigma^2(x))`.

    On another support it is the image of that normal, so a prior on the positive numbers or the unit interval
    has a guide too; on the simplex the conditional has one output less than `z` has entries.

    Site: `z` of shape `(n, z_dim)`. Plate: `data`, dimension -1.

    Arguments:
        conditional: the encoder, such as `ConditionalNormal(MLP(784, (200, 200)), 50)`.
        site: the name of the latent.
        support: where it lives, for instance the `support` of the prior's distribution.

    References:
        Auto-Encoding Variational Bayes (Kingma and Welling, 2014), arXiv:1312.6114

    Example:
        >>> import torch
        >>> from ppmodels.conditionals import ConditionalNormal
        >>> from ppmodels.nets import MLP
        >>> guide = AmortizedNormal(ConditionalNormal(MLP(784), 4), support=constraints.simplex)
        >>> guide(torch.zeros(32, 784)).sum(-1).mean()
        tensor(1., grad_fn=<MeanBackward0>)
    """

    def __init__(
        self,
        conditional: nn.Module,
        *,
        site: str = "z",
        support: constraints.Constraint = constraints.real,
    ) -> None:
        super().__init__([conditional], sites=[site], supports=[support])
