"""Mixtures of normals."""

from __future__ import annotations

import abc
from typing import Any, Literal, TypeAlias, get_args

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from sklearn.mixture import GaussianMixture as FittedMixture
from torch import Tensor, nn
from torch.distributions import Distribution

from ppmodels.distributions import as_pyro, as_vector
from ppmodels.nets import check_size

__all__ = ["Covariance", "GaussianMixture", "NormalMixture", "even_normal", "mixture"]

Covariance: TypeAlias = Literal["diagonal", "full", "tied"]


class NormalMixture(nn.Module, abc.ABC):
    r"""A mixture of learned normals, :math:`p(z) = \sum_c \pi_c\, \mathcal{N}(z;\, \mu_c, L_c L_c^T)`.

    The locations start on a scrambled Sobol sequence pushed through the normal quantile function, which is
    more even than chance in any number of dimensions, and are scaled so that the mixture starts with mean 0
    and variance 1 in each coordinate, where a net that was made for N(0, I) expects it. `initialise` puts the
    components where codes are instead.

    To write one, say what the weights are, `log_weights`, even at the start, and how they are set, `set_weights`;
    `GaussianMixture` is the shortest example.

    Arguments:
        z_dim: the length of `z`.
        components: the number C of normals.
        covariance: "diagonal", a scale for each coordinate of each component; "full", a lower triangular
            :math:`L_c` for each; or "tied", one for all.
        spread: how much of the starting variance lies between the locations, in [0, 1).

    Raises:
        ValueError: a size is not positive, `covariance` is unknown, or `spread` is no share.
    """

    below: Tensor | None

    def __init__(self, z_dim: int, components: int, *, covariance: Covariance, spread: float) -> None:
        super().__init__()
        check_size("components", components)
        if covariance not in get_args(Covariance):
            raise ValueError(f"`covariance` must be one of {', '.join(get_args(Covariance))}, got {covariance!r}")
        if not 0.0 <= spread < 1.0:
            raise ValueError(f"`spread` is a share of the variance, in [0, 1), got {spread}")
        spread = spread if components > 1 else 0.0
        loc = even_normal(components, check_size("z_dim", z_dim)) * spread**0.5  # (C, z_dim)
        self.covariance = covariance
        self.loc = nn.Parameter(loc)
        scales = 1 if covariance == "tied" else components
        self.log_scale = nn.Parameter(torch.full_like(loc[:scales], 1.0 - spread).log() / 2)
        below = None if covariance == "diagonal" else nn.Parameter(torch.zeros(scales, z_dim, z_dim))
        self.register_parameter("below", below)  # what counts is below the diagonal

    @property
    @abc.abstractmethod
    def log_weights(self) -> Tensor:
        """The logarithms of the weights, `(C,)`."""

    @abc.abstractmethod
    def set_weights(self, weights: Tensor) -> None:
        """Change the parameters in place to those of other weights, `(C,)`."""

    def forward(self) -> TorchDistribution:
        return mixture(self.log_weights, self.components())

    def components(self) -> TorchDistribution:
        """All components, along the batch dimension."""
        return self._normal(self.loc, self.log_scale, self.below)

    def components_given(self, y: Tensor) -> TorchDistribution:
        """The component of each of `y`, whole numbers of any shape, which is that of the batch."""
        scale = torch.zeros_like(y) if self.covariance == "tied" else y
        return self._normal(self.loc[y], self.log_scale[scale], None if self.below is None else self.below[scale])

    def log_responsibilities(self, z: Tensor) -> Tensor:
        r""":math:`\log p(y \mid z)`, `(..., z_dim)` to `(..., C)`."""
        log_p: Tensor = self.components().log_prob(z.unsqueeze(-2)) + self.log_weights
        return log_p.log_softmax(-1)

    def initialise(self, codes: Tensor, *, seed: int = 0) -> None:
        """Put the components where codes `(n, z_dim)` are, the heaviest first.

        The mixture of the same kind is fitted by EM, scikit-learn's, begun three times.

        Raises:
            ValueError: the codes have another width, are not finite, or fewer different ones than components.
        """
        self._check_codes(codes)
        kind = "diag" if self.covariance == "diagonal" else self.covariance
        fitted = FittedMixture(len(self.loc), covariance_type=kind, random_state=seed, n_init=3)
        fitted.fit(codes.detach().cpu().double().numpy())
        weights, loc, covariances = (torch.as_tensor(v) for v in (fitted.weights_, fitted.means_, fitted.covariances_))
        order = weights.argsort(descending=True, stable=True)
        scale = self._factors(covariances if self.covariance == "tied" else covariances[order])
        with torch.no_grad():
            self.loc.copy_(loc[order])
            self.set_weights(weights[order].to(self.loc))
            if self.below is None:
                self.log_scale.copy_(scale.log())
            else:
                self.log_scale.copy_(scale.diagonal(dim1=-2, dim2=-1).log())
                self.below.copy_(scale.tril(-1))

    def _check_codes(self, codes: Tensor) -> None:
        components, z_dim = self.loc.shape
        if codes.ndim != 2 or codes.shape[1] != z_dim:
            raise ValueError(f"`codes` must have shape (n, {z_dim}), one row per datum, got {tuple(codes.shape)}")
        if len(codes) < components:
            raise ValueError(f"`codes` must be at least {components}, one for each component, got {len(codes)}")
        if not bool(codes.isfinite().all()):
            raise ValueError("`codes` must be finite, got NaN or inf: check the guide that made them")
        if (distinct := len(codes.unique(dim=0))) < components:
            raise ValueError(
                f"`codes` must have at least {components} different rows, one for each component, got {distinct} among "
                f"{len(codes)}: the guide that made them tells hardly any data apart"
            )

    def _factors(self, covariances: Tensor) -> Tensor:
        """Scales, or lower triangular matrices, whose squares are the covariances."""
        return covariances.sqrt() if self.below is None else torch.linalg.cholesky(covariances)

    def _normal(self, loc: Tensor, log_scale: Tensor, below: Tensor | None) -> TorchDistribution:
        if below is None:
            return as_vector(dist.Normal(loc, log_scale.exp()))
        factor = below.tril(-1) + log_scale.exp().diag_embed()
        return as_pyro(dist.MultivariateNormal(loc, scale_tril=factor))


class GaussianMixture(NormalMixture):
    r"""A learned mixture of normals, :math:`p(z) = \sum_c \pi_c\, \mathcal{N}(z;\, \mu_c, L_c L_c^T)`.

    It starts with mean 0 and variance 1, its components spread evenly; see `NormalMixture`, also for how to put them
    where codes are.

    Arguments:
        z_dim: the length of `z`.
        components: the number C of normals; one is allowed.
        covariance: "diagonal", a scale for each coordinate of each component; "full", a lower triangular
            :math:`L_c` for each; or "tied", one for all.
        spread: how much of the starting variance lies between the locations, in [0, 1).

    Attributes:
        loc: the locations :math:`\mu_c`, `(C, z_dim)`.
        logits: the logarithms of the weights :math:`\pi_c`, up to a constant, `(C,)`.
        log_scale: the logarithms of the diagonals of :math:`L_c`, `(C, z_dim)`; `(1, z_dim)` where tied.

    Raises:
        ValueError: a size is not positive, `covariance` is unknown, or `spread` is no share.

    Example:
        >>> prior = GaussianMixture(5, 10)
        >>> prior()().shape, prior.loc.shape
        (torch.Size([5]), torch.Size([10, 5]))
        >>> z, y = torch.zeros(7, 5), torch.tensor([[3], [4]])
        >>> prior.log_responsibilities(z).shape, prior.components_given(y).batch_shape
        (torch.Size([7, 10]), torch.Size([2, 1]))
    """

    def __init__(
        self, z_dim: int, components: int, *, covariance: Covariance = "diagonal", spread: float = 0.75
    ) -> None:
        super().__init__(z_dim, components, covariance=covariance, spread=spread)
        self.logits = nn.Parameter(torch.zeros(components))

    @property
    def log_weights(self) -> Tensor:
        """The logarithms of the weights, `(C,)`."""
        return self.logits.log_softmax(-1)

    def set_weights(self, weights: Tensor) -> None:
        """Change the logits in place to those of other weights, `(C,)`."""
        with torch.no_grad():
            self.logits.copy_(weights.log())


def mixture(logits: Tensor, components: Distribution) -> TorchDistribution:
    """A mixture of a batch of components."""
    return as_pyro(dist.MixtureSameFamily(dist.Categorical(logits=logits), components))


def even_normal(rows: int, columns: int) -> Tensor:
    """Points that fill a normal evenly, `(rows, columns)`, each column with mean 0 and variance 1."""
    sequence: Any = torch.quasirandom.SobolEngine(columns, scramble=True)
    points: Tensor = torch.special.ndtri(sequence.draw(rows).clamp(1e-6, 1 - 1e-6))
    return (points - points.mean(0)) / points.std(0, correction=0).clamp(min=1e-6)
