"""Latents of every support and shape as one vector, and back, with the Jacobian that autograd finds."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import constraints

from inference.flags import validating
from inference.latents import LatentSpace, Placing
from inference.layout import Layout
from inference.pair import Pair, call
from inference.particles import in_particles, inspect_pair
from inference.sites import sample_sites

pytestmark = pytest.mark.usefixtures("double")
Model = Callable[[Tensor], Any]


def everything(x: Tensor) -> None:
    """Scalars, vectors, a simplex, an interval that depends on the datum, one that depends on a latent."""
    with pyro.plate("data", len(x)):
        a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        pyro.sample("pi", dist.Dirichlet(torch.ones(3)))
        pyro.sample("share", dist.Uniform(x - 1, x + 2))
        pyro.sample("below", dist.Uniform(0.0, rate))
        pyro.sample("x", dist.Normal(a.sum(-1), 1.0), obs=x)


def plate_inside(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-2):
        top = pyro.sample("top", dist.Normal(0.0, torch.ones(1)))
        with pyro.plate("items", 3, dim=-1):
            pi = pyro.sample("pi", dist.Dirichlet(torch.ones(4)))
            pyro.sample("x", dist.Normal(top + pi[..., 0], 1.0), obs=x.unsqueeze(-1).expand(-1, 3))


def plate_outside(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-1):
        top = pyro.sample("top", dist.Beta(2.0, 3.0))
        with pyro.plate("items", 3, dim=-2):
            a = pyro.sample("a", dist.LogNormal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(top + a[..., 0], 1.0), obs=x.expand(3, -1))


def drawn(model: Model, x: Tensor, K: int) -> tuple[Trace, Layout]:
    guide = poutine.block(poutine.uncondition(model), hide=["x"])
    layout = inspect_pair(Pair(model, guide), x)
    program = in_particles(guide, K, layout)
    with validating(enabled=False):
        return poutine.trace(lambda: call(program, x)).get_trace(), layout


@pytest.mark.parametrize("K", [1, 5])
@pytest.mark.parametrize("model", [everything, plate_inside, plate_outside])
def test_there_and_back(model: Model, K: int) -> None:
    x = torch.randn(4)
    space = LatentSpace.of(drawn(model, x, 1)[0], drawn(model, x, 1)[1])
    trace, layout = drawn(model, x, K)
    z = space.flatten(trace, K, 4)
    assert z.shape == (K, 4, space.dim)
    again = poutine.trace(in_particles(Placing(space, z)(model), K, layout)).get_trace(x)
    for name in space.places:
        torch.testing.assert_close(sample_sites(again)[name]["value"], sample_sites(trace)[name]["value"])
        assert sample_sites(again)[name]["value"].shape == sample_sites(trace)[name]["value"].shape


@pytest.mark.parametrize("model", [everything, plate_inside, plate_outside])
def test_the_log_determinant_is_that_of_the_jacobian(model: Model) -> None:
    x = torch.randn(2)
    space = LatentSpace.of(*drawn(model, x, 1))
    z = torch.randn(1, 2, space.dim)

    def coordinates(z: Tensor) -> tuple[Tensor, Tensor]:
        """All values of the second datum, a simplex without its last, as a vector; and the log determinant."""
        placing = Placing(space, z)
        sites = sample_sites(poutine.trace(placing(model)).get_trace(x))
        values = [
            sites[name]["value"].select(place.data_axis, 1)[..., : place.event[0]]
            if place.event
            else sites[name]["value"].select(place.data_axis, 1)
            for name, place in space.places.items()
        ]
        return torch.cat([value.flatten() for value in values]), placing.log_det()[0, 1]

    jacobian = torch.autograd.functional.jacobian(lambda z: coordinates(z)[0], z)[:, 0, 1]
    assert jacobian.shape == (space.dim, space.dim)
    torch.testing.assert_close(jacobian.slogdet()[1], coordinates(z)[1])


def test_rows_of_given_latents() -> None:
    x = torch.randn(4)
    trace, layout = drawn(plate_outside, x, 1)
    space = LatentSpace.of(trace, layout)
    values = {name: site["value"] for name, site in sample_sites(trace).items()}
    chosen = space.select(values, torch.tensor([2, 0]))
    assert torch.equal(chosen["top"], values["top"][[2, 0]])
    assert torch.equal(chosen["a"], values["a"][:, [2, 0]])
    with pytest.raises(ValueError, match="`latents` lacks site `a`, expected all of top, a"):
        space.select({"top": values["top"]}, torch.tensor([0]))


class Irrational(constraints.Constraint):
    """What no bijection is known to."""


class Odd(dist.Normal):
    support = Irrational()  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: dist.Bernoulli(0.5), r"site `z` is discrete \(Bernoulli\), but HMC needs continuous latents"),
        (lambda: dist.Delta(torch.zeros(3)), "site `z` is a point mass, which no chain can leave"),
        (lambda: Odd(torch.zeros(3), 1.0), "site `z` has support .*expected one that `torch.distributions.biject_to`"),
    ],
)
def test_refusals_name_the_site(make: Callable[[], Any], said: str) -> None:
    def program() -> None:
        with pyro.plate("data", 3):
            pyro.sample("z", make())

    layout = Layout("data", -1, subsamples=False, nesting=1, latents=("z",), enumerated=(), without_rsample=())
    with validating(enabled=False), pytest.raises(ValueError, match=said):
        LatentSpace.of(poutine.trace(program).get_trace(), layout)


def test_nothing_to_move_is_refused() -> None:
    layout = Layout("data", -1, subsamples=False, nesting=1, latents=(), enumerated=(), without_rsample=())
    with pytest.raises(ValueError, match="the pair has no latent sites"):
        LatentSpace.of(Trace(), layout)


def test_a_value_outside_the_support_is_refused() -> None:
    def program() -> None:
        with pyro.plate("data", 3):
            pyro.sample("z", dist.Uniform(0.0, 1.0))

    layout = Layout("data", -1, subsamples=False, nesting=1, latents=("z",), enumerated=(), without_rsample=())
    trace = poutine.trace(program).get_trace()
    space = LatentSpace.of(trace, layout)
    trace.nodes["z"]["value"] = torch.tensor([0.5, 2.0, 0.5])
    with pytest.raises(ValueError, match="site `z` has values outside the support Interval"):
        space.flatten(trace, 1, 3)
