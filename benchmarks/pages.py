"""Reports: how long a page takes and how large it is, of the demo's kind of run and of large ones."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from benchmarks.harness import Settings
from benchmarks.report import markdown, quartiles
from examples import digits
from inference.report import Evidence, Examination, report
from inference.report.figures import forest_figure, rank_figure

SECONDS, MEGABYTES = 10.0, 5.0
"""What a page may take, and how large it may be."""


def table(settings: Settings) -> str:
    """A line for each page; the demo's run is made first, by the example itself, with few epochs."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        pages = {
            "the demo: two runs on digits, examined, the worst by MCMC": demo(out / "demo", quick=settings.quick),
            "a posterior of 1,000 parameters, 4 chains x 1,000": lambda path: report(draws(4, 1000, 1000), path),
            "the same by 64 chains x 500 of 100 parameters": lambda path: report(draws(64, 500, 100), path),
            "10,000 data, examined": lambda path: report(many(10_000), path),
        }
        lines = []
        for name, write in pages.items():
            seconds = [timed(write, out / "report.html") for _ in range(min(settings.rounds, 5))]
            size = (out / "report.html").stat().st_size / 1e6
            found = quartiles(seconds)
            met = "met" if found.middle <= SECONDS and size <= MEGABYTES else "**missed**"
            lines.append([name, str(found), f"{size:.2f}", f"<= {SECONDS:.0f} s, <= {MEGABYTES:.0f} MB: {met}"])
    return f"{markdown(['page', 's [quartiles]', 'MB', 'asked'], lines)}\n\n{against_arviz()}"


def against_arviz() -> str:
    """Two figures of 64 chains, ours and those of `arviz_plots`, a time each where one takes so long."""
    import arviz_plots
    import matplotlib.pyplot as plt

    tree, names = draws(64, 300, 4), [f"theta[{i}]" for i in range(4)]
    pairs = {
        "ranks": (lambda: rank_figure(tree, names), lambda: arviz_plots.plot_rank(tree, backend="matplotlib")),
        "forest": (lambda: forest_figure(tree, names), lambda: arviz_plots.plot_forest(tree, backend="matplotlib")),
    }
    lines = []
    for name, figures in pairs.items():
        seconds = []
        for figure in figures:
            begun = time.perf_counter()
            figure()
            seconds.append(time.perf_counter() - begun)
            plt.close("all")
        lines.append([name, *(f"{one:.2f}" for one in seconds)])
    return markdown(["figure of 4 parameters, 64 chains x 300", "ours, s", "arviz_plots, s"], lines)


def timed(write: Callable[[Path], object], path: Path) -> float:
    """Seconds of one page, all that a library imports for the first included in the first."""
    begun = time.perf_counter()
    write(path)
    return time.perf_counter() - begun


def demo(folder: Path, *, quick: bool) -> Callable[[Path], object]:
    """The demo's runs, and a function that writes their page again."""
    with redirect_stdout(sys.stderr):
        digits.main(epochs=2 if quick else 30, out=folder)
    return lambda path: report([folder / name for name in digits.OBJECTIVES], path)


def draws(chains: int, num_draws: int, size: int) -> xr.DataTree:
    """Independent draws of a vector, with what a sampler notes."""
    rng = np.random.default_rng(0)
    shape = (chains, num_draws)
    theta = rng.normal(size=(*shape, size))
    noted = {"energy": rng.normal(size=shape), "diverging": np.zeros(shape, dtype=bool)}
    groups = {
        "posterior": xr.Dataset({"theta": (("chain", "draw", "unit"), theta)}),
        "sample_stats": xr.Dataset({name: (("chain", "draw"), values) for name, values in noted.items()}),
    }
    return xr.DataTree.from_dict(groups)


def many(n: int) -> Evidence:
    """An examination of many data."""
    rng = np.random.default_rng(0)
    columns = {
        "value": rng.normal(-90, 10, n),
        "standard_error": rng.gamma(1, 0.01, n),
        "khat": rng.normal(0.4, 0.2, n),
    }
    return Evidence("many", examination=Examination(pd.DataFrame({**columns, "ess": rng.uniform(9, 900, n)}), 1000))
