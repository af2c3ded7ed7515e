"""Coins of a graph: on a CPU they are uniform numbers below a probability, which are quicker to draw."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

__all__ = ["tossed"]

aten = torch.ops.aten


def tossed(module: GraphModule) -> GraphModule:
    """The graph with `bernoulli(p)` made `rand < p` where torch's own kernel is just that, one number at a time.

    So it is on a CPU in single and double precision: the draws are the same and so is the generator afterwards. Neither
    holds in half precision, nor on other devices.
    """
    graph = module.graph
    for node in graph.find_nodes(op="call_function", target=aten.bernoulli.default):
        p = _probabilities(node)
        if p is None:
            continue
        with graph.inserting_before(node):
            how: dict[str, Any] = {"dtype": p.dtype, "device": p.device}
            uniform = graph.call_function(aten.rand.default, (list(p.shape),), how)
            below = graph.call_function(aten.lt.Tensor, (uniform, node.args[0]))
            drawn = graph.call_function(aten._to_copy.default, (below,), {"dtype": p.dtype})
        uniform.meta, drawn.meta = dict(node.meta), dict(node.meta)
        below.meta = {**node.meta, "val": node.meta["val"].to(torch.bool)}
        node.replace_all_uses_with(drawn)
        graph.erase_node(node)
    module.recompile()
    return module


def _probabilities(node: Node) -> Tensor | None:
    """What the coins of a node land by, if they can be tossed so."""
    source = node.args[0]
    p = source.meta.get("val") if isinstance(source, Node) and len(node.args) == 1 and not node.kwargs else None
    known = isinstance(p, Tensor) and p.device.type == "cpu" and p.dtype in (torch.float32, torch.float64)
    return p if known else None
