"""What a program says of one draw: its values, log probabilities of each datum and latent, data that it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from inference.density import FlatDensity, map_rows
from inference.diagnostics.dims import axes_of
from inference.diagnostics.pointwise import marginals
from inference.sites import Site

__all__ = ["Reader"]


class Reader:
    """Reads groups of a posterior off a program, for many draws at once.

    Args:
        density: of the program.
        dims: names of axes by site, where they are not to be those of the plates.

    Attributes:
        axes: names of the axes of every variable, by group.
        kept: which data are not masked, by observed site, flat; for those of which some are.
    """

    def __init__(self, density: FlatDensity, dims: Mapping[str, Sequence[str]]) -> None:
        self.density = density
        sites = density.sites()
        self.observed = density.found.observed
        self.kept = {name: kept for name in self.observed if (kept := _kept(sites[name])) is not None}
        every = {name: axes_of(site, dims.get(name)) for name, site in sites.items() if _has_value(site)}
        self.values = {name: axes.all for name, axes in every.items()}
        batches = {name: axes.batch for name, axes in every.items()}
        drawn = (*density.names, *density.found.deterministic)
        self.axes: dict[str, dict[str, tuple[str, ...]]] = {
            "posterior": {name: self.values[name] for name in drawn},
            "log_prior": {name: batches[name] for name in self._with_prior()},
            "posterior_predictive": {name: self.values[name] for name in self.observed},
            "log_likelihood": self._likelihood_axes(batches),
        }

    def read(self, group: str, values: dict[str, Tensor], data: Sequence[Tensor], seed: int = 0) -> dict[str, Tensor]:
        """The variables of a group, `(S, ...)`, at S draws of the latent sites."""
        found = map_rows(self.density, getattr(self, f"_{group}"), values, *data, seed=seed)
        if group == "log_likelihood":
            for name, kept in self.kept.items():
                if name in found:
                    found[name] = found[name].flatten(1)[:, kept.to(found[name].device)]
        return found

    def prior(self, num_samples: int, data: Sequence[Tensor], seed: int) -> dict[str, Tensor]:
        """Everything drawn from the program, observations too, `(S, ...)` each.

        Raises:
            NotImplementedError: if a prior is improper.
        """
        nothing = torch.zeros(num_samples, device=self.density.device)
        return map_rows(self.density, self._prior, nothing, *data, seed=seed)

    def _posterior(self, values: Mapping[str, Tensor], *data: Tensor) -> dict[str, Tensor]:
        trace = self.density.trace(values, *data)
        return {name: _value(trace.nodes[name]) for name in self.axes["posterior"]}

    def _log_likelihood(self, values: Mapping[str, Tensor], *data: Tensor) -> dict[str, Tensor]:
        if self.density.found.summed:
            found = marginals(self.density.enumerated(values, *data), self.observed)
            return {name: log_prob for name, _, log_prob in found}
        trace = self.density.trace(values, *data)
        return {name: _log_prob(trace.nodes[name]) for name in self.observed}

    def _log_prior(self, values: Mapping[str, Tensor], *data: Tensor) -> dict[str, Tensor]:
        trace = self.density.trace(values, *data)
        return {name: _log_prob(trace.nodes[name]) for name in self.axes["log_prior"]}

    def _posterior_predictive(self, values: Mapping[str, Tensor], *data: Tensor) -> dict[str, Tensor]:
        trace = self.density.trace(values, *data, observed=False)
        return {name: _value(trace.nodes[name]) for name in self.observed}

    def _prior(self, nothing: Tensor, *data: Tensor) -> dict[str, Tensor]:
        trace = self.density.trace({}, *data, observed=False)
        return {name: _value(trace.nodes[name]) for name in (*self.axes["posterior"], *self.observed)}

    def _with_prior(self) -> list[str]:
        """The latents that have a density given those before them alone: others depend on what is summed out."""
        if not self.density.found.summed:
            return list(self.density.names)
        values = {name: self.density.sites()[name]["value"] for name in self.density.names}
        with torch.no_grad():
            trace = self.density.enumerated(values)
        summed = set(trace.symbol_to_dim) - set(trace.plate_to_symbol.values())
        packed: dict[str, Any] = {name: trace.nodes[name]["packed"]["log_prob"] for name in self.density.names}
        return [name for name, log_prob in packed.items() if not set(log_prob._pyro_dims) & summed]

    def _likelihood_axes(self, batches: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not self.density.found.summed:
            return {name: (f"{name}_kept",) if name in self.kept else batches[name] for name in self.observed}
        values = {name: self.density.sites()[name]["value"] for name in self.density.names}
        with torch.no_grad():
            return {name: plates for name, plates, _ in marginals(self.density.enumerated(values), self.observed)}


def _value(site: Any) -> Tensor:
    value: Tensor = site["value"]
    return value


def _log_prob(site: Any) -> Tensor:
    """Unscaled: a likelihood that is tempered in the program is read as it is."""
    found: Tensor = site["unscaled_log_prob"]
    return found


def _has_value(site: Site) -> bool:
    return type(site["fn"]).__name__ != "_Subsample"


def _kept(site: Site) -> Tensor | None:
    """Which elements of a site count, flat; `None` where all do."""
    mask = site["mask"]
    if not isinstance(mask, Tensor) or bool(mask.all()):
        return None
    return mask.expand(site["unscaled_log_prob"].shape).flatten()
