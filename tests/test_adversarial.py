"""The game against what is known of it: values by quadrature, gradients by hand, optima, rings; and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.lr_scheduler import CosineAnnealingLR

from inference import adam, fit
from inference.adversarial import Adversarial, density_ratio
from inference.objectives import Phase
from inference.pair import Pair
from ppmodels.contracts import Program
from ppmodels.gan import GAN, Discriminator
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal
from ppmodels.toys import NormalMixture, ring

double = pytest.mark.usefixtures("double")
DATA, DRAWS = stats.norm(0.0, 1.0), stats.norm(1.0, 1.5)


class Affine(nn.Module):
    """x = loc + exp(log_scale) z, so that the law of draws is known; any prior of ours would do as well."""

    def __init__(self, loc: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.tensor([loc])), nn.Parameter(torch.tensor([scale]).log())

    def forward(self, *, n: int) -> Tensor:
        return self.loc + self.log_scale.exp() * torch.randn(n, 1, dtype=self.loc.dtype)


class Quadratic(nn.Module):
    """Features 1, x and x^2: the log ratio of two normals is linear in them."""

    out_features = 2

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.square()], -1)


def quadratic() -> Any:
    return Discriminator(Quadratic())


class Judge(nn.Module):
    """A discriminator that judges as it was told; one number scales it."""

    def __init__(self, logit: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.logit, self.scale = logit, nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.logit(x[:, 0])


def ratio(x: Tensor) -> Tensor:
    """log p_data - log p_G of the two normals above."""
    return torch.as_tensor(DATA.logpdf(x.detach()) - DRAWS.logpdf(x.detach()))


def phases(objective: Adversarial, model: Program, guide: Program, x: Any) -> dict[str, Phase]:
    return {phase.name: phase for phase in objective.task(Pair(model, guide, modules_only=True), x).phases}


def loss_of(phase: Phase, x: Any, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(seed)
    found = phase.loss(x, torch.zeros(()))
    return found.loss, dict(found.parts)


# -- values ----------------------------------------------------------------------------------------------------


def jensen_shannon() -> float:
    """Of the two normals, by quadrature."""

    def half(p: Any, q: Any) -> float:
        def integrand(x: float) -> float:
            return float(p.pdf(x) * (p.logpdf(x) - np.logaddexp(p.logpdf(x), q.logpdf(x)) + math.log(2)))

        return float(integrate.quad(integrand, -15, 15)[0])

    return (half(DATA, DRAWS) + half(DRAWS, DATA)) / 2


@double
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_value_at_the_best_discriminator_is_the_divergence(smoothing: float) -> None:
    """V(D*, G) = -log 4 + 2 JSD, whatever the smoothing; 4 standard errors of 400,000 draws: false alarm 6e-5."""
    n = 400_000
    x = torch.randn(n, 1)
    phase = phases(Adversarial(smoothing=smoothing), Affine(1.0, 1.5), Judge(ratio), x)["discriminator"]
    loss, parts = loss_of(phase, x)
    real, fake = ratio(torch.randn(n)), ratio(1 + 1.5 * torch.randn(n))
    error = math.sqrt((real.sigmoid().log().var() + fake.neg().sigmoid().log().var()) / n)
    assert abs(float(parts["value"]) - (-math.log(4) + 2 * jensen_shannon())) <= 4 * error
    assert error < 2e-3
    if not smoothing:
        assert float(loss.detach()) == -float(parts["value"])


@double
def test_parts_are_torchs_cross_entropies() -> None:
    """Losses are torch's cross entropies with targets 1 - s and 0; real and fake are means of probabilities."""
    x, s = torch.randn(50, 1), 0.2
    game = phases(Adversarial(smoothing=s), Affine(1.0, 1.5), Judge(lambda x: 3 * x), x)
    loss, parts = loss_of(game["discriminator"], x)
    torch.manual_seed(0)
    real, fake = 3 * x[:, 0], 3 * (1 + 1.5 * torch.randn(50))
    expected = binary_cross_entropy_with_logits(real, torch.full((50,), 1 - s))
    expected = expected + binary_cross_entropy_with_logits(fake, torch.zeros(50))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts["real"], real.sigmoid().mean())
    torch.testing.assert_close(parts["fake"], fake.sigmoid().mean())
    torch.testing.assert_close(parts["value"], real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean())
    assert not any(part.requires_grad for part in parts.values())
    for name, target, sign in (("non_saturating", 1.0, 1), ("minimax", 0.0, -1)):
        loss, parts = loss_of(phases(Adversarial(name), Affine(1.0, 1.5), Judge(lambda x: 3 * x), x)["generator"], x)
        torch.testing.assert_close(loss, sign * binary_cross_entropy_with_logits(fake, torch.full((50,), target)))
        torch.testing.assert_close(parts["fake"], fake.sigmoid().mean())


def test_logits_of_any_size_have_a_finite_loss_and_gradient() -> None:
    x = torch.ones(4, 1)
    for scale in (1e4, -1e4):
        for name in ("non_saturating", "minimax"):
            for phase in phases(Adversarial(name), Affine(), Judge(partial(torch.mul, scale)), x).values():
                loss, _ = loss_of(phase, x)
                gradients = torch.autograd.grad(loss, list(phase.parameters.values()))
                assert bool(torch.stack([loss, *(g.sum() for g in gradients)]).isfinite().all())


# -- gradients -------------------------------------------------------------------------------------------------


@double
@pytest.mark.parametrize("name", ["non_saturating", "minimax"])
def test_gradients_are_those_by_hand(name: str) -> None:
    """With D = sigmoid(a x^2 + b x + c) and x = m + s z all slopes are written out, on the same noise."""
    x = 0.3 + torch.randn(20, 1)
    model, guide = Affine(0.5, 0.8), quadratic()
    game = phases(Adversarial(name), model, guide, x)
    torch.manual_seed(0)
    z = torch.randn(20)
    m, s, x_real = 0.5, 0.8, x[:, 0]
    fake = m + s * z
    (b, a), c = guide.head.weight.detach()[0], guide.head.bias.detach()
    D, D_fake = (a * x_real**2 + b * x_real + c).sigmoid(), (a * fake**2 + b * fake + c).sigmoid()

    loss, _ = loss_of(game["discriminator"], x)
    assert not any(id(p) in {id(q) for q in model.parameters()} for p in game["discriminator"].parameters.values())
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    assert [*found] == [None, None]  # the fakes carry no gradient
    weight, bias = torch.autograd.grad(loss, [guide.head.weight, guide.head.bias])
    by_hand = [((D - 1) * f(x_real) + D_fake * f(fake)).mean() for f in (lambda x: x, lambda x: x**2, torch.ones_like)]
    torch.testing.assert_close(torch.cat([weight[0], bias]), torch.stack(by_hand))

    loss, _ = loss_of(game["generator"], x)
    slope = (-D_fake if name == "minimax" else D_fake - 1) * (2 * a * fake + b)
    loc, log_scale = torch.autograd.grad(loss, list(game["generator"].parameters.values()))
    torch.testing.assert_close(loc[0], slope.mean())
    torch.testing.assert_close(log_scale[0], (slope * s * z).mean())


@double
def test_the_two_losses_pull_alike_and_differ_by_the_odds() -> None:
    """One parameter and no noise: the slopes are -(1 - D) D' and -D D', so their ratio is (1 - D) / D."""

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loc = nn.Parameter(torch.zeros(1))

        def forward(self, *, n: int) -> Tensor:
            return self.loc.expand(n, 1)

    for logit in (-6.0, -1.0, 2.0):
        slopes = []
        for name in ("non_saturating", "minimax"):
            model = Constant()
            judge = Judge(partial(torch.add, torch.tensor(logit), alpha=0.7))
            loss, _ = loss_of(
                phases(Adversarial(name), model, judge, torch.zeros(3, 1))["generator"], torch.zeros(3, 1)
            )
            slopes.append(float(torch.autograd.grad(loss, model.loc)[0]))
        assert slopes[0] / slopes[1] == pytest.approx(math.exp(-logit))
        assert slopes[0] == pytest.approx(-0.7 / (1 + math.exp(logit)))


# -- optima ----------------------------------------------------------------------------------------------------


@double
def test_the_best_discriminator_knows_the_ratio_of_the_densities() -> None:
    """Newton's steps on 16 sets of 4,000 data: the mean logit is the log ratio within 4 standard errors, 13 places.

    The bias of a fit of three numbers is of order 1/4,000, far below an error of 0.03 / sqrt(16).
    """
    places = torch.linspace(-3, 3, 13).unsqueeze(-1)
    found = []
    for seed in range(16):
        torch.manual_seed(seed)
        guide, x = Discriminator(Quadratic()), torch.randn(4000, 1)
        phase = phases(Adversarial(), Affine(1.0, 1.5), guide, x)["discriminator"]
        newton = torch.optim.LBFGS(phase.parameters.values(), max_iter=100, line_search_fn="strong_wolfe")

        def again(phase: Phase = phase, x: Tensor = x, newton: Any = newton, seed: int = seed) -> Tensor:
            newton.zero_grad()
            loss, _ = loss_of(phase, x, seed=100 + seed)  # the same fakes at every look
            loss.backward()
            return loss

        newton.step(again)
        found.append(density_ratio(guide, places))
    logits = torch.stack(found)
    error = logits.std(0) / math.sqrt(len(found))
    assert bool(((logits.mean(0) - ratio(places[:, 0])).abs() <= 4 * error).all())
    assert float(error[6]) < 0.03


@double
def test_noise_is_on_data_and_draws_alike() -> None:
    """V at the best discriminator of N(0, 1 + s^2) and N(1, 1.5^2 + s^2): -log 4 and twice their divergence.

    4 standard errors of 400,000 draws, 0.003 in all: false alarm 6e-5. Without the noise V is 0.042 off.
    """
    noise, n = 0.8, 400_000
    p, q = stats.norm(0.0, math.hypot(1.0, noise)), stats.norm(1.0, math.hypot(1.5, noise))

    def logit(x: Tensor) -> Tensor:
        return torch.as_tensor(p.logpdf(x.detach()) - q.logpdf(x.detach()))

    def value(x: float) -> float:
        both = np.logaddexp(p.logpdf(x), q.logpdf(x))
        return float(p.pdf(x) * (p.logpdf(x) - both) + q.pdf(x) * (q.logpdf(x) - both))

    x = torch.randn(n, 1)
    game_of = phases(Adversarial(noise=noise), Affine(1.0, 1.5), Judge(logit), x)
    found = float(loss_of(game_of["discriminator"], x)[1]["value"])
    expected = integrate.quad(value, -20, 20)[0]
    real, fake = logit(p.std() * torch.randn(n)), logit(1 + q.std() * torch.randn(n))
    error = math.sqrt((real.sigmoid().log().var() + fake.neg().sigmoid().log().var()) / n)
    assert abs(found - expected) < 4 * error

    def told(x: float) -> float:
        return float(q.pdf(x) * (np.logaddexp(p.logpdf(x), q.logpdf(x)) - p.logpdf(x)))

    found, expected = float(loss_of(game_of["generator"], x)[1]["loss"]), integrate.quad(told, -20, 20)[0]
    assert abs(found - expected) < 4 * math.sqrt(fake.sigmoid().log().var() / n)


@double
def test_a_generator_does_not_learn_the_noise() -> None:
    """From N(0, 1) to N(1, 0.5^2) through noise of 0.5: the generator finds what was there before the noise."""
    model, guide = Affine(), Discriminator(Quadratic())
    x = 1 + 0.5 * torch.randn(20_000, 1)
    rates = {"discriminator": adam(0.1, betas=(0.5, 0.99)), "generator": adam(0.02, betas=(0.5, 0.99))}
    how = {"epochs": 30, "batch_size": 250, "optimizer": rates, "average": 0.998, "mode": "replay"}
    fit(model, guide, x, Adversarial(every=5, noise=0.5), **how)  # type: ignore[arg-type]
    assert float(model.loc.detach()) == pytest.approx(float(x.mean()), abs=0.03)
    assert float(model.log_scale.detach().exp()) == pytest.approx(float(x.std()), abs=0.05)


@double
def test_smoothing_moves_the_optimum_as_stated() -> None:
    """At one place nothing but the odds count: D* = (1 - s) / 2 where data and draws are alike."""
    x = torch.zeros(10, 1)

    class Nothing(Affine):
        def forward(self, *, n: int) -> Tensor:
            return 0.0 * self.loc.expand(n, 1)

    guide = quadratic()
    phase = phases(Adversarial(smoothing=0.3), Nothing(), guide, x)["discriminator"]
    descent = torch.optim.SGD([guide.head.bias], lr=1.0)
    for _ in range(200):
        (guide.head.bias.grad,) = torch.autograd.grad(loss_of(phase, x)[0], [guide.head.bias])
        descent.step()
    assert float(guide.head.bias.detach().sigmoid()) == pytest.approx(0.35)


@double
@pytest.mark.parametrize("loss", ["non_saturating", "minimax"])
def test_an_affine_generator_finds_a_normal(loss: str) -> None:
    """From N(0, 1) to N(1, 0.5^2): place and spread, and V = -log 4, which no player can better.

    Over 6 runs of either loss the ends scatter about the data's own mean by 0.002, about their spread by 0.003, about
    -log 4 by less than 0.0001; five of these are allowed (t of 5 degrees: false alarm 4e-3 a number, were it normal).
    """
    model, guide = Affine(), Discriminator(Quadratic())
    x = 1 + 0.5 * torch.randn(20_000, 1)
    rates = {"discriminator": adam(0.1, betas=(0.5, 0.99)), "generator": adam(0.02, betas=(0.5, 0.99))}
    schedule = partial(CosineAnnealingLR, T_max=50)
    how = {"epochs": 50, "batch_size": 250, "optimizer": rates, "schedule": schedule, "mode": "replay"}
    fitted = fit(model, guide, x, Adversarial(loss, every=5), **how)  # type: ignore[arg-type]
    assert float(model.loc.detach()) == pytest.approx(float(x.mean()), abs=0.011)
    assert float(model.log_scale.detach().exp()) == pytest.approx(float(x.std()), abs=0.015)
    value = float(fitted.metrics["discriminator/value"].iloc[-1])
    assert value == pytest.approx(-math.log(4), abs=5e-4)
    assert {"discriminator/real", "discriminator/fake", "generator/loss"} <= set(fitted.metrics.columns)


# -- modes -----------------------------------------------------------------------------------------------------


def covered(toy: NormalMixture, x: Tensor) -> tuple[int, float]:
    """The modes that have a fifth of their share of draws within three scales, and the share of draws that is there."""
    distance, mode = torch.cdist(x, toy.loc).min(1)
    near = distance < 3 * toy.scale
    count = torch.bincount(mode[near], minlength=len(toy.loc))
    return int((count >= len(x) / len(toy.loc) / 5).sum()), float(near.double().mean())


def played(toy: NormalMixture, seed: int, steps: int, width: int, objective: Adversarial) -> tuple[GAN, Discriminator]:
    torch.manual_seed(seed)
    model = GAN(StandardNormal(2), nn.Sequential(MLP(2, (width, width), nn.ReLU), nn.Linear(width, 2)))
    guide = Discriminator(MLP(2, (width, width), partial(nn.LeakyReLU, 0.2)))
    data, size = toy.sample(50_000, seed=seed), 2 * width
    rates = {"discriminator": adam(3e-3, betas=(0.5, 0.999)), "generator": adam(2e-3, betas=(0.5, 0.999))}
    schedule = partial(CosineAnnealingLR, T_max=math.ceil(steps / math.ceil(len(data) / size)))
    how = {"steps": steps, "batch_size": size, "optimizer": rates, "schedule": schedule, "seed": seed, "mode": "replay"}
    fit(model, guide, data, objective, **how)  # type: ignore[arg-type]
    return model, guide


def test_a_ring_of_eight_is_covered() -> None:
    toy = ring(8)
    model, guide = played(toy, seed=0, steps=2000, width=64, objective=Adversarial())
    with torch.no_grad():
        x = model(n=10_000)
    modes, near = covered(toy, x)
    assert modes == 8
    assert near > 0.75
    assert covered(toy, model.prior().sample((10_000,)))[1] < 0.5  # the noise itself is elsewhere
    assert float(density_ratio(guide, toy.loc).abs().max()) < 1.5  # and not told from data where they are


# -- any modules, any data -------------------------------------------------------------------------------------


def test_modules_of_ones_own_and_data_with_labels() -> None:
    """Of a batch of several tensors the first counts; images need not be flat; a method of a module will do."""

    class Pictures(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 1, 4)

        def draw(self, *, n: int) -> Tensor:
            images: Tensor = self.up(torch.randn(n, 3, 1, 1))
            return images

    model, guide = Pictures(), nn.Sequential(nn.Conv2d(1, 2, 4), nn.Flatten(), nn.Linear(2, 1), nn.Flatten(0))
    before = [value.detach().clone() for value in (*model.parameters(), *guide.parameters())]
    fitted = fit(
        model.draw, guide, (torch.randn(30, 1, 4, 4), torch.arange(30)), Adversarial(), epochs=2, batch_size=10
    )
    assert fitted.steps == 6
    after = [*model.parameters(), *guide.parameters()]
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_the_generator_waits_for_its_turn() -> None:
    model, guide, x = Affine(), Discriminator(Quadratic()), torch.randn(60, 1)
    game = phases(Adversarial(every=3), model, guide, x)
    assert [(name, phase.every) for name, phase in game.items()] == [("discriminator", 1), ("generator", 3)]
    sgd = partial(torch.optim.SGD, lr=0.1)
    steps = []
    for number in (1, 3, 4):
        torch.manual_seed(0)
        model, guide = Affine(), Discriminator(Quadratic())
        fit(model, guide, x, Adversarial(every=3), steps=number, batch_size=10, optimizer=sgd, mode="eager")
        steps.append(float(model.loc.detach()))
    assert steps[0] == steps[1] != steps[2]


def test_a_killed_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    def run(out: Path, *ends: int) -> list[Tensor]:
        torch.manual_seed(0)
        model, guide = Affine(), Discriminator(MLP(1, (8,), dropout=0.5))
        for end in ends:
            how = {"steps": end, "batch_size": 10, "out": out, "resume": True}
            fit(model, guide, torch.linspace(0, 1, 50).unsqueeze(-1), Adversarial(every=2), **how)  # type: ignore[arg-type]
        return [value.detach() for value in (*model.parameters(), *guide.parameters())]

    whole, parts = run(tmp_path / "whole", 12), run(tmp_path / "parts", 7, 12)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_inspection_and_ratios_leave_no_trace() -> None:
    """Neither the random state nor the mode nor batch statistics are touched; dropout is off for a ratio."""
    guide = Discriminator(MLP(1, (8,), batch_norm=True, dropout=0.5))
    x = torch.randn(20, 1)
    guide(x)
    before, state = torch.get_rng_state(), [value.clone() for value in guide.state_dict().values()]
    phases(Adversarial(), Affine(), guide, x)
    first = density_ratio(guide, x)
    assert torch.equal(first, density_ratio(guide, x))
    assert guide.training
    assert not first.requires_grad
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(state, guide.state_dict().values(), strict=True))
    torch.testing.assert_close(first, guide.eval()(x))


# -- refusals --------------------------------------------------------------------------------------------------


class Draws(nn.Module):
    """A generator that returns what it is told to."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value, self.loc = value, nn.Parameter(torch.zeros(()))

    def forward(self, *, n: int) -> Any:
        return self.value(n, self.loc) if callable(self.value) else self.value


SHAPED = Draws(lambda n, loc: loc + torch.zeros(n, 1))
TOLD = nn.Sequential(nn.Linear(1, 1), nn.Flatten(0))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Adversarial("wasserstein"), ValueError, "`loss` is 'wasserstein', expected .non_saturating. or"),
        (lambda: Adversarial(smoothing=1.0), ValueError, "`smoothing` is 1.0, expected what targets fall short of 1"),
        (lambda: Adversarial(smoothing=-0.1), ValueError, "`smoothing` is -0.1, expected"),
        (lambda: Adversarial(noise=-0.1), ValueError, "`noise` is -0.1, expected the scale of normal noise"),
        (lambda: Adversarial(every=0), ValueError, "`every` is 0, expected a whole number of updates, at least 1"),
        (lambda: game(SHAPED, None), ValueError, r"`guide` is None, expected the discriminator, `fit\(generator"),
        (lambda: game(lambda n: torch.zeros(n, 1), TOLD), ValueError, "the generator has no parameters to learn"),
        (lambda: game(SHAPED, lambda x: x[:, 0]), ValueError, "the discriminator has no parameters to learn"),
        (
            lambda: game(SHAPED, nn.Linear(1, 1)),
            ValueError,
            r"the discriminator returns shape \(5, 1\) for 5 data, expect",
        ),
        (
            lambda: game(Draws(lambda n, loc: loc + torch.zeros(n, 2)), TOLD),
            ValueError,
            r"the generator's draws have shape \(5, 2\), expected \(5, 1\), as the data have",
        ),
        (
            lambda: game(Draws(lambda n, loc: (loc + torch.zeros(n, 1)).double()), TOLD),
            ValueError,
            "the generator's draws have dtype torch.float64, expected torch.float32, as the data have",
        ),
        (
            lambda: game(Draws(lambda n, loc: torch.zeros(n, 1)), TOLD),
            ValueError,
            "the generator's draws carry no gradient, expected a smooth function of noise",
        ),
        (lambda: game(Draws("x"), TOLD), TypeError, "the generator returns a str, expected a tensor of draws"),
        (lambda: game(nn.Linear(1, 1), TOLD), TypeError, r"the generator cannot be called as `generator\(n=5\)`"),
        (lambda: density_ratio(lambda x: x, torch.zeros(5, 1)), ValueError, r"returns shape \(5, 1\) for 5 data"),
        (lambda: density_ratio(lambda x: None, torch.zeros(5, 1)), TypeError, "the discriminator returns a NoneType"),
    ],
)
def test_mistakes_are_one_sentence(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def game(model: Any, guide: Any) -> Any:
    return fit(model, guide, torch.zeros(5, 1), Adversarial(), steps=1, mode="eager")


def test_players_that_share_are_refused() -> None:
    model, guide = Affine(), Discriminator(Quadratic())
    guide.body = model
    with pytest.raises(
        ValueError, match="`loc` is a parameter of generator and discriminator, which want the opposite"
    ):
        game(model, guide)
    with pytest.raises(ValueError, match="is a parameter of generator and discriminator"):
        game(model, model)


def test_there_is_no_score() -> None:
    x = torch.zeros(5, 1)
    with pytest.raises(ValueError, match="`validation` is given, but the objective has no score to judge it by"):
        fit(Affine(), TOLD, x, Adversarial(), steps=1, validation=x)
