"""Interleaved rounds over resident worker processes, one per implementation.

The driver runs one worker at a time, each for the same time, in turn and in alternating order, so that what the machine
does meanwhile hits all alike. A ratio is taken within each round and then summarised over rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks.environments import ROOT, UnavailableError, python_of
from benchmarks.report import Quartiles, quartiles

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
PATIENCE = 600.0  # seconds for one answer, compiling included


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
        rounds: how often every worker has its turn.
        ms: how long a turn is, in milliseconds.
        full: evaluate 1,000 images in place of 100.
        quick: the smallest sizes, to see that all works.
        cases: batch and K of the training steps, all where empty.
        only: parts of the names of the implementations wanted, all where empty.
    """

    rounds: int = 11
    ms: float = 300.0
    full: bool = False
    quick: bool = False
    cases: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """An implementation: how to build its workload, and in which environment.

    Attributes:
        name: as the table calls it.
        build: "module:function".
        options: keyword arguments of that function, plain values.
        peer: the environment, our own if `None`.
        warmup: units to run before the first round; the loss after them is reported.
        pinned: stay on one core.
        variables: environment variables.
    """

    name: str
    build: str
    options: Mapping[str, Any] = field(default_factory=dict)
    peer: str | None = None
    warmup: int = 1
    pinned: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Result:
    """What one implementation took: milliseconds per unit of every call, round by round."""

    name: str
    head: dict[str, Any] = field(default_factory=dict)
    rounds: list[list[float]] = field(default_factory=list)
    reason: str | None = None

    def spread(self) -> Quartiles:
        """Over the medians of the rounds."""
        return quartiles(self.medians())

    def medians(self) -> list[float]:
        """One a round."""
        return [statistics.median(times) for times in self.rounds]

    def over(self, other: Result) -> Quartiles | None:
        """The ratio to another, taken in every round; `None` where one of them was not measured."""
        if self.reason or other.reason:
            return None
        return quartiles([a / b for a, b in zip(self.medians(), other.medians(), strict=True)])


class Worker:
    """The driver's end of a worker process. Its errors go to a file: a pipe that nobody reads would block it."""

    def __init__(self, row: Row) -> None:
        spec = {"build": row.build, "options": dict(row.options), "warmup": row.warmup}
        spec["core"] = core() if row.pinned else None
        command = [python_of(row.peer), "-m", "benchmarks.worker", json.dumps(spec)]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by `close`
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD, **row.variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def read(self) -> Any:
        """The next answer.

        Raises:
            UnavailableError: if it is an error, or none came in time.
        """
        assert self.process.stdout is not None
        watch = threading.Timer(PATIENCE, self.process.kill)
        watch.start()
        line = self.process.stdout.readline()
        late = watch.finished.is_set()
        watch.cancel()
        if late:
            raise UnavailableError(f"no answer within {PATIENCE:.0f} s")
        if not line.endswith("\n"):
            raise UnavailableError(f"the worker stopped ({self.last_words()})")
        said = json.loads(line)
        if isinstance(said, dict) and "error" in said:
            raise UnavailableError(said["error"])
        return said

    def run(self, ms: float) -> list[float]:
        """Have it run for a while."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"run {ms}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise UnavailableError(f"the worker stopped ({self.last_words()})") from None
        times: list[float] = self.read()
        return times

    def last_words(self) -> str:
        """The last line of its errors."""
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return lines[-1][:160] if lines else f"exit status {code}"

    def close(self) -> None:
        """End the process and forget its errors."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def build(row: Row, stack: ExitStack) -> tuple[Worker | None, Result]:
    """Start a worker and wait until its workload is ready."""
    print(f"building {row.name}", end=" ", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        worker = Worker(row)
        stack.callback(worker.close)
        result = Result(row.name, head=worker.read())
    except UnavailableError as error:
        print(f"not measured: {error}", file=sys.stderr, flush=True)
        return None, Result(row.name, reason=str(error))
    print(f"{time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
    return worker, result


def measure(rows: Sequence[Row], rounds: int, ms: float) -> dict[str, Result]:
    """Build all, one after the other, then run them in turn; the first round is not counted."""
    with ExitStack() as stack:
        built = [build(row, stack) for row in rows]
        for i in range(rounds + 1):
            for worker, result in built if i % 2 else reversed(built):
                if worker is None or result.reason:
                    continue
                try:
                    result.rounds.append(worker.run(ms))
                except UnavailableError as error:
                    result.reason = str(error)
    for _, result in built:
        result.rounds = result.rounds[1:]
    return {result.name: result for _, result in built}


def wanted(rows: Iterable[Row], settings: Settings) -> list[Row]:
    """The rows that `--only` leaves."""
    return [row for row in rows if not settings.only or any(part in row.name for part in settings.only)]


def core() -> int | None:
    """The core to measure on, the last of those allowed; `None` where processes cannot be pinned."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None
