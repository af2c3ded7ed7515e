"""Two habits of timing on a GPU: capture a step in a CUDA graph, and wait for the device seldom."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.workload import Workload


def captured(step: Callable[[], object]) -> Callable[[], None]:
    """The same step as one CUDA graph; it must read and write tensors that stay where they are."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is made on the first calls must not be made inside the graph
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


def synchronised(work: Workload, calls: int = 20) -> Workload:
    """Wait for the GPU once in so many calls, as a training loop does."""

    def call(i: int) -> None:
        for j in range(calls):
            work.call(i * calls + j)
        torch.cuda.synchronize()

    return Workload(call, units=calls * work.units, loss=work.loss, notes=work.notes)
