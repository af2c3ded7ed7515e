r"""The terms of a chain's bound, one step at a time: what training draws at random and evaluation sums.

.. math:: \ell_1 = \log p(x_0 \mid x_1), \qquad
    \ell_t = -\mathrm{KL}\bigl(q(x_{t-1} \mid x_t, x_0) \,\|\, p(x_{t-1} \mid x_t)\bigr) \text{ for } t \ge 2
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from ppmodels.contracts import Transition

__all__ = ["as_chain", "drawn", "end_term", "step_term"]


def as_chain(model: Any) -> Transition:
    """The model, refused unless it has all that a bound by steps needs."""
    needed = ("num_steps", "noised", "q", "q_posterior", "p", "end")
    if missing := [name for name in needed if not hasattr(model, name)]:
        raise TypeError(
            f"`model` is a {type(model).__name__} without `{missing[0]}`, expected a chain with {', '.join(needed)}, "
            "such as `Diffusion`"
        )
    return cast(Transition, model)


def drawn(law: Distribution, *shape: int) -> Tensor:
    """Draws, `(*shape, n, x_dim)`, that carry the gradient where there is one."""
    return law.rsample(torch.Size(shape)) if law.has_rsample else law.sample(torch.Size(shape))


def step_term(model: Transition, x: Tensor, state: Tensor, t: Tensor) -> Tensor:
    r""":math:`\ell_t` of each datum at a state drawn from `noised(x, t)`, `(..., n, x_dim)` to `(..., n)`."""
    back = model.p(state, t)
    there = model.q_posterior(state, x, t.clamp_min(2))  # rows of t = 1 have none, and take the likelihood
    return back.log_prob(x).where(t == 1, -kl_divergence(there, back))


def end_term(model: Transition, x: Tensor) -> Tensor:
    r""":math:`-\mathrm{KL}(q(x_T \mid x_0) \| p(x_T))` of each datum, `(n,)`."""
    there = model.noised(x, torch.full((len(x),), model.num_steps, device=x.device))
    return -kl_divergence(there, model.end().expand(there.batch_shape))
