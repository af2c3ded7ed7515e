"""Optimisers stepped on a graph's gradients, and objectives of more than one phase."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from inference.bounds import IWAE
from inference.fit import fit
from inference.graph import GraphWarning
from inference.layout import read_layout
from inference.metrics import Window
from inference.objectives import LossParts, Phase, Task, Variational
from inference.optim import adam, updater
from inference.pair import Pair
from inference.stepper import Report, Stepper
from ppmodels.contracts import Batch
from tests.test_graph import Guide, Model, normal

pytestmark = pytest.mark.usefixtures("double")
Make = Callable[[Sequence[Tensor]], Optimizer]
ALL = (0, 1, 2)
fused = partial(Adam, lr=0.01, fused=True)


def leaves() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((5, 3), (4,), ())]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(10 + step)
    return [torch.randn(shape, generator=generator) for shape in ((5, 3), (4,), ())]


class Torchs:
    """Steps as torch would have them: gradients in `.grad`, in its own layout, then `step()`."""

    def __init__(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        self.optimizer, self.parameters = optimizer, parameters

    def __call__(self, found: Sequence[Tensor], places: Sequence[int]) -> None:
        for parameter in self.parameters:
            parameter.grad = None
        for gradient, i in zip(found, places, strict=True):
            self.parameters[i].grad = torch.empty_like(self.parameters[i]).copy_(gradient)
        self.optimizer.step()


def same_parameters(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(torch.equal(u, v) for u, v in zip(a, b, strict=True))


def same_state(a: Optimizer, b: Optimizer) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return (
        ours["param_groups"] == theirs["param_groups"]
        and ours["state"].keys() == theirs["state"].keys()
        and all(
            mine.keys() == its.keys()
            and all(torch.equal(torch.as_tensor(mine[k]), torch.as_tensor(its[k])) for k in mine)
            for mine, its in ((ours["state"][i], theirs["state"][i]) for i in ours["state"])
        )
    )


class Race:
    """The same steps by our updater and by torch's `step()`."""

    def __init__(self, make: Make) -> None:
        self.mine, self.its = leaves(), leaves()
        self.optimizers = make(self.mine), make(self.its)
        self.update: Any = updater(self.optimizers[0], self.mine)
        self.expected = Torchs(self.optimizers[1], self.its)

    def step(self, step: int, places: Sequence[int] = ALL, lay: Callable[[Tensor], Tensor] = lambda g: g) -> None:
        found = [lay(gradients(step)[i]) for i in places]
        self.update(found, places)
        self.expected([gradient.clone() for gradient in found], places)
        assert same_parameters(self.mine, self.its), step

    def states_agree(self) -> bool:
        return same_state(*self.optimizers)


OPTIMISERS: dict[str, Make] = {
    "fused adam": fused,
    "weight decay": partial(fused, weight_decay=0.1),
    "maximised": partial(fused, maximize=True),
    "rate in a tensor": lambda parameters: Adam(parameters, lr=torch.tensor(0.01), fused=True),
    "decoupled weight decay": partial(fused, weight_decay=0.1, decoupled_weight_decay=True),
    "amsgrad": partial(fused, amsgrad=True),
    "adam": partial(Adam, lr=0.01),
    "adam, one by one": partial(Adam, lr=0.01, foreach=False),
    "adamw": partial(AdamW, lr=0.01, fused=True),
    "momentum": partial(SGD, lr=0.01, momentum=0.9, nesterov=True),
    "rmsprop": partial(RMSprop, lr=0.01),
    "two groups": lambda parameters: Adam(
        [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.1}], lr=0.01, fused=True
    ),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps_have_the_bits_of_torchs_own(name: str) -> None:
    race = Race(OPTIMISERS[name])
    for step in range(10):
        race.step(step)
        assert race.states_agree()
    moved = [float((mine - start).detach().abs().max()) for mine, start in zip(race.mine, leaves(), strict=True)]
    assert min(moved) > 0.01


def test_float32_steps_have_the_bits_of_torchs_own() -> None:
    torch.set_default_dtype(torch.float32)
    race = Race(fused)
    for step in range(10):
        race.step(step)
    assert race.states_agree()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_state_is_of_torchs_own_types(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    race = Race(fused)
    race.step(0)
    mine, its = (optimizer.state_dict()["state"] for optimizer in race.optimizers)
    assert [{k: v.dtype for k, v in mine[i].items()} for i in mine] == [
        {k: v.dtype for k, v in its[i].items()} for i in its
    ]


@pytest.mark.parametrize(
    "change",
    [{"lr": 0.1}, {"lr": torch.tensor(0.1)}, {"betas": (0.5, 0.7)}, {"eps": 1e-2}, {"weight_decay": 0.3}],
    ids=str,
)
def test_settings_may_change_between_steps(change: dict[str, Any]) -> None:
    race, unchanged = Race(fused), Race(fused)
    for step in range(6):
        if step == 3:
            for optimizer in race.optimizers:
                optimizer.param_groups[0].update(change)
        race.step(step)
        unchanged.step(step)
    assert race.states_agree()
    assert not same_parameters(race.mine, unchanged.mine)


def reloaded(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("make", [fused, partial(fused, amsgrad=True), partial(SGD, lr=0.01, momentum=0.9)])
def test_a_saved_state_goes_on_in_another_optimiser(make: Make) -> None:
    race = Race(make)
    for step in range(5):
        race.step(step)
    state = reloaded(race.optimizers[0].state_dict())
    again = make(race.mine)
    again.load_state_dict(state)
    race.optimizers = again, race.optimizers[1]
    race.update = updater(again, race.mine)
    for step in range(5, 10):
        race.step(step)
    assert race.states_agree()


def test_a_saved_state_goes_on_in_torchs_own_steps() -> None:
    torch.set_default_dtype(torch.float32)
    race = Race(fused)
    for step in range(5):
        race.step(step)
    state = reloaded(race.optimizers[0].state_dict())
    again = fused(race.mine)
    again.load_state_dict(state)
    race.optimizers = again, race.optimizers[1]
    race.update = Torchs(again, race.mine)
    for step in range(5, 10):
        race.step(step)
    assert race.states_agree()


def test_torchs_own_steps_may_follow() -> None:
    race = Race(fused)
    for step in range(5):
        race.step(step)
    race.update = Torchs(race.optimizers[0], race.mine)
    for step in range(5, 10):
        race.step(step)
    assert race.states_agree()


def test_a_state_loaded_between_two_steps_counts() -> None:
    race = Race(fused)
    start = [reloaded(optimizer.state_dict()) for optimizer in race.optimizers]
    for state in start:
        state["param_groups"][0]["lr"] = 0.1
    for step in range(6):
        if step == 3:
            for optimizer, state in zip(race.optimizers, start, strict=True):
                optimizer.load_state_dict(state)
        race.step(step)
    assert race.states_agree()


@pytest.mark.parametrize(
    "plan",
    [
        lambda step: (0, 2) if step in (3, 4) else ALL,
        lambda step: (0, 2) if step < 2 else ALL,
        lambda step: (0, 2),
        lambda step: () if step == 2 else ALL,
        lambda step: (step % 3,),
    ],
    ids=["for a while", "at first", "never", "none at all", "in turn"],
)
@pytest.mark.parametrize("make", [fused, partial(Adam, lr=0.01), partial(SGD, lr=0.01, momentum=0.9)])
def test_a_parameter_without_a_gradient_is_left_alone(make: Make, plan: Callable[[int], Sequence[int]]) -> None:
    race = Race(make)
    for step in range(9):
        race.step(step, plan(step))
        assert race.states_agree()


def columns(gradient: Tensor) -> Tensor:
    return gradient.t().contiguous().t()


def repeated(gradient: Tensor) -> Tensor:
    return gradient.flatten()[:1].reshape((1,) * gradient.dim()).expand_as(gradient)


@pytest.mark.parametrize("lay", [columns, repeated])
@pytest.mark.parametrize("make", [fused, partial(fused, amsgrad=True), partial(Adam, lr=0.01), partial(SGD, lr=0.01)])
def test_gradients_may_lie_otherwise_in_memory(make: Make, lay: Callable[[Tensor], Tensor]) -> None:
    race = Race(make)
    for step in range(5):
        race.step(step, lay=lambda gradient: lay(gradient) if gradient.dim() == 2 else gradient)


class Transposed(nn.Module):
    """The gradient of W comes by columns, that of the offset as one number for all."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.W = nn.Parameter(torch.randn(2, 3))
        self.offset = nn.Parameter(torch.zeros(3))
        self.encoder = nn.Linear(3, 2)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = z @ (self.W.T.contiguous() * 2).T
            pyro.sample("x", dist.Normal(loc + self.offset.sum(), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))


@pytest.mark.parametrize("mode", ["eager", "replay"])
def test_training_does_not_depend_on_the_layout_of_gradients(mode: Any) -> None:
    """The fused kernel rounds otherwise than torch's plain one, by a few units in the last place at every step."""
    found = []
    for optimizer in (adam(0.05), partial(Adam, lr=0.05, foreach=False)):
        pair = Transposed()
        fit(pair.model, pair.guide, normal(10), steps=20, batch_size=10, optimizer=optimizer, mode=mode)
        found.append(pair)
    for mine, its in zip(found[0].parameters(), found[1].parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-9)


# --- a stepper


def test_the_rate_is_read_at_every_step() -> None:
    """Without momentum a step is the rate times the gradient: a rate of 0 stands still, twice the rate goes twice."""
    model, guide, x = Model(), Guide(), normal()
    pair = Pair(model, guide)
    phase = Variational(vectorize=True).task(pair, x).phases[0]
    optimizer = SGD(list(phase.parameters.values()), lr=0.1)
    run = Stepper(pair, phase, optimizer, "replay", calls=lambda n: 10**6)
    moves = []
    for rate in (0.1, 0.2, 0.0):
        optimizer.param_groups[0]["lr"] = rate
        before = model.decoder.weight.detach().clone()
        report = run(x, torch.zeros(()))
        moves.append(model.decoder.weight.detach() - before)
        torch.testing.assert_close(moves[-1], -rate * report.gradients["model.decoder.weight"], rtol=1e-9, atol=1e-14)
    assert run.modes == {"6": "replay"}
    assert not bool(moves[2].any())


def test_the_norm_is_clipped_and_reported_as_it_was() -> None:
    pair, x = Pair(Model(), Guide()), normal()
    phase = Variational(vectorize=True).task(pair, x).phases[0]
    still = SGD(list(phase.parameters.values()), lr=0.0)
    reports = []
    for clip_norm in (None, 1e-3):
        torch.manual_seed(0)
        run = Stepper(pair, phase, still, "replay", lambda n: 10**6, clip_norm=clip_norm)
        reports.append(run(x, torch.zeros(())))
    norms = [torch.cat([g.flatten() for g in report.gradients.values()]).norm() for report in reports]
    assert torch.equal(reports[0].numbers, reports[1].numbers)
    assert float(reports[0].numbers[reports[0].names.index("grad_norm")]) == pytest.approx(float(norms[0]))
    assert float(norms[1]) == pytest.approx(1e-3, rel=1e-3)  # 1e-6 is added to the norm before dividing


def test_a_check_sees_a_step_before_it_has_an_effect() -> None:
    model = Model()
    pair, x = Pair(model, Guide()), normal()
    phase = Variational(vectorize=True).task(pair, x).phases[0]
    run = Stepper(pair, phase, adam(0.1)(phase.parameters.values()), "replay", lambda n: 10**6)
    before = model.decoder.weight.detach().clone()

    def refuse(report: Any) -> None:
        assert report.is_finite
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        run(x, torch.zeros(()), refuse)
    assert torch.equal(before, model.decoder.weight)
    run(x, torch.zeros(()))
    assert not torch.equal(before, model.decoder.weight)
    report = run(torch.full_like(x, torch.nan), torch.zeros(()))
    assert not report.is_finite


def test_gradients_that_come_and_go_are_followed() -> None:
    """A layer is used or not, as an attribute says: torch leaves a parameter alone where it is not used."""

    def trained(mode: Any) -> list[Tensor]:
        model, guide, x = Model(lambda m, z: 1.0 if m.calls % 2 else m.decoder.weight.exp().sum()), Guide(), normal()
        model.decoder = copy.deepcopy(model.decoder)
        extra = nn.Parameter(torch.ones(3))
        model.register_parameter("extra", extra)
        model.factor = lambda m, z: m.extra if m.calls in (1, 2) else 1.0
        pair = Pair(model, guide)
        phase = Variational(vectorize=True).task(pair, x).phases[0]
        run = Stepper(pair, phase, fused(list(phase.parameters.values())), mode, lambda n: 10**6)
        torch.manual_seed(0)
        for step in range(6):
            model.calls = step // 2
            report = run(x, torch.zeros(()))
            assert ("model.extra" in report.gradients) == (model.calls in (1, 2))
        assert run.modes == {"6": mode}
        return [value.detach().clone() for value in phase.parameters.values()]

    assert same_parameters(trained("replay"), trained("eager"))


# --- phases


@dataclass(frozen=True)
class Alternating:
    """Moves the guide, then the model, each by a bound of its own."""

    def task(self, pair: Pair, batch: Batch) -> Task:
        first = Variational(vectorize=True).task(pair, batch)
        second = Variational(IWAE(), 3, vectorize=True).task(pair, batch)
        phases = []
        for name, task in (("guide", first), ("model", second)):
            (phase,) = task.phases
            own = {key: value for key, value in phase.parameters.items() if key.startswith(name)}
            phases.append(Phase(name, own, self.named(phase, name)))
        return Task(tuple(phases), first.score, read_layout(pair, batch))

    def named(self, phase: Phase, name: str) -> Callable[[Batch, Tensor], LossParts]:
        def loss(batch: Batch, step: Tensor) -> LossParts:
            found = phase.loss(batch, step)
            return LossParts(found.loss * (1 + step / 100), {"loss": found.loss.detach(), "at": step.clone()})

        return loss


def alternate(mode: Any, factor: Any = lambda model, z: 1.0) -> tuple[Any, list[Tensor]]:
    model, guide = Model(factor), Guide()
    options: dict[str, Any] = {"steps": 20, "batch_size": 10, "report_every": 1, "optimizer": adam(0.05)}
    fitted = fit(model, guide, normal(25), Alternating(), mode=mode, validation=normal(5), **options)
    return fitted, [*model.parameters(), *guide.parameters()]


def test_both_phases_of_an_objective_run_as_graphs() -> None:
    expected, state = alternate("eager")
    fitted, found = alternate("replay")
    sizes = {"10": "replay", "5": "replay"}
    assert fitted.modes == {"guide": sizes, "model": sizes, "score": {"5": "replay"}}
    assert fitted.metrics.drop(columns="seconds").equals(expected.metrics.drop(columns="seconds"))
    assert {"guide/loss", "model/loss", "guide/grad_norm", "model/grad_norm"} <= set(fitted.metrics)
    assert fitted.metrics["model/at"].tolist() == list(range(20))
    assert same_parameters(found, state)
    assert not same_parameters(found, [*Model().parameters(), *Guide().parameters()])


def test_two_phases_are_refused_in_one_warning() -> None:
    def factor(model: Model, z: Tensor) -> float:
        return 2.0 if z.sum() > 0 else 1.0

    expected, state = alternate("eager", factor)
    with pytest.warns(GraphWarning, match="asks for the value of a tensor at test_stepper.py:") as caught:
        fitted, found = alternate("replay", factor)
    assert len(caught) == 1
    assert {mode for by_size in fitted.modes.values() for mode in by_size.values()} == {"eager"}
    assert same_parameters(found, state)
    assert fitted.metrics["model/loss"].tolist() == expected.metrics["model/loss"].tolist()


def test_means_go_by_name_whatever_the_order() -> None:
    """Parts may change places, come and go: each is averaged over the steps that had it."""

    def report(**parts: float) -> Report:
        numbers = torch.tensor(list(parts.values()))
        return Report(tuple(parts), numbers, numbers[0], [], (), ())

    window, phase = Window(), Phase("only", {}, lambda batch, step: LossParts(torch.zeros(()), {}))
    for each in (report(a=1.0, b=10.0), report(b=20.0, a=2.0), report(a=3.0, c=7.0)):
        window.add([each])
    assert window.flush([phase]) == {"a": 2.0, "b": 15.0, "c": 7.0}
    window.add([report(a=5.0)])
    assert window.flush([phase]) == {"a": 5.0}
