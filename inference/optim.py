r"""Optimisers and schedules by name, as factories: `fit` makes one optimiser a phase."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

__all__ = ["FusedAdam", "OptimizerFactory", "ScheduleFactory", "Update", "adam", "burda_schedule", "updater"]

OptimizerFactory: TypeAlias = Callable[[Iterable[Tensor]], Optimizer]
ScheduleFactory: TypeAlias = Callable[[Optimizer], LRScheduler]


def adam(lr: float = 1e-3, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> OptimizerFactory:
    """Adam in one fused kernel.

    Raises:
        ValueError: if the learning rate is not positive.

    References:
        Kingma and Ba, *Adam: A Method for Stochastic Optimization*, 2015, arXiv 1412.6980.

    >>> adam(-1.0)
    Traceback (most recent call last):
    ValueError: `lr` is -1.0, expected a positive learning rate
    """
    if not lr > 0:
        raise ValueError(f"`lr` is {lr}, expected a positive learning rate")
    return partial(torch.optim.Adam, lr=lr, betas=betas, eps=eps, fused=True)


def burda_schedule(epochs: int = 3280) -> ScheduleFactory:
    r"""Burda's stages: in stage i = 0..7, :math:`3^i` epochs at :math:`10^{-i/7}` times the first learning rate.

    The eight stages take 3,280 epochs and bring 1e-3 down to 1e-4 (factors rounded to tenths of the last, as in the
    paper). With fewer epochs the stages shrink in proportion.

    References:
        Burda, Grosse and Salakhutdinov, *Importance Weighted Autoencoders*, 2016, arXiv 1509.00519, section 5.

    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    >>> schedule = burda_schedule()(optimizer)
    >>> [round(schedule.lr_lambdas[0](epoch), 2) for epoch in (0, 1, 4, 13, 40, 121, 364, 1093, 3279)]
    [1.0, 0.72, 0.52, 0.37, 0.27, 0.19, 0.14, 0.1, 0.1]
    """
    ends = [(3 ** (i + 1) - 1) / 2 * epochs / 3280 for i in range(8)]

    def factor(epoch: int) -> float:
        stage = next((i for i, end in enumerate(ends) if epoch < end), 7)
        return float(round(10 ** (1 - stage / 7), 1)) / 10

    return lambda optimizer: LambdaLR(optimizer, factor)


def updater(optimizer: Optimizer, parameters: Sequence[Tensor]) -> Update:
    """A function that steps an optimiser: `update(gradients, places)`, the gradient of `parameters[i]` for each place.

    Where the optimiser is a plain fused Adam its kernel is called on its own state, without the bookkeeping that
    `Adam.step` does anew at every call; the numbers, and `state_dict()`, are those of `Adam.step`.
    """
    return (
        FusedAdam(optimizer, parameters) if _is_plain_adam(optimizer, parameters) else _General(optimizer, parameters)
    )


class Update(Protocol):
    """Steps an optimiser: the gradient of `parameters[i]` for each place i."""

    def __call__(self, gradients: Sequence[Tensor], places: Sequence[int]) -> None: ...


class _General:
    """Any optimiser, as torch would have it called."""

    def __init__(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        self.optimizer, self.parameters = optimizer, parameters

    def __call__(self, gradients: Sequence[Tensor], places: Sequence[int]) -> None:
        for parameter in self.parameters:
            parameter.grad = None
        for gradient, i in zip(gradients, places, strict=True):
            self.parameters[i].grad = gradient
        self.optimizer.step()


class FusedAdam:
    """The kernel behind `Adam(fused=True)`; one step count serves all parameters.

    Attributes:
        state: all tensors it changes.
        rate: the learning rate as a tensor, for a step that is recorded; `None` to read the optimiser's number.
    """

    def __init__(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        self.optimizer, self.parameters = optimizer, list(parameters)
        self.general = _General(optimizer, parameters)
        self.group = optimizer.param_groups[0]
        state = optimizer.state
        count = next((state[p]["step"] for p in parameters if state[p]), torch.zeros((), device=parameters[0].device))
        for p in parameters:
            state[p] |= {"step": count}
            for name in ("exp_avg", "exp_avg_sq"):
                state[p].setdefault(name, torch.zeros_like(p, memory_format=torch.preserve_format))
        self.count = count
        self.means = [state[p]["exp_avg"] for p in parameters]
        self.squares = [state[p]["exp_avg_sq"] for p in parameters]
        self.counts = [count] * len(self.parameters)
        self.state = [*self.parameters, *self.means, *self.squares, count]
        self.rate: Tensor | None = None
        self.shared = True
        optimizer._opt_called = True  # type: ignore[attr-defined]  # schedules warn where nobody has stepped

    def read_rate(self) -> None:
        """Have the learning rate in a tensor that stays where it is."""
        if self.rate is None:
            self.rate = torch.zeros((), device=self.count.device)
        self.rate.fill_(self.group["lr"])

    def _give_back(self) -> None:
        for p in self.parameters:
            self.optimizer.state[p]["step"] = self.count.clone()
        self.shared = False

    def __call__(self, gradients: Sequence[Tensor], places: Sequence[int]) -> None:
        if self.shared and len(places) != len(self.parameters):  # parameters left out are not counted up
            self._give_back()
        if not self.shared:
            self.general(gradients, places)
            return
        group = self.group
        with torch.no_grad():
            self.count += 1
            torch._fused_adam_(
                self.parameters,
                list(gradients),
                self.means,
                self.squares,
                [],
                self.counts,
                lr=group["lr"] if self.rate is None else self.rate,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=group["maximize"],
            )


def _is_plain_adam(optimizer: Optimizer, parameters: Sequence[Tensor]) -> bool:
    """Whether `FusedAdam` does what the optimiser would."""
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
        return False
    group, state = optimizer.param_groups[0], optimizer.state
    counts = {float(state[p]["step"]) for p in parameters if state.get(p)}
    alike = len(counts) <= 1 and (not counts or all(state.get(p) for p in parameters))
    hooked = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    same = all(p.dtype == parameters[0].dtype and p.device == parameters[0].device for p in parameters)
    plain = group["fused"] and not group["amsgrad"] and not group.get("decoupled_weight_decay")
    listed = [id(p) for p in group["params"]] == [id(p) for p in parameters]
    return bool(plain and same and listed and alike and not hooked)
