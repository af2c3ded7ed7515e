"""What a model without a guide has shown, as plain arrays, so that it can be kept beside a run and read again.

Energies are known up to log Z, chains that are walked back by a bound alone, samplers by what they draw: of each the
parts that there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inference.diagnostics import load_tree, save_tree

__all__ = ["KINDS", "Drawn", "Outcome", "load_outcome", "save_outcome"]

Array: TypeAlias = NDArray[np.float64]

FILE = "outcome.nc"

KINDS = ("energy", "implicit", "transition")
"""Of models without a guide, as in `ppmodels.contracts`."""

TABLES = ("likelihood", "train", "energies", "per_step", "samples", "labels")


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a model draws, as grey levels from 0 to 1 where data are images, else as rows of numbers.

    Attributes:
        shape: of a datum: `(height, width)` for images, else `(x_dim,)`.
        samples: `(s, x_dim)`.
        nearest: of each of the samples the nearest training datum, `(s, x_dim)`.
        data: held-out data, to compare with, `(m, x_dim)`.
        states: on the way to samples, the earliest first, `(steps, k, x_dim)`; no steps where there is no way.
        at: the step of each of `states`: from T down to 0 of a chain walked back, or sweeps so far, `(steps,)`.
        filters: the weights of hidden units, `(units, x_dim)`; no units where there are none.
    """

    shape: tuple[int, ...]
    samples: Array
    nearest: Array
    data: Array
    states: Array
    at: NDArray[np.int64]
    filters: Array

    @property
    def are_images(self) -> bool:
        """Whether a datum has a height and a width."""
        return len(self.shape) == 2


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a model without a guide has shown; every table may be missing.

    Attributes:
        kind: "energy", "implicit" or "transition", as in `ppmodels.contracts`.
        data: what the held-out data say of themselves: `name`, `split`, `protocol`, `n`, `sha256`.
        step: of the training.
        likelihood: what is known of log p(x), nats per datum: `bound`, `direction` ("exact", "lower", "upper"),
            `value`, `se` (over data), `mc_se` (over draws), `low`, `high` (`mc_se` allowed for).
        train: the same of training data.
        null: mean log density of the data where nothing is learned, nats per datum; NaN where it is not reckoned.
        energies: the free energy F of single data, nats: `set` ("train", "test", "samples"), `free_energy`.
        per_step: what each step of a chain takes from its bound, `t` and `nats`; the end stands at T + 1.
        samples: what samples alone say, `SampleReport.to_frame`: `measure`, `value`, `se`, `mark`,
            `compared with`.
        labels: `class`, `samples`, `share`, `data`, as `LabelStatistics.to_histogram`.
        notes: on how these numbers are to be read.
        drawn: pictures.
        seconds: what it took.
        missing: what could not be found out, and why, by part.
    """

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    likelihood: pd.DataFrame | None = None
    train: pd.DataFrame | None = None
    null: float = float("nan")
    energies: pd.DataFrame | None = None
    per_step: pd.DataFrame | None = None
    samples: pd.DataFrame | None = None
    labels: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    drawn: Drawn | None = None
    seconds: float = float("nan")
    missing: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"`kind` is {self.kind!r}, expected one of {', '.join(map(repr, KINDS))}")


def save_outcome(found: Outcome, folder: Path | str) -> Path:
    """Write `outcome.nc` into a run folder."""
    import xarray as xr

    groups: dict[str, xr.Dataset] = {}
    for name in TABLES:
        if (table := getattr(found, name)) is not None:
            groups[name] = xr.Dataset.from_dataframe(table.rename_axis("row"))
    if (drawn := found.drawn) is not None:
        arrays = {"samples", "nearest", "data", "states", "at", "filters"}
        values = {name: getattr(drawn, name) for name in sorted(arrays)}
        variables = {k: ([f"{k}_{axis}" for axis in range(v.ndim)], v) for k, v in values.items()}
        groups["drawn"] = xr.Dataset(variables, attrs={"shape": json.dumps(drawn.shape)})
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {"kind": found.kind, "step": found.step, "null": found.null, "seconds": found.seconds}
    tree.attrs |= {name: json.dumps(dict(getattr(found, name))) for name in ("data", "missing")}
    tree.attrs["notes"] = json.dumps(found.notes)
    return save_tree(tree, Path(folder) / FILE)


def load_outcome(folder: Path | str) -> Outcome:
    """Read `outcome.nc` in a run folder.

    Raises:
        ValueError: if it is not what `save_outcome` wrote.
    """
    path = Path(folder) / FILE
    tree = load_tree(path)
    try:
        tables: dict[str, Any] = {name: _table(tree[name]) for name in TABLES if name in tree.children}
        about: dict[str, Any] = {name: json.loads(tree.attrs[name]) for name in ("data", "missing")}
        return Outcome(
            kind=str(tree.attrs["kind"]),
            step=int(tree.attrs["step"]),
            null=float(tree.attrs["null"]),
            notes=tuple(json.loads(tree.attrs["notes"])),
            drawn=_drawn(tree["drawn"]) if "drawn" in tree.children else None,
            seconds=float(tree.attrs["seconds"]),
            **tables,
            **about,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"`{path}` is no outcome ({error!r}): make it again") from None


def _table(node: Any) -> pd.DataFrame:
    found: pd.DataFrame = node.to_dataset().to_dataframe()
    return found.rename_axis(None)


def _drawn(node: Any) -> Drawn:
    arrays = {name: node[name].to_numpy() for name in node.data_vars}
    return Drawn(tuple(json.loads(node.attrs["shape"])), **arrays)
