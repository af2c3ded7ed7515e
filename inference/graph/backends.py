"""A graph compiled to machine code, and what that costs and saves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule
from torch.utils.flop_counter import flop_registry

from inference.graph.capture import Call, Captured, check_agrees
from inference.graph.record import CaptureError
from inference.seeds import seeded
from inference.sites import first_line

__all__ = ["INDUCTOR_BUDGET", "compiled", "seconds_to_compile", "seconds_to_replay"]

INDUCTOR_BUDGET = 4_000
"""Operations above which compiling would take many minutes."""


def compiled(captured: Captured, inputs: Sequence[Tensor]) -> Call:
    """Compile the graph with inductor, without Dynamo and so without its checks at every call.

    Noise is left to torch's own kernels, so it is the program's; the numbers must agree with the replayed graph's.

    Raises:
        CaptureError: if it cannot be compiled, or the compiled numbers differ; the message is a clause.
    """
    if (size := len(captured.module.graph.nodes)) > INDUCTOR_BUDGET:
        raise CaptureError(f"the graph has {size:,} operations, more than the {INDUCTOR_BUDGET:,} worth compiling")
    held, used = captured.held, captured.used
    device = inputs[0].device
    module = _with_own_coins(captured.module)
    patches = {"fallback_random": True, "cpp_wrapper": device.type == "cpu"}
    try:
        with torch.no_grad():
            compiled_graph = torch._inductor.standalone_compile(
                module,
                [tensor.detach() for tensor in (*held, *(inputs[i] for i in used))],
                dynamic_shapes="from_example_inputs",
                options={"config_patches": patches},
            )
    except Exception as error:  # a compiler may fail in any way: then the graph is replayed
        raise CaptureError(f"inductor cannot compile it ({type(error).__name__}: {first_line(error)})") from error

    def call(*inputs: Tensor) -> Sequence[Tensor]:
        found: Sequence[Tensor] = compiled_graph(*held, *(inputs[i] for i in used))
        return found

    with seeded(None, device):
        expected = captured.once(inputs)
    try:
        with seeded(None, device):
            check_agrees(captured, call, inputs, expected, compiled=True)
    except CaptureError as error:
        raise CaptureError("inductor's code gives other numbers than the graph it was made from") from error
    return call


def _with_own_coins(module: GraphModule) -> GraphModule:
    """The graph with `bernoulli` drawn in place: inductor would make it of uniform numbers, another stream."""
    aten = torch.ops.aten
    graph = Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    for node in graph.find_nodes(op="call_function", target=aten.bernoulli.default):
        with graph.inserting_before(node):
            space = graph.call_function(aten.empty_like.default, (node.args[0],))
            drawn = graph.call_function(aten.bernoulli_.Tensor, (space, node.args[0]))
        for new in (space, drawn):
            new.meta = dict(node.meta)
        node.replace_all_uses_with(drawn)
        graph.erase_node(node)
    return GraphModule(module, graph)


def seconds_to_compile(module: GraphModule) -> float:
    """About how long inductor takes with an empty cache."""
    return 8.0 + 0.05 * len(module.graph.nodes)


def seconds_to_replay(module: GraphModule) -> float:
    """About how long one run of the graph takes: from its arithmetic and memory traffic, so the same every time.

    A choice that rested on measured times would differ from run to run, and with it the last bits of the result.
    """
    total = 0.0
    for node in module.graph.nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, Tensor):
            continue
        total += 4e-6 + value.numel() * value.element_size() / 4e9
        count = flop_registry.get(getattr(node.target, "overloadpacket", None))
        if count is not None:
            operands = [a.meta["val"] if hasattr(a, "meta") else a for a in node.args]
            total += count(*operands, **node.kwargs, out_val=value) / 8e10
    return total
