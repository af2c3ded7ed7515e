"""Annealed chains on Burda's decoder: what a leapfrog costs as chains grow, and how long a whole run takes."""

from __future__ import annotations

import os
import time

import torch

from benchmarks.evaluation import BATCH, images
from benchmarks.harness import Row, Settings, measure, wanted
from benchmarks.ours import burda, no_other_mode
from benchmarks.report import digits, markdown, quartiles
from benchmarks.steps import MODES
from benchmarks.tables import Results
from benchmarks.workload import Workload
from inference.annealing import ais
from inference.annealing.hamiltonian import Kinetics
from inference.annealing.target import Target
from inference.draws import default_chunk
from inference.flags import validating
from inference.graph import Mode
from inference.schedule import Annealing

CHAINS = (1, 4, 16, 64)
MINUTES = 10.0


def leapfrog(mode: Mode, chains: int) -> Workload:
    """One leapfrog of so many chains for as many of 100 images as the engine moves at once; a unit is one chain's."""
    no_other_mode()
    torch.manual_seed(0)
    pair, x = burda(), images(BATCH)[1]
    x = x[: max(1, min(BATCH, default_chunk(x[:1]) // chains))]
    with pair.mode(training=False), torch.no_grad(), validating(enabled=False):
        kinetics = Kinetics(Target.of(pair, x, "guide"), mode, lambda n: 10_000)
        z = kinetics.target.draw(x, chains)

    def call(i: int) -> object:
        with torch.no_grad(), validating(enabled=False):
            return kinetics.at(x, z)

    return Workload(call, units=chains * len(x))


def table(settings: Settings) -> str:
    """Microseconds per chain-leapfrog by chains and mode; with `--full` the minutes of a whole run on two threads."""
    rows = [
        Row(f"{name}, {chains}", "benchmarks.chains:leapfrog", {"mode": mode, "chains": chains}, warmup=3 * chains)
        for name, mode in MODES.items()
        for chains in CHAINS[: 2 if settings.quick else None]
    ]
    results = measure(wanted(rows, settings), settings.rounds, settings.ms)
    said = f"{images(1)[0]}, Burda's decoder, at most {BATCH} images at once; us per chain and leapfrog [quartiles]."
    return "\n\n".join([said, by_chains(results), *([whole()] if settings.full else [])])


def by_chains(results: Results) -> str:
    """A line per mode, a column per number of chains."""
    lines = []
    for mode in MODES:
        cells = [results.get(f"{mode}, {chains}") for chains in CHAINS]
        times = ["-" if c is None or c.reason else str(quartiles([1e3 * v for v in c.medians()])) for c in cells]
        if set(times) != {"-"}:
            lines.append([mode, *times])
    return markdown(["implementation", *(f"{chains} chains" for chains in CHAINS)], lines)


def whole(number: int = 100, temperatures: int = 1000) -> str:
    """One run of `ais` from end to end, capture, compiling and pilot included, in this process on all cores."""
    torch.manual_seed(0)
    pair, x = burda(), images(number)[1]
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    start = time.perf_counter()
    ais(pair.model, pair.guide, x, Annealing(num_temperatures=temperatures), mode="inductor", progress=False)
    minutes = (time.perf_counter() - start) / 60
    verdict = "met" if minutes <= MINUTES else "**missed**"
    return (
        f"{number} images, 16 chains, {temperatures:,} temperatures, {threads} threads, once: {digits(minutes)} min, "
        f"<= {MINUTES:.0f}: {verdict}."
    )
