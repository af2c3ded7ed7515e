"""What a training step costs: Burda's one-layer pair, ours against Pyro's SVI, in one interleaved run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import pyro
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from guides import AmortizedNormal
from inference.bounds import ELBO, IWAE
from inference.objectives import Variational
from inference.optim import adam
from inference.pair import Pair
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal
from ppmodels.vae import VAE

ROUNDS, STEPS = 15, 20


def burda() -> tuple[nn.Module, nn.Module]:
    """784-200-200-50 tanh, both ways."""
    model = VAE(StandardNormal(50), ConditionalBernoulli(MLP(50, (200, 200)), 784))
    return model, AmortizedNormal(ConditionalNormal(MLP(784, (200, 200)), 50))


def ours(K: int, x: Tensor) -> Callable[[], object]:
    """A phase with its parts, the check of the gradient's norm, and a fused Adam, as `fit` steps them."""
    model, guide = burda()
    objective = Variational(ELBO() if K == 1 else IWAE(), num_particles=K)
    phase = objective.task(Pair(model, guide), x).phases[0]
    parameters = list(phase.parameters.values())
    optimizer, step = adam(1e-3)(parameters), torch.zeros(())

    def update() -> None:
        loss = phase.loss(x, step).loss
        gradients = torch.autograd.grad(loss, parameters)
        assert bool(torch.isfinite(loss + get_total_norm(gradients)))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    return update


def pyros(K: int, x: Tensor) -> Callable[[], object]:
    """`SVI.step` with validation off, on the same pair."""
    model, guide = burda()
    registered = [partial(_registered, name, module) for name, module in (("model", model), ("guide", guide))]
    loss = (
        Trace_ELBO() if K == 1 else RenyiELBO(alpha=0, num_particles=K, vectorize_particles=True, max_plate_nesting=1)
    )
    svi = SVI(*registered, pyro.optim.Adam({"lr": 1e-3}), loss)
    return lambda: svi.step(x)


def _registered(name: str, module: nn.Module, x: Tensor) -> object:
    pyro.module(name, module)
    return module(x)


def measure(K: int, batch: int) -> str:
    """One row: median milliseconds of each and the ratio, with quartiles over interleaved rounds."""
    x = torch.bernoulli(torch.full((batch, 784), 0.3))
    steps = {"ours": ours(K, x), "SVI": pyros(K, x)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(ROUNDS + 2):
        for name, step in steps.items() if round_ % 2 else reversed(steps.items()):
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            times[name].append((time.perf_counter() - start) / STEPS * 1e3)
    ratios = [a / b for a, b in zip(times["ours"][2:], times["SVI"][2:], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    ours_ms, svi_ms = (statistics.median(times[name][2:]) for name in ("ours", "SVI"))
    return f"| {batch} | {K} | {ours_ms:.2f} | {svi_ms:.2f} | {middle:.2f} [{low:.2f}, {high:.2f}] |"


def main() -> str:
    """A Markdown table."""
    torch.set_num_threads(1)
    pyro.enable_validation(is_validate=False)
    pyro.clear_param_store()
    rows = [measure(K, batch) for batch, K in ((100, 1), (20, 1), (100, 5), (100, 50))]
    head = ["| batch | K | ours, ms | Pyro SVI, ms | ours / SVI [quartiles] |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


if __name__ == "__main__":
    print(main())
