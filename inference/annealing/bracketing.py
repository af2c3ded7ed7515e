r"""Brackets of log p(x): from below by annealing, and from above too where the data are the model's own."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Literal, Unpack

import torch

from inference.annealing.passes import Pass, anneal_back, anneal_data
from inference.annealing.results import Annealed, Bidirectional
from inference.annealing.running import How
from inference.batches import as_data
from inference.bounds import AIS, ReverseAIS, estimate
from inference.diagnostics import effective_sample_size
from inference.pair import Pair
from inference.schedule import Annealing
from inference.simulate import simulate
from ppmodels.contracts import Batch, Data, Program

__all__ = ["AnnealingWarning", "ais", "bdmc"]


class AnnealingWarning(UserWarning):
    """Annealed chains hardly moved, or hardly agree: the bound is loose, or its error unknown."""


def ais(
    model: Program, guide: Program, data: Data | Batch, annealing: Annealing | None = None, **how: Unpack[How]
) -> Annealed:
    r"""Bound log p(x) of every datum from below by annealed importance sampling.

    Args:
        model: any Pyro callable with continuous latents; others must be summed out.
        guide: any Pyro callable over the same latents, which can score values that it has not drawn; with
            `Annealing(start="prior")` it is not used.
        data: a dataset, or a tensor, tuple or mapping of tensors; each datum is read once.
        annealing: temperatures, chains, leapfrogs and the rest; see `Annealing`.
        how: `seed`, `mode`, `batch_size`, `progress`, `checkpoint` and `checkpoint_seconds`, see
            `inference.annealing.running.How`.

    Warns:
        AnnealingWarning: if transitions are hardly accepted, or one or two chains carry the weight of most data.

    Raises:
        ValueError: see `anneal_data`.

    References:
        Neal, *Annealed Importance Sampling*, 2001. Wu, Burda, Salakhutdinov and Grosse, *On the Quantitative Analysis
        of Decoder-Based Generative Models*, 2017, arXiv 1611.04273.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(0.0, 1.0))
    >>> x = torch.tensor([0.0, 1.0, 2.0])
    >>> found = ais(model, guide, x, Annealing(num_temperatures=20, num_leapfrogs=3, num_pilot=20))
    >>> exact = dist.Normal(0.0, 2**0.5).log_prob(x)
    >>> bool(((found.value - exact).abs() < 0.3).all())
    True
    """
    annealing = annealing or Annealing()
    return _bound(anneal_data(Pair(model, guide), as_data(data), annealing, **how), AIS(annealing))


def bdmc(
    model: Program,
    guide: Program,
    like: Data | Batch,
    annealing: Annealing | None = None,
    *,
    n: int = 100,
    **how: Unpack[How],
) -> Bidirectional:
    r"""Bound log p(x) from both sides, on data drawn from the model.

    .. math:: \mathbb{E}[\text{lower}] \le \log p(x) \le \mathbb{E}[\text{upper}]

    The gap says how far annealing with these settings is from the truth, on such data; that it is as good on others
    is a guess, the better the more these look like the model's own.

    Args:
        model: see `ais`.
        guide: see `ais`.
        like: data as the model is called with, see `inference.simulate.simulate`.
        annealing: see `ais`; the same for both ways.
        n: data to draw.
        how: see `ais`; the two ways are saved in folders `forward` and `reverse` of `checkpoint`.

    Warns:
        AnnealingWarning: see `ais`.

    Raises:
        ValueError: see `anneal_data` and `simulate`.

    References:
        Grosse, Ghahramani and Adams, *Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo*, 2015,
        arXiv 1511.02543.
    """
    annealing = annealing or Annealing()
    pair, simulated = Pair(model, guide), simulate(model, like, n, seed=how.get("seed", 0))
    there = anneal_data(pair, as_data(simulated.data), annealing, **_in_folder(how, "forward"))
    back = anneal_back(pair, simulated, annealing, **_in_folder(how, "reverse"))
    return Bidirectional(_bound(there, AIS(annealing)), _bound(back, ReverseAIS(annealing)))


def _in_folder(how: How, name: str) -> How:
    folder = how.get("checkpoint")
    return how if folder is None else {**how, "checkpoint": Path(folder) / name}


def _bound(passes: Generator[Pass, None, None], bound: AIS | ReverseAIS) -> Annealed:
    sign = 1 if bound.direction == "lower" else -1
    rows = []
    with closing(passes):
        for weights, acceptance, _, _ in passes:
            ess = effective_sample_size(sign * weights.log_w)
            value, standard_error = estimate(bound, weights)[:2]
            rows.append((value, standard_error, ess, acceptance))
    side: Literal["lower", "upper"] = "lower" if bound.direction == "lower" else "upper"
    found = Annealed(bound.annealing, side, *(torch.cat(column) for column in zip(*rows, strict=True)))
    _warn_if_poor(found)
    return found


def _warn_if_poor(found: Annealed) -> None:
    acceptance = float(found.acceptance.mean())
    alone = float((found.ess < 2).double().mean()) if found.num_chains >= 4 else 0.0  # few chains cannot tell
    if acceptance < 0.3:
        said = f"transitions are accepted with probability {acceptance:.2f} on average: raise `num_pilot`"
    elif alone > 0.1:
        said = f"one chain carries the weight of {alone:.0%} of the data: raise `num_temperatures`"
    else:
        return
    warnings.warn(
        f"the {found.direction} bound is poor: {said}, or train a better guide", AnnealingWarning, stacklevel=4
    )
