"""The verdict of a report: seven runs with known faults, NaN and gaps everywhere, and every threshold at both sides."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from inference.diagnostics import Calibration, Diagnosis, diagnose, khat_threshold, ppc
from inference.ladder import Ladder
from inference.report.evidence import Evidence
from inference.report.examination import Examination
from inference.report.judging import judge
from inference.report.verdict import Judgement, Verdict
from tests.report_runs import RUNS, TIGHT, components, ladder, metrics, per_datum, posterior, row, rows, sensitivity

WELL = ("good", "not applicable")
SECTIONS = {"training", "ladder", "guide", "latents", "clusters", "chains", "calibration", "predictive", "provenance"}


@cache
def run(name: str) -> Evidence:
    return RUNS[name]()


def pair(**parts: Any) -> Evidence:
    """The pair that is well, with other parts; those of its examination too."""
    well, seen = run("all_well"), {one.name for one in fields(Examination)}
    examined = replace(well.examination, **{k: v for k, v in parts.items() if k in seen and k != "worst"})
    return replace(
        well, **{"examination": examined, **{k: v for k, v in parts.items() if k not in seen or k == "worst"}}
    )


def draws(**parts: Any) -> Evidence:
    return replace(run("all_well_posterior"), **parts)


def every(verdict: Verdict) -> tuple[Judgement, ...]:
    return (*verdict.judgements, *verdict.others)


def judged(evidence: Evidence) -> Verdict:
    """The verdict, which must be whole: topics in order, sections that exist, and nothing that failed to be judged."""
    found = judge(evidence)
    assert [one.topic for one in found.judgements] == ["Convergence", "Guide", "Bracket"]
    for one in every(found):
        assert one.section in SECTIONS
        assert one.sentence.endswith(".")
        assert "could not be judged" not in one.sentence, one.sentence
    return found


def state(evidence: Evidence, topic: str) -> str:
    return about(evidence, topic).state


def about(evidence: Evidence, topic: str) -> Judgement:
    return next(one for one in every(judged(evidence)) if one.topic == topic)


def wrong(verdict: Verdict) -> dict[str, str]:
    return {one.topic: one.state for one in every(verdict) if one.state not in WELL}


# -- seven runs ----------------------------------------------------------------------------------------------

FAULTS: Mapping[str, tuple[str, str, str, str]] = {
    "unconverged_chains": ("Convergence", "bad", "red", "R-hat 1."),
    "bad_guide": ("Guide", "bad", "red", "k-hat is above 0.7 for 79.8 % (s.e. 1.8 %) of 500 data"),
    "too_small_k": ("Bracket", "doubt", "amber", "still rising with K: from `IWAE-5` to `IWAE-50`"),
    "collapsed_clusters": ("Clusters", "bad", "red", "`y` has collapsed: component 3 of 10 holds 99.1%"),
    "overfitting": ("Overfitting", "bad", "red", "5.74 nats (s.e. 0.26) higher on training data"),
    "prior_posterior_conflict": ("Prior", "doubt", "amber", "Prior and data disagree about `mu`"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_no_other(name: str) -> None:
    topic, how_bad, colour, said = FAULTS[name]
    found = judged(run(name))
    assert wrong(found) == {topic: how_bad}
    assert found.colour == colour
    assert said in about(run(name), topic).sentence


@pytest.mark.parametrize("name", ["all_well", "all_well_posterior"])
def test_what_is_well_is_green(name: str) -> None:
    found = judged(run(name))
    assert wrong(found) == {}
    assert found.colour == "green"


def test_all_seven_faults_and_no_more_are_among_the_runs() -> None:
    assert set(RUNS) == {*FAULTS, "all_well", "all_well_posterior"}


# -- nothing is green by default -----------------------------------------------------------------------------


def test_of_nothing_nothing_is_known() -> None:
    found = judged(Evidence("nothing"))
    assert {one.state for one in every(found)} == {"absent"}
    assert found.colour == "amber"


REQUIRED = [
    *(("all_well", part) for part in ("manifest", "metrics", "ladder", "examination", "worst", "worst_diagnosis")),
    *(("all_well_posterior", part) for part in ("posterior", "diagnosis", "predictive", "sensitivity")),
]


@pytest.mark.parametrize(("name", "part"), REQUIRED)
def test_without_a_part_it_is_amber(name: str, part: str) -> None:
    found = judged(replace(run(name), **{part: {} if part == "manifest" else None}))
    assert found.colour == "amber"


@pytest.mark.parametrize("part", ["latents", "train"])
def test_without_a_part_of_the_examination_it_is_absent(part: str) -> None:
    bare = pair(
        **{part: () if part == "latents" else None}, components=(), metrics=metrics().drop(columns="validation")
    )
    assert set(wrong(judged(bare))) == ({"Latents", "Prior"} if part == "latents" else {"Overfitting"})
    assert set(wrong(judged(bare)).values()) == {"absent"}


def test_a_manifest_alone_is_of_a_pair_that_nobody_looked_at() -> None:
    found = judged(Evidence("begun", {"status": "finished", "seed": 0}))
    assert wrong(found) == dict.fromkeys(
        ("Convergence", "Guide", "Bracket", "Overfitting", "Latents", "Prior"), "absent"
    )
    lost = judged(Evidence("lost", {"status": "finished", "kind": "posterior"}))  # its draws are not there
    assert set(wrong(lost)) == {"Convergence", "Prior", "Predictive check", "Leave-one-out"}


def test_what_was_not_read_is_named() -> None:
    one = about(pair(missing={"bounds": "it is cut short."}), "Missing")
    assert (one.state, one.section) == ("doubt", "provenance")
    assert one.sentence == "The bounds could not be had: it is cut short."
    assert state(pair(missing={}), "Bracket") == "good"
    no_mean = run("all_well").examination
    assert no_mean is not None
    assert judged(pair(examination=replace(no_mean, missing={"pictures": "no mean"}))).colour == "green"


def test_discrete_latents_are_judged_as_clusters_alone() -> None:
    found = judged(pair(latents=()))
    assert {one.topic: one.state for one in found.others}["Latents"] == "not applicable"
    assert found.colour == "green"


def test_several_states_make_the_worst_colour() -> None:
    both = replace(run("too_small_k"), examination=run("collapsed_clusters").examination)
    assert wrong(judged(both)) == {"Bracket": "doubt", "Clusters": "bad"}
    assert judged(both).colour == "red"
    assert judged(replace(run("too_small_k"), calibration=None)).colour == "amber"


# -- numbers that are none -----------------------------------------------------------------------------------


def numbers_of(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for column in frame.select_dtypes("number"):
        yield str(column), frame.assign(**{str(column): math.nan})


def broken(thing: Any, keep: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """A dataclass with one of its numbers, or of its arrays' elements, replaced by NaN."""
    for one in fields(thing):
        value = getattr(thing, one.name)
        if one.name in keep:
            continue
        if isinstance(value, float):
            yield one.name, replace(thing, **{one.name: math.nan})
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            yield one.name, replace(thing, **{one.name: value * math.nan})
            some = value.copy()
            some.flat[-1] = math.nan
            yield f"{one.name}, one of them", replace(thing, **{one.name: some})
        elif isinstance(value, torch.Tensor):
            yield one.name, replace(thing, **{one.name: value * math.nan})
            yield (
                f"{one.name}, one of them",
                replace(thing, **{one.name: torch.cat([value[:-1], value[-1:] * math.nan])}),
            )
        elif isinstance(value, pd.DataFrame):
            yield from ((f"{one.name} {name}", replace(thing, **{one.name: each})) for name, each in numbers_of(value))


def broken_pairs() -> Iterator[tuple[str, Evidence]]:
    well = run("all_well")
    seen, bounds, course, chains = well.examination, well.ladder, well.metrics, well.worst_diagnosis
    for part in (seen, bounds, course, chains):
        assert part is not None
    for name, frame in numbers_of(course):
        yield f"metrics {name}", pair(metrics=frame)
    for name, examined in broken(seen, keep=("seconds",)):
        yield f"examination {name}", pair(examination=examined)
    for part in ("latents", "components"):
        for name, one in broken(getattr(seen, part)[0]):
            yield f"{part} {name}", pair(examination=replace(seen, **{part: (one,)}))
    for part in ("pictures", "worst"):  # what data are is not the pair's doing
        for name, one in broken(getattr(seen, part), keep=("data",)):
            yield f"{part} {name}", pair(examination=replace(seen, **{part: one}))
    for on, part in bounds.parts():
        for i, each in enumerate(part.rows):
            for name, one in broken(each, keep=("seconds",)):
                if each.label == "ELBO" and not name.startswith("value"):
                    continue  # of one draw there is no error
                changed = replace(part, rows=(*part.rows[:i], one, *part.rows[i + 1 :]))
                whole = changed if on == "data" else replace(bounds, simulated=changed)
                yield f"{on} {each.label} {name}", pair(ladder=whole)
        lost = replace(part, khat=part.khat * math.nan)
        yield f"{on} k-hat", pair(ladder=lost if on == "data" else replace(bounds, simulated=lost))
    for name, frame in numbers_of(bounds.table.drop(columns=["K", "low", "high", "seconds", "khat"])):
        yield f"bounds {name}", pair(ladder=None, bounds=frame.assign(K=bounds.table["K"]))
    for name, diagnosis in broken_rows(chains):
        yield f"worst {name}", pair(worst_diagnosis=diagnosis)


def broken_rows(diagnosis: Diagnosis) -> Iterator[tuple[str, Diagnosis]]:
    for i, each in enumerate(diagnosis.rows):
        if each.verdict == "pass":
            for field in ("value", "threshold"):
                one = replace(each, **{field: math.nan})
                yield (
                    f"{each.check} {field}",
                    replace(diagnosis, rows=(*diagnosis.rows[:i], one, *diagnosis.rows[i + 1 :])),
                )


def broken_posteriors() -> Iterator[tuple[str, Evidence]]:
    well = run("all_well_posterior")
    for part in (well.posterior, well.diagnosis, well.predictive, well.calibration, well.sensitivity):
        assert part is not None
    for name, diagnosis in broken_rows(well.diagnosis):
        yield f"diagnosis {name}", draws(diagnosis=diagnosis)
    for name, frame in numbers_of(well.predictive.frame):
        yield f"predictive {name}", draws(predictive=replace(well.predictive, frame=frame))
    for name, frame in numbers_of(well.sensitivity):
        yield f"sensitivity {name}", draws(sensitivity=frame)
    yield "sensitivity in words", draws(sensitivity=well.sensitivity.assign(diagnosis=math.nan))
    ranks = {name: each * math.nan for name, each in well.calibration.ranks.items()}
    yield "ranks", draws(calibration=replace(well.calibration, ranks=ranks))
    yield "R-hat", draws(calibration=replace(well.calibration, about={"max_rhat": math.nan}))
    for group, name in (("posterior", "mu"), ("log_likelihood", "y"), ("observed_data", "y")):
        tree = well.posterior.copy(deep=True)
        tree[group].dataset[name].data.flat[0] = math.nan
        yield f"{group} {name}", draws(posterior=tree, diagnosis=diagnose(tree), predictive=ppc(tree))


def test_numbers_that_are_none_are_never_green() -> None:
    """Each number of each part, all of its values or one: each run is judged whole, and none of them is green."""
    every_one = [*broken_pairs(), *broken_posteriors()]
    assert len(every_one) > 150
    assert [name for name, evidence in every_one if judged(evidence).colour == "green"] == []


def test_a_part_that_cannot_be_judged_costs_no_other() -> None:
    odd = judge(pair(train=per_datum().drop(columns="value")))
    assert wrong(odd) == {"Overfitting": "doubt"}
    one = next(one for one in odd.others if one.topic == "Overfitting")
    assert one.sentence.startswith("This could not be judged (KeyError: 'value')")


def test_names_with_markup_stay_as_they_are() -> None:
    name = "<script>alert('&')</script>"
    seen = run("all_well").examination
    assert seen is not None
    found = pair(latents=(replace(seen.latents[0], site=name),), components=(replace(seen.components[0], site=name),))
    for topic in ("Latents", "Prior", "Clusters"):
        assert f"`{name}`" in about(found, topic).sentence


# -- training ------------------------------------------------------------------------------------------------


def manifest(**entries: Any) -> Evidence:
    return pair(manifest={**run("all_well").manifest, **entries})


def loss(values: Any) -> Evidence:
    return pair(metrics=pd.DataFrame({"loss": np.asarray(values, dtype=float)}))


@pytest.mark.parametrize(
    ("status", "expected"),
    [("finished", "good"), ("diverged", "bad"), ("started", "doubt"), ("interrupted", "doubt"), ("odd", "doubt")],
)
def test_training_that_has_not_finished_has_not_converged(status: str, expected: str) -> None:
    assert state(manifest(status=status), "Convergence") == expected


def test_training_without_metrics_is_absent_unless_it_diverged() -> None:
    def bare(status: str) -> Evidence:
        return replace(manifest(status=status), metrics=None)

    assert [state(bare(s), "Convergence") for s in ("finished", "started", "diverged")] == ["absent", "doubt", "bad"]


def test_a_loss_that_is_infinite_at_last_is_bad_and_before_doubtful() -> None:
    fallen = [*range(40, 10, -1), *[10] * 10]
    assert state(loss(fallen), "Convergence") == "good"
    assert state(loss([*fallen[:-1], math.inf]), "Convergence") == "bad"
    assert state(loss([*fallen[:20], math.nan, *fallen[20:]]), "Convergence") == "doubt"


def test_ten_reports_are_the_least() -> None:
    flat = [50.0, 20.0, 12.0, *[10.0] * 7]
    assert state(loss(flat), "Convergence") == "good"
    assert "9 reports are too few" in about(loss(flat[:-1]), "Convergence").sentence


@pytest.mark.parametrize(("part", "expected"), [(0.019, "good"), (0.021, "doubt")])
def test_a_loss_still_falls_from_two_parts_in_a_hundred(part: float, expected: str) -> None:
    """It goes from 100 to 0 in all, and by so much from the last window but one to the last, without noise."""
    course = np.r_[100.0, np.full(35, 100 * part), np.zeros(4)]
    assert state(loss(course), "Convergence") == expected
    rising = np.r_[100.0, np.zeros(35), np.full(4, 100 * part / (1 + part))]
    assert state(loss(rising), "Convergence") == expected


def test_a_straight_line_is_not_taken_for_noise_and_noise_not_for_a_line() -> None:
    for reports in (10, 19, 40, 300):
        assert state(loss(np.linspace(100, 0, reports)), "Convergence") == "doubt"
    noise = np.random.default_rng(0).normal(size=(200, 40))  # |t| with 6 degrees of freedom exceeds 3 in 2.4 %
    alarms = [state(loss(np.r_[20.0, each]), "Convergence") for each in noise]
    assert alarms.count("good") > 200 - 15  # of 200 that is 5, with a standard deviation of 2


def test_a_loss_that_never_fell_is_doubtful() -> None:
    assert "has not fallen" in about(loss(np.full(40, 3.0)), "Convergence").sentence


def test_validation_that_still_rises_is_waited_for_unless_patience_was_out() -> None:
    rising = metrics(lambda t: -80 + t)
    late = pair(metrics=rising)
    assert "validation score is still rising" in about(late, "Convergence").sentence
    stopped = replace(late, manifest={**late.manifest, "stopped": "patience"})
    assert state(stopped, "Convergence") == "good"


def test_every_phase_must_come_to_rest_and_none_need_be_in_each_report() -> None:
    still, falling = np.r_[50.0, np.zeros(39)], np.linspace(100, 0, 40)
    wake, sleep = np.where(np.arange(40) % 2, still, math.nan), still
    wake[:2] = 50.0
    assert state(pair(metrics=pd.DataFrame({"wake/loss": wake, "sleep/loss": sleep})), "Convergence") == "good"
    assert state(pair(metrics=pd.DataFrame({"wake/loss": wake, "sleep/loss": falling})), "Convergence") == "doubt"


# -- chains --------------------------------------------------------------------------------------------------


def with_row(check: str, **changes: Any) -> Evidence:
    diagnosis = run("all_well_posterior").diagnosis
    assert diagnosis is not None
    changed = tuple(replace(each, **changes) if each.check == check else each for each in diagnosis.rows)
    return draws(diagnosis=replace(diagnosis, rows=changed))


def test_a_check_that_fails_is_named_with_its_number_and_its_advice() -> None:
    one = about(with_row("R-hat", verdict="fail", value=1.3, where="theta[2]", advice="run longer"), "Convergence")
    assert (one.state, one.section) == ("bad", "chains")
    assert "R-hat 1.3 (limit 1.01) at `theta[2]`" in one.sentence
    assert "run longer" in one.sentence


def test_unknown_checks_and_interrupted_runs_are_doubtful() -> None:
    assert state(with_row("BFMI", verdict="unknown", value=math.nan, advice="no energy"), "Convergence") == "doubt"
    tree = posterior()
    tree.attrs |= {"partial": True, "num_samples": 2000}
    assert state(draws(posterior=tree, diagnosis=diagnose(tree)), "Convergence") == "doubt"
    assert state(draws(posterior=tree), "Convergence") == "doubt"  # whatever an older verdict says
    assert state(draws(manifest={"status": "interrupted"}), "Convergence") == "doubt"
    assert state(draws(diagnosis=Diagnosis((), pd.DataFrame(), "MCMC")), "Convergence") == "doubt"


def of_guide(khat: float) -> Evidence:
    tree = posterior()
    tree.attrs |= {"inference_method": "VI", "khat": khat, "num_particles": 10_000}
    return draws(posterior=tree, diagnosis=diagnose(tree))


def test_draws_of_a_guide_have_no_chains_to_converge() -> None:
    good = of_guide(0.3)
    assert (state(good, "Convergence"), state(good, "Guide")) == ("not applicable", "good")
    assert judged(good).colour == "green"
    assert state(of_guide(0.9), "Guide") == "bad"
    assert state(of_guide(math.nan), "Guide") == "doubt"


def test_the_worse_of_training_and_chains_counts_and_both_are_told() -> None:
    chains = run("unconverged_chains")
    parts = {"posterior": chains.posterior, "diagnosis": chains.diagnosis}
    one = about(pair(**parts), "Convergence")
    assert (one.state, one.section) == ("bad", "chains")
    assert "Training has finished" in one.sentence
    assert (about(pair(**parts), "Guide").state, about(pair(**parts), "Bracket").state) == ("good", "good")


def test_rows_on_leave_one_out_are_not_about_convergence() -> None:
    bad = with_row("LOO k-hat of y", verdict="fail", value=0.9, count=40, of=80)
    assert wrong(judged(bad)) == {"Leave-one-out": "bad"}


@pytest.mark.parametrize(("count", "expected"), [(8, "doubt"), (9, "bad")])
def test_a_tenth_of_the_observations_may_be_influential(count: int, expected: str) -> None:
    assert state(with_row("LOO k-hat of y", verdict="fail", value=0.9, count=count, of=80), "Leave-one-out") == expected
    assert state(with_row("LOO k-hat of y", verdict="unknown", value=math.nan), "Leave-one-out") == "doubt"
    assert state(with_row("LOO k-hat of y", verdict="not applicable"), "Leave-one-out") == "absent"


# -- guide ---------------------------------------------------------------------------------------------------


def khats(*values: float, K: int = 1000) -> Evidence:
    return pair(per_datum=per_datum(len(values)).assign(khat=values), num_particles=K, train=None)


@pytest.mark.parametrize(("heavy", "expected"), [(10, "good"), (11, "doubt"), (25, "doubt"), (26, "bad")])
@pytest.mark.parametrize("value", [0.71, math.inf, math.nan])
def test_a_guide_by_the_share_of_heavy_tails(heavy: int, expected: str, value: float) -> None:
    one = about(khats(*[value] * heavy, *[0.1] * (100 - heavy)), "Guide")
    assert one.state == expected
    error = 100 * math.sqrt(heavy / 100 * (1 - heavy / 100) / 100)
    assert f"{heavy:.1f} % (s.e. {error:.1f} %) of 100 data" in one.sentence


def test_exactly_at_the_limit_a_tail_is_not_heavy() -> None:
    assert state(khats(*[0.7] * 100, K=10_000), "Guide") == "good"
    assert state(khats(*[-math.inf] * 100), "Guide") == "good"


@pytest.mark.parametrize(("some", "expected"), [(10, "good"), (11, "doubt")])
def test_too_few_draws_for_a_guide_are_said_to_be(some: int, expected: str) -> None:
    """K-hat of 0.6 needs 10^(1 / 0.4) = 316 draws."""
    assert khat_threshold(100) < 0.6 < khat_threshold(1000)
    values = [0.6] * some + [0.1] * (100 - some)
    one = about(khats(*values, K=100), "Guide")
    assert one.state == expected
    assert ("K = 100 is too few for this guide" in one.sentence) == (expected == "doubt")
    assert ("about 320 draws are needed" in one.sentence) == (expected == "doubt")
    assert state(khats(*values, K=1000), "Guide") == "good"


def test_k_hat_of_twenty_draws_cannot_be_fitted() -> None:
    one = about(khats(*[math.nan] * 50, K=20), "Guide")
    assert (one.state, "K = 20 is too few to fit k-hat" in one.sentence) == ("doubt", True)
    assert "Numbers" not in wrong(judged(khats(*[math.nan] * 50, K=20)))


def test_a_ladder_tells_of_its_guide_where_nothing_else_does() -> None:
    assert state(replace(pair(), examination=None), "Guide") == "good"
    one = about(replace(run("bad_guide"), examination=None), "Guide")
    assert one.state == "bad"
    assert "of 200 data at K = 5,000" in one.sentence
    gone = ladder(khat=np.full(200, math.nan))
    assert state(replace(pair(), examination=None, ladder=gone), "Guide") == "absent"


def test_chains_on_the_worst_data_that_have_not_mixed_make_a_guide_doubtful() -> None:
    chains = run("unconverged_chains").diagnosis
    one = about(pair(worst_diagnosis=chains), "Guide")
    assert one.state == "doubt"
    assert "have not mixed" in one.sentence
    assert state(pair(worst_diagnosis=chains), "Convergence") == "good"
    both = replace(run("bad_guide"), worst_diagnosis=chains)
    assert state(both, "Guide") == "bad"


# -- bracket -------------------------------------------------------------------------------------------------


def bracketed(width: float, *, guarantee: str = "expectation", error: float = 0.0) -> Evidence:
    """A lower and an upper bound on the data that are so far apart, with no error of their own."""
    low = torch.zeros(50, dtype=torch.float64)
    how: dict[str, Any] = {"direction": "upper", "guarantee": guarantee, "source": "posterior"}
    ends = row("IWAE-500", 500, low, error), row("EUBO-500", 500, low + width, error, **how)
    return pair(ladder=Ladder(ends, torch.full((50,), 0.1, dtype=torch.float64)))


@pytest.mark.parametrize(("width", "expected"), [(0.99, "good"), (1.01, "doubt"), (4.99, "doubt"), (5.01, "bad")])
def test_brackets_by_their_width(width: float, expected: str) -> None:
    evidence = bracketed(width)
    assert state(evidence, "Bracket") == expected
    assert evidence.ladder is not None
    assert state(replace(evidence, ladder=None, bounds=evidence.ladder.table), "Bracket") == expected


def test_errors_are_part_of_the_width() -> None:
    assert state(bracketed(0.9, error=0.5), "Bracket") == "doubt"


@pytest.mark.parametrize(("width", "expected"), [(0.5, "doubt"), (3.0, "doubt"), (6.0, "bad")])
def test_what_is_not_certified_is_never_good(width: float, expected: str) -> None:
    evidence = bracketed(width, guarantee="limit")
    one = about(evidence, "Bracket")
    assert one.state == expected
    assert "only in the limit of many draws" in one.sentence
    assert evidence.ladder is not None
    assert state(replace(evidence, ladder=None, bounds=evidence.ladder.table), "Bracket") == expected


def test_bounds_that_contradict_each_other_are_bad() -> None:
    evidence = bracketed(-0.5, error=0.02)
    one = about(evidence, "Bracket")
    assert one.state == "bad"
    assert "contradict each other" in one.sentence
    assert evidence.ladder is not None
    assert state(replace(evidence, ladder=None, bounds=evidence.ladder.table), "Bracket") == "bad"


def test_an_upper_bound_that_is_refuted_is_none() -> None:
    evidence = bracketed(-0.5, guarantee="limit", error=0.02)
    assert evidence.ladder is not None
    for each in (evidence, replace(evidence, ladder=None, bounds=evidence.ladder.table)):
        one = about(each, "Bracket")
        assert one.state == "doubt"
        assert "bounded from below only" in one.sentence
        assert "too few draws to be an upper bound" in one.sentence


def test_lower_bounds_alone_are_doubtful() -> None:
    alone = Ladder(tuple(rows(200, TIGHT, seed=1)), torch.full((200,), 0.1))
    for each in (pair(ladder=alone), pair(ladder=None, bounds=alone.table)):
        one = about(each, "Bracket")
        assert one.state == "doubt"
        assert "bounded from below only" in one.sentence
        assert "add `bdmc`" in one.sentence
    assert state(pair(ladder=Ladder((), torch.zeros(0))), "Bracket") == "absent"


def test_a_bracket_of_simulated_data_says_what_it_certifies() -> None:
    assert "certifies what is said of the model's own samples" in about(pair(), "Bracket").sentence


def test_the_table_of_a_ladder_is_judged_like_the_ladder() -> None:
    for name in ("all_well", "bad_guide", "too_small_k"):
        evidence = run(name)
        assert evidence.ladder is not None
        assert state(replace(evidence, ladder=None, bounds=evidence.ladder.table), "Bracket") == state(
            evidence, "Bracket"
        )
    assert state(pair(ladder=None, bounds=pd.DataFrame({"bound": ["ELBO"]})), "Bracket") == "doubt"


@pytest.mark.parametrize(
    ("K", "rise", "expected"), [(5, 0.09, "good"), (5, 0.11, "doubt"), (4, 3.0, "good"), (20, 3.0, "doubt")]
)
def test_a_bound_that_rises_with_k_has_too_few_draws(K: int, rise: float, expected: str) -> None:
    given = run("all_well").ladder
    assert given is not None
    low = torch.zeros(100, dtype=torch.float64)
    two = row("IWAE-100", 100, low), row(f"IWAE-{K * 100}", K * 100, low + rise)
    assert state(pair(ladder=replace(given, rows=two, khat=given.khat[:100])), "Bracket") == expected


def test_a_rise_within_its_error_is_chance() -> None:
    """Differences of 0.2 on average with a standard error of 0.1, as 100 data have it that are one up or down."""
    given = run("all_well").ladder
    assert given is not None
    low = torch.zeros(100, dtype=torch.float64)
    apart = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(50)
    two = row("IWAE-10", 10, low), row("IWAE-100", 100, low + 0.2 + apart)
    assert state(pair(ladder=replace(given, rows=two, khat=given.khat[:100])), "Bracket") == "good"


# -- the rest of a pair --------------------------------------------------------------------------------------


def gap(size: float, n: int) -> Evidence:
    """Held-out data of sd 1 around 0, and training data that are so much better, with no validation score."""
    apart = np.tile([1.0, -1.0], n // 2)
    held_out = per_datum(n).assign(value=apart)
    return pair(
        per_datum=held_out, train=per_datum(n).assign(value=apart + size), metrics=metrics().drop(columns="validation")
    )


@pytest.mark.parametrize(("size", "expected"), [(0.19, "good"), (0.21, "doubt"), (0.49, "doubt"), (0.51, "bad")])
def test_overfitting_by_the_gap_in_standard_deviations(size: float, expected: str) -> None:
    assert state(gap(size, 10_000), "Overfitting") == expected


def test_a_gap_within_four_standard_errors_is_chance_but_few_data_prove_nothing() -> None:
    error = math.sqrt(2 / 200)
    assert state(gap(3.9 * error, 200), "Overfitting") == "good"
    assert state(gap(4.2 * error, 200), "Overfitting") == "doubt"
    assert "too few data" in about(gap(1.0, 10), "Overfitting").sentence
    assert state(gap(-3.0, 200), "Overfitting") == "good"


@pytest.mark.parametrize(("lost", "expected"), [(0.09, "good"), (0.11, "doubt"), (0.49, "doubt"), (0.51, "bad")])
def test_overfitting_by_what_the_validation_score_has_lost(lost: float, expected: str) -> None:
    scores = np.r_[-100.0, np.full(20, -50.0), np.full(19, -50.0 - 50 * lost)]
    evidence = pair(train=None, metrics=metrics().assign(validation=scores))
    assert state(evidence, "Overfitting") == expected
    kept = replace(evidence, manifest={**evidence.manifest, "stopped": "patience"})
    assert state(kept, "Overfitting") == "good"


def unit(**changes: Any) -> Evidence:
    seen = run("all_well").examination
    assert seen is not None
    return pair(latents=(replace(seen.latents[0], **changes),))


@pytest.mark.parametrize(("active", "expected"), [(0, "bad"), (1, "doubt"), (3, "doubt"), (4, "good"), (8, "good")])
def test_latents_by_their_active_units(active: int, expected: str) -> None:
    one = about(unit(variance=np.r_[np.full(active, 0.5), np.full(8 - active, 0.001)]), "Latents")
    assert one.state == expected
    assert f"{active} of 8 units" in one.sentence


@pytest.mark.parametrize(
    ("share", "error", "expected"),
    [
        (0.65, 0.001, "good"),
        (0.66, 0.001, "doubt"),
        (0.66, 0.01, "good"),
        (0.85, 0.001, "doubt"),
        (0.86, 0.001, "bad"),
        (0.86, 0.01, "doubt"),
        (0.6, 0.2, "doubt"),
    ],
)
def test_the_prior_by_the_draws_that_are_told_apart(share: float, error: float, expected: str) -> None:
    assert state(unit(told_apart=share, told_apart_se=error), "Prior") == expected


def clustered(**changes: Any) -> Evidence:
    return pair(components=(replace(components(np.full(10, 0.1)), **changes),))


MOST = math.log(10)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"entropy": 0.101 * MOST, "conditional_entropy": 0.0}, "good"),
        ({"entropy": 0.099 * MOST, "conditional_entropy": 0.0}, "bad"),
        ({"conditional_entropy": 0.89 * MOST}, "good"),
        ({"conditional_entropy": 0.91 * MOST}, "bad"),
        ({"dead_below": 0.1}, "good"),
        ({"dead_below": 0.11}, "doubt"),
        ({"scores": {}, "scores_se": {}, "confusion": None}, "good"),
    ],
)
def test_clusters_by_their_use(changes: dict[str, Any], expected: str) -> None:
    assert state(clustered(**changes), "Clusters") == expected


def test_the_thin_end_of_a_stick_is_not_dead() -> None:
    share = np.array([0.5, 0.3, 0.2, 0.0005, 0.0005])
    stick = {"share": share / share.sum(), "dead_below": 0.02}
    assert state(clustered(**stick), "Clusters") == "doubt"
    assert state(clustered(**stick, ordered=True), "Clusters") == "good"
    assert state(clustered(**{**stick, "share": stick["share"][::-1].copy()}, ordered=True), "Clusters") == "doubt"


def test_without_components_nothing_is_said_of_clusters() -> None:
    assert "Clusters" not in {one.topic for one in every(judged(pair(components=())))}


# -- the rest of a posterior ---------------------------------------------------------------------------------


def predicted(p_value: float, verdict: str) -> Evidence:
    check = run("all_well_posterior").predictive
    assert check is not None
    frame = check.frame.copy()
    frame.loc[2, ["p_value", "verdict"]] = [p_value, verdict]
    return draws(predictive=replace(check, frame=frame))


@pytest.mark.parametrize(
    ("p_value", "verdict", "expected"),
    [
        (0.006, "pass", "good"),
        (0.004, "fail", "doubt"),
        (0.0006, "fail", "doubt"),
        (0.0004, "fail", "bad"),
        (0.9996, "fail", "bad"),
        (0.9994, "fail", "doubt"),
    ],
)
def test_predictive_checks_by_their_worst_p_value(p_value: float, verdict: str, expected: str) -> None:
    one = about(predicted(p_value, verdict), "Predictive check")
    assert one.state == expected
    assert "the least of `y`" in one.sentence


def test_data_of_another_kind_are_found_by_the_predictive_check() -> None:
    tree = posterior()
    tree["observed_data"]["y"] = tree["observed_data"]["y"] ** 3
    assert state(draws(predictive=ppc(tree)), "Predictive check") == "bad"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("not sensitive to the prior", "good"),
        ("potential prior-data conflict", "doubt"),
        ("potential strong prior / weak likelihood", "doubt"),
        ("strong prior or weak likelihood", "doubt"),
        ("unknown", "doubt"),
    ],
)
def test_the_prior_of_a_posterior_by_what_power_scaling_says(said: str, expected: str) -> None:
    frame = sensitivity(posterior())
    frame.loc["theta[3]", "diagnosis"] = said
    one = about(draws(sensitivity=frame), "Prior")
    assert one.state == expected
    assert ("`theta[3]`" in one.sentence) == (expected == "doubt")


def test_calibration_is_good_bad_or_not_simulated() -> None:
    rng = np.random.default_rng(0)
    narrow = Calibration({"mu": rng.integers(0, 100, 200), "tau": rng.choice([0, 1, 98, 99], 200)}, 99)
    one = about(draws(calibration=narrow), "Calibration")
    assert (one.state, "`tau`" in one.sentence, "`mu`" in one.sentence) == ("bad", True, False)
    unmixed = replace(narrow, ranks={"mu": narrow.ranks["mu"]}, about={"max_rhat": 1.6})
    assert "have not mixed" in about(draws(calibration=unmixed), "Calibration").sentence
    none = about(draws(calibration=None), "Calibration")
    assert (none.state, none.sentence) == ("not applicable", "Calibration was not simulated.")
    assert judged(draws(calibration=None)).colour == "green"
    assert state(draws(calibration=Calibration({}, 99)), "Calibration") == "absent"


def test_a_loss_that_stands_still_at_a_learning_rate_of_nothing_is_said_to() -> None:
    found = RUNS["all_well"]()
    assert found.metrics is not None
    steady = replace(found, metrics=found.metrics.assign(lr=1e-3))
    slowed = replace(found, metrics=found.metrics.assign(lr=np.geomspace(1e-3, 1e-6, len(found.metrics))))
    said = "The learning rate had come down to 1e-06 from 0.001, where a loss stands still in any case."
    assert said not in judge(steady).judgements[0].sentence
    assert said in judge(slowed).judgements[0].sentence
    assert judge(slowed).judgements[0].state == "good"
