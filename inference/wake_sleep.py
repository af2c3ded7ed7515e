r"""Wake-sleep and reweighted wake-sleep: a model that learns from data, a guide that learns from data, dreams, or both.

With :math:`z_k \sim q_\phi(z \mid x)` and :math:`\tilde w_k = w_k / \sum_j w_j` of each datum by itself, all ascended:

==========  ==========================================================  ==============================================
part        gradient                                                    of
==========  ==========================================================  ==============================================
wake-theta  :math:`\sum_k \tilde w_k \nabla_\theta \log p_\theta`       the IWAE of K draws; the ELBO for K = 1
wake-phi    :math:`\sum_k \tilde w_k \nabla_\phi \log q_\phi`           :math:`-\mathrm{KL}(p(z \mid x) \| q)`, with a
                                                                        bias that falls as 1/K
sleep-phi   :math:`\nabla_\phi \log q_\phi(z^* \mid x^*)`,              :math:`-\mathrm{KL}(p(z \mid x) \| q)` over
            :math:`z^*, x^* \sim p_\theta`                              dreams in the place of data
==========  ==========================================================  ==============================================

Nothing follows the draws, so that they may be discrete, and no draw of the guide's is in a dream, so that every layer
of a deep guide learns from the layer below as the model drew it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from pyro import poutine
from torch import Tensor

from inference.bounds import IWAE
from inference.dreaming import Dreamer
from inference.estimators import ReweightedWakeSleep
from inference.estimators.base import Setting
from inference.estimators.replaying import weigh_detached
from inference.estimators.trial import buffers_kept
from inference.flags import validating
from inference.layout import Layout
from inference.objectives import LossParts, Phase, Task, Variational
from inference.pair import Pair, call, first_tensor, size_of
from inference.particles import site_log_prob, trace_of
from inference.seeds import seeded
from inference.simulate import simulate
from inference.sites import sample_sites
from ppmodels.contracts import Batch

__all__ = ["WakeSleep"]


@dataclass(frozen=True)
class WakeSleep:
    r"""Two phases for any pair whose model and guide have parameters of their own; discrete latents are welcome.

    ====================================  ==========================================================================
    `WakeSleep()`                         wake-sleep (Hinton et al. 1995): "wake" moves the model, "sleep" the guide
    `WakeSleep(5, wake=1, sleep=0)`       reweighted, wake-phi: "wake" moves both, on the same five draws
    `WakeSleep(5, wake=0, sleep=1)`       reweighted for the model; the guide learns from dreams alone
    `WakeSleep(5, wake=0.5, sleep=0.5)`   both: one gradient of the guide, the sum, in one phase "wake-sleep"
    ====================================  ==========================================================================

    Where both move the guide and `sleep_every` is more than one, sleep is an update of its own, as in the authors'
    code; weights then scale gradients, to which Adam is blind: give `fit` an optimiser for each phase by its name.
    A model without parameters is left to dream, and the guide learns to invert it (inference compilation).

    The loss of "wake" is minus the IWAE bound of K draws, that of "sleep" minus :math:`\log q(z^* \mid x^*)`; the score
    of validation data is the bound. Batches may be of any size: weights are normalised for each datum.

    Attributes:
        num_particles: K.
        wake: the weight of wake-phi in the guide's gradient; 0 for none.
        sleep: the weight of sleep-phi; 0 for none. A dream is drawn for each datum of a batch.
        sleep_every: updates from one sleep to the next.
        vectorize: run particles in one outer plate; `None` decides by trying.

    Raises:
        ValueError: if an argument is out of range, or a pair cannot be trained so, by site or parameter.

    References:
        Hinton, Dayan, Frey and Neal, *The "Wake-Sleep" Algorithm for Unsupervised Neural Networks*, 1995, Science 268.
        Bornschein and Bengio, *Reweighted Wake-Sleep*, 2015, arXiv 1406.2751. Le, Kosiorek, Siddharth, Teh and Wood,
        *Revisiting Reweighted Wake-Sleep for Models with Stochastic Control Flow*, 2019, arXiv 1805.10469.

    >>> import pyro, pyro.distributions as dist
    >>> from inference.fit import fit
    >>> from inference.optim import adam
    >>> class Coin(torch.nn.Module):  # a hidden bit, a noisy copy of it
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.logit = torch.nn.Parameter(torch.zeros(()))
    ...     def forward(self, x):
    ...         with pyro.plate("data", len(x)):
    ...             z = pyro.sample("z", dist.Bernoulli(logits=self.logit))
    ...             pyro.sample("x", dist.Bernoulli(0.1 + 0.8 * z), obs=x)
    >>> class Guess(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.logits = torch.nn.Parameter(torch.zeros(2))
    ...     def forward(self, x):
    ...         with pyro.plate("data", len(x)):
    ...             pyro.sample("z", dist.Bernoulli(logits=self.logits[x.long()]))
    >>> coin, guess, x = Coin(), Guess(), torch.tensor([1.0, 1.0, 1.0, 0.0])  # p(x = 1) is 0.75, so p(z = 1) 0.81
    >>> fitted = fit(coin, guess, x.repeat(100), WakeSleep(), steps=600, optimizer={
    ...     "wake": adam(0.01), "sleep": adam(0.02)})
    >>> abs(coin.logit.sigmoid().item() - 0.8125) < 0.05
    True
    """

    num_particles: int = 1
    wake: float = 0.0
    sleep: float = 1.0
    sleep_every: int = 1
    vectorize: bool | None = None

    def __post_init__(self) -> None:
        if self.num_particles < 1:
            raise ValueError(f"`num_particles` is {self.num_particles}, expected at least 1: each datum needs a draw")
        for name in ("wake", "sleep"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"`{name}` is {value}, expected the weight of a part of the guide's gradient, from 0")
        if not (self.wake or self.sleep):
            raise ValueError("`wake` and `sleep` are both 0, so nothing would train the guide: expected one to be more")
        if not isinstance(self.sleep_every, int) or self.sleep_every < 1:
            raise ValueError(f"`sleep_every` is {self.sleep_every}, expected a whole number of updates, at least 1")

    def task(self, pair: Pair, batch: Batch) -> Task:
        """Inspect the pair, tell the model's parameters from the guide's, and return the phases."""
        bound, estimator = IWAE(), ReweightedWakeSleep(weight=self.wake)
        whole = Variational(bound, self.num_particles, estimator=estimator, vectorize=self.vectorize).task(pair, batch)
        (climb,), layout = whole.phases, whole.layout
        assert layout is not None
        model, guide = _apart(Setting(pair, layout, bound, 1), batch, climb)
        wake = Phase("wake", model | (guide if self.wake else {}), climb.loss)
        if not self.sleep:
            return Task((wake,), whole.score, layout)
        if not guide:
            raise ValueError("the guide has no parameters to learn in its sleep: expected some, or `sleep=0, wake=1`")
        sleep = Phase("sleep", guide, _sleep(pair, batch, layout, self.sleep), every=self.sleep_every)
        if self.wake and self.sleep_every == 1:
            return Task((_together(wake, sleep),), whole.score, layout)
        return Task((wake, sleep) if wake.parameters else (sleep,), whole.score, layout)


def _sleep(pair: Pair, batch: Batch, layout: Layout, weight: float) -> Callable[[Batch, Tensor], LossParts]:
    """Minus what the guide makes of a dream: the loss of the sleep phase; refuse a model that cannot dream."""
    if layout.subsamples:
        raise ValueError(
            f"plate `{layout.data}` draws its own minibatch, and a dream must be all of one: take `subsample_size` off"
        )
    simulate(pair, batch)  # refuses, by site, what cannot be drawn and put in the place of data
    with seeded(None, first_tensor(batch).device), pair.mode(training=False), torch.no_grad():
        dreamer = Dreamer.of(pair, batch, layout)
        auxiliary = [site for site in sample_sites(pair.traces(batch)[0]) if site not in layout.latents]
    if auxiliary:
        raise ValueError(
            f"site `{auxiliary[0]}` is drawn by the guide alone, so no dream has a value for it: expected sites of the "
            "model, or `sleep=0, wake=1`"
        )

    def loss(batch: Batch, step: Tensor) -> LossParts:
        with validating(enabled=False):
            dream, latents = dreamer(batch)
            replayed = poutine.replay(lambda: call(pair.guide, dream), trace=trace_of(latents))
            sites = sample_sites(poutine.trace(replayed).get_trace())
        log_q = torch.stack([site_log_prob(site).sum() for site in sites.values()]).sum() / size_of(batch)
        return LossParts(-weight * log_q, {"loss": -log_q.detach()})

    return loss


def _together(wake: Phase, sleep: Phase) -> Phase:
    """Both in one phase: the guide has one gradient, and one optimiser."""

    def loss(batch: Batch, step: Tensor) -> LossParts:
        first, second = wake.loss(batch, step), sleep.loss(batch, step)
        total = first.loss + second.loss
        parts = {"wake": first.parts["loss"], "sleep": second.parts["loss"]}
        return LossParts(
            total, {"loss": total.detach(), **parts, **{k: first.parts[k] for k in first.parts if k != "loss"}}
        )

    return Phase("wake-sleep", wake.parameters, loss)


def _apart(setting: Setting, batch: Batch, phase: Phase) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters that log p depends on, and those that log q does; refuse one that is in both."""
    with seeded(None, first_tensor(batch).device), buffers_kept(setting.pair):
        weights = weigh_detached(setting, batch, 1)
    model, guide = (_reached_by(log_density, phase.parameters) for log_density in (weights.log_p, weights.log_q))
    if shared := model.keys() & guide.keys():
        raise ValueError(
            f"`{min(shared)}` is a parameter of model and guide, which learn by different objectives here: give each "
            "its own, or train with `Variational()`"
        )
    return model, guide


def _reached_by(value: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters that a value has a gradient for."""
    if not value.requires_grad:
        return {}
    slopes = torch.autograd.grad(value.sum(), list(parameters.values()), allow_unused=True, retain_graph=True)
    return {name: parameters[name] for name, slope in zip(parameters, slopes, strict=True) if slope is not None}
