"""A guide of any shape: an inverse autoregressive flow per datum."""

from __future__ import annotations

from collections.abc import Sequence

from torch.distributions import constraints

from ppmodels.conditionals import ConditionalFlow
from ppmodels.nets import Trunk

from .amortized import Amortized

__all__ = ["AmortizedFlow"]


class AmortizedFlow(Amortized):
    r"""One latent, a flow given the datum, :math:`z = T(\epsilon;\, f(x)), \; \epsilon \sim \mathcal{N}(0, I)`.

    Draws and their densities come from one pass of each map, see `ConditionalFlow`, which is also the way to
    put a flow into a guide of several layers.

    Site: `z` of shape `(n, z_dim)`. Plate: `data`, dimension -1.

    Arguments:
        trunk: the net :math:`f` from data to features.
        z_dim: the length of `z`, before it is carried to `support`.
        transforms: the number of maps.
        hidden: widths of the net of each map.
        passes: how many passes scoring a foreign `z` takes, `z_dim` where `None`; 2 makes the maps couplings.
        site: the name of the latent.
        support: where it lives.

    Raises:
        ImportError: zuko is not installed.

    References:
        Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
        arXiv:1606.04934

    Example:
        >>> import torch
        >>> from ppmodels.nets import MLP
        >>> AmortizedFlow(MLP(784), 8)(torch.zeros(32, 784)).shape
        torch.Size([32, 8])
    """

    def __init__(
        self,
        trunk: Trunk,
        z_dim: int,
        *,
        transforms: int = 3,
        hidden: Sequence[int] = (64, 64),
        passes: int | None = None,
        site: str = "z",
        support: constraints.Constraint = constraints.real,
    ) -> None:
        conditional = ConditionalFlow(trunk, z_dim, transforms=transforms, hidden=hidden, passes=passes)
        super().__init__([conditional], sites=[site], supports=[support])
