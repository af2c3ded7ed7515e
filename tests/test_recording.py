"""Whole steps recorded and replayed: the logic on a CPU with a stand-in for the CUDA graph, the real one on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from guides import AmortizedNormal
from inference.bounds import ELBO, IWAE, Bound
from inference.flags import validating
from inference.graph import Recording
from inference.objectives import Variational
from inference.optim import FusedAdam, adam, updater
from inference.pair import Pair
from inference.seeds import seeded
from inference.stepper import Stepper
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal
from ppmodels.vae import VAE

gpu = pytest.mark.gpu


def by_hand(body: Callable[[], Sequence[Tensor]]) -> tuple[Callable[[], None], Sequence[Tensor]]:
    """Do as a CUDA graph does: the outputs of the first run are overwritten by every later one."""
    outputs = [value.clone() for value in body()]

    def replay() -> None:
        with torch.no_grad():
            for mine, new in zip(outputs, body(), strict=True):
                mine.copy_(new)

    return replay, outputs


class Normalised(nn.Module):
    """A net with running statistics, which a step changes in place."""

    def __init__(self, x_dim: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(x_dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.Tanh())
        self.in_features, self.out_features = x_dim, hidden

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x)
        return found


def stepper(mode: str, device: str = "cpu", bound: Bound | None = None, K: int = 1) -> tuple[Stepper, list[Tensor]]:
    with seeded(3):
        model = VAE(StandardNormal(2), ConditionalBernoulli(MLP(2, (8,)), 16))
        guide = AmortizedNormal(ConditionalNormal(Normalised(16, 8), 2))
        batches = [torch.bernoulli(torch.full((10, 16), 0.4)).to(device) for _ in range(4)]
    pair = Pair(model.to(device), guide.to(device))
    phase = Variational(bound or ELBO(), num_particles=K, kl_warmup=50).task(pair, batches[0]).phases[0]
    optimizer = adam(1e-2)(list(phase.parameters.values()))
    return Stepper(pair, phase, optimizer, mode, lambda n: 10**6), batches  # type: ignore[arg-type]


def train(stepper: Stepper, batches: list[Tensor], step: Callable[[Tensor, Tensor], Tensor], n: int = 20) -> Tensor:
    clock, device = torch.zeros((), device=batches[0].device), batches[0].device
    numbers = []
    with seeded(5, device), stepper.pair.mode(training=True), validating(enabled=False):
        for i in range(n):
            clock.fill_(i)
            stepper.optimizer.param_groups[0]["lr"] = 1e-2 * 0.9**i
            numbers.append(step(batches[i % len(batches)], clock).clone())
    return torch.stack([*numbers])


def test_a_recorded_step_is_the_step() -> None:
    """Same noise, data, KL weight and learning rate: to float32's rounding, in which the recorded rate is kept."""
    plain, batches = stepper("replay")
    expected = train(plain, batches, lambda x, clock: plain(x, clock).numbers)
    recorded, _ = stepper("replay")
    recorded._update = update = updater(recorded.optimizer, recorded.parameters)
    assert isinstance(update, FusedAdam)
    assert update.start()
    recording: list[Recording] = []

    def step(x: Tensor, clock: Tensor) -> Tensor:
        leaves, entry = recorded.graph.find(x, clock)
        update.read_rate()
        if not recording:
            recording.append(recorded.record(entry, leaves, update, record=by_hand))
        return recording[0](leaves)[1]

    found = train(recorded, batches, step)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    mine, its = recorded.pair.state(batches[0]), plain.pair.state(batches[0])
    assert any("running_mean" in name for name in mine)
    for name, value in its.items():
        torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_warming_up_leaves_everything_as_it_was() -> None:
    recorded, batches = stepper("replay")
    update = updater(recorded.optimizer, recorded.parameters)
    assert isinstance(update, FusedAdam)
    assert update.start()
    with recorded.pair.mode(training=True), validating(enabled=False):
        leaves, entry = recorded.graph.find(batches[0], torch.zeros(()))
        update.read_rate()
        state = {k: v.clone() for k, v in recorded.pair.state(batches[0]).items()}
        generator = torch.get_rng_state()
        recorded.record(entry, leaves, update, record=by_hand)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(v, state[k]) for k, v in recorded.pair.state(batches[0]).items())
    assert update.count == 0
    assert all(not bool(moment.any()) for moment in [*update.means, *update.squares])


@gpu
@pytest.mark.parametrize(("bound", "K"), [(ELBO(), 1), (IWAE(), 5)], ids=["elbo", "iwae"])
@pytest.mark.parametrize("mode", ["replay", "inductor"])
def test_a_step_on_the_gpu_is_one_launch_and_the_same_step(mode: str, bound: Bound, K: int) -> None:
    """One kernel order in both, so float32's rounding is all that may differ."""
    plain, batches = stepper("eager", "cuda", bound, K)
    expected = train(plain, batches, lambda x, clock: plain(x, clock).numbers)
    whole, _ = stepper(mode, "cuda", bound, K)
    found = train(whole, batches, lambda x, clock: whole(x, clock).numbers)
    assert whole.modes == {"10": mode}
    assert len(whole._recordings) == 1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@gpu
def test_noise_on_the_gpu_is_fresh_at_every_replay_and_follows_the_seed() -> None:
    runs = []
    for _ in range(2):
        whole, batches = stepper("replay", "cuda")
        whole.optimizer.param_groups[0]["lr"] = 0.0
        runs.append(train(whole, batches[:1], partial(_numbers, whole)))
    assert torch.equal(runs[0], runs[1])
    assert len(runs[0][:, 0].unique()) == len(runs[0])


def _numbers(stepper: Stepper, x: Tensor, clock: Tensor) -> Tensor:
    return stepper(x, clock).numbers


@gpu
def test_nothing_on_the_gpu_is_waited_for() -> None:
    whole, batches = stepper("replay", "cuda")
    train(whole, batches, partial(_numbers, whole))
    torch.cuda.set_sync_debug_mode("error")
    try:
        train(whole, batches, partial(_numbers, whole))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_recording_is_not_used_for_other_settings_or_another_state() -> None:
    """Momentum is written into a recorded step, and so is where the moments lie."""
    recorded, _ = stepper("replay")
    update = updater(recorded.optimizer, recorded.parameters)
    assert isinstance(update, FusedAdam)
    assert update.start()
    first = update.settings
    recorded.optimizer.param_groups[0]["betas"] = (0.5, 0.999)
    second = update.settings
    recorded.optimizer.load_state_dict(recorded.optimizer.state_dict())
    assert not update.running
    assert update.start()
    assert len({first, second, update.settings}) == 3
