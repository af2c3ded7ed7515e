"""Coins of a captured graph are the program's own, and leave the generator where the program leaves it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from inference.graph.coins import tossed


def targets(function: object, x: Tensor) -> list[str]:
    """The same draws, shape and state of the generator; the names of the operations."""
    module = tossed(make_fx(function, tracing_mode="fake")(x))  # type: ignore[arg-type]
    for seed in range(20):
        found = []
        for run in (function, module):
            torch.manual_seed(seed)
            found.append((run(x), torch.get_rng_state()))  # type: ignore[operator]
        (mine, state), (its, other) = found
        assert torch.equal(mine, its)
        assert (mine.dtype, mine.stride()) == (its.dtype, its.stride())
        assert torch.equal(state, other)
    return [str(node.target) for node in module.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (15,), (16,), (17,), (0, 3), (5, 40, 30)])
def test_the_draws_are_torchs(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    found = targets(lambda p: torch.bernoulli(p) + torch.rand(()), torch.rand(shape, dtype=dtype))
    assert "aten.bernoulli.default" not in found
    assert found.count("aten.rand.default") == 2


def test_views_are_read_in_their_order() -> None:
    for view, x in (
        (lambda p: torch.bernoulli(p.t()), torch.rand(7, 5)),
        (lambda p: torch.bernoulli(p.expand(3, 7, 5)), torch.rand(7, 1)),
        (lambda p: torch.bernoulli(p[:, ::2]), torch.rand(7, 5)),
    ):
        assert "aten.bernoulli.default" not in targets(view, x)


def test_certain_coins() -> None:
    assert "aten.bernoulli.default" not in targets(torch.bernoulli, torch.tensor([0.0, 1.0, 0.5]))


def test_half_precision_keeps_torchs_kernel() -> None:
    assert "aten.bernoulli.default" in targets(torch.bernoulli, torch.rand(1000, dtype=torch.bfloat16))
