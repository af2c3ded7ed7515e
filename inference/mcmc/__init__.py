"""Markov chains over tensors: posteriors of any Pyro program with continuous latents, as trees for ArviZ.

| question | call |
|---|---|
| what is the posterior? | `sample`: by `chees`, many chains that adapt together, or by `nuts` or `nutpie` |
| what is the posterior of each datum's latents under a fitted pair? | `sample_latents` |
| is the sampler, or a guide, right on this program? | `sbc` |
"""

from inference.mcmc.latents import sample_latents
from inference.mcmc.sampling import sample
from inference.mcmc.sbc import sbc

__all__ = ["sample", "sample_latents", "sbc"]
