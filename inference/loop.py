"""The state of a training run and the few things that happen to it: update, report, end of epoch, save, restore."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import pandas as pd
import torch
from torch import Tensor
from torch.optim import LBFGS
from torch.optim.lr_scheduler import ReduceLROnPlateau

from inference.blame import blame
from inference.checkpoint import Checkpoint, save_checkpoint
from inference.graph import Mode
from inference.iterates import MovingAverage
from inference.metrics import Window
from inference.objectives import Task
from inference.optim import Optimizers, ScheduleFactory, by_phase
from inference.pair import Pair
from inference.progress import Progress
from inference.runs import Run
from inference.scoring import Scorer
from inference.seeds import permutation, rng_state, set_rng_state
from inference.stepper import Report, Stepper
from ppmodels.contracts import Batch, Data

__all__ = ["DivergedError", "Loop"]


class DivergedError(ArithmeticError):
    """The loss or its gradient stopped being finite; the message names the site, the step and what is left."""


@dataclass(eq=False)
class Loop:
    """A training run at one step.

    `first` is a batch for inspection, `total` the step to end at, `run` the folder it reports to, if any; `modes` says
    how each phase is run, by the number of data in a batch.
    """

    pair: Pair
    task: Task
    data: Data
    validation: Data | None
    first: Batch
    device: torch.device
    seed: int
    batch_size: int
    clip_norm: float | None
    patience: int | None
    mode: Mode
    total: int
    run: Run | None = None
    step: int = 0
    seconds: float = 0.0
    best_score: float | None = None
    waited: int = 0
    stopped: str = "finished"
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    modes: dict[str, dict[str, str]] = field(default_factory=dict)

    def set_up(self, optimizer: Optimizers, schedule: ScheduleFactory | None, average: float | None) -> None:
        """Make an optimiser for every phase, and a schedule and an average of its parameters if they are asked for."""
        self.average = None if average is None else MovingAverage(self.pair.state(self.first), average)
        factories = by_phase(optimizer, [phase.name for phase in self.task.phases])
        self.optimizers = [
            factory(list(phase.parameters.values())) for factory, phase in zip(factories, self.task.phases, strict=True)
        ]
        if any(isinstance(o, LBFGS) for o in self.optimizers):
            raise ValueError(
                "`optimizer` makes LBFGS, which evaluates a loss with fresh noise many times a step; use adam"
            )
        self.schedules = [schedule(o) for o in self.optimizers] if schedule else []
        if self.validation is None and any(isinstance(s, ReduceLROnPlateau) for s in self.schedules):
            raise ValueError("`schedule` waits for a plateau of the validation score, expected `validation` data")
        warned: set[str] = set()
        self.steppers = [
            Stepper(
                self.pair,
                phase,
                each,
                self.mode,
                partial(self.calls, every=phase.every),
                self._modes(phase.name),
                self.clip_norm,
                warned,
            )
            for phase, each in zip(self.task.phases, self.optimizers, strict=True)
        ]
        self.scorer: Scorer | None = None
        if self.validation is not None:
            if self.task.score is None:
                raise ValueError("`validation` is given, but the objective has no score to judge it by: leave it out")
            modes, times = self._modes("score"), self.total // self.per_epoch
            how = (self.batch_size, self.seed + 1, times, self.mode, modes, warned)
            self.scorer = Scorer(self.pair, self.task.score, self.validation, *how)
            self.scorer.check()
        self.clock = torch.zeros((), device=self.device)  # the step, as the phases see it
        self.order = (-1, torch.empty(0))

    def settings(self) -> dict[str, Any]:
        """What a resumed run must share with the one it goes on with, as plain values."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "clip_norm": self.clip_norm,
            "patience": self.patience,
            "average": None if self.average is None else self.average.decay,
            "mode": self.mode,
            "device": self.device.type,
            "optimizer": [_plain(type(o).__name__, o.defaults) for o in self.optimizers],
            "schedule": [_plain(type(s).__name__, s.state_dict()) for s in self.schedules],
            "data": self.data.describe(),
            "validation": None if self.validation is None else self.validation.describe(),
        }

    @property
    def per_epoch(self) -> int:
        """Updates in an epoch."""
        return math.ceil(len(self.data) / self.batch_size)

    def _modes(self, name: str) -> dict[str, str]:
        return self.modes.setdefault(name, {})

    def calls(self, n: int, every: int = 1) -> int:
        """How many of the run's updates have a batch of n data, of one phase that is stepped in one of so many."""
        full, rest = divmod(len(self.data), self.batch_size)
        return self.total * (full if n == self.batch_size else int(n == rest)) // self.per_epoch // every

    def go(self, report_every: int, checkpoint_seconds: float, bar: Progress) -> None:
        """Update until all steps are done or patience is out."""
        window = Window()
        for stepper in self.steppers:
            stepper.graph.every = report_every
        started = saved = time.monotonic()
        before = self.seconds
        while self.step < self.total and self.stopped == "finished":
            window.add(self.update(self.next_batch()))
            self.step += 1
            bar.advance(1)
            epoch_ends = self.step % self.per_epoch == 0
            if self.step % report_every and not epoch_ends and self.step < self.total:
                continue
            self.seconds = before + time.monotonic() - started
            record = self.report(window, bar)
            if epoch_ends:
                record |= self.end_epoch()
                for stepper in self.steppers:
                    stepper.graph.look()  # schedules and scores have run
            self.log(record)
            done = self.step == self.total or self.stopped != "finished"
            if done or time.monotonic() - saved >= checkpoint_seconds:
                self.save()
                saved = time.monotonic()

    def next_batch(self) -> Batch:
        """The batch of the present step: its place follows from the step, the seed and nothing else."""
        epoch, position = divmod(self.step, self.per_epoch)
        if self.order[0] != epoch:
            order = permutation(len(self.data), seed=self.seed, epoch=epoch)
            self.order = (epoch, order.to(self.device))
        start = position * self.batch_size
        return self.data.batch(self.order[1][start : start + self.batch_size])

    def update(self, batch: Batch) -> list[Report | None]:
        """Step every phase once whose turn it is."""
        self.clock.fill_(self.step)
        reports = [
            None if self.step % stepper.phase.every else stepper(batch, self.clock, self._check(stepper, batch))
            for stepper in self.steppers
        ]
        if self.average is not None:
            self.average.add()
        return reports

    def _check(self, stepper: Stepper, batch: Batch) -> Callable[[Report], None] | None:
        """What looks at every update before it is made; none on a device that would have to be waited for."""
        if self.device.type != "cpu":
            return None  # `report` looks instead

        def check(report: Report) -> None:
            if not report.is_finite:
                self.stop(batch, report.gradients)

        return check

    def stop(self, batch: Batch, gradients: Mapping[str, Tensor]) -> NoReturn:
        """Stop for a number that is not finite, naming what broke and what is left."""
        left = "nothing was saved, as no `out` folder was given"
        if self.run is not None:
            saved = self.run.latest()
            left = f"the last good checkpoint is step {saved.step if saved else 0} in {self.run.folder}"
            self.run.update(status="diverged", steps=self.step)
        parameters = {name: value for phase in self.task.phases for name, value in phase.parameters.items()}
        raise DivergedError(
            f"training stopped at step {self.step} (epoch {self.step // self.per_epoch}): "
            f"{blame(self.pair, batch, self.task.layout, parameters, gradients)}; {left}; start again with a lower "
            "learning rate, or with `clip_norm`"
        )

    def report(self, window: Window, bar: Progress) -> dict[str, Any]:
        """The means since the last report."""
        means = window.flush(self.task.phases)
        if not math.isfinite(sum(means.values())):
            self.stop(self.next_batch(), {})
        bar.note(**{k: v for k, v in means.items() if k.endswith("loss")})
        rate = self.optimizers[0].param_groups[0]["lr"]
        epoch = self.step / self.per_epoch
        return {
            "step": self.step,
            "epoch": epoch,
            "seconds": round(self.seconds, 3),
            "lr": float(rate),
            **means,
        }

    def end_epoch(self) -> dict[str, Any]:
        """Score the validation data, remember the best, move the schedules on."""
        score = self.score()
        if score is not None and not math.isfinite(score):
            raise DivergedError(
                f"the validation score is {score} after step {self.step}: look for data the pair rules out"
            )
        for schedule in self.schedules:
            if isinstance(schedule, ReduceLROnPlateau):
                assert score is not None
                schedule.step(-score)
            else:
                schedule.step()
        if score is None:
            return {}
        if self.best_score is None or score > self.best_score:
            self.best_score, self.waited = score, 0
            self.keep_best()
        else:
            self.waited += 1
            if self.patience is not None and self.waited >= self.patience:
                self.stopped = "patience"
        return {"validation": score}

    def score(self) -> float | None:
        """Of the validation data, if there are any, by the parameters that would be left behind now."""
        if self.scorer is None:
            return None
        with nullcontext() if self.average is None else self.average.in_place():
            return self.scorer()

    def kept(self) -> Mapping[str, Tensor]:
        """Parameters and buffers that would be left behind now: their mean where one is kept."""
        return self.pair.state(self.first) if self.average is None else self.average.mean

    def keep_best(self) -> None:
        """Set aside the parameters of the best score, where patience will ask for them."""
        if self.patience is None:
            return
        if self.run is not None:
            save_checkpoint(self.run.folder / "checkpoint", self.checkpoint(), kind="best", keep=1)
        else:
            self.best = _cloned(self.kept())

    def log(self, record: Mapping[str, Any]) -> None:
        """Keep a report, and have it in the run folder."""
        self.history.append(dict(record))
        if self.run is not None:
            self.run.log(record)

    def checkpoint(self) -> Checkpoint:
        """All that is needed to go on from here with the same bits."""
        progress = ("seconds", "best_score", "waited", "stopped")
        return Checkpoint(
            step=self.step,
            parameters=self.kept(),
            training={
                "optimizers": [o.state_dict() for o in self.optimizers],
                "schedules": [s.state_dict() for s in self.schedules],
                "rng": rng_state(self.device),
                "task": _cloned(self.task.state),
                **({} if self.average is None else {"moving": _cloned(self.average.state)}),
            },
            progress={name: getattr(self, name) for name in progress},
        )

    def save(self) -> None:
        """Write a checkpoint, the metrics before it."""
        if self.run is not None:
            if self.run.manifest.get("modes") != self.modes:
                self.run.update(modes=self.modes)
            self.run.sync()
            save_checkpoint(self.run.folder / "checkpoint", self.checkpoint())

    def restore(self, checkpoint: Checkpoint, modes: Mapping[str, Mapping[str, str]]) -> None:
        """Be where a checkpoint was, and go on in the modes of then: others would round otherwise."""
        for name, by_size in modes.items():
            self._modes(name).update(by_size)
        self.pair.load(checkpoint.training.get("moving", checkpoint.parameters), self.first)
        if self.average is not None:
            self.average.load(checkpoint.parameters, checkpoint.step)
        for optimizer, state in zip(self.optimizers, checkpoint.training["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        for schedule, state in zip(self.schedules, checkpoint.training["schedules"], strict=True):
            schedule.load_state_dict(state)
        set_rng_state(checkpoint.training["rng"], self.device)
        for name, value in checkpoint.training.get("task", {}).items():
            self.task.state[name].copy_(value)
        self.step = checkpoint.step
        for name, value in checkpoint.progress.items():
            setattr(self, name, value)

    def finish(self) -> None:
        """Leave the best parameters if patience was asked for, else the last or their mean; say so in the manifest."""
        if self.patience is not None and self.best_score is not None:
            self.pair.load(self.best if self.run is None else self.run.result().parameters, self.first)
        elif self.average is not None:
            self.pair.load(self.average.mean, self.first)
        if self.run is not None:
            self.run.update(status="finished", stopped=self.stopped, steps=self.step, seconds=round(self.seconds, 3))

    def metrics(self) -> pd.DataFrame:
        """Every report so far, those of resumed parts included."""
        return self.run.metrics() if self.run is not None else pd.DataFrame(self.history)


def _cloned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def _plain(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked of an optimiser or a schedule: its name and its numbers, before it has made a step."""
    kept: dict[str, Any] = {"name": name}
    for key, value in state.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if key[0] != "_" and all(isinstance(v, (int, float)) and math.isfinite(v) for v in numbers):
            kept[key] = list(numbers) if isinstance(value, (list, tuple)) else value
    return kept
