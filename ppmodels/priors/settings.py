"""What priors are set to: numbers that are checked, and kept as parameters or as buffers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppmodels.nets import check_sizes

__all__ = ["check_widths", "hold", "log_positive"]


def hold(module: nn.Module, *, learned: bool, **values: Tensor) -> None:
    """Registers copies of the values under their names: as parameters, or as buffers that only move and are saved."""
    for name, value in values.items():
        value = value.detach().clone(memory_format=torch.contiguous_format)
        if learned:
            module.register_parameter(name, nn.Parameter(value))
        else:
            module.register_buffer(name, value)


def log_positive(name: str, value: float | Tensor, like: Tensor) -> Tensor:
    """The logarithm of the argument `name`, refused unless it is one positive number or as many as `like` has.

    Example:
        >>> log_positive("scale", 1.0, torch.zeros(3))
        tensor([0., 0., 0.])
        >>> log_positive("scale", -1.0, torch.zeros(3))
        Traceback (most recent call last):
        ValueError: `scale` must be one positive number or 3 of them, got -1.0
    """
    found = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if found.shape not in ((), like.shape) or not bool(((found > 0) & found.isfinite()).all()):
        raise ValueError(f"`{name}` must be one positive number or {len(like)} of them, got {value}")
    return found.log().expand_as(like)


def check_widths(hidden: Sequence[int], least: int) -> tuple[int, ...]:
    """The argument `hidden` of a masked net, refused if a layer is too narrow to tell so many coordinates apart.

    A unit of such a net looks at the coordinates before a certain one. With fewer units than there are such sets of
    coordinates, zuko leaves out the last of them, and says nothing.

    Example:
        >>> check_widths((64, 7), 9)
        Traceback (most recent call last):
        ValueError: `hidden` must be layers of at least 9 units, one for what each coordinate has before it, got (64, 7)
    """
    widths = check_sizes("hidden", hidden)
    if min(widths, default=least) < least:
        raise ValueError(
            f"`hidden` must be layers of at least {least} units, one for what each coordinate has before it, "
            f"got {widths}"
        )
    return widths
