r"""More than a bound: named terms added to any objective, such as what labels teach, or a prior on parameters.

.. math:: \text{loss} = \text{the objective's} - \sum_t \lambda_t \frac{1}{n} \sum_i f_t(x_i)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from inference.objectives import LossParts, Objective, Phase, Task
from inference.pair import Pair, call, first_tensor, module_of, size_of
from inference.seeds import seeded
from ppmodels.contracts import Batch

__all__ = ["Augmented", "Term"]


@dataclass(frozen=True, repr=False)
class Term:
    """What is maximised beside a bound: `weight` times a function, averaged over the data of a batch.

    Attributes:
        value: of the batch, called as the programs are: one number per datum, `(n,)`. Most often a method of the guide
            or the model; its parameters must be the pair's.
        weight: what the average over a batch is multiplied by; negative for what is to be small.
        of_batch: whether `value` looks at the data; if not it is called without arguments and gives one number, `()`,
            such as the log density of a prior on parameters. That counts once for all N data: let `weight` be 1 / N.

    >>> Term(torch.nn.Linear(3, 1).forward, weight=0.5)
    Term(Linear.forward, weight=0.5)
    """

    value: Callable[..., Tensor]
    weight: float = 1.0
    of_batch: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        if not callable(self.value):
            raise TypeError(f"`value` is a {type(self.value).__name__}, expected a function, or a method of the guide")
        if not math.isfinite(self.weight):
            raise ValueError(f"`weight` is {self.weight}, expected a finite number")

    def __call__(self, batch: Batch) -> Tensor:
        """One number per datum, `(n,)`, or one for all, `()`."""
        found: Tensor = call(self.value, batch) if self.of_batch else self.value()
        return found

    def __repr__(self) -> str:  # the same in another process: runs are resumed by it
        return f"Term({_name(self.value)}, weight={self.weight}{'' if self.of_batch else ', of_batch=False'})"


@dataclass(frozen=True)
class Augmented:
    r"""An objective and named terms that are maximised with it, in each of its phases.

    Learning from labels where some data have one: a guide that knows :math:`\log q(y \mid x)` gives it for those, and
    zero for the others. With :math:`N_l` of N data labelled, `weight` :math:`= \alpha N / N_l` adds :math:`\alpha`
    times the mean over labelled data, without bias however few of them a batch holds; Kingma et al. take
    :math:`\alpha = 0.1`.

    What the report shows under a term's name is its part of the loss with the sign of a gain,
    :math:`\lambda_t \frac1n \sum_i f_t(x_i)`. The score of validation data stays the objective's own, so that runs
    with other weights compare.

    Attributes:
        objective: what the terms are added to.
        terms: by name.

    References:
        Kingma, Rezende, Mohamed and Welling, *Semi-Supervised Learning with Deep Generative Models*, 2014, arXiv
        1406.5298, equation 9.

    >>> import pyro, pyro.distributions as dist
    >>> from inference.fit import fit
    >>> from inference.objectives import Variational
    >>> class Model(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.mean = torch.nn.Parameter(torch.tensor(0.0))
    ...     def forward(self, x):
    ...         with pyro.plate("data", len(x)):
    ...             pyro.sample("x", dist.Normal(self.mean, 1.0), obs=x)
    ...     def log_prior(self):
    ...         return dist.Normal(0.0, 1.0).log_prob(self.mean)
    >>> model, x = Model(), torch.full((3,), 4.0)
    >>> objective = Augmented(Variational(), {"prior": Term(model.log_prior, weight=1 / len(x), of_batch=False)})
    >>> fitted = fit(model, lambda x: None, x, objective, steps=300, optimizer=partial(torch.optim.Adam, lr=0.1))
    >>> round(model.mean.item(), 2)  # the posterior mode
    3.0
    """

    objective: Objective
    terms: Mapping[str, Term]

    def __post_init__(self) -> None:
        if not isinstance(self.objective, Objective):
            raise TypeError(f"`objective` is a {type(self.objective).__name__}, expected one such as Variational()")
        if not self.terms:
            raise ValueError("`terms` is empty, expected at least one: without any, use the objective itself")
        for name, term in self.terms.items():
            if not isinstance(term, Term):
                raise TypeError(f"`terms` has a {type(term).__name__} as {name!r}, expected Term(function, weight=...)")
            if name in ("loss", "grad_norm"):
                raise ValueError(f"`terms` has {name!r}, which reports use already: expected another name")

    def task(self, pair: Pair, batch: Batch) -> Task:
        """The objective's phases with the terms added; refuse a term of another shape, or of foreign parameters."""
        task = self.objective.task(pair, batch)
        self._check_parameters(task)
        with seeded(None, first_tensor(batch).device), pair.mode(training=False), torch.no_grad():
            for name, term in self.terms.items():
                _check_value(name, term, batch)
        phases = tuple(replace(phase, loss=partial(self._loss, phase)) for phase in task.phases)
        return replace(task, phases=phases)

    def _loss(self, phase: Phase, batch: Batch, step: Tensor) -> LossParts:
        found = phase.loss(batch, step)
        gains = {name: term.weight * term(batch).mean() for name, term in self.terms.items()}
        if twice := gains.keys() & found.parts.keys():
            raise ValueError(f"`terms` has {min(twice)!r}, which the objective reports already: expected another name")
        loss = found.loss - torch.stack(list(gains.values())).sum()
        parts = {name: gain.detach() for name, gain in gains.items()}
        return LossParts(loss, {**found.parts, "loss": loss.detach(), **parts})

    def _check_parameters(self, task: Task) -> None:
        known = {id(value) for phase in task.phases for value in phase.parameters.values()}
        for name, term in self.terms.items():
            module = module_of(term.value)
            for parameter, value in module.named_parameters() if module is not None else ():
                if value.requires_grad and id(value) not in known:
                    raise ValueError(
                        f"`terms` has {name!r}, whose `{parameter}` is no parameter of the pair, which nothing would "
                        "train: make its module a part of model or guide"
                    )


def _check_value(name: str, term: Term, batch: Batch) -> None:
    value, wanted = term(batch), (size_of(batch),) if term.of_batch else ()
    if not isinstance(value, Tensor) or value.shape != wanted or not value.is_floating_point():
        got = f"{value.dtype} of {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        number = "a number per datum" if term.of_batch else "one number"
        raise ValueError(f"`terms` has {name!r}, which gives {got}, expected floats of {wanted}, {number}")


def _name(function: Callable[..., Tensor]) -> str:
    """A name of a function that is the same in every process."""
    if isinstance(function, partial):
        given = [*map(repr, function.args), *(f"{key}={value!r}" for key, value in function.keywords.items())]
        return f"partial({', '.join([_name(function.func), *given])})"
    return getattr(function, "__qualname__", type(function).__name__)
