"""Trees on disk: NetCDF or Zarr, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["load_tree", "save_tree"]

SUFFIXES = (".nc", ".zarr")


def save_tree(tree: xr.DataTree, path: Path | str) -> Path:
    """Write a tree to a `.nc` file or a `.zarr` folder, in the place of what is there.

    Raises:
        ValueError: if the suffix is another.
        ImportError: if zarr is asked for and not installed.

    >>> import tempfile, xarray as xr
    >>> tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"mu": (("chain", "draw"), [[1.0, 2.0]])})})
    >>> path = save_tree(tree, Path(tempfile.mkdtemp()) / "posterior.nc")
    >>> load_tree(path)["posterior"]["mu"].values
    array([[1., 2.]])
    """
    path = Path(path)
    _check(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        written = Path(folder) / path.name
        if path.suffix == ".nc":
            tree.to_netcdf(written, engine="h5netcdf")
            with written.open("rb") as file:
                os.fsync(file.fileno())
            written.replace(path)
        else:
            _zarr()
            tree.to_zarr(written, zarr_format=2, consolidated=True)
            _exchange(written, path, Path(folder) / "before")
    return path


def _exchange(written: Path, path: Path, before: Path) -> None:
    """Put a folder in the place of another, which comes back if that fails."""
    if path.exists():
        shutil.move(path, before)
    try:
        shutil.move(written, path)
    except BaseException:
        if before.exists() and not path.exists():
            shutil.move(before, path)
        raise


def load_tree(path: Path | str) -> xr.DataTree:
    """Read a tree into memory.

    Raises:
        ValueError: if there is none that can be read.
    """
    import xarray as xr

    path = Path(path)
    _check(path)
    if not path.exists():
        raise ValueError(f"`path` {path} is not there: expected a tree that `save_tree` wrote")
    if path.suffix == ".zarr":
        _zarr()
    engine = "zarr" if path.suffix == ".zarr" else "h5netcdf"
    try:
        with xr.open_datatree(path, engine=engine) as tree:
            return tree.load()
    except Exception as error:  # whatever its reader makes of a file that is no tree
        raise ValueError(f"`path` {path} is no {path.suffix[1:]} tree that can be read ({error})") from error


def _check(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise ValueError(f"`path` is {path}, expected a name that ends in {' or '.join(SUFFIXES)}")


def _zarr() -> None:
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise ImportError("zarr is not installed: `pip install ppmodels[zarr]`, or write a .nc file") from error
