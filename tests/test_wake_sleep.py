"""Wake-sleep against enumeration and closed forms: each part's gradient, the phases, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from guides import AmortizedNormal, AutoregressiveBernoulli, MeanFieldBernoulli
from inference import WakeSleep, adam, fit
from inference.draws import log_weights
from inference.exact import exact_log_likelihood
from inference.objectives import Phase
from inference.pair import Pair
from ppmodels.conditionals import ConditionalNormal, HomoscedasticNormal
from ppmodels.helmholtz import SigmoidBeliefNetwork
from ppmodels.nets import MLP
from ppmodels.priors import NADEPrior
from tests.oracles import BeliefNet, Factor, LinearGaussian
from tests.test_estimators import Bits, bit_data, flat, gradients
from tests.test_modes import check_close, check_replay

pytestmark = pytest.mark.usefixtures("double")


def phases(objective: WakeSleep, net: Any, x: Tensor) -> dict[str, Phase]:
    return {phase.name: phase for phase in objective.task(Pair(net.model, net.guide), x).phases}


def ascent(phase: Phase, x: Tensor, times: int, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """The mean of what a phase ascends over so many calls, and its error, by parameter."""
    torch.manual_seed(seed)
    draws: dict[str, list[Tensor]] = {name: [] for name in phase.parameters}
    for _ in range(times):
        loss = phase.loss(x, torch.zeros(())).loss
        found = torch.autograd.grad(-loss, list(phase.parameters.values()))
        for kept, gradient in zip(draws.values(), found, strict=True):
            kept.append(gradient)
    stacked = {name: torch.stack(kept) for name, kept in draws.items()}
    return {name: (g.mean(0), g.std(0) / times**0.5) for name, g in stacked.items()}


def check_mean(found: Mapping[str, tuple[Tensor, Tensor]], exact: Mapping[str, Tensor], bound: float = 4.5) -> None:
    """Every entry within so many standard errors: with 132 entries 4.5 is a false alarm in 1 of 1,000."""
    assert found.keys() == exact.keys()
    for name, (mean, error) in found.items():
        worst = ((mean - exact[name]).abs() / error.clamp_min(1e-12)).max()
        assert float(worst) < bound, f"{name}: {float(worst)} errors"


def exact_gradients(net: nn.Module, value: Tensor) -> dict[str, Tensor]:
    found = torch.autograd.grad(value, list(net.parameters()), allow_unused=True)
    return {f"model.{name}": g for (name, _), g in zip(net.named_parameters(), found, strict=True) if g is not None}


def test_wake_theta_is_the_gradient_of_the_bound() -> None:
    """For one draw, of the mean under the guide of log p(x, z), which 4,096 states give exactly."""
    net = BeliefNet(mismatch=0.3)
    x = net.data(40)
    wake = phases(WakeSleep(), net, x)["wake"]
    joint = (net.log_guide(x).exp().detach() * net.log_joint(x)).sum(1).mean()
    check_mean(ascent(wake, x, 400), exact_gradients(net, joint))


def test_sleep_phi_is_the_gradient_of_log_q_under_the_model() -> None:
    """E_p(x, z) grad log q(z | x) over all 256 x and 4,096 z."""
    net = BeliefNet(mismatch=0.3)
    every = ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).double()
    weight = net.log_joint(every).exp().detach()
    assert float(weight.sum()) == pytest.approx(1.0, abs=1e-9)
    sleep = phases(WakeSleep(), net, net.data(40))["sleep"]
    exact = exact_gradients(net, (weight * net.log_guide(every)).sum())
    check_mean(ascent(sleep, net.data(40), 400), exact)


def test_wake_phi_has_a_bias_that_falls_as_one_over_k() -> None:
    """Its target is minus the gradient of KL(p, q); at every K the noise of the bias is below a tenth of it."""
    leaves, log_p, log_q = Bits().exact(bit_data(1))
    (target,) = torch.autograd.grad((log_p.softmax(0).detach() * log_q).sum(), leaves["g"])
    bias = []
    for K in (4, 16):
        found: Any = gradients(Bits(40_000), bit_data(40_000), WakeSleep(K, wake=1, sleep=0), seed=K)  # type: ignore[arg-type]
        bias.append((flat(found, "guide").mean(0) - target).norm())
    assert -1.4 < float((bias[1] / bias[0]).log()) / math.log(4) < -0.8


def test_weights_are_normalised_for_each_datum_by_itself() -> None:
    """A batch of two has the mean of the gradients of its data, where Pyro's own loss has one weight for both."""
    net = BeliefNet()
    x = net.data(2)
    objective = WakeSleep(6, wake=1, sleep=0)
    wake = phases(objective, net, x)["wake"]
    names, values = zip(*wake.parameters.items(), strict=True)
    torch.manual_seed(3)
    both = torch.autograd.grad(wake.loss(x, torch.zeros(())).loss, values)
    torch.manual_seed(3)
    weights = log_weights(net.model, net.guide, x, 6)
    w = weights.log_w.detach().softmax(0)
    by_hand = torch.autograd.grad(-(w * (weights.log_p + weights.log_q)).sum(0).mean(), values)
    assert set(names) == {f"model.{name}" for name, _ in net.named_parameters()}
    for one, other in zip(both, by_hand, strict=True):
        torch.testing.assert_close(one, other)


def test_both_at_once_are_one_gradient() -> None:
    net = BeliefNet()
    x = net.data(10)
    together = phases(WakeSleep(4, wake=0.3, sleep=0.7), net, x)["wake-sleep"]
    wake = phases(WakeSleep(4, wake=0.3, sleep=0), net, x)["wake"]
    sleep = phases(WakeSleep(4, wake=0, sleep=0.7), net, x)["sleep"]
    torch.manual_seed(5)
    found = together.loss(x, torch.zeros(()))
    torch.manual_seed(5)
    apart = [phase.loss(x, torch.zeros(())) for phase in (wake, sleep)]
    torch.testing.assert_close(found.loss, apart[0].loss + apart[1].loss)
    assert float(found.parts["sleep"]) == pytest.approx(float(apart[1].loss.detach()) / 0.7)
    for name, value in together.parameters.items():
        losses = [part.loss for part, phase in zip(apart, (wake, sleep), strict=True) if name in phase.parameters]
        (mine,) = torch.autograd.grad(found.loss, value, retain_graph=True)
        its = sum(torch.autograd.grad(loss, value, retain_graph=True)[0] for loss in losses)
        torch.testing.assert_close(mine, its)


def test_each_phase_moves_its_own() -> None:
    """Wake the model in all updates, sleep the guide in the first of every three."""
    net = BeliefNet()
    x, guide = net.data(20), {"R1", "c1", "R2", "c2"}
    found = phases(WakeSleep(sleep_every=3), net, x)
    assert [*found] == ["wake", "sleep"]
    assert {name.removeprefix("model.") for name in found["sleep"].parameters} == guide
    assert not found["sleep"].parameters.keys() & found["wake"].parameters.keys()
    seen = []
    for steps in (1, 2, 3, 4):
        net = BeliefNet()
        before = {name: value.detach().clone() for name, value in net.named_parameters()}
        fit(
            net.model,
            net.guide,
            x,
            WakeSleep(sleep_every=3),
            steps=steps,
            batch_size=20,
            optimizer=partial(torch.optim.SGD, lr=0.1),
        )
        assert all(not torch.equal(before[name], value) for name, value in net.named_parameters())
        seen.append(net.R1.detach())
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])
    assert not torch.equal(seen[2], seen[3])


def test_an_optimiser_for_each_phase() -> None:
    net = BeliefNet()
    how = {"wake": partial(torch.optim.SGD, lr=0.0), "sleep": partial(torch.optim.SGD, lr=0.1)}
    before = net.W1.detach().clone(), net.R1.detach().clone()
    fit(net.model, net.guide, net.data(20), WakeSleep(), steps=2, optimizer=how)
    assert torch.equal(net.W1, before[0])
    assert not torch.equal(net.R1, before[1])
    with pytest.raises(ValueError, match="`optimizer` is for `wake`, expected one for each of the phases `wake`, `sl"):
        fit(net.model, net.guide, net.data(20), WakeSleep(), steps=2, optimizer={"wake": adam()})


def test_the_guide_learns_to_invert_a_model_that_stands_still() -> None:
    """Dreams alone bring a linear-Gaussian guide to the posterior of the data; the model has no parameters."""
    toy = LinearGaussian.make(1, 3)
    guide = AmortizedNormal(ConditionalNormal(MLP(3, ()), 1))
    x = toy.data(500)
    fitted = fit(toy.model, guide, x, WakeSleep(), steps=1000, batch_size=500, optimizer=adam(0.02), seed=1)
    assert [*fitted.modes] == ["sleep"]
    mean, covariance = toy.posterior(x)
    with torch.no_grad():
        q: Any = guide.layers[0](x).base_dist
    assert float((q.loc - mean).abs().mean()) < 0.05 * float(covariance.sqrt())
    assert float((q.scale / covariance.sqrt() - 1).abs().mean()) < 0.05


def test_continuous_latents_learn_too() -> None:
    """Factor analysis by reweighted wake-sleep comes as high as by its ELBO, which here is exact at the optimum."""
    data = LinearGaussian.make().data(500)
    found = {}
    for name, objective in {"rws": WakeSleep(5, wake=0.5, sleep=0.5), "elbo": None}.items():
        factor = Factor()
        fit(factor.model, factor.guide, data, objective, steps=1500, batch_size=100, optimizer=adam(0.01))
        found[name] = float(
            log_weights(factor.model, factor.guide, data, 200).map(torch.detach).log_w.logsumexp(0).mean()
        )
    assert abs(found["rws"] - found["elbo"]) < 0.05


def stored(x: Tensor, group: Tensor) -> None:
    """A tutorial's model: parameters in the store, data in a part of an argument, a covariate beside them."""
    loc = pyro.param("loc", torch.zeros(2))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Bernoulli(logits=loc[group]))
        pyro.sample("x", dist.Normal(2 * z, 0.5), obs=x[:, 1])


def stored_guide(x: Tensor, group: Tensor) -> None:
    weight = pyro.param("weight", torch.ones(2))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Bernoulli(logits=weight[0] * x[:, 1] + weight[1]))


@pytest.mark.parametrize("mapping", [False, True])
def test_anyones_pair(mapping: bool) -> None:
    """The share of ones in each group is found: 0.5 and 0.9, each within four errors of 4,000 data."""
    group = torch.arange(4000) % 2
    z = torch.bernoulli(torch.where(group == 0, 0.5, 0.9))
    x = torch.stack([torch.full_like(z, 7.0), 2 * z + 0.5 * torch.randn(4000)], 1)
    batch: Any = {"x": x, "group": group} if mapping else (x, group)
    fitted = fit(stored, stored_guide, batch, WakeSleep(), steps=800, batch_size=400, optimizer=adam(0.03))
    assert set(fitted.modes) == {"wake", "sleep"}
    found = pyro.param("loc").detach().sigmoid()
    torch.testing.assert_close(found, torch.tensor([0.5, 0.9]), atol=0.06, rtol=0)


@pytest.mark.parametrize(
    "objective", [WakeSleep(), WakeSleep(3, wake=0.5, sleep=0.5, sleep_every=2), WakeSleep(4, wake=1)]
)
def test_graphs_have_the_bits_of_the_programs(objective: WakeSleep) -> None:
    def make() -> Any:
        net = BeliefNet()
        return net.model, net.guide, [net]

    x = BeliefNet().data(30)
    check_replay(make, x, objective)


@pytest.mark.slow
def test_compiled_code_has_the_numbers_of_the_programs() -> None:
    def make() -> Any:
        net = BeliefNet()
        return net.model, net.guide, [net]

    check_close(make, BeliefNet().data(30), WakeSleep(3, wake=0.5, sleep=0.5))


def test_a_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    objective = WakeSleep(2, wake=0.5, sleep=0.5, sleep_every=3)
    how: dict[str, Any] = {"batch_size": 10, "report_every": 1, "checkpoint_seconds": 0, "optimizer": adam(0.01)}
    x, ends = BeliefNet().data(40), []
    for name, parts in {"whole": [10], "parts": [4, 10]}.items():
        net = BeliefNet()
        for steps in parts:
            fit(net.model, net.guide, x, objective, steps=steps, out=tmp_path / name, resume=steps != parts[0], **how)
        ends.append(torch.cat([value.detach().flatten() for value in net.parameters()]))
    assert torch.equal(*ends)


# -- nets that have no easy start ----------------------------------------------------------------------------


def pair_of(widths: tuple[int, ...], x_dim: int = 9, *, auto: bool = False) -> tuple[SigmoidBeliefNetwork, nn.Module]:
    torch.manual_seed(0)
    model = SigmoidBeliefNetwork(x_dim, widths, prior=NADEPrior(widths[-1]) if auto else None)
    return model, (AutoregressiveBernoulli if auto else MeanFieldBernoulli)(x_dim, widths)


@pytest.mark.parametrize("auto", [False, True])
@pytest.mark.parametrize("widths", [(5,), (4, 3), (6, 5, 4, 3, 2)])
def test_every_parameter_moves_from_the_first_step(widths: tuple[int, ...], auto: bool) -> None:
    model, guide = pair_of(widths, auto=auto)
    before = {id(p): p.detach().clone() for p in [*model.parameters(), *guide.parameters()]}
    fit(model, guide, torch.bernoulli(torch.full((20, 9), 0.3)), WakeSleep(3, wake=0.5, sleep=0.5), steps=2)
    still = [name for m in (model, guide) for name, p in m.named_parameters() if torch.equal(p, before[id(p)])]
    assert still == []


@pytest.mark.parametrize(("n", "value"), [(8, 0.0), (8, 1.0), (1, 0.0)])
@pytest.mark.parametrize("objective", [WakeSleep(), WakeSleep(1, wake=1), WakeSleep(5, wake=1, sleep=0)])
def test_blank_images_and_single_draws(n: int, value: float, objective: WakeSleep) -> None:
    x = torch.full((n, 9), value)
    model, guide = pair_of((4, 3))
    fitted = fit(model, guide, x, objective, steps=60, optimizer=adam(0.3))
    assert math.isfinite(fitted.metrics.iloc[-1].filter(like="loss").iloc[0])
    found = exact_log_likelihood(model, guide, x)
    assert bool((found.value > -0.5).all())  # nothing is easier than one image


def test_saturated_nets_and_weights_that_underflow() -> None:
    """Logits of thousands: weights far below the smallest number there is, and gradients that are numbers."""
    model, guide = pair_of((4, 3))
    with torch.no_grad():
        for parameter in [*model.parameters(), *guide.parameters()]:
            parameter.copy_(3000 * torch.randn_like(parameter))
    x = torch.bernoulli(torch.full((8, 9), 0.5))
    with torch.no_grad():
        assert float(log_weights(model, guide, x, 10).log_w.max()) < -1000
    net: Any = type("Net", (), {"model": staticmethod(model), "guide": staticmethod(guide)})
    for name, phase in phases(WakeSleep(10, wake=0.5, sleep=0.5), net, x).items():
        loss = phase.loss(x, torch.zeros(())).loss
        slopes = torch.autograd.grad(loss, list(phase.parameters.values()))
        assert all(bool(slope.isfinite().all()) for slope in slopes), name


def test_real_data() -> None:
    """Two clusters at -2 and 2, told apart by one bit."""
    torch.manual_seed(0)
    x = torch.where(torch.rand(400, 1) < 0.3, -2.0, 2.0) + 0.5 * torch.randn(400, 1)
    model = SigmoidBeliefNetwork(1, (1,), likelihood=HomoscedasticNormal(MLP(1, ()), 1))
    guide = MeanFieldBernoulli(1, (1,))
    fit(model, guide, x, WakeSleep(5, wake=0.5, sleep=0.5), steps=800, batch_size=200, optimizer=adam(0.05))
    two = dist.MixtureSameFamily(
        dist.Categorical(torch.tensor([0.3, 0.7])), dist.Normal(torch.tensor([-2.0, 2.0]), torch.tensor(0.5))
    )
    found = exact_log_likelihood(model, guide, x)
    assert abs(found.mean - float(two.log_prob(x[:, 0]).mean())) < 0.05
    assert float(found.kl.mean()) < 0.05


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_particles": 0}, "`num_particles` is 0, expected at least 1"),
        ({"wake": -1.0}, "`wake` is -1.0, expected the weight"),
        ({"sleep": math.inf}, "`sleep` is inf, expected the weight"),
        ({"sleep": 0.0}, "`wake` and `sleep` are both 0"),
        ({"sleep_every": 0}, "`sleep_every` is 0, expected a whole number of updates"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WakeSleep(**arguments)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(self.w * z, 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=self.w * x))

    def fixed(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(logits=x))

    def squared(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x**2)

    def factor(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.factor("x", -((x - z) ** 2))

    def auxiliary(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Bernoulli(logits=self.w * x + a))

    def minibatch(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), subsample_size=2) as i:
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[i])

    def minibatch_guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), subsample_size=2) as i:
            pyro.sample("z", dist.Bernoulli(logits=self.w * x[i]))


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        ("model", "guide", "`model.w` is a parameter of model and guide, which learn by different objectives"),
        ("model", "fixed", "the guide has no parameters to learn in its sleep"),
        ("squared", "guide", "site `x` observes a value computed from the model's arguments"),
        ("factor", "guide", "site `x` is a factor, which has no draws"),
        ("squared", "auxiliary", "site `x` observes a value computed"),
        ("minibatch", "minibatch_guide", "plate `data` draws its own minibatch, and a dream must be all of one"),
    ],
)
def test_pairs_that_cannot_sleep(model: str, guide: str, message: str) -> None:
    pair = Shared()
    with pytest.raises(ValueError, match=message):
        fit(getattr(pair, model), getattr(pair, guide), torch.randn(6), WakeSleep(), steps=1)


def test_a_site_of_the_guide_alone_has_no_dream() -> None:
    pair, model = Shared(), Shared()
    with pytest.raises(ValueError, match="site `a` is drawn by the guide alone, so no dream has a value for it"):
        fit(model.model, pair.auxiliary, torch.randn(6), WakeSleep(), steps=1)


@pytest.mark.gpu
@pytest.mark.parametrize("auto", [False, True])
def test_runs_on_cuda(auto: bool) -> None:
    model, guide = (part.cuda() for part in pair_of((4, 3), auto=auto))
    x = torch.bernoulli(torch.full((20, 9), 0.3)).cuda()
    for objective in (WakeSleep(), WakeSleep(3, wake=0.5, sleep=0.5, sleep_every=2)):
        assert fit(model, guide, x, objective, steps=5, mode="replay").steps == 5
    assert exact_log_likelihood(model, guide, x).value.device.type == "cuda"
