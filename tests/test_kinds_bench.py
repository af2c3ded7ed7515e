"""The steps written by hand, which the bench compares with ours, do the same; its floors count their products."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import denoising, energies, games
from benchmarks.energies import BATCH, HIDDEN, RATE, Case, Machine, X
from benchmarks.ours import stepper
from inference.adversarial import Adversarial
from inference.contrastive import ContrastiveDivergence, PersistentContrastiveDivergence
from inference.denoising import Denoising
from inference.flags import validating
from inference.pair import Pair, no_guide
from ppmodels.rbm import RBM


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)


def bits(n: int = BATCH) -> Tensor:
    return torch.bernoulli(torch.full((n, X), 0.3))


@pytest.mark.parametrize("case", [Case(1, True), Case(3, True), Case(3, False)], ids=str)
@pytest.mark.parametrize("coin", [torch.bernoulli, energies.uniform_coin])
def test_a_machine_by_hand_moves_as_ours(case: Case, coin: object) -> None:
    """The same weights, the same chains, the same stream of draws: the same weights and chains after a step."""
    rbm, machine, x = RBM(X, HIDDEN), Machine(case, coin), bits()  # type: ignore[arg-type]
    objective = (PersistentContrastiveDivergence if case.persistent else ContrastiveDivergence)(case.sweeps)
    parameters = [rbm.weight, rbm.visible_units.bias, rbm.hidden_bias]
    with torch.no_grad():
        for parameter, its in zip(parameters, machine.parameters, strict=True):
            parameter.add_(0.1 * torch.randn_like(parameter))
            its.copy_(parameter)
    pair = Pair(rbm, no_guide, modules_only=True)
    task = objective.task(pair, x)
    if case.persistent:
        machine.chains = task.state["chains"].clone()
    with validating(enabled=False):
        torch.manual_seed(1)
        stepper(pair, task.phases[0], SGD(parameters, lr=RATE), "eager")(x, torch.zeros(()))
    torch.manual_seed(1)
    before = machine.weight.clone()
    machine.step(x)
    assert not torch.equal(machine.weight, before)
    for parameter, its in zip(parameters, machine.parameters, strict=True):
        torch.testing.assert_close(its, parameter.detach())
    if case.persistent:
        assert torch.equal(machine.chains, task.state["chains"])


@pytest.mark.parametrize("case", energies.CASES, ids=str)
def test_a_machine_by_autograd_has_the_slope_in_closed_form(case: Case) -> None:
    """And the floor counts the products of both."""
    machine, x = Machine(case), bits()
    before = [parameter.clone() for parameter in machine.parameters]
    chains = machine.chains.clone()
    parameters = [parameter.requires_grad_() for parameter in machine.parameters]
    torch.manual_seed(1)
    with FlopCounterMode(display=False) as counter:
        slopes = torch.autograd.grad(machine.loss(x), parameters)
    machine.chains = chains
    torch.manual_seed(1)
    machine.step(x)
    for slope, was, parameter in zip(slopes, before, parameters, strict=True):
        torch.testing.assert_close((was - parameter.detach()) / RATE, slope, atol=1e-9, rtol=1e-6)
    assert energies.products(case).notes["MFLOP"] == counter.get_total_flops() / 1e6


def copied(from_module: nn.Module, to_module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Pairs of parameters in the order they are defined, moved a little and made equal."""
    both = list(zip(from_module.parameters(), to_module.parameters(), strict=True))
    with torch.no_grad():
        for mine, its in both:
            mine.add_(0.05 * torch.randn_like(mine))
            its.copy_(mine)
    return both


@pytest.mark.parametrize("case", games.CASES)
def test_a_game_by_hand_has_our_gradients(case: str) -> None:
    """Of both players, under the same noise and the same dropout."""
    game, (generator, discriminator), x = games.Game(case), games.players(case), bits(20)
    of_generator = copied(generator, game.generator)
    of_discriminator = copied(discriminator, game.discriminator)
    phases = Adversarial().task(Pair(generator, discriminator, modules_only=True), x).phases
    hands = (lambda: game.discriminate(x)), (lambda: game.generate(len(x)))
    for phase, hand, parameters in zip(phases, hands, (of_discriminator, of_generator), strict=True):
        torch.manual_seed(1)
        loss = phase.loss(x, torch.zeros(())).loss
        torch.manual_seed(1)
        expected = hand()
        torch.testing.assert_close(loss, expected)
        found = torch.autograd.grad(loss, [mine for mine, _ in parameters])
        for one, other in zip(found, torch.autograd.grad(expected, [its for _, its in parameters]), strict=True):
            torch.testing.assert_close(one, other)


def test_data_and_draws_in_one_call_are_the_same_game() -> None:
    """Where nothing in the discriminator is random or looks at the whole batch."""
    game, x, losses = games.Game("small"), bits(20), []
    for together in (False, True):
        torch.manual_seed(1)
        losses.append(game.discriminate(x, together=together))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("case", games.CASES)
def test_the_floor_of_a_game_counts_its_products(case: str) -> None:
    torch.set_default_dtype(torch.float32)
    work = games.by_hand(case)
    with FlopCounterMode(display=False) as counter:
        work.call(0)
    assert games.products(case).notes["MFLOP"] == pytest.approx(counter.get_total_flops() / 1e6)


@pytest.mark.parametrize("case", denoising.CASES)
def test_a_diffusion_by_hand_has_our_loss_and_gradient(case: str) -> None:
    """Under the same steps and noise; the bound with its end's KL, that by hand without: it must be 0."""
    hand, model, x = denoising.HANDS[case](), denoising.diffusion(case), denoising.images()[0]
    parameters = copied(model.net, hand.net)
    (phase,) = Denoising(case).task(Pair(model, no_guide, modules_only=True), x).phases
    torch.manual_seed(1)
    loss = phase.loss(x, torch.zeros(())).loss
    torch.manual_seed(1)
    expected = hand.loss(x)
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, [mine for mine, _ in parameters])
    for one, other in zip(found, torch.autograd.grad(expected, [its for _, its in parameters]), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "build",
    [
        partial(energies.training, (1, True)),
        partial(games.training, "small"),
        partial(denoising.training, "simple"),
        partial(denoising.training, "bound"),
    ],
)
def test_our_steps_learn(build: partial[energies.Workload]) -> None:
    """A few steps of each, and the loss is lower."""
    torch.set_default_dtype(torch.float32)
    with validating(enabled=False):
        work = build("eager")
        assert work.loss is not None
        before = work.loss()
        for i in range(10):
            work.call(i)
        assert work.loss() < before
