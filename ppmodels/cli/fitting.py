"""From a recipe to a fitted model: its data, its objective, what comes before, and the fit itself."""

from __future__ import annotations

import math
import warnings
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from guides import AmortizedNormal, ClusterGuide, VaDEGuide
from inference.adversarial import Adversarial
from inference.bounds import CIWAE, ELBO, IWAE, MIWAE, PIWAE, TVO, Bound, Renyi, VRMax, parse_bound
from inference.clamped import BoltzmannLearning
from inference.codes import latent_codes
from inference.contrastive import ContrastiveDivergence, ExactLikelihood, PersistentContrastiveDivergence
from inference.denoising import Denoising
from inference.estimators import parse_estimator
from inference.fit import Fitted, fit
from inference.objectives import Objective, Variational
from inference.optim import OptimizerFactory, Optimizers, ScheduleFactory, adam, burda_schedule
from inference.reconstruction import Reconstruction
from inference.terms import Augmented, Term
from inference.wake_sleep import WakeSleep
from ppmodels.data import Dataset, LikelihoodWarning, load
from ppmodels.labels import PartlyLabelled, partly_labelled
from ppmodels.patterns import PATTERNS
from ppmodels.recipes import Recipe, schema
from ppmodels.vade import VaDE
from ppmodels.zoo import build

__all__ = ["dataset", "fit_recipe", "objective", "training_data"]


def dataset(
    table: schema.Data, split: str = "train", *, device: torch.device | str = "cpu", kind: schema.Kind = "directed"
) -> Dataset:
    """The data of a recipe: "train" (less what is held out), "valid" (held out), "test", or "all"; labels apart.

    Models of another kind than directed take no grey level for a probability, and are not warned of it.
    """
    if split == "valid" and not table.validation:
        raise ValueError("`split` is 'valid', but the recipe holds no data out: set `data.validation`")
    part = "train" if split == "valid" else split
    data = _load(table, part, device, kind)
    if part == "train" and table.validation:
        rest, held_out = data.hold_out(table.validation, seed=table.seed)
        return held_out if split == "valid" else rest
    return data


def _load(table: schema.Data, part: str, device: torch.device | str, kind: schema.Kind) -> Dataset:
    if table.name in PATTERNS:
        return PATTERNS[table.name].split(part, seed=table.seed).to(device)
    with warnings.catch_warnings():
        if kind != "directed":
            warnings.simplefilter("ignore", LikelihoodWarning)
        return load(table.name, table.protocol, split=part, seed=table.seed, folder=table.folder, device=device)


def fit_recipe(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    progress: bool | None = None,
) -> Fitted:
    """Fit the pair of a recipe to its data, into a run folder where one is named."""
    if isinstance(recipe, schema.PairRecipe):
        for text in recipe.evaluation.bounds:
            parse_bound(text)  # a wrong one is better known now than when all is fitted
    training = recipe.training
    data = training_data(recipe.data, device=device, kind=recipe.kind)
    model, partner = build(recipe, data)
    begun = resume and out is not None and (Path(out) / "manifest.json").exists()
    if isinstance(recipe, schema.PairRecipe) and recipe.pretraining.epochs and not begun:
        assert partner is not None
        _pretrain(recipe, model, partner, data, out, progress=progress)
    aim = aim_of(recipe, partner, data)
    return fit(
        model,
        partner,
        data,
        aim,
        epochs=training.epochs,
        steps=training.steps,
        batch_size=training.batch_size,
        optimizer=_optimizers(recipe),
        schedule=_schedule(training, len(data)),
        clip_norm=training.clip_norm,
        average=training.average,
        validation=dataset(recipe.data, "valid", device=device, kind=recipe.kind) if _has_score(recipe) else None,
        patience=training.patience,
        seed=recipe.seed,
        out=out,
        recipe=recipe.to_dict(),
        resume=resume,
        mode=training.mode,
        report_every=training.report_every,
        checkpoint_seconds=training.checkpoint_seconds,
        progress=progress,
    )


def aim_of(recipe: Recipe, partner: nn.Module | None, data: Dataset | PartlyLabelled) -> Objective:
    """What is maximised, or played."""
    match recipe:
        case schema.PairRecipe():
            assert partner is not None
            return objective(recipe.bound, partner, data)
        case schema.EnergyRecipe(objective=table):
            return _of_energy(table)
        case schema.ImplicitRecipe(objective=table):
            return Adversarial(table.loss, smoothing=table.smoothing, every=table.every, noise=table.noise)
        case schema.TransitionRecipe(objective=table):
            return Denoising(table.weighting, stratified=table.stratified)
    raise AssertionError(recipe)


def _of_energy(table: schema.EnergyObjective) -> Objective:
    match table:
        case schema.ExactLikelihood():
            return ExactLikelihood(table.most_bits)
        case schema.ContrastiveDivergence():
            return ContrastiveDivergence(table.k, centre=table.centre)
        case schema.BoltzmannLearning():
            return BoltzmannLearning(table.sweeps, table.clamped, table.num_chains)
        case schema.PersistentContrastiveDivergence():
            return PersistentContrastiveDivergence(table.k, table.num_chains, table.centre)


def _has_score(recipe: Recipe) -> bool:
    """Whether held-out data are scored while it is trained; a game and contrastive divergence have no score."""
    if isinstance(recipe, schema.EnergyRecipe) and not isinstance(recipe.objective, schema.ExactLikelihood):
        return False
    return bool(recipe.data.validation) and not isinstance(recipe, schema.ImplicitRecipe)


def _optimizers(recipe: Recipe) -> Optimizers:
    """One for all phases, or each player's own."""
    training = recipe.training
    if not isinstance(recipe, schema.ImplicitRecipe) or recipe.objective.generator_rate is None:
        return _optimizer(training.optimizer, training.learning_rate)
    rates = {"discriminator": training.learning_rate, "generator": recipe.objective.generator_rate}
    return {phase: _optimizer(training.optimizer, rate) for phase, rate in rates.items()}


def training_data(
    table: schema.Data, *, device: torch.device | str = "cpu", kind: schema.Kind = "directed"
) -> Dataset | PartlyLabelled:
    """What is trained on: with labels, if the recipe gives any to the programs."""
    data = dataset(table, device=device, kind=kind)
    if not table.labels:
        return data
    classes = 0 if data.labels is None else len(data.labels.unique())
    if not classes <= table.labels <= len(data):
        raise ValueError(
            f"`data.labels` must be from {classes}, one for each class, to {len(data)}, the training data, "
            f"got {table.labels}"
        )
    return partly_labelled(data, table.labels, seed=table.seed)


def _pretrain(
    recipe: schema.PairRecipe,
    model: nn.Module,
    guide: nn.Module,
    data: Dataset | PartlyLabelled,
    out: str | Path | None,
    *,
    progress: bool | None,
) -> None:
    """Train the pair as an autoencoder, in a folder of its own, and put the mixture where the codes are."""
    table, training = recipe.pretraining, recipe.training
    plain = AmortizedNormal(guide.conditional) if isinstance(guide, VaDEGuide) else guide
    fit(
        model,
        plain,
        data,
        Reconstruction(),
        epochs=table.epochs,
        batch_size=training.batch_size,
        optimizer=adam(table.learning_rate),
        seed=recipe.seed,
        out=None if out is None else Path(out) / "pretraining",
        recipe=recipe.to_dict(),
        resume=out is not None,
        mode=training.mode,
        report_every=training.report_every,
        checkpoint_seconds=training.checkpoint_seconds,
        progress=progress,
    )
    codes = latent_codes(model, plain, data, "z", batch_size=training.batch_size)
    assert isinstance(model, VaDE)  # the recipe was checked
    assert isinstance(plain, AmortizedNormal)
    model.initialise(codes, seed=recipe.seed)
    with torch.no_grad():  # of the scale an autoencoder learns nothing
        plain.layers[0].get_submodule("log_scale").get_parameter("bias").fill_(table.log_scale)


def objective(table: schema.Bound, guide: nn.Module, data: Dataset | PartlyLabelled) -> Objective:
    """What is maximised: a bound, and beside it what labels teach the classifier of the guide."""
    if isinstance(table, schema.WakeSleep):
        return WakeSleep(table.num_particles, wake=table.wake, sleep=table.sleep, sleep_every=table.sleep_every)
    estimator = parse_estimator(table.estimator)
    variational = Variational(_bound(table), table.num_particles, kl_warmup=table.kl_warmup, estimator=estimator)
    if not table.label_weight or not isinstance(data, PartlyLabelled):
        return variational
    weight = table.label_weight / data.labelled_share  # of a mean over all data, of which few have a label
    return Augmented(variational, {"log_q_labels": Term(cast(ClusterGuide, guide).log_prob, weight=weight)})


def _bound(table: schema.Bound) -> Bound:
    match table:
        case schema.ELBO():
            return ELBO(table.kl)
        case schema.IWAE() | schema.WakeSleep():
            return IWAE()
        case schema.Renyi():
            return Renyi(table.alpha)
        case schema.VRMax():
            return VRMax()
        case schema.MIWAE():
            return MIWAE(table.groups)
        case schema.PIWAE():
            return PIWAE(table.groups)
        case schema.CIWAE():
            return CIWAE(table.beta)
        case schema.TVO():
            return TVO(table.partitions)


def _optimizer(table: schema.Optimizer, lr: float) -> OptimizerFactory:
    match table:
        case schema.Adam():
            return adam(lr, betas=table.betas, eps=table.eps)
        case schema.AdamW():
            return partial(torch.optim.AdamW, lr=lr, betas=table.betas, weight_decay=table.weight_decay)
        case schema.Adamax():
            return partial(torch.optim.Adamax, lr=lr, betas=table.betas)
        case schema.SGD():
            return partial(torch.optim.SGD, lr=lr, momentum=table.momentum)


def _schedule(training: schema.Training, num_data: int) -> ScheduleFactory | None:
    epochs = training.epochs or math.ceil((training.steps or 1) / math.ceil(num_data / training.batch_size))
    schedules: dict[str, ScheduleFactory] = {
        "burda": burda_schedule(epochs),
        "cosine": partial(CosineAnnealingLR, T_max=epochs),
        "plateau": ReduceLROnPlateau,
    }
    return schedules.get(training.schedule)
