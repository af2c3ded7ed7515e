"""A ladder of ten bounds against each of its rows alone: one set of draws serves them all.

Every row alone draws its own 1,000 particles an image; the ten together draw them once.
"""

from __future__ import annotations

import torch

from benchmarks.evaluation import images
from benchmarks.harness import Row, Settings, measure, wanted
from benchmarks.ours import burda, no_other_mode
from benchmarks.report import verdict
from benchmarks.tables import Results, compare
from benchmarks.workload import Workload
from inference.compare import compare_bounds

DRAWS = 1000
TOGETHER = "ten rows"
ROWS = {
    "ELBO": "elbo",
    "IWAE-50": "iwae:50",
    "IWAE-1000": "iwae",
    "MIWAE-20x50": "miwae:20:50",
    "CIWAE(0.5)-1000": "ciwae:0.5",
    "Renyi(0.5)-1000": "renyi:0.5",
    "VR-max-1000": "vrmax",
    "TVO(20)-1000": "tvo",
    "TVO-right(20)-1000": "tvo-right",
    "CUBO(2)-1000": "cubo:2",
}
MOST = 1.3


def climb(bounds: list[str], number: int) -> Workload:
    """`compare_bounds`, compiled, on so many images."""
    no_other_mode()
    torch.manual_seed(0)
    pair, x = burda(), images(number)[1]

    def call(i: int) -> object:
        return compare_bounds(pair.model, pair.guide, x, bounds, num_particles=DRAWS, mode="inductor", progress=False)

    return Workload(call, units=number)


def table(settings: Settings) -> str:
    """Milliseconds per image of each row alone and of all together, and the ratio to the most expensive one."""
    number = 20 if settings.quick else 1000 if settings.full else 100
    alone = [Row(name, "benchmarks.ladder:climb", {"bounds": [text], "number": number}) for name, text in ROWS.items()]
    together = Row(TOGETHER, "benchmarks.ladder:climb", {"bounds": list(ROWS.values()), "number": number})
    rounds = min(settings.rounds, 3 if settings.full else 5)
    results = measure(wanted([together, *alone], settings), rounds, settings.ms)
    said = f"{number} {images(1)[0]} a call, {DRAWS:,} draws each, compiled, random weights, {rounds} rounds."
    return "\n\n".join([said, compare(results, [(TOGETHER, None)], what="ms per image", losses=False), worst(results)])


def worst(results: Results) -> str:
    """The ten rows against the most expensive of them alone."""
    alone = {name: result for name, result in results.items() if name in ROWS and not result.reason}
    if TOGETHER not in results or not alone:
        return "The ratio was not measured."
    name = max(alone, key=lambda name: alone[name].spread().middle)
    found = results[TOGETHER].over(alone[name])
    said = "not measured" if found is None else verdict(found, MOST)
    return f"Ten rows against the most expensive one alone ({name}): {said}."
