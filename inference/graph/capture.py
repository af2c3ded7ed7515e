"""The tensor graph of a function: loss, gradients and the drawing of noise in one, without the Python that led there.

The function runs twice. First for real, under a recorder that notes every tensor from outside; then under `make_fx`
with each of those, wherever it is met, replaced by an input of the graph. So parameters, buffers, data and what
closures hold are all read anew at every call. The graph must then give, under the same noise, what the first run gave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from inference.graph.coins import tossed
from inference.graph.guards import Guards, leaving_no_trace
from inference.graph.interrupts import holding_interrupts
from inference.graph.record import CaptureError, LastSite, Recorder
from inference.graph.simplify import simplify
from inference.pair import Pair
from inference.seeds import seeded
from inference.sites import first_line

__all__ = ["Call", "Captured", "Traceable", "capture", "check_agrees"]

Traceable: TypeAlias = Callable[..., tuple[Sequence[Tensor], Any]]
"""Gives tensors, which a graph gives too, and anything else, which stays as it was when the graph was made."""

Call: TypeAlias = Callable[..., Sequence[Tensor]]


@dataclass(frozen=True, eq=False)
class Captured:
    """A graph and what it needs.

    Attributes:
        module: the graph; its inputs are `held`, then those inputs of the function that it reads.
        held: the tensors it reads from outside, parameters and buffers among them.
        used: the places, among the function's inputs, of those it reads.
        static: what the function gave beside tensors.
        guards: what must be as it was for the graph to be right.
        writes: the tensors from outside that it changes in place.
    """

    module: GraphModule
    held: tuple[Tensor, ...]
    used: tuple[int, ...]
    static: Any
    guards: Guards
    writes: tuple[Tensor, ...]

    def replay(self, *inputs: Tensor) -> Sequence[Tensor]:
        """Run the graph operation by operation: no compiler is needed, and the noise is the program's own."""
        found: Sequence[Tensor] = self.module.forward(*self.held, *(inputs[i] for i in self.used))
        return found

    def once(self, inputs: Sequence[Tensor], call: Call | None = None) -> list[Tensor]:
        """Run the graph, or another form of it, and put back what it writes in place."""
        before = [tensor.detach().clone() for tensor in self.writes]
        with torch.no_grad():
            found = [value.clone() for value in (call or self.replay)(*inputs)]
            for tensor, value in zip(self.writes, before, strict=True):
                tensor.copy_(value)
        return found


def capture(pair: Pair, function: Traceable, inputs: Sequence[Tensor]) -> Captured:
    """The graph of `function(*inputs)`, which works on these and on what the pair holds.

    Raises:
        CaptureError: if it has none, or one that would be wrong; the message is a clause that says why.
    """
    device = inputs[0].device
    inputs = [value.detach().requires_grad_(value.requires_grad) for value in inputs]  # each an object of its own
    places = {id(tensor): i for i, tensor in enumerate(inputs)}
    guards = Guards(pair)
    recorder = Recorder(LastSite(), [b for module in pair.used_modules().values() for b in module.buffers()])
    with holding_interrupts(), leaving_no_trace(guards.reached):
        with seeded(None, device):
            try:
                found, _ = recorder.run(lambda: function(*inputs))
            except NotImplementedError as error:  # whatever else is the program's own fault
                raise CaptureError(f"it does not run while it is watched ({first_line(error)})") from error
            expected = [value.detach().clone() for value in found]
        met = sorted(recorder.met.values(), key=lambda tensor: id(tensor) in places)  # inputs after all others
        with seeded(None, device):
            module, static = _trace(lambda: function(*inputs), met, recorder.site)
    met = [tensor for tensor, needed in zip(met, _drop_unused(module), strict=True) if needed]
    captured = Captured(
        module=module,
        held=tuple(tensor for tensor in met if id(tensor) not in places),
        used=tuple(places[id(tensor)] for tensor in met if id(tensor) in places),
        static=static,
        guards=guards.only({id(tensor) for tensor in met}),
        writes=tuple(recorder.met[key] for key in recorder.before if key not in places),
    )
    with seeded(None, device):
        check_agrees(captured, None, inputs, expected)
    return captured


class _Substitute(TorchDispatchMode):
    """Puts the inputs of a graph in the place of the tensors they stand for, in every operation."""

    def __init__(self, stand_ins: dict[int, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stand_ins = stand_ins

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map_only(Tensor, lambda t: self.stand_ins.get(id(t), t), (args, kwargs or {}))
        return func(*args, **kwargs)


def _trace(function: Callable[[], Any], met: Sequence[Tensor], site: LastSite) -> tuple[GraphModule, Any]:
    static: list[Any] = []

    def flat(*stand_ins: Tensor) -> list[Tensor]:
        with _Substitute({id(real): fake for real, fake in zip(met, stand_ins, strict=True)}), site:
            tensors, rest = function()
        static.append(rest)
        return list(tensors)

    torch.clear_autocast_cache()  # it may hold copies of parameters that no recorder has met
    try:
        # fake tensors compute shapes alone; constants made by the program itself are allowed
        module = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*(t.detach() for t in met))
    except Exception as error:  # whatever torch cannot trace has no graph
        raise CaptureError(f"torch cannot trace it ({first_line(error)}){site}") from error
    finally:
        torch.clear_autocast_cache()
    _check_constants(module)
    _say_dtypes(module)
    return tossed(simplify(module)), static[0]


def _check_constants(module: GraphModule) -> None:
    """Every tensor kept in the graph must be a number the program wrote: `torch.tensor(0.5)` and the like."""
    for node in module.graph.nodes:
        if node.op == "get_attr" and any(
            user.target is not torch.ops.aten.lift_fresh_copy.default for user in node.users
        ):
            raise CaptureError("it makes a tensor anew at every call, from NumPy or a list: make it once, outside")


def _say_dtypes(module: GraphModule) -> None:
    """Give what makes tensors of no others the type it had: run later, the default may be another."""
    for node in module.graph.nodes:
        value, made = node.meta.get("val"), isinstance(node.target, OpOverload) and not node.all_input_nodes
        if made and isinstance(value, Tensor) and node.kwargs.get("dtype") is None:
            if_any = {"dtype": value.dtype} if any(a.name == "dtype" for a in node.target._schema.arguments) else {}
            node.kwargs = {**node.kwargs, **if_any}
    module.recompile()


def _drop_unused(module: GraphModule) -> list[bool]:
    """Take the inputs nobody reads out of the graph; which of them were needed."""
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    needed = [bool(node.users) for node in inputs]
    for node, keep in zip(inputs, needed, strict=True):
        if not keep:
            module.graph.erase_node(node)
    module.recompile()
    return needed


def check_agrees(
    captured: Captured,
    call: Call | None,
    inputs: Sequence[Tensor],
    expected: Sequence[Tensor],
    *,
    compiled: bool = False,
) -> None:
    """Run the graph, or another form of it, on the inputs it was made from, and compare in norm.

    A replayed graph has the program's own bits, or all but the last where a device adds up in no fixed order. Compiled
    code rounds otherwise, and importance weights magnify that.

    Raises:
        CaptureError: if a tensor differs by more than rounding.
    """
    try:
        found = captured.once(inputs, call)
    except Exception as error:  # what torch has traced it may still not run
        raise CaptureError(f"its graph does not run ({first_line(error)})") from error
    total = sum(float(_finite(its).norm()) for its in expected)  # a gradient that should be zero is so to rounding
    for mine, its in zip(found, expected, strict=True):
        eps = torch.finfo(its.dtype).eps if its.is_floating_point() else 0.0
        allowed = (eps**0.3 if compiled else 8 * eps) * _finite(its).norm() + (100 * eps * total if compiled else 0)
        if not torch.equal(mine.isfinite(), its.isfinite()) or (_finite(mine) - _finite(its)).norm() > allowed:
            raise CaptureError(
                "its graph gives other numbers than the program did, which then depends on more than tensors: on a "
                "Python value it changes, or an order of calls"
            )


def _finite(value: Tensor) -> Tensor:
    """In double precision, with zeros for what is not finite."""
    return value.double().where(value.isfinite(), 0)
