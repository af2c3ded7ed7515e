"""What is saved is whole or absent, and what was changed is refused in one line that says what is left."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from inference.checkpoint import Checkpoint, CheckpointError, checkpoints, load_checkpoint, save_checkpoint
from inference.runs import Run, RunError


def checkpoint(step: int) -> Checkpoint:
    parameters = {"a": torch.randn(200, 10), "b": torch.arange(3)}
    optimizer = torch.optim.Adam([torch.zeros(2, requires_grad=True)])
    training = {"optimizers": [optimizer.state_dict()], "rng": {"cpu": torch.get_rng_state()}}
    return Checkpoint(step, parameters, training, {"seconds": 1.5, "best_score": None})


def test_round_trip(tmp_path: Path) -> None:
    saved = checkpoint(12)
    found = load_checkpoint(save_checkpoint(tmp_path, saved))
    assert found.step == 12
    assert found.progress == saved.progress
    assert all(torch.equal(found.parameters[k], v) for k, v in saved.parameters.items())
    assert torch.equal(found.training["rng"]["cpu"], saved.training["rng"]["cpu"])


def test_shared_tensors_are_saved_under_both_names(tmp_path: Path) -> None:
    shared = torch.randn(4)
    found = load_checkpoint(save_checkpoint(tmp_path, Checkpoint(0, {"a": shared, "b": shared.view(2, 2)}, {}, {})))
    assert torch.equal(found.parameters["b"].flatten(), shared)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 5, 20, 100, 100):
        save_checkpoint(tmp_path, checkpoint(step))
    (tmp_path / ".step-000000003.99").mkdir()  # left by a kill
    (tmp_path / "step-000000100-backup").mkdir()  # a user's copy is not ours to count
    save_checkpoint(tmp_path, checkpoint(7), kind="best", keep=1)
    assert [p.name for p in checkpoints(tmp_path)] == ["step-000000100", "step-000000020"]
    assert [p.name for p in checkpoints(tmp_path, "best")] == ["best-000000007"]
    assert len(list(tmp_path.iterdir())) == 4  # nothing temporary is left


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("parameters.safetensors", truncate, "parameters.safetensors is not what was written"),
        ("parameters.safetensors", edit, "parameters.safetensors is not what was written"),
        ("training.pt", truncate, "training.pt is not what was written"),
        ("training.pt", Path.unlink, "training.pt is missing"),
        ("checkpoint.json", truncate, "checkpoint.json cannot be read"),
        ("checkpoint.json", Path.unlink, "checkpoint.json is missing"),
        ("checkpoint.json", lambda p: p.write_text(p.read_text().replace("1.5", "2.5")), "is not what was written"),
        ("checkpoint.json", lambda p: p.write_text("[]"), "checkpoint.json cannot be read"),
    ],
)
def test_damage_is_refused_in_one_line_that_names_what_is_left(
    tmp_path: Path, name: str, damage: object, message: str
) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    bad = save_checkpoint(tmp_path, checkpoint(2))
    damage(bad / name)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(bad)
    assert "\n" not in str(error.value)
    assert "step-000000001 is still there: remove the bad one and resume from that" in str(error.value)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, checkpoint(1))
    meta = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps(meta | {"format": 99}))
    with pytest.raises(CheckpointError, match="has format 99, expected 1; there is no other checkpoint"):
        load_checkpoint(path)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to write more: what a full disk looks like to a program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_the_new_checkpoint_only(tmp_path: Path) -> None:
    good = save_checkpoint(tmp_path, checkpoint(1))
    with files_no_larger_than(1000), pytest.raises(CheckpointError, match="step-000000002 cannot be written") as error:
        save_checkpoint(tmp_path, checkpoint(2))
    assert "step-000000001 is still there" in str(error.value)
    assert load_checkpoint(good).step == 1
    assert [p.name for p in tmp_path.iterdir()] == [good.name]


def test_metrics_survive_a_cut_line_and_keep_the_last_word(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", manifest={})
    run.log({"step": 1, "loss": 3.0})
    run.log({"step": 2, "loss": 2.0})
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')  # killed in the middle of a line
    run.log({"step": 2, "loss": 2.5})
    run.log({"step": 3, "loss": float("nan")})
    found = run.metrics()
    assert found["step"].tolist() == [1, 2, 3]
    assert found["loss"].tolist() == [3.0, 2.5, "nan"]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is no run: expected a folder with a manifest\.json"):
        Run(tmp_path)


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", manifest={})
    (run.folder / "manifest.json").write_text("{")
    with pytest.raises(RunError, match=r"manifest.json` is not the JSON that `fit` wrote"):
        run.update(status="finished")


def test_a_run_without_checkpoints_has_no_result(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", manifest={})
    assert run.latest() is None
    with pytest.raises(CheckpointError, match="has no checkpoint yet: resume it first"):
        run.result()
