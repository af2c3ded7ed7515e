"""`make bench`: the tables of RESULTS.md, in Markdown on standard output; `python -m benchmarks.mnist` is the long one.

    python -m benchmarks [names...] [--rounds R] [--ms MS] [--quick]

What is being built and run is told on standard error.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import torch

from benchmarks import (
    beliefs,
    binarisation,
    chains,
    compiling,
    cuda,
    denoising,
    energies,
    environments,
    evaluation,
    floor,
    games,
    gmvae,
    ladder,
    mcmc,
    pages,
    steps,
)
from benchmarks.harness import Settings


def one_thread(table: Callable[[], str]) -> str:
    """A table that is measured in this process."""
    torch.set_num_threads(1)
    return table()


TABLES: dict[str, tuple[str, Callable[[Settings], str]]] = {
    "steps": ("One training step", steps.table),
    "gmvae": ("An enumerated mixture", gmvae.table),
    "beliefs": ("Reweighted wake-sleep", beliefs.table),
    "energies": ("Boltzmann machines", energies.table),
    "games": ("Games", games.table),
    "denoising": ("Diffusions", denoising.table),
    "evaluation": ("Evaluation, IS-5000", evaluation.table),
    "ladder": ("Ten bounds on the same draws", ladder.table),
    "chains": ("Annealed chains", chains.table),
    "mcmc": ("Markov chains", mcmc.table),
    "pages": ("Reports", lambda settings: one_thread(lambda: pages.table(settings))),
    "floor": ("The floor of a step", floor.table),
    "compile": ("Until the first step", compiling.table),
    "data": ("Reading a batch", compiling.data_table),
    "binarisation": ("Dynamic binarisation", lambda settings: one_thread(binarisation.main)),
    "cuda": ("On a GPU", cuda.table),
}


def main() -> None:
    """Print the tables asked for, all by default."""
    names, settings = arguments()
    print(head(), flush=True)
    for name in names:
        title, table = TABLES[name]
        print(f"\n## {title}\n\n{table(settings)}", flush=True)


def arguments() -> tuple[list[str], Settings]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"tables, of {', '.join(TABLES)}; all by default")
    parser.add_argument("--rounds", type=int, default=Settings.rounds, help="turns of every implementation")
    parser.add_argument("--ms", type=float, default=Settings.ms, help="milliseconds of a turn")
    parser.add_argument("--quick", action="store_true", help="three short rounds, to see that all works")
    parser.add_argument("--full", action="store_true", help="evaluate 1,000 images in place of 100; anneal to the end")
    parser.add_argument("--cases", default="", help="training steps of these sizes, such as 100x1,20x1 (batch x K)")
    parser.add_argument("--only", default="", help="implementations with one of these in their names, by commas")
    given = parser.parse_args()
    if unknown := set(given.names) - set(TABLES):
        parser.error(f"no table is called {', '.join(sorted(unknown))}: expected {', '.join(TABLES)}")
    if given.rounds < 1:
        parser.error(f"`--rounds` is {given.rounds}, expected at least 1")
    rounds, ms = (min(given.rounds, 3), min(given.ms, 100.0)) if given.quick else (given.rounds, given.ms)
    cases, only = (tuple(filter(None, text.split(","))) for text in (given.cases, given.only))
    return given.names or list(TABLES), Settings(rounds, ms, given.full, given.quick, cases, only)


def head() -> str:
    """The command, the versions, the machine and the date."""
    ours = ", ".join(f"{name} {version(name)}" for name in ("torch", "pyro-ppl", "numpy"))
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return "\n".join(
        [
            f"    python -m benchmarks {' '.join(sys.argv[1:])}".rstrip(),
            "",
            f"{time.strftime('%Y-%m-%d')}. {processor()}, {os.cpu_count()} cores, one thread on one core{load}. "
            f"Python {platform.python_version()}, {ours}; peers: {environments.versions()}.",
            "Interleaved rounds, one resident process per implementation; medians [quartiles] over the medians of the "
            "rounds; a ratio is taken within each round. The one call of a scan counts as the mean of its 60 steps.",
        ]
    )


def processor() -> str:
    """The name of the CPU."""
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
