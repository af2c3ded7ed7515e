"""The commands of posteriors, with the real sampler: what they print, write, refuse and survive."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from torch import Tensor

from inference.diagnostics import load_tree, save_tree
from inference.mcmc.chees import ChEES
from inference.runs import Run
from ppmodels.cli import main, posterior
from ppmodels.recipes.posterior import load_posterior

SHORT = [f"--set=sampler.{key}" for key in ("num_chains=8", "num_samples=50", "num_warmup=50", "mode='replay'")]
LATENTS = [f"--set=sampler.{key}" for key in ("num_chains=4", "num_samples=10", "num_warmup=5", "mode='eager'")]
TINY = ("training.steps=5", "model.hidden=[8]", "model.z_dim=2")
pytestmark = pytest.mark.filterwarnings("default")

Document = Callable[..., Any]


@pytest.fixture(scope="module")
def schools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a posterior; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("posteriors") / "schools"
    assert main(["mcmc", "eight-schools", *SHORT, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a fit."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    assert main(["fit", "digits-vae", *(f"--set={change}" for change in TINY), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str]) -> Document:
    """Run a command with `--json` and read what it prints."""

    def read(*arguments: object, code: int = 0) -> Any:
        assert main([*map(str, arguments), "--json"]) == code
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    return read


def draws(folder: Path, name: str) -> np.ndarray[Any, Any]:
    return load_tree(folder / "posterior.nc")["posterior"][name].values


# -- mcmc ----------------------------------------------------------------------------------------------------


def test_mcmc_writes_a_folder(schools: Path) -> None:
    recipe = load_posterior(schools / "recipe.toml")
    assert (recipe.name, recipe.sampler.num_samples) == ("eight-schools", 50)
    manifest = Run(schools).manifest
    assert (manifest["kind"], manifest["status"], manifest["backend"]) == ("posterior", "finished", "chees")
    assert len(manifest["data"]["sha256"]) == 64
    tree = load_tree(schools / "posterior.nc")
    assert dict(tree["posterior"]["theta"].sizes) == {"chain": 8, "draw": 50, "school": 8}
    assert tree["posterior"]["school"].values.tolist() == list("ABCDEFGH")
    assert tree["observed_data"]["y"].values.tolist() == [28, 8, -3, 7, -1, 1, 18, 12]
    diagnosis = json.loads((schools / "diagnosis.json").read_text(), parse_constant=pytest.fail)
    assert diagnosis["passed"] == manifest["passed"]
    assert len(diagnosis["parameters"]) == 18


def test_the_posterior_of_the_eight_schools_is_the_known_one(schools: Path) -> None:
    """Against the means and sds of posteriordb's 10,000 reference draws, within four standard errors."""
    rows = json.loads((schools / "diagnosis.json").read_text())["parameters"]
    found = {row["name"]: row for row in rows}
    for name, mean, sd in (("mu", 4.411, 3.309), ("tau", 3.602, 3.198), ("theta[A]", 6.151, 5.616)):
        error = sd * np.sqrt(1 / found[name]["ess_bulk"] + 1 / 10_000)
        assert abs(found[name]["mean"] - mean) < 4 * error, name


def test_mcmc_is_a_document(schools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: Document) -> None:
    """The same draws for the same seed, and everything a script asks for."""
    monkeypatch.chdir(tmp_path)
    found = document("mcmc", "eight-schools", *SHORT, "--seed", 0)
    assert (found["run"], found["posterior"]) == ("runs/eight-schools-0", "runs/eight-schools-0/posterior.nc")
    assert (found["backend"], found["mode"], found["partial"]) == ("chees", "replay", False)
    assert found["diagnosis"] == json.loads((schools / "diagnosis.json").read_text())
    assert np.array_equal(draws(Path(found["run"]), "tau"), draws(schools, "tau"))


def test_resume_of_a_finished_posterior_reads_it_and_prints_what_mcmc_does(
    schools: Path, monkeypatch: pytest.MonkeyPatch, document: Document, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (schools / "posterior.nc").stat().st_mtime_ns
    assert document("resume", schools)["diagnosis"] == json.loads((schools / "diagnosis.json").read_text())
    monkeypatch.setattr(posterior, "TOP", 3)
    assert main(["resume", str(schools)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(("passed (MCMC)", "not passed (MCMC)"))
    assert [line.split()[0] for line in out.splitlines()[-6:-3]] == ["mu", "tau", "eta[A]"]
    assert out.splitlines()[-3:] == [
        f"... and 15 more in {schools / 'diagnosis.json'}",
        "",
        str(schools / "posterior.nc"),
    ]
    assert (schools / "posterior.nc").stat().st_mtime_ns == before


def test_a_mixture_is_judged_by_what_is_identified(tmp_path: Path, document: Document) -> None:
    changes = {"program.sticks": 2, "data.n": 10, "sampler.num_samples": 5, "sampler.num_warmup": 2}
    changes |= {"sampler.num_chains": 4, "sampler.mode": "'eager'"}
    folder = tmp_path / "a"
    found = document("mcmc", "dp-mixture", *(f"--set={k}={v}" for k, v in changes.items()), "--out", folder)
    names = [row["name"].partition("[")[0] for row in found["diagnosis"]["parameters"]]
    assert set(names) == {"alpha", "weights", "occupied", "density"}
    assert found["diagnosis"] == document("diagnose", folder, code=1)
    other = document("diagnose", folder, "--var-name", "loc", "--var-name", "scale", code=1)
    assert [row["name"] for row in other["parameters"]] == ["loc[0]", "loc[1]", "scale[0]", "scale[1]"]


# -- latents of a pair ---------------------------------------------------------------------------------------


def test_mcmc_of_a_run_samples_the_latents_of_its_test_data(fitted: Path, tmp_path: Path, document: Document) -> None:
    found = document("mcmc", fitted, *LATENTS, "--num-data", 3, "--out", tmp_path / "a")
    assert found["diagnosis"]["method"] == "MCMC"
    tree = load_tree(tmp_path / "a" / "posterior.nc")
    assert list(tree["posterior"]["z"].shape) == [4, 10, 3, 2]
    recipe = load_posterior(tmp_path / "a" / "recipe.toml")
    assert recipe.pair is not None
    assert (recipe.name, recipe.pair.run, recipe.pair.num_data) == ("digits-vae-latents", str(fitted.resolve()), 3)
    data = Run(tmp_path / "a").manifest["data"]
    assert (data["name"], data["split"], data["n"]) == ("digits", "test", 3)


def test_a_recipe_of_latents_fits_its_pair_first(tmp_path: Path, document: Document) -> None:
    changes = f"--set=pair.changes={json.dumps(TINY)}"
    document("mcmc", "digits-latents", *LATENTS, changes, "--num-data", 2, "--out", tmp_path / "a")
    assert Run(tmp_path / "a" / "pair").manifest["status"] == "finished"
    assert list(draws(tmp_path / "a", "z").shape) == [4, 10, 2, 2]


# -- what it survives ----------------------------------------------------------------------------------------


def interrupt(monkeypatch: pytest.MonkeyPatch, method: str, at: int) -> None:
    """Ctrl-C at a transition, once."""
    whole = getattr(ChEES, method)

    def stopped(self: ChEES, state: dict[str, Tensor], t: int) -> Any:
        if t == at:
            monkeypatch.undo()
            raise KeyboardInterrupt
        return whole(self, state, t)

    monkeypatch.setattr(ChEES, method, stopped)


def test_interrupted_twice_it_ends_with_the_same_draws(
    schools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a"
    interrupt(monkeypatch, "adapt", 10)  # before the first draw
    assert main(["mcmc", "eight-schools", *SHORT, "--out", str(folder)]) == 130
    assert capsys.readouterr() == ("", f"interrupted: go on with `ppmodels resume {folder}`\n")
    interrupt(monkeypatch, "draw", 20)
    assert main(["resume", str(folder)]) == 130
    out, err = capsys.readouterr()
    assert err == f"interrupted: what was drawn is kept; go on with `ppmodels resume {folder}`\n"
    assert "complete run" in out
    assert Run(folder).manifest["status"] == "interrupted"
    assert np.array_equal(draws(folder, "tau"), draws(schools, "tau")[:, :20])
    assert main(["resume", str(folder)]) == 0
    assert np.array_equal(draws(folder, "tau"), draws(schools, "tau"))
    assert Run(folder).manifest["status"] == "finished"


# -- diagnose ------------------------------------------------------------------------------------------------


def test_diagnose_says_by_its_exit_code_whether_draws_pass(
    tmp_path: Path, document: Document, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    shape = ("chain", "draw")
    stats = {"energy": (shape, random.normal(size=(4, 500))), "diverging": (shape, np.zeros((4, 500), bool))}
    groups = {"posterior": {"mu": (shape, random.normal(size=(4, 500)))}, "sample_stats": stats}
    path = save_tree(xr.DataTree.from_dict({name: xr.Dataset(of) for name, of in groups.items()}), tmp_path / "mine.nc")
    assert document("diagnose", path)["passed"] is True
    assert document("diagnose", path, "--ess-bulk", 1_000_000, code=1)["passed"] is False
    assert main(["diagnose", str(path)]) == 0
    assert capsys.readouterr().out.startswith("passed (MCMC): ")


def test_every_threshold_reaches_the_gate(
    monkeypatch: pytest.MonkeyPatch, schools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(posterior, "diagnose", lambda tree, **options: given.update(options) or real(tree))
    names = ["rhat", "nested_rhat", "ess_bulk", "ess_tail", "mcse", "bfmi", "divergences", "restarts", "khat"]
    names.append("loo_khat")
    words = [word for i, name in enumerate(names) for word in (f"--{name.replace('_', '-')}", str(i))]
    assert main(["diagnose", str(schools), *words]) == 1
    assert given == {name: float(i) for i, name in enumerate(names)} | {"var_names": None}


real = posterior.diagnose


def test_list_names_programs_and_posteriors(document: Document, capsys: pytest.CaptureFixture[str]) -> None:
    found = document("list")
    assert {"recipe", "aim"} <= set(found["recipes"][0])
    assert "dp_mixture" in {row["program"] for row in found["programs"]}
    assert {"digits-latents", "eight-schools"} <= {row["posterior"] for row in found["posteriors"]}
    assert all(row["paper"] for row in found["posteriors"] + found["programs"])
    assert main(["list"]) == 0
    assert "latents of digits-vae" in capsys.readouterr().out


# -- what it refuses -----------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command says before it exits with 2."""
    assert main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert not out
    (line,) = err.splitlines()
    label, _, message = line.partition(": ")
    assert label == "error"
    return message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mcmc", "eight-school"], "`eight-school` is no recipe of a posterior; nearest is `eight-schools`"),
        (["mcmc", "digits-vae"], "`digits-vae` is a recipe of a fit, expected one of a posterior"),
        (["mcmc", "nowhere.toml"], "nowhere.toml cannot be read: No such file"),
        (["mcmc", "."], "`.` is no run: expected a folder with a manifest.json"),
        (["mcmc", "hmm", "--set", "sampler.num_sample=3"], "`sampler.num_sample` is not known; nearest is"),
        (["mcmc", "hmm", "--set", "pair.recipe=digits-vae"], "`program` or `pair` must be given, one of the two"),
        (["mcmc", "hmm", "--num-data", "3"], "`num_data` is 3, but hmm has no latents of data: expected a run, or"),
        (["mcmc", "hmm", "--num-data", "0"], "Invalid value for '--num-data'"),
        (["mcmc", "hmm", "--device", "nonsense"], "`device` must be auto, cpu, cuda or cuda:INDEX, got 'nonsense'"),
        (["mcmc", "digits-latents", "--set", "pair.recipe=digits-vea"], "`digits-vea` is no recipe; nearest is"),
        (["mcmc", "digits-latents", "--set", "pair.changes=['a=1']"], "`a` is not known; nearest is"),
        (["mcmc"], "Missing argument"),
        (["fit", "eight-schools"], "`eight-schools` is no recipe; nearest is"),
        (["diagnose", "nowhere.nc"], "`path` nowhere.nc is not there: expected a tree"),
        (["diagnose", "nowhere"], "`path` is nowhere, expected a name that ends in .nc or .zarr"),
        (["diagnose", "."], "`path` . has no posterior.nc, expected a folder that `ppmodels mcmc` wrote"),
        (["resume", "nowhere"], "`nowhere` is no run: expected a folder with a manifest.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mcmc"], "holds a posterior already: look at it with `ppmodels diagnose "),
        (["diagnose", "--rhat", -1], "`rhat` is -1.0, expected a number, at least 0"),
        (["diagnose", "--khat", 1], "`khat` was given, but the draws are of MCMC"),
        (["diagnose", "--var-name", "nu"], "`var_names` has ['nu'], expected some of mu, tau, eta, theta"),
        (["diagnose", "--rhat", "low"], "Invalid value for '--rhat'"),
        (["evaluate"], "`program` is not known"),
    ],
    ids=str,
)
def test_wrong_input_about_a_posterior_is_one_line(
    arguments: list[Any], message: str, schools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = arguments
    assert message in refused(capsys, name, schools, *options)


def test_a_posterior_is_never_written_over(schools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds a run already: resume it" in refused(capsys, "mcmc", "eight-schools", *SHORT, "--out", schools)


def test_files_that_are_no_posterior(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.nc").write_text("no NetCDF")
    assert "text.nc is no nc tree that can be read" in refused(capsys, "diagnose", tmp_path / "text.nc")
    prior = xr.Dataset({"mu": (("chain", "draw"), [[1.0, 2.0]])})
    path = save_tree(xr.DataTree.from_dict({"prior": prior}), tmp_path / "prior.nc")
    assert "`tree` has prior, expected a group `posterior` with variables" in refused(capsys, "diagnose", path)
    empty = prior.isel(draw=slice(0, 0))
    path = save_tree(xr.DataTree.from_dict({"posterior": empty}), tmp_path / "empty.nc")
    assert "1 chains of 0 draws, expected at least one draw" in refused(capsys, "diagnose", path)


@pytest.mark.skipif(find_spec("nutpie") is not None, reason="needs an environment without nutpie")
def test_nutpie_that_is_missing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "mcmc", "hmm", "--set", "sampler.backend=nutpie", "--out", tmp_path / "a")
    assert message.startswith("`sampler.backend` is 'nutpie', which is not installed: `pip install nutpie`")
    assert not (tmp_path / "a").exists()
