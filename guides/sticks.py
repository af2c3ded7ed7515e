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
        if not concentration > FLOOR:
            raise ValueError(f"`concentration` must be larger than {FLOOR}, got {concentration}")
        self.start = concentration
        self.concentration1 = _head_at(trunk, out_features, 1.0)
        self.concentration0 = _head_at(trunk, out_features, concentration)

    def grown(self, out_features: int) -> ConditionalSticks:
        """A copy with more breaks, which begin where a is 1 and b is `concentration` whatever the datum."""
        grown = copy.deepcopy(self)
        grown.out_features = out_features
        grown.concentration1 = _with_rows(self.concentration1, out_features, _inverse(1.0))
        grown.concentration0 = _with_rows(self.concentration0, out_features, _inverse(self.start))
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

    def grown(self, components: int) -> _Sticks:
        """A copy with more components: what it knows stays, and new breaks begin at the prior's."""
        (layer,) = self.layers
        assert isinstance(layer, ConditionalSticks)
        check_more(components, layer.out_features)
        grown = copy.deepcopy(self)
        grown.layers[0] = layer.grown(components - 1)
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

    Arguments:
        trunk: the net from data to features.
        components: the number of weights, one more than there are breaks.
        concentration: where b starts: the prior's.
        site: the name of the latent.

    References:
        Implicit Reparameterization Gradients (Figurnov, Mohamed and Mnih, 2018), arXiv:1805.08498
    """

    conditional = ConditionalBeta


class GammaSticks(_Sticks):
    r"""Breaks that are ratios of gamma variables, :math:`v = g_1 / (g_1 + g_0)`, drawn by an approximation.

    The third of the paper's families, with the density its draws have; see `LogitGammaRatio`.

    Site: `logit_v`, the breaks' logits, of shape `(n, components - 1)`. Plate: `data`, dimension -1.

    Arguments:
        trunk: the net from data to features.
        components: the number of weights, one more than there are breaks.
        concentration: where b starts: the prior's.
        site: the name of the latent.

    References:
        Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017), arXiv:1605.06197
    """

    conditional = ConditionalGammaRatio


class LogitNormalSticks(Amortized):
    r"""Logit-normal breaks, :math:`\operatorname{logit} v \sim \mathcal{N}(\mu(x), \operatorname{diag} \sigma^2(x))`.

    Site: `logit_v`, the breaks' logits, of shape `(n, components - 1)`. Plate: `data`, dimension -1.

    Arguments:
        trunk: the net from data to features.
        components: the number of weights, one more than there are breaks.
        concentration: :math:`\alpha_0` of the prior, whose mean and scale a draw has at the start.
        site: the name of the latent.

    References:
        Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017), arXiv:1605.06197
    """

    def __init__(self, trunk: Trunk, components: int, *, concentration: float = 1.0, site: str = "logit_v") -> None:
        conditional = ConditionalNormal(trunk, check_size("components", components, least=2) - 1)
        super().__init__([conditional], sites=[site])
        b = torch.as_tensor(concentration)
        loc = torch.digamma(torch.ones(())) - torch.digamma(b)  # of the logit of Beta(1, b)
        variance = torch.polygamma(1, torch.ones(())) + torch.polygamma(1, b)
        self.start = {"loc": float(loc), "log_scale": float(variance.log() / 2)}
        for name, bias in self.start.items():
            nn.init.constant_(conditional.get_submodule(name).get_parameter("bias"), bias)

    def grown(self, components: int) -> LogitNormalSticks:
        """A copy with more components: what it knows stays, and new breaks begin at the prior's moments."""
        grown = copy.deepcopy(self)
        (layer,) = grown.layers
        assert isinstance(layer, ConditionalNormal)
        check_more(components, layer.out_features)
        layer.out_features = components - 1
        for name, bias in self.start.items():
            setattr(layer, name, _with_rows(layer.get_submodule(name), components - 1, bias))
        return grown


def check_more(components: int, breaks: int) -> None:
    """Refuses to grow to fewer components than so many breaks make, or as many."""
    if check_size("components", components) <= breaks + 1:
        raise ValueError(f"`components` must be larger than {breaks + 1}, got {components}")


def _head_at(trunk: Trunk, out_features: int, value: float) -> nn.Module:
    """A head whose softplus is that value where its features are 0."""
    layer = head(trunk, out_features)
    nn.init.constant_(layer.get_parameter("bias"), _inverse(value))
    return layer


def _inverse(value: float) -> float:
    """Where softplus and the floor make that value."""
    return math.log(math.expm1(value - FLOOR))


def _with_rows(layer: nn.Module, out_features: int, bias: float) -> nn.Module:
    """A linear layer with more outputs, the new ones constant."""
    old_weight, old_bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    rows, columns = old_weight.shape
    new: nn.Module = nn.utils.skip_init(
        nn.Linear, columns, out_features, device=old_weight.device, dtype=old_weight.dtype
    )
    with torch.no_grad():
        new.get_parameter("weight").copy_(torch.cat([old_weight, old_weight.new_zeros(out_features - rows, columns)]))
        new.get_parameter("bias").copy_(torch.cat([old_bias, old_bias.new_full((out_features - rows,), bias)]))
    return new
