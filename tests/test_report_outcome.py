"""The report on models without a guide: what is kept of them, how it is drawn, judged and told; no model is trained."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.datasets import load_digits

from inference.energies import EnergyLikelihood
from inference.partition import LogZ
from inference.report import Evidence, read_evidence, report
from inference.report.blocks import Picture, Text
from inference.report.figures import (
    classes_figure,
    filters_figure,
    free_energies_figure,
    loss_figure,
    per_step_figure,
    scatter_figure,
    strips_figure,
)
from inference.report.glossary import TERMS, glossary
from inference.report.judging import judge
from inference.report.outcome import KINDS, Drawn, Outcome, load_outcome, save_outcome
from inference.report.sections import PARTS, comparison, sections_of
from inference.report.svg import inline_svg
from inference.report.verdict import Judgement, Verdict
from inference.samples.labels import LabelStatistics
from tests import report_runs

N, C, S = 400, 10, 1000
X = load_digits().data / 16

OBJECTIVES = {
    "energy": "PersistentContrastiveDivergence(k=1, num_chains=None, centre=0.0)",
    "implicit": "Adversarial(loss='non_saturating', smoothing=0.0, every=1)",
    "transition": "Denoising(weighting='bound', stratified=True)",
}

SECTIONS = {"training", "density", "drawn", "draws", "provenance"}

OF_PAIRS = re.compile(r"\bpairs?\b|\bguide'?s\b|\bposterior\b|examine\(?`|\bk-hat\b|compare_bounds|bdmc|\blatents?\b")
"""What a page on a model without a guide has no use for."""


# -- made by hand --------------------------------------------------------------------------------------------


def likelihood(log_z: LogZ, mean: float = -18.0) -> pd.DataFrame:
    """What `EnergyLikelihood` says of data whose log p would be `mean` on average if log Z were 40."""
    log_p = torch.from_numpy(np.random.default_rng(0).normal(mean + 40, 3, N))
    return EnergyLikelihood(log_p, log_z).to_frame()


EXACT = LogZ("exact", 40.0, 0.0, 40.0, 0.0, 1.0)


def annealed(gap: float, se: float = 0.05) -> LogZ:
    return LogZ("AIS-1000x100", 40.0, se, 40.0 + gap, se, 1.0)


def bound(mean: float = -30.0, se: float = 0.2, mc_se: float = math.nan) -> pd.DataFrame:
    row = {"bound": "K", "direction": "lower", "value": mean, "se": se, "mc_se": mc_se, "low": mean, "high": mean}
    return pd.DataFrame([row])


def energies(train: float = -22.0, test: float = -22.0, samples: float = -22.0, sd: float = 3.0) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    sets = {"train": train, "test": test, "samples": samples}
    parts = [pd.DataFrame({"set": name, "free_energy": rng.normal(mean, sd, N)}) for name, mean in sets.items()]
    return pd.concat(parts, ignore_index=True)


def labels(counts: Any = (100,) * C, data: Any = (0.1,) * C) -> pd.DataFrame:
    counts, data = np.asarray(counts), np.asarray(data)
    found = LabelStatistics(np.arange(len(counts)), counts, np.round(1000 * data).astype(int), 0.9, 0.01, 0.97)
    return found.to_histogram()


def measures(
    nearer: float = 0.5, se: float = 0.01, parzen: float = 210.0, precision: float = 0.8, recall: float = 0.7
) -> pd.DataFrame:
    rows = [
        ("Parzen log density, nats", parzen, 2.0, 243.0, "243.0 of real training data, 335.0 of k-means centroids"),
        ("MMD^2", 0.001, 0.0005, 0.0, "0 if the laws are the same: p = 0.2"),
        ("precision", precision, 0.01, 0.9, "0.900 of real training data"),
        ("recall", recall, 0.01, 0.9, "0.900 of real training data"),
        ("nearer to training data", nearer, se, 0.5, "0.5 of new data: p = 0.5 for more"),
        ("total variation of labels", 0.04, 0.015, 0.04, "0.040 by chance"),
    ]
    return pd.DataFrame(rows, columns=["measure", "value", "se", "mark", "compared with"])


def drawn(kind: str, shape: tuple[int, ...] = (8, 8)) -> Drawn:
    d, rng = math.prod(shape), np.random.default_rng(2)
    rows = X if d == 64 else rng.normal(size=(200, d))
    steps = 0 if kind == "implicit" else 5
    at = [] if not steps else [1000, 500, 100, 1, 0] if kind == "transition" else [1, 5, 30, 200, 1000]
    return Drawn(
        shape=shape,
        samples=rows[:40] + 0.01,
        nearest=rows[:40],
        data=rows[40:100],
        states=np.stack([rows[i : i + 3] for i in range(steps)]) if steps else np.zeros((0, 3, d)),
        at=np.array(at, dtype=np.int64),
        filters=rng.normal(size=(12, d)) if kind == "energy" else np.zeros((0, 1)),
    )


def steps(T: int = 20) -> pd.DataFrame:
    return pd.DataFrame({"t": range(1, T + 2), "nats": [-4.0, *(-20 / np.arange(2, T + 1) ** 2), -0.01]})


def outcome(kind: str, **parts: Any) -> Outcome:
    """One that is well."""
    found: dict[str, Any] = {
        "kind": kind,
        "data": {"name": "digits", "split": "test", "protocol": "dynamic", "n": N, "sha256": "2d" * 32},
        "step": 2000,
        "samples": measures(),
        "labels": labels(),
        "drawn": drawn(kind),
        "seconds": 3.5,
    }
    if kind == "energy":
        log_z = annealed(0.2)
        found |= {"likelihood": likelihood(log_z), "train": likelihood(log_z), "energies": energies()}
        found |= {"notes": (str(log_z),)}
    if kind == "transition":
        found |= {"likelihood": bound(), "train": bound(-29.9), "per_step": steps(), "null": -44.4}
    return Outcome(**{**found, **parts})


def metrics(kind: str) -> pd.DataFrame:
    """Reports of losses that come to rest, or of a game's and a contrast's, which go up and down."""
    rng, t = np.random.default_rng(3), np.arange(40.0)
    frame = pd.DataFrame({"step": 50 * (t + 1), "seconds": t, "lr": 1e-3})
    if kind == "implicit":
        return frame.assign(**{f"{who}/loss": rng.normal(1 + t / 20, 0.01) for who in ("discriminator", "generator")})
    course = t / 10 if kind == "energy" else 30 + 60 * np.exp(-t / 4)
    return frame.assign(loss=course + rng.normal(0, 0.1, 40), grad_norm=rng.gamma(3, 1, 40))


def run(kind: str, *, objective: str | None = None, status: str = "finished", **parts: Any) -> Evidence:
    """A run that is well, with other parts of its outcome, or of its evidence."""
    of_outcome = {one.name for one in fields(Outcome)}
    found = outcome(kind, **{name: part for name, part in parts.items() if name in of_outcome})
    manifest = {**report_runs.MANIFEST, "kind": kind, "objective": objective or OBJECTIVES[kind], "status": status}
    beside = {name: part for name, part in parts.items() if name not in of_outcome}
    return Evidence(f"a-{kind}", **{"manifest": manifest, "metrics": metrics(kind), "outcome": found, **beside})


def every(verdict: Verdict) -> tuple[Judgement, ...]:
    return (*verdict.judgements, *verdict.others)


def about(evidence: Evidence, topic: str) -> Judgement:
    """One judgement of a verdict that is whole, and points at sections that exist."""
    found = judge(evidence)
    assert [one.topic for one in found.judgements] == ["Convergence", "Guide", "Bracket"]
    for one in every(found):
        assert one.section in SECTIONS, one
        assert one.sentence.endswith(".")
        assert "could not be judged" not in one.sentence, one.sentence
    return next(one for one in every(found) if one.topic == topic)


def state(evidence: Evidence, topic: str) -> str:
    return about(evidence, topic).state


KIND = pytest.mark.parametrize("kind", KINDS)


# -- kept ----------------------------------------------------------------------------------------------------


@KIND
def test_what_is_saved_is_read_again(kind: str, tmp_path: Path) -> None:
    kept = outcome(kind, missing={"classes": "there are no labels"}, notes=("one", "two"))
    save_outcome(kept, tmp_path)
    found = load_outcome(tmp_path)
    for name in ("likelihood", "train", "energies", "per_step", "samples", "labels"):
        before, after = getattr(kept, name), getattr(found, name)
        assert (before is None) == (after is None), name
        if before is not None:
            pd.testing.assert_frame_equal(after, before, check_index_type=False, check_names=False)
    for name in ("kind", "data", "step", "notes", "missing", "seconds"):
        assert getattr(found, name) == getattr(kept, name)
    np.testing.assert_equal(found.null, kept.null)
    assert found.drawn is not None
    assert kept.drawn is not None
    for one in fields(Drawn):
        np.testing.assert_array_equal(getattr(found.drawn, one.name), getattr(kept.drawn, one.name))
    assert found.drawn.at.dtype == np.int64
    assert found.drawn.are_images


def test_an_outcome_of_nothing_is_read_again(tmp_path: Path) -> None:
    save_outcome(Outcome("implicit"), tmp_path)
    found = load_outcome(tmp_path)
    assert [one.name for one in fields(Outcome) if getattr(found, one.name) is not None and one.name != "null"] == [
        "kind",
        "data",
        "step",
        "notes",
        "seconds",
        "missing",
    ]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="`kind` is 'directed', expected one of 'energy', 'implicit', 'transition'"):
        Outcome("directed")


@pytest.mark.parametrize("damage", ["cut", "text", "other tree"])
def test_a_damaged_outcome_is_named(tmp_path: Path, damage: str) -> None:
    path = save_outcome(outcome("energy"), tmp_path)
    (tmp_path / "manifest.json").write_text('{"status": "finished", "kind": "energy"}')
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("no tree")
    else:
        import xarray as xr

        xr.DataTree.from_dict({"posterior": xr.Dataset({"mu": ("draw", [1.0])})}).to_netcdf(path, engine="h5netcdf")
    found = read_evidence(tmp_path)
    assert found.outcome is None
    assert list(found.missing) == ["outcome"]
    assert (found.kind, found.is_pair) == ("energy", False)
    lost = about(found, "Missing")
    assert lost.state == "doubt"
    assert lost.sentence.startswith("The outcome could not be had: ")
    assert (state(found, "Bracket"), judge(found).colour) == ("absent", "amber")
    html = report(found, tmp_path / "report.html").path.read_text()
    assert "The outcome could not be had" in html


def test_a_folder_with_an_outcome_alone_has_a_report(tmp_path: Path) -> None:
    save_outcome(outcome("transition"), tmp_path)
    found = read_evidence(tmp_path)
    assert (found.kind, found.is_pair, found.missing) == ("transition", False, {})
    assert state(found, "Convergence") == "absent"


def test_the_kind_is_known_by_manifest_or_outcome() -> None:
    assert Evidence("a", {"kind": "implicit"}).kind == "implicit"
    assert Evidence("a", {"kind": "implicit"}, outcome=Outcome("energy")).kind == "energy"
    for manifest in ({}, {"kind": "posterior"}, {"kind": None}, {"kind": "directed"}):
        assert Evidence("a", manifest).kind is None
    assert Evidence("a", {"kind": "posterior"}).is_pair is False
    assert Evidence("a", {}, metrics=metrics("energy")).is_pair is True
    assert Evidence("a", {"kind": "energy"}, metrics=metrics("energy")).is_pair is False


# -- convergence ---------------------------------------------------------------------------------------------


def test_a_bound_that_stands_still_has_converged_and_one_that_falls_has_not() -> None:
    assert state(run("transition"), "Convergence") == "good"
    falling = metrics("transition").assign(loss=np.linspace(90, 30, 40))
    found = about(run("transition", metrics=falling), "Convergence")
    assert (found.state, "still falling" in found.sentence) == ("doubt", True)


def test_an_exact_likelihood_is_judged_as_a_loss_and_a_contrast_is_not() -> None:
    falling = metrics("transition").assign(loss=np.linspace(90, 30, 40))
    exact = about(run("energy", objective="ExactLikelihood(most_bits=20)", metrics=falling), "Convergence")
    assert (exact.state, "still falling" in exact.sentence) == ("doubt", True)
    still = run("energy", objective="ExactLikelihood(most_bits=20)", metrics=metrics("transition"))
    assert state(still, "Convergence") == "good"
    for objective in ("ContrastiveDivergence(k=1)", "PersistentContrastiveDivergence(k=5)"):
        for frame in (falling, metrics("energy")):
            found = about(run("energy", objective=objective, metrics=frame), "Convergence")
            assert found.state == "not applicable"
            assert "A contrast of free energies is no bound" in found.sentence
    found = about(run("energy", objective="BoltzmannLearning(sweeps=1, clamped=10, num_chains=None)"), "Convergence")
    assert (found.state, "A contrast of energies is no bound" in found.sentence) == ("not applicable", True)


def test_the_losses_of_a_game_are_no_measure() -> None:
    found = about(run("implicit"), "Convergence")
    assert found.state == "not applicable"
    assert "no measure of progress (`discriminator/loss` " in found.sentence
    assert "rising" not in found.sentence


@KIND
def test_what_broke_or_stopped_is_told_of_every_kind(kind: str) -> None:
    assert state(run(kind, status="diverged"), "Convergence") == "bad"
    assert state(run(kind, status="interrupted"), "Convergence") == "doubt"
    assert state(run(kind, metrics=None), "Convergence") == "absent"
    frame = metrics(kind)
    loss = next(name for name in frame if name.endswith("loss"))
    broken = frame.copy()
    broken.loc[39, loss] = np.inf
    assert state(run(kind, metrics=broken), "Convergence") == "bad"
    broken = frame.copy()
    broken.loc[20, loss] = np.inf
    found = about(run(kind, metrics=broken), "Convergence")
    assert (found.state, f"`{loss}` is not finite in 1 of 40 reports" in found.sentence) == ("doubt", True)


def test_of_an_unknown_objective_nothing_is_known() -> None:
    found = about(run("energy", objective="ScoreMatching()"), "Convergence")
    assert (found.state, "a loss of `ScoreMatching` should fall is not known" in found.sentence) == ("doubt", True)


# -- guide and bracket ---------------------------------------------------------------------------------------


@KIND
def test_there_is_no_guide(kind: str) -> None:
    found = about(run(kind), "Guide")
    assert (found.state, "there is none" in found.sentence) == ("not applicable", True)
    topics = {one.topic for one in every(judge(run(kind)))}
    assert topics == {"Convergence", "Guide", "Bracket", "Overfitting", "Samples"}


def test_what_is_exact_is_green() -> None:
    table = likelihood(EXACT)
    found = about(run("energy", likelihood=table, train=table), "Bracket")
    assert found.state == "good"
    value, se = table[["value", "se"]].iloc[0]
    assert f"exactly, {value:.2f} nats (s.e. {se:.2f})" in found.sentence
    assert state(run("energy", likelihood=table.assign(value=np.nan)), "Bracket") == "doubt"


@pytest.mark.parametrize(("gap", "how"), [(0.2, "good"), (0.7, "good"), (0.9, "doubt"), (4.0, "doubt"), (5.0, "bad")])
def test_the_width_of_a_bracket_has_both_errors_in_it(gap: float, how: str) -> None:
    width = gap + 2 * 2.241403 * 0.05  # 0.22 of it are errors
    found = about(run("energy", likelihood=likelihood(annealed(gap))), "Bracket")
    assert found.state == how
    assert f"{width:.4g} nats wide" in found.sentence


def test_ends_that_cross_beyond_their_errors_contradict_each_other() -> None:
    assert state(run("energy", likelihood=likelihood(annealed(-0.2))), "Bracket") == "good"  # by less than both errors
    found = about(run("energy", likelihood=likelihood(annealed(-0.3))), "Bracket")
    assert (found.state, "contradict each other" in found.sentence) == ("bad", True)


def test_ends_without_errors_are_doubtful() -> None:
    unknown = likelihood(annealed(0.2, se=math.nan))
    assert state(run("energy", likelihood=unknown), "Bracket") == "doubt"
    found = about(run("energy", likelihood=likelihood(annealed(0.2)).drop(columns="low")), "Bracket")
    assert (found.state, "has no `low`" in found.sentence) == ("doubt", True)


def test_a_chain_is_bounded_from_below_alone() -> None:
    found = about(run("transition"), "Bracket")
    assert found.state == "doubt"
    assert "bounded from below only, -30.00 nats (s.e. 0.20) over data by `K`; nothing is known from above" in (
        found.sentence
    )
    assert "-30.000 (s.e. 0.050)" in about(run("transition", likelihood=bound(mc_se=0.05)), "Bracket").sentence
    assert state(run("transition", likelihood=bound(math.nan)), "Bracket") == "doubt"


def test_a_sampler_has_no_density_and_what_was_not_evaluated_is_absent() -> None:
    assert state(run("implicit"), "Bracket") == "not applicable"
    for kind in ("energy", "transition"):
        assert state(run(kind, likelihood=None), "Bracket") == "absent"
        assert state(replace(run(kind), outcome=None), "Bracket") == "absent"
    assert state(replace(run("implicit"), outcome=None), "Overfitting") == "absent"


# -- overfitting ---------------------------------------------------------------------------------------------


def test_free_energies_of_training_data_tell_of_overfitting() -> None:
    table = energies(train=-22, test=-20)
    found = about(run("energy", energies=table), "Overfitting")
    ours, theirs = (table[table["set"] == name]["free_energy"] for name in ("train", "test"))
    gap, error = theirs.mean() - ours.mean(), math.hypot(ours.sem(), theirs.sem())  # log p is -F less a constant
    assert f"log p(x) is {gap:.2f} nats (s.e. {error:.2f}) higher on training data" in found.sentence
    assert (found.state, found.section) == ("bad", "density")
    assert "The model overfits" in found.sentence
    assert state(run("energy", energies=energies(train=-22.9, test=-22)), "Overfitting") == "doubt"
    assert state(run("energy", energies=energies()), "Overfitting") == "good"
    assert state(run("energy", energies=energies(train=-20, test=-22)), "Overfitting") == "good"  # the other way
    broken = energies()
    broken.loc[3, "free_energy"] = np.inf
    assert state(run("energy", energies=broken), "Overfitting") == "doubt"


def test_log_z_cancels_between_training_data_and_others() -> None:
    """Of the same energies under any log Z at all the same is said."""
    said = {
        about(run("energy", likelihood=likelihood(z), train=likelihood(z)), "Overfitting").sentence
        for z in (EXACT, annealed(0.2), annealed(30.0))
    }
    assert len(said) == 1
    without = {"energies": None, "likelihood": likelihood(annealed(0.5)), "train": likelihood(annealed(0.5), -16.0)}
    found = about(run("energy", **without), "Overfitting")  # by means, where single energies were not kept
    assert (found.state, "2.00 nats" in found.sentence) == ("bad", True)


def test_the_bound_of_training_data_tells_of_overfitting() -> None:
    sd = 0.2 * math.sqrt(N)  # 4 nats
    for gap, how in ((0.1, "good"), (0.3 * sd, "doubt"), (0.6 * sd, "bad"), (-1.0, "good")):
        found = about(run("transition", train=bound(-30 + gap)), "Overfitting")
        assert found.state == how, found
        assert f"log p(x) is {abs(gap):.2f} nats (s.e. 0.28)" in found.sentence
    assert state(run("transition", train=bound(math.nan)), "Overfitting") == "doubt"
    assert state(run("transition", data={}), "Overfitting") == "doubt"
    assert state(run("transition", train=None), "Overfitting") == "absent"


def test_a_validation_score_that_falls_again_is_told() -> None:
    score = np.r_[np.linspace(-90, -30, 20), np.linspace(-30, -80, 20)]
    found = about(run("transition", metrics=metrics("transition").assign(validation=score)), "Overfitting")
    assert (found.state, found.section) == ("bad", "training")
    assert "no better explained" in found.sentence


def test_copies_of_training_data_are_told_by_their_distance() -> None:
    for value, how in ((0.5, "good"), (0.53, "good"), (0.6, "good"), (0.7, "doubt"), (0.97, "bad"), (0.2, "good")):
        found = about(run("implicit", samples=measures(nearer=value)), "Overfitting")
        assert (found.state, found.section) == (how, "draws"), value
        assert f"probability {value:.3f} (s.e. 0.010)" in found.sentence
        assert ("copies, or too tame" in found.sentence) == (how in ("doubt", "bad"))
        assert ("off the data" in found.sentence) == (value == 0.2)
    assert state(run("implicit", samples=measures(nearer=0.97, se=0.2)), "Overfitting") == "doubt"
    assert state(run("implicit", samples=measures(nearer=0.68, se=0.048)), "Overfitting") == "good"  # by chance
    assert state(run("implicit", samples=measures(nearer=0.70, se=0.048)), "Overfitting") == "doubt"
    assert state(run("implicit", samples=measures(nearer=math.nan)), "Overfitting") == "doubt"
    assert state(run("implicit", samples=None), "Overfitting") == "absent"


# -- samples -------------------------------------------------------------------------------------------------


def test_classes_that_are_missing_are_named() -> None:
    assert state(run("implicit"), "Samples") == "good"
    one = about(run("implicit", labels=labels([111] * 9 + [0])), "Samples")
    assert (one.state, "1 of 10 classes (`9`), 10.0 % of the data" in one.sentence) == ("doubt", True)
    two = about(run("implicit", labels=labels([125] * 8 + [0, 0])), "Samples")
    assert (two.state, "2 of 10 classes (`8`, `9`), 20.0 % of the data" in two.sentence) == ("bad", True)


def test_a_rare_class_may_be_missing_and_few_draws_say_nothing() -> None:
    rare = labels([111] * 9 + [0], [0.108] * 9 + [0.028])  # of 1,000 draws 28 should be of it, but it is rare
    assert state(run("implicit", labels=rare), "Samples") == "good"
    few = about(run("implicit", labels=labels([3] * 9 + [0])), "Samples")
    assert 0.9**27 > 0.001  # by chance
    assert (few.state, "27 draws are too few" in few.sentence) == ("doubt", True)


def test_classes_that_come_too_often_are_told() -> None:
    for first, how in ((150, "good"), (400, "doubt"), (600, "bad")):
        rest = (S - first) // 9
        found = about(run("implicit", labels=labels([first, *[rest] * 9])), "Samples")
        counts = np.array([first, *[rest] * 9])
        distance = abs(counts / counts.sum() - 0.1).sum() / 2
        assert found.state == how
        assert f"total variation {distance:.3f} (s.e. 0.015)" in found.sentence


def test_chance_is_as_it_would_be_by_simulation() -> None:
    """Draws of the data's own classes are as far apart on average as the sentence says; false alarm below 1e-4."""
    rng = np.random.default_rng(0)
    far = abs(rng.multinomial(S, [0.1] * C, 2000) / S - 0.1).sum(1) / 2
    said = about(run("implicit"), "Samples").sentence
    chance = float(re.search(r"([\d.]+) by chance", said)[1])  # type: ignore[index]
    assert abs(far.mean() - chance) <= 4 * stats.sem(far) + 5e-4  # it is a normal approximation, rounded


def test_parzen_windows_are_told_and_not_judged() -> None:
    for parzen in (-1e6, 400.0):
        found = about(run("implicit", samples=measures(parzen=parzen)), "Samples")
        assert found.state == "good"
        assert "Told, and not judged: Parzen windows, which reward copies," in found.sentence
        assert "against 243.0 of real training data, 335.0 of k-means centroids" in found.sentence


def test_without_labels_or_draws_nothing_is_good() -> None:
    alone = measures()[lambda table: ~table["measure"].isin(["precision", "recall"])]
    assert state(run("energy", labels=None, samples=alone), "Samples") == "not applicable"
    assert state(run("energy", labels=None, samples=None), "Samples") == "absent"
    assert state(run("energy", labels=labels().assign(samples=0)), "Samples") == "doubt"
    assert judge(run("energy")).colour == "green"
    for part in ("samples", "energies", "likelihood"):
        parts = {part: None} | ({"labels": None} if part == "samples" else {})
        parts |= {"train": None} if part == "energies" else {}
        assert judge(run("energy", **parts)).colour == "amber", part


def test_what_is_not_finite_is_named() -> None:
    assert not [one for one in every(judge(run("energy"))) if one.topic == "Numbers"]
    of = drawn("energy")
    of.samples[0, 0] = np.nan
    found = about(run("energy", drawn=of), "Numbers")
    assert (found.state, "(`samples`)" in found.sentence) == ("doubt", True)


def test_what_could_not_be_found_out_is_missing() -> None:
    found = about(run("energy", missing={"log Z": "it ran out of memory"}), "Missing")
    assert found.sentence == "The log Z could not be had: it ran out of memory."


# -- figures -------------------------------------------------------------------------------------------------


def test_weights_are_scaled_to_their_own_largest() -> None:
    weights = np.array([[1.0, -2.0, 0.0, 0.5], [0.01, 0.0, 0.0, -0.01], [0.0, 0.0, 0.0, 0.0]])
    image = np.asarray(filters_figure(weights, (2, 2), columns=3).axes[0].images[0].get_array())
    grey = [image[:2, 3 * k : 3 * k + 2, 0].ravel().tolist() for k in range(3)]
    assert grey[0] == [64, 255, 128, 96]  # 1 is half of 2: 255 * (1 - 0.75)
    assert grey[1] == [0, 128, 128, 255]
    assert grey[2] == [128] * 4
    assert filters_figure(np.zeros((0, 1)), (2, 2)).axes[0].texts[0].get_text() == "no data"


def test_states_have_their_steps_above_the_first_row() -> None:
    of = drawn("transition")
    axes = strips_figure(of.states.transpose(1, 0, 2), of.shape, labels=[str(t) for t in of.at]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1000", "500", "100", "1", "0"]
    image = np.asarray(axes.images[0].get_array())
    top = image.shape[0] - 3 * 9
    for chain in range(3):
        for step in range(5):
            cell = image[top + 9 * chain : top + 9 * chain + 8, 9 * step : 9 * step + 8, 0]
            np.testing.assert_array_equal(cell.ravel(), np.rint(255 * (1 - of.states[step, chain])))
    assert not strips_figure(of.states, of.shape).axes[0].texts


def test_a_page_has_chains_in_rows_and_steps_in_columns() -> None:
    found = run("transition")
    section = next(one for one in sections_of(found, judge(found)) if one.id == "drawn")
    ways = next(one for one in section.blocks if isinstance(one, Picture) and "steps that are left" in one.alt)
    assert ways.alt == "3 chains at 5 places, from 1000 to 0 steps that are left."
    figure = ways.figure()
    assert figure.axes[0].images[0].get_array().shape[1] == 5 * 9  # type: ignore[union-attr]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1000", "500", "100", "1", "0"]


def test_energies_have_bins_in_common_and_shares_that_add_up() -> None:
    table = energies(samples=-25)
    axes = free_energies_figure(table).axes[0]
    found = [patch.get_data() for patch in axes.patches]
    assert len(found) == 3
    for name, one in zip(("train", "test", "samples"), found, strict=True):
        values = table[table["set"] == name]["free_energy"]
        np.testing.assert_array_equal(one.edges, found[0].edges)
        np.testing.assert_allclose(one[0], np.histogram(values, one.edges)[0] / N)
        assert one[0].sum() == pytest.approx(1)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"{n} (400)" for n in table["set"].unique()]


def test_wild_and_infinite_energies_leave_the_bins_narrow() -> None:
    table = energies()
    table.loc[[0, 500], "free_energy"] = 1e9, np.inf
    axes = free_energies_figure(table).axes[0]
    assert np.ptp(axes.patches[0].get_data().edges) < 50
    assert axes.get_xlabel() == "free energy, nats; 1 not finite; 1 beyond the bins"
    same, *_ = free_energies_figure(table.assign(free_energy=-7.0)).axes[0].patches[0].get_data()
    assert same.sum() == 1
    assert free_energies_figure(table[:0]).axes[0].texts[0].get_text() == "nothing finite to draw"


def test_costs_are_minus_the_terms_and_may_be_below_zero() -> None:
    table = pd.DataFrame({"t": [1, 2, 3, 4], "nats": [2.0, -3.0, -1.0, 0.5]})
    axes = per_step_figure(table).axes[0]
    bars = {round(bar.get_x() + bar.get_width() / 2): bar for bar in axes.patches}
    assert {t: bar.get_height() for t, bar in bars.items()} == {1: -2, 2: 3, 3: 1, 4: -0.5}
    assert bars[1].get_facecolor() != bars[2].get_facecolor()
    assert axes.get_yscale() == "linear"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["taken from the bound", "added to it"]


def test_costs_that_span_decades_have_a_logarithmic_axis_either_side() -> None:
    t = np.arange(1, 102)
    nats = -20.0 / t**2.0
    nats[50] = 0.3
    axes = per_step_figure(pd.DataFrame({"t": t, "nats": nats})).axes[0]
    assert axes.get_yscale() == "symlog"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "0.01", "0.1", "1", "10", "-0.01", "-0.1"]
    assert sum(bar.get_height() for bar in axes.patches) == pytest.approx(-nats.sum())
    nats[3] = np.nan
    assert "1 not finite" in per_step_figure(pd.DataFrame({"t": t, "nats": nats})).axes[0].get_xlabel()
    assert per_step_figure(pd.DataFrame({"t": [1], "nats": [0.0]})).axes[0].get_yscale() == "linear"


def test_classes_stand_beside_those_of_the_data_with_two_errors() -> None:
    axes = classes_figure(labels([190, 10, *[100] * 8])).axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, [0.19, 0.01, *[0.1] * 8, *[0.1] * C])
    (bars,) = axes.collections
    low, high = bars.get_segments()[0][:, 1]
    assert high - low == pytest.approx(4 * math.sqrt(0.19 * 0.81 / S))


def test_points_have_axes_in_common() -> None:
    samples, data = np.array([[0.0, 1.0], [np.nan, 2.0]]), np.array([[5.0, -5.0], [1.0, 1.0]])
    left, right = scatter_figure(samples, data).axes
    np.testing.assert_array_equal(left.lines[0].get_xydata(), samples[:1])
    np.testing.assert_array_equal(right.lines[0].get_xydata(), data)
    assert (left.get_xlim(), left.get_ylim()) == (right.get_xlim(), right.get_ylim())
    assert left.get_title(loc="left") == "1 samples; 1 not finite"
    assert left.get_xlim()[1] > 5


def test_losses_of_phases_are_curves_and_what_was_not_reported_is_no_fault() -> None:
    frame = metrics("implicit")
    frame.loc[::2, "generator/loss"] = np.nan
    axes = loss_figure(frame, unit="loss").axes[0]
    assert [line.get_label() for line in axes.lines] == ["discriminator/loss", "generator/loss"]
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), frame["generator/loss"].dropna())
    assert axes.get_ylabel() == "loss"


def test_figures_take_the_colours_of_the_page() -> None:
    figures = [free_energies_figure(energies()), per_step_figure(steps()), classes_figure(labels())]
    for figure in [*figures, scatter_figure(np.zeros((3, 2)), np.ones((3, 2)))]:
        svg = inline_svg(figure, prefix="f", title="t")
        assert "var(--c0)" in svg
        assert "var(--ink)" in svg
        assert not re.search(r"#0072b2|#1b1f24", svg, re.IGNORECASE)


# -- pages ---------------------------------------------------------------------------------------------------

SHOWN: Mapping[str, tuple[str, ...]] = {
    "energy": ("log Z in [", "at least -18", "and at most -1", "hidden units", "sweeps of Gibbs", "Free energies"),
    "implicit": ("it has no density", "discriminator/loss", "0.5 of new data: p = 0.5 for more"),
    "transition": ("14.4 nats, or 20.77 bits", "steps that are left", "21 steps, ", "at least -30.00 nats (s.e. 0.20)"),
}


def page(evidence: Evidence, path: Path) -> str:
    html = report(evidence, path / "report.html").path.read_text()
    html5lib.HTMLParser(strict=True).parse(re.sub(r'(type="application/json"[^>]*>).*?(</script>)', r"\1\2", html))
    assert "could not be made" not in html
    assert "could not be judged" not in html
    return html


def own_words(html: str) -> str:
    """What a page says of the run: neither scripts and styles nor the glossary, which is the same for all."""
    html = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", html, flags=re.DOTALL)
    html = html[: html.index('id="glossary"')] if 'id="glossary"' in html else html
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


@KIND
def test_a_page_has_what_belongs_to_the_kind_and_nothing_of_pairs(kind: str, tmp_path: Path) -> None:
    html = page(run(kind), tmp_path)
    assert [name for name in re.findall(r'<section[^>]* id="([^"]+)"', html) if name in PARTS] == [
        "training",
        "density",
        "drawn",
        "draws",
        "provenance",
    ]
    said = own_words(html)
    for words in ("Samples of the model", "their nearest training data", "Shares of 10 classes", *SHOWN[kind]):
        assert words in html, words
    assert OF_PAIRS.findall(said) == []
    assert html.count("<figure") == len(re.findall(r"<svg[^>]*role=\"img\"", html))


@KIND
def test_a_page_on_a_run_that_was_not_evaluated_says_so(kind: str, tmp_path: Path) -> None:
    html = page(replace(run(kind), outcome=None), tmp_path)
    assert OF_PAIRS.findall(own_words(html)) == []
    assert "was not examined" not in html
    assert "no draws were judged" in html or "nothing was drawn" in html
    bare = page(Evidence("bare", {"status": "finished", "kind": kind}), tmp_path)
    assert OF_PAIRS.findall(own_words(bare)) == []


@pytest.mark.parametrize("shape", [(2,), (6,), (1,)])
def test_data_that_are_no_images_are_points_or_moments(shape: tuple[int, ...], tmp_path: Path) -> None:
    found = run("transition", drawn=drawn("transition", shape))
    html = page(found, tmp_path)
    assert ("held-out data as points" in html) == (shape == (2,))
    assert "The data are no images" in html
    section = next(one for one in sections_of(found, judge(found)) if one.id == "drawn")
    table = next(block.frame for block in section.blocks if hasattr(block, "frame"))
    assert found.outcome is not None
    assert found.outcome.drawn is not None
    np.testing.assert_allclose(table["mean, samples"], found.outcome.drawn.samples.mean(0))
    np.testing.assert_allclose(table["se, data"], stats.sem(found.outcome.drawn.data))


@pytest.mark.parametrize(
    ("kind", "null", "said"),
    [
        ("transition", -44.4, "at least 14.4 nats, or 20.77 bits, per datum above knowing nothing"),
        ("transition", -20.0, "at most 10 nats, or 14.43 bits, per datum below knowing nothing"),
        ("energy", math.nan, ""),
    ],
)
def test_the_gain_over_knowing_nothing_has_its_side(kind: str, null: float, said: str) -> None:
    found = run(kind, null=null)
    section = next(one for one in sections_of(found, judge(found)) if one.id == "density")
    text = " ".join(block.text for block in section.blocks if isinstance(block, Text))
    assert said in text
    assert ("knowing nothing" in text) == bool(said)


def test_the_table_has_both_sets_with_errors(tmp_path: Path) -> None:
    section = next(one for one in sections_of(run("energy"), judge(run("energy"))) if one.id == "density")
    table = next(block.frame for block in section.blocks if getattr(block, "name", "") == "likelihood")
    assert table[["data", "direction"]].to_numpy().tolist() == [
        ["held-out", "lower"],
        ["held-out", "upper"],
        ["training", "lower"],
        ["training", "upper"],
    ]
    assert {"value", "se", "mc_se", "low", "high"} <= set(table)


def test_what_is_said_of_pairs_is_known_to_the_tests() -> None:
    said = " ".join(one.sentence for one in every(judge(Evidence("begun", {"status": "finished"}))))
    whys = " ".join(why for _, _, why in PARTS.values())
    assert {"examine`", "compare_bounds", "bdmc", "latents"} <= set(OF_PAIRS.findall(said))
    assert {"pair", "posterior"} <= set(OF_PAIRS.findall(whys))


def test_a_pair_has_none_of_these_sections() -> None:
    well = report_runs.all_well()
    assert well.kind is None
    assert not {one.id for one in sections_of(well, judge(well))} & {"density", "drawn", "draws"}


def test_empty_parts_cost_no_other(tmp_path: Path) -> None:
    none: NDArray[np.float64] = np.zeros((0, 64))
    empty = Drawn((8, 8), none, none, none, np.zeros((0, 0, 64)), np.zeros(0, dtype=np.int64), np.zeros((0, 1)))
    tables = {name: frame[:0] for name, frame in (("energies", energies()), ("labels", labels()))}
    found = run("energy", drawn=empty, likelihood=likelihood(EXACT)[:0], samples=measures()[:0], **tables)
    page(found, tmp_path)
    assert judge(found).colour == "amber"


def test_a_page_survives_numbers_that_are_none(tmp_path: Path) -> None:
    of = drawn("energy")
    for rows in (of.samples, of.nearest, of.states, of.filters):
        rows[:] = np.nan
    nan = {"energies": energies().assign(free_energy=np.nan), "labels": labels().assign(share=np.nan, data=np.nan)}
    table = likelihood(annealed(0.2)).assign(value=np.nan, se=np.nan)
    found = run("energy", drawn=of, likelihood=table, train=table, samples=measures(nearer=math.nan), **nan)
    page(found, tmp_path)
    assert judge(found).colour == "amber"
    assert "good" not in {one.state for one in judge(found).judgements}


def test_kinds_stand_beside_each_other_and_beside_pairs(tmp_path: Path) -> None:
    runs = [report_runs.all_well(), *map(run, KINDS)]
    html = report(runs, tmp_path / "report.html").path.read_text()
    assert "could not be made" not in html
    overview = comparison([(one, judge(one)) for one in runs]).blocks[0]
    frame = overview.frame.set_index("run")  # type: ignore[union-attr]
    assert frame.loc["a-transition", ["log p(x)", "s.e.", "side"]].tolist() == [-30.0, 0.2, "lower"]
    assert frame.loc["a-energy", "side"] == "lower"
    assert math.isnan(frame.loc["a-implicit", "log p(x)"])
    assert "Of models without a guide no values per datum are kept" in html


def test_new_terms_are_in_the_glossary() -> None:
    wanted = {"free energy", "log Z", "AIS", "Parzen window", "MMD", "precision of samples", "recall of samples"}
    assert wanted <= set(glossary())
    assert set(TERMS.values()) <= set(glossary())
    for kind in KINDS:
        for section in sections_of(run(kind), judge(run(kind))):
            for block in section.blocks:
                assert set(getattr(block, "terms", {}).values()) <= set(glossary())


@pytest.mark.parametrize("measure", ["precision", "recall"])
@pytest.mark.parametrize(("value", "expected"), [(0.8, "good"), (0.45, "good"), (0.3, "doubt"), (0.01, "bad")])
def test_precision_and_recall_are_judged_by_those_of_real_data(measure: str, value: float, expected: str) -> None:
    """Half of 0.9, less four standard errors of 0.01, is good; a fifth is the least that is not bad."""
    found = about(run("implicit", samples=measures(**{measure: value})), "Samples")
    assert found.state == expected
    told = {"precision": "look like data", "recall": "reach all of the data"}[measure]
    assert (f"Draws do not {told}: {measure} {value:.3f}" in found.sentence) == (expected != "good")
