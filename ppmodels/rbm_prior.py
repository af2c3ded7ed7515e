r"""An RBM as the prior of a directed model: the two together are a deep belief network."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints

from ppmodels.nets import check_size

from .rbm import RBM

__all__ = ["RBMLaw", "RBMPrior"]


class RBMLaw(TorchDistribution):
    r"""The law of the data of an RBM, :math:`\log p(v) = -F(v) - \log Z`, drawn by Gibbs chains of so many sweeps."""

    arg_constraints: Any = {}  # noqa: RUF012 - torch's own name for it
    support = constraints.independent(constraints.boolean, 1)

    def __init__(self, rbm: RBM, log_z: Tensor, sweeps: int, batch_shape: Any = ()) -> None:
        self.rbm, self.log_z, self.sweeps = rbm, log_z, sweeps
        super().__init__(Size(batch_shape), Size([rbm.visible_units.size]), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> RBMLaw:
        """The same law, so many times."""
        return RBMLaw(self.rbm, self.log_z, self.sweeps, batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """`(..., num_visible)` to `(...)`, in nats."""
        return -self.rbm.free_energy(value) - self.log_z

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """As many chains as draws, each by itself."""
        shape = self._extended_shape(Size(sample_shape))
        return self.rbm.sample(shape[:-1].numel(), sweeps=self.sweeps).reshape(shape)


class RBMPrior(nn.Module):
    r"""A prior over bits whose call returns the law of an RBM, with log Z as a number of its own.

    Under a layer of bits :math:`p(x \mid z)` this is a deep belief network (Hinton, Osindero and Teh 2006), and every
    bound on log p(x) is one of it. While the RBM stands still log Z stays right; train it and reckon log Z again.

    Arguments:
        rbm: over as many bits as the latent has.
        log_z: its normaliser in nats: `inference.partition.exact_log_z(rbm).lower` where a side can be enumerated.
        sweeps: of the Gibbs chains that draw from it.

    References:
        A Fast Learning Algorithm for Deep Belief Nets (Hinton, Osindero and Teh, 2006)

    Example:
        >>> from inference.partition import exact_log_z
        >>> rbm = RBM(3, 2)
        >>> prior = RBMPrior(rbm, exact_log_z(rbm).lower)
        >>> round(prior().log_prob(torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0], [1, 0, 1],
        ...     [1, 1, 0], [1, 1, 1]])).exp().sum().item(), 4)
        1.0
    """

    log_z: Tensor

    def __init__(self, rbm: RBM, log_z: float, *, sweeps: int = 200) -> None:
        super().__init__()
        if not rbm.visible_units.countable:
            raise ValueError("`rbm` has real visible units, expected bits: those are what its draws are taken for")
        self.rbm = rbm
        self.sweeps = check_size("sweeps", sweeps)
        self.register_buffer("log_z", torch.as_tensor(log_z, dtype=rbm.weight.dtype))

    def forward(self) -> RBMLaw:
        return RBMLaw(self.rbm, self.log_z, self.sweeps)
