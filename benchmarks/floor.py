"""The floor of a step and of an evaluation: their matrix products alone, in their own shapes, and Adam.

Every product is repeated with its operands in cache and its result preallocated, so that no program that does the same
arithmetic with the same library can be faster; what a step needs besides (noise, tanh, logits) is not in it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.gpu import captured, synchronised
from benchmarks.hand import HIDDEN, Burda, X, Z
from benchmarks.harness import Result, Row, Settings, measure, wanted
from benchmarks.steps import CASES, HAND, INDUCTOR, SCAN, rows
from benchmarks.tables import compare
from benchmarks.workload import Workload, fastest

REPEATS = 10
PRODUCTS, FLOOR = "matrix products", "floor: matrix products and Adam"


def step(batch: int, K: int, *, adam: bool, device: str = "cpu") -> Workload:
    """The products of a forward and a backward pass, and one update of all parameters."""
    rows, flops = batch * K, 0
    layers = [(batch, X, HIDDEN), (batch, HIDDEN, HIDDEN), (batch, HIDDEN, Z), (batch, HIDDEN, Z)]
    layers += [(rows, Z, HIDDEN), (rows, HIDDEN, HIDDEN), (rows, HIDDEN, X)]
    work: list[Callable[[], object]] = []
    for i, (n, fan_in, fan_out) in enumerate(layers):
        products = layer(n, fan_in, fan_out, device)
        work += products if i else products[:2]  # the data want no gradient
        flops += 2 * n * fan_in * fan_out * (3 if i else 2)
    if adam:
        work.append(update(Burda().to(device)))

    def run() -> None:
        for repeated in work:
            for _ in range(REPEATS):
                repeated()

    notes = {"MFLOP": flops / 1e6}
    if device == "cuda":  # one graph, or launching would be timed
        replay = captured(run)
        return synchronised(Workload(lambda i: replay(), units=REPEATS, notes=notes), calls=1)
    return Workload(lambda i: run(), units=REPEATS, notes=notes)


def layer(n: int, fan_in: int, fan_out: int, device: str = "cpu") -> list[Callable[[], Tensor]]:
    """Forward, gradient of the weight, gradient of the input."""
    x, g, w, b = (
        torch.randn(shape, device=device) for shape in ((n, fan_in), (n, fan_out), (fan_out, fan_in), fan_out)
    )
    y, dw, dx = torch.empty_like(g), torch.empty_like(w), torch.empty_like(x)
    return [
        lambda: torch.addmm(b, x, w.t(), out=y),
        lambda: torch.mm(g.t(), x, out=dw),
        lambda: torch.mm(g, w, out=dx),
    ]


def update(network: nn.Module) -> Callable[[], object]:
    """A step of fused Adam over the network's parameters."""
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    on_gpu = next(network.parameters()).is_cuda
    return torch.optim.Adam(network.parameters(), lr=1e-3, fused=True, capturable=on_gpu).step


def decoder(K: int) -> Workload:
    """The decoder's forward products for K draws of one image, at the best of several numbers of rows."""
    rows = fastest((500, 1000, 2500, 5000, 10_000), lambda rows: _decoder(rows, K))
    return _decoder(rows, K)


def _decoder(rows: int, K: int) -> Workload:
    shapes = ((Z, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, X))
    work = [layer(rows, *shape)[0] for shape in shapes]
    repeats = max(1, 20_000 // rows)

    def call(i: int) -> None:
        for product in work:
            for _ in range(repeats):
                product()

    flops = 2 * K * sum(fan_in * fan_out for fan_in, fan_out in shapes)
    return Workload(call, units=repeats * rows / K, notes={"MFLOP": flops / 1e6, "rows": rows})


def table(settings: Settings) -> str:
    """What the step at b=100 K=1 takes over its floor."""
    size = CASES[0]._asdict()
    floors = [
        Row(PRODUCTS, "benchmarks.floor:step", size | {"adam": False}, warmup=50),
        Row(FLOOR, "benchmarks.floor:step", size | {"adam": True}, warmup=50),
    ]
    others = [row for row in rows(CASES[0]) if row.name in (HAND, INDUCTOR, SCAN)]
    results = measure([*floors, *wanted(others, settings)], settings.rounds, settings.ms)
    return f"{CASES[0]}:\n\n{compare(results, [(None, FLOOR)], what='ms', losses=False)}\n\n{rate(results[PRODUCTS])}"


def rate(products: Result) -> str:
    """How fast the machine multiplies."""
    if products.reason:
        return ""
    mflop = products.head["notes"]["MFLOP"]
    return f"The products are {mflop:,.1f} MFLOP, at {mflop / products.spread().middle:.0f} GFLOP/s."
