r"""Both sides of log p(x) for networks that `benchmarks.mnist` has trained.

    PPMODELS_DATA=... python -m benchmarks.mnist_bounds runs/mnist/vae runs/mnist/iwae

For each run a ladder on the first test images, binarised once with a fixed seed, and one on as many simulated images,
where annealed chains come from both sides. Prints Markdown, and draws both to `ladder.svg` beside the first run.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.mnist import network
from benchmarks.report import digits, markdown
from inference.compare import compare_bounds, paired_difference
from inference.figures import ladder_figure
from inference.ladder import Ladder
from inference.pair import Pair
from inference.runs import Run
from ppmodels.data import mnist

GUIDES = ["elbo", "iwae:5", "iwae:50", "iwae:5000", "miwae:100:50", "ciwae:0.5:5000", "renyi:0.5:5000", "tvo:20:5000"]
ABOVE = ["tvo-right:20:5000", "cubo:2:5000", "eubo"]


def main() -> None:
    """Print the ladders and what sets the runs apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders of `benchmarks.mnist`")
    parser.add_argument("--num-data", type=int, default=100, help="test images, and simulated ones")
    parser.add_argument("--temperatures", type=int, default=1000)
    args = parser.parse_args()
    bounds = [*GUIDES, *ABOVE, f"ais:{args.temperatures}", f"bdmc:{args.temperatures}"]
    ladders = []
    for folder in args.runs:
        start = time.perf_counter()
        ladder = climb(folder, bounds, args.num_data)
        print(f"\n{folder.name}, {(time.perf_counter() - start) / 60:.1f} min\n\n{report(ladder)}", flush=True)
        ladders.append((folder.name, ladder))
    (first, base), *others = ladders
    for name, ladder in others:
        for row in ladder.rows:
            gain, error = paired_difference(row.value, base.row(row.label).value)
            print(f"{row.label}: {name} above {first} by {gain:.3f} (s.e. {error:.3f}, paired by image)")
    ladder_figure(ladders).savefig(args.runs[0].parent / "ladder.svg")


def climb(folder: Path, bounds: list[str], num_data: int) -> Ladder:
    """The ladder of a run; annealed chains cut short go on from the run's folder."""
    model, guide = network()
    test = mnist("dynamic", split="test").realise(0).head(num_data)
    Pair(model, guide).load(Run(folder).result().parameters, test.batch(torch.arange(1)))
    return compare_bounds(model, guide, test, bounds, num_simulated=num_data, checkpoint=folder / "annealing")


def report(ladder: Ladder) -> str:
    """Tables in Markdown, each with its bracket and its notes below."""
    header = ["on", "bound", "K", "direction", "value", "s.e.", "s.e. of draws", "simultaneous 95 %", "seconds"]
    parts = []
    for on, part in ladder.parts():
        ends = part.intervals()
        lines = []
        for row, low, high in zip(part.rows, ends["low"], ends["high"], strict=True):
            side = f"{row.direction}{'*' * (row.guarantee == 'limit')}"
            numbers = (f"{row.mean:.3f}", f"{row.mean_se:.3f}", f"{row.mean_mc_se:.3f}", f"[{low:.2f}, {high:.2f}]")
            lines.append([on, row.label, f"{row.num_particles:,}", side, *numbers, digits(row.seconds)])
        parts += [markdown(header, lines), f"{part.bracket()}.", *part.warnings]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
