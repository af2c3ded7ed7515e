r"""Guides for what all data share, :math:`q(\theta) \prod_i q(z_i \mid x_i)`."""

from __future__ import annotations

import math
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import biject_to

from ppmodels.distributions import as_pyro, is_real
from ppmodels.priors import SampledHyper
from ppmodels.priors.hyper import unconstrained_start

__all__ = ["SharedNormal"]


class SharedNormal(nn.Module):
    r"""Normals for the parameters of a prior, and any guide for the rest, :math:`q(\theta)\, q(z \mid x)`.

    .. math:: \theta = T(u), \qquad u \sim \mathcal{N}(\mu, \operatorname{diag} \sigma^2)

    T takes the reals to where the number lives. The two are independent; train them by `Variational(joint=True)`, in
    one batch of all data, or in batches of B out of N with the prior's `share` at B / N.

    Sites: those of the prior, in no plate; and those of the guide.

    Arguments:
        guide: of the latents of each datum.
        prior: the prior that samples, the model's own; here it is neither registered nor saved.
        scale: :math:`\sigma`, where it starts; :math:`\mu` starts at the mean of the prior.

    Raises:
        TypeError: `guide` is no module, or `prior` no `SampledHyper`.
        ValueError: a parameter is discrete, or `scale` is not positive.

    Example:
        >>> from guides import AmortizedNormal
        >>> from inference import Variational, fit
        >>> from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
        >>> from ppmodels.nets import MLP
        >>> from ppmodels.vae import VAE
        >>> x = torch.bernoulli(torch.full((100, 8), 0.5))
        >>> prior = SampledHyper(
        ...     {"scale": dist.Gamma(2.0, 2.0)},
        ...     lambda scale: dist.Normal(torch.zeros(2), scale.unsqueeze(-1)).to_event(1),
        ...     share=20 / 100,
        ... )
        >>> model = VAE(prior, ConditionalBernoulli(MLP(2, (16,)), 8))
        >>> guide = SharedNormal(AmortizedNormal(ConditionalNormal(MLP(8, (16,)), 2)), prior)
        >>> fitted = fit(model, guide, x, Variational(joint=True), epochs=1, batch_size=20)
        >>> guide.laws()["scale"].sample((7,)).shape
        torch.Size([7])
    """

    def __init__(self, guide: nn.Module, prior: SampledHyper, *, scale: float = 0.1) -> None:
        super().__init__()
        if not isinstance(guide, nn.Module):
            raise TypeError(f"`guide` must be a module, such as an AmortizedNormal, got {type(guide).__name__}")
        if not isinstance(prior, SampledHyper):
            raise TypeError(f"`prior` must be the SampledHyper that the model has, got {type(prior).__name__}")
        if not 0.0 < scale < math.inf:
            raise ValueError(f"`scale` must be a positive number, got {scale}")
        self.guide = guide
        self._prior = (prior,)  # a tuple hides it from registration: the model owns it
        starts = {name: unconstrained_start(name, p) for name, p in prior.laws().items()}
        self.loc = nn.ParameterDict(starts)
        self.log_scale = nn.ParameterDict({name: torch.full_like(u, math.log(scale)) for name, u in starts.items()})

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Draws the shared parameters, then the latents of the data."""
        with poutine.scale(scale=self._prior[0].share):
            for name, q in self.laws().items():
                pyro.sample(name, q)
        latent: Tensor = self.guide(*args, **kwargs)
        return latent

    def laws(self) -> dict[str, TorchDistribution]:
        r"""The distributions :math:`q(\theta)` by name."""
        return {name: self._law(name, p.support) for name, p in self._prior[0].laws().items()}

    def _law(self, name: str, support: Any) -> TorchDistribution:
        """Left as it is on the real line, so that a closed-form divergence is found."""
        normal: Any = dist.Normal(self.loc[name], self.log_scale[name].exp()).to_event(self.loc[name].dim())
        found = normal if is_real(support) else as_pyro(dist.TransformedDistribution(normal, [biject_to(support)]))
        return cast(TorchDistribution, found)
