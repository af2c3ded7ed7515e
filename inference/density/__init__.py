"""A Pyro program's log density as a function of a vector and of the data, for many vectors at once.

| what | does |
|---|---|
| `FlatDensity` | the log density at one vector; what stands where in it; there and back |
| `Batched` | densities and gradients at many vectors, mapped over and checked against one at a time |
| `map_rows` | anything else that is read off the program, for many vectors |

Discrete sites of finite support are summed out, improper priors and supports that depend on other latents are right;
what would be silently wrong is refused by the name of the site.
"""

from inference.density.batched import Batched, map_rows, parts_of
from inference.density.flat import FlatDensity
from inference.density.inspection import Inspection
from inference.density.latent import Latent

__all__ = ["Batched", "FlatDensity", "Inspection", "Latent", "map_rows", "parts_of"]
