"""Recipes of transition models: how data are forgotten step by step, and the net that walks back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PositiveInt

from .experiment import Kind, Recipe
from .tables import Activation, Table, Widths, named
from .training import Judging

__all__ = ["Denoising", "Diffusion", "TransitionEvaluation", "TransitionModel", "TransitionRecipe"]

AtLeastTwo: TypeAlias = Annotated[int, Field(ge=2)]
Levels: TypeAlias = Annotated[int, Field(ge=0, le=256)]


class Diffusion(Table):
    """A chain that is walked back, of normal or binomial steps."""

    name: Literal["diffusion"] = "diffusion"
    kernel: Literal["gaussian", "binomial"] = "gaussian"
    """How data are forgotten: real numbers shrink and are blurred, or bits are tossed anew."""
    num_steps: AtLeastTwo = 1000
    """T, the steps there and back."""
    rates: Literal["linear", "harmonic", "geometric"] = "linear"
    """How much each step forgets: DDPM's, the 2015 paper's, or as much of every scale."""
    first: Annotated[float, Field(gt=0, lt=1)] | None = None
    """How much of a datum the first step forgets: of levels of grey, at best what tells two of them apart."""
    reverse: Literal["epsilon", "drift", "flip"] = "epsilon"
    """What the net tells: the noise, where a normal step leads and how wide it is, or which bits to turn."""
    first_fixed: bool = False
    """Whether the step to the data is the kernel's own and nothing is learned of it, as in the 2015 paper."""
    levels: Levels = 0
    """Levels of grey that the last step makes, so that the bound is on a probability; 0 for a density."""
    hidden: Widths = (256, 256)
    """Widths of the net."""
    activation: Activation = "silu"
    """What stands between its layers."""
    clock: Literal["sinusoids", "bumps"] = "sinusoids"
    """What the net sees of the time: waves, or soft bumps."""
    gated: bool = False
    """Whether the time mixes outputs of a net that does not see it, as in the 2015 paper; for bumps."""


TransitionModel: TypeAlias = Annotated[Diffusion, BeforeValidator(named("diffusion"))]


class Denoising(Table):
    """A random step of every datum is undone."""

    name: Literal["denoising"] = "denoising"
    weighting: Literal["bound", "simple"] = "bound"
    """Of the steps: as the bound has them, or all squared errors of the noise alike."""
    stratified: bool = True
    """Whether the steps of a batch are spread evenly."""


class TransitionEvaluation(Judging):
    """How the bound is summed, and the draws that the model is judged by."""

    num_draws: PositiveInt = 2
    """Draws for each step and datum."""


class TransitionRecipe(Recipe):
    """A Markov chain that is learned backwards."""

    kind: ClassVar[Kind] = "transition"

    model: TransitionModel
    """What walks back."""
    objective: Denoising = Denoising()
    """What is minimised."""
    evaluation: TransitionEvaluation = TransitionEvaluation()
    """What the result is judged by."""

    def problems(self) -> Iterator[str]:
        """What does not go together."""
        yield from super().problems()
        model, protocol = self.model, self.data.protocol
        binomial, are_bits = model.kernel == "binomial", protocol not in ("grey", "signed")
        if binomial != are_bits:
            wanted = "'dynamic', 'static', 'threshold' or 'binary'" if binomial else "'grey' or 'signed'"
            yield f"`data.protocol` must be {wanted} with `model.kernel` = {model.kernel!r}, got {protocol!r}"
        if binomial != (model.reverse == "flip"):
            wanted = "'flip'" if binomial else "'epsilon' or 'drift'"
            yield f"`model.reverse` must be {wanted} with `model.kernel` = {model.kernel!r}, got {model.reverse!r}"
        if model.levels == 1 or (binomial and model.levels):
            wanted = "0 with `model.kernel` = 'binomial'" if binomial else "0, for a density, or at least 2"
            yield f"`model.levels` must be {wanted}, got {model.levels}"
        if model.first is not None and (binomial or model.rates == "linear"):
            yield "`model.first` must be left out but for 'harmonic' or 'geometric' `model.rates` of a Gaussian kernel"
        if model.first_fixed and (model.levels or model.reverse == "epsilon"):
            yield "`model.first_fixed` must be false with `model.levels` or `model.reverse` = 'epsilon', got true"
        if model.gated and model.clock != "bumps":
            yield f"`model.clock` must be 'bumps' with `model.gated` = true, got {model.clock!r}"
        if model.reverse == "epsilon" and model.rates == "harmonic":
            yield "`model.rates` must not be 'harmonic' with `model.reverse` = 'epsilon': its last step leaves no noise"
        if self.objective.weighting == "simple" and model.reverse != "epsilon":
            yield (
                f"`objective.weighting` must be 'bound' with `model.reverse` = {model.reverse!r}, which does not tell "
                "the noise, got 'simple'"
            )
