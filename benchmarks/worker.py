"""A resident process that builds one workload and times it when told to.

Its only argument is a JSON object: `build` ("module:function"), `options` for that function, `core` to stay on (or
null), `warmup` units to run before the first answer. Every answer is one line of JSON. After the first, which says
how the building went, each line "run MS" on standard input is answered by the milliseconds per unit of every call.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
import traceback
from typing import Any, TextIO

from benchmarks.workload import Workload, run_for

DRAWS = 10  # of the noise, for the loss that is reported


def main() -> None:
    """Serve until the input ends."""
    spec, answers = json.loads(sys.argv[1]), claim_stdout()
    if spec["core"] is not None:
        os.sched_setaffinity(0, {spec["core"]})  # before any library makes a pool of threads
    try:
        workload, head = build(spec)
    except Exception as error:  # whatever it is becomes the reason in the table
        traceback.print_exc()
        answer(answers, {"error": reason(error)})
        return
    answer(answers, head)
    calls = head["calls"]
    for line in sys.stdin:
        times = run_for(workload, float(line.removeprefix("run")) / 1e3, first=calls)
        calls += len(times)
        answer(answers, times)


def claim_stdout() -> TextIO:
    """Keep standard output for answers; what libraries print goes where errors go."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def answer(answers: TextIO, value: object) -> None:
    """One line of JSON."""
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def build(spec: dict[str, Any]) -> tuple[Workload, dict[str, Any]]:
    """Import, build, call once, warm up; the seconds of each, and the loss at the end of it."""
    module, function = spec["build"].split(":")
    start = time.perf_counter()
    make = getattr(importlib.import_module(module), function)
    imported = time.perf_counter()
    workload: Workload = make(**spec["options"])
    built = time.perf_counter()
    workload.call(0)
    called = time.perf_counter()
    calls = max(1, round(spec["warmup"] / workload.units))
    for i in range(1, calls):
        workload.call(i)
    return workload, {
        "import_s": imported - start,
        "build_s": built - imported,
        "first_s": called - built,
        "calls": calls,
        "units": calls * workload.units,
        "loss": statistics.fmean(workload.loss() for _ in range(DRAWS)) if workload.loss else None,
        "notes": dict(workload.notes),
    }


def reason(error: Exception) -> str:
    """The first line of what went wrong, without this machine's folders."""
    lines = str(error).strip().splitlines()
    said = lines[0].replace(os.getcwd() + os.sep, "") if lines else "no message"
    return f"{type(error).__name__}: {said[:160]}"


if __name__ == "__main__":
    main()
