"""The form of a verdict: a row for each check, and all of them with the numbers of each parameter."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inference.display import fragment

__all__ = ["Check", "Diagnosis", "Verdict", "absent", "judged"]

Verdict: TypeAlias = Literal["pass", "fail", "unknown", "not applicable"]


@dataclass(frozen=True)
class Check:
    """One row of the verdict.

    Attributes:
        check: what was looked at.
        threshold: the limit; NaN where the check is not applicable.
        value: the worst number found.
        where: the element, chain or observation it was found at.
        count: how many fail or, where the verdict is "unknown", cannot be judged.
        of: how many were looked at.
        verdict: "pass", "fail", "unknown" or "not applicable".
        advice: what to do, in a sentence; empty where it passed.
    """

    check: str
    threshold: float
    value: float
    where: str
    count: int
    of: int
    verdict: Verdict
    advice: str = ""


def absent(check: str, advice: str, *, threshold: float = np.nan, verdict: Verdict = "not applicable") -> Check:
    """A row with no number in it."""
    return Check(check, threshold, np.nan, "", 0, 0, verdict, advice)


def judged(
    check: str,
    threshold: float,
    values: NDArray[np.float64],
    names: Sequence[str],
    *,
    worse: Literal["above", "below"],
    fail: str,
    unknown: str,
) -> Check:
    """A row for the worst of many numbers; NaN is unknown, and unknown is not a pass."""
    missing = np.isnan(values)
    bad = values > threshold if worse == "above" else values < threshold
    if bad.any() or (len(values) and not missing.any()):
        worst = int(np.nanargmax(values) if worse == "above" else np.nanargmin(values))
        verdict: Verdict = "fail" if bad.any() else "pass"
        advice = fail if bad.any() else ""
        return Check(check, threshold, float(values[worst]), names[worst], int(bad.sum()), len(values), verdict, advice)
    where = names[int(missing.argmax())] if len(values) else ""
    return Check(check, threshold, np.nan, where, int(missing.sum()), len(values), "unknown", unknown)


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The verdict on a posterior.

    Attributes:
        rows: the checks.
        parameters: a row for every scalar parameter: `mean`, `sd`, `mcse_mean`, `mcse_sd` and, of Markov chains,
            `ess_bulk`, `ess_tail`, `r_hat` and, of 16 or more, `r_hat_nested`; NaN where it is undefined.
        method: "MCMC", "VI" or "IS".
    """

    rows: tuple[Check, ...]
    parameters: pd.DataFrame
    method: str

    @property
    def passed(self) -> bool:
        """Whether no check fails and none is unknown."""
        return all(row.verdict in ("pass", "not applicable") for row in self.rows)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows; for the columns see `Check`."""
        return pd.DataFrame([asdict(row) for row in self.rows])

    def row(self, check: str) -> Check:
        """The first row of a name, such as `R-hat`."""
        for row in self.rows:
            if row.check == check:
                return row
        raise KeyError(f"`check` is {check!r}, expected one of {', '.join(row.check for row in self.rows)}")

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it: NaN is `None`, infinities are strings."""
        rows, table = self.frame.to_dict("records"), self.parameters.reset_index(names="name").to_dict("records")
        numbers = {"rows": [_plain(row) for row in rows], "parameters": [_plain(row) for row in table]}
        return {"method": self.method, "passed": self.passed, **numbers}

    def __str__(self) -> str:
        table = self.frame.drop(columns="advice").to_string(index=False, float_format=_short, na_rep="")
        return "\n".join([self._headline(), table, *self._advice()])

    def _repr_html_(self) -> str:
        return fragment(self._headline(), self.frame.drop(columns="advice"), self._advice(), most=None)

    def _headline(self) -> str:
        named = {v: ", ".join(dict.fromkeys(r.check for r in self.rows if r.verdict == v)) for v in ("fail", "unknown")}
        if self.passed:
            return f"passed ({self.method}): {sum(row.verdict == 'pass' for row in self.rows)} checks"
        said = (f"{verdict}: {which}" for verdict, which in named.items() if which)
        return f"not passed ({self.method}): {'; '.join(said)}"

    def _advice(self) -> Iterator[str]:
        by_advice: dict[str, list[str]] = {}
        for row in self.rows:
            if row.advice:
                by_advice.setdefault(row.advice, []).append(row.check)
        yield from (f"{', '.join(dict.fromkeys(names))}: {advice}" for advice, names in by_advice.items())


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.4g}"


def _plain(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """A row as JSON can hold it."""
    return {str(name): _finite(value) for name, value in row.items()}


def _finite(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(float(value))
