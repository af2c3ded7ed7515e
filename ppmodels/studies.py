r"""Data for the programs of `ppmodels.programs`: measured ones in the open, and synthetic ones whose truth is known.

A study has its values under the names of a program's arguments, and names for the axes of what is drawn. Synthetic
ones are drawn from generators of their own, never from torch's global one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["Study", "clumps", "groups", "regimes", "schools"]


@dataclass(frozen=True, eq=False)
class Study:
    """Data for a program.

    Attributes:
        name: of the study.
        reference: where the data come from.
        values: tensors and sizes, by the names of the program's arguments.
        coords: labels along an axis of what is drawn, by its name.
        dims: names of the axes of a site, where its plates do not name them.
        truth: what synthetic data were drawn from, by the names of the program's sites.
    """

    name: str
    reference: str
    values: Mapping[str, Tensor | int]
    coords: Mapping[str, Any] = field(default_factory=dict)
    dims: Mapping[str, Sequence[str]] = field(default_factory=dict)
    truth: Mapping[str, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        sizes = (f"{k} {tuple(v.shape)}" if isinstance(v, Tensor) else f"{k} {v}" for k, v in self.values.items())
        return f"Study({self.name}: {', '.join(sizes)})"

    def to(self, device: torch.device | str) -> Study:
        """The same study on another device."""
        moved = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in self.values.items()}
        return replace(self, values=moved)

    def describe(self) -> dict[str, Any]:
        """Plain JSON for a manifest."""
        tensors = {name: v for name, v in self.values.items() if isinstance(v, Tensor)}
        content = b"".join(v.cpu().numpy().tobytes() for v in tensors.values())
        shapes = {name: list(v.shape) for name, v in tensors.items()}
        sha256 = hashlib.sha256(content).hexdigest()
        return {"name": self.name, "reference": self.reference, "shapes": shapes, "sha256": sha256}


def schools() -> Study:
    """Effects of coaching for a test of verbal aptitude in eight schools, and their standard errors.

    Reference: Estimation in parallel randomized experiments, Rubin, 1981, table 1.

    >>> schools()
    Study(schools: sigma (8,), y (8,))
    """
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=torch.float64)
    sigma = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], dtype=torch.float64)
    return Study("schools", "Rubin 1981", {"sigma": sigma, "y": y}, coords={"school": list("ABCDEFGH")})


def groups(n: int = 400, *, num_groups: int = 12, covariates: int = 2, seed: int = 0) -> Study:
    """Draw outcomes of 0 and 1 in groups of unequal size, with coefficients of their own.

    Args:
        n: how many data.
        num_groups: G; the last groups are small, some may be empty.
        covariates: P.
        seed: of the draw.

    >>> groups(50, num_groups=4)
    Study(groups: group (50,), x (50, 2), num_groups 4, y (50,))
    """
    generator = _generator(n, seed)
    mu = torch.linspace(-0.5, 1.0, 1 + covariates, dtype=torch.float64)
    tau = torch.linspace(0.8, 0.3, 1 + covariates, dtype=torch.float64)
    beta = mu + tau * _normal(generator, num_groups, 1 + covariates)  # (G, 1 + P)
    share = torch.arange(num_groups, 0, -1, dtype=torch.float64)
    group = torch.multinomial(share, n, replacement=True, generator=generator)
    x = _normal(generator, n, covariates)
    p = (beta[group, 0] + (beta[group, 1:] * x).sum(-1)).sigmoid()
    y = (torch.rand(n, generator=generator, dtype=torch.float64) < p).double()
    coords = {
        "group": [f"g{i + 1}" for i in range(num_groups)],
        "coefficient": ["intercept", *(f"x{i + 1}" for i in range(covariates))],
    }
    values: dict[str, Tensor | int] = {"group": group, "x": x, "num_groups": num_groups, "y": y}
    return Study("groups", f"synthetic, seed {seed}", values, coords, truth={"mu": mu, "tau": tau, "beta": beta})


def clumps(n: int = 80, *, seed: int = 0) -> Study:
    """Draw numbers in a few clumps of unequal size, far apart, like speeds of galaxies in a corner of the sky.

    Args:
        n: how many data.
        seed: of the draw.

    >>> clumps()
    Study(clumps: n 80, grid (26,), y (80,))
    """
    generator = _generator(n, seed)
    weights = torch.tensor([0.15, 0.55, 0.30], dtype=torch.float64)
    loc = torch.tensor([10.0, 20.0, 30.0], dtype=torch.float64)
    scale = torch.tensor([0.8, 1.5, 1.0], dtype=torch.float64)
    z = torch.multinomial(weights, n, replacement=True, generator=generator)
    y = loc[z] + scale[z] * _normal(generator, n)
    grid = torch.linspace(5.0, 35.0, 26, dtype=torch.float64)
    values: dict[str, Tensor | int] = {"n": n, "grid": grid, "y": y}
    truth = {"weights": weights.sort(descending=True).values, "density": _density(grid, weights, loc, scale)}
    coords = {"at": grid.numpy().round(1)}
    return Study("clumps", f"synthetic, seed {seed}", values, coords, {"density": ["at"]}, truth)


def regimes(num_series: int = 8, *, length: int = 25, seed: int = 0) -> Study:
    """Draw series that stay near one of two levels for a while, then near the other.

    Args:
        num_series: how many series.
        length: T, of each.
        seed: of the draw.

    >>> regimes()
    Study(regimes: num_series 8, length 25, y (8, 25))
    """
    generator = _generator(num_series, seed)
    transition = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    loc = torch.tensor([-1.0, 1.5], dtype=torch.float64)
    scale = torch.tensor([0.6, 0.9], dtype=torch.float64)
    z = torch.randint(2, (num_series,), generator=generator)  # before the first measurement
    steps = []
    for _ in range(length):
        z = torch.multinomial(transition[z], 1, generator=generator).squeeze(-1)
        steps.append(loc[z] + scale[z] * _normal(generator, num_series))
    values: dict[str, Tensor | int] = {"num_series": num_series, "length": length, "y": torch.stack(steps, -1)}
    dims = {"y": ["series", "time"], "transition": ["state", "next"]}
    truth = {"transition": transition, "loc": loc, "scale": scale}
    return Study("regimes", f"synthetic, seed {seed}", values, dims=dims, truth=truth)


def _density(at: Tensor, weights: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    parts: Tensor = torch.distributions.Normal(loc, scale).log_prob(at.unsqueeze(-1)).exp()  # (G, T)
    return parts @ weights


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _generator(n: int, seed: int) -> torch.Generator:
    if n < 1:
        raise ValueError(f"`n` must be at least 1, got {n}")
    return torch.Generator().manual_seed(seed)
