"""Importance-sampled log p(x) with 5,000 draws an image: ours, a plain PyTorch loop, and the machine's floor.

The loop keeps a running log of the sum of weights and nothing else; ours keeps the weights, their error and k-hat.
"""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from benchmarks.floor import rate
from benchmarks.hand import Burda, X
from benchmarks.harness import Row, Settings, measure, wanted
from benchmarks.ours import burda, evaluate
from benchmarks.report import digits
from benchmarks.steps import MODES
from benchmarks.tables import Results, compare
from benchmarks.workload import Workload, fastest
from inference.graph import Mode
from ppmodels.data import mnist

DRAWS, BATCH = 5000, 100
HAND, FLOOR = "hand-written eager, value alone", "floor: the decoder's matrix products"


def images(number: int) -> tuple[str, Tensor]:
    """Binarised MNIST where `PPMODELS_DATA` has it, else random bits, and the name of it."""
    if "PPMODELS_DATA" in os.environ:
        try:
            return "MNIST images", mnist("static", split="test").head(number).all()
        except OSError:
            pass
    return "random images", (torch.rand(number, X, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def by_hand(number: int) -> Workload:
    """The plain loop at the number of draws at a time that is fastest here."""
    torch.manual_seed(0)
    network, x = Burda(), images(number)[1]
    chunk = fastest((5, 10, 25, 50), lambda chunk: Workload(lambda i: log_p(network, x[:BATCH], chunk, chunk), chunk))
    return Workload(
        lambda i: [log_p(network, part, DRAWS, chunk) for part in x.split(BATCH)],
        units=number,
        notes={"chunk": chunk},
    )


@torch.inference_mode()
def log_p(network: Burda, x: Tensor, K: int, chunk: int) -> Tensor:
    """log p(x) of every row, `(B,)`, some draws at a time."""
    loc, log_scale = network.encoder(x)
    scale, sign, half_logdet = log_scale.exp(), 2 * x - 1, log_scale.sum(-1)
    total = x.new_full((len(x),), -math.inf)
    for start in range(0, K, chunk):
        noise = torch.randn(min(chunk, K - start), *loc.shape)
        z = loc + scale * noise  # (chunk, B, z_dim)
        log_w = logsigmoid(network.decoder(z) * sign).sum(-1) + 0.5 * (noise.square() - z.square()).sum(-1)
        total = torch.logaddexp(total, log_w.logsumexp(0))
    return total + half_logdet - math.log(K)


def by_us(mode: Mode, number: int) -> Workload:
    """`inference.log_likelihood`."""
    torch.manual_seed(0)
    pair, x = burda(), images(number)[1]
    return Workload(lambda i: evaluate(mode, pair, x, DRAWS), units=number)


def table(settings: Settings) -> str:
    """Milliseconds per image, images per second, and the ratio to the floor."""
    number = 20 if settings.quick else 1000 if settings.full else 100
    rows = [
        Row(FLOOR, "benchmarks.floor:decoder", {"K": DRAWS}, warmup=20),
        Row(HAND, "benchmarks.evaluation:by_hand", {"number": number}),
        *(Row(n, "benchmarks.evaluation:by_us", {"mode": m, "number": number}) for n, m in MODES.items()),
    ]
    rounds = min(settings.rounds, 2 if settings.full else 5)
    results = measure(wanted(rows, settings), rounds, settings.ms)
    found = compare(results, [(None, FLOOR), (None, HAND)], what="ms per image", losses=False)
    said = f"{number} {images(1)[0]} a call, {DRAWS:,} draws each, batches of {BATCH}, random weights, {rounds} rounds."
    return "\n\n".join([said, found, per_second(results), rate(results[FLOOR]) if FLOOR in results else ""]).rstrip()


def per_second(results: Results) -> str:
    """Images per second of each."""
    measured = {name: result for name, result in results.items() if not result.reason}
    rates = [f"{name} {digits(1e3 / result.spread().middle)}" for name, result in measured.items()]
    return f"Images per second: {'; '.join(rates)}."
