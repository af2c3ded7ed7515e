"""Milliseconds per training step of Burda's one-layer network: by hand, ours, Pyro's, NumPyro's, pythae's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.harness import Row, Settings, measure, wanted
from benchmarks.report import markdown
from benchmarks.tables import Results, compare, target

HAND, FLUSHED, COMPILED = "hand-written eager", "hand-written eager, flushed", "hand-written torch.compile, flushed"
EAGER, REPLAY, INDUCTOR = "ours, eager", "ours, replay", "ours, inductor"
SVI, NUMPYRO, SCAN, PYTHAE = "pyro SVI.step", "NumPyro jit", "NumPyro 60 steps in a scan", "pythae step"
MODES = {EAGER: "eager", REPLAY: "replay", INDUCTOR: "inductor"}
RATIOS = ((None, HAND), (INDUCTOR, None))


class Case(NamedTuple):
    """A size."""

    batch: int
    K: int

    def __str__(self) -> str:
        return f"b={self.batch} K={self.K}"


CASES = (Case(100, 1), Case(20, 1), Case(512, 1), Case(100, 5), Case(100, 50))


@dataclass(frozen=True)
class Target:
    """A ratio that was asked for, by case."""

    ours: str
    other: str
    limits: Mapping[tuple[int, int], float]


TARGETS = (
    Target(INDUCTOR, HAND, {(100, 1): 0.70, (20, 1): 0.57, (512, 1): 0.85, (100, 5): 0.78}),
    Target(INDUCTOR, FLUSHED, {(100, 50): 0.80}),
    Target(INDUCTOR, NUMPYRO, {(100, 1): 0.90, (20, 1): 0.85, (512, 1): 0.92, (100, 5): 0.85, (100, 50): 0.60}),
    Target(INDUCTOR, SCAN, {(100, 1): 1.0, (20, 1): 1.0}),
    Target(INDUCTOR, SVI, {(100, 1): 0.35, (20, 1): 0.22, (512, 1): 0.60, (100, 5): 0.50}),
    Target(INDUCTOR, PYTHAE, {(100, 1): 0.45, (20, 1): 0.35, (512, 1): 0.60, (100, 5): 0.45}),
    Target(REPLAY, HAND, {(100, 1): 1.10, (20, 1): 1.10, (512, 1): 1.10, (100, 5): 1.10}),
)


def rows(case: Case) -> list[Row]:
    """The implementations of a case; all report their loss after the same number of steps."""
    size = case._asdict()
    warmup = 60 if case.batch * case.K <= 1000 else 20

    def row(name: str, build: str, *, peer: str | None = None, **options: Any) -> Row:
        return Row(name, f"benchmarks.{build}", options | size, peer=peer, warmup=warmup)

    found = [
        row(HAND, "hand:eager"),
        row(FLUSHED, "hand:eager", flush=True),
        row(COMPILED, "hand:eager", flush=True, compiled=True),
        *(row(name, "ours:training", mode=mode) for name, mode in MODES.items()),
        row(SVI, "peer_pyro:svi"),
        row(NUMPYRO, "peer_numpyro:svi", peer="numpyro"),
        row(SCAN, "peer_numpyro:svi", peer="numpyro", scanned=True),
        row(PYTHAE, "peer_pythae:step", peer="pythae"),
    ]
    return [row for row in found if row.name != SCAN or case in ((100, 1), (20, 1))]


def table(settings: Settings) -> str:
    """One table a case, then the targets."""
    measured = {
        case: measure(wanted(rows(case), settings), settings.rounds, settings.ms)
        for case in CASES
        if not settings.cases or f"{case.batch}x{case.K}" in settings.cases
    }
    parts = [f"{case}:\n\n{compare(results, RATIOS, what='ms per step')}" for case, results in measured.items()]
    return "\n\n".join([*parts, f"Targets, ratios of times:\n\n{targets(measured)}"])


def targets(measured: Mapping[Case, Results]) -> str:
    """What was asked for beside what was found."""
    lines = []
    for asked in TARGETS:
        cells = [
            target(results, asked.ours, asked.other, asked.limits[case]) if case in asked.limits else "-"
            for case, results in measured.items()
        ]
        if set(cells) != {"-"}:
            lines.append([f"{asked.ours} / {asked.other}", *cells])
    return markdown(["target", *map(str, measured)], lines)
