"""What an estimator is: something that, for a pair and a bound, gives values whose gradient is its estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from inference.bounds import ELBO, Bound, Split, source_of
from inference.draws import draw_weights
from inference.layout import Layout
from inference.pair import Pair
from inference.weights import Weights
from ppmodels.contracts import Batch

__all__ = [
    "Ascent",
    "Estimator",
    "Setting",
    "Temper",
    "parts_of",
    "refuse_strata",
    "refuse_untrainable",
    "refuse_without_rsample",
]

Temper: TypeAlias = Callable[[Weights], Weights]
"""What is done to weights before they are judged: the KL's part weakened, or nothing."""

Ascent: TypeAlias = Callable[[Batch, Temper], tuple[Tensor, Weights]]
"""From a batch to the bound's values `(n,)`, the gradient of whose mean is to be ascended, and the weights."""


@dataclass(frozen=True, eq=False)
class Setting:
    """A pair, the bound it is trained by, and how it is run.

    Attributes:
        pair: the model and its guide.
        layout: their sites and plates, see `inspect_pair`.
        bound: what is to rise.
        num_particles: K, draws per datum.
        analytic: sites whose KL is taken in closed form.
    """

    pair: Pair
    layout: Layout
    bound: Bound
    num_particles: int
    analytic: tuple[str, ...] = ()

    def weigh(self, batch: Batch, *, keep_scale: bool) -> Weights:
        """K draws and their weights, with their graph; `keep_scale` leaves the program's own scale in."""
        return draw_weights(
            self.pair,
            batch,
            self.num_particles,
            self.layout,
            analytic_kl=self.analytic,
            keep_scale=keep_scale,
            chunk=self.num_particles,
        )

    @property
    def chunks(self) -> tuple[int, ...]:
        """How many particles are run at a time: all, or one after the other."""
        K = self.num_particles
        return (K,) if self.layout.vectorized else (1,) * K


@runtime_checkable
class Estimator(Protocol):
    """An estimator of a bound's gradient.

    One that is a function of the bound and the weights alone is a `ByCoefficients`, whose docstring says how to write
    it; `VIMCO` is the shortest example.
    """

    @property
    def name(self) -> str:
        """How tables and messages call it."""
        ...

    @property
    def takes_kl_weight(self) -> bool:
        """Whether it is right for weights whose KL part has been weakened."""
        ...

    def is_unbiased_for(self, bound: Bound, num_particles: int) -> bool:
        """Whether its mean is the gradient of the bound's mean over K draws."""
        ...

    def prepare(self, setting: Setting, batch: Batch) -> Ascent:
        """Refuse what it cannot do, by argument or site, and return the function that does the rest; the batch is for
        inspection only."""
        ...


def parts_of(bound: Bound) -> tuple[Bound, ...]:
    """The bounds that the model and the guide are trained by."""
    return (bound.model, bound.guide) if isinstance(bound, Split) else (bound,)


def refuse_untrainable(bound: Bound) -> None:
    """Refuse what is no function of the guide's draws, and what must not rise."""
    if source_of(bound) != "guide":
        raise ValueError(
            f"`bound` is {bound.name}, a function of draws from the {source_of(bound)}, expected one of the guide's "
            "draws: train with another, and evaluate this one with `compare_bounds`"
        )
    if bound.direction == "upper":
        raise ValueError(
            f"`bound` is {bound.name}, an upper bound, which training would push away from log p(x): expected a lower "
            "bound or an estimate; to have the guide lower it use `Split(ELBO(), CUBO(2))`"
        )


def refuse_strata(bound: Bound, estimator: Estimator, layout: Layout) -> None:
    """Refuse what is not defined, or trains nothing, where sites of the guide are summed over."""
    if not layout.strata:
        return
    if not getattr(estimator, "sums_strata", False) or isinstance(bound, Split):
        what = f"`bound` is {bound.name}" if isinstance(bound, Split) else f"`estimator` is {estimator.name}"
        raise ValueError(
            f"site `{layout.strata[0]}` is summed over in the guide, and {what}, which is a function of single draws: "
            "expected a plain bound with Pathwise(), or take the mark off the site"
        )
    if layout.summed and not isinstance(bound, ELBO):
        raise ValueError(
            f"site `{layout.summed[0]}` takes every value in the guide, where its probabilities cancel from the "
            f"importance weights, so {bound.name} would not train them: expected `ELBO()`, and this bound to evaluate"
        )


def refuse_without_rsample(setting: Setting, estimator: Estimator) -> None:
    """Refuse sites whose draws carry no gradient, for an estimator that follows it."""
    if setting.layout.without_rsample:
        raise ValueError(
            f"site `{setting.layout.without_rsample[0]}` has no reparameterised draws, so {estimator.name} would miss "
            "a term of the gradient: expected `estimator` to be ScoreFunction(), VIMCO(), ReweightedWakeSleep() or "
            'Enumeration(); or sum it out with infer={"enumerate": "parallel"} in the model'
        )
