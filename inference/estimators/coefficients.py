"""Estimators that are three coefficients for each draw, and the values whose gradient these make."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from inference.bounds import ELBO, Bound, Split
from inference.draws import gather
from inference.estimators.base import Ascent, Setting, Temper, parts_of, refuse_without_rsample
from inference.estimators.derivatives import as_weights
from inference.estimators.replaying import Draw, draw, weigh, weigh_detached
from inference.estimators.trial import weigh_once
from inference.weights import Weights
from ppmodels.contracts import Batch

__all__ = ["ByCoefficients", "Coefficients"]


@dataclass(frozen=True, eq=False)
class Coefficients:
    r"""What each draw counts in a gradient to be ascended; each `(K, n)` and detached.

    .. math:: \sum_k m_k \nabla \log p_\theta(x, z_k) + s_k \nabla \log q_\phi(z_k \mid x)
              + r_k \frac{\partial \log w_k}{\partial z_k} \nabla_\phi z_k

    In the first two terms the draws stand still, in the last they move with the guide's parameters.

    Attributes:
        model: :math:`m_k`.
        score: :math:`s_k`.
        path: :math:`r_k`; `None` where nothing flows through the draws, which then need no reparameterisation.
    """

    model: Tensor
    score: Tensor
    path: Tensor | None

    def negated_for_guide(self) -> Coefficients:
        """The guide's part with its sign changed: of what is to come down."""
        return Coefficients(self.model, -self.score, None if self.path is None else -self.path)


class ByCoefficients(ABC):
    """An estimator that is a function of the bound and the log weights; write `coefficients`, as `VIMCO` does.

    Called on a bound and `(K, n)` log weights, or `Weights`, it returns `Coefficients`. Of a `Split` bound the model's
    part comes from one bound and the guide's from the other; an upper bound in the guide's place is to come down.
    """

    takes_kl_weight: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return repr(self)

    @property
    @abstractmethod
    def follows_path(self) -> bool:
        """Whether it has a `path` coefficient, and so needs reparameterised draws."""

    @abstractmethod
    def coefficients(self, bound: Bound, log_w: Tensor) -> Coefficients:
        """Of a plain bound and detached log weights `(K, n)`; refuse the bounds that have none."""

    def check(self, bound: Bound, num_particles: int) -> None:
        """Refuse a plain bound for reasons that take thought; asked once, before training."""
        if isinstance(bound, ELBO) and bound.kl == "analytic":
            raise ValueError(
                f"`bound` is {bound.name}, whose closed-form KL is no function of the weights, as {self.name} needs: "
                "expected `ELBO()`, or this bound alone with `estimator=Pathwise()`"
            )

    def is_unbiased_for(self, bound: Bound, num_particles: int) -> bool:
        """Whether its mean is the gradient of the bound's mean over K draws."""
        return True

    def __call__(self, bound: Bound, weights: Weights | Tensor) -> Coefficients:
        log_w = (weights.log_w if isinstance(weights, Weights) else weights).detach()
        if not isinstance(bound, Split):
            return self.coefficients(bound, log_w)
        model, guide = (self.coefficients(part, log_w) for part in parts_of(bound))
        if bound.guide.direction == "upper":
            guide = guide.negated_for_guide()
        return Coefficients(model.model, guide.score, guide.path)

    def prepare(self, setting: Setting, batch: Batch) -> Ascent:
        """Refuse bounds and sites it is wrong for, and return the function from a batch to values with its gradient."""
        for part in parts_of(setting.bound):
            self.check(part, setting.num_particles)
        if self.follows_path:
            refuse_without_rsample(setting, self)
        rewrites_score = not self.takes_kl_weight
        trial = weigh_once(setting, batch, self.name, replays=self.follows_path, rewrites_score=rewrites_score)
        _refuse_more_than_log_w(setting.bound, trial, self.name)
        self(setting.bound, trial)

        def ascend(batch: Batch, temper: Temper) -> tuple[Tensor, Weights]:
            if not self.follows_path:
                weights = gather((weigh_detached(setting, batch, k) for k in setting.chunks), setting.num_particles)
                return _ascending(setting, self(setting.bound, weights), weights, ()), weights
            draws = [draw(setting, batch, k) for k in setting.chunks]
            weights = gather((weigh(setting, batch, each) for each in draws), setting.num_particles)
            judged = temper(weights)
            return _ascending(setting, self(setting.bound, judged), judged, draws), weights

        return ascend


def _ascending(setting: Setting, found: Coefficients, weights: Weights, draws: Sequence[Draw]) -> Tensor:
    """The bound's values, `(n,)`, with the gradient that the coefficients say."""
    surrogate = (_times(found.model, weights.log_p) + _times(found.score, weights.log_q)).sum(0)  # (n,)
    if found.path is not None:
        surrogate = surrogate + _along(draws, _times(found.path, weights.log_w).sum()) / weights.num_data
    return setting.bound(weights).detach() + (surrogate - surrogate.detach())


def _times(coefficient: Tensor, log_density: Tensor) -> Tensor:
    """Their product, zero where the coefficient is, though the log density be infinite."""
    return coefficient * log_density.masked_fill(coefficient == 0, 0.0)


def _along(draws: Sequence[Draw], target: Tensor) -> Tensor:
    """A number whose gradient is that of a target which depends on the parameters through the draws alone."""
    moving = [pair for each in draws for pair in each.moving]
    if not moving:
        return torch.zeros_like(target)
    slopes = torch.autograd.grad(target, [leaf for _, leaf in moving], retain_graph=True, allow_unused=True)
    terms = [(z * slope).sum() for (z, _), slope in zip(moving, slopes, strict=True) if slope is not None]
    return torch.stack(terms).sum() if terms else torch.zeros_like(target)


def _refuse_more_than_log_w(bound: Bound, weights: Weights, name: str) -> None:
    for part in parts_of(bound):
        if not torch.allclose(part(weights), part(as_weights(weights.log_w)), equal_nan=True):
            raise ValueError(
                f"`bound` is {part.name}, which reads more of the weights than `log_w`, so {name} does not know its "
                "derivative: expected a function of `weights.log_w`, or `estimator=Pathwise()`"
            )
