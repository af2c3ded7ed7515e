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

CAPTIONS = {
    "energy": "The loss of each report, and minus the validation score where there is one. It falls as the model "
    "learns if it is minus log p(x) itself; a contrast of free energies need not, and says nothing of how far training "
    "has come.",
    "implicit": "The losses of the two players. They move against each other, and say nothing of how far training has "
    "come.",
    "transition": "The loss of each report, and minus the validation score where there is one, which is a bound on log "
    "p(x), in nats per datum; lower is better.",
}
"""How to read the losses of a model without a guide."""


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
    if evidence.kind is None:
        yield from _of_pair(metrics)
    else:
        yield from _without_guide(evidence.kind, metrics)
    terms = terms_for(map(str, metrics.columns)) | {str(c): "KL" for c in metrics.columns if str(c).startswith("kl_")}
    yield Table("metrics", "Every report of the training, the last first", metrics[::-1], terms, top=5)


def _of_pair(metrics: pd.DataFrame) -> Iterator[Block]:
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


def _without_guide(kind: str, metrics: pd.DataFrame) -> Iterator[Block]:
    """Losses that are no bound, or of several phases, and the gradient and rate where they were reported."""
    last = metrics.iloc[-1]
    losses = [str(name) for name in metrics.columns if str(name) == "loss" or str(name).endswith("/loss")]
    if losses:
        said = "; ".join(
            f"{name} from {number(metrics[name].dropna().iloc[0])} to {_last(metrics, name)}" for name in losses
        )
        held = (
            f" The best validation score is {number(metrics['validation'].max())}." if "validation" in metrics else ""
        )
        yield Picture(
            partial(loss_figure, metrics, unit="loss, as reported"),
            f"Losses over {number(last.get('step'))} updates: {said}.{held}",
            CAPTIONS[kind],
        )
    beside = {"lr": "learning rate", "grad_norm": "norm of the gradient before it is clipped"}
    if there := {name: words for name, words in beside.items() if name in metrics}:
        said = ", ".join(f"{words} {number(last[name])}" for name, words in there.items())
        yield Picture(
            partial(parts_figure, metrics),
            f"What is reported beside the loss as training goes on; at the end {said}.",
            f"As training goes on: {' and '.join(there.values())}.",
        )


def _last(metrics: pd.DataFrame, name: str) -> str:
    return number(metrics[name].dropna().iloc[-1])
