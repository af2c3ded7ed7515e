"""What an energy model makes of data, once its normaliser is known from both sides."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from inference.batches import as_data, batches
from inference.display import fragment
from inference.pair import first_tensor
from inference.partition import REACH, LogZ
from ppmodels.contracts import Batch, Data, Energy

__all__ = ["EnergyLikelihood", "energy_likelihood"]


@dataclass(frozen=True, eq=False)
class EnergyLikelihood:
    """log p(v) of data under an energy model, from both sides, in nats per datum.

    Attributes:
        unnormalised: minus the free energy of each datum, `(n,)`.
        log_z: the normaliser, which all data share.
    """

    unnormalised: Tensor
    log_z: LogZ

    def to_frame(self) -> pd.DataFrame:
        """A row for each side, or one for the exact value: the mean over data, its error over data, and of the draws.

        `low` and `high` allow for the draws' error alone, as far as the ends of `log_z` do.
        """
        mean, z = float(self.unnormalised.mean()), self.log_z
        se = float(self.unnormalised.std()) / math.sqrt(len(self.unnormalised))
        assert z.upper is not None  # or it would not have been made
        rows = [("exact", "exact", z.upper, 0.0)]
        if z.method != "exact":
            rows = [(z.method, "lower", z.upper, z.upper_se), (z.method, "upper", z.lower, z.lower_se)]
        table = [
            {"bound": how, "direction": side, "value": mean - at, "se": se, "mc_se": error}
            | {"low": mean - at - REACH * error, "high": mean - at + REACH * error}
            for how, side, at, error in rows
        ]
        return pd.DataFrame(table)

    def __str__(self) -> str:
        return self.to_frame().to_string(index=False, float_format=lambda value: f"{value:.3f}")

    def _repr_html_(self) -> str:
        return fragment(f"log p of {len(self.unnormalised)} data, nats per datum", self.to_frame())


@torch.no_grad()
def energy_likelihood(model: Energy, data: Data | Batch, log_z: LogZ, *, batch_size: int = 1000) -> EnergyLikelihood:
    """log p(v) = -F(v) - log Z of every datum.

    Raises:
        ValueError: if log Z is known from below alone, which would overstate every datum's.
    """
    log_z.check_both_sides()
    parts = [-model.free_energy(first_tensor(batch)).double() for batch in batches(as_data(data), batch_size)]
    return EnergyLikelihood(torch.cat(parts), log_z)
