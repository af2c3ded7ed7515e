"""The verdict on a run: what is wrong, what is doubtful and what nobody has looked at, each with its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Judgement", "State", "Verdict"]

State: TypeAlias = Literal["good", "doubt", "bad", "absent", "not applicable"]
"""Shown green, amber, red, amber ("not looked at") and grey."""


@dataclass(frozen=True)
class Judgement:
    """One sentence of a verdict.

    Attributes:
        topic: "Convergence", "Guide", "Bracket", or a further one: "Overfitting", "Latents", "Clusters", ...
        state: what is thought of it.
        sentence: what was found, with its numbers and their errors, and what to do about it.
        section: the id of the section with the evidence: "training", "ladder", "guide", "latents", "clusters",
            "chains", "calibration", "predictive", "provenance", or of a model without a guide "density", "drawn",
            "draws".
    """

    topic: str
    state: State
    sentence: str
    section: str


@dataclass(frozen=True)
class Verdict:
    """What is thought of a run.

    Attributes:
        judgements: the three that matter (convergence, guide, bracket), in this order.
        others: what else was looked at, or should have been.
    """

    judgements: tuple[Judgement, ...]
    others: tuple[Judgement, ...] = ()

    @property
    def colour(self) -> Literal["green", "amber", "red"]:
        """Red if anything is bad; green only if something was found good and nothing is doubtful or absent."""
        states = {one.state for one in (*self.judgements, *self.others)}
        if "bad" in states:
            return "red"
        return "green" if "good" in states and not states & {"doubt", "absent"} else "amber"
