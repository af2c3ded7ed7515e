r"""Burda's one-layer network and its bound as one would write them in PyTorch alone: the baseline of every ratio.

.. math:: \log w = \log p(x \mid z) + \log p(z) - \log q(z \mid x), \qquad z = \mu(x) + \sigma(x)\, \epsilon

Needs torch and nothing else, as a peer's environment imports it for the data and the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.gpu import captured, synchronised
from benchmarks.workload import Workload

X, HIDDEN, Z = 784, 200, 50
ROWS = 6000


def batches(batch: int, device: str = "cpu") -> list[Tensor]:
    """Random bits, 30 % of them set, cut into full batches beforehand."""
    bits = torch.rand(ROWS, X, generator=torch.Generator().manual_seed(0)) < 0.3
    return [part.contiguous() for part in bits.float().to(device).split(batch) if len(part) == batch]


def dense(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with Glorot-uniform weights and no bias yet, as everywhere in these tables."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def trunk(in_features: int) -> nn.Sequential:
    """Two layers of 200 tanh."""
    return nn.Sequential(dense(in_features, HIDDEN), nn.Tanh(), dense(HIDDEN, HIDDEN), nn.Tanh())


class Encoder(nn.Module):
    """q(z | x): location and log scale."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.loc, self.log_scale = trunk(X), dense(HIDDEN, Z), dense(HIDDEN, Z)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.loc(h), self.log_scale(h)


class Decoder(nn.Sequential):
    """p(x | z): logits."""

    def __init__(self, in_features: int = Z) -> None:
        super().__init__(*trunk(in_features), dense(HIDDEN, X))


def log_bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """Summed over pixels."""
    return -binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)


class Burda(nn.Module):
    """784-200-200-50 tanh, both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()

    def loss(self, x: Tensor, K: int) -> Tensor:
        """Minus the ELBO, or the bound of K draws, per datum."""
        loc, log_scale = self.encoder(x)
        shape = (K, *loc.shape) if K > 1 else loc.shape
        noise = torch.randn(shape, device=x.device)
        z = loc + log_scale.exp() * noise  # (K, B, z_dim)
        log_prior_ratio = 0.5 * (noise * noise - z * z).sum(-1) + log_scale.sum(-1)
        log_w = log_bernoulli(self.decoder(z), x) + log_prior_ratio
        return -log_w.mean() if K == 1 else math.log(K) - log_w.logsumexp(0).mean()


def trained(
    module: nn.Module, loss: Callable[[Tensor], Tensor], data: list[Tensor], plain: Callable[[Tensor], Tensor]
) -> Workload:
    """Steps of Adam in one fused kernel on resident batches; `plain` is the loss that is reported."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)

    def step(i: int) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = loss(data[i % len(data)])
        value.backward()
        optimizer.step()
        return value

    return Workload(step, loss=lambda: plain(data[0]).item())


def eager(batch: int, K: int, *, flush: bool = False, compiled: bool = False, device: str = "cpu") -> Workload:
    """The step line by line, or with its loss through `torch.compile`; `flush` sets denormal numbers to zero."""
    torch.set_flush_denormal(flush)
    torch.manual_seed(0)
    network = Burda().to(device)
    loss = network.loss
    if compiled:
        torch._inductor.config.fallback_random = True  # torch's own normal draws are the faster ones
        loss = torch.compile(network.loss, dynamic=False, fullgraph=True)
    work = trained(network, lambda x: loss(x, K), batches(batch, device), lambda x: network.loss(x, K))
    return synchronised(work) if device == "cuda" else work


def cuda_graph(batch: int, K: int) -> Workload:
    """The whole eager step, Adam included, captured once in a CUDA graph."""
    torch.manual_seed(0)
    network, data = Burda().cuda(), batches(batch, "cuda")
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True, capturable=True)
    x = data[0].clone()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        network.loss(x, K).backward()
        optimizer.step()

    graph = captured(step)

    def replay(i: int) -> None:
        x.copy_(data[i % len(data)])
        graph()

    return synchronised(Workload(replay, loss=lambda: network.loss(data[0], K).item()))
