"""The deep latent Gaussian mixture: an autoencoder whose every datum has a mixture of its own for a prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution

from .conditionals import check_fits
from .distributions import as_vector
from .observed import check_data
from .priors import as_prior
from .priors.mixtures import mixture
from .sticks import log_stick_weights

__all__ = ["DLGMM", "NormalComponents"]


class NormalComponents(nn.Module):
    r"""K diagonal normals, :math:`p_k(z) = \mathcal{N}(z;\, \mu_k, \operatorname{diag} \sigma_k^2)`.

    A call returns all of them, along the one batch dimension of the distribution.

    Arguments:
        loc: the locations :math:`\mu_k`, `(K, z_dim)`.
        scale: the scales :math:`\sigma_k`, a number or a tensor that broadcasts to `(K, z_dim)`.
        learned: whether both are parameters; otherwise they are buffers.

    Raises:
        ValueError: `loc` is no matrix of at least two rows, or `scale` is not positive or of another shape.

    References:
        Approximate Inference for Deep Latent Gaussian Mixtures (Nalisnick, Hertel and Smyth, 2016), NIPS
        Workshop on Bayesian Deep Learning, for locations that are all 0, or spread from -1 to 1

    Example:
        >>> together = NormalComponents(torch.zeros(3, 25))
        >>> spread = NormalComponents(torch.linspace(-1, 1, 5).unsqueeze(-1).expand(5, 25))
        >>> together().batch_shape, spread().event_shape
        (torch.Size([3]), torch.Size([25]))
    """

    loc: Tensor
    log_scale: Tensor

    def __init__(self, loc: Tensor, scale: float | Tensor = 1.0, *, learned: bool = False) -> None:
        super().__init__()
        if loc.ndim != 2 or len(loc) < 2 or not loc.numel():
            raise ValueError(f"`loc` must have shape (K, z_dim), K at least 2, got {tuple(loc.shape)}")
        scale = torch.as_tensor(scale, dtype=loc.dtype, device=loc.device)
        if not _broadcasts(scale.shape, loc.shape) or not bool((scale > 0).all()):
            raise ValueError(f"`scale` must be positive and broadcast to {tuple(loc.shape)}, got {scale}")
        for name, value in {"loc": loc, "log_scale": scale.log().expand_as(loc)}.items():
            value = value.detach().clone(memory_format=torch.contiguous_format)
            if learned:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self) -> TorchDistribution:
        return as_vector(dist.Normal(self.loc, self.log_scale.exp()))


class DLGMM(nn.Module):
    r"""A deep latent Gaussian mixture, :math:`p(x, v, z) = p(v) \sum_k \pi_k(v)\, p_k(z)\; p(x \mid z)`.

    The sticks :math:`v` part each datum's own unit of mass, :math:`\pi_k = v_k \prod_{j<k} (1 - v_j)`, whose
    last share is what is left. The component is summed out: the density of `z` is the whole mixture's. With
    `DirichletSticks` the weights are a Dirichlet's; with `StickBreaking` they are a Dirichlet process's, cut
    off after K. If all components are the same, as the paper mostly has it, the prior of `z` is one normal
    whatever the weights, and only the guide is a mixture.

    Sites: `logit_v`, the logits of the sticks, of shape `(n, K - 1)`; `z` of shape `(n, z_dim)`; `x` of shape
    `(n, x_dim)`, observed where given and drawn where not. The sticks `v` and the weights `pi` are there as
    deterministic sites. Plate: `data`, dimension -1. All of it broadcasts under plates further left.

    Arguments:
        sticks: the prior of the sticks' logits, anything that `as_prior` takes.
        components: the K distributions of `z`, a module whose call returns them along the one batch dimension
            of a distribution over vectors.
        likelihood: the conditional :math:`p(x \mid z)`, a module from vectors to a distribution.

    Raises:
        TypeError: the prior, the components or the likelihood are not of their kind.
        ValueError: the components are not one more than the sticks, or what one part makes the next cannot take.

    References:
        Approximate Inference for Deep Latent Gaussian Mixtures (Nalisnick, Hertel and Smyth, 2016), NIPS
        Workshop on Bayesian Deep Learning

    Example:
        >>> from ppmodels.conditionals import ConditionalBernoulli
        >>> from ppmodels.nets import MLP
        >>> from ppmodels.priors import DirichletSticks
        >>> model = DLGMM(
        ...     DirichletSticks(3), NormalComponents(torch.zeros(3, 25)), ConditionalBernoulli(MLP(25, (500,)), 784)
        ... )
        >>> model(n=16).shape
        torch.Size([16, 784])
    """

    def __init__(
        self,
        sticks: nn.Module | Distribution | Callable[[], Distribution],
        components: nn.Module,
        likelihood: nn.Module,
    ) -> None:
        super().__init__()
        self.sticks = as_prior(sticks)
        count, z_dim = _shape_of(components)
        made = self.sticks().event_shape[0]
        if made + 1 != count:
            raise ValueError(
                f"`sticks` makes {made} sticks, enough for {made + 1} components, but `components` makes {count}: "
                "expected one stick less than components"
            )
        check_fits("likelihood", likelihood, "components", z_dim)
        self.components = components
        self.likelihood = likelihood
        self.sites = ("logit_v", "z")
        """The names of the latent sites."""

    def forward(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Draws the latents and, where `x` is not given, `n` data; returns the data."""
        n = n if x is None else len(check_data(x, getattr(self.likelihood, "out_features", None)))
        sticks = self.sticks()  # here, so that what it samples itself is shared by all data
        with pyro.plate("data", n, dim=-1):
            logit_v = pyro.sample("logit_v", sticks)  # (..., n, K - 1)
            log_pi = log_stick_weights(logit_v)  # (..., n, K)
            pyro.deterministic("v", logit_v.sigmoid(), event_dim=1)
            pyro.deterministic("pi", log_pi.exp(), event_dim=1)
            z = pyro.sample("z", self.mixture(log_pi))  # (..., n, z_dim)
            data: Tensor = pyro.sample("x", as_vector(self.likelihood(z)), obs=x)  # (..., n, x_dim)
        return data

    def mixture(self, log_pi: Tensor) -> TorchDistribution:
        """The latent's distribution given log weights `(..., K)`: batch `(...)`, event `(z_dim,)`."""
        components: Any = as_vector(self.components())
        return mixture(log_pi, components.expand(log_pi.shape))


def _shape_of(components: nn.Module) -> tuple[int, int]:
    """K and the length of `z`."""
    if not isinstance(components, nn.Module):
        raise TypeError(
            "`components` must be a module whose call returns a distribution, such as "
            f"NormalComponents(torch.zeros(3, 25)), got {type(components).__name__}"
        )
    every = components()
    batch, event = as_vector(every).batch_shape, as_vector(every).event_shape
    if len(batch) != 1 or batch[0] < 2:
        raise ValueError(
            "`components` must be K distributions of one vector, batch_shape (K,) with K at least 2 and event_shape "
            f"(z_dim,), got batch_shape {tuple(batch)} and event_shape {tuple(event)}"
        )
    return batch[0], event[0]


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    try:
        return bool(torch.broadcast_shapes(shape, to) == to)
    except RuntimeError:
        return False
