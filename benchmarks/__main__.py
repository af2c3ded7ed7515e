"""`make bench`: the quick tables, to be pasted into RESULTS.md. `python -m benchmarks.mnist` is the long one."""

from __future__ import annotations

import platform
import time

import torch

from benchmarks import binarisation, step


def main() -> None:
    print(f"{time.strftime('%Y-%m-%d')}, python {platform.python_version()}, torch {torch.__version__}, one thread\n")
    for title, table in (("Dynamic binarisation", binarisation.main), ("One training step", step.main)):
        print(f"### {title}\n\n{table()}\n")


if __name__ == "__main__":
    main()
