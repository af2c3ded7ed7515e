r"""The ELBO with a floor under the KL of some sites, so that a latent may say something before it costs anything.

.. math:: \text{loss} = -\frac1n \sum_i \mathcal{L}_i + \sum_s \max(\lambda_s - \mathrm{KL}_s, 0), \qquad
    \mathrm{KL}_s = \frac1n \sum_i \mathrm{KL}_s(x_i)

The mean over the batch counts and not each datum's own: a latent is free to tell some data apart and not others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inference.bounds import ELBO
from inference.closed_form import closed_form_sites
from inference.estimators import Setting
from inference.objectives import LossParts, Phase, Task, Variational
from inference.pair import Pair, first_tensor
from inference.seeds import seeded
from ppmodels.contracts import Batch

__all__ = ["FreeBits"]


@dataclass(frozen=True)
class FreeBits:
    r"""Maximise an ELBO in which the KL of a site counts for no less than its floor.

    Below the floor the site's KL has no gradient. Minus the loss is a lower bound on the mean of log p(x) still, and
    what is scored on validation data is the ELBO itself.

    Attributes:
        floors: :math:`\lambda_s > 0` by latent site, nats per datum.
        bound: the ELBO; with `kl="analytic"` a floor is under the closed form, where a site has one.
        num_particles: K.

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, *Improving Variational Inference with Inverse
        Autoregressive Flow*, 2016, arXiv 1606.04934, appendix C.8.
        Dilokthanakul et al., *Deep Unsupervised Clustering with Gaussian Mixture Variational Autoencoders*, 2016, arXiv
        1611.02648, version 2, for a floor under the KL of a cluster.

    >>> import pyro, pyro.distributions as dist
    >>> from functools import partial
    >>> from inference.fit import fit
    >>> class Idle(torch.nn.Module):  # of a latent that the data know nothing of
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.loc = torch.nn.Parameter(torch.tensor(3.0))
    ...     def model(self, x):
    ...         with pyro.plate("data", len(x)):
    ...             pyro.sample("z", dist.Normal(0.0, 1.0))
    ...             pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
    ...     def guide(self, x):
    ...         with pyro.plate("data", len(x)):
    ...             pyro.sample("z", dist.Normal(self.loc, 1.0))
    >>> idle, sgd = Idle(), partial(torch.optim.SGD, lr=0.01)
    >>> objective = FreeBits({"z": 2.0}, ELBO(kl="analytic"))
    >>> fitted = fit(idle.model, idle.guide, torch.zeros(10), objective, steps=100, optimizer=sgd)
    >>> round(idle.loc.item(), 1)  # down to KL = loc ** 2 / 2 = 2, and no further
    2.0
    """

    floors: Mapping[str, float]
    bound: ELBO = field(default_factory=ELBO)
    num_particles: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.bound, ELBO):
            raise TypeError(f"`bound` is {self.bound!r}, expected ELBO(): no other is a likelihood less a KL")
        if not self.floors:
            raise ValueError("`floors` is empty, expected a site with its floor: without any, use Variational()")
        for site, floor in self.floors.items():
            if not 0 < floor < math.inf:
                raise ValueError(f"`floors` has {floor} for site `{site}`, expected nats per datum above 0")

    def task(self, pair: Pair, batch: Batch) -> Task:
        """The one phase of the ELBO, with the floors; refuse a site that has no KL of its own."""
        plain = Variational(self.bound, self.num_particles).task(pair, batch)
        assert plain.layout is not None
        analytic = closed_form_sites(pair, batch, plain.layout) if self.bound.kl == "analytic" else ()
        setting = Setting(pair, plain.layout, self.bound, self.num_particles, analytic)
        with seeded(None, first_tensor(batch).device), pair.mode(training=False), torch.no_grad():
            known = setting.weigh(batch, keep_scale=True).kl
        for site in self.floors:
            if site not in known:
                names = ", ".join(f"`{name}`" for name in known)
                raise ValueError(
                    f"`floors` has `{site}`, expected a site that the guide samples ({names}): what the model sums "
                    "out has no KL of its own"
                )

        def loss(batch: Batch, step: Tensor) -> LossParts:
            weights = setting.weigh(batch, keep_scale=True)
            kl = {site: value.mean() for site, value in {**weights.kl, **weights.analytic_kl}.items()}
            lift = torch.stack([(floor - kl[site]).clamp(min=0.0) for site, floor in self.floors.items()]).sum()
            value = lift - self.bound(weights).mean()
            parts = {f"kl_{site}": mean.detach() for site, mean in kl.items()}
            return LossParts(value, {"loss": value.detach(), "floor": lift.detach()} | parts)

        phase = Phase("bound", plain.phases[0].parameters, loss)
        return Task((phase,), plain.score, plain.layout)
