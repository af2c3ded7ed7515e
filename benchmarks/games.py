r"""A step of a game, one update of the discriminator and one of the generator: by hand, and by our engine.

.. math:: -\log D(x) - \log(1 - D(G(z))) \qquad \text{and} \qquad -\log D(G(z)),

each on fresh noise. By hand the discriminator sees data and draws in two calls (one of both together is a row of its
own), and has no gradient computed where the generator learns. The floor is the products of both updates and Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from benchmarks.floor import FLOOR, REPEATS, layer, update
from benchmarks.hand import X, batches, dense
from benchmarks.harness import Row, Settings, measure, wanted
from benchmarks.kinds import WARMUP, in_modes, our_step
from benchmarks.steps import HAND, INDUCTOR, REPLAY
from benchmarks.tables import compare, target
from benchmarks.workload import Workload
from inference.adversarial import Adversarial
from inference.graph import Mode
from inference.optim import adam
from inference.pair import Pair
from ppmodels.gan import GAN, Discriminator, paper_gan
from ppmodels.nets import MLP, head
from ppmodels.priors import StandardNormal

BATCH, NOISE, LIMIT = 100, 100, 0.9
TOGETHER = "hand-written eager, data and draws in one call"
CASES = {
    "small": "100-256-256-784 ReLU, sigmoid, against 784-256-256-1 leaky ReLU",
    "paper": "100-1200-1200-784 ReLU, sigmoid, against two layers of 240 maxout units of 5 pieces, dropout 0.2 and 0.5",
}


class Maxout(nn.Module):
    """240 units, each the largest of five linear maps."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.maps = small_linear(in_features, 1200, 0.005)

    def forward(self, x: Tensor) -> Tensor:
        largest: Tensor = self.maps(x).view(len(x), 240, 5).max(-1).values
        return largest


class Game(nn.Module):
    """Both players, as one would write them in PyTorch alone."""

    def __init__(self, case: str) -> None:
        super().__init__()
        self.generator, self.discriminator = PLAYERS[case]()
        self.uniform = case == "paper"

    def draw(self, n: int) -> Tensor:
        """G(z), `(n, 784)`."""
        z = torch.rand(n, NOISE).sub_(0.5).mul_(2 * 3**0.5) if self.uniform else torch.randn(n, NOISE)
        drawn: Tensor = self.generator(z)
        return drawn

    def discriminate(self, x: Tensor, *, together: bool = False) -> Tensor:
        """The discriminator's loss, minus V."""
        with torch.no_grad():
            fake = self.draw(len(x))
        if together:
            real, fake = self.discriminator(torch.cat([x, fake])).chunk(2)
        else:
            real, fake = self.discriminator(x), self.discriminator(fake)
        return softplus(-real).mean() + softplus(fake).mean()

    def generate(self, n: int) -> Tensor:
        """The generator's loss."""
        return softplus(-self.discriminator(self.draw(n))).mean()


def small_players() -> tuple[nn.Module, nn.Module]:
    """Two layers of 256 each."""
    widths = (256, 256)
    generator = nn.Sequential(
        dense(NOISE, widths[0]), nn.ReLU(), dense(*widths), nn.ReLU(), dense(widths[1], X), nn.Sigmoid()
    )
    discriminator = nn.Sequential(
        dense(X, widths[0]), nn.LeakyReLU(0.2), dense(*widths), nn.LeakyReLU(0.2), dense(widths[1], 1)
    )
    return generator, discriminator


def paper_players() -> tuple[nn.Module, nn.Module]:
    """The pair of Goodfellow et al. (2014)."""
    first, second, last = (small_linear(*size, 0.05) for size in ((NOISE, 1200), (1200, 1200), (1200, X)))
    generator = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last, nn.Sigmoid())
    maxout = [nn.Dropout(0.2), Maxout(X), nn.Dropout(0.5), Maxout(240), nn.Dropout(0.5), small_linear(240, 1, 0.005)]
    return generator, nn.Sequential(*maxout)


def small_linear(in_features: int, out_features: int, size: float) -> nn.Linear:
    """A linear layer with uniform weights and no bias yet."""
    layer = nn.Linear(in_features, out_features)
    nn.init.uniform_(layer.weight, -size, size)
    nn.init.zeros_(layer.bias)
    return layer


PLAYERS: dict[str, Callable[[], tuple[nn.Module, nn.Module]]] = {"small": small_players, "paper": paper_players}


def by_hand(case: str, *, together: bool = False) -> Workload:
    """Both updates, by fused Adam."""
    torch.manual_seed(0)
    game, data = Game(case), batches(BATCH)
    players = game.discriminator, game.generator
    of_discriminator, of_generator = (torch.optim.Adam(p.parameters(), lr=2e-4, fused=True) for p in players)

    def step(i: int) -> None:
        x = data[i % len(data)]
        of_discriminator.zero_grad(set_to_none=True)
        game.discriminate(x, together=together).backward()
        of_discriminator.step()
        game.discriminator.requires_grad_(False)
        of_generator.zero_grad(set_to_none=True)
        game.generate(len(x)).backward()
        of_generator.step()
        game.discriminator.requires_grad_(True)

    return Workload(step, loss=lambda: game.discriminate(data[0]).item())


def players(case: str) -> tuple[GAN, Discriminator]:
    """The same nets of ours."""
    if case == "paper":
        return paper_gan(X)
    trunk = MLP(NOISE, (256, 256), nn.ReLU)
    generator = GAN(StandardNormal(NOISE), nn.Sequential(trunk, head(trunk, X), nn.Sigmoid()))
    return generator, Discriminator(MLP(X, (256, 256), partial(nn.LeakyReLU, 0.2)))


def training(case: str, mode: Mode) -> Workload:
    """Ours in one of our modes, by the same Adam."""
    torch.manual_seed(0)
    generator, discriminator = players(case)
    data, objective = batches(BATCH), Adversarial()
    phase, _ = objective.task(Pair(generator, discriminator, modules_only=True), data[0]).phases
    loss = lambda: phase.loss(data[0], torch.zeros(())).loss.item()  # noqa: E731
    return our_step(generator, discriminator, objective, data, mode, adam(2e-4), loss)


def products(case: str) -> Workload:
    """The products of both updates, in their own shapes, and one update of either player by Adam."""
    game, work = Game(case), list[Callable[[], object]]()
    generator, discriminator = (_sizes(player) for player in (game.generator, game.discriminator))
    flops = 0
    # forward, gradient of the weight, gradient of the input; the first layer's input wants none unless it is a draw
    both = [(generator, (1, 0, 0)), (discriminator, (2, 2, 2)), (generator, (1, 1, 1)), (discriminator, (1, 0, 1))]
    for place, (sizes, counts) in enumerate(both):
        for i, size in enumerate(sizes):
            wanted_of_input = i > 0 or place == 3
            for product, count in zip(layer(BATCH, *size), (*counts[:2], counts[2] * wanted_of_input), strict=True):
                work += [product] * count
                flops += 2 * BATCH * size[0] * size[1] * count
    work += [update(game.discriminator), update(game.generator)]

    def call(i: int) -> None:
        for repeated in work:
            for _ in range(REPEATS):
                repeated()

    return Workload(call, units=REPEATS, notes={"MFLOP": flops / 1e6})


def _sizes(player: nn.Module) -> list[tuple[int, int]]:
    return [(each.in_features, each.out_features) for each in player.modules() if isinstance(each, nn.Linear)]


def rows(case: str) -> list[Row]:
    """The floor, by hand in two ways, and ours in each mode."""
    floor = Row(FLOOR, "benchmarks.games:products", {"case": case}, warmup=WARMUP)
    hand = Row(HAND, "benchmarks.games:by_hand", {"case": case}, warmup=WARMUP)
    together = Row(TOGETHER, "benchmarks.games:by_hand", {"case": case, "together": True}, warmup=WARMUP)
    return [floor, hand, together, *in_modes("benchmarks.games:training", case=case)]


def table(settings: Settings) -> str:
    """One table a case, then the targets."""
    parts = []
    for case, said in CASES.items():
        if settings.cases and case not in settings.cases:
            continue
        results = measure(wanted(rows(case), settings), settings.rounds, settings.ms)
        asked = "; ".join(f"{mine} / {HAND}: {target(results, mine, HAND, LIMIT)}" for mine in (INDUCTOR, REPLAY))
        parts += [
            f"{case}, {said}, b={BATCH}; the loss is the discriminator's:",
            compare(results, [(None, HAND), (None, FLOOR)], what="ms per step"),
            f"Targets: {asked}.",
        ]
    return "\n\n".join(parts)
