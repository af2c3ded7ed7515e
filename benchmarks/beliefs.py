r"""A reweighted wake-sleep step on a sigmoid belief network 784-200-200-200, K = 5: by hand, and by our engine.

.. math:: \sum_k \tilde w_k \nabla \bigl( \log p_\theta(x, z_k) + \log q_\phi(z_k \mid x) \bigr)
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.hand import X, batches, dense, trained
from benchmarks.harness import Result, Row, Settings, measure, wanted
from benchmarks.ours import ours, resident
from benchmarks.report import quartiles
from benchmarks.steps import EAGER, HAND, INDUCTOR, MODES, REPLAY
from benchmarks.tables import compare, target
from benchmarks.workload import Workload
from guides import MeanFieldBernoulli
from inference.graph import Mode
from inference.pair import Pair
from inference.wake_sleep import WakeSleep
from ppmodels.helmholtz import SigmoidBeliefNetwork

K, BATCH, WIDTHS = 5, 100, (200, 200, 200)
TARGETS = ((INDUCTOR, EAGER, 0.6), (INDUCTOR, HAND, 1.0), (REPLAY, HAND, 1.0))
RATIOS = [(None, EAGER), (None, HAND)]


class Beliefs(nn.Module):
    """The net and its recognition net, and the step's loss, as one would write them in PyTorch alone."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (X, *WIDTHS)
        self.top = nn.Parameter(torch.zeros(sizes[-1]))
        self.down = nn.ModuleList(dense(above, below) for below, above in pairwise(sizes))
        self.up = nn.ModuleList(dense(below, above) for below, above in pairwise(sizes))

    def log_densities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x, z) and log q(z | x) of K draws, `(K, B)` each; the first layer's logits are those of all draws."""
        z, log_q, log_p = x, x.new_zeros(()), x.new_zeros(())
        for up, down in zip(self.up, self.down, strict=True):
            logits = up(z)
            with torch.no_grad():
                drawn = torch.bernoulli(logits.sigmoid().expand(K, len(x), -1))
            log_q = log_q + log_bernoulli(logits, drawn)
            log_p = log_p + log_bernoulli(down(drawn), z)
            z = drawn
        return log_p + log_bernoulli(self.top, z), log_q

    def loss(self, x: Tensor) -> Tensor:
        """What has the gradient of the wake phases of both nets."""
        log_p, log_q = self.log_densities(x)
        w = (log_p - log_q).detach().softmax(0)
        return -(w * (log_p + log_q)).sum(0).mean()

    @torch.no_grad()
    def bound(self, x: Tensor) -> Tensor:
        """Minus the bound of K draws, per datum."""
        log_p, log_q = self.log_densities(x)
        return math.log(K) - (log_p - log_q).logsumexp(0).mean()


def log_bernoulli(logits: Tensor, bits: Tensor) -> Tensor:
    """Summed over the last axis; the shorter of the two is repeated."""
    logits, bits = torch.broadcast_tensors(logits, bits)
    return -binary_cross_entropy_with_logits(logits, bits, reduction="none").sum(-1)


def by_hand() -> Workload:
    """The step in eager PyTorch."""
    torch.manual_seed(0)
    net = Beliefs()
    return trained(net, net.loss, batches(BATCH), net.bound)


def training(mode: Mode, sleep: float) -> Workload:
    """The Pyro pair in one of our modes; with dreams beside data where `sleep` is positive."""
    torch.manual_seed(0)
    pair = Pair(SigmoidBeliefNetwork(X, WIDTHS), MeanFieldBernoulli(X, WIDTHS))
    objective = WakeSleep(K, wake=1.0 - sleep, sleep=sleep)
    return resident(ours(mode, K, BATCH, pair=pair, objective=objective), BATCH)


def rows(sleep: float) -> list[Row]:
    """Ours in each mode, and by hand where there is no sleep."""
    build = "benchmarks.beliefs:training"
    mine = [Row(name, build, {"mode": mode, "sleep": sleep}, warmup=60) for name, mode in MODES.items()]
    return mine if sleep else [Row(HAND, "benchmarks.beliefs:by_hand", {}, warmup=60), *mine]


def table(settings: Settings) -> str:
    """Awake, and awake and asleep; the targets are for the first."""
    found = measure(wanted(rows(0.0), settings), settings.rounds, settings.ms)
    both = measure(wanted(rows(0.5), settings), settings.rounds, settings.ms)
    targets = [f"{mine} / {other}: {target(found, mine, other, limit)}" for mine, other, limit in TARGETS]
    speeds = [f"{name} {images_a_second(each)}" for name, each in found.items() if not each.reason]
    return "\n\n".join(
        [
            f"Wake phases of both nets, K={K}, b={BATCH}:\n\n{compare(found, RATIOS, what='ms per step')}",
            f"With dreams for the guide:\n\n{compare(both, RATIOS[:1], what='ms per step')}",
            f"Targets of the first: {'; '.join(targets)}.",
            f"Images a second of the first [quartiles]: {'; '.join(speeds)}.",
        ]
    )


def images_a_second(result: Result) -> str:
    """Median and quartiles over the rounds."""
    return str(quartiles([BATCH * 1e3 / ms for ms in result.medians()]))
