r"""Distributions given a vector, :math:`p(y \mid h)`: modules whose forward returns a distribution.

A likelihood, a layer of a prior and a factor of a guide are all one of these, trunk, head, distribution:
Burda's encoder is `ConditionalNormal(MLP(784, (200, 200)), 50)` and his decoder
`ConditionalBernoulli(MLP(50, (200, 200)), 784, logits=...)`.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution

from .distributions import as_vector, load_zuko
from .nets import Trunk, check_size, check_sizes, head

__all__ = [
    "Conditional",
    "ConditionalBernoulli",
    "ConditionalCategorical",
    "ConditionalContinuousBernoulli",
    "ConditionalFlow",
    "ConditionalNormal",
    "HomoscedasticNormal",
    "bounded_exp",
    "check_fits",
    "head_at",
    "layer_sites",
]

LIMIT = 10.0  # exp(±10) = 22026 and 0.000045: no useful scale lies outside


def bounded_exp(h: Tensor) -> Tensor:
    r"""A scale that is :math:`e^h` where it matters and can neither overflow nor vanish.

    .. math:: s(h) = e^h \text{ for } |h| \le 10, \qquad
        s(h) = e^{10} (h - 9) \text{ above}, \qquad s(h) = 1 / s(-h) \text{ below}

    Above the limit the exponential goes on as its own tangent: the function is continuously differentiable
    and its gradient is nowhere zero, so a net that strays there finds its way back. A clamp would leave it
    there, and a plain exponential is infinite from 89 on.

    Example:
        >>> h = torch.tensor([-1e4, 0.0, 1.0, 1e4])
        >>> bounded_exp(h).log()
        tensor([-19.2094,   0.0000,   1.0000,  19.2094])
    """
    inside = h.clamp(-LIMIT, LIMIT)
    outside = h - inside
    return (inside + outside.sign() * outside.abs().log1p()).exp()


class Conditional(nn.Module, abc.ABC):
    r"""A distribution over one vector `y` given another `h`, :math:`p(y \mid h)`.

    To write one, make the heads in `__init__` and return from `distribution` what the features mean: any
    torch or Pyro distribution over the entries of `y`, which are independent then, or over all of `y`.
    `ConditionalBernoulli` is the shortest example.

    Arguments:
        trunk: a module from `(..., in_features)` to `(..., trunk.out_features)`.
        out_features: the length of `y`.

    Raises:
        TypeError: `trunk` is no module with `out_features`.
        ValueError: `out_features` is not positive, or forward is called with vectors of another length.
    """

    trunk: nn.Module
    in_features: int | None
    out_features: int

    def __init__(self, trunk: Trunk, out_features: int) -> None:
        super().__init__()
        if not isinstance(trunk, nn.Module) or not hasattr(trunk, "out_features"):
            raise TypeError(
                f"`trunk` must be a module that says its `out_features`, such as MLP(784), got {trunk!r}; "
                "on a module of your own set that attribute"
            )
        self.trunk = trunk
        self.in_features = getattr(trunk, "in_features", None)
        self.out_features = check_size("out_features", out_features)

    def forward(self, h: Tensor) -> TorchDistribution:
        """The distribution of `y`, `batch_shape == h.shape[:-1]` and `event_shape == (out_features,)`."""
        if self.in_features is not None and h.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"{type(self).__name__} takes vectors of length {self.in_features}, shape "
                f"(..., {self.in_features}), got shape {tuple(h.shape)}"
            )
        return as_vector(self.distribution(self.trunk(h)))

    @abc.abstractmethod
    def distribution(self, features: Tensor) -> Distribution:
        """What the features `(..., trunk.out_features)` say about `y`, entry by entry or as a whole."""


class ConditionalNormal(Conditional):
    r"""A diagonal normal with a location and a scale for each input.

    .. math:: p(y \mid h) = \mathcal{N}(y;\, \mu, \operatorname{diag} \sigma^2), \qquad
        \mu = W_1 f(h) + b_1, \quad \sigma = e^{W_2 f(h) + b_2}

    Arguments:
        trunk: the net :math:`f`.
        out_features: the length of `y`.

    References:
        Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), arXiv:1509.00519, for the
        exponential; see `bounded_exp` for what becomes of it beyond ±10.

    Example:
        >>> from ppmodels.nets import MLP
        >>> q = ConditionalNormal(MLP(784, (200, 200)), 50)
        >>> q(torch.zeros(5, 32, 784)).batch_shape, q(torch.zeros(784)).event_shape
        (torch.Size([5, 32]), torch.Size([50]))
    """

    def __init__(self, trunk: Trunk, out_features: int) -> None:
        super().__init__(trunk, out_features)
        self.loc = head(trunk, out_features)
        self.log_scale = head(trunk, out_features)

    def distribution(self, features: Tensor) -> Distribution:
        return dist.Normal(self.loc(features), bounded_exp(self.log_scale(features)))


class HomoscedasticNormal(Conditional):
    r"""A normal whose noise does not depend on the input, :math:`\mathcal{N}(y;\, W f(h) + b,\, s^2)`.

    Arguments:
        trunk: the net :math:`f`.
        out_features: the length of `y`.
        scale: where :math:`s` starts: a number for all of `y` or a tensor `(out_features,)`.
        learned: whether the scale is a parameter; otherwise it is a buffer.

    References:
        Simple and Effective VAE Training with Calibrated Decoders (Rybkin, Daniilidis and Levine, 2021),
        arXiv:2006.13202
    """

    log_scale: Tensor

    def __init__(self, trunk: Trunk, out_features: int, *, scale: float | Tensor = 1.0, learned: bool = True) -> None:
        super().__init__(trunk, out_features)
        scale = torch.as_tensor(scale, dtype=torch.get_default_dtype())
        if scale.shape not in ((), (out_features,)) or not bool((scale > 0).all()):
            raise ValueError(f"`scale` must be one positive number or {out_features} of them, got {scale}")
        self.loc = head(trunk, out_features)
        if learned:
            self.log_scale = nn.Parameter(scale.log())
        else:
            self.register_buffer("log_scale", scale.log())

    def distribution(self, features: Tensor) -> Distribution:
        return dist.Normal(self.loc(features), bounded_exp(self.log_scale))


class ConditionalBernoulli(Conditional):
    r"""Independent bits, :math:`p(y \mid h) = \prod_i \operatorname{Bernoulli}(y_i;\, \sigma(W f(h) + b)_i)`.

    Only for data in {0, 1}: grey levels are refused under validation, because their "likelihood" is none.

    Arguments:
        trunk: the net :math:`f`.
        out_features: the length of `y`.
        logits: where the bias `b` starts, `(out_features,)`: the data's own logit spares the first epochs.

    Example:
        >>> from ppmodels.nets import MLP
        >>> p = ConditionalBernoulli(MLP(50, (200, 200)), 784, logits=torch.full((784,), -2.0))
        >>> p(torch.zeros(32, 50)).log_prob(torch.zeros(32, 784)).shape
        torch.Size([32])
    """

    def __init__(self, trunk: Trunk, out_features: int, *, logits: Tensor | None = None) -> None:
        super().__init__(trunk, out_features)
        self.logits = head_at(trunk, out_features, logits)

    def distribution(self, features: Tensor) -> Distribution:
        return cast(Distribution, dist.Bernoulli(logits=self.logits(features)))


class ConditionalContinuousBernoulli(Conditional):
    r"""Grey levels in [0, 1]: the Bernoulli with the constant that makes it a density there.

    .. math:: p(y \mid h) = \prod_i C(\lambda_i)\, \lambda_i^{y_i} (1 - \lambda_i)^{1 - y_i}, \qquad
        \lambda = \sigma(W f(h) + b)

    Arguments:
        trunk: the net :math:`f`.
        out_features: the length of `y`.
        logits: where the bias `b` starts, `(out_features,)`.

    References:
        The continuous Bernoulli: fixing a pervasive error in variational autoencoders (Loaiza-Ganem and
        Cunningham, 2019), arXiv:1907.06845
    """

    def __init__(self, trunk: Trunk, out_features: int, *, logits: Tensor | None = None) -> None:
        super().__init__(trunk, out_features)
        self.logits = head_at(trunk, out_features, logits)

    def distribution(self, features: Tensor) -> Distribution:
        return cast(Distribution, dist.ContinuousBernoulli(logits=self.logits(features)))


class ConditionalCategorical(Conditional):
    r"""Independent classes, :math:`p(y \mid h) = \prod_i \operatorname{Categorical}(y_i;\, l_i(h))`.

    Arguments:
        trunk: the net, whose features one linear head turns into the logits :math:`l`.
        out_features: the length of `y`.
        categories: how many values each of its entries takes, `0, ..., categories - 1`.
    """

    def __init__(self, trunk: Trunk, out_features: int, categories: int) -> None:
        super().__init__(trunk, out_features)
        check_size("categories", categories, least=2)
        self.logits = nn.Sequential(
            head(trunk, out_features * categories), nn.Unflatten(-1, (categories, out_features))
        )

    def distribution(self, features: Tensor) -> Distribution:
        logits = self.logits(features).mT  # (..., out_features, categories)
        return dist.Categorical(logits=logits)


class ConditionalFlow(Conditional):
    r"""An inverse autoregressive flow, a density of any shape given `h`.

    .. math:: y = T_m \circ \dots \circ T_1(\epsilon;\, f(h)), \qquad \epsilon \sim \mathcal{N}(0, I)

    A guide draws and scores its own draws, over and over, so that direction has to be cheap: each `T` is an
    affine autoregressive map run from the noise to `y`, one pass of its net for all coordinates, and the
    density of the draw falls out of the same pass and is kept. Any other point is scored exactly too, in
    `passes` passes: as many as `y` has entries for an autoregressive map, 2 for a coupling, the cheaper and
    the weaker map to use where foreign points are scored all the time, as in wake-sleep.

    Arguments:
        trunk: the net :math:`f`, the flow's context.
        out_features: the length of `y`.
        transforms: the number `m` of maps.
        hidden: widths of the net of each map.
        passes: how many passes scoring a foreign point takes, `out_features` where `None`.

    Raises:
        ImportError: zuko is not installed.

    References:
        Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
        arXiv:1606.04934

    Example:
        >>> from ppmodels.nets import MLP
        >>> q = ConditionalFlow(MLP(784), 8)(torch.zeros(32, 784))
        >>> z = q.rsample((5,))
        >>> z.shape, q.log_prob(z).shape
        (torch.Size([5, 32, 8]), torch.Size([5, 32]))
    """

    def __init__(
        self,
        trunk: Trunk,
        out_features: int,
        *,
        transforms: int = 3,
        hidden: Sequence[int] = (64, 64),
        passes: int | None = None,
    ) -> None:
        super().__init__(trunk, out_features)
        zuko = load_zuko()
        context = trunk.out_features
        options = {"hidden_features": check_sizes("hidden", hidden), "passes": passes}
        forward = zuko.flows.MAF(out_features, context, transforms=check_size("transforms", transforms), **options)
        self.flow = zuko.lazy.Flow(forward.transform.inv, forward.base)

    def distribution(self, features: Tensor) -> Distribution:
        return cast(Distribution, self.flow(features))


def layer_sites(count: int) -> tuple[str, ...]:
    """The names of so many latent sites, from the data up: `z` alone, or `z1`, `z2`, ..."""
    return ("z",) if count == 1 else tuple(f"z{layer}" for layer in range(1, count + 1))


def check_fits(name: str, layer: nn.Module, source: str, size: int | None) -> None:
    """Refuses a conditional, the argument `name`, that cannot take the vectors that `source` makes.

    Lengths that are not known, `size` or the conditional's `in_features`, are not checked.
    """
    if not isinstance(layer, nn.Module):
        raise TypeError(
            f"`{name}` must be a conditional, a module from vectors to a distribution such as "
            f"ConditionalNormal(MLP(50), 10), got {type(layer).__name__}"
        )
    takes = getattr(layer, "in_features", None)
    if None not in (size, takes) and size != takes:
        raise ValueError(
            f"`{name}` takes vectors of length {takes}, but `{source}` makes vectors of length {size}: "
            f"give its trunk `in_features` {size}"
        )


def head_at(trunk: Trunk, out_features: int, bias: Tensor | None) -> nn.Module:
    """The layer from a trunk's features to so many logits, its bias at the argument `logits` where that is given."""
    layer = head(trunk, out_features)
    if bias is None:
        return layer
    if bias.shape != (out_features,):
        raise ValueError(
            f"`logits` must have shape ({out_features},), one for each output, got {tuple(bias.shape)}; "
            "take them from the data the model is for, `Dataset.logits()`"
        )
    with torch.no_grad():
        layer.get_parameter("bias").copy_(bias)
    return layer
