"""Training and evaluation in every mode: the same numbers, the same noise, resumed to the same bits."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

import inference.graph.graphed
from inference.batches import TensorData
from inference.bounds import IWAE
from inference.compare import compare_bounds
from inference.fit import Fitted, fit
from inference.graph import GraphWarning
from inference.graph.capture import Captured
from inference.likelihood import log_likelihood
from inference.objectives import Variational
from inference.optim import adam
from inference.runs import Run
from inference.seeds import seeded
from tests.oracles import Factor, LinearGaussian
from tests.test_contract import build, data
from tests.test_graph import Guide, Model, captures, dropping, graphed, normal, normalising, spectral

__all__ = ["captures"]

pytestmark = pytest.mark.usefixtures("double")
Made = tuple[Any, Any, list[nn.Module]]


def train(make: Callable[[], Made], mode: Any, x: Any, objective: Any = None, **options: Any) -> Any:
    """A fit, and every tensor it leaves behind."""
    pyro.clear_param_store()
    model, guide, modules = make()
    options = {"steps": 10, "batch_size": 10, "report_every": 1, "optimizer": adam(0.05)} | options
    fitted = fit(model, guide, x, objective, mode=mode, **options)
    tensors = [value for module in modules for value in module.state_dict().values()]
    return fitted, tensors + [v.detach().clone() for _, v in sorted(pyro.get_param_store()._params.items())]


def numbers(fitted: Fitted) -> pd.DataFrame:
    return fitted.metrics.drop(columns="seconds")


def check_replay(make: Callable[[], Made], x: Any, objective: Any = None, **options: Any) -> Fitted:
    """Training from graphs has the bits of training by the programs themselves."""
    expected, state = train(make, "eager", x, objective, **options)
    fitted, found = train(make, "replay", x, objective, **options)
    pd.testing.assert_frame_equal(numbers(fitted), numbers(expected), check_exact=True)
    assert len(found) == len(state) > 0
    assert all(torch.equal(mine, its) for mine, its in zip(found, state, strict=True))
    assert {mode for by_size in fitted.modes.values() for mode in by_size.values()} == {"replay"}
    return fitted


def check_close(make: Callable[[], Made], x: Any, objective: Any = None, **options: Any) -> Fitted:
    """Training from compiled code differs by the rounding of float64, which steps carry on and enlarge a little."""
    expected, state = train(make, "eager", x, objective, **options)
    fitted, found = train(make, "inductor", x, objective, **options)
    pd.testing.assert_frame_equal(numbers(fitted), numbers(expected), check_exact=False, rtol=1e-9, atol=1e-9)
    for mine, its in zip(found, state, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-8, atol=1e-8)
    assert {mode for by_size in fitted.modes.values() for mode in by_size.values()} == {"inductor"}
    return fitted


def of(*modules: Callable[[], nn.Module]) -> Callable[[], Made]:
    def make() -> Made:
        torch.manual_seed(5)
        made = [module() for module in modules]
        return made[0], made[-1], made

    return make


def factor_pair() -> Made:
    pair = Factor()
    return pair.model, pair.guide, [pair]


toy = LinearGaussian.make()
plain = of(Model, Guide)


# --- step by step


def test_fifty_steps_have_the_bits_of_the_programs() -> None:
    """25 data in batches of 10: the last of an epoch has five; rates, clipping and validation are all in."""
    fitted = check_replay(
        plain,
        normal(25),
        steps=50,
        schedule=lambda o: StepLR(o, 1, 0.9),
        clip_norm=0.5,
        validation=normal(13, seed=1),
    )
    assert fitted.modes == {"bound": {"10": "replay", "5": "replay"}, "score": {"10": "replay", "3": "replay"}}
    assert list(fitted.metrics["step"]) == list(range(1, 51))
    assert fitted.metrics["lr"].nunique() > 10
    assert fitted.metrics["grad_norm"].max() > 0.5
    assert fitted.metrics["loss"].iloc[-1] < fitted.metrics["loss"].iloc[0]


def test_fifty_compiled_steps_agree_to_rounding() -> None:
    fitted = check_close(plain, normal(25), steps=50, schedule=lambda o: StepLR(o, 1, 0.9), clip_norm=0.5)
    assert fitted.modes["bound"] == {"10": "inductor", "5": "inductor"}


@pytest.mark.slow
def test_a_compiled_score_agrees_to_rounding() -> None:
    names = ("two", "mixture", "hierarchical")

    def make() -> Made:
        model, guide = (module.double() for module in build(names))
        return model, guide, [model, guide]

    x = data(20).double()
    fitted = check_close(make, x, Variational(IWAE(), 3), steps=10, validation=x)
    assert fitted.modes == {"bound": {"10": "inductor"}, "score": {"10": "inductor"}}


def test_float32_too_has_the_bits_of_the_programs() -> None:
    torch.set_default_dtype(torch.float32)
    check_replay(plain, normal(25), steps=20, clip_norm=0.5)


@pytest.mark.parametrize("encoder", [normalising, spectral, dropping])
def test_buffers_and_dropout_are_those_of_the_programs(encoder: Callable[[], nn.Module]) -> None:
    make = of(Model, lambda: Guide(encoder))
    fitted = check_replay(make, normal(25), steps=20, validation=normal(5))
    _, state = train(make, "replay", normal(25), steps=20)
    if encoder is normalising:
        counts = [int(value) for value in state if value.dtype == torch.int64]
        assert counts == [20]
    assert len(fitted.metrics) == 20


def test_batch_normalisation_agrees_where_compiled() -> None:
    """The gradient of the bias before the normalisation is zero but for rounding, which Adam would make steps of."""
    sgd = functools.partial(torch.optim.SGD, lr=1e-3)
    check_close(of(Model, lambda: Guide(normalising)), normal(20), steps=20, optimizer=sgd)


@pytest.mark.slow
def test_dropout_agrees_where_compiled() -> None:
    check_close(of(Model, lambda: Guide(dropping)), normal(20), steps=20)


# --- which mode


def test_auto_weighs_what_is_to_come(monkeypatch: pytest.MonkeyPatch, captures: list[Captured]) -> None:
    short, _ = train(plain, "auto", normal(25), steps=50)
    assert short.modes["bound"] == {"10": "eager", "5": "eager"}
    assert captures == []
    long, found = train(plain, "auto", normal(25), steps=450)
    assert long.modes["bound"] == {"10": "replay", "5": "eager"}  # 300 batches of ten, 150 of five
    assert len(captures) == 1
    _, expected = train(plain, "eager", normal(25), steps=450)
    assert all(torch.equal(mine, its) for mine, its in zip(found, expected, strict=True))
    compiled: list[Captured] = []

    def noted(captured: Captured, inputs: Any) -> Any:
        compiled.append(captured)
        return captured.replay

    monkeypatch.setattr(inference.graph.graphed, "compiled", noted)
    monkeypatch.setattr(inference.graph.graphed, "seconds_to_compile", lambda module: 0.0)
    longest, _ = train(plain, "auto", normal(25), steps=450)
    assert longest.modes["bound"] == {"10": "inductor", "5": "eager"}
    assert len(compiled) == 1


@pytest.mark.parametrize("call", [fit, log_likelihood, compare_bounds])
def test_other_words_are_no_modes(call: Any) -> None:
    arguments: list[Any] = [["elbo"]] if call is compare_bounds else []
    options = {"steps": 1} if call is fit else {}
    with pytest.raises(ValueError, match='`mode` is \'fast\', expected one of "auto", "inductor", "replay", "eager"'):
        call(Model(), Guide(), normal(), *arguments, mode="fast", **options)


def test_without_a_compiler_the_graph_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no working compiler found\nand much more besides")

    monkeypatch.setattr(torch._inductor, "standalone_compile", broken)
    expected, state = train(plain, "eager", normal(25), validation=normal(7))
    with pytest.warns(GraphWarning, match=r"mode 'replay': .*no working compiler found\)$") as caught:
        fitted, found = train(plain, "inductor", normal(25), validation=normal(7))
    assert len(caught) == 1
    assert fitted.modes == {"bound": {"10": "replay", "5": "replay"}, "score": {"7": "replay"}}
    assert all(torch.equal(mine, its) for mine, its in zip(found, state, strict=True))
    assert numbers(fitted).equals(numbers(expected))


NO_COMPILER = """
import warnings, torch
from inference.fit import fit
from inference.graph import GraphWarning
from tests.test_graph import Guide, Model, normal
torch.set_num_threads(1)
x = normal(25).float()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    fitted = fit(Model(), Guide(), x, steps=3, batch_size=10, mode="inductor")
print(fitted.modes["bound"], sum(issubclass(w.category, GraphWarning) for w in caught))
"""


def test_a_machine_without_a_compiler_replays(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_COMPILER],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "{'10': 'replay', '5': 'replay'} 1", done.stderr[-2000:]


# --- runs


class Killed(TensorData):
    """Data whose owner loses patience."""

    left = -1

    def batch(self, index: Tensor) -> Any:
        if len(index) > 1:  # not a question about the device
            self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().batch(index)


@pytest.mark.parametrize("mode", ["replay", "inductor"])
def test_a_killed_run_ends_with_the_bits_of_one_left_alone(mode: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "steps": 60,
        "report_every": 10,
        "checkpoint_seconds": 0.0,
        "schedule": lambda o: StepLR(o, 3, 0.8),
    }
    x = normal(50)
    whole, expected = train(plain, mode, Killed(x), out=tmp_path / "whole", **options)
    killed = Killed(x)
    killed.left = 39  # one batch for inspection, 37 steps, and the next
    with pytest.raises(KeyboardInterrupt):
        train(plain, mode, killed, out=tmp_path / "killed", **options)
    assert Run(tmp_path / "killed").latest().step == 35  # type: ignore[union-attr]
    assert Run(tmp_path / "killed").manifest["modes"]["bound"] == {"10": mode}
    resumed, found = train(plain, mode, Killed(x), out=tmp_path / "killed", resume=True, **options)
    assert all(torch.equal(mine, its) for mine, its in zip(found, expected, strict=True))
    assert numbers(resumed).equals(numbers(whole))
    assert resumed.modes == whole.modes == {"bound": {"10": mode}}
    assert Run(tmp_path / "killed").manifest["modes"] == resumed.modes


@pytest.mark.parametrize("mode", ["replay", "inductor"])
def test_a_longer_run_goes_on_where_a_shorter_one_stopped(mode: str, tmp_path: Path) -> None:
    x = normal(20)
    options: dict[str, Any] = {"report_every": 1, "checkpoint_seconds": 0.0}
    _, expected = train(plain, mode, x, out=tmp_path / "whole", steps=60, **options)
    train(plain, mode, x, out=tmp_path / "parts", steps=30, **options)
    resumed, found = train(plain, mode, x, out=tmp_path / "parts", steps=60, resume=True, **options)
    assert resumed.modes["bound"] == {"10": mode}
    assert all(torch.equal(mine, its) for mine, its in zip(found, expected, strict=True))


def test_a_short_run_that_goes_on_for_long_gets_a_graph(tmp_path: Path) -> None:
    """Begun eager in mode auto, it is replayed from where it has become long enough: the bits are the same."""
    x = normal(20)
    first, _ = train(plain, "auto", x, out=tmp_path / "run", steps=30)
    assert first.modes["bound"] == {"10": "eager"}
    again, found = train(plain, "auto", x, out=tmp_path / "run", steps=300, resume=True)
    assert again.modes["bound"] == {"10": "replay"}
    _, expected = train(plain, "eager", x, steps=300)
    assert all(torch.equal(mine, its) for mine, its in zip(found, expected, strict=True))
    assert Run(tmp_path / "run").manifest["modes"]["bound"] == {"10": "replay"}
    assert Run(tmp_path / "run").manifest["mode"] == "auto"


# --- pairs of every kind


def store_pair() -> Made:
    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(0.8), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1), scale).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        slope = pyro.param("slope", lambda: 0.1 * torch.ones(3))
        spread = pyro.param("spread", torch.tensor(0.5), constraint=constraints.interval(0.1, 2.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x @ slope, spread))

    return model, guide, []


def registered_pair() -> Made:
    torch.manual_seed(2)
    encoder, decoder = nn.Linear(3, 4), nn.Linear(2, 3)

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    return model, guide, [encoder, decoder]


class Constrained(PyroModule):
    """Parameters with constraints, in a module of Pyro's."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = PyroParam(torch.tensor(0.8), constraint=constraints.positive)
        self.linear = PyroModule[nn.Linear](1, 3)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.linear(z), self.scale).to_event(1), obs=x)


class ConstrainedGuide(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.spread = PyroParam(torch.tensor(0.5), constraint=constraints.interval(0.1, 2.0))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.linear(x), self.spread).to_event(1))


def enumerated_pair() -> Made:
    def model(x: Tensor) -> None:
        logits = pyro.param("logits", torch.tensor([0.1, 0.0, -0.3]))
        centres = pyro.param("centres", torch.tensor([[-1.0], [0.0], [2.0]]))
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal((centres[y] + z) * torch.ones(3), 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.1))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x.sum(-1, keepdim=True), 0.7).to_event(1))

    return model, guide, []


def global_pair(auto: Callable[[Any], Any] = AutoNormal) -> Made:
    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
        with pyro.plate("data", len(x)):
            loc = mean.unsqueeze(-1) * torch.ones(3)
            pyro.sample("x", dist.Normal(loc, scale.unsqueeze(-1)).to_event(1), obs=x)

    torch.manual_seed(4)  # it starts at draws from the prior
    guide = auto(model)
    guide(normal())  # it finds its parameters out when it is first called
    return model, guide, [guide]


def subsampling_pair() -> Made:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), subsample_size=4) as rows:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.unsqueeze(-1) * torch.ones(3), 1.0).to_event(1), obs=x[rows])

    def guide(x: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.1))
        with pyro.plate("data", len(x), subsample_size=4) as rows:
            pyro.sample("z", dist.Normal(slope * x[rows].sum(-1), 0.8))

    return model, guide, []


PAIRS: dict[str, tuple[Callable[[], Made], Variational]] = {
    "parameters in the store": (store_pair, Variational()),
    "registered modules": (registered_pair, Variational(IWAE(), 3)),
    "modules of Pyro's": (of(Constrained, ConstrainedGuide), Variational(IWAE(), 3)),
    "enumeration": (enumerated_pair, Variational(IWAE(), 3)),
    "a joint weight": (global_pair, Variational(joint=True, num_particles=3)),
    "its own minibatches": (subsampling_pair, Variational(num_particles=2)),
    "particles one by one": (plain, Variational(IWAE(), 4, vectorize=False)),
    "methods of one module": (factor_pair, Variational(IWAE(), 3)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_every_kind_have_graphs_with_their_bits(name: str) -> None:
    make, objective = PAIRS[name]
    check_replay(make, normal(10), objective, steps=15, batch_size=10 if objective.joint else 5)


@pytest.mark.parametrize("auto", [AutoDelta, AutoDiagonalNormal, AutoMultivariateNormal, AutoLowRankMultivariateNormal])
def test_guides_that_pyro_makes_have_graphs_with_their_bits(auto: Callable[[Any], Any]) -> None:
    objective = Variational(joint=True, num_particles=2)
    check_replay(functools.partial(global_pair, auto), normal(10), objective, steps=5)


class Conditional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair = Factor()

    def model(self, x: Tensor, shift: Tensor) -> None:
        self.pair.model(x - shift)

    def guide(self, x: Tensor, shift: Tensor) -> None:
        self.pair.guide(x - shift)


@pytest.mark.parametrize("mapping", [False, True])
def test_tuples_and_mappings_have_graphs(mapping: bool) -> None:
    def make() -> Made:
        pair = Conditional()
        return pair.model, pair.guide, [pair]

    x, shift = normal(25), torch.rand(25, 1)
    check_replay(make, {"shift": shift, "x": x} if mapping else (x, shift))


# --- evaluation


@pytest.mark.parametrize("names", [("one", "standard", "normal"), ("two", "vamp", "hierarchical")], ids="-".join)
@pytest.mark.filterwarnings("ignore::inference.likelihood.FewParticlesWarning")
def test_evaluation_has_the_bits_of_the_programs(names: tuple[str, str, str], captures: list[Captured]) -> None:
    """25 data in batches of 10, 50 draws in chunks of at most 16: what is over is dropped alike."""
    model, guide = (module.double() for module in build(names))
    x, options = data(25).double(), {"batch_size": 10, "chunk": 16, "seed": 3}
    values, ladders = [], []
    for mode in ("eager", "replay"):
        found = log_likelihood(model, guide, x, num_particles=50, mode=mode, **options)  # type: ignore[arg-type]
        values.append(torch.stack([found.value, found.standard_error, found.khat, found.ess]))
        bounds = ["elbo", "iwae:7", "renyi:0.5:10", "vrmax:50"]
        ladders.append(compare_bounds(model, guide, x, bounds, mode=mode, **options))  # type: ignore[arg-type]
        assert len(captures) == (0 if mode == "eager" else 4)  # two sizes of batches, twice
    assert torch.equal(values[0], values[1])
    for mine, its in zip(ladders[1].rows, ladders[0].rows, strict=True):
        assert mine.label == its.label
        assert torch.equal(mine.value, its.value)
    assert torch.equal(ladders[0].khat, ladders[1].khat)


def test_compiled_evaluation_agrees_to_rounding(captures: list[Captured]) -> None:
    x = toy.data(20)
    options: dict[str, Any] = {"num_particles": 50, "chunk": 16, "batch_size": 10, "seed": 3}
    pair = Factor()
    with torch.no_grad():
        pair.W.copy_(toy.W)
        pair.b.copy_(toy.b)
        mean, covariance = toy.posterior(torch.stack([toy.b, *(toy.b + torch.eye(3))]))
        pair.A.copy_((mean[1:] - mean[0]).T)
        pair.c.copy_(-(pair.A @ toy.b))
        pair.log_scale.copy_(covariance.diagonal().sqrt().log() + 0.3)
    expected = log_likelihood(pair.model, pair.guide, x, mode="eager", **options)
    found = log_likelihood(pair.model, pair.guide, x, mode="inductor", **options)
    torch.testing.assert_close(found.value, expected.value, rtol=1e-10, atol=1e-10)
    assert bool(((found.value - toy.log_prob(x)).abs() < 4 * found.standard_error.clamp_min(0.02)).all())
    assert len(captures) == 1


def test_evaluation_leaves_out_no_noise_of_its_own(captures: list[Captured]) -> None:
    """Two seeds differ, one seed does not, and the caller's random state stays."""
    x, before = toy.data(10), torch.get_rng_state()
    options: dict[str, Any] = {"num_particles": 60, "mode": "replay", "chunk": 20}
    found = [log_likelihood(toy.model, toy.wrong, x, seed=seed, **options).value for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(before, torch.get_rng_state())
    assert len(captures) == 3


# --- noise


def test_compiled_noise_is_the_programs_own() -> None:
    """The same stream under the same seed; and, over 20,000 draws, moments within 4 s.e. (false alarm: 12 x 6e-5)."""
    n = 20_000
    concentration = torch.tensor([2.0, 1.0, 0.5])

    def draw(x: Tensor) -> list[Tensor]:
        return [
            torch.distributions.Normal(x[0], 2.0, validate_args=False).rsample((n,)),
            torch.distributions.Uniform(x[0] - 1, x[0] + 3, validate_args=False).rsample((n,)),
            torch.distributions.Gamma(3 * x[1], 2 * x[1], validate_args=False).rsample((n,)),
            torch.distributions.Beta(2 * x[1], 3 * x[1], validate_args=False).rsample((n,)),
            torch.distributions.Dirichlet(concentration, validate_args=False).rsample((n,))[:, 0],
            torch.nn.functional.dropout(x[1].expand(n), 0.25),
        ]

    x = torch.tensor([1.0, 1.0])
    run = graphed(draw, "inductor")
    with seeded(1):
        expected = draw(x)
        state = torch.get_rng_state()
    with seeded(1):
        found, _ = run(x)
        assert torch.equal(torch.get_rng_state(), state)
        fresh, _ = run(x)
    assert run.modes == {"2": "inductor"}
    for mine, its in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)
    moments = [(1, 4), (2, 16 / 12), (1.5, 0.75), (0.4, 0.04), (2 / 3.5, 3 / (3.5**2 * 4.5)), (1, 1 / 3)]
    for mine, other, (mean, variance) in zip(found, fresh, moments, strict=True):
        assert not torch.equal(mine, other)
        assert float((mine.mean() - mean).abs()) < 4 * (variance / n) ** 0.5
        spread = (mine - mean).square()
        assert float((spread.mean() - variance).abs()) < 4 * float(spread.std()) / n**0.5


def test_compiled_coins_are_the_programs_own() -> None:
    def draw(x: Tensor) -> list[Tensor]:
        return [torch.bernoulli(x.expand(1000)), torch.randn(3)]

    run, x = graphed(draw, "inductor"), torch.tensor([0.3])
    with seeded(1):
        expected = draw(x)
    with seeded(1):
        found, _ = run(x)
    assert run.modes == {"1": "inductor"}
    assert all(torch.equal(mine, its) for mine, its in zip(found, expected, strict=True))


# --- side by side


class Wider(nn.Module):
    """The same pair in another size, with other weights."""

    def __init__(self, z_dim: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder, self.decoder, self.z_dim = nn.Linear(3, 2 * z_dim), nn.Linear(z_dim, 3), z_dim

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.z_dim), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def test_pairs_of_one_class_keep_apart() -> None:
    """Sizes, weights, copies and precisions: each trains as it would alone, one after the other in one process."""
    first = Wider(2, seed=0)
    pairs: list[tuple[Wider, Tensor]] = [
        (first, normal(10)),
        (Wider(5, seed=0), normal(10)),
        (Wider(2, seed=1), normal(10)),
        (copy.deepcopy(first), normal(10)),
        (copy.deepcopy(first).float(), normal(10).float()),
        (copy.deepcopy(first), 2 * normal(10)),
    ]
    alone = copy.deepcopy(pairs)
    for (pair, x), (other, _) in zip(pairs, alone, strict=True):
        for each, mode in ((pair, "replay"), (other, "eager")):
            torch.set_default_dtype(x.dtype)
            options: dict[str, Any] = {"steps": 8, "batch_size": 5, "optimizer": adam(0.05)}
            fitted = fit(each.model, each.guide, x, mode=mode, **options)  # type: ignore[arg-type]
            assert fitted.modes["bound"] == {"5": mode}
    for (pair, _), (other, _) in zip(pairs, alone, strict=True):
        for mine, its in zip(pair.parameters(), other.parameters(), strict=True):
            assert torch.equal(mine, its)
    ends = [pair.decoder.bias for pair, x in pairs]
    assert torch.equal(ends[0], ends[3])
    assert not torch.equal(ends[0], ends[5])


class Waiting(TensorData):
    """Data that tells when it is first read for training, and then waits."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__(rows)
        object.__setattr__(self, "reads", [])
        object.__setattr__(self, "reading", threading.Event())
        object.__setattr__(self, "go", threading.Event())

    def batch(self, index: Tensor) -> Any:
        self.reads.append(len(index))
        if len(self.reads) == 4:
            self.reading.set()
            assert self.go.wait(60)
        return super().batch(index)


@pytest.mark.parametrize("mode", ["replay", "eager"])
def test_a_second_thread_is_refused_and_the_first_is_not_disturbed(mode: Any) -> None:
    expected, state = train(plain, mode, normal(20))
    x, found = Waiting(normal(20)), []
    other = Model(), Guide(), normal()  # making them seeds the generator that threads share
    thread = threading.Thread(target=lambda: found.append(train(plain, mode, x)))
    thread.start()
    try:
        assert x.reading.wait(60)
        for call in (functools.partial(fit, steps=1), functools.partial(log_likelihood, num_particles=30)):
            with pytest.raises(RuntimeError, match="another thread of this process is running Pyro programs"):
                call(*other, mode=mode)
    finally:
        x.go.set()
        thread.join(60)
    fitted, ended = found[0]
    assert all(torch.equal(mine, its) for mine, its in zip(ended, state, strict=True))
    assert numbers(fitted).equals(numbers(expected))
    again, _ = train(plain, mode, normal(20))
    assert numbers(again).equals(numbers(expected))
