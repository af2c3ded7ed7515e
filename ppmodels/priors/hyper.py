"""Priors of priors: numbers that all data share, drawn like any latent, or set to their most likely value."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, cast

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution, biject_to

from ppmodels.distributions import as_pyro, map_tensors

from .adapters import Held, refuse_gradients

__all__ = ["HyperPrior", "LearnedHyper", "SampledHyper", "unconstrained_start"]


class HyperPrior(nn.Module, abc.ABC):
    r"""A prior with a prior of its own, :math:`p(\theta)\, p(z \mid \theta)`, :math:`\theta` one for all data.

    To write one, say where :math:`\theta` comes from, in `values`.

    Arguments:
        hyper: the distribution of each number or tensor in :math:`\theta`, by name, of batch shape `()`.
        make: from :math:`\theta`, by those names, to the distribution of `z`; a module, if it has parameters.
    """

    def __init__(self, hyper: Mapping[str, Distribution], make: Callable[..., Distribution]) -> None:
        super().__init__()
        if not hyper or not all(isinstance(p, Distribution) for p in hyper.values()):
            raise TypeError(
                f"`hyper` must hold a distribution for each name, such as {{'scale': Gamma(2, 2)}}, got {hyper}"
            )
        for name, p in hyper.items():
            if p.batch_shape:
                raise ValueError(
                    f"`hyper` has batch_shape {tuple(p.batch_shape)} at `{name}`, expected (): make its entries one "
                    "event, with `.to_event(1)` (Pyro) or `Independent(..., 1)` (torch)"
                )
        if not callable(make):
            raise TypeError(f"`make` must be a function from {', '.join(hyper)} to a distribution, got {make!r}")
        self.hyper = nn.ModuleDict({name: Held(p) for name, p in hyper.items()})
        self.make = make
        if not isinstance(make, nn.Module):
            drawn = {name: as_pyro(p)() for name, p in hyper.items()}
            refuse_gradients(make(**drawn), "a function, and nobody finds the parameters that a function hides", "make")

    @abc.abstractmethod
    def values(self) -> dict[str, Tensor]:
        """The numbers in :math:`\\theta` by name."""

    def forward(self) -> TorchDistribution:
        values, laws = self.values(), self.laws()
        batch = torch.broadcast_shapes(*(v.shape[: v.dim() - laws[name].event_dim] for name, v in values.items()))
        like = next(iter(values.values()))

        def move(_: str, tensor: Tensor) -> Tensor:
            return tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)

        made = as_pyro(map_tensors(self.make(**values), move))
        if made.batch_shape != batch:
            raise ValueError(
                f"`make` returns a distribution of batch_shape {tuple(made.batch_shape)} for arguments of "
                f"{tuple(batch)}, expected the same: broadcast over what stands to the left, as in "
                "`Normal(torch.zeros(5), scale.unsqueeze(-1)).to_event(1)`"
            )
        return made

    def laws(self) -> dict[str, TorchDistribution]:
        """The distributions of the numbers in :math:`\\theta` by name."""
        return {name: cast(TorchDistribution, p()) for name, p in self.hyper.items()}


class SampledHyper(HyperPrior):
    r"""A prior whose own parameters are latents that all data share, :math:`\theta \sim p(\theta)`.

    A call samples them, so a model must make it outside the data plate, as `VAE` does. Bounds per datum are then
    undefined and refused by the name of the site; ask for one of all data, with `joint=True`, and a guide that samples
    the same sites, such as `guides.SharedNormal`. A batch of B out of N data stands for all of them: with `share` at
    B / N the bound of a batch is, in the mean, that share of the whole bound.

    Sites: one for each name in `hyper`. No plate.

    Arguments:
        hyper: the distribution of each number or tensor in :math:`\theta`, by name, of batch shape `()`.
        make: from :math:`\theta`, by those names, to the distribution of `z`; a module, if it has parameters. It must
            broadcast: under K particles a number has shape `(K, 1)`, and the distribution that batch shape.
        share: how much of the density of :math:`\theta` counts in a batch.

    Raises:
        TypeError: `hyper` holds no distributions, or `make` is no function.
        ValueError: a distribution has a batch, `make` hides parameters or does not broadcast, or `share` is not in
            (0, 1].

    Example:
        >>> import pyro.distributions as dist
        >>> prior = SampledHyper(
        ...     {"scale": dist.Gamma(2.0, 2.0)},
        ...     lambda scale: dist.Laplace(torch.zeros(5), scale.unsqueeze(-1)).to_event(1),
        ... )
        >>> pyro.poutine.trace(prior).get_trace().stochastic_nodes, prior().event_shape
        (['scale'], torch.Size([5]))
    """

    def __init__(
        self, hyper: Mapping[str, Distribution], make: Callable[..., Distribution], *, share: float = 1.0
    ) -> None:
        super().__init__(hyper, make)
        self.share = check_share(share)

    def values(self) -> dict[str, Tensor]:
        """Draws of them, at a site each."""
        with pyro.poutine.scale(scale=self.share):
            return {name: pyro.sample(name, p) for name, p in self.laws().items()}


class LearnedHyper(HyperPrior):
    r"""A prior whose own parameters are learned, and kept in bounds by a prior of theirs.

    The density of :math:`\theta` counts once however many data there are: add `log_hyperprior`, divided by their
    number N, and training finds the mode of the posterior; without it, the most likely parameters.

    .. math:: \frac1N \sum_i \mathcal{L}(x_i;\, \theta) + \frac1N \log p(u), \qquad \theta = T(u)

    The density, and so the mode, is that of the unconstrained :math:`u`, as `biject_to` takes it to the support:
    bounded also where that of :math:`\theta` is infinite, as a gamma's may be at 0.

    Arguments:
        hyper: the distribution of each number or tensor in :math:`\theta`, by name, of batch shape `()`. It starts at
            its mean, or where that is not finite at :math:`u = 0`.
        make: from :math:`\theta`, by those names, to the distribution of `z`; a module, if it has other parameters.

    Raises:
        TypeError: `hyper` holds no distributions, or `make` is no function.
        ValueError: a distribution has a batch or is discrete, or `make` hides parameters or does not broadcast.

    Example:
        >>> import pyro.distributions as dist
        >>> from inference import Augmented, Term, Variational
        >>> prior = LearnedHyper(
        ...     {"scale": dist.Gamma(2.0, 2.0)}, lambda scale: dist.Laplace(torch.zeros(5), scale).to_event(1)
        ... )
        >>> prior.values()["scale"], prior.log_hyperprior()
        (tensor(1., grad_fn=<...>), tensor(-0.6137, grad_fn=<...>))
        >>> term = Term(prior.log_hyperprior, weight=1 / 60000, of_batch=False)
        >>> objective = Augmented(Variational(), {"hyperprior": term})
    """

    def __init__(self, hyper: Mapping[str, Distribution], make: Callable[..., Distribution]) -> None:
        super().__init__(hyper, make)
        self.unconstrained = nn.ParameterDict({name: unconstrained_start(name, p) for name, p in self.laws().items()})

    def values(self) -> dict[str, Tensor]:
        """What they are now."""
        return {name: cast(Tensor, biject_to(p.support)(self.unconstrained[name])) for name, p in self.laws().items()}

    def log_hyperprior(self) -> Tensor:
        r""":math:`\log p(u)`, one number."""
        terms = []
        for name, p in self.laws().items():
            u, bijection = self.unconstrained[name], biject_to(p.support)
            value = bijection(u)
            terms.append(p.log_prob(value) + bijection.log_abs_det_jacobian(u, value).sum())
        return torch.stack(terms).sum()


def check_share(share: float) -> float:
    """The argument `share`, refused unless it is in (0, 1]."""
    if not 0.0 < share <= 1.0:
        raise ValueError(f"`share` must be a batch's share of the data, B / N in (0, 1], got {share}")
    return float(share)


def unconstrained_start(name: str, p: TorchDistribution) -> Tensor:
    """Where a parameter starts, in unconstrained coordinates: at the mean if that is finite, else at 0."""
    support: Any = p.support
    if support.is_discrete:
        raise ValueError(f"`hyper` has a discrete distribution at `{name}`, which has no unconstrained coordinate")
    bijection: Any = biject_to(support)
    try:
        mean = bijection.inv(p.mean)
        known = bool(mean.isfinite().all())
    except NotImplementedError:
        known = False
    return mean.clone() if known else torch.zeros_like(bijection.inv(p.sample()))
