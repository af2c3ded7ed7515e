"""Has training come to its end? The course of the losses, of the validation score, and what the run says of itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from inference.report.evidence import Evidence
from inference.report.examination import Array
from inference.report.judging.losses import not_finite, without_measure
from inference.report.verdict import Judgement, State
from inference.report.words import listed, measured, number

__all__ = ["scores_of", "training"]

LEAST = 10
"""Reports below which nothing is said of their course."""

WINDOW = 3
"""Reports that are averaged at least: two on a straight line lie within three of their own standard errors."""

ERRORS = 3.0
"""Standard errors by which two means must differ."""

PART = 0.02
"""What they must differ by as a part of all that was gained."""

SLOW = 0.05
"""The part of its highest at which a learning rate has all but gone."""


def training(evidence: Evidence) -> Judgement:
    """Whether training has finished, with a loss that stands still."""
    found = _training(evidence)
    return Judgement("Convergence", *found, "training")


def _training(evidence: Evidence) -> tuple[State, str]:
    status, metrics = evidence.manifest.get("status"), evidence.metrics
    losses = {} if metrics is None else _losses(metrics)
    last = ", ".join(f"`{name}` {number(values[-1])}" for name, values in losses.items())
    if status == "diverged":
        where = f" at step {evidence.manifest['steps']}" if "steps" in evidence.manifest else ""
        return "bad", f"Training diverged{where}: start again with a lower learning rate, or with `clip_norm`."
    if any(not math.isfinite(values[-1]) for values in losses.values()):
        return "bad", f"The last loss is not finite ({last}): start again with a lower learning rate, or `clip_norm`."
    if status in ("started", "interrupted"):
        return "doubt", f"Training has not finished: its status is `{status}`, {_so_far(metrics, last)}; resume it."
    if not losses:
        return "absent", "Nothing is known of the training: there are no metrics with a loss in them."
    if status != "finished":
        return "doubt", f"Nothing says that training has finished: its status is `{status}`, {_so_far(metrics, last)}."
    return without_measure(evidence, losses, last) or _course(evidence, losses)


def _so_far(metrics: pd.DataFrame | None, last: str) -> str:
    if metrics is None or not len(metrics) or not last:
        return "and no loss has been reported"
    return f"and the last of {len(metrics)} reports is {last}"


def _losses(metrics: pd.DataFrame) -> dict[str, Array]:
    """The losses by name; several phases are not all reported each time, one loss is."""
    found = {str(c): _numbers(metrics[c]) for c in metrics if str(c) == "loss" or str(c).endswith("/loss")}
    if len(found) > 1 and not all(np.isnan(values[-1:]).all() for values in found.values()):
        found = {name: values[~np.isnan(values)] for name, values in found.items()}
    return {name: values for name, values in found.items() if len(values)}


def scores_of(metrics: pd.DataFrame | None) -> Array | None:
    """The validation scores in their order; `None` where there is no such column."""
    if metrics is None or "validation" not in metrics:
        return None
    scores = _numbers(metrics["validation"])
    return scores[~np.isnan(scores)]  # they are reported at the end of epochs only


def _numbers(column: pd.Series[float]) -> Array:
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)


def _unknown_at_the_end(metrics: pd.DataFrame | None) -> list[str]:
    """Numbers beside the loss that are not finite in the last reports; with several phases not all are there."""
    if metrics is None or "loss" not in metrics:
        return []
    numbers = metrics.drop(columns="validation", errors="ignore").select_dtypes("number")
    last = {str(name): _numbers(numbers[name])[-WINDOW:] for name in numbers}
    return [name for name, values in last.items() if not np.isfinite(values).any()]


# -- courses -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Course:
    """The end of a series of which more is better.

    Attributes:
        gained: from the first value to the mean of the last window.
        last: that mean.
        last_error: its standard error.
        change: from the window before to the last.
        error: its standard error.
        window: reports in each.
    """

    gained: float
    last: float
    last_error: float
    change: float
    error: float
    window: int

    @classmethod
    def of(cls, values: Array) -> _Course:
        window = max(WINDOW, len(values) // 10)
        before, last = values[-2 * window : -window], values[-window:]
        errors = [float(part.std(ddof=1)) / math.sqrt(window) for part in (before, last)]
        change, gained = float(last.mean() - before.mean()), float(last.mean() - values[0])
        return cls(gained, float(last.mean()), errors[1], change, math.hypot(*errors), window)

    @property
    def moving(self) -> Literal["up", "down"] | None:
        """Whether it still moves by more than chance and more than a trifle."""
        if abs(self.change) <= max(ERRORS * self.error, PART * abs(self.gained)):
            return None
        return "up" if self.change > 0 else "down"


def _course(evidence: Evidence, losses: dict[str, Array]) -> tuple[State, str]:
    if few := [name for name, values in losses.items() if len(values) < LEAST]:
        least = min(len(losses[name]) for name in few)
        return "doubt", f"Training has finished, but {least} reports are too few to tell whether it has converged."
    if broken := not_finite(losses):
        return "doubt", broken
    if unknown := _unknown_at_the_end(evidence.metrics):
        return "doubt", f"The loss has come to its end, but {listed(unknown)} is not finite there: look at its parts."
    courses = {name: _Course.of(-values) for name, values in losses.items()}
    by_patience = evidence.manifest.get("stopped") == "patience"
    what = "model" if evidence.kind else "pair"
    for doubt in _doubts(courses, scores_of(evidence.metrics), what, by_patience=by_patience):
        return "doubt", doubt
    name, course = next(iter(courses.items()))
    stopped = "by patience" if by_patience else "in full"
    gained = f"{number(course.gained)} below the first of {len(losses[name])}"
    return "good", f"Training has finished {stopped}: {_told(name, course)}, {gained}.{_slowed(evidence.metrics)}"


def _slowed(metrics: pd.DataFrame | None) -> str:
    """A word of warning where the learning rate has all but gone: a loss stands still there, converged or not."""
    rates = _numbers(metrics["lr"]) if metrics is not None and "lr" in metrics else np.zeros(0)
    rates = rates[np.isfinite(rates)]
    if not len(rates) or rates[-1] > SLOW * rates.max():
        return ""
    came = f"{number(float(rates[-1]))} from {number(float(rates.max()))}"
    return f" The learning rate had come down to {came}, where a loss stands still in any case."


def _doubts(courses: dict[str, _Course], scores: Array | None, what: str, *, by_patience: bool) -> Iterator[str]:
    """What speaks against a course, the worst first; what falls on while patience is out has been waited for."""
    if all(course.gained <= 0 for course in courses.values()):
        name, course = next(iter(courses.items()))
        yield f"The loss has not fallen: {_told(name, course)}, no lower than the first report; look for a fault."
    for name, course in courses.items():
        if course.moving == "down":
            yield f"The loss is rising at its end: {_told(name, course)}; lower the learning rate."
        if course.moving == "up" and not by_patience:
            yield f"The loss is still falling: {_told(name, course)}; train for longer."
    if scores is None:
        return
    if not len(scores) or not np.isfinite(scores).all():
        yield f"Training has finished, but its validation scores are not finite: look for data the {what} rules out."
    elif len(scores) >= LEAST and not by_patience and (course := _Course.of(scores)).moving == "up":
        change = measured(course.change, course.error, "nats")
        yield (
            f"The validation score is still rising, by {change} from the {course.window} scores before to the last "
            f"{course.window}, which are {measured(course.last, course.last_error)} on average; train for longer."
        )


def _told(name: str, course: _Course) -> str:
    """The end of a loss in words."""
    way = "below" if course.change >= 0 else "above"
    change = measured(abs(course.change), course.error)
    last = measured(-course.last, course.last_error)
    return f"`{name}` is {last} over the last {course.window} reports, {change} {way} the {course.window} before"
