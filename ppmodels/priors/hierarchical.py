"""Priors with a level above the latent, integrated out in closed form."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ppmodels.distributions import as_pyro, as_vector
from ppmodels.nets import check_size

from .settings import hold, log_positive

__all__ = ["StudentT"]


class StudentT(nn.Module):
    r"""A normal whose precision is drawn first, from a gamma law; what is left without it is Student's t.

    .. math:: \lambda_i \sim \operatorname{Gamma}(\nu / 2,\, \nu / 2), \quad
        z_i \mid \lambda_i \sim \mathcal{N}(0,\, s_i^2 / \lambda_i), \qquad
        p(z_i) \propto \Bigl(1 + \frac{z_i^2}{\nu s_i^2}\Bigr)^{-(\nu + 1) / 2}

    With `shared` there is one precision for all of a datum's coordinates, :math:`\lambda_i = \lambda`: it is near or
    far as a whole, and its coordinates, though uncorrelated, know of each other.

    A location that is drawn first is a layer of the model, see the `layers` of `VAE`; a half-Cauchy scale makes a
    `Horseshoe`; a level above all data is a `SampledHyper`.

    Arguments:
        z_dim: the length of `z`.
        df: the degrees of freedom :math:`\nu`; the fewer, the heavier the tails, and near normal from 30 on.
        scale: the scale :math:`s`, a number or `(z_dim,)`.
        shared: whether the precision is drawn once for all coordinates.
        learned: whether degrees of freedom and scale are parameters: of each coordinate, but one :math:`\nu` where
            the precision is shared.

    Raises:
        ValueError: `df` or `scale` is not positive or of another length.

    References:
        Scale mixtures of normal distributions (Andrews and Mallows, 1974), Journal of the Royal Statistical Society
        B 36

    Example:
        >>> StudentT(50, 3.0)().event_shape, StudentT(50, 3.0, shared=True, learned=True).log_df.shape
        (torch.Size([50]), torch.Size([1]))
    """

    log_df: Tensor
    log_scale: Tensor

    def __init__(
        self,
        z_dim: int,
        df: float | Tensor = 5.0,
        *,
        scale: float | Tensor = 1.0,
        shared: bool = False,
        learned: bool = False,
    ) -> None:
        super().__init__()
        zeros = torch.zeros(check_size("z_dim", z_dim))
        log_df = log_positive("df", df, zeros[:1] if shared else zeros)
        hold(self, learned=learned, log_df=log_df, log_scale=log_positive("scale", scale, zeros))
        self.shared = shared

    def forward(self) -> TorchDistribution:
        df, scale = self.log_df.exp(), self.log_scale.exp()
        if not self.shared:
            return as_vector(dist.StudentT(df, torch.zeros_like(scale), scale))
        together: Any = dist.MultivariateStudentT(df.squeeze(0), torch.zeros_like(scale), scale.diag_embed())
        return as_pyro(together)
