r"""A step of two diffusions of the digits, 64 pixels, batches of 100: by hand, and by our engine.

* "simple": DDPM, T = 1,000, :math:`\|\epsilon - \epsilon_\theta(x_t, t)\|^2` (Ho et al. 2020);
* "bound": the model of 2015 with T = 40, where the net moves mean and variance off the kernel's own (Sohl-Dickstein et
  al.), :math:`-T \ell_t`, with :math:`\ell_1 = \log p(x_0 \mid x_1)` and :math:`\ell_t` minus the KL of step t.

Both at a step for each datum, spread evenly over 1 to T. By hand all that depends on t alone is a table made
beforehand, and the noise is kept rather than found again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from benchmarks.hand import dense, trained
from benchmarks.harness import Row, Settings, measure, wanted
from benchmarks.kinds import WARMUP, in_modes, our_step
from benchmarks.steps import HAND, INDUCTOR, REPLAY
from benchmarks.tables import compare, target
from benchmarks.workload import Workload
from inference.denoising import Denoising
from inference.graph import Mode
from inference.optim import adam
from inference.pair import Pair, no_guide
from ppmodels.clocks import TimeMLP, bumps, sinusoids
from ppmodels.data import digits
from ppmodels.diffusion import Diffusion
from ppmodels.kernels import GaussianKernel
from ppmodels.rates import harmonic, linear
from ppmodels.reverses import Drift, Epsilon, FirstFixed

X, WIDTHS, BATCH, LIMIT = 64, (128, 128), 100, 0.9
CASES = {
    "simple": "DDPM, T=1000, tells the noise",
    "bound": "the model of 2015, T=40, moves mean and variance",
}


class Net(nn.Module):
    """A dense net of the state beside features of the time, `(T + 1, size)`; its last layer starts at zero."""

    times: Tensor

    def __init__(self, times: Tensor, outputs: int) -> None:
        super().__init__()
        self.register_buffer("times", times)
        first, second = dense(X + times.shape[-1], WIDTHS[0]), dense(*WIDTHS)
        last = nn.Linear(WIDTHS[1], outputs * X)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), last)

    def forward(self, state: Tensor, t: Tensor) -> Tensor:
        found: Tensor = self.layers(torch.cat([state, self.times[t]], -1))
        return found


class Simple:
    """DDPM with the simple loss."""

    def __init__(self, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> None:
        kept = (1 - torch.linspace(first, last, steps, dtype=torch.float64)).cumprod(0)
        kept = torch.cat([kept.new_ones(1), kept]).unsqueeze(-1)  # (T + 1, 1)
        self.steps, self.net = steps, Net(sinusoids(steps), 1)
        self.signal, self.noise = (found.sqrt().to(torch.get_default_dtype()) for found in (kept, 1 - kept))

    def loss(self, x: Tensor) -> Tensor:
        """Summed over pixels."""
        t = spread(self.steps, len(x))
        noise = torch.randn_like(x)
        state = self.signal[t] * x + self.noise[t] * noise
        return (noise - self.net(state, t)).square().sum(-1).mean()


class Bounded:
    r"""The bound of the 2015 model; rows of t = 1 need no branch, as :math:`q(x_0 \mid x_1, x_0)` is the datum itself.

    Minus :math:`\ell_t` is :math:`\frac12 \sum \log \sigma_p^2 + (\sigma_q^2 + (\mu_q - \mu_p)^2) / \sigma_p^2 - 1 -
    \log \sigma_q^2`, where at t = 1 :math:`\sigma_q` is 0 and the last two are :math:`\log 2 \pi`. The end's KL is left
    out: the last rate is 1, so it is 0.
    """

    def __init__(self, steps: int = 40, least: float = 1e-3) -> None:
        later = (1 / torch.arange(steps, 0, -1, dtype=torch.float64)).clamp_min(least)
        beta = torch.cat([later.new_zeros(1), later])  # (T + 1,)
        kept = (1 - beta).cumprod(0)
        before, lost = kept.roll(1), 1 - kept
        variance = (1 - before) / lost * beta  # of q(x_{t-1} | x_t, x_0)
        constant = -1 - variance.log()
        constant[1] = math.log(2 * math.pi)
        to_state = kept.sqrt(), lost.sqrt()
        there = before.sqrt() * beta / lost, (1 - beta).sqrt() * (1 - before) / lost, variance
        back = (1 - beta).sqrt(), beta.sqrt(), beta.logit()
        columns = torch.stack([*to_state, *there, *back, constant], -1).to(torch.get_default_dtype())
        self.steps, self.net, self.table = steps, Net(bumps(steps), 2), columns.unsqueeze(-1)  # (T + 1, 9, 1)

    def loss(self, x: Tensor) -> Tensor:
        """Minus the bound, in nats per datum."""
        t = spread(self.steps, len(x))
        signal, noise, of_x, of_state, variance, shrunk, scale, log_odds, constant = self.table[t].unbind(1)  # (n, 1)
        state = signal * x + noise * torch.randn_like(x)
        output = self.net(state, t) * (t > 1).unsqueeze(-1)
        f, g = output.chunk(2, -1)  # (n, 64) each
        log_variance = logsigmoid(g / math.sqrt(self.steps) + log_odds)
        residual = of_x * x + of_state * state - shrunk * state - scale * f
        terms = log_variance + (variance + residual.square()) * (-log_variance).exp() + constant
        return self.steps / 2 * terms.sum(-1).mean()


HANDS: dict[str, type[Simple | Bounded]] = {"simple": Simple, "bound": Bounded}


def spread(steps: int, n: int) -> Tensor:
    """A step for each datum, evenly over 1 to T from a random place on, `(n,)`."""
    place = torch.arange(n) / n + torch.rand(())
    return 1 + (steps * place.frac()).long().clamp_max(steps - 1)


def images() -> list[Tensor]:
    """The digits from -1 to 1, cut into full batches."""
    x = digits().values.to(torch.get_default_dtype()) / 8 - 1
    return [part.contiguous() for part in x.split(BATCH) if len(part) == BATCH]


def by_hand(case: str) -> Workload:
    """The loss above and fused Adam."""
    torch.manual_seed(0)
    hand = HANDS[case]()
    return trained(hand.net, hand.loss, images(), hand.loss)


def diffusion(case: str) -> Diffusion:
    """The same chain of ours."""
    if case == "simple":
        return Diffusion(GaussianKernel(linear(1000)), TimeMLP(X, WIDTHS, times=sinusoids(1000)), Epsilon())
    kernel = GaussianKernel(harmonic(40, least=1e-3))
    return Diffusion(kernel, TimeMLP(X, WIDTHS, times=bumps(40), outputs=2), FirstFixed(Drift()))


def training(case: str, mode: Mode) -> Workload:
    """Ours in one of our modes, by the same Adam."""
    torch.manual_seed(0)
    model, data, objective = diffusion(case), images(), Denoising(case)
    (phase,) = objective.task(Pair(model, no_guide, modules_only=True), data[0]).phases
    loss = lambda: phase.loss(data[0], torch.zeros(())).loss.item()  # noqa: E731
    return our_step(model, None, objective, data, mode, adam(1e-3), loss)


def rows(case: str) -> list[Row]:
    """By hand, and ours in each mode."""
    hand = Row(HAND, "benchmarks.denoising:by_hand", {"case": case}, warmup=WARMUP)
    return [hand, *in_modes("benchmarks.denoising:training", case=case)]


def table(settings: Settings) -> str:
    """One table a case, then the targets."""
    parts = []
    for case, said in CASES.items():
        if settings.cases and case not in settings.cases:
            continue
        results = measure(wanted(rows(case), settings), settings.rounds, settings.ms)
        asked = "; ".join(f"{mine} / {HAND}: {target(results, mine, HAND, LIMIT)}" for mine in (INDUCTOR, REPLAY))
        parts += [
            f"{case}, {said}, net 64-128-128, b={BATCH}:",
            compare(results, [(None, HAND)], what="ms per step"),
            f"Targets: {asked}.",
        ]
    return "\n\n".join(parts)
