"""Responsibilities of any pair against closed forms and enumeration; and collapse that must not stay hidden."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from inference import CollapseWarning, assign, find_collapse
from inference.assignments import discrete_sites
from inference.pair import Pair
from ppmodels.contracts import Program
from ppmodels.data import from_array
from ppmodels.labels import partly_labelled

pytestmark = pytest.mark.usefixtures("double")

EACH = {"enumerate": "parallel"}
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MEANS = torch.tensor([-2.0, 0.0, 1.5], dtype=torch.float64)
SCALES = torch.tensor([0.5, 1.0, 0.7], dtype=torch.float64)


def mixture(x: Tensor) -> None:
    """y, z | y, x | z."""
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Categorical(WEIGHTS), infer=EACH)
        z = pyro.sample("z", dist.Normal(MEANS[y], SCALES[y]))
        pyro.sample("x", dist.Normal(z, 0.3), obs=x)


def exactly(x: Tensor) -> None:
    """z at x."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Delta(x))


def spread(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.8 * x, 0.6))


def posterior(z: Tensor) -> Tensor:
    """p(y | z), (n, 3)."""
    joint = WEIGHTS.log() + dist.Normal(MEANS, SCALES).log_prob(z.unsqueeze(-1))
    return joint.softmax(-1)


# -- sites that the model sums out -----------------------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 10])
def test_summed_out_at_a_known_latent(K: int, batch_size: int) -> None:
    x = torch.linspace(-3, 3, 10)
    found = assign(mixture, exactly, x, num_particles=K, batch_size=batch_size)
    torch.testing.assert_close(found, posterior(x), rtol=1e-10, atol=1e-12)


def test_summed_out_is_an_average_over_the_guides_draws() -> None:
    """Against quadrature, within 4 standard errors of 20,000 draws, 12 comparisons: false alarms 1e-3."""
    x, K = torch.tensor([-2.0, -0.9, 0.3, 1.2]), 20_000
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite.hermgauss(60))
    r = posterior(0.8 * x.unsqueeze(-1) + 0.6 * 2**0.5 * nodes)  # (4, 60, 3)
    w = (weights / weights.sum()).unsqueeze(-1)
    mean, square = (w * r).sum(1), (w * r**2).sum(1)
    error = ((square - mean**2) / K).sqrt()
    found = assign(mixture, spread, x, num_particles=K)
    assert bool(((found - mean).abs() <= 4 * error).all())


def test_what_is_observed_may_depend_on_the_site() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(WEIGHTS), infer=EACH)
            pyro.sample("x", dist.Normal(MEANS[y], SCALES[y]), obs=x)

    x = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(assign(model, lambda x: None, x, num_particles=2), posterior(x), rtol=1e-10, atol=0)


def test_other_sites_that_are_summed_out_are() -> None:
    """y and u are both discrete, and u depends on y: p(y | x) by summing a table."""
    table = torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.8, 0.2]])
    means = torch.tensor([[-1.0, 2.0], [0.0, 0.5], [1.0, -2.0]])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(WEIGHTS), infer=EACH)
            u = pyro.sample("u", dist.Categorical(table[y]), infer=EACH)
            pyro.sample("x", dist.Normal(means[y, u], 0.8), obs=x)

    x = torch.linspace(-3, 3, 5)
    joint = (WEIGHTS.unsqueeze(1) * table).log() + dist.Normal(means, 0.8).log_prob(x[:, None, None])  # (n, 3, 2)
    torch.testing.assert_close(assign(model, lambda x: None, x), joint.logsumexp(2).softmax(1), rtol=1e-10, atol=0)
    torch.testing.assert_close(
        assign(model, lambda x: None, x, site="u"), joint.logsumexp(1).softmax(1), rtol=1e-10, atol=0
    )


@pytest.mark.parametrize("K", [1, 4])
def test_items_inside_a_datum_add_up(K: int) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2):
            y = pyro.sample("y", dist.Categorical(WEIGHTS), infer=EACH)
            z = pyro.sample("z", dist.Normal(0.0, torch.ones(1)))
            with pyro.plate("items", 4, dim=-1):
                pyro.sample("x", dist.Normal(MEANS[y] + 0 * z, SCALES[y]), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", dist.Normal(0.0, torch.ones(1)))

    x = torch.randn(6, 4)
    joint = WEIGHTS.log() + dist.Normal(MEANS, SCALES).log_prob(x.unsqueeze(-1)).sum(1)
    torch.testing.assert_close(assign(model, guide, x, num_particles=K), joint.softmax(1), rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", [dist.Categorical, dist.OneHotCategorical, dist.Bernoulli])
def test_every_finite_distribution_will_do(kind: Callable[..., Any]) -> None:
    """One draw of a coin or of three clusters, whatever way the value is written."""
    probs = torch.tensor(0.3) if kind is dist.Bernoulli else WEIGHTS
    means = MEANS[:2] if kind is dist.Bernoulli else MEANS

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", kind(probs), infer=EACH)
            loc = y @ MEANS if kind is dist.OneHotCategorical else means[y.long()]
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    x = torch.linspace(-3, 3, 5)
    prior = torch.tensor([0.7, 0.3]) if kind is dist.Bernoulli else WEIGHTS
    expected = (prior.log() + dist.Normal(means, 1.0).log_prob(x.unsqueeze(1))).softmax(1)
    torch.testing.assert_close(assign(model, lambda x: None, x), expected, rtol=1e-10, atol=0)


# -- sites that the guide samples ------------------------------------------------------------------------------


def recognised(x: Tensor) -> Tensor:
    return torch.stack([-x, 0.5 * x, x**2 / 4], -1)  # logits, (..., 3)


@pytest.mark.parametrize("infer", [{}, EACH], ids=["drawn", "summed over"])
@pytest.mark.parametrize("K", [1, 3])
def test_sampled_by_the_guide_given_the_datum_alone(infer: dict[str, str], K: int) -> None:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=recognised(x)), infer=infer)
            pyro.sample("z", dist.Normal(MEANS[y] + x, 1.0))

    x = torch.linspace(-3, 3, 9)
    found = assign(mixture, guide, x, num_particles=K, batch_size=4)
    torch.testing.assert_close(found, recognised(x).softmax(-1), rtol=1e-12, atol=0)


def test_sampled_by_the_guide_after_another_latent() -> None:
    """q(y | z) averaged over z ~ q(z | x), by quadrature; 4 standard errors, 9 comparisons: false alarms 1e-3."""

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.8 * x, 0.6))
            pyro.sample("y", dist.Categorical(logits=recognised(z)))

    x, K = torch.tensor([-2.0, 0.3, 1.2]), 20_000
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite.hermgauss(60))
    r = recognised(0.8 * x.unsqueeze(-1) + 0.6 * 2**0.5 * nodes).softmax(-1)
    w = (weights / weights.sum()).unsqueeze(-1)
    mean, square = (w * r).sum(1), (w * r**2).sum(1)
    found = assign(mixture, guide, x, num_particles=K)
    assert bool(((found - mean).abs() <= 4 * ((square - mean**2) / K).sqrt()).all())


def test_another_site_may_be_summed_over_in_the_guide() -> None:
    """The guide takes every value of u, the model sums y out: u is drawn, and y depends on it."""
    table = torch.tensor([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            u = pyro.sample("u", dist.Bernoulli(0.4), infer=EACH)
            y = pyro.sample("y", dist.Categorical(table[u.long()]), infer=EACH)
            pyro.sample("x", dist.Normal(MEANS[y], 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("u", dist.Bernoulli((x > 0).double()), infer=EACH)

    x = torch.tensor([-2.0, -0.5, 0.7, 2.0])
    joint = table[(x > 0).long()].log() + dist.Normal(MEANS, 1.0).log_prob(x.unsqueeze(1))
    torch.testing.assert_close(assign(model, guide, x, num_particles=5), joint.softmax(1), rtol=1e-10, atol=0)


# -- how it is asked -------------------------------------------------------------------------------------------


class SemiSupervised(nn.Module):
    """A model of x and y, and a guide that knows y where it is given."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(WEIGHTS), infer=EACH)
            pyro.sample("x", dist.Normal(MEANS[y].unsqueeze(-1), torch.ones(2)).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        logits = recognised(x.mean(-1))
        if y is not None:
            elsewhere = y.unsqueeze(-1) != torch.arange(3)
            known = torch.zeros_like(logits).masked_fill(elsewhere, -torch.inf)
            logits = torch.where(y.unsqueeze(-1) >= 0, known, logits)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=logits), infer=EACH)


def test_labels_are_kept_from_the_guide_that_is_asked() -> None:
    pair, x = SemiSupervised(), torch.randn(30, 2).float()
    data = partly_labelled(from_array(x, protocol="real", labels=torch.arange(30) % 3, split="test"), 15, seed=0)
    expected = recognised(x.mean(-1)).softmax(-1).double()
    found = assign(pair.model, pair.guide, data, batch_size=7)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    tuples = assign(pair.model, pair.guide, (x, torch.full((30,), -1)))
    torch.testing.assert_close(tuples, found)
    told = assign(pair.model, pair.guide, (x, data.known))
    assert (told.max(1).values == 1).sum() >= 15
    mapping = assign(pair.model, pair.guide, {"x": x, "y": data.known})
    torch.testing.assert_close(mapping, told)


def test_programs_that_take_one_particle_at_a_time_take_longer() -> None:
    def stubborn(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x, 0.5))
            pyro.sample("y", dist.Categorical(logits=torch.stack([-z[: len(x)], z[: len(x)], 0 * x], -1)))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            y = pyro.sample("y", dist.Categorical(WEIGHTS))
            pyro.sample("x", dist.Normal(MEANS[y] + z, 1.0), obs=x)

    x = torch.linspace(-1, 1, 5)
    with pytest.warns(UserWarning, match="particles run one by one"):
        found = assign(model, stubborn, x, num_particles=3)
    assert found.shape == (5, 3)
    torch.testing.assert_close(found.sum(1), torch.ones(5))


def test_the_callers_random_state_is_left_alone_and_the_seed_decides() -> None:
    x, before = torch.randn(5), torch.get_rng_state()
    first, again = (assign(mixture, spread, x, num_particles=2, seed=3) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, assign(mixture, spread, x, num_particles=2, seed=4))
    assert torch.equal(before, torch.get_rng_state())


def in_another_plate(x: Tensor) -> None:
    with pyro.plate("data", len(x), dim=-2), pyro.plate("items", 3, dim=-1):
        y = pyro.sample("y", dist.Categorical(WEIGHTS), infer=EACH)
        pyro.sample("x", dist.Normal(MEANS[y], 1.0), obs=x)


@pytest.mark.parametrize(
    ("model", "guide", "x", "site", "message"),
    [
        (mixture, spread, torch.zeros(3), "c", "`site` is 'c', expected a latent site .* which has `z`, `y`$"),
        (mixture, spread, torch.zeros(3), "x", "`site` is 'x', expected a latent site"),
        (mixture, spread, torch.zeros(3), "z", "site `z` is Normal, expected a distribution over finitely many values"),
        (in_another_plate, lambda x: None, torch.zeros(4, 3), "y", "site `y` stands in plate `items`, expected the"),
    ],
    ids=["missing", "observed", "continuous", "plate"],
)  # fmt: skip
def test_sites_that_cannot_be_asked(model: Program, guide: Program, x: Tensor, site: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign(model, guide, x, site=site)
    with pytest.raises(ValueError, match="`num_particles` is 0, expected a whole number"):
        assign(mixture, spread, torch.zeros(3), num_particles=0)


def test_discrete_sites_are_those_that_can_be_asked() -> None:
    x = torch.zeros(3)
    assert discrete_sites(Pair(mixture, spread), x) == ("y",)
    assert discrete_sites(Pair(in_another_plate, lambda x: None), torch.zeros(4, 3)) == ()


# -- collapse --------------------------------------------------------------------------------------------------


def two_units(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Categorical(torch.ones(4)), infer=EACH)
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z[..., 0] + y, 1.0), obs=x)


def blind(x: Tensor) -> None:
    """Looks at x with the first unit alone; the cluster is anybody's guess."""
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Categorical(torch.ones(4)), infer=EACH)
        pyro.sample("z", dist.Normal(torch.stack([x, 0 * x], -1), 0.5).to_event(1))


def test_a_blind_guide_and_a_unit_that_stands_still_are_found() -> None:
    found = find_collapse(two_units, blind, torch.linspace(-2, 2, 50))
    ignored, inactive = found.findings()
    assert ignored.startswith("`y` ignores the data: its entropy given the datum is 1.39 nats of 1.39 at most")
    assert inactive.startswith("`z` has 1 inactive of 2 units")
    assert found.units.count == {"z": 1}
    assert all(finding in str(found) for finding in (ignored, inactive))
    with pytest.warns(CollapseWarning, match=re.escape(ignored)), pytest.warns(CollapseWarning, match="`z` has 1"):
        assert found.warn() is found


def test_a_sound_pair_has_no_findings() -> None:
    def sound(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=-20 * (x.unsqueeze(-1) - torch.arange(4)) ** 2), infer=EACH)
            pyro.sample("z", dist.Normal(torch.stack([x, -x], -1), 0.5).to_event(1))

    found = find_collapse(two_units, sound, torch.arange(40) % 4.0)
    assert found.findings() == ()
    assert found.components["y"].effective == pytest.approx(4.0, abs=1e-6)
    found.warn()  # of nothing


def test_sticks_are_shares_once_broken() -> None:
    """Two of three weights hold all mass, whatever the datum: the site ignores it, and one is dead."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            s = pyro.sample("s", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(s[..., 0], 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("s", dist.Normal(torch.tensor([0.0, 20.0]).expand(len(x), 2), 1e-3).to_event(1))

    def weights(s: Tensor) -> Tensor:
        v = s.sigmoid()
        return torch.stack([v[:, 0], (1 - v[:, 0]) * v[:, 1], (1 - v).prod(1)], 1)

    found = find_collapse(model, guide, torch.randn(20), shares={"s": weights})
    assert found.components["s"].dead == (2,)
    assert found.components["s"].effective == pytest.approx(2.0, abs=1e-3)
    assert "s" not in found.units.variance
    assert [finding[:16] for finding in found.findings()] == ["`s` ignores the ", "`s` has 1 dead o"]
