"""Guides over the breaks of a stick, kept as logits, in four families: which is best is for the bound to say."""

from __future__ import annotations

import copy
import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from ppmodels.conditionals import Conditional, ConditionalNormal
from ppmodels.nets import Trunk, check_size, head
from ppmodels.sticks import LogitBeta, LogitGammaRatio, LogitKumaraswamy, LogitSticks

from .amortized import Amortized
from .growing import check_more, with_outputs

__all__ = [
    "BetaSticks",
    "ConditionalBeta",
    "ConditionalGammaRatio",
    "ConditionalKumaraswamy",
    "ConditionalSticks",
    "GammaSticks",
    "KumaraswamySticks",
    "LogitNormalSticks",
]

FLOOR = 1e-2  # of both concentrations: less would be a break all at one end


class ConditionalSticks(Conditional):
    r"""Breaks with two positive parameters each, given a vector.

    .. math:: a = \epsilon + \operatorname{softplus}(W_1 f(h) + c_1), \quad
        b = \epsilon + \operatorname{softplus}(W_2 f(h) + c_2)

    The two biases start where a is 1 and b is `concentration`: at the prior, if that is told.

    Arguments:
        trunk: the net :math:`f`.
        out_features: the number of breaks.
        concentration: where b starts.
    """

    family: ClassVar[type[LogitSticks]]

    def __init__(self, trunk: Trunk, out_features: int, *, concentration: float = 1.0) -> None:
        super().__init__(trunk, out_features)
        self.start = _check_start(concentration)
        self.concentration1 = _head_at(trunk, out_features, 1.0)
        self.concentration0 = _head_at(trunk, out_features, concentration)

    def grown(self, out_features: int, *, concentration: float | None = None) -> ConditionalSticks:
        """A copy with more breaks, which begin where a is 1 and b is `concentration`, or as before, for every datum."""
        grown = copy.deepcopy(self)
        grown.out_features = out_features
        grown.start = self.start if concentration is None else _check_start(concentration)
        grown.concentration1 = with_outputs(self.concentration1, out_features, _inverse(1.0))
        grown.concentration0 = with_outputs(self.concentration0, out_features, _inverse(grown.start))
        return grown

    def distribution(self, features: Tensor) -> Distribution:
        a, b = (FLOOR + softplus(each(features)) for each in (self.concentration1, self.concentration0))
        return self.family(a, b)


class ConditionalKumaraswamy(ConditionalSticks):
    """Kumaraswamy breaks given a vector; see `ppmodels.sticks.LogitKumaraswamy`."""

    family = LogitKumaraswamy


class ConditionalBeta(ConditionalSticks):
    """Beta breaks given a vector; see `ppmodels.sticks.LogitBeta`."""

    family = LogitBeta


class ConditionalGammaRatio(ConditionalSticks):
    """Breaks given a vector that are ratios of approximate gamma variables; see `ppmodels.sticks.LogitGammaRatio`."""

    family = LogitGammaRatio


class _Sticks(Amortized):
    """One site of breaks; the families differ in the conditional."""

    conditional: ClassVar[type[ConditionalSticks]]

    def __init__(self, trunk: Trunk, components: int, *, concentration: float = 1.0, site: str = "logit_v") -> None:
        breaks = check_size("components", components, least=2) - 1
        super().__init__([self.conditional(trunk, breaks, concentration=concentration)], sites=[site])

    def grown(self, components: int, *, concentration: float | None = None) -> _Sticks:
        """A copy with more components: what it knows stays, and new breaks begin as all did.

        Arguments:
            components: the number of weights there will be.
            concentration: where b starts; that of a prior which has learned it. As before where not given.
        """
        (layer,) = self.layers
        assert isinstance(layer, ConditionalSticks)
        check_more(components, layer.out_features)
        grown = copy.deepcopy(self)
        grown.layers[0] = layer.grown(components - 1, concentration=concentration)
        return grown


class KumaraswamySticks(_Sticks):
    r"""Kumaraswamy breaks, :math:`q(v \mid x) = \prod_k \operatorname{Kumaraswamy}(v_k;\, a_k(x), b_k(x))`.

    The default of the four: reparameterised, and with a divergence from beta breaks for `ELBO(kl="analytic")`.

    Site: `logit_v`, the breaks' logits, of shape `(n, components - 1)`. Plate: `data`, dimension -1.

    Arguments:
        trunk: the net from data to features.
        components: the number of weights, one more than there are breaks.
        concentration: where b starts: the prior's.
        site: the name of the latent.

    References:
        Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017), arXiv:1605.06197

    Example:
        >>> from ppmodels.nets import MLP
        >>> KumaraswamySticks(MLP(784, (500,)), 50)(torch.zeros(32, 784)).shape
        torch.Size([32, 49])
    """

    conditional = ConditionalKumaraswamy


class BetaSticks(_Sticks):
    r"""Beta breaks, :math:`q(v \mid x) = \prod_k \operatorname{Beta}(v_k;\, a_k(x), b_k(x))`, as of the prior.

    Draws have implicit gradients, which the paper did not have; the divergence has a closed form.

    Site: `logit_v`, the breaks' logits, of shape `(n, components - 1)`. Plate: `data`, dimension -1.

    Arguments: those of `KumaraswamySticks`.

    References:
        Implicit Reparameterization Gradients (Figurnov, Mohamed and Mnih, 2018), arXiv:1805.08498
    """

    conditional = ConditionalBeta


class GammaSticks(_Sticks):
    r"""Breaks that are ratios of gamma variables, :math:`v = g_1 / (g_1 + g_0)`, drawn by an approximation.

    The third of the paper's families, with the density its draws have; see `LogitGammaRatio`.

    Site: `logit_v`, the breaks' logits, of shape `(n, components - 1)`. Plate: `data`, dimension -1.

    Arguments: those of `KumaraswamySticks`.

    References:
        Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017), arXiv:1605.06197
    """

    conditional = ConditionalGammaRatio


class LogitNormalSticks(Amortized):
    r"""Logit-normal breaks, :math:`\operatorname{logit} v \sim \mathcal{N}(\mu(x), \operatorname{diag} \sigma^2(x))`.

    Site: `logit_v`, the breaks' logits, of shape `(n, components - 1)`. Plate: `data`, dimension -1.

    Arguments: those of `KumaraswamySticks`; a logit begins with the mean and scale it has under the prior.

    References:
        Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017), arXiv:1605.06197
    """

    def __init__(self, trunk: Trunk, components: int, *, concentration: float = 1.0, site: str = "logit_v") -> None:
        conditional = ConditionalNormal(trunk, check_size("components", components, least=2) - 1)
        super().__init__([conditional], sites=[site])
        self.start = _check_start(concentration)
        for name, bias in _moments(self.start).items():
            nn.init.constant_(conditional.get_submodule(name).get_parameter("bias"), bias)

    def grown(self, components: int, *, concentration: float | None = None) -> LogitNormalSticks:
        """A copy with more components: what it knows stays, and new breaks begin as all did.

        Arguments: those of the `grown` of `KumaraswamySticks`.
        """
        grown = copy.deepcopy(self)
        (layer,) = grown.layers
        assert isinstance(layer, ConditionalNormal)
        check_more(components, layer.out_features)
        layer.out_features = components - 1
        grown.start = self.start if concentration is None else _check_start(concentration)
        for name, bias in _moments(grown.start).items():
            setattr(layer, name, with_outputs(layer.get_submodule(name), components - 1, bias))
        return grown


def _check_start(concentration: float) -> float:
    """The argument `concentration`, refused where no breaks begin."""
    if not FLOOR < concentration < math.inf:
        raise ValueError(f"`concentration` must be a finite number larger than {FLOOR}, got {concentration}")
    return float(concentration)


def _head_at(trunk: Trunk, out_features: int, value: float) -> nn.Module:
    """A head whose softplus is that value where its features are 0."""
    layer = head(trunk, out_features)
    nn.init.constant_(layer.get_parameter("bias"), _inverse(value))
    return layer


def _inverse(value: float) -> float:
    """Where softplus and the floor make that value."""
    above = value - FLOOR
    return above + math.log(-math.expm1(-above))


def _moments(concentration: float) -> dict[str, float]:
    """The heads of the normal that has the mean and the variance of the logit of a Beta(1, b) variable."""
    one, b = torch.ones(()), torch.as_tensor(concentration)
    variance = torch.polygamma(1, one) + torch.polygamma(1, b)
    return {"loc": float(torch.digamma(one) - torch.digamma(b)), "log_scale": float(variance.log() / 2)}
