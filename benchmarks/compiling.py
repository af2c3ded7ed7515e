"""What stands beside the step: the seconds until the first one, and the share of reading and binarising its batch."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack

import torch

from benchmarks.harness import Result, Row, Settings, build, measure
from benchmarks.report import markdown
from benchmarks.steps import CASES, INDUCTOR, rows
from benchmarks.tables import compare, target
from benchmarks.workload import Workload
from ppmodels.data import from_array

READING, SHARE = "data.batch(index), dynamic", 0.05


def reading(batch: int) -> Workload:
    """Batches of a dynamically binarised dataset of 60,000 x 784, by index."""
    levels = torch.randint(0, 256, (60_000, 784), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = from_array(levels, protocol="dynamic")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))

    def call(i: int) -> None:
        start = i * batch % (len(data) - batch)
        data.batch(order[start : start + batch])

    return Workload(call)


def data_table(settings: Settings) -> str:
    """The time of a batch over the time of a compiled step."""
    case = CASES[0]
    compiled = next(row for row in rows(case) if row.name == INDUCTOR)
    read = Row(READING, "benchmarks.compiling:reading", {"batch": case.batch}, warmup=60)
    results = measure([read, compiled], settings.rounds, settings.ms)
    found = compare(results, [(None, INDUCTOR)], what="ms", losses=False)
    return f"{case}:\n\n{found}\n\nTarget, batch / step: {target(results, READING, INDUCTOR, SHARE)}."


def table(settings: Settings) -> str:
    """Seconds from a pair to its first step, each in a fresh process, imports not counted; both cores allowed."""
    size = CASES[0]._asdict()
    with tempfile.TemporaryDirectory() as cache:
        found = [
            seconds("eager", size | {"mode": "eager"}),
            seconds("traced, replayed", size | {"mode": "replay"}),
            seconds("inductor, empty cache", size | {"mode": "inductor"}, cache),
            seconds("inductor, the cache of the process before", size | {"mode": "inductor"}, cache),
        ]
    return f"{CASES[0]}:\n\n" + markdown(["mode", "building, s", "first step, s", "together, s", "imports, s"], found)


def seconds(name: str, options: dict[str, object], cache: str | None = None) -> list[object]:
    """A line: how long it took to build a step and to make the first."""
    variables = {"TORCHINDUCTOR_CACHE_DIR": cache} if cache else {}
    row = Row(name, "benchmarks.ours:training", options, pinned=False, variables=variables)
    with ExitStack() as stack:
        _, result = build(row, stack)
    if result.reason:
        return [name, f"not measured: {result.reason}", "-", "-", "-"]
    return [name, *(f"{value:.2f}" for value in spent(result))]


def spent(result: Result) -> tuple[float, float, float, float]:
    """Building, first step, both, and the imports before them."""
    built, called = result.head["build_s"], result.head["first_s"]
    return built, called, built + called, result.head["import_s"]
