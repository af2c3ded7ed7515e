"""Generative models as Pyro model/guide pairs, with the engines that fit, judge and diagnose them.

Three packages make one library: `ppmodels` (the models), `guides` (their recognition side) and `inference` (the
engines). The names of the last two are common ones, so importing this package makes sure they are its own.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

__all__ = ["__version__"]

__version__ = version("ppmodels")


def _check_siblings() -> None:
    """Refuse to go on where `import guides` or `import inference` would find somebody else's code."""
    home = Path(__file__).resolve().parents[1]
    for name in ("guides", "inference"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
        if found is None:
            raise ImportError(f"`{name}` is missing beside {home / 'ppmodels'}: install ppmodels again")
        if found != home / name / "__init__.py":
            raise ImportError(
                f"`import {name}` finds {found}, expected the package of ppmodels in {home / name}: rename that "
                f"file, start Python in another folder, or uninstall the package it belongs to"
            )


_check_siblings()
