"""Flat densities of Pyro programs: mapped over or one at a time, against Pyro's own and against closed forms."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.mcmc.util import initialize_model
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.distributions import Distribution, Multinomial, dirichlet, transforms
from torch.distributions import LogNormal as TorchLogNormal
from torch.distributions import Normal as TorchNormal
from torch.distributions import Pareto as TorchPareto
from torch.distributions import Poisson as TorchPoisson
from torch.distributions import VonMises as TorchVonMises
from torch.utils._pytree import tree_map

import inference.density.batched
from inference.density import Batched, FlatDensity, map_rows
from inference.flags import validating
from inference.graph import GraphWarning
from tests.programs import COUNTS, LOOP, POINT, REFUSED, RIGHT, SEEN, SERIES, TABLE, Program, X, Y, cases

pytestmark = pytest.mark.usefixtures("double")
close = torch.testing.assert_close


def places(density: FlatDensity, rows: int = 4, scale: float = 0.7) -> Tensor:
    return scale * torch.randn(rows, density.dim)


def checked(program: Program) -> Batched:
    """Looked at and checked, whatever mode it comes to."""
    density = program.density()
    batched = Batched(density)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch, of `float(z)`; and modes
        batched.check(places(density, 2), *density.data)
    return batched


def slopes(value: Callable[[Tensor], Tensor], q: Tensor, h: float = 1e-5) -> Tensor:
    """The gradient at one vector by central differences, from values at rows."""
    steps = h * torch.eye(len(q))
    return (value(q + steps) - value(q - steps)) / (2 * h)


# --- right, mapped over


@pytest.mark.parametrize("program", cases(RIGHT))
def test_mapped_over_it_is_what_single_runs_give(program: Program) -> None:
    density = program.density()
    batched, q = Batched(density), places(density)
    batched.check(q, *density.data)
    assert batched.mapped
    log_p, grad = batched(q, *density.data)
    alone = batched.one_by_one(q, *density.data)
    assert log_p.shape == (4,)
    assert grad.shape == (4, density.dim)
    assert log_p.isfinite().all()
    close(log_p, alone[0], rtol=1e-10, atol=1e-10)
    close(grad, alone[1], rtol=1e-10, atol=1e-10)
    differences = slopes(lambda rows: batched(rows, *density.data)[0], q[0])
    close(differences, grad[0], rtol=1e-5, atol=1e-6)


# --- against Pyro, where Pyro is right

IMPROPER, DYNAMIC = ("positive", "ordered", "anywhere"), ("remainder", "floor")
NOT_PYROS = (*IMPROPER, *DYNAMIC, "missing", "member", "mixture_prior", "named", "angle", "shifted", "stretched")


@pytest.mark.parametrize(
    "program", cases({name: program for name, program in (RIGHT | LOOP).items() if name not in NOT_PYROS})
)
def test_it_is_pyros(program: Program) -> None:
    density = program.density()
    q = places(density)
    with validating(enabled=False):
        _, potential, _, _ = initialize_model(
            program.model, program.args, dict(program.kwargs), max_plate_nesting=2, initial_params={}
        )
        for row in q:
            params = {at.name: row[at.start : at.stop].reshape(at.free) for at in density.latents}
            close(density.log_density(row), -potential(params), rtol=1e-10, atol=1e-10)


# --- against closed forms, where it is not; and where discrete sites are summed out


def of(law: Distribution, value: Tensor) -> Tensor:
    found: Tensor = law.log_prob(value).sum()
    return found


def two(p: float) -> Tensor:
    return torch.tensor([p, 1 - p]).log()


def positive(q: Tensor) -> Tensor:
    return of(TorchNormal(q[0].exp(), 0.5), POINT) + q[0]


def ordered(q: Tensor) -> Tensor:
    c = torch.stack([q[0], q[0] + q[1].exp(), q[0] + q[1].exp() + q[2].exp()])
    return of(TorchNormal(c, 1.0), SERIES[1:]) + q[1] + q[2]


def anywhere(q: Tensor) -> Tensor:
    return of(TorchNormal(q, 1.5), SERIES)


def remainder(q: Tensor) -> Tensor:
    a, share = q.sigmoid()
    left = 1 - a
    jacobian = (a * (1 - a)).log() + (left * share * (1 - share)).log()
    return -left.log() + of(TorchNormal(a + left * share, 0.3), POINT) + jacobian


def floor(q: Tensor) -> Tensor:
    lowest = q[0].exp()
    income = lowest + q[1:].exp()
    priors = of(TorchLogNormal(0.0, 0.5), lowest) + of(TorchPareto(lowest, 3.0), income)
    return priors + of(TorchNormal(income.log(), 0.5), Y) + q.sum()


def missing(q: Tensor) -> Tensor:
    """What nobody reads of the values that fill in has a law of its own, which integrates to one."""
    seen = of(TorchNormal(q[0], 1.0), Y[SEEN])
    return of(TorchNormal(0.0, 1.0), q[0]) + seen + of(TorchNormal(q[0], 1.0), q[1:])


def mixture_prior(q: Tensor) -> Tensor:
    z = q[0].exp()
    bumps = two(0.3) + TorchLogNormal(torch.tensor([0.0, 1.0]), 0.4).log_prob(z)
    return bumps.logsumexp(0) + q[0] + of(TorchNormal(z, 1.0), POINT)


def named(q: Tensor) -> Tensor:
    """A point mass is no latent: Pyro would move it."""
    return of(TorchNormal(0.0, 1.0), q[0]) + of(TorchNormal(2 * q[0] + 1, 1.0), Y)


def member(q: Tensor) -> Tensor:
    mu, z = q[:2], q[2:]
    prior = (two(0.3) + TorchNormal(mu, 1.0).log_prob(z.unsqueeze(-1))).logsumexp(-1).sum()
    return of(TorchNormal(0.0, 3.0), mu) + prior + of(TorchNormal(z, 1.0), Y)


def mixture(q: Tensor) -> Tensor:
    share, mu = torch.stack([q[0].sigmoid(), 1 - q[0].sigmoid()]), q[1:]
    each = (share.log() + TorchNormal(mu, 0.8).log_prob(Y.unsqueeze(-1))).logsumexp(-1)
    prior = (2 * share[0]).log() + of(TorchNormal(0.0, 3.0), mu)  # Dirichlet(2, 1) has density 2 share[0]
    return prior + each.sum() + share.log().sum()


def switch(q: Tensor) -> Tensor:
    on = torch.stack([-torch.nn.functional.softplus(q[0]), -torch.nn.functional.softplus(-q[0])])
    each = (on + TorchNormal(q[1] * torch.tensor([0.0, 1.0]), 0.5).log_prob(Y.unsqueeze(-1))).logsumexp(-1)
    return of(TorchNormal(0.0, 1.0), q[0]) + of(TorchNormal(0.0, 3.0), q[1]) + each.sum()


def two_mixtures(q: Tensor) -> Tensor:
    both = TorchNormal(q, 1.0).log_prob(Y.unsqueeze(-1)) + TorchNormal(q + 1, 2.0).log_prob(Y.flip(0).unsqueeze(-1))
    rates = (q.sum() / 5 + torch.tensor([0.0, 1.0])).exp()
    shops = (two(0.7) + TorchPoisson(rates).log_prob(COUNTS.unsqueeze(-1))).logsumexp(-1)
    return of(TorchNormal(0.0, 2.0), q) + (two(0.4) + both).logsumexp(-1).sum() + shops.sum()


def grouped_mixture(q: Tensor) -> Tensor:
    each = TorchNormal(q, 1.0).log_prob(TABLE.unsqueeze(-1)).sum(1)  # (group, k)
    return of(TorchNormal(0.0, 2.0), q) + (two(0.4) + each).logsumexp(-1).sum()


def one_switch(q: Tensor) -> Tensor:
    each = TorchNormal(q, 1.0).log_prob(Y.unsqueeze(-1)).sum(0)
    return of(TorchNormal(0.0, 3.0), q) + (two(0.5) + each).logsumexp(-1)


def over_paths(change: Tensor, mu: Tensor, series: Tensor) -> Tensor:
    """A hidden Markov chain's likelihood by going through all paths from state 0."""
    paths = []
    for path in itertools.product(range(2), repeat=len(series)):
        moves = sum(change[a, b].log() for a, b in itertools.pairwise((0, *path)))
        paths.append(moves + of(TorchNormal(mu[list(path)], 1.0), series))
    return torch.stack(paths).logsumexp(0)


def hidden_markov(q: Tensor) -> Tensor:
    stay = q[0].sigmoid()
    change = torch.stack([stay, 1 - stay, 1 - stay, stay]).reshape(2, 2)
    prior = (12 * stay**2 * (1 - stay)).log() + of(TorchNormal(0.0, 3.0), q[1:])  # Beta(3, 2) has 12 s^2 (1 - s)
    return prior + over_paths(change, q[1:], SERIES) + (stay * (1 - stay)).log()


def angle(q: Tensor) -> Tensor:
    turn = math.pi * (2 * q[0].sigmoid() - 1)
    jacobian = (2 * math.pi * q[0].sigmoid() * (1 - q[0].sigmoid())).log()
    return of(TorchVonMises(torch.tensor(0.0), torch.tensor(2.0)), turn) + jacobian


def shifted(q: Tensor) -> Tensor:
    later = q[0].exp()
    return -later + of(TorchNormal(later - 3, 1.0), POINT) + q[0]


def stretched(q: Tensor) -> Tensor:
    part = q[0].sigmoid()
    return of(TorchNormal(6 * part - 3, 1.0), POINT) + (part * (1 - part)).log()


EXACT: tuple[Callable[[Tensor], Tensor], ...] = (
    positive, ordered, anywhere, remainder, floor, missing, mixture_prior, member, named,
    mixture, switch, two_mixtures, grouped_mixture, one_switch, hidden_markov, angle, shifted, stretched,
)  # fmt: skip


@pytest.mark.parametrize("exact", EXACT, ids=lambda exact: exact.__name__)
def test_it_is_the_closed_form(exact: Callable[[Tensor], Tensor]) -> None:
    density = RIGHT[exact.__name__].density()
    for row in places(density, scale=1.5):
        close(density.log_density(row), exact(row), rtol=1e-10, atol=1e-10)


def test_every_program_is_compared_with_something_else() -> None:
    assert set(NOT_PYROS) <= {exact.__name__ for exact in EXACT}


# --- in graphs

REPLAYED = (
    "correlations", "levels", "mixture", "hidden_markov", "discrete_hmm", "missing", "sequential_plate",
    "sequential_mixture", "layer", "remainder",
)  # fmt: skip


@pytest.mark.parametrize("name", REPLAYED)
def test_a_graph_gives_the_same_numbers(name: str) -> None:
    density = RIGHT[name].density()
    batched, q = Batched(density), places(density)
    batched.check(q, *density.data)
    graph = batched.graphed(lambda q, *data: (batched(q, *data), None), "replay", lambda n: 1000)
    for at in (q, places(density)):
        for data in (density.data, [other(value) for value in density.data]):
            (log_p, grad), _ = graph(at, *data)
            expected = batched.one_by_one(at, *data)
            close(log_p, expected[0], rtol=1e-10, atol=1e-10)
            close(grad, expected[1], rtol=1e-10, atol=1e-10)
    assert batched.mode(graph) == "replay"


def test_a_program_that_follows_its_data_has_no_graph_and_is_right() -> None:
    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        scale = 2.0 if y.sum() > 0 else 1.0
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(mu, scale), obs=y)

    density = FlatDensity.of(model, Y)
    batched, q = Batched(density), places(density)
    batched.check(q, Y)
    graph = batched.graphed(lambda q, *data: (batched(q, *data), None), "replay", lambda n: 1000)
    with pytest.warns(GraphWarning, match="the density runs in mode 'eager': it asks for the value of a tensor"):
        graph(q, Y)
    for data in (Y, -Y):
        alone = FlatDensity.of(model, data)
        close(graph(q, data)[0][0], torch.stack([alone.log_density(row) for row in q]))
    assert batched.mode(graph) == "vmap"


# --- data are arguments


def other(value: Tensor) -> Tensor:
    """Other data of the same kind: the same numbers in another order, or a number above."""
    return value.flip(0) if value.dim() else value + 0.25


WITH_DATA = {name: program for name, program in RIGHT.items() if program.args}


@pytest.mark.parametrize("program", cases(WITH_DATA))
def test_other_data_are_those_of_another_density(program: Program) -> None:
    density = program.density()
    args, kwargs = tree_map(
        lambda leaf: other(leaf) if isinstance(leaf, Tensor) else leaf, (program.args, program.kwargs)
    )
    new = Program(program.model, args, kwargs).density()
    assert [latent.name for latent in new.latents] == list(density.names)
    for row in places(density, 2):
        close(density.log_density(row, *new.data), new.log_density(row), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("program", cases({n: program for n, program in WITH_DATA.items() if n != "chosen"}))
def test_datasets_are_rows_too(program: Program) -> None:
    density = program.density()
    sets = [density.data, [other(value) for value in density.data], density.data]
    data = [torch.stack(values) for values in zip(*sets, strict=True)]
    batched, q = Batched(density, dims=(0,) * len(data)), places(density, 3)
    batched.check(q, *data)
    assert batched.mapped
    log_p, grad = batched(q, *data)
    for i, row in enumerate(q):
        at = row.requires_grad_()
        expected = density.log_density(at, *sets[i])
        close(log_p[i], expected, rtol=1e-10, atol=1e-10)
        close(grad[i], torch.autograd.grad(expected, at)[0], rtol=1e-10, atol=1e-10)


def test_some_data_have_rows_along_another_axis_and_others_are_shared() -> None:
    density = RIGHT["poisson"].density()
    counts = torch.stack([COUNTS, COUNTS.flip(0), COUNTS + 1], 1)  # (data, rows)
    batched, q = Batched(density, dims=(1, None)), places(density, 3)
    batched.check(q, counts, X)
    assert batched.mapped
    expected = [density.log_density(row, counts[:, i], X) for i, row in enumerate(q)]
    close(batched(q, counts, X)[0], torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_longer_data_are_taken_where_latents_do_not_grow_with_them() -> None:
    density = RIGHT["normal"].density()
    q, longer = places(density, 1)[0], torch.randn(11)
    close(density.log_density(q, longer), Program(RIGHT["normal"].model, (longer,)).density().log_density(q))
    with pytest.raises(ValueError, match="`data` are 2 tensors, expected 1"):
        density.log_density(q, longer, longer)


def test_data_take_the_type_of_the_density() -> None:
    program = Program(RIGHT["poisson"].model, (COUNTS.float(), X.float()))
    density = program.density()
    assert {value.dtype for value in density.data} == {torch.float64}
    assert density.log_density(places(density, 1)[0]).dtype == torch.float64


@pytest.mark.parametrize("name", ["normal", "correlations", "mixture", "hidden_markov", "levels"])
def test_single_precision(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    density = RIGHT[name].density(torch.float32)
    batched, q = Batched(density), places(density)
    batched.check(q, *density.data)
    assert batched.mapped
    log_p, grad = batched(q, *density.data)
    assert log_p.dtype == grad.dtype == torch.float32
    exact = RIGHT[name].density().log_density(q[0].double())
    close(log_p[0].double(), exact, rtol=1e-4, atol=1e-4)


def test_arguments_have_names() -> None:
    assert list(RIGHT["packed"].density().arguments()) == ["data_y", "data_x_0", "groups_0", "noise"]


# --- there and back


@pytest.mark.parametrize("program", cases(RIGHT))
def test_there_and_back(program: Program) -> None:
    density = program.density()
    q = places(density, 1)[0]
    values = density.constrain(q)
    assert {name: tuple(value.shape) for name, value in values.items()} == {
        latent.name: latent.shape for latent in density.latents
    }
    close(density.unconstrain(values), q, rtol=1e-9, atol=1e-9)


def everything() -> None:
    pyro.sample("half", dist.HalfNormal(1.0))
    pyro.sample("unit", dist.Beta(2.0, 2.0))
    pyro.sample("interval", dist.Uniform(0.0, 2.0))
    pyro.sample("share", dist.Dirichlet(torch.ones(3)))
    normals = dist.Normal(torch.zeros(3), 1.0).to_event(1)
    pyro.sample("ordered", dist.TransformedDistribution(normals, dist.transforms.OrderedTransform()))
    pyro.sample("L", dist.LKJCholesky(2, 1.0))


INSIDE = {
    "half": torch.tensor(0.5),
    "unit": torch.tensor(0.3),
    "interval": torch.tensor(1.7),
    "share": torch.tensor([0.2, 0.3, 0.5]),
    "ordered": torch.tensor([-1.0, 0.0, 2.0]),
    "L": torch.tensor([[1.0, 0.0], [0.6, 0.8]]),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("half", torch.tensor(-0.5), id="negative"),
        pytest.param("half", torch.tensor(0.0), id="zero"),
        pytest.param("unit", torch.tensor(1.2), id="above one"),
        pytest.param("unit", torch.tensor(-0.2), id="below zero"),
        pytest.param("interval", torch.tensor(3.0), id="right of the interval"),
        pytest.param("share", torch.tensor([-0.5, 0.6, 0.9]), id="a negative share"),
        pytest.param("share", torch.tensor([0.5, 0.6, 0.4]), id="shares of more than one"),
        pytest.param("ordered", torch.tensor([2.0, 0.0, -1.0]), id="descending"),
        pytest.param("L", 2 * torch.eye(2), id="rows of length two"),
        pytest.param("half", torch.tensor(torch.nan), id="not a number"),
    ],
)  # fmt: skip
def test_values_outside_the_support_are_refused(name: str, value: Tensor) -> None:
    density = FlatDensity.of(everything)
    close(density.constrain(density.unconstrain(INSIDE))[name], INSIDE[name].double())
    with pytest.raises(ValueError, match=f"site `{name}` is given a value outside its support, or on its edge"):
        density.unconstrain({**INSIDE, name: value})


def test_a_missing_value_and_one_of_another_shape_are_refused() -> None:
    density = RIGHT["normal"].density()
    with pytest.raises(ValueError, match="`values` lacks site `sigma`, expected every latent site"):
        density.unconstrain({"mu": torch.tensor(0.0)})
    with pytest.raises(ValueError, match=r"site `mu` is given a value of shape \(2,\), expected \(\)"):
        density.unconstrain({"mu": torch.zeros(2), "sigma": torch.tensor(1.0)})


def test_a_support_that_depends_on_another_latent_is_that_of_the_given_values() -> None:
    density = RIGHT["remainder"].density()
    q = density.unconstrain({"a": torch.tensor(0.9), "b": torch.tensor(0.05)})
    close(q, torch.tensor([9.0, 1.0]).log())


def test_and_so_are_its_edges() -> None:
    density = RIGHT["remainder"].density()
    with pytest.raises(ValueError, match="site `b` is given a value outside"):
        density.unconstrain({"a": torch.tensor(0.9), "b": torch.tensor(0.5)})


# --- right, one at a time


def test_a_branch_is_right_on_both_sides() -> None:
    density = LOOP["branch"].density()
    for z, mean in ((0.4, 1.2), (-0.4, -0.2)):
        expected = of(TorchNormal(0.0, 1.0), torch.tensor(z)) + of(TorchNormal(mean, 1.0), POINT)
        close(density.log_density(torch.tensor([z])), expected)


@pytest.mark.parametrize("program", cases(LOOP))
def test_what_follows_a_latent_runs_one_chain_at_a_time(program: Program) -> None:
    density = program.density()
    batched, q = Batched(density), places(density)
    with pytest.warns(GraphWarning, match="`model` runs one chain at a time: it cannot be mapped over"):
        batched.check(q, *density.data)
    assert not batched.mapped
    log_p, grad = batched(q, *density.data)
    close(log_p, torch.stack([density.log_density(row) for row in q]), rtol=0, atol=0)
    for row, found in zip(q, grad, strict=True):
        differences = slopes(lambda rows: torch.stack([density.log_density(row) for row in rows]), row)
        close(differences, found, rtol=1e-5, atol=1e-6)
    graph = batched.graphed(lambda q, *data: (batched(q, *data), None), "replay", lambda n: 1000)
    close(graph(q, *density.data)[0][0], log_p, rtol=0, atol=0)
    assert batched.mode(graph) == "loop"


def test_what_gives_another_density_when_mapped_over_runs_one_at_a_time() -> None:
    def two_faced(y: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        mapped = torch._C._functorch.is_functorch_wrapped_tensor(z)
        pyro.sample("y", dist.Normal(2 * z if mapped else z, 1.0), obs=y)

    batched = Batched(FlatDensity.of(two_faced, POINT))
    with pytest.warns(GraphWarning, match="mapped over, it gives another density than alone"):
        batched.check(torch.randn(2, 1), POINT)
    q = torch.randn(3, 1)
    expected = TorchNormal(0.0, 1.0).log_prob(q) + TorchNormal(q, 1.0).log_prob(POINT)
    close(batched(q, POINT)[0], expected.squeeze(-1))


# --- refused


@pytest.mark.parametrize("program", cases(REFUSED))
def test_refusals_name_the_site(program: Program) -> None:
    with pytest.raises(ValueError, match=program.said):
        checked(program)


def rarely(latent: Callable[[], Tensor]) -> Callable[[Tensor], None]:
    """A program with a latent that its inspection, within 2 of the origin, does not come to."""

    def model(y: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        mean = z + latent() if z > 2.5 else z
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    return model


@pytest.mark.parametrize(
    "latent",
    [
        pytest.param(lambda: pyro.sample("extra", dist.Normal(0.0, 1.0)), id="continuous"),
        pytest.param(lambda: pyro.sample("extra", dist.Bernoulli(0.5)), id="discrete"),
    ],
)
def test_a_latent_that_is_come_to_late_is_refused(latent: Callable[[], Tensor]) -> None:
    density = FlatDensity.of(rarely(latent), POINT)
    with pytest.raises(ValueError, match="site `extra`"):
        density.log_density(torch.tensor([3.0]))


def test_a_latent_that_is_not_come_to_is_refused() -> None:
    def model(y: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        mean = pyro.sample("usual", dist.Normal(0.0, 1.0)) if z < 2.5 else z
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    density = FlatDensity.of(model, POINT)
    assert density.log_density(torch.zeros(2)).isfinite()
    with pytest.raises(ValueError, match="site `usual` is not in every run of the program"):
        density.log_density(torch.tensor([3.0, 0.0]))


# --- sums over discrete sites, in hard places


def test_a_sum_whose_factors_disagree_is_finite() -> None:
    def model(a: Tensor, b: Tensor) -> None:
        shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(a)):
            k = pyro.sample("k", dist.Bernoulli(0.5))
            pyro.sample("a", dist.Normal(4 * k + shift, 0.1), obs=a)
            pyro.sample("b", dist.Normal(4 * k + shift, 0.1), obs=b)

    a, b, k = torch.tensor([0.0]), torch.tensor([4.0]), torch.tensor([0.0, 4.0])
    each = TorchNormal(k, 0.1).log_prob(a) + TorchNormal(k, 0.1).log_prob(b) + two(0.5)
    expected = of(TorchNormal(0.0, 1.0), torch.zeros(())) + each.logsumexp(0)
    close(FlatDensity.of(model, a, b).log_density(torch.zeros(1)), expected)


def test_a_scaled_mixture_is_refused() -> None:
    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
        with poutine.scale(scale=0.5), pyro.plate("data", len(y)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.3, 0.7])))
            pyro.sample("y", dist.Normal(mu[k], 1.0), obs=y)

    with pytest.raises(ValueError, match="site `k` is scaled in a program whose discrete sites are summed out"):
        FlatDensity.of(model, Y)


def test_a_deterministic_site_may_stand_in_one_plate_more_than_the_others() -> None:
    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 3.0).to_event(1))
        with pyro.plate("data", len(y)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.4, 0.6])))
            pyro.sample("y", dist.Normal(mu[k], 1.0), obs=y)
            with pyro.plate("copies", 3):
                pyro.deterministic("copy", mu.sum().expand(3, len(y)))

    mu = torch.tensor([-1.0, 0.5])
    each = (two(0.4) + TorchNormal(mu, 1.0).log_prob(Y.unsqueeze(-1))).logsumexp(-1)
    close(FlatDensity.of(model, Y).log_density(mu), of(TorchNormal(0.0, 3.0), mu) + each.sum())


# --- one bad row is one bad row


def test_a_matrix_without_a_factor_is_nan_in_its_row_alone() -> None:
    def model(x: Tensor) -> None:
        r = pyro.sample("r", dist.Uniform(-1.2, 1.2))
        covariance = torch.eye(2) + r * (1 - torch.eye(2))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MultivariateNormal(torch.zeros(2), covariance), obs=x)

    density = FlatDensity.of(model, torch.randn(4, 2))
    batched, q = Batched(density), torch.tensor([[0.2], [3.0], [-0.7]])  # r = 0.12, 1.09, -0.40
    batched.check(q, *density.data)
    assert batched.mapped
    log_p, grad = batched(q, *density.data)
    assert log_p.isnan().tolist() == [False, True, False]
    good = q[[0, 2]]
    close(log_p[[0, 2]], batched.one_by_one(good, *density.data)[0])
    close(grad[[0, 2]], batched.one_by_one(good, *density.data)[1])
    with pytest.raises(torch.linalg.LinAlgError):
        torch.linalg.cholesky(torch.tensor([[1.0, 2.0], [2.0, 1.0]]))


# --- rows of anything else


def test_a_function_of_rows_is_its_loop_in_whatever_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    density = RIGHT["correlations"].density()
    q = places(density, 7)

    def function(row: Tensor, x: Tensor) -> dict[str, Tensor]:
        return {**density.constrain(row, x), "log_p": density.log_density(row, x)}

    expected = [function(row, *density.data) for row in q]
    for memory in (2**22, 3 * 64, 1):  # all at once, by threes, one by one
        monkeypatch.setitem(inference.density.batched.MEMORY, "cpu", memory)
        found = map_rows(density, function, q, *density.data)
        assert list(found) == ["L", "scale", "log_p"]
        for name, value in found.items():
            close(value, torch.stack([each[name] for each in expected]), rtol=1e-12, atol=1e-12)


def test_rows_may_have_names() -> None:
    density = RIGHT["normal"].density()
    rows = {"mu": torch.randn(5), "sigma": torch.rand(5)}
    found = map_rows(density, lambda row: {"sum": row["mu"] + row["sigma"]}, rows)
    close(found["sum"], rows["mu"] + rows["sigma"])


def test_draws_differ_from_row_to_row_and_repeat_with_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    density = RIGHT["normal"].density()

    def draw(row: Tensor) -> dict[str, Tensor]:
        return {
            "normal": dist.Normal(torch.zeros(2), 1.0).sample(),
            "gamma": dist.Gamma(torch.tensor(2.0), 1.0).sample(),
            "share": dist.Dirichlet(torch.ones(3)).sample(),
            "uniform": torch.rand(()),
        }

    for memory in (2**22, 2 * 64):
        monkeypatch.setitem(inference.density.batched.MEMORY, "cpu", memory)
        found = map_rows(density, draw, torch.zeros(6), seed=3)
        for name, value in found.items():
            assert len(value.reshape(6, -1).unique(dim=0)) == 6, name
            assert torch.equal(value, map_rows(density, draw, torch.zeros(6), seed=3)[name])
            assert not torch.equal(value, map_rows(density, draw, torch.zeros(6), seed=4)[name])


def test_what_cannot_be_mapped_over_runs_row_by_row_without_a_warning() -> None:
    density = LOOP["branch"].density()
    q = torch.tensor([[0.5], [-0.5], [1.5]])
    found = map_rows(density, lambda row, y: {"log_p": density.log_density(row, y)}, q, POINT)
    close(found["log_p"], torch.stack([density.log_density(row) for row in q]), rtol=0, atol=0)


# --- nothing outside changes


def outside() -> dict[str, Any]:
    """Everything that the density sets for a while, or might."""
    return {
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "validation": (
            Distribution._validate_args,
            pyro.infer.util.is_validation_enabled(),
            pyro.poutine.util.is_validation_enabled(),
        ),
        "patched": (
            pyro.ops.special._SafeLog,
            torch.linalg.cholesky,
            Distribution._validate_sample,
            dist.OrderedLogistic.__init__,
            transforms.vec_to_tril_matrix,
            transforms.tril_matrix_to_vec,
            dirichlet._Dirichlet,
            Multinomial.sample,
            _Subsample.sample,
            IndepMessenger.__iter__,
        ),
        "random": torch.get_rng_state().tolist(),
        "store": sorted(pyro.get_param_store().keys()),
        "filters": list(warnings.filters),
        "handlers": len(pyro.poutine.runtime._PYRO_STACK),
        "modes": torch.overrides._get_current_function_mode_stack(),
    }


def values_of(density: FlatDensity) -> dict[str, Tensor]:
    return {latent.name: torch.zeros(latent.shape) for latent in density.latents}


Use = Callable[[FlatDensity], Any]
USES: dict[str, Use] = {
    "log_density": lambda density: density.log_density(torch.zeros(density.dim, dtype=density.dtype)),
    "constrain": lambda density: density.constrain(torch.zeros(density.dim, dtype=density.dtype)),
    "check": lambda density: Batched(density).check(torch.zeros(2, density.dim, dtype=density.dtype), *density.data),
    "rows": lambda density: Batched(density)(torch.zeros(2, density.dim, dtype=density.dtype), *density.data),
    "map_rows": lambda density: map_rows(density, lambda row: {"u": torch.rand(())}, torch.zeros(3)),
    "enumerated": lambda density: density.enumerated(density.constrain(torch.zeros(density.dim, dtype=density.dtype))),
    "unconstrain": lambda density: density.unconstrain(
        density.constrain(torch.zeros(density.dim, dtype=density.dtype))
    ),
}


@pytest.mark.parametrize("name", ["mixture", "levels", "layer", "sequential_plate", "correlations"])
@pytest.mark.parametrize("use", USES)
def test_nothing_outside_changes(name: str, use: str) -> None:
    torch.set_default_dtype(torch.float32)
    before = outside()
    density = RIGHT[name].density()
    assert outside() == before
    USES[use](density)
    assert outside() == before


class Failing:
    """Raises after so many runs."""

    def __init__(self, runs: int) -> None:
        self.runs = runs

    def __call__(self, y: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        self.runs -= 1
        if self.runs < 0:
            raise RuntimeError("on purpose")
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)


@pytest.mark.parametrize("use", [name for name in USES if name not in ("check", "map_rows", "unconstrain")])
def test_nor_after_an_error(use: str) -> None:
    torch.set_default_dtype(torch.float32)
    before = outside()
    with pytest.raises(RuntimeError, match="on purpose"):
        FlatDensity.of(Failing(1), Y)
    assert outside() == before
    density = FlatDensity.of(Failing(2), Y)
    with pytest.raises(RuntimeError, match="on purpose"):
        USES[use](density)
    assert outside() == before


def test_nor_after_an_error_in_a_row() -> None:
    density = RIGHT["normal"].density()
    before = outside()

    def function(row: Tensor) -> dict[str, Tensor]:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        map_rows(density, function, torch.zeros(3))
    assert outside() == before


def test_the_store_holds_what_the_program_puts_there() -> None:
    density = RIGHT["learned"].density()
    assert sorted(pyro.get_param_store().keys()) == ["centre", "width"]
    q = torch.tensor([0.2])
    before = density.log_density(q).detach()
    with torch.no_grad():
        pyro.param("centre").add_(1.0)
    expected = TorchNormal(1.4, 2.0).log_prob(q) + TorchNormal(q, 1.0).log_prob(POINT)
    assert density.log_density(q) != before
    close(density.log_density(q).detach(), expected.squeeze())
