r"""The guide of a model with clusters that move with a style, :math:`q(w \mid x)\, q(z \mid x)\, q(y \mid w, z)`."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ppmodels.conditionals import check_fits
from ppmodels.distributions import as_vector
from ppmodels.observed import check_data

__all__ = ["MeanFieldStyle"]


class MeanFieldStyle(nn.Module):
    r"""Style and place independent given the datum, :math:`q(w \mid x)\, q(z \mid x)\, q(y \mid w, z)`.

    The last factor is not learned. Without `clusters` it is left out, and the model sums `y` out. With the
    model's own posterior in its place, `clusters=model.log_responsibilities`, the bound is the same, draw by
    draw, but comes apart into a KL for each site. That of `y`, :math:`\mathrm{KL}(p(y \mid w, z) \,\|\, p(y))`,
    works against clusters, and the paper has two remedies:

    - version 2 takes it for no less than a floor :math:`\lambda`: train with
      `FreeBits(ELBO(kl="analytic"), {"y": 0.5})`;
    - version 1 takes :math:`\alpha\, H(p(y \mid w, z))`, the consistency violation, off the bound: train with
      `Augmented(Variational(), {"violation": Term(guide.consistency_violation, weight=-0.4)})`.

    The paper's own bound puts a closed form in the place of the KL of `z`, and so leaves the responsibilities
    to another draw of `z` than the one they are the posterior of. That is the ELBO of the guide with `redraw`,
    whose closed form is `ELBO(kl="analytic")`. It is a lower bound too, and lower by the mean of
    :math:`\mathrm{KL}(p(y \mid w, z') \,\|\, p(y \mid w, z))` over two draws.

    Sites: `w` of shape `(n, w_dim)`; `z` of shape `(n, z_dim)`; with `clusters`, `y` of shape `(n,)`, marked to
    be summed out; with `redraw`, `redrawn_z`, auxiliary and of no weight. Plate: `data`, dimension -1. All of
    it broadcasts under plates further left.

    Arguments:
        style: the conditional :math:`q(w \mid x)`.
        latent: the conditional :math:`q(z \mid x)`.
        features: a net that `x` goes through first, for both; none where `None`.
        clusters: from `w` and `z` to the logits of :math:`q(y \mid w, z)`, `(..., C)`. A method of the model
            is neither owned nor saved here: copy and save the pair together, `copy.deepcopy((model, guide))`.
        redraw: hand `clusters` a draw of `z` of its own.

    Raises:
        TypeError: `style` or `latent` is no module.
        ValueError: they do not take what `features` makes, or there is a `redraw` without `clusters`.

    References:
        Deep Unsupervised Clustering with Gaussian Mixture Variational Autoencoders (Dilokthanakul et al.,
        2016), arXiv:1611.02648, where w, z, y and x are called w, x, z and y

    Example:
        >>> import torch
        >>> from ppmodels.conditionals import ConditionalNormal
        >>> from ppmodels.nets import MLP
        >>> style, latent = ConditionalNormal(MLP(500, ()), 150), ConditionalNormal(MLP(500, ()), 200)
        >>> guide = MeanFieldStyle(style, latent, features=MLP(784, (500, 500)))
        >>> guide(torch.zeros(32, 784)).shape
        torch.Size([32, 200])
    """

    def __init__(
        self,
        style: nn.Module,
        latent: nn.Module,
        *,
        features: nn.Module | None = None,
        clusters: Callable[[Tensor, Tensor], Tensor] | None = None,
        redraw: bool = False,
    ) -> None:
        super().__init__()
        if redraw and clusters is None:
            raise ValueError("`redraw` is for `clusters` to look at, got none: give it model.log_responsibilities")
        for name, conditional in {"style": style, "latent": latent}.items():
            check_fits(name, conditional, "features", getattr(features, "out_features", None))
        self.features = nn.Identity() if features is None else features
        self.style, self.latent = style, latent
        self.clusters, self.redraw = clusters, redraw

    def forward(self, x: Tensor) -> Tensor:
        """Draws the latents of `x`, `(n, x_dim)`; returns `z`."""
        h = self.features(check_data(x))
        with pyro.plate("data", len(x), dim=-1):
            w = pyro.sample("w", as_vector(self.style(h)))  # (..., n, w_dim)
            q_z = as_vector(self.latent(h))
            z: Tensor = pyro.sample("z", q_z)  # (..., n, z_dim)
            if self.clusters is not None:
                q_y = dist.Categorical(logits=self.clusters(w, self._redrawn(q_z) if self.redraw else z))
                pyro.sample("y", q_y, infer={"enumerate": "parallel"})  # (n,) or, summed out, (C, 1, 1)
        return z

    def consistency_violation(self, x: Tensor) -> Tensor:
        r"""The entropy :math:`H(p(y \mid w, z))` at a draw of `w` and `z`, nats, `(n,)`: to be taken off a bound."""
        if self.clusters is None:
            raise ValueError("`clusters` is None, so there is no q(y | w, z): give it model.log_responsibilities")
        h = self.features(check_data(x))
        w, z = (as_vector(conditional(h)).rsample() for conditional in (self.style, self.latent))
        entropy: Tensor = dist.Categorical(logits=self.clusters(w, z)).entropy()
        return entropy

    def _redrawn(self, q_z: TorchDistribution) -> Tensor:
        """A site, so that a program replayed sees the same draw again, and of no weight: it is no latent."""
        with pyro.poutine.mask(mask=False):
            z: Tensor = pyro.sample("redrawn_z", q_z, infer={"is_auxiliary": True})
        return z
