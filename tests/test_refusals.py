"""Programs that have no tensor graph: refused in one warning that says why, right afterwards, and left as they were."""

from __future__ import annotations

import collections
import copy
import itertools
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor, nn

import inference.graph.reach
import inference.graph.record
from inference.fit import Fitted, fit
from inference.graph import GraphWarning
from inference.graph.capture import capture
from inference.objectives import Variational
from inference.optim import adam
from inference.pair import Pair
from tests.test_graph import STEP, Guide, Model, Twins, normal, normalising, spectral, stepper

pytestmark = pytest.mark.usefixtures("double")

# --- what has no graph is refused, in one warning, and runs as ever

Factor = Callable[[Model, Tensor], Any]
SCALAR = torch.tensor(2.0)
SPARSE = torch.eye(3, dtype=torch.float64).to_sparse()


def steady(factor: Factor) -> Callable[[], Factor]:
    return lambda: factor


def own_generator() -> Factor:
    generator = torch.Generator().manual_seed(0)
    return lambda model, z: torch.rand((), generator=generator)


def pythons_random() -> Factor:
    random.seed(0)
    return lambda model, z: 1 + random.random()


def numpys_random() -> Factor:
    np.random.seed(0)  # noqa: NPY002
    return lambda model, z: 1 + np.random.rand()  # noqa: NPY002


def counting(model: Model, z: Tensor) -> float:
    model.calls += 1
    return 1.0 + model.calls / 10


def remembering(model: Model, z: Tensor) -> Tensor:
    last, model.last = model.last, z.detach().mean()
    return torch.ones(()) if last is None else 1 + last


def moving(make: Callable[[], Any], moved: Callable[[Any], bool]) -> Callable[[], Factor]:
    """What the program does changes late: the runs that make a graph all do the same."""

    def factor() -> Factor:
        thing = make()
        return lambda model, z: 3.0 if moved(thing) else 1.0

    return factor


def counted(array: Any) -> bool:
    array[0] += 1
    return bool(array[0] > 6)


def queued(queue: Any) -> bool:
    queue.append(1.0)
    return len(queue) > 6


def privately(name: str, start: Any, after: Callable[[Any], Any], late: Callable[[Any], bool]) -> Callable[[], Factor]:
    def factor(model: Model, z: Tensor) -> float:
        setattr(model, name, after(getattr(model, name, start)))
        return 3.0 if late(getattr(model, name)) else 1.0

    return steady(factor)


MOVES = "moves on at every call"
VALUE, SHAPE = "asks for the value of a tensor", "makes a shape from the values of a tensor"
HERE = r" at test_refusals\.py:\d+, after site `z`"
REFUSED: dict[str, tuple[Callable[[], Factor], str]] = {
    "branch": (steady(lambda model, z: 2.0 if z.sum() > 0 else 1.0), VALUE + HERE),
    "item": (steady(lambda model, z: z.mean().item()), VALUE + HERE),
    "item of a global": (steady(lambda model, z: SCALAR.item()), VALUE + HERE),
    "item of a buffer": (steady(lambda model, z: model.ema[0].item()), VALUE + HERE),
    "float": (steady(lambda model, z: float(z.detach().mean())), VALUE + HERE),
    "int": (steady(lambda model, z: int(SCALAR)), VALUE + HERE),
    "list": (steady(lambda model, z: z.detach().mean(0).tolist()[0]), VALUE + HERE),
    "numpy": (steady(lambda model, z: float(z.detach().numpy().mean())), VALUE + HERE),
    "array": (steady(lambda model, z: float(np.asarray(z.detach()).mean())), VALUE + HERE),
    "compared": (steady(lambda model, z: 1.0 if torch.equal(z, z) else 2.0), VALUE + HERE),
    "mask": (steady(lambda model, z: z[z > 0].sum()), SHAPE + HERE),
    "nonzero": (steady(lambda model, z: torch.nonzero(z.detach()).double().mean()), SHAPE + HERE),
    "masked_select": (steady(lambda model, z: z.masked_select(z > 0).sum()), SHAPE + HERE),
    "generator": (own_generator, "draws from a generator of its own" + HERE),
    "random": (pythons_random, "draws from Python's or NumPy's random generator"),
    "numpy random": (numpys_random, "draws from Python's or NumPy's random generator"),
    "a generator of Python's": (moving(lambda: random.Random(1), lambda it: it.random() < 0.1), "Random that " + MOVES),
    "a generator of NumPy's": (moving(lambda: np.random.default_rng(0), lambda it: it.random() < 0.1), MOVES),
    "an array that counts": (moving(lambda: np.zeros(1), counted), "ndarray that " + MOVES),
    "a queue": (moving(collections.deque, queued), "deque that " + MOVES),
    "an iterator": (moving(itertools.count, lambda it: next(it) > 6), "holds an iterator"),
    "a private tuple": (privately("_n", (0,), lambda n: (n[0] + 1,), lambda n: n[0] > 6), "changes `_n`"),
    "a private NumPy number": (privately("_n", np.int64(0), lambda n: n + 1, lambda n: n > 6), "changes `_n`"),
    "a sparse tensor": (steady(lambda model, z: (SPARSE @ torch.ones(3, 1)).mean()), "layout torch.sparse_coo" + HERE),
    "counter": (steady(counting), "changes `calls`"),
    "memory": (steady(remembering), "makes a tensor anew|changes `last`"),
}


def train(factor: Factor, mode: Any, x: Tensor | None = None, **options: Any) -> tuple[Fitted, list[Tensor]]:
    model, guide = Model(factor), Guide()
    x = normal(10) if x is None else x
    objective = Variational(vectorize=True)
    options = {"steps": 6, "batch_size": 10, "report_every": 1, "optimizer": adam(0.05)} | options
    fitted = fit(model, guide, x, objective, mode=mode, **options)
    return fitted, [*model.state_dict().values(), *guide.state_dict().values()]


def check_training(make: Callable[[], Factor], mode: Any = "replay", **options: Any) -> Fitted:
    """Training in a mode has the bits of training by the programs themselves."""
    expected, state = train(make(), "eager", **options)
    fitted, found = train(make(), mode, **options)
    assert fitted.metrics["loss"].tolist() == expected.metrics["loss"].tolist()
    assert all(torch.equal(mine, its) for mine, its in zip(found, state, strict=True))
    return fitted


@pytest.mark.parametrize("name", REFUSED)
def test_a_program_without_a_graph_is_refused_and_runs_as_ever(name: str) -> None:
    make, reason = REFUSED[name]
    with pytest.warns(GraphWarning, match=f"mode 'eager': .*({reason})") as caught:
        fitted = check_training(make)
    assert len(caught) == 1
    assert fitted.modes["bound"] == {"10": "eager"}


def test_one_warning_serves_all_batch_sizes() -> None:
    with pytest.warns(GraphWarning, match=VALUE) as caught:
        fitted = check_training(REFUSED["branch"][0], x=normal(25), validation=normal(25))
    assert [str(warning.message) for warning in caught] == [str(caught[0].message)]
    assert fitted.modes == {"bound": {"10": "eager", "5": "eager"}, "score": {"10": "eager", "5": "eager"}}


def test_a_warning_is_one_sentence() -> None:
    with pytest.warns(GraphWarning, match=VALUE) as caught:
        check_training(REFUSED["item"][0])
    assert "\n" not in str(caught[0].message)


def test_a_program_of_too_many_operations_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.graph.record, "NODE_BUDGET", 50)
    with pytest.warns(GraphWarning, match="more than 50 tensor operations") as caught:
        check_training(steady(lambda model, z: 1.0))
    assert len(caught) == 1


def dict_of_state(model: Model, z: Tensor) -> Tensor:
    last, model.memory["last"] = model.memory["last"], z.detach().mean()
    return 1 + last


def rebound_buffer(model: Model, z: Tensor) -> Tensor:
    model.ema = 0.9 * model.ema + 0.1 * z.detach().mean()
    return model.ema


def counting_in_a_dict(model: Model, z: Tensor) -> float:
    model.memory["calls"] += 1
    return 1 + model.memory["calls"] / 10


@pytest.mark.parametrize("factor", [dict_of_state, rebound_buffer, counting_in_a_dict])
@pytest.mark.filterwarnings("ignore::inference.graph.GraphWarning")
def test_state_kept_in_python_is_right_or_refused(factor: Factor) -> None:
    check_training(steady(factor))


def test_a_slow_counter_is_not_frozen() -> None:
    def factor(model: Model, z: Tensor) -> float:
        model.memory["calls"] += 1
        return 1 + model.memory["calls"] / 100_000

    torch.set_default_dtype(torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GraphWarning)
        check_training(steady(factor))


def test_what_nobody_can_see_shows_in_the_last_bit() -> None:
    """A replayed graph has the program's bits, so it is held to them: a difference below rounding's is one."""
    torch.set_default_dtype(torch.float32)
    generator = random.Random(0)
    run = stepper(Model(lambda model, z: 1 + 1e-5 * generator.random()), Guide(), normal(), "replay")
    found = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GraphWarning)
        for _ in range(8):
            torch.manual_seed(0)
            found.add(float(run(normal(), STEP).numbers[0]))
    assert len(found) > 1


def whole(model: Model) -> None:
    model.ema.mul_(0.9)


def by_out(model: Model) -> None:
    torch.mul(model.ema, 0.9, out=model.ema)


def by_foreach(model: Model) -> None:
    torch._foreach_mul_([model.ema], 0.9)


def by_index(model: Model) -> None:
    model.ema[torch.tensor([0, 2])] = 0.5 * model.ema[1]


def detached(model: Model) -> None:
    model.ema.detach().mul_(0.9)


def raw(model: Model) -> None:
    model.ema.data.mul_(0.9)


def one_entry(model: Model) -> None:
    model.ema[0] = 0.9 * model.ema[0]


def a_slice(model: Model) -> None:
    model.ema[1:].mul_(0.9)


@pytest.mark.parametrize("write", [whole, by_out, by_foreach, by_index, detached, raw, one_entry, a_slice])
@pytest.mark.filterwarnings("ignore::inference.graph.GraphWarning")
def test_buffers_written_in_place_are_as_in_the_program(write: Callable[[Model], None]) -> None:
    def factor(model: Model, z: Tensor) -> Tensor:
        with torch.no_grad():
            write(model)
        return model.ema

    check_training(steady(factor))


def test_a_program_that_fails_by_itself_fails_as_ever() -> None:
    def factor(model: Model, z: Tensor) -> Tensor:
        if model.calls:
            raise KeyError("of the program itself")
        return model.ema

    model = Model(factor)
    run = stepper(model, Guide(), normal(), "replay")
    model.calls = 1
    before = torch.get_rng_state()
    with pytest.raises(KeyError, match="of the program itself"):
        run(normal(), STEP)
    assert torch.equal(before, torch.get_rng_state())
    model.calls = 0
    run(normal(), STEP)
    assert run.modes == {"6": "replay"}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.LSTM(1, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.unsqueeze(-1))[1][0][0]


@pytest.mark.filterwarnings("ignore::inference.graph.GraphWarning")
def test_a_graph_that_does_not_run_is_refused() -> None:
    torch.set_default_dtype(torch.float32)
    Twins(Model(), Guide(Recurrent), normal()).agree(normal())


# --- making a graph leaves no trace


@pytest.mark.parametrize("encoder", [normalising, spectral])
def test_making_a_graph_leaves_everything_as_it_was(encoder: Callable[[], nn.Module]) -> None:
    model, guide, x = Model(whole_and_factor), Guide(encoder), normal(8)
    guide.encoder[-1].eval()  # a flag that differs from the others'
    pyro.param("another", torch.ones(2))
    pair = Pair(model, guide)
    phase = Variational(vectorize=True).task(pair, x).phases[0]

    def function(x: Tensor, step: Tensor) -> tuple[list[Tensor], None]:
        loss = phase.loss(x, step).loss
        return [loss.detach(), *torch.autograd.grad(loss, list(phase.parameters.values()))], None

    def state(**options: bool) -> dict[str, Tensor]:
        return {**model.state_dict(prefix="model.", **options), **guide.state_dict(prefix="guide.", **options)}

    def world() -> list[Any]:
        modules = [*model.modules(), *guide.modules()]
        return [
            [module.training for module in modules],
            [{k: id(v) for k, v in module.__dict__.items()} for module in modules],
            [{k: id(v) for k, v in {**m._parameters, **m._buffers, **m._modules}.items()} for m in modules],
            torch.get_rng_state().tolist(),
            random.getstate(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            {k: (id(v), v.tolist()) for k, v in pyro.get_param_store()._params.items()},
            torch.distributions.Distribution._validate_args,  # type: ignore[attr-defined]
            pyro.poutine.runtime._PYRO_STACK[:],
            [v.tolist() for v in (*state().values(), x, STEP)],
            [v.grad for v in state(keep_vars=True).values()],
            torch.is_grad_enabled(),
        ]

    before = world()
    captured = capture(pair, function, [x, STEP])
    for number, (was, now) in enumerate(zip(before, world(), strict=True)):
        assert was == now, number
    start = copy.deepcopy(state())
    torch.manual_seed(0)
    expected, _ = function(x, STEP)
    ended = copy.deepcopy(state())
    assert any(not torch.equal(start[name], ended[name]) for name in start)
    for name, value in state().items():
        value.copy_(start[name])
    torch.manual_seed(0)
    with torch.no_grad():
        found = captured.replay(x, STEP)
    assert all(torch.equal(mine, its) for mine, its in zip(found, expected, strict=True))
    assert all(torch.equal(value, ended[name]) for name, value in state().items())


def whole_and_factor(model: Model, z: Tensor) -> Tensor:
    with torch.no_grad():
        whole(model)
    return model.ema


def test_what_programs_hold_is_left_as_it_was() -> None:
    """Making a graph runs a program; generators, arrays and queues that it holds are then where they were."""
    generator, array, queue = np.random.default_rng(0), np.zeros(3), collections.deque([1.0])

    def factor(model: Model, z: Tensor) -> float:
        array[0] += 1
        queue.append(generator.random())
        return 1.0

    run = stepper(Model(factor), Guide(), normal(), "replay")
    before = generator.bit_generator.state, array.tolist(), list(queue)
    with pytest.warns(GraphWarning, match="at every call"):
        _, entry = run.graph.find(normal(), STEP)
    assert entry.captured is None
    assert (generator.bit_generator.state, array.tolist(), list(queue)) == before


def test_too_much_to_watch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.graph.reach, "LIMIT", 3)
    with pytest.warns(GraphWarning, match="more than 3 objects"):
        check_training(steady(lambda model, z: 1.0))
