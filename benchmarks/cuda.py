"""The same steps on a GPU, where there is one: ours, by hand, by hand in a CUDA graph, and the floor."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.floor import FLOOR
from benchmarks.harness import Row, Settings, measure, wanted
from benchmarks.steps import CASES, HAND, MODES, RATIOS, Case
from benchmarks.tables import compare

GRAPH = "hand-written in a CUDA graph"


def rows(case: Case) -> list[Row]:
    """Nothing is pinned: the host has other threads to run beside the one that feeds the GPU."""
    size: dict[str, Any] = case._asdict()
    gpu = size | {"device": "cuda"}
    builds: dict[str, tuple[str, dict[str, Any]]] = {
        HAND: ("hand:eager", gpu),
        GRAPH: ("hand:cuda_graph", size),
        **{name: ("ours:training", gpu | {"mode": mode}) for name, mode in MODES.items()},
        FLOOR: ("floor:step", gpu | {"adam": True}),
    }
    return [Row(n, f"benchmarks.{b}", options, warmup=60, pinned=False) for n, (b, options) in builds.items()]


def table(settings: Settings) -> str:
    """One table a case, or the reason why there is none."""
    if not torch.cuda.is_available():
        return "CUDA: not measured (no GPU here)"
    parts = [f"{torch.cuda.get_device_name()}; the host waits for it once in 20 steps."]
    for case in CASES:
        if settings.cases and f"{case.batch}x{case.K}" not in settings.cases:
            continue
        results = measure(wanted(rows(case), settings), settings.rounds, settings.ms)
        found = compare(results, [*RATIOS, (None, GRAPH), (None, FLOOR)], what="ms per step")
        parts.append(f"{case}:\n\n{found}")
    return "\n\n".join(parts)
