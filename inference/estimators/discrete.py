r"""Estimators that need nothing of the draws but their density, so that discrete ones will do.

The gradient of :math:`\mathbb{E}_q[B]` has two parts: of the weights with the draws held still, and of the chance of
these draws, which is the score times a signal; any baseline :math:`b_k` that does not depend on draw k leaves the mean
as it is:

.. math:: \nabla \mathbb{E}[B] = \mathbb{E} \Bigl[ \sum_k c_k \nabla \log w_k
          + (B - b_k) \nabla_\phi \log q_\phi(z_k \mid x) \Bigr], \qquad c_k = \frac{\partial B}{\partial \log w_k}
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from inference.bounds import IWAE, TVO, Bound, Split, tilted
from inference.estimators.coefficients import ByCoefficients, Coefficients
from inference.estimators.derivatives import as_weights, copies_of, slope_of

__all__ = ["VIMCO", "Control", "ReweightedWakeSleep", "ScoreFunction", "ThermodynamicCovariance"]

Mean: TypeAlias = Literal["geometric", "arithmetic"]
Control: TypeAlias = Literal["none", "batch", "geometric", "arithmetic"]


@dataclass(frozen=True)
class ScoreFunction(ByCoefficients):
    r"""The score-function gradient (REINFORCE) with a baseline: :math:`m = c, \; s = B - b_k - c, \; r` none.

    Unbiased for any differentiable bound and any guide.

    Attributes:
        control: where the baseline comes from: "none"; "batch", the mean of the bound over the other data of the batch;
            "geometric" or "arithmetic", the bound with :math:`w_k` replaced by that mean of the other K - 1 weights,
            which is leave-one-out for the ELBO and `VIMCO` for the IWAE. A baseline that is not finite counts as zero.

    Raises:
        ValueError: if there is only one datum for "batch", or one draw for "geometric" or "arithmetic".

    References:
        Williams, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning*, 1992.
        Ranganath, Gerrish and Blei, *Black Box Variational Inference*, 2014, arXiv 1401.0118.

    >>> from inference.bounds import ELBO
    >>> log_w = torch.tensor([[1.0], [3.0]])  # the ELBO is 2, and 3 or 1 with a draw replaced by the other
    >>> ScoreFunction("geometric")(ELBO(), log_w).score
    tensor([[-1.5000],
            [ 0.5000]])
    """

    control: Control = "none"
    follows_path: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.control not in get_args(Control):
            expected = ", ".join(f'"{name}"' for name in get_args(Control))
            raise ValueError(f"`control` is {self.control!r}, expected one of {expected}")

    def coefficients(self, bound: Bound, log_w: Tensor) -> Coefficients:
        c = slope_of(bound, log_w)
        return Coefficients(c, _signal(bound, log_w, self.control) - c, None)


@dataclass(frozen=True)
class VIMCO(ByCoefficients):
    r"""Variational inference for Monte Carlo objectives: each draw's baseline comes from the others.

    .. math:: s_k = B(w_1, \dots, w_K) - B(w_1, \dots, \hat w_{-k}, \dots, w_K) - c_k

    with :math:`\hat w_{-k}`, a mean of the other K - 1 weights, in the place of :math:`w_k`. It is
    `ScoreFunction(control=mean)` under the name it has for the IWAE; here it does for any bound. Memory grows as K
    squared times n, in numbers, not in runs of the pair.

    Attributes:
        mean: "geometric" or "arithmetic".

    Raises:
        ValueError: if there is only one draw.

    References:
        Mnih and Rezende, *Variational Inference for Monte Carlo Objectives*, 2016, arXiv 1602.06725.

    >>> log_w = torch.tensor([[1.0], [3.0]])
    >>> torch.equal(VIMCO()(IWAE(), log_w).score, ScoreFunction("geometric")(IWAE(), log_w).score)
    True
    """

    mean: Mean = "geometric"
    follows_path: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.mean not in get_args(Mean):
            raise ValueError(f'`mean` is {self.mean!r}, expected "geometric" or "arithmetic"')

    def coefficients(self, bound: Bound, log_w: Tensor) -> Coefficients:
        return ScoreFunction(self.mean).coefficients(bound, log_w)


@dataclass(frozen=True)
class ReweightedWakeSleep(ByCoefficients):
    r"""The model climbs the IWAE; the guide descends KL(p, q), with self-normalised weights (wake phase of phi).

    .. math:: m_k = \tilde w_k, \qquad \nabla_\phi \mathbb{E}_{p(z \mid x)} [\log q_\phi(z \mid x)]
              \approx \sum_k \tilde w_k \nabla_\phi \log q_\phi(z_k \mid x)

    so :math:`s = \tilde w` and no path: "plain". "dreg" writes the same mean with reparameterised draws,
    :math:`s = 0, \; r = \tilde w - \tilde w^2`. Either is **not the gradient of the bound**, and of its own target has
    a bias that falls as 1/K.

    Attributes:
        form: "plain", or "dreg" where the guide is reparameterised.
        weight: what the guide's part is multiplied by; with 0 the guide stays as it is. Sleep is `WakeSleep`'s.

    Raises:
        ValueError: for another bound than the IWAE, or a negative weight.

    References:
        Bornschein and Bengio, *Reweighted Wake-Sleep*, 2015, arXiv 1406.2751. Tucker, Lawson, Gu and Maddison, *Doubly
        Reparameterized Gradient Estimators for Monte Carlo Objectives*, 2019, arXiv 1810.04152, section 5.

    >>> ReweightedWakeSleep("dreg")(IWAE(), torch.tensor([[0.75], [0.25]]).log()).path
    tensor([[0.1875],
            [0.1875]])
    """

    form: Literal["plain", "dreg"] = "plain"
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.form not in ("plain", "dreg"):
            raise ValueError(f'`form` is {self.form!r}, expected "plain" or "dreg"')
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"`weight` is {self.weight}, expected what the guide's part is multiplied by, from 0")

    @property
    def follows_path(self) -> bool:
        return self.form == "dreg"

    def is_unbiased_for(self, bound: Bound, num_particles: int) -> bool:
        """Never: the guide's gradient is of another target."""
        return False

    def coefficients(self, bound: Bound, log_w: Tensor) -> Coefficients:
        if not isinstance(bound, IWAE):
            raise ValueError(
                f"`bound` is {bound.name}, but {self.name} trains the model by the IWAE and the guide by KL(p, q), "
                "which no other bound changes: expected `IWAE()`"
            )
        w = tilted(log_w, 1)
        if self.form == "plain":
            return Coefficients(w, self.weight * w, None)
        return Coefficients(w, torch.zeros_like(w), self.weight * (w - w.square()))


@dataclass(frozen=True)
class ThermodynamicCovariance(ByCoefficients):
    r"""The gradient of the TVO's exact Riemann sum, by the covariance identity; no reparameterisation.

    With :math:`f = \log w` and :math:`\tilde \pi_\beta = q^{1 - \beta} p^\beta`

    .. math:: \nabla \mathbb{E}_{\pi_\beta} [f]
              = \mathbb{E}_{\pi_\beta} [\nabla f] + \mathrm{Cov}_{\pi_\beta} (\nabla \log \tilde \pi_\beta, f)

    and with the normalised weights :math:`v_k \propto w_k^\beta` for the expectations and
    :math:`u_k = \frac{K}{K - 1} v_k (f_k - \sum_j v_j f_j)` for the covariance the interval of length
    :math:`\Delta` judged at :math:`\beta` adds :math:`\Delta (v_k + \beta u_k)` to :math:`m_k` and
    :math:`\Delta (-v_k + (1 - \beta) u_k)` to :math:`s_k`.

    The normalisation leaves a bias that falls as 1/K. With one partition there is none: the TVO is the ELBO and this
    its score-function gradient with a leave-one-out baseline.

    Raises:
        ValueError: for another bound than the TVO, or a single draw.

    References:
        Masrani, Le and Wood, *The Thermodynamic Variational Objective*, 2019, arXiv 1907.00031, section 4.

    >>> log_w = torch.tensor([[1.0], [3.0]])
    >>> ThermodynamicCovariance()(TVO(partitions=1), log_w).score
    tensor([[-1.5000],
            [ 0.5000]])
    """

    follows_path: ClassVar[bool] = False

    def is_unbiased_for(self, bound: Bound, num_particles: int) -> bool:
        """Only where the weights need no normalising."""
        guide = bound.guide if isinstance(bound, Split) else bound
        return isinstance(guide, TVO) and guide.partitions == 1 and guide.side == "left"

    def coefficients(self, bound: Bound, log_w: Tensor) -> Coefficients:
        if not isinstance(bound, TVO):
            raise ValueError(
                f"`bound` is {bound.name}, but {self.name} differentiates expectations along the path from guide to "
                "posterior: expected a `TVO`; `ScoreFunction` takes any bound"
            )
        K = _at_least_two(len(log_w), self.name)
        model = score = torch.zeros_like(log_w)
        for length, beta in bound.terms:
            v = tilted(log_w, beta)
            f = log_w.masked_fill(v == 0, 0.0)
            u = K / (K - 1) * v * (f - (v * f).sum(0))
            model, score = model + length * (v + beta * u), score + length * ((1 - beta) * u - v)
        return Coefficients(_finite(model), _finite(score), None)


def _signal(bound: Bound, log_w: Tensor, control: Control) -> Tensor:
    """The bound less each draw's baseline, `(K, n)`; zero where the bound itself is not finite."""
    value = bound(as_weights(log_w)).expand_as(log_w)
    return _finite(value - _finite(_BASELINES[control](bound, log_w)))


def _none(bound: Bound, log_w: Tensor) -> Tensor:
    return torch.zeros_like(log_w)


def _of_other_data(bound: Bound, log_w: Tensor) -> Tensor:
    value, n = bound(as_weights(log_w)), log_w.shape[1]
    if n < 2:
        raise ValueError(
            '`control` is "batch", the mean over the other data, and the batch holds a single datum: expected at least '
            '2 in every batch, or another control ("geometric")'
        )
    return ((value.sum() - value) / (n - 1)).expand_as(log_w)


def _without(mean: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Bound, Tensor], Tensor]:
    """The bound with each draw in turn replaced by a mean of the others."""

    def baseline(bound: Bound, log_w: Tensor) -> Tensor:
        K, n = log_w.shape
        _at_least_two(K, "a baseline from the other draws")
        copies = copies_of(log_w)  # (K, K, n): draw, copy, datum
        replaced = torch.eye(K, dtype=torch.bool, device=log_w.device).unsqueeze(-1)  # draw k in copy k
        copies = torch.where(replaced, mean(copies, replaced), copies)
        return bound(as_weights(copies.flatten(1))).reshape(K, n)

    return baseline


def _geometric(copies: Tensor, replaced: Tensor) -> Tensor:
    return copies.masked_fill(replaced, 0.0).sum(0) / (len(copies) - 1)


def _arithmetic(copies: Tensor, replaced: Tensor) -> Tensor:
    return copies.masked_fill(replaced, -math.inf).logsumexp(0) - math.log(len(copies) - 1)


_BASELINES: dict[Control, Callable[[Bound, Tensor], Tensor]] = {
    "none": _none,
    "batch": _of_other_data,
    "geometric": _without(_geometric),
    "arithmetic": _without(_arithmetic),
}


def _at_least_two(K: int, who: str) -> int:
    if K < 2:
        raise ValueError(f"`num_particles` is {K}, expected at least 2: {who} compares draws with each other")
    return K


def _finite(value: Tensor) -> Tensor:
    return torch.where(value.isfinite(), value, 0.0)
