"""How the training went."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd

from inference.report.blocks import Block, Note, Picture, Section, Table
from inference.report.evidence import Evidence
from inference.report.figures import loss_figure, parts_figure
from inference.report.glossary import terms_for
from inference.report.words import number

__all__ = ["training"]


def training(evidence: Evidence) -> Section | None:
    """Curves of the loss, of its parts and of the validation score; `None` where nothing was trained."""
    if evidence.metrics is None or evidence.metrics.empty:
        return None
    return Section("training", "Training", tuple(_blocks(evidence, evidence.metrics)))


def _blocks(evidence: Evidence, metrics: pd.DataFrame) -> Iterator[Block]:
    status = evidence.manifest.get("status")
    if status not in (None, "finished"):
        yield Note(
            f"The training has not come to its end: its status is “{status}”.",
            "bad" if status == "diverged" else "doubt",
        )
    last = metrics.iloc[-1]
    if "loss" in metrics:
        held = ""
        if "validation" in metrics:
            best = metrics["validation"].max()
            held = f" The best validation score is {number(best)}."
        yield Picture(
            partial(loss_figure, metrics),
            f"Loss over {number(last.get('step'))} updates, from {number(metrics['loss'].iloc[0])} to "
            f"{number(last['loss'])} nats per datum.{held}",
            "The loss of each report, and minus the validation score where there is one; nats per datum, lower is "
            "better.",
        )
    if any(
        name.startswith("kl_") or name in ("log_likelihood", "grad_norm", "lr") for name in map(str, metrics.columns)
    ):
        parts = {name: last[name] for name in metrics.columns if str(name).startswith(("kl_", "log_likelihood"))}
        said = (
            ", ".join(f"{name} {number(value)}" for name, value in parts.items()) or "gradient norm and learning rate"
        )
        yield Picture(
            partial(parts_figure, metrics),
            f"Parts of the loss as training goes on; at the end {said}.",
            "What the loss is made of: the log likelihood of the data, and the KL of each latent site from its prior.",
        )
    terms = terms_for(map(str, metrics.columns)) | {str(c): "KL" for c in metrics.columns if str(c).startswith("kl_")}
    yield Table("metrics", "Every report of the training, the last first", metrics[::-1], terms, top=5)
