"""Priors of any shape: flows."""

from __future__ import annotations

from collections.abc import Sequence

from pyro.distributions import TorchDistribution
from torch import nn

from ppmodels.distributions import as_pyro, load_zuko
from ppmodels.nets import check_size

from .settings import check_widths

__all__ = ["FlowPrior"]


class FlowPrior(nn.Module):
    r"""A neural spline flow, :math:`p(z) = \mathcal{N}(T(z);\, 0, I)\, |\det \partial T / \partial z|`.

    A prior is asked for the density of latents that the guide drew, so that direction is the cheap one here:
    one pass of each transform's net, however large `z_dim`. A draw takes `passes` passes.

    Arguments:
        z_dim: the length of `z`.
        transforms: the number of autoregressive spline transforms.
        hidden: widths of the net of each, at least `passes - 1`: a unit for those that each coordinate has before it.
        bins: pieces of each spline, which live on [-5, 5]; outside the flow is the identity.
        passes: how many passes a draw takes: `z_dim` where `None`; 2 makes the transforms couplings.

    Raises:
        ImportError: zuko is not installed.
        ValueError: a size is too small, or a net too narrow to tell the coordinates apart.

    References:
        Neural Spline Flows (Durkan et al., 2019), arXiv:1906.04032
        Variational Lossy Autoencoder (Chen et al., 2017), arXiv:1611.02731, for flows as priors

    Example:
        >>> prior = FlowPrior(5)
        >>> prior()().shape
        torch.Size([5])
    """

    def __init__(
        self,
        z_dim: int,
        *,
        transforms: int = 3,
        hidden: Sequence[int] = (64, 64),
        bins: int = 8,
        passes: int | None = None,
    ) -> None:
        super().__init__()
        self.flow = load_zuko().flows.NSF(
            check_size("z_dim", z_dim),
            bins=check_size("bins", bins, least=2),
            transforms=check_size("transforms", transforms),
            hidden_features=check_widths(hidden, (passes or z_dim) - 1),
            passes=passes,
        )

    def forward(self) -> TorchDistribution:
        return as_pyro(self.flow())
