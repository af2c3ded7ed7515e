r"""The metric of Hamiltonian chains, from draws and gradients of all of them.

The Fisher divergence between the target and a normal law is least, for a diagonal one, at
:math:`\sqrt{\mathrm{var}(q) / \mathrm{var}(\nabla)}`, and for a dense one at the geometric mean of
:math:`\mathrm{cov}(q)` and :math:`\mathrm{cov}(\nabla)^{-1}`. For a normal target that is its covariance wherever the
chains are: the first window finds it.

References:
    Seyboldt, Carlson and Carpenter, *Preconditioning Hamiltonian Monte Carlo by minimizing Fisher divergence*, 2026,
    arXiv 2603.18845 (the metric of nutpie).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

__all__ = ["Metric", "MetricName", "choose_metric", "fit_metric"]

MetricName: TypeAlias = Literal["auto", "diag", "dense"]

MOST_DENSE = 200
"""Dimensions above which a dense metric costs more than it gives."""


class Metric(NamedTuple):
    """A factor of the inverse mass.

    Attributes:
        factor: F, `(D,)` or `(D, D)`.
        inverse: its inverse.
        slowest: the largest variance of whitened draws.
    """

    factor: Tensor
    inverse: Tensor
    slowest: float


def choose_metric(name: MetricName, dim: int, num_chains: int) -> Literal["diag", "dense"]:
    """`auto` is dense where there are dimensions few enough, and half as many chains as dimensions.

    >>> choose_metric("auto", 10, 64), choose_metric("auto", 300, 64)
    ('dense', 'diag')
    """
    if name not in ("auto", "diag", "dense"):
        raise ValueError(f'`metric` is {name!r}, expected "auto", "diag" or "dense"')
    if name != "auto":
        return name
    return "dense" if dim <= MOST_DENSE and 2 * num_chains >= dim else "diag"


def no_metric(dense: bool, like: Tensor) -> Metric:  # noqa: FBT001 - internal
    """Unit masses, in the form that the metric will have, so that one graph serves all."""
    one = torch.ones_like(like) if not dense else torch.eye(len(like), dtype=like.dtype, device=like.device)
    return Metric(one, one, 1.0)


def fit_metric(q: Tensor, grad: Tensor, num_chains: int, *, dense: bool) -> Metric:
    """The metric of draws `(n, D)` with their gradients, of which about a tenth are independent."""
    finite = q.isfinite().all(-1) & grad.isfinite().all(-1)
    q, grad = q[finite], grad[finite]
    var, grad_var = (value.var(0).clamp(min=1e-20) for value in (q, grad))
    scale = (var / grad_var) ** 0.25  # (D,)
    cov = _covariance(q / scale)
    if not dense:
        return Metric(scale, 1 / scale, float(torch.linalg.eigvalsh(cov)[-1]) if len(scale) <= 2 * MOST_DENSE else 1.0)
    num_independent = max(num_chains, len(q) / 10)
    trust = num_independent / (num_independent + q.shape[1])
    a, b = _shrunk(cov, trust), _shrunk(_covariance(grad * scale), trust)
    root, inverse_root = _power(a, 0.5), _power(a, -0.5)
    mean = root @ _power(inverse_root @ _power(b, -1.0) @ inverse_root, 0.5) @ root  # geometric, of a and 1 / b
    L = torch.linalg.cholesky(0.5 * (mean + mean.T))
    eye = torch.eye(len(scale), dtype=q.dtype, device=q.device)
    L_inverse = torch.linalg.solve_triangular(L, eye, upper=False)
    slowest = float(torch.linalg.eigvalsh(L_inverse @ cov @ L_inverse.T)[-1])
    factor, inverse = scale.unsqueeze(-1) * L, L_inverse / scale
    return Metric(factor.contiguous(), inverse.contiguous(), slowest)  # a graph is made for one order of memory


def _covariance(rows: Tensor) -> Tensor:
    return torch.cov(rows.T).reshape(rows.shape[1], rows.shape[1])


def _shrunk(cov: Tensor, trust: float) -> Tensor:
    """Towards a multiple of the unit matrix, as far as the draws are few."""
    eye = torch.eye(len(cov), dtype=cov.dtype, device=cov.device)
    return trust * cov + (1 - trust) * cov.diagonal().mean() * eye


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    found: Tensor = (vectors * values.clamp(min=1e-12) ** exponent) @ vectors.T
    return found
