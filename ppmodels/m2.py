"""The generative side of semi-supervised learning: a class and a style make the datum together."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .conditionals import check_fits
from .distributions import as_vector
from .nets import check_size, joined, one_hot
from .observed import check_data, check_labels
from .priors import as_prior

__all__ = ["M2"]


class M2(nn.Module):
    r"""A class and a style that meet in the datum, :math:`p(x, y, z) = p(y)\, p(z)\, p(x \mid y, z)`.

    Labels are the guide's affair: `y` is latent here whether known or not, and a guide that puts all its mass
    on a known label turns the bound on :math:`\log p(x)` into one on :math:`\log p(x, y)`. Draw data of a
    class with `poutine.condition(model, {"y": y})`.

    Without labels nothing asks for `y` to be used. A decoder that does without it costs nothing, while every
    nat by which :math:`q(y \mid x)` differs from the prior is paid for, so that the entropy of the former may
    stay near :math:`\log C` for as long as one cares to train, and the bound does not show it: with the
    reference's nets it is even better than that of `GMVAE`, whose clusters are told apart. Other nets get away
    from there sooner. `examples/gaussian_mixture_vae.py` has the two side by side.

    Sites: `y` of shape `(n,)`, summed out where the guide does not draw it; `z`, or what `site` names, of
    shape `(n, z_dim)`; `x` of shape `(n, x_dim)`, observed where given and drawn where not. Plate: `data`,
    dimension -1. All of it broadcasts under plates further left.

    Arguments:
        prior: :math:`p(z)`, anything that `as_prior` takes.
        likelihood: the conditional :math:`p(x \mid y, z)`, a module from the vector of `z` with the one-hot
            vector of `y` to its right, `(..., z_dim + classes)`, to a distribution.
        classes: the number `C` of classes.
        log_weights: the logarithms of the class probabilities, up to a constant, `(C,)`; equal where `None`.
        site: the name of the latent `z`.
        link: a map from `z` to what the likelihood sees in its place: `stick_weights` for a `StickBreaking`
            prior, whose site is called `logit_v`. The identity where `None`.

    Raises:
        TypeError: the prior or the likelihood is not of its kind.
        ValueError: there is one class or none, `log_weights` are not one per class, the prior has a wrong
            shape, or the likelihood takes vectors of another length.

    References:
        Semi-Supervised Learning with Deep Generative Models (Kingma, Rezende, Mohamed and Welling, 2014),
        arXiv:1406.5298
        Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017), arXiv:1605.06197, for sticks
        Gaussian Mixture VAE: Lessons in Variational Inference, Generative Models, and Deep Nets (Shu, 2016),
        http://ruishu.io/2016/12/25/gmvae, for the collapse

    Example:
        >>> from ppmodels.conditionals import ConditionalBernoulli
        >>> from ppmodels.nets import MLP
        >>> from ppmodels.priors import StandardNormal
        >>> model = M2(StandardNormal(50), ConditionalBernoulli(MLP(50 + 10, (500,)), 784), classes=10)
        >>> threes = pyro.poutine.condition(model, {"y": torch.full((16,), 3)})
        >>> threes(n=16).shape
        torch.Size([16, 784])
    """

    log_weights: Tensor

    def __init__(
        self,
        prior: nn.Module | Distribution | Callable[[], Distribution],
        likelihood: nn.Module,
        classes: int,
        *,
        log_weights: Tensor | None = None,
        site: str = "z",
        link: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.classes = check_size("classes", classes, least=2)
        self.prior, self.site, self.link = as_prior(prior), site, link
        with torch.no_grad():
            size = self._style(self.prior()()).shape[-1]
        check_fits("likelihood", likelihood, "prior and classes", size + classes)
        self.likelihood = likelihood
        self.register_buffer("log_weights", _log_weights(log_weights, classes))

    def forward(self, x: Tensor | None = None, y: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Draws class, latent and, where `x` is not given, `n` data; returns the data. Labels are only checked."""
        n = n if x is None else len(check_data(x, getattr(self.likelihood, "out_features", None)))
        if y is not None:
            check_labels(y, n, self.classes)
        prior = self.prior()  # here, so that what it samples itself is shared by all data
        with pyro.plate("data", n, dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=self.log_weights), infer={"enumerate": "parallel"})
            z = pyro.sample(self.site, prior)  # (..., n, z_dim)
            h = joined(self._style(z), one_hot(y, self.classes, dtype=z.dtype))  # (..., n, z_dim + C)
            data: Tensor = pyro.sample("x", as_vector(self.likelihood(h)), obs=x)  # (..., n, x_dim)
        return data

    def _style(self, z: Tensor) -> Tensor:
        return z if self.link is None else self.link(z)


def _log_weights(log_weights: Tensor | None, classes: int) -> Tensor:
    if log_weights is None:
        return torch.zeros(classes)
    if log_weights.shape != (classes,):
        raise ValueError(f"`log_weights` must have shape ({classes},), one per class, got {tuple(log_weights.shape)}")
    return log_weights.detach().clone()
