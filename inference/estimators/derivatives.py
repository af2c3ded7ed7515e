r"""What a bound's value does when its log weights move: by autograd, so for any bound of anyone's."""

from __future__ import annotations

import torch
from torch import Tensor

from inference.bounds import Bound
from inference.weights import Weights

__all__ = ["as_weights", "copies_of", "curvature_of", "is_linear", "jumps", "slope_of"]


def as_weights(log_w: Tensor) -> Weights:
    """Weights of which nothing but their ratio is known."""
    return Weights(log_p=log_w, log_q=torch.zeros_like(log_w))


def slope_of(bound: Bound, log_w: Tensor) -> Tensor:
    r"""A bound's derivative in each log weight, :math:`c_k = \partial B / \partial \log w_k`, `(K, n)`.

    Zero for a datum that all draws rule out.
    """
    with torch.enable_grad():
        leaf = log_w.detach().requires_grad_()
        value = bound(as_weights(leaf))
        if not value.requires_grad:
            raise ValueError(f"`bound` is {bound.name}, which has no derivative in the log weights: make it of tensors")
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return slope.nan_to_num(nan=0.0)


def curvature_of(bound: Bound, log_w: Tensor) -> Tensor:
    r"""A bound's second derivative in each log weight by itself, :math:`h_k = \partial^2 B / \partial (\log w_k)^2`.

    It is the bound's own `curvature` where it has one. Otherwise it comes from differentiating twice, on K copies of
    the weights, one for each draw: memory grows as K squared times n.

    >>> from inference.bounds import TVO
    >>> curvature_of(TVO(partitions=1), torch.tensor([[0.0], [3.0]]))  # the ELBO is linear
    tensor([[0.],
            [0.]])
    """
    closed = getattr(bound, "curvature", None)
    if closed is not None:
        found: Tensor = closed(log_w)
        return found.nan_to_num(nan=0.0)
    with torch.enable_grad():
        copies = copies_of(log_w).detach().requires_grad_()  # (K, K, n): draw, copy, datum
        (slopes,) = torch.autograd.grad(
            bound(as_weights(copies.flatten(1))).sum(), copies, create_graph=True, materialize_grads=True
        )
        if not slopes.requires_grad:
            return torch.zeros_like(log_w)
        own = slopes.diagonal().sum()  # of draw k in copy k: what else moves there does not count
        (curvature,) = torch.autograd.grad(own, copies, materialize_grads=True)
    return curvature.diagonal().T.nan_to_num(nan=0.0)


def copies_of(log_w: Tensor) -> Tensor:
    """K copies of the log weights beside each other, `(K, n) -> (K, K, n)`: draw, copy, datum."""
    return log_w.unsqueeze(1).repeat(1, len(log_w), 1)


def is_linear(bound: Bound, num_particles: int) -> bool:
    """Whether a bound's slope is the same for all weights, as the ELBO's is."""
    first, second = (slope_of(bound, log_w) for log_w in _probes(num_particles))
    return bool(torch.allclose(first, second, atol=1e-9))


def _probes(K: int) -> tuple[Tensor, Tensor]:
    """Two sets of log weights of no particular kind, `(K, 3)`."""
    grid = torch.arange(1.0, 3 * K + 1, dtype=torch.float64).reshape(K, 3)
    return 2 * (12.9898 * grid).sin(), 2 * (78.233 * grid + 1).sin()


def jumps(bound: Bound, num_particles: int) -> bool:
    """Whether a bound's slope changes by more than its curvature explains: at a kink, or from one draw to another.

    One draw is swept past the others; a smooth slope is the integral of the curvature. A bound that has a `curvature`
    of its own is taken at its word.
    """
    if getattr(bound, "curvature", None) is not None:
        return False
    others, _ = _probes(min(num_particles, 64))
    sweep = torch.linspace(-25, 25, 1001, dtype=torch.float64)
    log_w = others[:, :1].repeat(1, len(sweep))  # (K, sweep)
    log_w[0] = sweep
    slope, curvature = slope_of(bound, log_w)[0], curvature_of(bound, log_w)[0]
    explained = torch.cumulative_trapezoid(curvature, sweep)
    return bool(((slope[1:] - slope[0]) - explained).abs().max() > 0.01 * slope.abs().max())
