r"""A mixture of ten categories summed out exactly: marginalised by hand, and by our engine from the Pyro story.

Two stories, since the sum costs nothing where the category only picks a prior, and ten decoders where it feeds one:

.. math:: p(y)\, p(z \mid y)\, p(x \mid z) \qquad \text{and} \qquad p(y)\, p(z)\, p(x \mid z, y)

Both with the guide :math:`q(z \mid x)`; `y` is enumerated in the model. Each story stands beside its own marginal, and
the two give the same number under the same draw.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from benchmarks.hand import Decoder, Encoder, Z, batches, log_bernoulli, trained
from benchmarks.harness import Row, Settings, measure, wanted
from benchmarks.ours import encoder, ours, resident
from benchmarks.steps import HAND, INDUCTOR, MODES, RATIOS
from benchmarks.tables import compare, target
from benchmarks.workload import Workload
from inference.graph import Mode
from inference.pair import Pair

CATEGORIES, BATCH = 10, 100
LIMIT = 0.90  # asked of inductor against the hand-written step, for the decoder's story


class Mixture(nn.Module, ABC):
    """A story with an enumerated site `y`, and the same density with `y` summed out by hand."""

    @abstractmethod
    def forward(self, x: Tensor) -> None:
        """The Pyro story."""

    @abstractmethod
    def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x, z), `(B,)`."""

    def category(self, x: Tensor) -> Tensor:
        """y, as many values at once as there are categories where it is enumerated."""
        prior = dist.Categorical(logits=x.new_zeros(CATEGORIES))
        y: Tensor = pyro.sample("y", prior, infer={"enumerate": "parallel"})
        return y


class PriorMixture(Mixture):
    """p(y) p(z|y) p(x|z)"""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.randn(CATEGORIES, Z))
        self.log_scale = nn.Parameter(torch.zeros(CATEGORIES, Z))
        self.decoder = Decoder()

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = self.category(x)
            z = pyro.sample("z", dist.Normal(self.loc[y], self.log_scale[y].exp()).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        residual = (z - self.loc[:, None]) * (-self.log_scale[:, None]).exp()  # (categories, B, z_dim)
        log_p_z = log_normal(residual, self.log_scale[:, None]).logsumexp(0) - math.log(CATEGORIES)
        return log_p_z + log_bernoulli(self.decoder(z), x)


class DecoderMixture(Mixture):
    """p(y) p(z) p(x|z,y)"""

    one_hot: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.decoder = Decoder(Z + CATEGORIES)
        self.register_buffer("one_hot", torch.eye(CATEGORIES))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = self.category(x)
            z = pyro.sample("z", dist.Normal(x.new_zeros(Z), x.new_ones(Z)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.logits(z, self.one_hot[y])).to_event(1), obs=x)

    def log_joint(self, z: Tensor, x: Tensor) -> Tensor:
        logits = self.logits(z, self.one_hot[:, None])  # (categories, B, x_dim)
        log_p_x = log_bernoulli(logits, x).logsumexp(0) - math.log(CATEGORIES)
        return log_p_x + log_normal(z, z.new_zeros(Z))

    def logits(self, z: Tensor, y: Tensor) -> Tensor:
        """The decoder on both, each repeated along the other's axes."""
        shape = torch.broadcast_shapes(z.shape[:-1], y.shape[:-1])
        return self.decoder(torch.cat([z.expand(*shape, Z), y.expand(*shape, CATEGORIES)], -1))


STORIES: dict[str, type[Mixture]] = {"prior": PriorMixture, "decoder": DecoderMixture}


def log_normal(residual: Tensor, log_scale: Tensor) -> Tensor:
    """Summed over the last axis; `residual` is in units of the scale."""
    return (-0.5 * residual * residual - log_scale).sum(-1) - 0.5 * residual.shape[-1] * math.log(2 * math.pi)


def by_hand(story: str) -> Workload:
    """The hand-marginalised bound, eager."""
    torch.manual_seed(0)
    model, guide = STORIES[story](), Encoder()

    def loss(x: Tensor) -> Tensor:
        loc, log_scale = guide(x)
        noise = torch.randn_like(loc)
        z = loc + log_scale.exp() * noise
        return (log_normal(noise, log_scale) - model.log_joint(z, x)).mean()

    return trained(nn.ModuleList([model, guide]), loss, batches(BATCH), loss)


def training(story: str, mode: Mode) -> Workload:
    """The Pyro story in one of our modes."""
    torch.manual_seed(0)
    return resident(ours(mode, 1, BATCH, pair=Pair(STORIES[story](), encoder())), BATCH)


def rows(story: str) -> list[Row]:
    """By hand, and ours in each mode."""
    return [
        Row(HAND, "benchmarks.gmvae:by_hand", {"story": story}, warmup=60),
        *(Row(n, "benchmarks.gmvae:training", {"story": story, "mode": m}, warmup=60) for n, m in MODES.items()),
    ]


def table(settings: Settings) -> str:
    """Both stories; the target is for the second."""
    parts = []
    for story, model in STORIES.items():
        results = measure(wanted(rows(story), settings), settings.rounds, settings.ms)
        found = compare(results, RATIOS, what="ms per step")
        parts.append(f"{model.__doc__}, {CATEGORIES} categories, b={BATCH}:\n\n{found}")
    asked = target(results, INDUCTOR, HAND, LIMIT)
    return "\n\n".join([*parts, f"Target, {INDUCTOR} / {HAND} of the second: {asked}."])
