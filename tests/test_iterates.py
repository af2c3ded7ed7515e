"""A running mean of the parameters: the formula, what is scored, kept and left behind, and a run that goes on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

from inference.fit import Fitted, fit
from inference.iterates import MovingAverage
from inference.objectives import Variational
from inference.optim import adam
from inference.pair import Pair
from inference.runs import Run, RunError
from tests.oracles import Factor, LinearGaussian

pytestmark = pytest.mark.usefixtures("double")
DECAY = 0.8


def run(pair: Factor, x: Tensor, **options: Any) -> Fitted:
    return fit(pair.model, pair.guide, x, **({"batch_size": 10, "optimizer": adam(0.05)} | options))


def values(pair: Factor) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in pair.state_dict().items()}


def path(x: Tensor, steps: int, **options: Any) -> list[dict[str, Tensor]]:
    """The parameters after every update of a run without an average, each from a run of its own."""
    ends = []
    for step in range(1, steps + 1):
        pair = Factor()
        run(pair, x, steps=step, **options)
        ends.append(values(pair))
    return ends


def mean_of(ends: list[dict[str, Tensor]], name: str) -> Tensor:
    """The definition, term by term."""
    weights = [DECAY ** (len(ends) - t) for t in range(1, len(ends) + 1)]
    return sum(w * end[name] for w, end in zip(weights, ends, strict=True)) / sum(weights)  # type: ignore[return-value]


def score_of(pair: Factor, x: Tensor) -> float:
    """What `fit` gives these parameters, by the noise it always scores with."""
    there = Factor()
    there.load_state_dict(pair.state_dict())
    fitted = run(there, x, epochs=1, validation=x, optimizer=adam(1e-300))  # which leaves them where they are
    return float(fitted.metrics["validation"].dropna().iloc[0])


@pytest.mark.parametrize("mode", ["eager", "replay"])
def test_the_pair_is_left_with_the_mean_of_the_path(mode: str, tmp_path: Path) -> None:
    x, pair = LinearGaussian.make().data(30), Factor()
    ends = path(x, 4, mode=mode)
    run(pair, x, steps=4, average=DECAY, mode=mode, out=tmp_path / "run")
    kept = Run(tmp_path / "run").result().parameters
    for name, found in values(pair).items():
        torch.testing.assert_close(found, mean_of(ends, name))
        assert torch.equal(found, kept[f"model.{name}"])
    assert not torch.allclose(values(pair)["W"], ends[-1]["W"], atol=1e-3)
    assert Run(tmp_path / "run").manifest["average"] == DECAY


def test_the_mean_is_what_is_scored_and_training_goes_on_from_where_it_was() -> None:
    """The score after an epoch is that of the mean, by the same noise; the path is that of a run without an average."""
    x, pair = LinearGaussian.make().data(30), Factor()
    fitted = run(pair, x, epochs=3, average=DECAY, validation=x)
    ends = path(x, 9)
    for epoch in (1, 2, 3):
        there, so_far = Factor(), ends[: 3 * epoch]
        there.load_state_dict({name: mean_of(so_far, name) for name in so_far[0]})
        assert fitted.metrics["validation"].dropna().iloc[epoch - 1] == pytest.approx(score_of(there, x), abs=1e-9)


@pytest.mark.parametrize("stop_at", [1, 4, 6])
def test_a_resumed_run_ends_with_the_same_bits(stop_at: int, tmp_path: Path) -> None:
    x = LinearGaussian.make().data(25)
    options: dict[str, Any] = {"average": DECAY, "validation": x[:7], "report_every": 1, "checkpoint_seconds": 0.0}
    whole, resumed = Factor(), Factor()
    run(whole, x, steps=9, out=tmp_path / "whole", **options)
    run(Factor(), x, steps=stop_at, out=tmp_path / "parts", **options)
    run(resumed, x, steps=9, out=tmp_path / "parts", resume=True, **options)
    for name, value in values(whole).items():
        assert torch.equal(value, values(resumed)[name]), name


def test_a_run_goes_on_with_the_average_it_was_begun_with(tmp_path: Path) -> None:
    x = LinearGaussian.make().data(20)
    run(Factor(), x, steps=2, out=tmp_path, average=DECAY)
    with pytest.raises(RunError, match=r"`average` is 0.9, but .* was begun with 0.8"):
        run(Factor(), x, steps=4, out=tmp_path, resume=True, average=0.9)
    with pytest.raises(RunError, match=r"`average` is None, but .* was begun with 0.8"):
        run(Factor(), x, steps=4, out=tmp_path, resume=True)


@pytest.mark.parametrize("kept", [True, False])
def test_patience_returns_to_the_best_mean(kept: bool, tmp_path: Path) -> None:
    """A learning rate that grows tenfold an epoch ruins what it had found; the mean of then comes back."""
    x, pair = LinearGaussian.make().data(40), Factor()
    options: dict[str, Any] = {"validation": x, "patience": 3, "optimizer": adam(0.01), "average": 0.5}
    options |= {"schedule": lambda o: StepLR(o, 4, 10.0), "out": tmp_path / "run" if kept else None}
    fitted = run(pair, x, epochs=50, **options)
    assert fitted.stopped == "patience"
    assert score_of(pair, x) == pytest.approx(fitted.best_score, abs=1e-9)
    assert fitted.metrics["validation"].dropna().iloc[-1] < fitted.best_score - 1
    if kept:
        assert torch.equal(Run(tmp_path / "run").result().parameters["model.W"], pair.W)


def test_parameters_of_the_store_and_moments_of_batches_are_averaged() -> None:
    net = nn.BatchNorm1d(1)

    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        pyro.module("net", net)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(net(x)[:, 0], scale), obs=x[:, 0])

    pair, x = Pair(model, lambda x: None), torch.tensor([[1.0], [3.0]])
    pyro.clear_param_store()
    state = pair.state(x)
    average = MovingAverage(state, 0.5)
    for value, count in ((1.0, 1), (4.0, 2)):
        net.running_mean.fill_(value)
        net.num_batches_tracked.fill_(count)
        with torch.no_grad():
            pyro.get_param_store()._params["scale"].fill_(math.log(value))
        average.add()
    found = {name.rpartition(".")[2]: value for name, value in average.mean.items()}
    assert found["running_mean"].item() == pytest.approx(3.0)
    assert found["scale"].item() == pytest.approx(2 / 3 * math.log(4.0))  # unconstrained, as it is learned
    assert found["num_batches_tracked"].item() == 2
    with average.in_place():
        assert net.running_mean.item() == pytest.approx(3.0)
    assert (net.running_mean.item(), pyro.param("scale").item()) == pytest.approx((4.0, 4.0))
    pyro.clear_param_store()


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, 999])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"`average` is .*, expected a decay between 0 and 1"):
        run(Factor(), LinearGaussian.make().data(20), steps=1, average=decay, objective=Variational())
