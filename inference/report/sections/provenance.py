"""Where the numbers come from: recipe, data, versions, machine, seeds, time."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from inference.report.blocks import Block, Note, Section, Table
from inference.report.evidence import Evidence

__all__ = ["provenance"]

FIRST = ("status", "stopped", "started", "seconds", "steps", "seed", "device", "mode", "modes", "kind", "command")


def provenance(evidence: Evidence) -> Section:
    """What the run, its recipe, its data and its draws say of themselves."""
    return Section("provenance", "Provenance", tuple(_blocks(evidence)))


def _blocks(evidence: Evidence) -> Iterator[Block]:
    of_run = {name: evidence.manifest[name] for name in FIRST if name in evidence.manifest}
    rest = {name: value for name, value in evidence.manifest.items() if name not in of_run}
    told = {**of_run, **rest}
    if evidence.examination is not None:
        told["examined"] = {
            **evidence.examination.data,
            "K": evidence.examination.num_particles,
            "seconds": round(evidence.examination.seconds, 3),
        }
    if (outcome := evidence.outcome) is not None:
        told["evaluated"] = {**outcome.data, "step": outcome.step, "seconds": round(outcome.seconds, 3)}
    if evidence.posterior is not None:
        told["draws"] = {str(name): _json(value) for name, value in evidence.posterior.attrs.items()}
    if evidence.worst is not None:
        told["draws for the worst data"] = {str(k): _json(v) for k, v in evidence.worst.attrs.items()}
    rows = list(_flat(told))
    if rows:
        yield Table("run", "The run, its data, machine and versions", pd.DataFrame(rows, columns=["item", "value"]))
    else:
        yield Note(
            "Nothing is known of where these numbers come from: there is no manifest, and the draws say nothing."
        )
    if evidence.recipe is not None:
        yield _recipe(evidence.recipe)
    for part, why in evidence.missing.items():
        yield Note(f"The {part} could not be had: {why}")


def _recipe(text: str) -> Block:
    try:
        rows = list(_flat(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        return Note(f"The recipe cannot be read: {error}")
    return Table("recipe", "The recipe, resolved", pd.DataFrame(rows, columns=["key", "value"]))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of nested mappings with its path, and short lists as they are."""
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _flat(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        for i, part in enumerate(value):
            yield from _flat(part, f"{path}[{i}]")
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, default=str)


def _json(value: Any) -> Any:
    """What was kept as JSON, in its parts; everything else as it is."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
