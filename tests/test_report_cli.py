"""`ppmodels report`: what it reckons, keeps, writes, prints and refuses."""

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from inference.report import read_evidence
from inference.report.keeping import load_calibration
from inference.runs import Run
from ppmodels.cli import main, reporting

TINY = (
    "training.steps=30",
    "model.hidden=[8]",
    "model.z_dim=2",
    "evaluation.num_data=30",
    "evaluation.num_particles=50",
    "evaluation.bounds=['elbo', 'iwae:5', 'bdmc:5:4']",
)
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("brief", "sketched")]


@pytest.fixture(scope="module")
def brief() -> Iterator[None]:
    """Chains are few and short: what is kept of them is looked at here, not what they find."""
    worst = partial(reporting.examine_worst, num_chains=4, num_samples=40, num_warmup=20, mode="replay")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "examine_worst", worst)
        patch.setattr(reporting, "sbc", partial(reporting.sbc, num_samples=60, num_warmup=60))
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a fit that nothing else was asked of; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    assert main(["fit", "digits-vae", *(f"--set={change}" for change in TINY), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def reported(fitted: Path, brief: None) -> Path:
    """The same run with its report, whose figures are drawn."""
    folder = fitted.parent / "reported"
    shutil.copytree(fitted, folder)
    assert main(["report", str(folder), "--num-worst", "2"]) == 0
    return folder


def sections(path: Path) -> list[str]:
    return re.findall(r'<section[^>]* id="([^"]+)"', path.read_text())


def test_what_a_run_lacks_is_reckoned_and_kept(reported: Path) -> None:
    html = reported / "report.html"
    assert {"training", "ladder", "guide", "latents", "provenance"} <= set(sections(html))
    for name in ("examination.nc", "bounds.nc", "bounds.csv", "worst.nc"):
        assert (reported / name).exists()
    found = read_evidence(reported)
    assert found.missing == {}
    assert found.worst is not None
    assert found.worst["posterior"].sizes["data"] == 2
    assert found.ladder is not None
    assert found.ladder.bracket().upper is None  # the upper side is on data from the model
    assert found.ladder.simulated is not None
    assert found.ladder.simulated.bracket().certified


def test_the_second_time_it_is_only_read(reported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (reported / name).stat().st_mtime_ns for name in ("examination.nc", "bounds.nc", "worst.nc")}
    assert main(["report", str(reported), "--num-worst", "2", "--out", str(reported / "again.html")]) == 0
    assert {name: (reported / name).stat().st_mtime_ns for name in before} == before
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == str(reported / "again.html")
    assert re.match(r"reported: (green|amber|red)\n  Convergence \(", out)


def test_other_parameters_are_examined_again(reported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(reported, folder)
    Run(folder).update(examined=1)
    before = (folder / "examination.nc").stat().st_mtime_ns
    assert main(["report", str(folder), "--num-worst", "2"]) == 0
    assert (folder / "examination.nc").stat().st_mtime_ns > before


def test_what_belongs_to_other_parameters_is_thrown_away(reported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(reported, folder)
    (folder / "calibration.nc").write_bytes(b"of other parameters")
    Run(folder).update(examined=1)
    assert main(["report", str(folder), "--num-worst", "0"]) == 0
    assert not (folder / "worst.nc").exists()
    assert not (folder / "calibration.nc").exists()


def test_more_of_the_worst_data_are_sampled_when_asked_for(reported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(reported, folder)
    assert main(["report", str(folder), "--num-worst", "3"]) == 0
    found = read_evidence(folder)
    assert found.worst is not None
    assert found.examination is not None
    khat = found.examination.per_datum["khat"]
    assert (
        json.loads(found.worst.attrs["examined"]) == khat.sort_values(ascending=False, kind="stable").index[:3].tolist()
    )
    assert found.worst["posterior"]["data"].to_numpy().tolist() == json.loads(found.worst.attrs["examined"])


def test_a_calibration_that_cannot_be_had_is_named(
    reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise ValueError("site `z` is not for this")

    folder = tmp_path / "run"
    shutil.copytree(reported, folder)
    monkeypatch.setattr(reporting, "sbc", refuses)
    assert main(["report", str(folder), "--num-worst", "2", "--calibrate", "5"]) == 0
    assert "The calibration could not be had: site `z` is not for this" in capsys.readouterr().out
    monkeypatch.undo()
    assert main(["report", str(folder), "--num-worst", "2", "--calibrate", "5"]) == 0
    assert load_calibration(folder).num_datasets == 5
    assert "could not be had" not in capsys.readouterr().out


def test_as_it_is_nothing_is_reckoned(fitted: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    assert main(["report", str(fitted), "--as-is", "--out", str(path)]) == 0
    assert not (fitted / "examination.nc").exists()
    assert "training" in sections(path)
    assert "the pair was not examined" in path.read_text()


def test_a_document_for_scripts(reported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.html"
    assert main(["report", str(reported), "--as-is", "--out", str(path), "--json"]) == 0
    found: Any = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["path"] == str(path)
    assert found["runs"][0]["colour"] == found["colour"]
    assert [one["topic"] for one in found["runs"][0]["judgements"]][:3] == ["Convergence", "Guide", "Bracket"]


def test_strict_is_for_gates(fitted: Path, tmp_path: Path) -> None:
    arguments = ["report", str(fitted), "--as-is", "--out", str(tmp_path / "r.html")]
    assert main(arguments) == 0
    assert main([*arguments, "--strict"]) == 1


def test_a_run_that_was_begun_only(fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "begun"
    shutil.copytree(fitted, folder)
    shutil.rmtree(folder / "checkpoint")
    (folder / "checkpoint").mkdir()
    Run(folder).update(status="started")
    assert main(["report", str(folder)]) == 0
    assert "has no checkpoint yet" in (folder / "report.html").read_text()
    assert "Convergence (doubt)" in capsys.readouterr().out


def test_discrete_latents_have_no_chains_and_it_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "bits"
    changes = ("training.steps=5", "evaluation.num_data=20", "evaluation.num_particles=20")
    assert main(["fit", "digits-helmholtz", *(f"--set={change}" for change in changes), "--out", str(folder)]) == 0
    assert main(["report", str(folder)]) == 0
    html = (folder / "report.html").read_text()
    assert "The posterior of the worst data could not be had" in html
    assert "The upper bound could not be had" in html
    assert main(["report", str(folder)]) == 0  # nor is it forgotten where nothing is reckoned again
    assert "The upper bound could not be had" in (folder / "report.html").read_text()
    assert "could not be made" not in html


def test_posteriors_and_files_of_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "schools"
    short = [f"--set=sampler.{key}" for key in ("num_chains=8", "num_samples=60", "num_warmup=60", "mode='replay'")]
    assert main(["mcmc", "eight-schools", *short, "--out", str(folder)]) == 0
    assert main(["report", str(folder), "--calibrate", "8"]) == 0
    found = sections(folder / "report.html")
    assert {"chains", "predictive", "calibration", "provenance"} <= set(found)
    assert load_calibration(folder).num_datasets == 8
    assert "could not be made" not in (folder / "report.html").read_text()
    capsys.readouterr()
    assert main(["report", str(folder / "posterior.nc")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "posterior.html")


def test_runs_side_by_side(reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    shutil.copytree(reported, other)
    assert main(["report", str(reported), str(other), "--num-worst", "2", "--title", "Two & one"]) == 0
    html = (tmp_path / "report.html").read_text()
    assert sections(tmp_path / "report.html")[1] == "comparison"
    assert "<title>Two &amp; one" in html


def test_a_run_is_watched_to_its_end(fitted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, path = tmp_path / "run", tmp_path / "r.html"
    shutil.copytree(fitted, folder)
    Run(folder).update(status="started")
    seen: list[bool] = []

    def end() -> None:
        while not path.exists():
            time.sleep(0.01)
        seen.append('http-equiv="refresh" content="1"' in path.read_text())
        Run(folder).update(status="finished")

    thread = threading.Thread(target=end)
    thread.start()
    wanted = reporting.Wanted(as_is=True)
    written = reporting.watch(folder, path, wanted, 0.2, lambda so_far: None)
    thread.join()
    assert seen == [True]
    assert "refresh" not in path.read_text()
    assert written.path == path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone"], "`source` gone is not there: expected a run folder that `fit` or `ppmodels mcmc` wrote"),
        (["gone.nc"], "`path` gone.nc is not there"),
        (["{run}", "--out", "r.pdf"], "`path` is r.pdf, expected a name that ends in .html"),
        (["{run}", "{run}", "--watch"], "`--watch` was asked for with 2 runs, expected one: watch each by itself"),
        (["{run}", "--device", "tpu"], "`device` must be auto, cpu, cuda or cuda:INDEX, got 'tpu'"),
        ([], "Missing argument 'RUN...'."),
    ],
)
def test_refusals(
    arguments: list[str],
    said: str,
    fitted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [word.format(run=fitted) for word in arguments]
    assert main(["report", *given]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []
