"""Programs whose posteriors are sampled: plain Pyro callables, the data their arguments, what is observed the last.

An observed argument that is `None` is drawn. Priors are set by keyword; floats have the type of the data.

>>> import torch
>>> found = program("eight_schools")
>>> found.call(torch.tensor([15.0, 10.0])).shape
torch.Size([2])
>>> program("eight_scools")
Traceback (most recent call last):
ValueError: `eight_scools` is no program, expected one of eight_schools, ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ppmodels.programs.hmm import hidden_markov
from ppmodels.programs.mixtures import dp_mixture
from ppmodels.programs.regression import hierarchical_logistic
from ppmodels.programs.schools import eight_schools

__all__ = [
    "PROGRAMS",
    "Program",
    "dp_mixture",
    "eight_schools",
    "hidden_markov",
    "hierarchical_logistic",
    "program",
    "table",
]


@dataclass(frozen=True)
class Program:
    """A program, and what is to be known of it.

    Attributes:
        call: the program.
        description: what it says of the data.
        paper: where it comes from.
        identified: the sites that chains can be compared by, where there are others; else `None`.
    """

    call: Callable[..., Tensor]
    description: str
    paper: str
    identified: tuple[str, ...] | None = None


PROGRAMS: Mapping[str, Program] = {
    "eight_schools": Program(
        eight_schools, "effects that resemble each other, not centred", "Rubin 1981, Parallel randomized experiments"
    ),
    "hierarchical_logistic": Program(
        hierarchical_logistic, "logistic regression, coefficients by group", "Gelman and Hill 2006, chapter 14"
    ),
    "dp_mixture": Program(
        dp_mixture,
        "Dirichlet process mixture of normals, components summed out",
        "Escobar and West 1995; Ishwaran and Zarepour 2002",
        identified=("alpha", "weights", "occupied", "density"),
    ),
    "hidden_markov": Program(hidden_markov, "hidden Markov model, states summed out", "Rabiner 1989"),
}


def program(name: str) -> Program:
    """The program of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in PROGRAMS:
        raise ValueError(f"`{name}` is no program, expected one of {', '.join(PROGRAMS)}")
    return PROGRAMS[name]


def table() -> list[dict[str, str]]:
    """One row per program: its name, what it says, its paper."""
    return [
        {"program": name, "description": found.description, "paper": found.paper} for name, found in PROGRAMS.items()
    ]
