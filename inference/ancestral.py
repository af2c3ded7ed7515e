r"""Draws of a chain: from its end back to data, and with some entries of the data known."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from inference.flags import validating
from inference.pair import Pair, no_guide
from inference.seeds import seeded
from inference.unrolled import as_chain
from ppmodels.contracts import Transition

__all__ = ["Ancestral", "ancestral", "inpaint"]


@dataclass(frozen=True, eq=False)
class Ancestral:
    """Draws of a chain.

    Attributes:
        x: the data drawn, `(n, x_dim)`.
        states: the states on the way, by step, `(n, x_dim)` each: those asked for.
    """

    x: Tensor
    states: Mapping[int, Tensor]


@torch.no_grad()
def ancestral(model: Any, n: int, *, keep: Collection[int] = (), seed: int = 0) -> Ancestral:
    r"""Draw n data from the end of the chain back, :math:`x_T \sim p(x_T), x_{t-1} \sim p(x_{t-1} \mid x_t)`.

    Args:
        model: a chain, such as `Diffusion`.
        n: how many.
        keep: steps, from 1 to T, whose states to keep.
        seed: of the draws.

    Raises:
        TypeError: the model is no chain.
        ValueError: `n` is not positive, or a step in `keep` is none.

    References:
        Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models*, 2020, arXiv 2006.11239, algorithm 2.

    >>> from ppmodels.clocks import TimeMLP, bumps
    >>> from ppmodels.diffusion import Diffusion
    >>> from ppmodels.kernels import GaussianKernel
    >>> from ppmodels.rates import harmonic
    >>> model = Diffusion(GaussianKernel(harmonic(10)), TimeMLP(2, (16,), times=bumps(10), outputs=2))
    >>> found = ancestral(model, 100, keep=[10, 5])
    >>> found.x.shape, list(found.states)
    (torch.Size([100, 2]), [10, 5])
    """
    chain = _checked(model, n)
    if wrong := [t for t in keep if not 1 <= t <= chain.num_steps]:
        raise ValueError(f"`keep` has {wrong[0]}, expected steps from 1 to {chain.num_steps}")
    states: dict[int, Tensor] = {}
    with _drawing(model, chain, seed) as steps:
        state = chain.end().sample(torch.Size([n]))  # (n, x_dim)
        for t in range(chain.num_steps, 0, -1):
            if t in keep:
                states[t] = state
            state = chain.p(state, steps[t]).sample()
    return Ancestral(state, states)


@torch.no_grad()
def inpaint(
    model: Any, x: Tensor, mask: Tensor, n: int, *, repeats: int = 1, clean: bool = False, seed: int = 0
) -> Tensor:
    r"""Draw data that agree with the entries of x that are known, `(n, x_dim)`: every kernel times r.

    .. math:: \tilde p(x_{t-1} \mid x_t) \propto p(x_{t-1} \mid x_t)\, r_{t-1}(x_{t-1})

    with r a point mass on the known entries: drawn from :math:`q(x_{t-1} \mid x_0)`, and as they are at t = 0. What was
    drawn before did not know of them, so that one pass draws from the conditional only nearly. But where p leaves the
    entries independent, as `Diffusion` does, a step there by q and back by :math:`\tilde p` is a sweep of Gibbs, which
    leaves the conditional of a model whose two ways agree as it is: with many `repeats` the draws become exact.

    Args:
        model: a chain, such as `Diffusion`.
        x: what is known, `(x_dim,)` for all draws or `(n, x_dim)`; unknown entries are not read, but must be data.
        mask: true where x is known, of the shape of x.
        n: how many draws.
        repeats: times that every step is gone back.
        clean: hold the known entries as they are at every step, as the paper's code does.
        seed: of the draws.

    Raises:
        TypeError: the model is no chain, or `mask` is not of truth values.
        ValueError: shapes do not agree, or a number is not positive.

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli, *Deep Unsupervised Learning using Nonequilibrium
        Thermodynamics*, 2015, arXiv 1503.03585, section 2.5. Lugmayr, Danelljan, Romero, Yu, Timofte and Van Gool,
        *RePaint*, 2022, arXiv 2201.09865, for the repeats.

    >>> from ppmodels.clocks import TimeMLP, bumps
    >>> from ppmodels.diffusion import Diffusion
    >>> from ppmodels.kernels import GaussianKernel
    >>> from ppmodels.rates import harmonic
    >>> model = Diffusion(GaussianKernel(harmonic(10)), TimeMLP(2, (16,), times=bumps(10), outputs=2))
    >>> inpaint(model, torch.tensor([3.0, 0.0]), torch.tensor([True, False]), 100)[:, 0].unique()
    tensor([3.])
    """
    chain = _checked(model, n)
    if mask.dtype != torch.bool:
        raise TypeError(f"`mask` is of {mask.dtype}, expected truth values, true where `x` is known")
    if x.ndim not in (1, 2) or mask.shape != x.shape or (x.ndim == 2 and len(x) != n):
        raise ValueError(
            f"`x` and `mask` have shapes {tuple(x.shape)} and {tuple(mask.shape)}, expected both to have (x_dim,) or "
            f"({n}, x_dim)"
        )
    if repeats < 1:
        raise ValueError(f"`repeats` is {repeats}, expected at least 1")
    x, mask = x.expand(n, -1), mask.expand(n, -1)
    chain.noised(x, torch.tensor(chain.num_steps, device=x.device))  # refuses what is no datum of this model
    with _drawing(model, chain, seed) as steps:

        def with_known(t: int, law: Distribution) -> Tensor:
            known = x if clean or t == 0 else chain.noised(x, steps[t]).sample()
            return known.where(mask, law.sample())

        state = with_known(chain.num_steps, chain.end().expand((n,)))  # (n, x_dim)
        for t in range(chain.num_steps, 0, -1):
            state = with_known(t - 1, chain.p(state, steps[t]))
            for _ in range(repeats - 1):
                kept = state
                back = chain.p(chain.q(state, steps[t]).sample(), steps[t]).sample()
                state = kept.where(mask, back)
    return state


def _checked(model: Any, n: int) -> Transition:
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"`n` is {n}, expected a number of draws, at least 1")
    return as_chain(model)


@contextmanager
def _drawing(model: Any, chain: Transition, seed: int) -> Iterator[Tensor]:
    """Under a seed, in evaluation mode and without checks of values; gives the steps 0 to T on the model's device."""
    device = chain.end().mean.device
    with seeded(seed, device), Pair(model, no_guide, True).mode(training=False), validating(enabled=False):
        yield torch.arange(chain.num_steps + 1, device=device)
