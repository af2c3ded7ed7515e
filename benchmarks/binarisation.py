"""Milliseconds per dynamically binarised batch of 100 from 60,000 x 784, three ways, in interleaved rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ppmodels.data import from_array


def main(rounds: int = 300) -> str:
    """Return a markdown table: median and quartiles of each way, and its ratio to ours."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (60_000, 784), generator=generator, dtype=torch.uint8)
    data = from_array(levels, protocol="dynamic")
    floats = levels.float() / 255

    def uniform(index: Tensor) -> Tensor:
        x = floats.index_select(0, index)
        return (torch.rand_like(x) < x).float()

    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "torch.bernoulli on floats": lambda index: torch.bernoulli(floats.index_select(0, index)),
        "rand_like(x) < x on floats": uniform,
        "ppmodels.data, bytes": data.batch,
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        index = torch.randint(60_000, (100,), generator=generator)
        for way, draw in ways.items():
            start = time.perf_counter()
            draw(index)
            times[way].append(1e3 * (time.perf_counter() - start))

    ours = statistics.median(times["ppmodels.data, bytes"])
    lines = [f"| {torch.get_num_threads()} thread(s) | median, ms | quartiles | x ours |", "|---|---|---|---|"]
    for way, values in times.items():
        lower, median, upper = statistics.quantiles(values, n=4)
        lines.append(f"| {way} | {median:.3f} | {lower:.3f} to {upper:.3f} | {median / ours:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())
