"""The command: what it prints, writes, refuses and survives."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import inference.bounds.parsing
from inference.runs import Run
from inference.schedule import Annealing
from ppmodels.cli import main, pictures, show
from ppmodels.recipes import load_recipe

TINY = ["--set", "model.z_dim=2", "--set", "model.hidden=[8]", "--set", "evaluation.num_data=20"]
SHORT = [*TINY, "--set", "training.steps=20"]
warnings_print = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, `vae` and `iwae`; tests that change one copy it."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("vae", "iwae"):
        assert main(["fit", f"digits-{name}", *SHORT, "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    """A run of the test's own."""
    return Path(shutil.copytree(runs / "vae", tmp_path / "vae"))


Document = Callable[..., Any]


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str]) -> Document:
    """Run a command with `--json` and read what it prints."""

    def read(*arguments: object) -> Any:
        assert main([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    return read


def command(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    full = [sys.executable, "-m", "ppmodels.cli", *map(str, arguments)]
    return subprocess.Popen(full, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


# -- what it does --------------------------------------------------------------------------------------------


def test_fit_writes_a_run_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: Document) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("fit", "digits-iwae", *TINY, "--set", "training.steps=3", "--seed", 3)
    first, second = document(*arguments), document(*arguments)
    assert [first["run"], second["run"]] == ["runs/digits-iwae-3", "runs/digits-iwae-3-2"]
    assert first["steps"] == 3
    assert first["metrics"]["loss"] == second["metrics"]["loss"]
    recipe = load_recipe(tmp_path / first["run"] / "recipe.toml")
    assert (recipe.seed, recipe.bound.num_particles, recipe.training.steps) == (3, 5, 3)
    assert Run(first["run"]).manifest["data"]["protocol"] == "dynamic"


def test_fit_takes_a_file(tmp_path: Path, document: Document) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "digits-vae"\nname = "mine"\n[model]\nz_dim = 2\nhidden = 8\n[training]\nsteps = 2\n')
    assert document("fit", path, "--out", tmp_path / "a")["steps"] == 2


def test_fit_holds_out_data_and_stops_when_patience_is_out(tmp_path: Path, document: Document) -> None:
    changes = {"data.validation": 100, "training.patience": 1, "training.epochs": 50, "training.schedule": "plateau"}
    changes |= {"training.learning_rate": 1e-9}  # too small to get better each time
    found = document(
        "fit", "digits-vae", *TINY, *(f"--set={k}={v}" for k, v in changes.items()), "--out", tmp_path / "a"
    )
    assert found["stopped"] == "patience"
    assert found["best_score"] < 0
    assert Run(tmp_path / "a").manifest["data"]["n"] == 1400


@pytest.mark.parametrize(
    "changes",
    [
        ["bound={name='renyi', alpha=0.5, num_particles=3}", "training.optimizer=adamw"],
        ["bound={name='vrmax', num_particles=3}", "training.optimizer=adamax", "training.schedule=constant"],
        ["bound={name='elbo', kl='analytic'}", "training.optimizer=sgd", "training.schedule=burda"],
        ["bound.kl_warmup=2", "training.clip_norm=1.0", "model.prior=gaussian_mixture"],
    ],
    ids=str,
)
def test_fit_does_what_the_recipe_says(changes: list[str], tmp_path: Path, document: Document) -> None:
    options = [f"--set={change}" for change in changes]
    found = document("fit", "digits-vae", *TINY, "--set", "training.steps=3", *options, "--out", tmp_path / "a")
    assert found["metrics"]["loss"] > 0


def test_resume_of_a_finished_run_changes_nothing(run: Path, document: Document) -> None:
    before = Run(run).result()
    assert document("resume", run)["steps"] == 20
    assert all(torch.equal(Run(run).result().parameters[k], v) for k, v in before.parameters.items())


@warnings_print
def test_evaluate_writes_numbers_with_their_errors(run: Path, document: Document) -> None:
    found = document("evaluate", run, "--num-particles", 30)
    assert json.loads((run / "evaluation.json").read_text()) == found
    per_datum = pd.read_csv(run / "per_datum.csv", index_col="datum")
    assert len(per_datum) == found["data"]["n"] == 20
    assert found["log_likelihood"]["value"] == pytest.approx(per_datum["value"].mean(), rel=1e-6)
    assert found["data"]["protocol"] == "dynamic"
    assert len(found["data"]["sha256"]) == 64
    assert found["num_particles"] == 30
    assert found["active_units"]["z"]["of"] == 2


@warnings_print
def test_evaluate_in_a_fresh_process_gives_the_same_bits(run: Path, document: Document) -> None:
    here, rows = document("evaluate", run, "--num-particles", 30), (run / "per_datum.csv").read_bytes()
    with command("evaluate", run, "--num-particles", 30, "--json") as process:
        out, _ = process.communicate(timeout=60)
    there = json.loads(out)
    assert {**there, "seconds": 0} == {**here, "seconds": 0}
    assert (run / "per_datum.csv").read_bytes() == rows


@warnings_print
def test_numbers_that_are_not_finite_are_null(run: Path, document: Document) -> None:
    assert document("evaluate", run, "--num-particles", 5)["khat"]["median"] is None  # too few to fit a tail


@pytest.mark.parametrize(
    "words",
    [["--bounds", "elbo", "iwae:5", "iwae:50"], ["--bounds", "elbo,iwae:5", "--bounds", "iwae:50"]],
    ids=" ".join,
)
def test_bounds_puts_runs_under_one_another(words: list[str], runs: Path, document: Document) -> None:
    vae, iwae = runs / "vae", runs / "iwae"
    found = document("bounds", vae, iwae, *words)
    assert [(row["run"], row["bound"]) for row in found["ladder"]] == [
        (str(run), bound) for run in (vae, iwae) for bound in ("ELBO", "IWAE-5", "IWAE-50")
    ]
    assert {(row["data"], row["protocol"], row["n"]) for row in found["ladder"]} == {("digits test", "dynamic", 20)}
    values = [row["value"] for row in found["ladder"]]
    assert values[0] < values[1] < values[2]
    for row, a, b in zip(found["differences"], values[:3], values[3:], strict=True):
        assert (row["run"], row["minus"]) == (str(iwae), str(vae))
        assert row["value"] == pytest.approx(b - a, abs=1e-5)
        assert row["se"] < found["ladder"][0]["se"]  # paired
    assert list(pd.read_csv(vae / "bounds.csv")["bound"]) == ["ELBO", "IWAE-5", "IWAE-50"]


def test_bounds_on_other_data_are_not_compared(runs: Path, tmp_path: Path, document: Document) -> None:
    changes = ["--set", "evaluation.seed=1"]
    document("fit", "digits-vae", *SHORT, *changes, "--out", tmp_path / "other")
    assert document("bounds", runs / "vae", tmp_path / "other", "--bounds", "elbo")["differences"] == []


@pytest.mark.parametrize("suffix", [".csv", ".json", ".md"])
def test_bounds_writes_a_table(suffix: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / f"ladder{suffix}"
    arguments = ["bounds", str(runs / "vae"), str(runs / "iwae"), "--bounds", "elbo iwae:5", "--out", str(path)]
    assert main(arguments) == 0
    assert "IWAE-5" in capsys.readouterr().out
    if suffix == ".csv":
        assert len(pd.read_csv(path)) == 4
        assert len(pd.read_csv(tmp_path / "new" / "ladder-differences.csv")) == 2
    elif suffix == ".json":
        assert len(json.loads(path.read_text())["ladder"]) == 4
    else:
        assert path.read_text().count("| lower |") == 4


# -- both sides of log p(x) ----------------------------------------------------------------------------------

SIDES: list[object] = [
    "--bounds",
    "elbo",
    "iwae:20",
    "tvo:5:20",
    "cubo:2:20",
    "ais:5:2",
    "bdmc:5:2",
    "--num-simulated",
    3,
]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains read from a command line find their steps in less time."""
    short = partial(Annealing, num_pilot=5, num_warmup=3, num_leapfrogs=2)
    monkeypatch.setattr(inference.bounds.parsing, "Annealing", short)


LABELS = ["ELBO", "IWAE-20", "TVO(5)-20", "CUBO(2)-20", "AIS-5x2"]


@pytest.mark.usefixtures("brief")
@warnings_print
def test_bounds_of_every_source(run: Path, document: Document) -> None:
    found = document("bounds", run, *SIDES, "--num-data", 4)
    rows = [(row["on"], row["bound"]) for row in found["ladder"]]
    assert rows == [
        *(("data", label) for label in LABELS),
        *(("simulated", label) for label in [*LABELS, "reverse AIS-5x2"]),
    ]
    assert {row["n"] for row in found["ladder"]} == {4}
    near, sure = found["brackets"]
    assert (near["on"], near["upper"], near["certified"]) == ("data", "CUBO(2)-20", False)
    assert (sure["on"], sure["upper"], sure["certified"]) == ("simulated", "reverse AIS-5x2", True)
    assert all(one["low"] < one["high"] and one["level"] == 0.95 for one in (near, sure))
    assert pd.read_csv(run / "bounds.csv")["on"].tolist() == [on for on, _ in rows]


@warnings_print
def test_a_few_draws_are_warned_of_and_what_is_not_known_is_null(run: Path, document: Document) -> None:
    found = document("bounds", run, "--bounds", "elbo", "cubo:1:2", "--num-data", 4)
    khat = [row["khat"] for row in found["ladder"]]
    assert khat == [None, None]  # of two draws nothing is known
    one = document("bounds", run, "--bounds", "elbo", "--num-data", 1)
    assert [(row["se"], row["mc_se"], row["low"]) for row in one["ladder"]] == [(None, None, None)]
    assert one["brackets"] == one["warnings"] == []


@warnings_print
def test_bounds_that_hold_in_the_limit_are_told_of(run: Path, document: Document) -> None:
    """TVO's right sum of two draws lies above IWAE-2 but far below IWAE-500: a draw of two is no integral."""
    found = document("bounds", run, "--bounds", "iwae:500", "tvo-right:50:2", "--num-data", 20, "--num-simulated", 20)
    assert {(said["run"], said["on"]) for said in found["warnings"]} == {(str(run), "data"), (str(run), "simulated")}
    assert all("TVO-right(50)-2 lies" in said["said"] for said in found["warnings"])


@pytest.mark.usefixtures("brief")
@warnings_print
@pytest.mark.parametrize("suffix", [".csv", ".json", ".md", ".parquet"])
def test_brackets_are_written_beside_the_ladder(
    suffix: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path, plot = tmp_path / f"ladder{suffix}", tmp_path / "new" / ("ladder.svg" if suffix == ".csv" else "ladder.png")
    words = [*SIDES, "--num-data", 4, "--out", path, "--plot", plot]
    assert main(["bounds", str(run), *map(str, words)]) == 0
    out = capsys.readouterr().out
    assert "on 3 data simulated from the model:" in out
    assert "log p(x) in [" in out
    assert plot.read_bytes().startswith(b"<?xml" if suffix == ".csv" else b"\x89PNG")
    if suffix == ".json":
        assert len(json.loads(path.read_text())["brackets"]) == 2
    elif suffix == ".md":
        assert path.read_text().count("| 0.950 |") == 2
    else:
        read = pd.read_csv if suffix == ".csv" else pd.read_parquet
        assert len(read(path)) == 11
        assert list(read(tmp_path / f"ladder-brackets{suffix}")["on"]) == ["data", "simulated"]


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="needs an environment without pyarrow")
def test_a_parquet_needs_its_library(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "bounds", run, "--bounds", "elbo", "--out", tmp_path / "ladder.parquet")
    assert message.startswith("`out` as .parquet needs pyarrow, which is not installed: `pip install pyarrow`")


def test_several_seeds_make_errors_smaller(run: Path, document: Document) -> None:
    one, four = (
        document("bounds", run, "--bounds", "iwae:5", "iwae:50", "--num-seeds", n)["ladder"][0]["mc_se"] for n in (1, 4)
    )
    assert 0.3 < four / one < 0.7  # half


@pytest.mark.usefixtures("brief")
@warnings_print
def test_chains_kept_in_a_run_never_stand_in_the_way(run: Path, document: Document) -> None:
    """Other data, more simulated ones, another K, a longer fit: each has chains of its own, and the first stay."""
    words = ["--bounds", "ais:5:2", "bdmc:5:2"]

    def values(*options: object) -> list[float]:
        return [row["value"] for row in document("bounds", run, *words, *options)["ladder"]]

    first = values("--num-data", 4, "--num-simulated", 3)
    kept = {path.name for path in (run / "annealing").iterdir()}
    assert len(kept) == 3
    assert values("--num-data", 5, "--num-simulated", 3) != first
    assert values("--num-data", 4, "--num-simulated", 2)[0] == first[0]  # read back
    assert document("bounds", run, "--bounds", "ais:6:2", "--num-data", 4)["ladder"][0]["bound"] == "AIS-6x2"
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("steps = 20", "steps = 25"))
    assert document("resume", run)["steps"] == 25
    assert values("--num-data", 4, "--num-simulated", 3) != first
    assert kept < {path.name for path in (run / "annealing").iterdir()}
    assert document("evaluate", run, "--num-particles", 100)["step"] == 25


def test_sample_writes_pictures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(run), "-n", "5"]) == 0
    paths = [Path(text) for text in capsys.readouterr().out.splitlines()]
    assert paths == [run / "samples.png", run / "reconstructions.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_sample_writes_numbers(run: Path, tmp_path: Path, document: Document) -> None:
    found = document("sample", run, "-n", 5, "--out", tmp_path / "numbers.csv")
    assert [pd.read_csv(path).shape for path in found.values()] == [(5, 64), (5, 64)]
    assert Path(found["reconstructions"]).name == "numbers-reconstructions.csv"
    again = document("sample", run, "-n", 5, "--out", tmp_path / "again.csv")
    assert Path(again["samples"]).read_bytes() == Path(found["samples"]).read_bytes()


def test_list_names_every_recipe(document: Document, capsys: pytest.CaptureFixture[str]) -> None:
    found = document("list")
    assert {"digits-vae", "mnist-iwae-2l"} <= {row["recipe"] for row in found["recipes"]}
    assert all(row["paper"] for row in found["recipes"] + found["models"])
    assert main(["list"]) == 0
    assert "digits-vae" in capsys.readouterr().out


def test_doctor_names_what_it_found(document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").touch()
    monkeypatch.setenv("PPMODELS_DATA", str(tmp_path))
    found = {row["what"]: row for row in document("doctor")}
    assert found["torch"]["found"] == torch.__version__
    assert found["mnist"] == {"what": "mnist", "found": str(raw), "state": "ok"}


def test_doctor_sees_a_file_that_would_shadow_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inference.py").touch()
    assert main(["doctor"]) == 1
    assert f"{tmp_path / 'inference.py'} is imported in its place" in capsys.readouterr().out


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == main(["fit", "--help"]) == main(["--version"]) == 0
    out = capsys.readouterr().out
    assert "reconstruct test data" in out
    assert out.splitlines()[-1].startswith("ppmodels ")


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
        (["fit", "digits-vea"], "`digits-vea` is no recipe; nearest is `digits-vae`"),
        (["fit", "nowhere.toml"], "nowhere.toml cannot be read: No such file"),
        (
            ["fit", "digits-vae", "--set", "training.epoch=1"],
            "`training.epoch` is not known; nearest is `training.epochs`",
        ),
        (
            ["fit", "digits-vae", "--set", "training.learning_rate=-1"],
            "`training.learning_rate` must be greater than 0",
        ),
        (
            ["fit", "digits-vae", "--set", "bound.num_particles=0"],
            "`bound.num_particles` must be greater than 0, got 0",
        ),
        (["fit", "digits-vae", "--set", "model.prior=gauss"], "`model.prior.name` must be one of standard_normal"),
        (
            ["fit", "digits-vae", "--set", "data.name=mnits"],
            "`name` must be one of digits, mnist, omniglot, got 'mnits'",
        ),
        (["fit", "digits-vae", "--set", "data.folder=nowhere"], "`folder` must be an existing folder, got nowhere"),
        (["fit", "digits-vae", "--set", "data.validation=1500"], "`n` must be between 1 and 1499"),
        (["fit", "digits-vae", "--set", "evaluation.bounds=['iwae:0']"], "`bounds` has 'iwae:0', expected"),
        (
            ["fit", "digits-vae", "--device", "nonsense"],
            "`device` must be auto, cpu, cuda or cuda:INDEX, got 'nonsense'",
        ),
        (["fit", "digits-vae", "--device", "cuda:99"], "`device` is cuda:99, but "),
        (["fit"], "Missing argument"),
        (["fit", "digits-vae", "--sed", "3"], "No such option"),
        (["fti", "digits-vae"], "No such command"),
        (["resume", "nowhere"], "`nowhere` is no run: expected a folder with a manifest.json"),
        (["evaluate", "nowhere"], "`nowhere` is no run: expected a folder with a manifest.json"),
        (["bounds", "nowhere"], "`nowhere` is no run: expected a folder with a manifest.json"),
        (["sample", "nowhere"], "`nowhere` is no run: expected a folder with a manifest.json"),
        (["bounds", "nowhere", "--out", "table.xls"], "`out` must end in .csv, .json, .md or .parquet, got table.xls"),
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
        (["evaluate", "--num-particles", 0], "`num_particles` is 0, expected a whole number, at least 1"),
        (["evaluate", "--split", "tset"], "`split` must be one of train, test, all, got 'tset'"),
        (["evaluate", "--split", "valid"], "`split` is 'valid', but the recipe holds no data out"),
        (["bounds", "--bounds", "iwea:5"], "`bounds` has 'iwea:5', expected"),
        (["bounds", "--bounds", "elbo,elbo"], "`bounds` has ELBO twice"),
        (["bounds", "--bounds", "elbo", "iwea:5"], "`bounds` has 'iwea:5', expected"),
        (["bounds", "--bounds", "elbo", "bdmc:0"], "`bounds` has 'bdmc:0': `num_temperatures` is 0, expected"),
        (["bounds", "--bounds", "cubo:0.5", "elbo"], "`bounds` has 'cubo:0.5': `order` is 0.5, expected"),
        (["bounds", "--bounds", "elbo", "eubbo"], "`bounds` has 'eubbo', expected one of elbo, iwae[:K]"),
        (["bounds", "--bounds", "elbo", "nowhere"], "`nowhere` is no run: expected a folder"),
        (["bounds", "--plot", "ladder.gif"], "`plot` must end in .png, .svg or .pdf, got ladder.gif"),
        (["bounds", "--num-seeds", 0], "Invalid value for '--num-seeds'"),
        (["bounds", "--num-simulated", 0], "Invalid value for '--num-simulated'"),
        (["sample", "-n", 0], "Invalid value for '-n'"),
        (["sample", "--out", "picture.xyz"], "Format 'xyz' is not supported"),
    ],
    ids=str,
)
def test_wrong_input_about_a_run_is_one_line(
    arguments: list[str], message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = arguments
    assert message in refused(capsys, name, runs / "vae", *options)


def test_a_run_is_never_written_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds a run already: resume it" in refused(capsys, "fit", "digits-vae", *SHORT, "--out", run)


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    message = refused(capsys, "fit", "digits-vae", *SHORT, "--out", tmp_path / "file" / "run")
    assert message.startswith(f"`out` {tmp_path / 'file' / 'run'} cannot be written: Not a directory")


def test_a_table_that_cannot_be_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    message = refused(capsys, "bounds", run, "--bounds", "elbo", "--out", tmp_path / "file" / "ladder.csv")
    assert message == f"{tmp_path / 'file'}: File exists"


def truncate(run: Path) -> None:
    path = next((run / "checkpoint").glob("step-*/parameters.safetensors"))
    path.write_bytes(path.read_bytes()[:100])


def edit(run: Path) -> None:
    path = next((run / "checkpoint").glob("step-*/checkpoint.json"))
    path.write_text(path.read_text().replace("{", "[", 1))


def swap(run: Path) -> None:
    path = run / "recipe.toml"
    path.write_text(path.read_text().replace("z_dim = [\n    2,", "z_dim = [\n    3,"))


def forget(run: Path) -> None:
    (run / "recipe.toml").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "parameters.safetensors is not what was written (100 bytes, another sha256)"),
        (edit, "checkpoint.json cannot be read (JSONDecodeError"),
        (swap, "`state` does not belong to this pair: "),
        (forget, "has no recipe.toml: expected a run that was begun by a recipe"),
    ],
)
def test_a_damaged_run_is_one_line(
    damage: Callable[[Path], None], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for older in sorted((run / "checkpoint").glob("step-*"))[:-1]:
        shutil.rmtree(older)
    damage(run)
    for name in ("evaluate", "resume"):
        assert message in refused(capsys, name, run)


def test_a_run_that_diverges_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["--set", "training.optimizer=sgd", "--set", "training.learning_rate=1e20"]
    message = refused(capsys, "fit", "digits-vae", *SHORT, *changes, "--out", tmp_path / "a")
    assert message.startswith("training stopped at step ")
    assert "the last good checkpoint is step 0" in message


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="is no recipe"):
        main(["--debug", "fit", "digits-vea"])


@warnings_print
def test_a_warning_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--num-particles", "5"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: K = 5 is too small for this guide: ")


# -- what it survives ----------------------------------------------------------------------------------------


def interrupted(arguments: list[object], folder: Path, sent: signal.Signals, delay: float) -> tuple[int, str]:
    """Start a command, send it a signal `delay` seconds after its next checkpoint, and see what it says."""
    before = set((folder / "checkpoint").glob("step-*"))
    with command(*arguments) as process:
        while process.poll() is None and not set((folder / "checkpoint").glob("step-*")) - before:
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(sent)
        _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_a_run_that_is_killed_twice_ends_with_the_same_bits(tmp_path: Path, document: Document) -> None:
    changes = {"training.epochs": 40, "training.report_every": 15, "training.checkpoint_seconds": 0}
    options = [*TINY, *(f"--set={key}={value}" for key, value in changes.items())]
    document("fit", "digits-vae", *options, "--out", tmp_path / "left alone")
    folder, delay = tmp_path / "killed", random.Random(0).uniform

    code, err = interrupted(["fit", "digits-vae", *options, "--out", folder], folder, signal.SIGINT, delay(0, 0.25))
    assert code == 130
    assert err == f"interrupted: go on with `ppmodels resume {folder}`\n"
    code, err = interrupted(["resume", folder], folder, signal.SIGKILL, delay(0, 0.25))
    assert (code, err) == (-signal.SIGKILL, "")
    assert Run(folder).manifest["status"] == "started"

    assert document("resume", folder)["steps"] == 40 * 15
    ended, alone = Run(folder).result(), Run(tmp_path / "left alone").result()
    assert ended.step == alone.step == 40 * 15
    assert all(torch.equal(ended.parameters[name], value) for name, value in alone.parameters.items())
    columns = ["step", "lr", "loss"]
    pd.testing.assert_frame_equal(Run(folder).metrics()[columns], Run(tmp_path / "left alone").metrics()[columns])


def test_a_closed_pipe_is_silent() -> None:
    with command("--version") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


# -- tables and pictures -------------------------------------------------------------------------------------

ROWS = [{"name": "a [b]", "value": 1.23456}, {"name": "long name", "value": -20.0}]


def test_a_table_is_plain_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_table(ROWS)
    assert capsys.readouterr().out == "name         value\na [b]        1.235\nlong name  -20.000\n"


def test_a_table_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show.print_table(ROWS)
    out = capsys.readouterr().out
    assert "a [b]" in out
    assert "-20.000" in out


def test_a_grid_places_images_row_by_row() -> None:
    images = torch.arange(5.0)[:, None].expand(5, 6) / 10  # each of one level
    canvas = pictures.grid(images, (2, 3), columns=2).axes[0].images[0].get_array()
    grey, clear = canvas[..., 0], canvas[..., 3] == 0
    assert grey.shape == (3 * 3, 2 * 4)
    assert [grey[0, 0], grey[0, 4], grey[3, 0]] == [255, 229, 204]  # black on white
    assert clear[6, 4]  # the sixth place is empty
    assert clear[2, 0]  # so is the line between


def test_reconstructions_stand_below_the_data() -> None:
    data, means = torch.zeros(3, 4), torch.ones(3, 4)
    canvas = pictures.reconstructions(data, means, (2, 2), columns=2).axes[0].images[0].get_array()
    assert canvas[::3, 0, 0].tolist() == [255, 0, 255, 0]
    assert canvas[6, 3, 3] == 0  # the fourth datum is not there


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_run_is_resumed_where_it_was_begun(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = json.loads((run / "manifest.json").read_text())
    assert begun["device"] == "cpu"
    (run / "manifest.json").write_text(json.dumps(begun | {"device": "cuda"}))
    assert main(["resume", str(run)]) == 2
    assert "`device` is cuda, but 0 CUDA devices are found here" in capsys.readouterr().err
