r"""Two players: a discriminator learns to tell data from draws, and a generator to make draws it cannot tell.

With G(z) a draw and D(x) the discriminator's probability that x is a datum, the game has the value

.. math::
    V(D, G) = E_{p_{data}} \log D(x) + E_{p(z)} \log(1 - D(G(z)))

which the discriminator maximises and the generator minimises. Of a fixed generator with law :math:`p_G` the best
discriminator is :math:`D^* = p_{data} / (p_{data} + p_G)`, its logit the log of the ratio of the two densities, and

.. math::
    V(D^*, G) = -\log 4 + 2\, \mathrm{JSD}(p_{data} \| p_G)

so that the generator's only optimum is :math:`p_G = p_{data}`, where V is -1.3863 and D is 1/2 everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from inference.objectives import LossParts, Phase, Task
from inference.pair import Pair, first_tensor, no_guide
from inference.seeds import seeded
from ppmodels.contracts import Batch, Program

__all__ = ["Adversarial", "density_ratio"]


@dataclass(frozen=True)
class Adversarial:
    r"""Two phases, "discriminator" and "generator", for any sampler `generator(n=...)` and any `discriminator(x)`.

    The discriminator stands in the guide's place, `fit(generator, discriminator, data, Adversarial())`, and gives
    logits `(n,)`. Either phase draws fakes of its own, as many as the batch has data; those that the discriminator
    learns from carry no gradient. The generator's loss is one of two, with the same fixed point:

    ==========================  =====================================  ================================================
    `loss`                      minimised                              slope in a draw's logit
    ==========================  =====================================  ================================================
    `"non_saturating"`          :math:`-E \log D(G(z))`                :math:`-(1 - D)`: steep where a draw is found out
    `"minimax"`                 :math:`E \log(1 - D(G(z)))`            :math:`-D`: flat there
    ==========================  =====================================  ================================================

    The log has of the discriminator's phase `value` (V, whatever the smoothing), `real` (the mean of D over data) and
    `fake` (over draws), of the generator's its `loss` and `fake`, all in nats per datum or as probabilities. There is
    no density and so no score: judge the draws. A batch of several tensors counts for its first.

    Attributes:
        loss: the generator's, "non_saturating" or "minimax".
        smoothing: s, what the targets of data, and of data alone, fall short of 1; the best D is then
            :math:`(1 - s) p_{data} / (p_{data} + p_G)`.
        every: updates of the discriminator to one of the generator.
        noise: the scale of normal noise on all that the discriminator sees while it is trained, data and draws alike.
            The two laws of the game are then those of noisy data and noisy draws, which have the same optimum, and
            overlap from the start: no discriminator can tell them apart for sure. `density_ratio` is theirs, too.

    Raises:
        TypeError: generator or discriminator is not what a game needs.
        ValueError: an option is out of range, a player has no parameters or shares one, or shapes do not fit.

    References:
        Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville and Bengio, *Generative Adversarial
        Networks*, 2014, arXiv 1406.2661, algorithm 1. Salimans, Goodfellow, Zaremba, Cheung, Radford and Chen,
        *Improved Techniques for Training GANs*, 2016, arXiv 1606.03498, section 3.4, for the smoothing. Sønderby,
        Caballero, Theis, Shi and Huszár, *Amortised MAP Inference for Image Super-resolution*, 2017, arXiv 1610.04490,
        and Arjovsky and Bottou, *Towards Principled Methods for Training GANs*, 2017, arXiv 1701.04862, for the noise.

    >>> from torch import nn
    >>> from inference.fit import fit
    >>> from inference.optim import adam
    >>> class Shift(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.loc = nn.Parameter(torch.zeros(1))
    ...     def forward(self, *, n):
    ...         return self.loc + torch.randn(n, 1)
    >>> shift, critic = Shift(), nn.Sequential(nn.Linear(1, 1), nn.Flatten(0))
    >>> x, adam_of_both = 2 + torch.randn(1000, 1), adam(0.02)
    >>> game = fit(shift, critic, x, Adversarial(), epochs=20, optimizer=adam_of_both, mode="eager")
    >>> abs(shift.loc.item() - 2) < 1.5  # it was 2
    True
    """

    loss: str = "non_saturating"
    smoothing: float = 0.0
    every: int = 1
    noise: float = 0.0
    kind: ClassVar[str] = "implicit"

    def __post_init__(self) -> None:
        if self.loss not in ("non_saturating", "minimax"):
            raise ValueError(f'`loss` is {self.loss!r}, expected "non_saturating" or "minimax"')
        if not 0 <= self.smoothing < 1:
            raise ValueError(
                f"`smoothing` is {self.smoothing}, expected what targets fall short of 1, from 0 to below 1"
            )
        if not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"`every` is {self.every}, expected a whole number of updates, at least 1")
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"`noise` is {self.noise}, expected the scale of normal noise, 0 for none")

    def task(self, pair: Pair, batch: Batch) -> Task:
        """Look whether the two can play, and return both phases."""
        generator, discriminator = _parameters(pair, batch)
        _check_shapes(pair, first_tensor(batch))
        return Task(
            (
                Phase("discriminator", discriminator, partial(self._discriminate, pair)),
                Phase("generator", generator, partial(self._generate, pair), every=self.every),
            ),
            None,
        )

    def _discriminate(self, pair: Pair, batch: Batch, step: Tensor) -> LossParts:
        """Minus V, with the targets of data smoothed."""
        x = first_tensor(batch)
        with torch.no_grad():
            x_fake = pair.model(n=len(x))  # (n, x_dim)
        real, fake = pair.guide(self._noisy(x)), pair.guide(self._noisy(x_fake))  # (n,) each
        value = logsigmoid(real).mean() + logsigmoid(-fake).mean()  # eq. 1
        loss = -value
        if self.smoothing:
            loss = loss + self.smoothing * real.mean()  # log D - log(1 - D) is the logit
        found = {"loss": loss, "value": value, "real": real.sigmoid().mean(), "fake": fake.sigmoid().mean()}
        return LossParts(loss, {name: part.detach() for name, part in found.items()})

    def _generate(self, pair: Pair, batch: Batch, step: Tensor) -> LossParts:
        """What the generator minimises, on fakes that carry its gradient."""
        fake = pair.guide(self._noisy(pair.model(n=len(first_tensor(batch)))))  # (n,)
        loss = logsigmoid(-fake).mean() if self.loss == "minimax" else -logsigmoid(fake).mean()
        return LossParts(loss, {"loss": loss.detach(), "fake": fake.detach().sigmoid().mean()})

    def _noisy(self, x: Tensor) -> Tensor:
        """What the discriminator sees of x."""
        return x + self.noise * torch.randn_like(x) if self.noise else x


def density_ratio(discriminator: Program, x: Tensor) -> Tensor:
    r"""The discriminator's logit, in evaluation mode: :math:`\log p_{data}(x) - \log p_G(x)` at its optimum.

    So it is of one that was trained without smoothing and without noise, and only where data or draws lie: elsewhere
    nothing taught it.

    Args:
        discriminator: gives logits, `(n,)`.
        x: where to look, `(n, x_dim)`.

    Returns:
        The log of the ratio, `(n,)`, in nats, without gradient.

    Raises:
        TypeError: the discriminator gives no tensor.
        ValueError: what it gives is not `(n,)`.

    References:
        Goodfellow et al., *Generative Adversarial Networks*, 2014, arXiv 1406.2661, proposition 1.

    >>> density_ratio(lambda x: 2 * x[:, 0] - 1, torch.tensor([[0.0], [1.0]]))
    tensor([-1.,  1.])
    """
    with torch.no_grad(), Pair(discriminator, no_guide, modules_only=True).mode(training=False):
        return _logits(discriminator, x)


def _logits(discriminator: Program, x: Tensor) -> Tensor:
    """What the discriminator says, refused unless it is a logit per datum."""
    logits = discriminator(x)
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"the discriminator returns a {type(logits).__name__}, expected a tensor of logits, one a datum"
        )
    if logits.shape != (len(x),):
        raise ValueError(
            f"the discriminator returns shape {tuple(logits.shape)} for {len(x)} data, expected ({len(x)},), a logit "
            "for each: take off what is left of the last axis by `.squeeze(-1)` or `nn.Flatten(0)`"
        )
    return logits


def _parameters(pair: Pair, batch: Batch) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """The generator's parameters and the discriminator's; refuse a player who has none, and one who is both."""
    if pair.guide is no_guide:
        raise ValueError("`guide` is None, expected the discriminator, `fit(generator, discriminator, data, ...)`")
    modules = pair.modules()
    owned = {prefix: {id(value): name for name, value in m.named_parameters()} for prefix, m in modules.items()}
    shared = owned.get("model", {}).keys() & owned.get("guide", {}).keys()
    if shared or pair.guide is pair.model:
        name = min(owned["model"][key] for key in shared or owned["model"])
        raise ValueError(
            f"`{name}` is a parameter of generator and discriminator, which want the opposite: give each its own"
        )
    found = pair.parameters(batch)
    players = []
    for prefix, player in (("model", "generator"), ("guide", "discriminator")):
        players.append({name: value for name, value in found.items() if name.startswith(f"{prefix}.")})
        if not players[-1]:
            raise ValueError(f"the {player} has no parameters to learn, expected a module that has some")
    return players[0], players[1]


def _check_shapes(pair: Pair, x: Tensor) -> None:
    """Draw once and look once, in evaluation mode, and leave the random state as it was."""
    with seeded(None, x.device), pair.mode(training=False):
        try:
            x_fake = pair.model(n=len(x))
        except TypeError as error:
            raise TypeError(
                f"the generator cannot be called as `generator(n={len(x)})`, expected draws: {error}"
            ) from error
        if not isinstance(x_fake, Tensor):
            raise TypeError(f"the generator returns a {type(x_fake).__name__}, expected a tensor of draws")
        for what, drawn, wanted in (
            ("shape", tuple(x_fake.shape), tuple(x.shape)),
            ("dtype", x_fake.dtype, x.dtype),
            ("device", x_fake.device, x.device),
        ):
            if drawn != wanted:
                raise ValueError(f"the generator's draws have {what} {drawn}, expected {wanted}, as the data have")
        if not x_fake.requires_grad:
            raise ValueError(
                "the generator's draws carry no gradient, expected a smooth function of noise, with nothing discrete"
            )
        _logits(pair.guide, x)
