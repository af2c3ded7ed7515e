"""The step written by hand, which the bench compares with ours, does the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.beliefs import WIDTHS, Beliefs, K
from benchmarks.hand import X
from guides import MeanFieldBernoulli
from inference.pair import Pair
from inference.wake_sleep import WakeSleep
from ppmodels.helmholtz import SigmoidBeliefNetwork


def test_both_have_one_gradient() -> None:
    """The same parameters, the same draws (one stream, layer by layer): the same gradient and bound."""
    torch.set_default_dtype(torch.float64)
    hand, model, guide = Beliefs(), SigmoidBeliefNetwork(X, WIDTHS), MeanFieldBernoulli(X, WIDTHS)
    x = torch.bernoulli(torch.full((20, X), 0.3))
    conditionals: list[Any] = [model.likelihood, *reversed(model.layers)]
    mine: list[tuple[Tensor, Tensor]] = [(hand.top, model.prior.get_parameter("logits"))]
    for down, up, below, above in zip(hand.down, hand.up, conditionals, guide.layers, strict=True):
        for linear, conditional in ((down, below), (up, above)):
            mine += [(linear.get_parameter(n), conditional.get_parameter(f"logits.{n}")) for n in ("weight", "bias")]
    with torch.no_grad():
        for parameter, its in mine:
            parameter.add_(0.3 * torch.randn_like(parameter))
            its.copy_(parameter)
    (wake,) = WakeSleep(K, wake=1.0, sleep=0.0).task(Pair(model, guide), x).phases
    torch.manual_seed(1)
    found = torch.autograd.grad(wake.loss(x, torch.zeros(())).loss, [its for _, its in mine])
    torch.manual_seed(1)
    expected = torch.autograd.grad(hand.loss(x), [parameter for parameter, _ in mine])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.manual_seed(1)
    bound = wake.loss(x, torch.zeros(())).loss
    torch.manual_seed(1)
    torch.testing.assert_close(hand.bound(x), bound.detach())
