r"""The training loop: steps the phases of an objective over a dataset, reports, checkpoints, and can be resumed.

A run is a function of its seed: the order of the data depends on seed and epoch alone, everything else that is random
is drawn from torch's generators, whose state is in every checkpoint. So a run killed at any moment and resumed ends
with the same bits as one left alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from inference.batches import as_data, device_of
from inference.display import fragment
from inference.flags import validating
from inference.graph import Mode, check_mode
from inference.loop import DivergedError, Loop
from inference.objectives import Objective, Variational
from inference.optim import Optimizers, ScheduleFactory, adam
from inference.pair import Pair, first_tensor, no_guide
from inference.progress import progress_bar
from inference.runs import Run, RunError
from inference.seeds import reseed, seeded
from ppmodels.contracts import Batch, Data, Program

__all__ = ["DivergedError", "Fitted", "fit"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit leaves behind; the parameters are in the pair itself.

    Attributes:
        steps: updates done, over all resumed parts.
        seconds: wall time, over all resumed parts.
        best_score: the best validation score, nats per datum; `None` without validation data.
        stopped: why it ended: "finished" or "patience".
        metrics: one row per report.
        run: the run folder, if one was asked for.
        modes: how each phase was run, by the number of data in a batch: `{"bound": {"100": "replay"}}`.
    """

    steps: int
    seconds: float
    best_score: float | None
    stopped: str
    metrics: pd.DataFrame
    run: Run | None
    modes: dict[str, dict[str, str]]

    def _repr_html_(self) -> str:
        score = "" if self.best_score is None else f", best validation score {self.best_score:.3f} nats per datum"
        headline = f"{self.steps:,} updates in {self.seconds:.1f} s, {self.stopped}{score}"
        modes = ((phase, *mode) for phase, by_size in self.modes.items() for mode in by_size.items())
        notes = [f"{phase}: {mode}, {size} data at a time" for phase, size, mode in modes]
        notes += [] if self.run is None else [f"kept in {self.run.folder}"]
        return fragment(headline, self.metrics, notes, most=5, last=True)


def fit(
    model: Program,
    guide: Program | None,
    data: Data | Batch,
    objective: Objective | None = None,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 100,
    optimizer: Optimizers | None = None,
    schedule: ScheduleFactory | None = None,
    clip_norm: float | None = None,
    average: float | None = None,
    validation: Data | Batch | None = None,
    patience: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    recipe: Mapping[str, Any] | None = None,
    resume: bool = False,
    mode: Mode = "auto",
    report_every: int = 50,
    checkpoint_seconds: float = 20.0,
    progress: bool | None = None,
) -> Fitted:
    """Fit a pair to data by stepping the phases of an objective.

    Args:
        model: any Pyro callable.
        guide: any Pyro callable over the same latent sites; with other kinds of model what its objective says, such as
            a discriminator, or `None`.
        data: a dataset, or a tensor, tuple or mapping of tensors.
        objective: what to minimise; by default the ELBO with one particle.
        epochs: passes over the data; give these or `steps`.
        steps: updates; give these or `epochs`.
        batch_size: data per update; the last batch of an epoch may be smaller.
        optimizer: a factory, called once per phase with its parameters: `adam(1e-3)`, or any `torch.optim` class with
            its arguments bound by `functools.partial`. A mapping gives each phase its own by name.
        schedule: a factory of a learning-rate schedule, stepped once an epoch.
        clip_norm: largest norm of a phase's gradient.
        average: decay of a running mean of all parameters, such as 0.999, see `inference.iterates`. Then the mean is
            scored, is the result in the run folder, and is what the pair is left with; `None` for the last parameters.
        validation: data to score after every epoch, always with the same noise.
        patience: stop after so many epochs without a better score, and go back to the best parameters.
        seed: seeds the order of the data and all noise; the caller's random state is left as it is.
        out: a run folder to write; without one nothing is written.
        recipe: what was asked, kept in the run folder as TOML.
        resume: go on from the newest checkpoint in `out`, or start there if it holds none. Only `epochs` or `steps`
            may differ from what the run was begun with.
        mode: how the programs are run: compiled ("inductor"), from their tensor graph ("replay"), as they are
            ("eager"), or what is quickest for this many steps ("auto"); see `inference.graph`. Where a mode cannot be
            had a `GraphWarning` says why and the next lower one is used; the manifest keeps which.
        report_every: updates between reports (metrics, progress).
        checkpoint_seconds: least time between checkpoints; 0 for one at every report.
        progress: show a bar; by default where there is a terminal.

    Raises:
        DivergedError: if the loss or its gradient stops being finite.
        RunError: if `out` holds a run already and `resume` was not asked for, or was begun with other settings.
        CheckpointError: if a checkpoint cannot be written or read.
        ValueError: if an argument is out of range, or the pair cannot be trained; the message names it.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     scale = pyro.param("scale", torch.tensor(3.0), constraint=dist.constraints.positive)
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(0.0, scale), obs=x)
    >>> fitted = fit(model, lambda x: None, torch.tensor([-1.0, 1.0]), steps=300, optimizer=adam(0.05))
    >>> round(pyro.param("scale").item(), 2)
    1.0
    >>> pyro.clear_param_store()
    """
    data = as_data(data)
    validation = None if validation is None else as_data(validation)
    check_mode(mode)
    _check_arguments(epochs, steps, batch_size, clip_norm, patience, validation, report_every)
    with seeded(seed, device_of(data)):
        first = data.batch(torch.arange(min(batch_size, len(data))))
        objective = objective or Variational()
        kind = getattr(objective, "kind", None)
        pair, device = Pair(model, guide or no_guide, modules_only=kind is not None), first_tensor(first).device
        with pair.mode(training=True):
            task = objective.task(pair, first)
            total = steps or (epochs or 0) * math.ceil(len(data) / batch_size)
            loop = Loop(pair, task, data, validation, first, device, seed, batch_size, clip_norm, patience, mode, total)
            loop.set_up(optimizer or adam(), schedule, average)
            settings = {"objective": repr(objective), **({"kind": kind} if kind else {}), **loop.settings()}
            loop.run = _open_run(out, settings, recipe, resume=resume)
            saved = loop.run.latest() if loop.run is not None else None
            if saved is not None:
                assert loop.run is not None
                loop.restore(saved, loop.run.manifest.get("modes", {}))
            else:
                reseed(seed, device)  # the noise of training does not depend on what was inspected
                loop.save()
            with validating(enabled=False), progress_bar("fit", total, done=loop.step, show=progress) as bar:
                loop.go(report_every, checkpoint_seconds, bar)
            loop.finish()
    return Fitted(loop.step, loop.seconds, loop.best_score, loop.stopped, loop.metrics(), loop.run, loop.modes)


def _check_arguments(
    epochs: int | None,
    steps: int | None,
    batch_size: int,
    clip_norm: float | None,
    patience: int | None,
    validation: Data | None,
    report_every: int,
) -> None:
    if (epochs is None) == (steps is None):
        raise ValueError(f"`epochs` is {epochs} and `steps` is {steps}, expected exactly one of the two")
    for name, value in {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "report_every": report_every,
    }.items():
        if value is not None and not (isinstance(value, int) and value >= 1):
            raise ValueError(f"`{name}` is {value}, expected a whole number, at least 1")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"`clip_norm` is {clip_norm}, expected a positive norm, or None for no clipping")
    if patience is not None and (patience < 1 or validation is None):
        raise ValueError(f"`patience` is {patience}, expected at least 1 epoch and `validation` data to score")


def _open_run(
    out: str | Path | None, settings: Mapping[str, Any], recipe: Mapping[str, Any] | None, *, resume: bool
) -> Run | None:
    if out is None:
        if resume:
            raise ValueError("`resume` is set without `out`, expected the folder of the run to go on with")
        return None
    if not (resume and (Path(out) / "manifest.json").exists()):
        return Run.create(out, manifest=settings, recipe=recipe)
    run = Run(out)
    before = run.manifest
    for name, value in json.loads(json.dumps(settings)).items():
        if before.get(name) != value:
            raise RunError(
                f"`{name}` is {value}, but the run in {out} was begun with {before.get(name)}: resume with the same "
                "settings, or start another run"
            )
    return run
