"""All that is known of one run, whatever of it there is: what verdicts and sections are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from inference.diagnostics import Calibration, Diagnosis, PredictiveCheck
from inference.ladder import Ladder
from inference.report.examination import Examination
from inference.report.outcome import KINDS, Outcome

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Evidence"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of one run; every part but the name may be missing.

    Attributes:
        name: what the run is called.
        manifest: what the run says of itself: `status` ("started", "finished", "diverged", "interrupted"), `versions`,
            `machine`, `command`, `seed`, `data`, `device`, `modes`, `seconds`, `stopped`, `validation`, `kind` where
            there is no guide, ...
        recipe: the TOML it was begun with.
        metrics: a row for each report of the training: `step`, `epoch`, `seconds`, `lr`, `loss`, `log_likelihood`,
            `kl_SITE`, `grad_norm`, `validation` (a score, nats per datum, higher is better).
        ladder: bounds with their values per datum.
        ladder_data: what the data that `ladder` was found on say of themselves; empty where that was not kept.
        bounds: the table of a ladder whose values per datum were not kept, as `Ladder.table`.
        examination: what running the pair on data has shown.
        outcome: what a model without a guide has shown.
        worst: draws by MCMC from the posterior of the latents of those data the guide does worst on, whose numbers are
            the coordinate of the plate; group `guide` holds the guide's draws of the same variables.
        posterior: draws of a posterior with what belongs to them, as `sample` and `to_datatree` give it.
        diagnosis: the verdict on `posterior`.
        worst_diagnosis: that on `worst`.
        predictive: the check of `posterior` against the data.
        sensitivity: of each parameter of `posterior` to scaling `prior` and `likelihood`, and `diagnosis`, in words.
        calibration: of the sampler or guide, by simulation.
        missing: what could not be read or reckoned, and why, by part.
    """

    name: str
    manifest: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    metrics: pd.DataFrame | None = None
    ladder: Ladder | None = None
    ladder_data: Mapping[str, Any] = field(default_factory=dict)
    bounds: pd.DataFrame | None = None
    examination: Examination | None = None
    outcome: Outcome | None = None
    worst: xr.DataTree | None = None
    posterior: xr.DataTree | None = None
    diagnosis: Diagnosis | None = None
    worst_diagnosis: Diagnosis | None = None
    predictive: PredictiveCheck | None = None
    sensitivity: pd.DataFrame | None = None
    calibration: Calibration | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str | None:
        """Of a model without a guide, "energy", "implicit" or "transition"; `None` for pairs and for posteriors."""
        said = self.manifest.get("kind") if self.outcome is None else self.outcome.kind
        return said if said in KINDS else None

    @property
    def is_pair(self) -> bool:
        """Whether it is about a model with a guide, not about one without, or about a posterior alone."""
        if self.kind is not None:
            return False
        if any(part is not None for part in (self.metrics, self.ladder, self.bounds, self.examination)):
            return True
        return bool(self.manifest) and self.posterior is None and self.manifest.get("kind") != "posterior"
