"""Taking out of a graph what computes nothing: the same bits, and nothing that is random or written to touched."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from inference.graph.simplify import simplify
from tests.test_graph import graphed


def check_simplified(function: Callable[..., Tensor], *inputs: Tensor) -> list[str]:
    """Simplified, a function gives the same bits and leaves its inputs the same; the names of what is left."""
    real, mine = copy.deepcopy(inputs), copy.deepcopy(inputs)
    torch.manual_seed(0)
    expected = function(*real)
    module = make_fx(function, tracing_mode="fake")(*copy.deepcopy(inputs))
    module = simplify(module)
    torch.manual_seed(0)
    found = module(*mine)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    assert all(torch.equal(a, b) for a, b in zip(real, mine, strict=True))
    return [str(node.target) for node in module.graph.nodes if node.op == "call_function"]


def test_what_computes_nothing_is_dropped() -> None:
    x, square = torch.randn(3), torch.randn(3, 2)
    assert check_simplified(lambda x: x.detach() + x.expand(3) + x.view(3), x) == ["aten.add.Tensor"] * 2
    assert check_simplified(lambda x: x.t().t() + 1, square) == ["aten.add.Tensor"]
    assert check_simplified(lambda x: x.neg().neg() ** 1 + 1, x) == ["aten.add.Tensor"]
    left = check_simplified(lambda x: x.exp() + x.exp().sin() + torch.sin(x.exp()), x)
    assert left == ["aten.exp.default", "aten.sin.default", "aten.add.Tensor", "aten.add.Tensor"]


def test_dead_code_is_dropped_and_random_operations_stay() -> None:
    def function(x: Tensor) -> Tensor:
        x.exp()
        torch.randn(3)
        torch.rand_like(x)
        torch.bernoulli(torch.full((3,), 0.5))
        torch._standard_gamma(x.abs())
        torch.empty(3).normal_()
        return x + torch.rand(3)

    left = check_simplified(function, torch.randn(3))
    assert "aten.exp.default" not in left
    for name in ("randn", "rand_like", "bernoulli", "_standard_gamma", "normal_", "rand"):
        assert any(target.startswith(f"aten.{name}.") for target in left), name


def test_random_operations_are_not_merged() -> None:
    left = check_simplified(lambda x: torch.rand_like(x) - torch.rand_like(x), torch.randn(3))
    assert left.count("aten.rand_like.default") == 2


def test_arguments_that_differ_are_not_merged() -> None:
    count = torch.arange(3)
    check_simplified(lambda x: torch.cat([x + 1, x + 2]), count)
    check_simplified(lambda x: torch.cat([(x + 1).double(), x + 1.0]), count)
    check_simplified(lambda x: torch.cat([x * True, x * 1]), torch.tensor([True, False]))
    check_simplified(lambda x: torch.stack([x.sum(0), x.sum(1)]), torch.randn(3, 3))


def test_zeros_of_either_sign_are_not_merged() -> None:
    x = torch.tensor([-0.0])
    check_simplified(lambda x: torch.cat([1 / (x + 0.0), 1 / (x + (-0.0))]), x)


def view_written(x: Tensor) -> Tensor:
    a = x * 2
    before = a.exp()
    a[1:].mul_(2)
    return before + a.exp()


def split_written(x: Tensor) -> Tensor:
    a = x * 2
    first, *_ = a.split(1)
    before = a.exp()
    first.mul_(2)
    return before + a.exp()


def list_written(x: Tensor) -> Tensor:
    a = x * 2
    before = a.exp()
    torch._foreach_add_([a], 1.0)
    return before + a.exp()


def out_written(x: Tensor) -> Tensor:
    a = x * 2
    before = a.exp()
    torch.sin(x, out=a)
    return before + a.exp()


def input_written(x: Tensor) -> Tensor:
    before = x.exp()
    x.add_(1)
    return before + x.exp()


def through_two_views(x: Tensor) -> Tensor:
    a = x * 2
    before = a.exp()
    a.view(3, 1).t()[0, :2].add_(1)
    return before + a.exp()


@pytest.mark.parametrize(
    "function", [view_written, split_written, list_written, out_written, input_written, through_two_views]
)
def test_reads_are_not_merged_across_a_write(function: Callable[[Tensor], Tensor]) -> None:
    check_simplified(function, torch.randn(3))


def result_written(x: Tensor) -> Tensor:
    a, b = x + 1, x + 1
    a.mul_(2)
    return a + b


def zeros_written(x: Tensor) -> Tensor:
    a, b = x.new_zeros(3), x.new_zeros(3)
    a.add_(1)
    return a + b


def clipped(x: Tensor) -> Tensor:
    a, b = x + 1, x + 1
    return a.relu_() + b


def copy_written(x: Tensor) -> Tensor:
    a = x.neg().neg()
    a.add_(1)
    return a + x


def copied_before_writing(x: Tensor) -> Tensor:
    a = x.neg().neg()
    x.add_(1)
    return a


def power_written(x: Tensor) -> Tensor:
    a = x**1
    a.add_(1)
    return a + x


@pytest.mark.parametrize(
    "function", [result_written, zeros_written, clipped, copy_written, copied_before_writing, power_written]
)
def test_results_that_are_written_to_stay_apart(function: Callable[[Tensor], Tensor]) -> None:
    check_simplified(function, -2 * torch.ones(3))


def test_products_that_are_written_to_stay_apart() -> None:
    def function(x: Tensor, w: Tensor) -> Tensor:
        a = x @ w
        a.relu_()
        return a + x @ w

    check_simplified(function, torch.randn(2, 3, 4), torch.randn(4, 5))


def test_a_power_of_one_may_be_a_change_of_type() -> None:
    check_simplified(lambda x: x**1.0, torch.arange(3))


def test_an_activation_in_place_is_never_frozen_as_it_was() -> None:
    run = graphed(lambda x: [clipped(x)])
    run(torch.ones(3))
    assert torch.equal(run(-2 * torch.ones(3))[0][0], clipped(-2 * torch.ones(3)))
