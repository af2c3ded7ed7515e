"""What a notebook shows of each result: HTML that parses strictly, with its numbers, NaN among them, and no script."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pandas as pd
import pytest
import torch

import inference
from inference import (
    Bracket,
    Calibration,
    Collapse,
    Diagnosis,
    ExactLogLikelihood,
    Fitted,
    GradientSNR,
    Ladder,
    LogLikelihood,
    NeighbourErrors,
    PredictiveCheck,
    Run,
    cluster_scores,
    component_usage,
)
from inference.bracket import Row
from inference.diagnostics.units import ActiveUnits
from inference.diagnostics.verdicts import absent, judged
from inference.diffusion_bound import DiffusionBound
from inference.display import fragment, spread
from inference.energies import EnergyLikelihood
from inference.partition import LogZ
from inference.report import Judgement, Report, Verdict

EVIL = "<script>alert(1)</script>"
NAN = math.nan
THREE = torch.tensor([1.25, 2.25, 3.25])


def rung(label: str, direction: Any, shift: float = 0.0, error: float = 0.01) -> Row:
    value = THREE + shift
    errors = torch.full_like(value, error)
    return Row(label, label, direction, "expectation", 1, value, errors, value - errors, value + errors, 0.1)


def fitted(folder: Path) -> Fitted:
    metrics = pd.DataFrame({"step": range(50, 500, 50), "bound/loss": [NAN, *range(8, 0, -1)]})
    run = Run.create(folder / EVIL.replace("/", ""), manifest={})
    return Fitted(1234, 5.678, NAN, "patience", metrics, run, {EVIL: {"100": "replay"}})


def run(folder: Path) -> Run:
    found = Run.create(folder, manifest={"seed": 1234, "objective": EVIL})
    found.log({"step": 50, "loss": NAN})
    return found


def ladder(_: Path) -> Ladder:
    rows = rung(EVIL, "lower"), rung("EUBO", "upper", 1.0, NAN)
    return Ladder(rows, torch.full((3,), NAN), simulated=Ladder(rows[:1], torch.zeros(3)), notes=(EVIL,))


def diagnosis(_: Path) -> Diagnosis:
    worst = judged("R-hat", 1.01, np.array([1.0, 1234.5]), ["x", EVIL], worse="above", fail=EVIL, unknown="")
    return Diagnosis((worst, absent("BFMI", "no energies")), pd.DataFrame(), "MCMC")


def predictive(_: Path) -> PredictiveCheck:
    row = {"variable": "y", "statistic": EVIL, "observed": 12.345, "predicted": NAN, "sd": 1.0, "p_value": 0.0}
    return PredictiveCheck(pd.DataFrame([row | {"verdict": "fail"}]), 0.01)


def collapse(_: Path) -> Collapse:
    usage = component_usage(torch.tensor([[1.0, 0.0]]), name=EVIL)  # one datum: no standard error
    return Collapse({EVIL: usage}, ActiveUnits({EVIL: torch.tensor([0.0, 12.345])}, 0.01))


def gradients(_: Path) -> GradientSNR:
    columns = {"estimator": [EVIL], "K": [5], "part": ["decoder"], "snr": [12.345], "bias": [NAN]}
    return GradientSNR(pd.DataFrame(columns).set_index(["estimator", "K", "part"]), "IWAE", 200, "nothing")


NAN_GUIDE = Judgement("Guide", "bad", "k-hat is nan", "guide")

RESULTS: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "Fitted": (fitted, ["1,234 updates in 5.7 s, patience", "450", "1.000", "last 5 of 9"]),
    "LogLikelihood": (
        lambda _: LogLikelihood(10, THREE, THREE / 1000, torch.full((3,), NAN), torch.full((3,), 1234.5)),
        ["2.250 nats", "0.002250", "1,234", "3.250"],
    ),
    "Report": (
        lambda _: Report(
            Path("r.html"), ((EVIL, Verdict((Judgement("Guide", "bad", "k-hat is nan", "guide"),))),), 1.0
        ),
        ["red (r.html)", "Guide (bad): k-hat is nan"],
    ),
    "Ladder": (ladder, ["on 3 data and 3 simulated data", "2.250", "3.250", "EUBO"]),
    "Bracket": (
        lambda _: Bracket(rung(EVIL, "lower"), rung("EUBO", "upper", 1.0, NAN), 0.95, 2.0),
        ["2.250", "3.250", "EUBO"],
    ),
    "ActiveUnits": (
        lambda _: ActiveUnits({EVIL: torch.tensor([0.0, 12.345]), "y": torch.tensor([NAN])}, 0.01),
        ["1 of 3 units active", "12.3", "above 0.01"],
    ),
    "Collapse": (collapse, ["findings: 2", "1.000", "12.3"]),
    "ComponentUsage": (
        lambda _: component_usage(torch.tensor([[0.25, 0.75]]), name=EVIL),
        ["0.2500", "0.7500", "nan nats"],
    ),
    "ClusterScores": (
        lambda _: cluster_scores([0, 0, 1, 1, 2, 2], [5, 5, 3, 3, 3, 5], split="test", num_resamples=0),
        ["6 data (test), 3 clusters, 2 classes", "0.6667", "0.8333", "optimistic"],
    ),
    "ExactLogLikelihood": (
        lambda _: ExactLogLikelihood(1024, THREE, 0 * THREE, THREE / 100, torch.full((3,), NAN)),
        ["1024 states", "2.250", "0.02250"],
    ),
    "NeighbourErrors": (
        lambda _: NeighbourErrors(EVIL, 1500, 300, "test", {3: 0.125, 5: NAN}),
        ["300 data (test) by 1500", "0.1250", "0.01909"],
    ),
    "GradientSNR": (gradients, ["200 repeats", "12.3", "decoder"]),
    "Diagnosis": (diagnosis, ["fail: R-hat", "1,234", "1.010"]),
    "Calibration": (
        lambda _: Calibration({EVIL: np.arange(21)}, 20, about={"max_rhat": NAN}),
        ["ranks among 20 draws", "0.5000", "max rhat: nan"],
    ),
    "PredictiveCheck": (predictive, ["does not make such data", "12.3"]),
    "LogZ": (lambda _: LogZ(EVIL, 2.25, NAN, 3.25, 0.1, 1.0), ["1.000 apart", "2.250", "3.250"]),
    "EnergyLikelihood": (
        lambda _: EnergyLikelihood(THREE + 1, LogZ(EVIL, 1.0, 0.0, 3.0, NAN, 1.0)),
        ["log p of 3 data", "2.250", "0.2500"],
    ),
    "DiffusionBound": (
        lambda _: DiffusionBound(THREE, THREE, THREE[None], torch.tensor([NAN, 12.345]), 64),
        ["2.25 nats", "12.3", "T = 1"],
    ),
    "Run": (run, ["seed: 1234", "50"]),
}
NAMELESS = {
    "LogLikelihood",
    "ClusterScores",
    "ExactLogLikelihood",
    "DiffusionBound",
}  # nothing in them is named by a user


def text_of(html: str) -> str:
    """What is read, of HTML that is checked as part of a page."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    page = parser.parse(f"<!DOCTYPE html><title>t</title><div>{html}</div>")
    assert page.find(".//body//script") is None
    return " ".join(page.find("body").itertext())


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_shows_its_numbers(name: str, tmp_path: Path) -> None:
    make, numbers = RESULTS[name]
    html = make(tmp_path / "run")._repr_html_()
    assert "<script" not in html
    assert not re.search("color:(?!inherit)|background|class=|id=|<style", html)  # light and dark, and nothing leaks
    text = text_of(html)
    assert [number for number in numbers if number not in text] == []
    assert "nan" in text.lower()
    assert ("<script" in text) is (name not in NAMELESS)


def test_every_exported_result_has_one() -> None:
    for name in RESULTS:
        found = getattr(inference, name, None)
        assert found is None or callable(found._repr_html_)
    assert len([name for name in RESULTS if name in inference.__all__]) >= 14
    shown = {name for name in inference.__all__ if hasattr(getattr(inference, name), "_repr_html_")}
    assert shown <= set(RESULTS), "a result with HTML of its own needs its line in RESULTS"


def test_a_run_that_is_damaged_is_shown_as_that(tmp_path: Path) -> None:
    found = run(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    assert "restore it" in text_of(found._repr_html_())


def test_a_fit_without_a_folder_is_shown_too() -> None:
    found = Fitted(10, 0.5, None, "finished", pd.DataFrame(), None, {})
    assert text_of(found._repr_html_()) == "10 updates in 0.5 s, finished"


def test_long_tables_are_cut_and_say_so() -> None:
    frame = pd.DataFrame({"datum": range(10_000)})
    first, last = fragment("", frame), fragment("", frame, last=True)
    assert "the first 30 of 10,000 rows" in first
    assert "the last 30 of 10,000 rows" in last
    assert first.count("<tr>") == last.count("<tr>") == 31
    assert ">29<" in first
    assert ">9,999<" in last
    assert fragment("", frame, most=None).count("<tr>") == 10_001


def test_numbers_stand_to_the_right_and_text_to_the_left() -> None:
    html = fragment("head", pd.DataFrame({"a": [1.0, NAN], "b": ["x", "y"], "c": [True, False]}))
    assert re.findall(r"<t[hd] style=\"text-align:(\w+)\">", html) == ["right", "left", "left"] * 3


def test_an_index_with_names_is_shown() -> None:
    text = text_of(fragment("head", pd.DataFrame({"value": [0.5]}, index=pd.Index(["mu"], name="parameter"))))
    assert text.split() == ["head", "parameter", "value", "mu", "0.5000"]


def test_spreads_count_what_is_undefined() -> None:
    table = spread({"all": [NAN, NAN], "ends": [math.inf, -math.inf]}).set_index("of")
    assert table.loc["all", "undefined"] == 2
    assert math.isnan(table.loc["all", "median"])
    assert table.loc["ends", "largest"] == math.inf
