"""What a program says of one draw: its values, log probabilities of each datum and latent, data that it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor

from inference.density import FlatDensity, map_rows
from inference.density.inspection import mask_of
from inference.density.summing import summed_symbols
from inference.diagnostics.dims import axes_of, shape_of
from inference.diagnostics.pointwise import draw_summed, marginals, summed_together
from inference.seeds import seeded
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
        values: names of the axes of every site.
    """

    def __init__(self, density: FlatDensity, dims: Mapping[str, Sequence[str]]) -> None:
        self.density = density
        sites, found = density.sites(), density.found
        self.observed = found.observed
        names = frozenset(name for name, site in sites.items() if _has_value(site))
        every = {name: axes_of(sites[name], dims.get(name), taken=names) for name in sites if name in names}
        self.values = {name: axes.all for name, axes in every.items()}
        self.kept = {name: kept for name in self.observed if (kept := _kept(sites[name])) is not None}
        self._batches = {name: axes.batch for name, axes in every.items()}
        self._example = self._enumerated_example()
        self.summed = () if self._example is None else found.summed
        self.together = [] if self._example is None else summed_together(self._example, found.summed)
        drawn = (*density.names, *(name for name in found.deterministic if self._is_known(name)))
        self.axes: dict[str, dict[str, tuple[str, ...]]] = {
            "posterior": {name: self.values[name] for name in drawn},
            "log_prior": {name: self._batches[name] for name in self._with_prior()},
            "posterior_predictive": {name: self.values[name] for name in self.observed},
        }
        self._why_no_likelihood = ""
        try:
            self.axes["log_likelihood"] = self._likelihood_axes()
        except NotImplementedError as error:
            self._why_no_likelihood = str(error)

    def read(self, group: str, values: dict[str, Tensor], data: Sequence[Tensor], seed: int = 0) -> dict[str, Tensor]:
        """The variables of a group, `(S, ...)`, at S draws of the latent sites.

        Raises:
            NotImplementedError: if the group cannot be had of this program; the message says why.
        """
        if group == "log_likelihood" and self._why_no_likelihood:
            raise NotImplementedError(self._why_no_likelihood)
        if group == "posterior_predictive" and self.together:
            names = " and ".join(f"`{name}`" for name in self.together[0][:2])
            raise NotImplementedError(f"sites {names} are summed out together, and are not drawn given the data")
        found = map_rows(self.density, getattr(self, f"_{group}"), values, *data, seed=seed)
        if group == "log_likelihood":
            for name, kept in self.kept.items():
                if self.axes[group].get(name) == (f"{name}_kept",):
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
        trace = self.density.trace(self._completed(values, data), *data)
        return {name: _value(trace.nodes[name]) for name in self.axes["posterior"]}

    def _log_likelihood(self, values: Mapping[str, Tensor], *data: Tensor) -> dict[str, Tensor]:
        if self.summed:
            found = marginals(self.density.enumerated(values, *data), self.observed)
            return {name: log_prob for name, _, log_prob in found if name in self.axes["log_likelihood"]}
        trace = self.density.trace(values, *data)
        return {name: _log_prob(trace.nodes[name]) for name in self.axes["log_likelihood"]}

    def _log_prior(self, values: Mapping[str, Tensor], *data: Tensor) -> dict[str, Tensor]:
        trace = self.density.trace(values, *data)
        return {name: _log_prob(trace.nodes[name]) for name in self.axes["log_prior"]}

    def _posterior_predictive(self, values: Mapping[str, Tensor], *data: Tensor) -> dict[str, Tensor]:
        trace = self.density.trace(self._completed(values, data), *data, observed=False)
        return {name: _value(trace.nodes[name]) for name in self.observed}

    def _prior(self, nothing: Tensor, *data: Tensor) -> dict[str, Tensor]:
        trace = self.density.trace({}, *data, observed=False)
        return {name: _value(trace.nodes[name]) for name in (*self.axes["posterior"], *self.observed)}

    def _completed(self, values: Mapping[str, Tensor], data: Sequence[Tensor]) -> dict[str, Tensor]:
        """The values, with a draw of what is summed out, given them and the data."""
        if not self.summed or self.together:
            return dict(values)
        return {**values, **draw_summed(self.density.enumerated(values, *data), self.summed)}

    def _enumerated_example(self) -> Trace | None:
        if not self.density.found.summed:
            return None
        values = {name: self.density.sites()[name]["value"] for name in self.density.names}
        with torch.no_grad(), seeded(0, self.density.device):
            return self.density.enumerated(values)

    def _is_known(self, name: str) -> bool:
        """Whether what is computed can be computed: not of sites that are summed out and cannot be drawn."""
        if self._example is None or not self.together:
            return True
        there: Any = self._example.nodes[name]["value"]
        return tuple(there.shape) == tuple(self.density.sites()[name]["value"].shape)

    def _with_prior(self) -> list[str]:
        """The latents that have a density given those before them alone: others depend on what is summed out."""
        if self._example is None:
            return list(self.density.names)
        summed = summed_symbols(self._example)
        packed: dict[str, Any] = {name: self._example.nodes[name]["packed"]["log_prob"] for name in self.density.names}
        return [name for name, log_prob in packed.items() if not set(log_prob._pyro_dims) & summed]

    def _likelihood_axes(self) -> dict[str, tuple[str, ...]]:
        if self._example is None:
            axes = {name: self._batches[name] for name in self.observed}
        else:
            axes = {name: plates for name, plates, _ in marginals(self._example, self.observed)}
        for name, kept in self.kept.items():
            if axes.get(name) == self._batches[name]:
                axes[name] = (f"{name}_kept",)
                if not bool(kept.any()):
                    del axes[name]
        return axes


def _value(site: Any) -> Tensor:
    value: Tensor = site["value"]
    return value.expand(shape_of(site))


def _log_prob(site: Any) -> Tensor:
    """Unscaled: a likelihood that is tempered in the program is read as it is."""
    found: Tensor = site["unscaled_log_prob"]
    return found


def _has_value(site: Site) -> bool:
    return type(site["fn"]).__name__ != "_Subsample"


def _kept(site: Site) -> Tensor | None:
    """Which elements of a site count, flat; `None` where all do."""
    mask = mask_of(site)
    if mask is None or (isinstance(mask, Tensor) and bool(mask.all())):
        return None
    return torch.as_tensor(mask, device=site["value"].device).expand(site["unscaled_log_prob"].shape).flatten()
