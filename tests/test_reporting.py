"""`report` on runs, trees and what is left of them: what is there is shown, what is not is named, nothing is fatal."""

import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from inference import Calibration, adam, compare_bounds, fit, save_tree
from inference.report import Evidence, Report, examine, examine_worst, read_evidence, report, save_ladder
from inference.report.examination import Examination
from inference.report.sections import PARTS
from tests import report_runs

NASTY = "<script>window.hit=1<"  # a tree takes no slash in a name


def ids(html: str) -> list[str]:
    return re.findall(r'<section[^>]* id="([^"]+)"', html)


def parsed(html: str) -> Any:
    """The page by a strict parser, without the rows and pixels it carries, which would take it seconds."""
    html = re.sub(r'(<script type="application/json"[^>]*>).*?(</script>)', r"\1\2", html, flags=re.DOTALL)
    html = re.sub(r'"data:[^"]*"', '"data:,"', html)
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(html)


def posterior(chains: int = 4, draws: int = 250, size: int = 3, seed: int = 0) -> xr.DataTree:
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(chains, draws, size))
    stats = {
        "energy": (("chain", "draw"), rng.normal(size=(chains, draws))),
        "diverging": (("chain", "draw"), np.zeros((chains, draws), dtype=bool)),
    }
    return xr.DataTree.from_dict(
        {"posterior": xr.Dataset({"theta": (("chain", "draw", "school"), theta)}), "sample_stats": xr.Dataset(stats)}
    )


class Decoder(nn.Module):
    """A linear model of images of 2 x 3."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 2))

    def forward(self, x: Tensor) -> None:
        pyro.module("decoder", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.weight.T, 1.0).to_event(1), obs=x)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> None:
        pyro.module("encoder", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.mean(x), 0.5).to_event(1))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run: fitted, bounded on both sides, examined, its worst data sampled; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("runs") / "linear"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pair = Decoder(), Encoder()
        truth = torch.randn(2, 6)
        x = torch.randn(200, 2) @ truth + torch.randn(200, 6)
    fit(*pair, x[:150], epochs=30, optimizer=adam(0.02), validation=x[150:], out=folder, report_every=3)
    save_ladder(compare_bounds(*pair, x[150:], ["elbo", "iwae:20", "bdmc:20:4"], num_simulated=10), folder, x[150:])
    found = examine(*pair, x[150:], train=x[:150], num_particles=100, num_worst=3, out=folder)
    assert found.worst is not None
    how: Any = {"num_chains": 4, "num_samples": 60, "num_warmup": 30}
    examine_worst(*pair, x[150:], [int(i) for i in found.worst.index], out=folder, **how)
    return folder


def test_a_run_has_every_section_it_can_have(run: Path, tmp_path: Path) -> None:
    found = report(run, tmp_path / "report.html")
    html = found.path.read_text()
    parsed(html)
    assert [name for name in ("training", "ladder", "guide", "latents", "provenance") if name in ids(html)] == [
        "training",
        "ladder",
        "guide",
        "latents",
        "provenance",
    ]
    assert "could not be made" not in html
    assert "could not be had" not in html
    assert html.count("<figure") >= 9
    assert html.count("<figure") == len(re.findall(r"<svg[^>]*role=\"img\"", html))
    assert len(html) < 5_000_000
    assert [name for name, _ in found.verdicts] == ["linear"]


@pytest.mark.usefixtures("sketched")
def test_the_verdict_comes_first(run: Path, tmp_path: Path) -> None:
    html = report(run, tmp_path / "r.html").path.read_text()
    first = html.index('href="#guide"')
    assert (
        html.index("</h1>")
        < first
        < html.index('<section id="training"' if '<section id="training"' in html else "<figure")
    )


def test_what_fit_returned_a_run_and_its_folder_are_one(run: Path) -> None:
    from inference.runs import Run

    a, b = read_evidence(run), read_evidence(Run(run))
    assert a.name == b.name == "linear"
    assert a.missing == b.missing == {}
    pd.testing.assert_frame_equal(a.metrics, b.metrics)


def test_a_fit_that_wrote_nothing_is_refused() -> None:
    x = torch.randn(20, 6)
    fitted = fit(Decoder(), Encoder(), x, steps=1)
    with pytest.raises(ValueError, match="`source` was fitted without a run folder: fit it with `out=`"):
        report(fitted)


@pytest.mark.usefixtures("sketched")
def test_a_tree_in_memory_and_in_a_file(tmp_path: Path) -> None:
    tree = posterior()
    path = save_tree(tree, tmp_path / "draws.nc")
    a, b = report(tree, tmp_path / "a.html"), report(path, tmp_path / "b.html")
    assert [name for name, _ in (*a.verdicts, *b.verdicts)] == ["posterior", "draws"]
    assert a.verdicts[0][1] == b.verdicts[0][1]
    html = a.path.read_text()
    parsed(html)
    assert "chains" in ids(html)
    assert "theta[2]" in html


def test_several_are_compared_with_the_first(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "linear"
    shutil.copytree(run, other)
    found = report([run, other], tmp_path / "both.html")
    assert [name for name, _ in found.verdicts] == ["linear (1)", "linear (2)"]
    html = found.path.read_text()
    parsed(html)
    assert ids(html)[1] == "comparison"
    assert {"training-of-1", "training-of-2"} <= set(ids(html))
    assert len(set(re.findall(r' id="([^"]+)"', html))) == len(re.findall(r' id="([^"]+)"', html))


def test_pairs_are_compared_datum_by_datum(run: Path) -> None:
    from dataclasses import replace

    from inference.report.judging import judge
    from inference.report.sections import comparison

    a = read_evidence(run)
    assert a.examination is not None
    better = a.examination.per_datum.assign(value=a.examination.per_datum["value"] + 0.5)
    b = replace(a, name="better", examination=replace(a.examination, per_datum=better))
    tables = {
        block.name: block.frame for block in comparison([(a, judge(a)), (b, judge(b))]).blocks if hasattr(block, "name")
    }
    row = tables["paired"].iloc[0]
    assert row["difference"] == pytest.approx(0.5)
    assert row["se"] == pytest.approx(0.0, abs=1e-9)
    assert {*tables["paired"]["of"]} == {"log p(x), K = 100", "ELBO", "IWAE-20"}
    other = replace(b, ladder_data={"sha256": "another"})  # of as many data, but others
    blocks = comparison([(a, judge(a)), (other, judge(other))]).blocks
    assert [*next(one.frame for one in blocks if getattr(one, "name", "") == "paired")["of"]] == ["log p(x), K = 100"]
    elsewhere = replace(other, examination=replace(b.examination, data={"sha256": "another"}))
    blocks = comparison([(a, judge(a)), (elsewhere, judge(elsewhere))]).blocks
    assert not [block for block in blocks if getattr(block, "name", "") == "paired"]
    assert any("cannot be paired" in getattr(block, "text", "") for block in blocks)


def test_posteriors_are_compared_by_each_observed_variable(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    trees = []
    for shift in (0.0, 1.0):
        tree, dims = posterior(seed=1), ("chain", "draw", "d")
        likelihoods = {name: (dims, rng.normal(-1 - shift * k, 0.1, size=(4, 250, 12))) for k, name in enumerate("xy")}
        tree["log_likelihood"] = xr.DataTree(xr.Dataset(likelihoods))
        tree["observed_data"] = xr.DataTree(xr.Dataset({name: ("d", np.arange(12.0)) for name in "xy"}))
        trees.append(tree)
    html = report(trees, tmp_path / "r.html").path.read_text()
    assert "The posteriors by leave-one-out of x" in html
    assert "The posteriors by leave-one-out of y" in html
    assert "could not be compared" not in html


@pytest.mark.usefixtures("sketched")
def test_sensitivity_of_very_many_parameters_is_of_the_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tree, shape = posterior(size=300), (4, 250)
    tree["log_prior"] = xr.DataTree(xr.Dataset({"theta": (("chain", "draw"), rng.normal(size=shape))}))
    tree["log_likelihood"] = xr.DataTree(xr.Dataset({"x": (("chain", "draw", "d"), rng.normal(size=(*shape, 5)))}))
    evidence = read_evidence(tree)
    assert evidence.sensitivity is not None
    assert list(evidence.sensitivity.index) == [f"theta[{i}]" for i in range(100)]
    assert (
        "Sensitivity was reckoned of the first 100 parameters" in report(evidence, tmp_path / "r.html").path.read_text()
    )


@pytest.mark.usefixtures("sketched")
def test_a_figure_that_fails_costs_no_other(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(metrics: pd.DataFrame) -> None:
        raise ArithmeticError("<no>")

    whole = report(run, tmp_path / "whole.html").path.read_text()
    monkeypatch.setattr(sys.modules["inference.report.sections.training"], "loss_figure", fails)
    html = report(run, tmp_path / "r.html").path.read_text()
    parsed(html)
    assert "Figure 1 could not be made (ArithmeticError: &lt;no&gt;)" in html
    assert html.count("<figure") == whole.count("<figure") - 1
    assert "Every report of the training" in html


# -- broken, partial, large and hostile ----------------------------------------------------------------------


@pytest.mark.parametrize("part", ["manifest.json", "metrics.jsonl", "bounds.nc", "examination.nc", "worst.nc"])
@pytest.mark.parametrize("damage", ["gone", "empty", "garbage", "cut"])
def test_a_damaged_run_has_a_report_that_says_so(
    run: Path, tmp_path: Path, part: str, damage: str, request: pytest.FixtureRequest
) -> None:
    if damage != "cut":  # which leaves most to draw
        request.getfixturevalue("sketched")
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    path = folder / part
    whole = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes({"empty": b"", "garbage": b"\x00\xff<script>", "cut": whole[: len(whole) // 2]}[damage])
    found = report(folder, tmp_path / "report.html")
    html = found.path.read_text()
    parsed(html)
    assert found.colour != "green"
    lines_are_skipped = part == "metrics.jsonl" and damage == "cut"
    if damage != "gone" and not lines_are_skipped:
        assert "could not be had" in html
    assert "provenance" in ids(html)


@pytest.mark.usefixtures("sketched")
def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({"status": "started", "seed": 0}))
    found = report(tmp_path / "run", tmp_path / "r.html", reload=7)
    html = found.path.read_text()
    parsed(html)
    assert found.colour == "amber"
    assert re.search(r'<meta http-equiv="refresh" content="7"', html)


@pytest.mark.usefixtures("sketched")
def test_a_diverged_run_is_red(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"status": "diverged"}))
    assert report(folder, tmp_path / "r.html").colour == "red"


def test_names_from_users_are_harmless(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4, 100, 2))
    predicted = rng.normal(size=(4, 100, 20))
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(
                {NASTY: (("chain", "draw", "<b>"), draws)}, coords={"<b>": ['"><img src=x>', "$x_1$"]}
            ),
            "posterior_predictive": xr.Dataset({"<svg><i>": (("chain", "draw", "d"), predicted)}),
            "observed_data": xr.Dataset({"<svg><i>": ("d", rng.normal(size=20))}),
            "log_likelihood": xr.Dataset({"<svg><i>": (("chain", "draw", "d"), predicted)}),
        }
    )
    tree.attrs["note"] = NASTY
    html = report(Evidence(NASTY, posterior=tree), tmp_path / "r.html").path.read_text()
    html = report(tree, tmp_path / "r.html", title=NASTY).path.read_text() + html
    assert NASTY not in html
    assert "<img src=x>" not in html
    assert "<svg><i>" not in html
    page = parsed((tmp_path / "r.html").read_text())
    assert len(page.findall(".//img")) == 0


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_draws_that_are_no_numbers_are_shown(tmp_path: Path, number: float) -> None:
    tree = posterior()
    tree["posterior"]["theta"][0, 3, 1] = number
    found = report(tree, tmp_path / "r.html")
    html = found.path.read_text()
    parsed(html)
    assert found.colour == "red"
    assert "NaN" in html


def test_an_examination_of_nothing_but_nan(tmp_path: Path) -> None:
    frame = pd.DataFrame({name: [np.nan] * 5 for name in ("value", "standard_error", "khat", "ess")})
    found = report(Evidence("nan", examination=Examination(frame, 10)), tmp_path / "r.html")
    parsed(found.path.read_text())
    assert found.colour != "green"
    assert "could not be made" not in found.path.read_text()


@pytest.mark.parametrize("make", [report_runs.all_well, report_runs.bad_guide, report_runs.collapsed_clusters])
def test_synthetic_runs_have_whole_pages(make: Callable[[], Evidence], tmp_path: Path) -> None:
    html = report(make(), tmp_path / "r.html").path.read_text()
    parsed(html)
    assert "could not be made" not in html


def test_a_thousand_parameters_are_readable_in_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tree = posterior(draws=500)
    many = (("chain", "draw", "unit"), rng.normal(size=(4, 500, 1000)).astype(np.float32))
    tree["posterior"] = xr.DataTree(tree["posterior"].to_dataset().assign(many=many))
    begun = time.perf_counter()
    found = report(tree, tmp_path / "r.html")
    assert time.perf_counter() - begun < 30  # asked: 10 s on a quiet machine, see benchmarks/RESULTS.md
    html = found.path.read_text()
    assert len(html) < 2_000_000
    assert "999]" in html


def test_ten_thousand_data_are_readable_in_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 10_000
    columns = {"value": rng.normal(-20, 3, n), "standard_error": rng.gamma(1, 0.01, n), "khat": rng.normal(0.3, 0.2, n)}
    frame = pd.DataFrame({**columns, "ess": rng.uniform(100, 900, n)})
    begun = time.perf_counter()
    html = report(Evidence("many", examination=Examination(frame, 1000)), tmp_path / "r.html").path.read_text()
    assert time.perf_counter() - begun < 30
    assert len(html) < 3_000_000


# -- what is refused -----------------------------------------------------------------------------------------


def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, match in [
        (tmp_path / "gone", "`source` .*gone is not there: expected a run folder"),
        (tmp_path / "empty", "`source` .*empty has nothing to report: expected a run folder"),
        (tmp_path / "gone.nc", "`path` .*gone.nc is not there"),
        (xr.DataTree(), "`source` has nothing, expected a group `posterior`"),
        ([], "`source` is empty, expected at least one run or tree"),
    ]:
        with pytest.raises(ValueError, match=match):
            report(source, tmp_path / "r.html")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`source` is a int, expected a run folder"):
        report(3, tmp_path / "r.html")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`path` is .*r\.txt, expected a name that ends in \.html"):
        report(posterior(), tmp_path / "r.txt")
    calibration = Calibration({"mu": np.zeros(5, dtype=int)}, 10)
    with pytest.raises(ValueError, match="`calibration` is of one source, but there are 2"):
        report([posterior(), posterior()], tmp_path / "r.html", calibration=calibration)
    assert not (tmp_path / "r.html").exists()


def test_a_calibration_is_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = Calibration({"theta": rng.integers(0, 100, 300)}, 99)
    found = report(posterior(), tmp_path / "r.html", calibration=good)
    html = found.path.read_text()
    assert "calibration" in ids(html)
    assert "calibrated on 300 simulated data sets" in html


def test_every_judgement_has_a_section_to_point_at() -> None:
    from inference.report.judging import judge

    for make in (report_runs.all_well, report_runs.overfitting, report_runs.unconverged_chains):
        verdict = judge(make())
        assert {one.section for one in (*verdict.judgements, *verdict.others)} <= set(PARTS)


@pytest.mark.usefixtures("sketched")
def test_what_is_returned_says_what_was_found(tmp_path: Path) -> None:
    found = report(posterior(), tmp_path / "r.html")
    assert isinstance(found, Report)
    assert Path(found) == found.path
    assert str(found).splitlines()[0] == f"posterior: {found.colour}"
    assert str(found).splitlines()[-1] == str(found.path)
    assert "Convergence" in found._repr_html_()
