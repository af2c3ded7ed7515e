r"""Optimisers and schedules by name, as factories: `fit` makes one optimiser a phase."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

__all__ = [
    "FusedAdam",
    "OptimizerFactory",
    "Optimizers",
    "ScheduleFactory",
    "Update",
    "adam",
    "burda_schedule",
    "by_phase",
    "updater",
]

OptimizerFactory: TypeAlias = Callable[[Iterable[Tensor]], Optimizer]
Optimizers: TypeAlias = OptimizerFactory | Mapping[str, OptimizerFactory]
"""A factory for all phases, or one for each by the phase's name."""
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


def by_phase(optimizer: Optimizers, phases: Sequence[str]) -> list[OptimizerFactory]:
    """A factory for each phase.

    Raises:
        ValueError: if a mapping has a phase too many, or lacks one.

    >>> by_phase({"wake": adam()}, ["wake", "sleep"])
    Traceback (most recent call last):
    ValueError: `optimizer` is for `wake`, expected one for each of the phases `wake`, `sleep`
    """
    if not isinstance(optimizer, Mapping):
        return [optimizer] * len(phases)
    if set(optimizer) != set(phases):
        given, wanted = (", ".join(f"`{name}`" for name in names) for names in (optimizer, phases))
        raise ValueError(f"`optimizer` is for {given or 'none'}, expected one for each of the phases {wanted}")
    return [optimizer[name] for name in phases]


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


class Update(Protocol):
    """Steps an optimiser: the gradient of `parameters[i]` for each place i."""

    def __call__(self, gradients: list[Tensor], places: Sequence[int]) -> None: ...


def updater(optimizer: Optimizer, parameters: Sequence[Tensor]) -> Update:
    """A function that steps an optimiser, `update(gradients, places)`.

    Where the optimiser is a plain fused Adam its kernel is called on its own state, without the bookkeeping that
    `Adam.step` does anew at every call; the numbers, and `state_dict()`, are those of `Adam.step`.
    """
    return (FusedAdam if _is_plain_adam(optimizer, parameters) else _General)(optimizer, parameters)


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient in the memory layout of its parameter: torch's fused kernels take that for granted."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class _General:
    """Any optimiser, as torch would have it called."""

    def __init__(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        self.optimizer, self.parameters = optimizer, parameters

    def __call__(self, gradients: list[Tensor], places: Sequence[int]) -> None:
        with torch.no_grad():
            for parameter in self.parameters:
                parameter.grad = None
            for gradient, i in zip(gradients, places, strict=True):
                self.parameters[i].grad = _laid_out(gradient, self.parameters[i])
        self.optimizer.step()


class FusedAdam:
    """The kernel behind `Adam(fused=True)`, while every parameter has a gradient and one step count serves all.

    The counts in the optimiser's own state are brought up to date before `state_dict` and before a step in the general
    way.

    Attributes:
        count: steps done, 0-d, on the device.
        means, squares: the moments, those of the optimiser's state.
        rate: the learning rate as a tensor that stays where it is, for a step that is recorded; see `read_rate`.
    """

    def __init__(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        self.optimizer, self.parameters = optimizer, list(parameters)
        self.general = _General(optimizer, parameters)
        self.strides = [parameter.stride() for parameter in parameters]
        self.count = torch.zeros((), dtype=torch.float32, device=parameters[0].device)
        self.rate = torch.zeros((), dtype=torch.float32, device=parameters[0].device)
        self.running, self.starts = False, 0
        optimizer.register_step_pre_hook(lambda *_: self.stop())
        optimizer.register_state_dict_pre_hook(lambda *_: self._write_counts())
        optimizer.register_load_state_dict_post_hook(lambda *_: setattr(self, "running", False))

    def __call__(self, gradients: list[Tensor], places: Sequence[int], rate: Tensor | None = None) -> None:
        if len(places) != len(self.parameters) or self._is_watched() or not (self.running or self.start()):
            self.general(gradients, places)
            return
        group = self.optimizer.param_groups[0]
        with torch.no_grad():
            if [gradient.stride() for gradient in gradients] != self.strides:
                gradients = list(map(_laid_out, gradients, self.parameters))
            self.count += 1
            torch._fused_adam_(
                self.parameters,
                gradients,
                self.means,
                self.squares,
                [],
                self.counts,
                lr=group["lr"] if rate is None else rate,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=group["maximize"],
            )

    def _is_watched(self) -> bool:
        """Whether somebody wants to be called at every step; one hook is ours."""
        mine = self.optimizer
        return len(mine._optimizer_step_pre_hooks) > 1 or bool(mine._optimizer_step_post_hooks)

    @property
    def settings(self) -> tuple[Any, ...]:
        """What a recorded step has taken for granted beside the rate."""
        group = self.optimizer.param_groups[0]
        return *group["betas"], group["weight_decay"], group["eps"], group["maximize"], self.starts

    @property
    def state(self) -> list[Tensor]:
        """All tensors that a step changes."""
        return [*self.parameters, *self.means, *self.squares, self.count]

    def start(self) -> bool:
        """Take the optimiser's state over, or make it; whether it is the same for all parameters."""
        state = self.optimizer.state
        counts = {float(state[p]["step"]) if state.get(p) else 0.0 for p in self.parameters}
        if len(counts) > 1:
            return False
        with torch.no_grad():
            self.count.fill_(counts.pop())
            for p in self.parameters:
                state[p].setdefault("step", self.count.clone())
                for name in ("exp_avg", "exp_avg_sq"):
                    state[p].setdefault(name, torch.zeros_like(p, memory_format=torch.preserve_format))
        self.means = [state[p]["exp_avg"] for p in self.parameters]
        self.squares = [state[p]["exp_avg_sq"] for p in self.parameters]
        self.counts = [self.count] * len(self.parameters)
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # schedules warn where nobody has stepped
        self.running, self.starts = True, self.starts + 1
        return True

    def stop(self) -> None:
        """Leave the state to torch's own steps."""
        self._write_counts()
        self.running = False

    def _write_counts(self) -> None:
        if self.running:
            for p in self.parameters:
                self.optimizer.state[p]["step"].copy_(self.count)

    def read_rate(self) -> None:
        """Have the learning rate in `rate`."""
        self.rate.fill_(self.optimizer.param_groups[0]["lr"])


def _is_plain_adam(optimizer: Optimizer, parameters: Sequence[Tensor]) -> bool:
    """Whether `FusedAdam` does what the optimiser would."""
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
        return False
    group = optimizer.param_groups[0]
    hooked = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    alike = all(p.dtype == parameters[0].dtype and p.device == parameters[0].device for p in parameters)
    plain = group["fused"] and not group["amsgrad"] and not group.get("decoupled_weight_decay")
    listed = [id(p) for p in group["params"]] == [id(p) for p in parameters]
    return bool(plain and alike and listed and not hooked)
