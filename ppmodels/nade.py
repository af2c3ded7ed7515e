"""Bits one after the other, each given those before it: the law of NADE."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

__all__ = ["NADELaw"]

BLOCK = 16
"""Bits scored at a time: all at once would fill memory with `(..., d, H)`, one at a time is many small steps."""


class NADELaw(TorchDistribution):
    r"""A vector of d bits that are drawn in turn, each given all before it.

    .. math:: p(y) = \prod_{i=1}^d \operatorname{Bernoulli}\bigl(y_i;\, \sigma(b_i + V_i \cdot \sigma(a_i))\bigr),
        \qquad a_i = c + \sum_{j<i} W_j y_j

    Neighbouring bits share all but one term of :math:`a_i`, so that a draw costs no more than a density, `d * H`
    multiplications. A draw takes d small steps; a density takes d / 16 larger ones.

    Arguments:
        logits: :math:`b`, `(..., d)`.
        features: :math:`c`, `(..., H)`; its leading axes and those of `logits` are broadcast to the batch.
        W: what each bit adds for those after it, `(d, H)`; its last row is idle.
        V: how each bit reads what those before it added, `(d, H)`. With `V = 0` the bits are independent.
        validate_args: as torch has it.

    Raises:
        ValueError: `W` or `V` is not of shape `(d, H)`; under validation, a logit is not a number or a value no bit.

    References:
        The Neural Autoregressive Distribution Estimator (Larochelle and Murray, 2011), equations 4 and 5

    Example:
        >>> W, V = torch.randn(2, 3, 7)
        >>> p = NADELaw(torch.zeros(3), torch.zeros(32, 7), W, V)
        >>> p.batch_shape, p.event_shape, p.sample((5,)).shape
        (torch.Size([32]), torch.Size([3]), torch.Size([5, 32, 3]))
        >>> every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        >>> bool((p.log_prob(every[:, None]).exp().sum(0) - 1).abs().max() < 1e-5)
        True
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.real_vector,
        "features": constraints.real_vector,
    }
    support = constraints.independent(constraints.boolean, 1)
    has_rsample = False

    def __init__(
        self, logits: Tensor, features: Tensor, W: Tensor, V: Tensor, *, validate_args: bool | None = None
    ) -> None:
        shape = (logits.shape[-1], features.shape[-1])  # (d, H)
        for name, weight in {"W": W, "V": V}.items():
            if weight.shape != shape:
                raise ValueError(
                    f"`{name}` must have shape {shape}, a row for each of the `logits` and a column for each of the "
                    f"`features`, got {tuple(weight.shape)}"
                )
        self.logits, self.features, self.W, self.V = logits, features, W, V
        batch_shape = torch.broadcast_shapes(logits.shape[:-1], features.shape[:-1])
        super().__init__(batch_shape, logits.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> NADELaw:
        logits = self.logits.expand(*batch_shape, -1)  # a view, which says the shape for both
        return type(self)(logits, self.features, self.W, self.V, validate_args=self._validate_args)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))  # (..., d)
        with torch.no_grad():
            noise = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
            a, bits = self.features, []  # (..., H)
            for u, b, W, V in zip(noise.unbind(-1), self.logits.unbind(-1), self.W, self.V, strict=True):
                bit = (u < (b + a.sigmoid() @ V).sigmoid()).to(u.dtype)  # (...)
                a = a + bit.unsqueeze(-1) * W
                bits.append(bit)
            return torch.stack(bits, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, logits = self.features.unsqueeze(-2), []  # (..., 1, H)
        for y, W, V in zip(value.split(BLOCK, -1), self.W.split(BLOCK), self.V.split(BLOCK), strict=True):
            earlier = y.unsqueeze(-2) * y.new_ones(len(W), len(W)).tril(-1)  # (..., block, block): a row for each bit
            logits.append(((a + earlier @ W).sigmoid() * V).sum(-1))  # (..., block)
            a = a + (y @ W).unsqueeze(-2)
        return logsigmoid((2 * value - 1) * (self.logits + torch.cat(logits, -1))).sum(-1)
