"""Take out of a traced graph what computes nothing; every number it gives stays the same to the bit."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node

__all__ = ["simplify"]

aten = torch.ops.aten


def simplify(module: GraphModule) -> GraphModule:
    """Drop detachments, views onto the same shape, double transpositions, powers of one, repeats, and dead code.

    Random operations and those in place are never touched, not even where nothing reads them: without gradients a
    graph must leave the generator as the program does.
    """
    graph = module.graph
    roots, written = _roots(graph)
    for node in list(graph.nodes):
        source = _same_as(node)
        if source is None or (roots[node] is not roots[source] and {roots[node], roots[source]} & written):
            continue  # a copy of what is written to, or one that is, stays a copy
        node.replace_all_uses_with(source)
        graph.erase_node(node)
    _merge_repeats(graph)
    graph.eliminate_dead_code()
    module.recompile()
    return module


def _same_as(node: Node) -> Node | None:
    """The node whose value this one only repeats."""
    source = node.args[0] if node.args else None
    rule = _RULES.get(node.target)
    return rule(node, source) if rule is not None and isinstance(source, Node) else None


def _itself(node: Node, source: Node) -> Node | None:
    return source


def _if_same_shape(node: Node, source: Node) -> Node | None:
    mine, its = node.meta.get("val"), source.meta.get("val")
    if mine is None or its is None:
        return None
    return source if (mine.shape, mine.stride(), mine.dtype) == (its.shape, its.stride(), its.dtype) else None


def _if_twice(node: Node, source: Node) -> Node | None:
    inner = source.args[0] if source.target is node.target else None
    return inner if isinstance(inner, Node) else None


def _if_first_power(node: Node, source: Node) -> Node | None:
    return _if_same_shape(node, source) if node.args[1] == 1 else None


_RULES: dict[Any, Callable[[Node, Node], Node | None]] = {
    aten.detach.default: _itself,
    aten.alias.default: _itself,
    aten.expand.default: _if_same_shape,
    aten.view.default: _if_same_shape,
    aten._unsafe_view.default: _if_same_shape,
    aten.t.default: _if_twice,
    aten.neg.default: _if_twice,
    aten.pow.Tensor_Scalar: _if_first_power,
}


def _merge_repeats(graph: Graph) -> None:
    """Compute once what is computed twice from the same values, none of them written to in between."""
    roots, written = _roots(graph)
    seen: dict[Any, Node] = {}
    for node in list(graph.nodes):
        if not _is_pure(node) or any(roots[each] in written for each in (node, *node.all_input_nodes)):
            continue
        key = node.target, _frozen(node.args), _frozen(node.kwargs)
        first = seen.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)


def _is_pure(node: Node) -> bool:
    """Whether a node gives the same for the same."""
    target = node.target
    if not isinstance(target, OpOverload) or target._schema.is_mutable or not node.all_input_nodes:
        return False  # what has no input may be memory to write into
    if "batch_norm" in target.name():
        return False  # it writes its running statistics and does not say so
    return torch.Tag.nondeterministic_seeded not in target.tags and not target.name().startswith("aten::empty")


_SILENT_VIEWS = {aten._unsafe_view.default, aten.reshape.default}


def _roots(graph: Graph) -> tuple[dict[Node, Node], set[Node]]:
    """For every node the one whose memory it shows, as far as is known; and those whose memory is written to."""
    roots: dict[Node, Node] = {}
    written: set[Node] = set()
    for node in graph.nodes:
        source = node.all_input_nodes[0] if node.all_input_nodes else node
        shows = node.target is operator.getitem
        if isinstance(node.target, OpOverload):
            schema = node.target._schema
            shows = any(value.alias_info is not None for value in schema.returns) or node.target in _SILENT_VIEWS
            if schema.is_mutable:
                written |= {roots[n] for n in node.all_input_nodes}  # its operands too: more than need be
        roots[node] = roots[source] if shows and source is not node else node
    return roots, written


def _frozen(value: Any) -> Any:
    """Something hashable that is equal only for equal arguments of equal types: 1 is not 1.0."""
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(v) for v in value)
    if isinstance(value, dict):
        return tuple((k, _frozen(v)) for k, v in sorted(value.items()))
    return type(value), repr(value) if isinstance(value, float) else value  # 0.0 is not -0.0
