"""Examinations and ladders as trees of arrays, which a run folder keeps and anything that reads NetCDF can read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from inference.batches import as_data
from inference.bracket import Row
from inference.diagnostics import Calibration, load_tree, save_tree
from inference.ladder import Ladder
from inference.report.examination import Components, Examination, LatentUse, Pictures, Worst
from ppmodels.contracts import Batch, Data

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "load_calibration",
    "load_examination",
    "load_ladder",
    "save_calibration",
    "save_examination",
    "save_ladder",
]

PER_DATUM = ("value", "standard_error", "low", "high")
OF_ROW = ("label", "family", "direction", "guarantee", "num_particles", "seconds", "paper", "source")


@contextmanager
def _tree(path: Path, what: str) -> Iterator[xr.DataTree]:
    """The tree in a file, which is refused if what is read off it is not there."""
    tree = load_tree(path)
    try:
        yield tree
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"`{path}` is no {what} ({error!r}): make it again") from None


# -- examinations --------------------------------------------------------------------------------------------


def save_examination(found: Examination, folder: Path | str) -> Path:
    """Write `examination.nc` into a run folder."""
    import xarray as xr

    groups: dict[str, xr.Dataset] = {"per_datum": xr.Dataset.from_dataframe(found.per_datum.rename_axis("datum"))}
    if found.train is not None:
        groups["train"] = xr.Dataset.from_dataframe(found.train.rename_axis("datum"))
    for name, parts in (("latents", found.latents), ("components", found.components)):
        groups |= {f"{name}/{i}": _flat(part) for i, part in enumerate(parts)}
    groups |= {n: _flat(part) for n in ("pictures", "worst") if (part := getattr(found, n)) is not None}
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {
        "num_particles": found.num_particles,
        "seconds": found.seconds,
        "data": json.dumps(dict(found.data)),
        "missing": json.dumps(dict(found.missing)),
    }
    return save_tree(tree, Path(folder) / "examination.nc")


def load_examination(folder: Path) -> Examination:
    """Read `examination.nc` in a run folder.

    Raises:
        ValueError: if it is not what `save_examination` wrote.
    """
    with _tree(folder / "examination.nc", "examination") as tree:
        return Examination(
            per_datum=_frame(tree["per_datum"]),
            num_particles=int(tree.attrs["num_particles"]),
            data=json.loads(tree.attrs["data"]),
            train=_frame(tree["train"]) if "train" in tree.children else None,
            latents=tuple(_read(LatentUse, node) for node in _numbered(tree, "latents")),
            components=tuple(_read(Components, node) for node in _numbered(tree, "components")),
            pictures=_read(Pictures, tree["pictures"]) if "pictures" in tree.children else None,
            worst=_read(Worst, tree["worst"]) if "worst" in tree.children else None,
            seconds=float(tree.attrs["seconds"]),
            missing=json.loads(tree.attrs["missing"]),
        )


def _flat(part: Any) -> xr.Dataset:
    """A dataclass of arrays and plain values: the arrays as variables, the rest as JSON."""
    import xarray as xr

    values = {field.name: getattr(part, field.name) for field in fields(part)}
    arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
    variables = {k: ([f"{k}_{axis}" for axis in range(v.ndim)], v) for k, v in arrays.items()}
    plain = {k: json.dumps(v if not isinstance(v, Mapping) else dict(v)) for k, v in values.items() if k not in arrays}
    return xr.Dataset(variables, attrs=plain)


def _read(kind: Any, node: Any) -> Any:
    plain = {k: json.loads(v) for k, v in node.attrs.items()}
    plain |= {k: tuple(v) for k, v in plain.items() if isinstance(v, list)}
    return kind(**{k: v.to_numpy() for k, v in node.data_vars.items()}, **plain)


def _frame(node: Any) -> pd.DataFrame:
    found: pd.DataFrame = node.to_dataset().to_dataframe()
    return found.rename_axis(None)


def _numbered(tree: Any, name: str) -> list[Any]:
    nodes = tree[name].children if name in tree.children else {}
    return [nodes[str(i)] for i in range(len(nodes))]


# -- ladders -------------------------------------------------------------------------------------------------


def save_ladder(ladder: Ladder, folder: Path | str, data: Data | Batch | None = None) -> Path:
    """Write `bounds.nc`, every value of every datum, and `bounds.csv`, the table, into a run folder.

    Args:
        ladder: what `compare_bounds` found.
        folder: of the run.
        data: what it was found on; ladders that say so are paired by datum in a report on several runs.
    """
    import xarray as xr

    tree = xr.DataTree.from_dict({on: _ladder_set(part) for on, part in ladder.parts()})
    tree.attrs["of"] = json.dumps({} if data is None else as_data(data).describe())
    path = save_tree(tree, Path(folder) / "bounds.nc")
    path.with_suffix(".csv").write_text(ladder.table.to_csv(index=False))
    return path


def load_ladder(folder: Path) -> tuple[Ladder, dict[str, Any]]:
    """Read `bounds.nc` in a run folder: the ladder without its replications, and what its data say of themselves.

    Raises:
        ValueError: if it is not what `save_ladder` wrote.
    """
    with _tree(folder / "bounds.nc", "ladder") as tree:
        simulated = _ladder(tree["simulated"]) if "simulated" in tree.children else None
        return _ladder(tree["data"], simulated), json.loads(tree.attrs.get("of", "{}"))


def _ladder_set(ladder: Ladder) -> xr.Dataset:
    import xarray as xr

    rows = {
        name: (("bound", "datum"), np.array([getattr(row, name).double().cpu().numpy() for row in ladder.rows]))
        for name in PER_DATUM
        if ladder.rows
    }
    about = [{name: asdict(row)[name] for name in OF_ROW} for row in ladder.rows]
    khat = ladder.khat.double().cpu().numpy()
    return xr.Dataset(
        {**rows, "khat": (("weighed",), khat)}, attrs={"rows": json.dumps(about), "notes": json.dumps(ladder.notes)}
    )


def _ladder(node: Any, simulated: Ladder | None = None) -> Ladder:
    about: list[dict[str, Any]] = json.loads(node.attrs["rows"])
    values: list[dict[str, Any]] = [
        {name: torch.from_numpy(node[name].to_numpy()[i]) for name in PER_DATUM} for i in range(len(about))
    ]
    rows = tuple(Row(**head, **value) for head, value in zip(about, values, strict=True))
    return Ladder(rows, torch.from_numpy(node["khat"].to_numpy()), simulated, tuple(json.loads(node.attrs["notes"])))


# -- calibration ---------------------------------------------------------------------------------------------


def save_calibration(found: Calibration, folder: Path | str) -> Path:
    """Write `calibration.nc`, the ranks, into a run folder."""
    import xarray as xr

    ranks = np.array([np.asarray(rank, dtype=np.int64) for rank in found.ranks.values()])
    coords = {"parameter": list(found.ranks)}
    about = {"num_draws": found.num_draws, "alpha": found.alpha, "seconds": found.seconds}
    dataset = xr.Dataset({"ranks": (("parameter", "dataset"), ranks)}, coords=coords, attrs=about)
    dataset.attrs["about"] = json.dumps({k: _plain(v) for k, v in (found.about or {}).items()})
    return save_tree(xr.DataTree.from_dict({"calibration": dataset}), Path(folder) / "calibration.nc")


def load_calibration(folder: Path) -> Calibration:
    """Read `calibration.nc` in a run folder.

    Raises:
        ValueError: if it is not what `save_calibration` wrote.
    """
    with _tree(folder / "calibration.nc", "calibration") as tree:
        node = tree["calibration"]
        ranks = {str(n): node["ranks"].to_numpy()[i] for i, n in enumerate(node["parameter"].to_numpy())}
        about = json.loads(node.attrs["about"])
        numbers = (int(node.attrs["num_draws"]), float(node.attrs["alpha"]), float(node.attrs["seconds"]))
    return Calibration(ranks, *numbers, about)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
