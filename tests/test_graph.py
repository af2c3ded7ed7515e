"""Tensor graphs of Pyro programs: equal to the programs bit for bit, never stale, refused where there is none."""

from __future__ import annotations

import argparse
import copy
import types
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import inference.graph.graphed
from inference.bounds import ELBO, IWAE, Renyi, VRMax
from inference.graph import Graphed, GraphWarning
from inference.graph.capture import Captured, capture
from inference.objectives import Variational
from inference.pair import Pair
from inference.stepper import Report, Stepper
from tests.test_contract import COMBINATIONS, build, data

pytestmark = pytest.mark.usefixtures("double")
ALWAYS = 10**6
STEP = torch.zeros(())


class Model(nn.Module):
    """z ~ N(0, I), x | z ~ N(f (W z + b), I), where a test says what f is."""

    def __init__(self, factor: Callable[[Model, Tensor], Any] = lambda model, z: 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.decoder = nn.Linear(2, 3)
        self.factor = factor
        self.register_buffer("ema", torch.ones(3))
        self.last: Tensor | None = None
        self.calls = 0
        self.memory: dict[str, Any] = {"last": torch.zeros(()), "calls": 0}

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z) * self.factor(self, z), 1.0).to_event(1), obs=x)


class Guide(nn.Module):
    """z | x ~ N(m(x), diag s(x)^2)."""

    def __init__(self, encoder: Callable[[], nn.Module] = lambda: nn.Linear(3, 4)) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = encoder()

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.5), nn.Linear(50, 4))


def normalising() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))


def spectral() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 8)), nn.Linear(8, 4))


def normal(n: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


def stepper(model: Any, guide: Any, x: Tensor, mode: Any, objective: Variational | None = None) -> Stepper:
    """Steps that leave the parameters where they are."""
    pair = Pair(model, guide)
    phase = (objective or Variational(vectorize=True)).task(pair, x).phases[0]
    still = torch.optim.SGD(list(phase.parameters.values()), lr=0.0)
    return Stepper(pair, phase, still, mode, calls=lambda n: ALWAYS)


def equal(a: Report, b: Report) -> bool:
    """Names, numbers and gradients are the same to the bit."""
    return (
        a.names == b.names
        and torch.equal(a.numbers, b.numbers)
        and a.gradients.keys() == b.gradients.keys()
        and all(torch.equal(a.gradients[name], b.gradients[name]) for name in a.gradients)
    )


class Twins:
    """The same steps as a graph and as the program itself, under the same noise."""

    def __init__(self, model: Any, guide: Any, x: Tensor, objective: Variational | None = None) -> None:
        self.graph = stepper(model, guide, x, "replay", objective)
        self.program = stepper(model, guide, x, "eager", objective)

    def agree(self, x: Tensor, seed: int = 0, step: Tensor = STEP) -> Report:
        torch.manual_seed(seed)
        expected = self.program(x, step)
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        found = self.graph(x, step)
        assert equal(found, expected)
        assert torch.equal(state, torch.get_rng_state())
        return found


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[Captured]:
    """Every graph that is made."""
    made: list[Captured] = []

    def noted(*args: Any) -> Captured:
        made.append(capture(*args))
        return made[-1]

    monkeypatch.setattr(inference.graph.graphed, "capture", noted)
    return made


# --- a graph gives what the program gives


def check_combination(names: tuple[str, str, str], objective: Variational) -> None:
    """New noise, new data and moved parameters are all seen by the one graph."""
    model, guide = (module.double() for module in build(names))
    twins = Twins(model, guide, data().double(), objective)
    first = twins.agree(data().double(), seed=0)
    second = twins.agree(1 - data().double(), seed=1)
    with torch.no_grad():
        for value in twins.graph.parameters:
            value += 0.01
    third = twins.agree(1 - data().double(), seed=1)
    assert not torch.equal(first.numbers, second.numbers)
    assert not torch.equal(second.numbers, third.numbers)
    assert twins.graph.modes == {"6": "replay"}


@pytest.mark.parametrize("names", COMBINATIONS, ids="-".join)
@pytest.mark.parametrize("objective", [Variational(), Variational(IWAE(), 3)], ids=["elbo", "iwae"])
def test_every_pair_has_a_graph_with_its_bits(
    names: tuple[str, str, str], objective: Variational, captures: list[Captured]
) -> None:
    check_combination(names, objective)
    assert len(captures) == 1


@pytest.mark.parametrize("bound", [Renyi(0.5), VRMax()], ids=["renyi", "vrmax"])
@pytest.mark.parametrize(
    "names", [("one", "standard", "normal"), ("two", "mixture", "hierarchical"), ("one", "flow", "flow")], ids="-".join
)
def test_other_bounds_have_the_bits_of_the_program(names: tuple[str, str, str], bound: Any) -> None:
    check_combination(names, Variational(bound, 3))


@pytest.mark.parametrize(
    "names", [("one", "standard", "normal"), ("one", "learned", "residual"), ("two", "standard", "hierarchical")]
)
def test_analytic_terms_have_the_bits_of_the_program(names: tuple[str, str, str]) -> None:
    check_combination(names, Variational(ELBO("analytic"), 2))


def test_noise_is_fresh_at_every_call() -> None:
    run = stepper(Model(), Guide(), normal(), "replay")
    torch.manual_seed(3)
    first, second = run(normal(), STEP), run(normal(), STEP)
    torch.manual_seed(3)
    again = run(normal(), STEP)
    assert not torch.equal(first.numbers, second.numbers)
    assert equal(first, again)


def test_the_weight_of_the_kl_follows_the_step(captures: list[Captured]) -> None:
    twins = Twins(Model(), Guide(), normal(), Variational(kl_warmup=10))
    found = [twins.agree(normal(), step=torch.tensor(float(step))) for step in (0, 3, 20)]
    weights = [float(report.numbers[report.names.index("kl_weight")]) for report in found]
    assert weights == pytest.approx([0.0, 0.3, 1.0])
    assert len(captures) == 1


def test_a_batch_of_another_size_or_type_has_a_graph_of_its_own(captures: list[Captured]) -> None:
    model, guide = Model(), Guide()
    twins = Twins(model, guide, normal())
    for n in (6, 4, 6, 4):
        twins.agree(normal(n), seed=n)
    assert twins.graph.modes == {"6": "replay", "4": "replay"}
    assert len(captures) == 2


def graphed(function: Callable[..., Sequence[Tensor]], mode: Any = "replay", *modules: Any) -> Graphed:
    """A function of a batch that has nothing to do with Pyro."""
    return Graphed(Pair(*(modules or (lambda: None, lambda: None))), lambda *a: (function(*a), None), mode, calls)


def calls(n: int) -> int:
    return ALWAYS


def test_batches_come_in_any_arrangement() -> None:
    a, b = normal(seed=1), normal(seed=2)
    of_tuple = graphed(lambda batch: [batch[0] - 2 * batch[1]])
    of_mapping = graphed(lambda batch: [batch["a"] - 2 * batch["b"]])
    for first, second in ((a, b), (b, a), (a, a), (a, b)):
        assert torch.equal(of_tuple((first, second))[0][0], first - 2 * second)
        assert torch.equal(of_mapping({"a": first, "b": second})[0][0], first - 2 * second)
        assert torch.equal(of_mapping({"b": second, "a": first})[0][0], first - 2 * second)


def test_inputs_that_were_one_tensor_when_the_graph_was_made_may_part() -> None:
    a, b = normal(seed=1), normal(seed=2)
    run = graphed(lambda batch: [batch[0] - 2 * batch[1]])
    run((a, a))
    assert torch.equal(run((a, b))[0][0], a - 2 * b)


def test_a_batch_that_the_pair_holds_itself_may_change() -> None:
    model = Model()
    x = normal()
    model.register_buffer("held", x)
    run = graphed(lambda batch: [batch.sum() + 10 * model.held.sum()], "replay", model, model)
    run(x)
    other = normal(seed=1)
    assert torch.equal(run(other)[0][0], other.sum() + 10 * x.sum())


@pytest.mark.parametrize("mode", ["replay", pytest.param("inductor", marks=pytest.mark.slow)])
def test_batches_may_lie_otherwise_in_memory(mode: str) -> None:
    run = graphed(lambda batch: [batch.reshape(-1) * 2], mode)
    run(torch.randn(4, 3))
    for x in (torch.randn(3, 4).t(), torch.randn(1, 3).expand(4, 3), torch.randn(9, 3)[1:9:2]):
        assert torch.equal(run(x)[0][0], x.reshape(-1) * 2)


# --- what it rests on may change


def attribute(model: Model) -> None:
    model.calls += 1


def parameter(model: Model) -> None:
    model.decoder.weight = nn.Parameter(model.decoder.weight.detach() + 1)


def its_data(model: Model) -> None:
    model.decoder.weight.data = model.decoder.weight.detach() + 1


def buffer(model: Model) -> None:
    model.ema = model.ema + 1


def in_place(model: Model) -> None:
    model.ema += 1


def bias_left_out(model: Model) -> None:
    model.decoder.bias = None  # type: ignore[assignment]


@pytest.mark.parametrize("change", [attribute, parameter, its_data, buffer, in_place, bias_left_out])
def test_a_changed_module_is_seen(change: Callable[[Model], None]) -> None:
    model = Model(lambda model, z: model.ema * (1.0 + model.calls))
    twins = Twins(model, Guide(), normal())
    first = twins.agree(normal())
    change(model)
    second = twins.agree(normal())
    twins.agree(normal(seed=1), seed=1)
    assert not torch.equal(first.numbers, second.numbers)
    assert twins.graph.modes == {"6": "replay"}


def test_nothing_is_captured_anew_without_need(captures: list[Captured]) -> None:
    model = Model(lambda model, z: model.ema * (1.0 + model.calls))
    twins = Twins(model, Guide(), normal())
    for seed in range(3):
        twins.agree(normal(seed=seed), seed=seed)
        model.ema += 1
    model.calls += 1
    for seed in range(3):
        twins.agree(normal(seed=seed), seed=seed)
    assert len(captures) == 2


GLOBAL = OF_PROPERTY = OF_FUNCTION = OF_CLASS = 1.0
GLOBAL_TENSOR = torch.ones(())


def story(x: Tensor, factor: Any) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True) * factor, 1.0).to_event(1), obs=x)


def check_change(model: Any, change: Callable[[], None]) -> None:
    twins = Twins(model, Guide(), normal())
    first = twins.agree(normal())
    change()
    second = twins.agree(normal())
    assert not torch.equal(first.numbers, second.numbers)


def test_a_changed_global_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def number(x: Tensor) -> None:
        story(x, GLOBAL)

    def tensor(x: Tensor) -> None:
        story(x, GLOBAL_TENSOR)

    check_change(number, lambda: monkeypatch.setitem(globals(), "GLOBAL", 2.0))
    check_change(tensor, lambda: monkeypatch.setitem(globals(), "GLOBAL_TENSOR", torch.tensor(2.0)))


def test_a_changed_closure_is_seen() -> None:
    number, tensor = 1.0, torch.ones(())

    def of_number(x: Tensor) -> None:
        story(x, number)

    def of_tensor(x: Tensor) -> None:
        story(x, tensor)

    def change() -> None:
        nonlocal number, tensor
        number, tensor = number + 1, tensor + 1

    check_change(of_number, change)
    check_change(of_tensor, change)


class Plain:
    """A pair that is no module."""

    def __init__(self, factor: Any = 1.0) -> None:
        self.factor = factor

    def model(self, x: Tensor) -> None:
        story(x, self.factor)

    __call__ = model


class Slotted:
    __slots__ = ("factor",)


class Constants:
    factor = 1.0


class Reader(nn.Module):
    """Reads a layer, a function, a dictionary, its class, or a global by ways that are no plain method."""

    constant: Any = 1.0

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Sequential(nn.Linear(1, 1))
        self.function: Any = torch.exp
        self.settings = {"factor": 1.0}
        self.way = way

    def forward(self, x: Tensor) -> None:
        ways = {
            "layer": lambda: self.layer(torch.ones(1)),
            "function": lambda: self.function(torch.ones(())),
            "settings": lambda: self.settings["factor"],
            "constant": lambda: self.constant,
            "method": self.by_method,
            "property": lambda: self.by_property,
            "static": self.by_function,
            "class": self.by_class,
        }
        story(x, ways[self.way]())

    def by_method(self) -> float:
        return GLOBAL

    @property
    def by_property(self) -> float:
        return OF_PROPERTY

    @staticmethod
    def by_function() -> float:
        return OF_FUNCTION

    @classmethod
    def by_class(cls) -> float:
        return OF_CLASS


Change = tuple[Any, Callable[[], Any]]


def reading(read: Callable[[], Any]) -> Callable[[Tensor], None]:
    def model(x: Tensor) -> None:
        story(x, read())

    return model


def of_global(way: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Change:
    return Reader(way), lambda: monkeypatch.setitem(globals(), name, 2.0)


def of_attribute(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Change:
    settings.factor = 1.0
    return reading(lambda: settings.factor), lambda: monkeypatch.setattr(settings, "factor", 2.0)


def of_item(settings: Any, key: Any, value: Any, monkeypatch: pytest.MonkeyPatch) -> Change:
    return reading(lambda: settings[key]), lambda: settings.__setitem__(key, value)


def of_reader(way: str, change: Callable[[Reader], Any], monkeypatch: pytest.MonkeyPatch) -> Change:
    reader = Reader(way)
    return reader, lambda: change(reader)


def of_plain(model: Callable[[Plain], Any], value: Any, monkeypatch: pytest.MonkeyPatch) -> Change:
    plain = Plain()
    return model(plain), lambda: setattr(plain, "factor", value)


def of_class(monkeypatch: pytest.MonkeyPatch) -> Change:
    return Reader("constant"), lambda: monkeypatch.setattr(Reader, "constant", 2.0)


def of_partial(monkeypatch: pytest.MonkeyPatch) -> Change:
    model = partial(story, factor=1.0)
    return model, lambda: model.keywords.update(factor=2.0)


def of_array(change: Callable[[Any], Any], make: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> Change:
    array = [np.ones(3)]
    return reading(lambda: make(array[0])), lambda: change(array)


def of_list(monkeypatch: pytest.MonkeyPatch) -> Change:
    numbers = [1.0, 1.0, 1.0]
    return reading(lambda: torch.tensor(numbers)), lambda: numbers.__setitem__(0, 2.0)


def of_store(monkeypatch: pytest.MonkeyPatch) -> Change:
    def change() -> None:
        pyro.clear_param_store()
        pyro.param("factor", torch.tensor(2.0))

    return reading(lambda: pyro.param("factor", torch.ones(()))), change


def filled(array: list[Any]) -> None:
    array[0].fill(2.0)


def replaced(array: list[Any]) -> None:
    array[0] = 2 * np.ones(3)


OUT_OF_SIGHT: dict[str, Callable[[pytest.MonkeyPatch], Change]] = {
    "a global, by a method": partial(of_global, "method", "GLOBAL"),
    "an object's attribute": partial(of_attribute, Plain()),
    "a dictionary's entry": partial(of_item, {"factor": 1.0}, "factor", 2.0),
    "a list's entry": partial(of_item, [torch.ones(())], 0, torch.tensor(2.0)),
    "a module's dictionary": partial(of_reader, "settings", lambda m: m.settings.update(factor=2.0)),
    "another submodule": partial(of_reader, "layer", lambda m: m.layer.__setitem__(0, nn.Linear(1, 1))),
    "one more submodule": partial(of_reader, "layer", lambda m: m.layer.append(nn.Tanh())),
    "a hook": partial(of_reader, "layer", lambda m: m.layer.register_forward_hook(lambda *call: call[-1] * 2)),
    "another function": partial(of_reader, "function", lambda m: setattr(m, "function", torch.sin)),
    "a method's object": partial(of_plain, lambda plain: plain.model, 2.0),
    "a callable object": partial(of_plain, lambda plain: plain, torch.tensor(2.0)),
    "the class": of_class,
    "a partial": of_partial,
    "a list made a tensor": of_list,
    "an array made a tensor, filled": partial(of_array, filled, torch.tensor),
    "an array made a tensor, replaced": partial(of_array, replaced, torch.tensor),
    "an array shared with a tensor, filled": partial(of_array, filled, torch.from_numpy),
    "an array shared with a tensor, replaced": partial(of_array, replaced, torch.from_numpy),
    "a cleared store": of_store,
    "a namespace": partial(of_attribute, types.SimpleNamespace()),
    "parsed arguments": partial(of_attribute, argparse.Namespace()),
    "a class of constants": partial(of_attribute, Constants),
    "a global, by a property": partial(of_global, "property", "OF_PROPERTY"),
    "a global, by a static method": partial(of_global, "static", "OF_FUNCTION"),
    "a global, by a class method": partial(of_global, "class", "OF_CLASS"),
    "another file": partial(of_attribute, types.ModuleType("settings")),
    "an object with slots": partial(of_attribute, Slotted()),
}


@pytest.mark.parametrize("name", OUT_OF_SIGHT)
@pytest.mark.filterwarnings("ignore::inference.graph.GraphWarning")
def test_a_change_out_of_sight_is_seen_or_the_program_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_change(*OUT_OF_SIGHT[name](monkeypatch))


def test_parameters_in_the_store_may_be_set_and_loaded() -> None:
    def model(x: Tensor) -> None:
        story(x, pyro.param("factor", torch.ones(()), constraint=dist.constraints.positive))

    store = pyro.get_param_store()
    twins = Twins(model, Guide(), normal())
    first = twins.agree(normal())
    saved = copy.deepcopy(store.get_state())
    store["factor"] = torch.tensor(3.0)
    second = twins.agree(normal())
    store.set_state(saved)
    third = twins.agree(normal())
    assert not torch.equal(first.numbers, second.numbers)
    assert torch.equal(first.numbers[:-1], third.numbers[:-1])  # less the norm: nobody trains the new leaf


def test_a_frozen_parameter_is_never_served_an_old_gradient() -> None:
    model = Model()
    twins = Twins(model, Guide(), normal())
    first = twins.agree(normal())
    model.decoder.bias.requires_grad_(requires_grad=False)
    for run in (twins.program, twins.graph):
        with pytest.raises(RuntimeError, match="does not require grad"):
            run(normal(), STEP)
    model.decoder.bias.requires_grad_(requires_grad=True)
    assert equal(first, twins.agree(normal()))


def test_a_pair_may_move_to_double_precision() -> None:
    model, guide = Model().float(), Guide().float()
    torch.set_default_dtype(torch.float32)
    twins = Twins(model, guide, normal())
    assert twins.agree(normal()).numbers.dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    model.double()
    guide.double()
    assert twins.agree(normal()).numbers.dtype == torch.float64


def test_training_and_evaluation_differ(captures: list[Captured]) -> None:
    guide = Guide(dropping)
    twins = Twins(Model(), guide, normal())
    found = []
    for training in (True, False, True):
        guide.train(training)
        found.append(twins.agree(normal()))
    assert equal(found[0], found[2])
    assert not torch.equal(found[0].numbers, found[1].numbers)
    assert len(captures) == 3


def test_too_many_changes_end_in_the_program_itself() -> None:
    model = Model(lambda model, z: 1.0 + model.calls)
    twins = Twins(model, Guide(), normal())

    def go_on_changing() -> None:
        for _ in range(12):
            twins.agree(normal())
            model.calls += 1

    with pytest.warns(GraphWarning, match="changed more than 8 times") as caught:
        go_on_changing()
    assert len(caught) == 1
    assert twins.graph.modes == {"6": "eager"}


def test_a_change_to_what_has_no_graph_is_owned_up_to() -> None:
    model = Model(lambda model, z: z.sum().item() if model.calls else 1.0)
    twins = Twins(model, Guide(), normal())
    twins.agree(normal())
    assert twins.graph.modes == {"6": "replay"}
    model.calls += 1
    with pytest.warns(GraphWarning, match="asks for the value"):
        twins.agree(normal())
    assert twins.graph.modes == {"6": "eager"}
