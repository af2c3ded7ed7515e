"""A whole training step as one CUDA graph: one launch, no Python between the kernels, no waiting for the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from inference.seeds import seeded

__all__ = ["Recording", "record_on_cuda"]

Body: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]
Record: TypeAlias = Callable[[Callable[[], Sequence[Tensor]]], tuple[Callable[[], None], Sequence[Tensor]]]


def record_on_cuda(body: Callable[[], Sequence[Tensor]]) -> tuple[Callable[[], None], Sequence[Tensor]]:
    """Capture what a body launches; how to launch it again, and the tensors it then writes."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = body()
    return graph.replay, outputs


class Recording:
    """Runs `body(inputs)` by replaying a recording of it.

    The body must work on tensors that stay where they are and wait for nothing. The inputs are copied to a place of
    their own; the outputs are overwritten by the next call. Noise is fresh at every call: torch's CUDA generator moves
    on with each replay.

    Args:
        body: what to record; it may change `state`.
        inputs: an example of them.
        state: the tensors the body changes: running it to warm up must leave them as they were.
        record: how a body is captured.
    """

    WARM_UP = 3

    def __init__(
        self, body: Body, inputs: Sequence[Tensor], state: Sequence[Tensor], record: Record = record_on_cuda
    ) -> None:
        self.inputs = [tensor.detach().clone() for tensor in inputs]
        before = [tensor.detach().clone() for tensor in state]
        with torch.no_grad(), seeded(None, self.inputs[0].device):
            try:
                _aside(lambda: body(self.inputs), self.WARM_UP, self.inputs[0].device)
                self._put_back(state, before)
                self.replay, self.outputs = record(lambda: body(self.inputs))
            finally:
                self._put_back(state, before)

    @staticmethod
    def _put_back(state: Sequence[Tensor], before: Sequence[Tensor]) -> None:
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run it on these inputs."""
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given)
        self.replay()
        return self.outputs


def _aside(body: Callable[[], object], times: int, device: torch.device) -> None:
    """Run a body before it is captured, on a stream of its own, so that what is made once is made now."""
    if device.type != "cuda":
        for _ in range(times):
            body()
        return
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(times):
            body()
    torch.cuda.current_stream(device).wait_stream(side)
