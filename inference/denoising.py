r"""Training a chain to walk back: every datum is taken to a random step, and the model learns to undo that step alone.

The bound of a `Transition` on :math:`\log p(x_0)`, with q the way there and p the way back, falls into steps that are
each known in closed form once :math:`x_t` is drawn:

.. math::
    K = E_q \log p(x_0 \mid x_1)
    - \sum_{t=2}^T E_q \mathrm{KL}\bigl(q(x_{t-1} \mid x_t, x_0) \| p(x_{t-1} \mid x_t)\bigr)
    - \mathrm{KL}\bigl(q(x_T \mid x_0) \| p(x_T)\bigr)

It is that of Sohl-Dickstein et al. (2015), written without its entropies, and of Ho et al. (2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from inference.objectives import LossParts, Phase, Task
from inference.pair import Pair, first_tensor
from inference.seeds import seeded
from inference.unrolled import as_chain, drawn, end_term, step_term
from ppmodels.contracts import Batch, Transition

__all__ = ["Denoising"]


@runtime_checkable
class TellsNoise(Protocol):
    r"""A chain that can say what it misses of a state's noise, :math:`\|\epsilon - \epsilon_\theta\|^2`, `(..., n)`."""

    def squared_error(self, state: Tensor, x: Tensor, t: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Denoising:
    r"""One phase, "denoising": a random step for every datum of a batch, in the place of the sum over all of them.

    ==============================  ================================================================================
    `Denoising()`                   minus an unbiased estimate of the bound, :math:`T \ell_t` and the end's KL
    `Denoising("simple")`           DDPM's :math:`\|\epsilon - \epsilon_\theta(x_t, t)\|^2`; late steps weigh more
    ==============================  ================================================================================

    The score of validation data is the estimate of the bound under either. There is no guide: the way there is the
    model's own, and `fit(model, None, data, Denoising())` moves whatever of it is a parameter.

    Attributes:
        weighting: of the steps: "bound" or "simple".
        stratified: spread the steps of a batch evenly over 1 to T, from a random place on; the estimate stays unbiased
            and varies less. Otherwise they are independent.

    Raises:
        ValueError: the weighting is unknown, or the model has no parameters.
        TypeError: the model is no chain, or does not tell the noise.

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli, *Deep Unsupervised Learning using Nonequilibrium
        Thermodynamics*, 2015, arXiv 1503.03585. Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models*, 2020,
        arXiv 2006.11239, section 3.4. Kingma, Salimans, Poole and Ho, *Variational Diffusion Models*, 2021,
        arXiv 2107.00630, for the strata.

    >>> from inference.fit import fit
    >>> from ppmodels.clocks import TimeMLP, bumps
    >>> from ppmodels.diffusion import Diffusion
    >>> from ppmodels.kernels import GaussianKernel
    >>> from ppmodels.rates import harmonic
    >>> model = Diffusion(GaussianKernel(harmonic(10)), TimeMLP(2, (16,), times=bumps(10), outputs=2))
    >>> fit(model, None, torch.randn(100, 2), Denoising(), epochs=1, mode="eager").steps
    1
    """

    weighting: str = "bound"
    stratified: bool = True
    kind: ClassVar[str] = "transition"

    def __post_init__(self) -> None:
        if self.weighting not in ("bound", "simple"):
            raise ValueError(f'`weighting` is {self.weighting!r}, expected "bound" or "simple"')

    def task(self, pair: Pair, batch: Batch) -> Task:
        """Look whether the model is a chain, and return the one phase."""
        model = as_chain(pair.model)
        if self.weighting == "simple" and not isinstance(model, TellsNoise):
            raise TypeError(
                f"`model` is a {type(model).__name__} without `squared_error`, expected one that tells the noise, such "
                'as a `Diffusion` with `Epsilon`, or `Denoising("bound")`'
            )
        parameters = pair.parameters(batch)
        if not parameters:
            raise ValueError("the model has no parameters to learn: expected some in its net or its kernel")
        loss = partial(self._bound if self.weighting == "bound" else self._simple, model)
        with seeded(None, first_tensor(batch).device), torch.no_grad():  # refuses, in words, what does not fit
            loss(batch, torch.zeros((), device=first_tensor(batch).device))

        def score(batch: Batch) -> Tensor:
            step, end = self._terms(model, first_tensor(batch))
            return step + end

        return Task((Phase("denoising", parameters, loss),), score)

    def _bound(self, model: Transition, batch: Batch, step: Tensor) -> LossParts:
        steps, end = self._terms(model, first_tensor(batch))
        loss = -(steps + end).mean()
        return LossParts(loss, {"loss": loss.detach(), "steps": -steps.detach().mean(), "end": -end.detach().mean()})

    def _simple(self, model: Transition, batch: Batch, step: Tensor) -> LossParts:
        x = first_tensor(batch)
        t = self._times(model, x)
        loss = cast(TellsNoise, model).squared_error(drawn(model.noised(x, t)), x, t).mean()
        return LossParts(loss, {"loss": loss.detach()})

    def _terms(self, model: Transition, x: Tensor) -> tuple[Tensor, Tensor]:
        """The sum over steps, estimated by one for each datum, and the end's exact term, `(n,)` each."""
        t = self._times(model, x)
        return model.num_steps * step_term(model, x, drawn(model.noised(x, t)), t), end_term(model, x)

    def _times(self, model: Transition, x: Tensor) -> Tensor:
        """A step for each datum, uniform from 1 to T, `(n,)`."""
        n, T = len(x), model.num_steps
        if not self.stratified:
            return torch.randint(1, T + 1, (n,), device=x.device)
        place = torch.arange(n, device=x.device) / n + torch.rand((), device=x.device)
        return 1 + (T * place.frac()).long().clamp_max(T - 1)
