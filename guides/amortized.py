"""A guide is conditionals on a chain of sites; this is the chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pyro
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import TransformedDistribution, biject_to, constraints

from ppmodels.conditionals import check_fits, layer_sites
from ppmodels.distributions import as_vector, is_real
from ppmodels.observed import check_data

__all__ = ["Amortized"]


class Amortized(nn.Module):
    r"""A recognition model, :math:`q(z \mid x) = q(z_1 \mid x) \prod_{l>1} q(z_l \mid z_{l-1})`.

    Sites: `z`, or `z1`, `z2`, ... from the data up, of shape `(n, z_dim)`, the same as the model's. Plate:
    `data`, dimension -1; under plates further left latents get their dimensions too. The guides with a family
    in their name are this one, set up.

    Arguments:
        layers: the conditionals :math:`q(z_1 \mid x)`, :math:`q(z_2 \mid z_1)`, ... of any kinds, in the
            order they are drawn.
        sites: their sites, where those of the model are not called `z` or `z1`, `z2`, ...
        supports: where each latent lives, all on the real line where not given. A conditional on the real
            line is carried to another support by `biject_to`.

    Raises:
        TypeError: a layer is no module.
        ValueError: there is no layer, layers do not chain, or names or supports are not as many.

    Example:
        >>> import torch
        >>> from ppmodels.conditionals import ConditionalFlow, ConditionalNormal
        >>> from ppmodels.nets import MLP
        >>> guide = Amortized([ConditionalFlow(MLP(784), 20), ConditionalNormal(MLP(20, (50,)), 5)])
        >>> guide.sites, guide(torch.zeros(32, 784)).shape
        (('z1', 'z2'), torch.Size([32, 5]))
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        *,
        sites: Sequence[str] | None = None,
        supports: Sequence[constraints.Constraint] | None = None,
    ) -> None:
        super().__init__()
        self.sites = layer_sites(len(layers)) if sites is None else tuple(sites)
        self.supports = (constraints.real,) * len(layers) if supports is None else tuple(supports)
        for name, given in {"sites": self.sites, "supports": self.supports}.items():
            if len(given) != len(layers) or not layers:
                raise ValueError(f"`layers` and `{name}` go in pairs, at least one, got {len(layers)} and {len(given)}")
        source, size = "x", None
        for i, (layer, support) in enumerate(zip(layers, self.supports, strict=True)):
            check_fits(f"layers[{i}]", layer, source, size)
            source, size = f"layers[{i}]", _carried_size(getattr(layer, "out_features", None), support)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Draws the latents of `x`, `(n, x_dim)`; returns the top one."""
        check_data(x)
        z = x
        with pyro.plate("data", len(x), dim=-1):
            for site, layer, support in zip(self.sites, self.layers, self.supports, strict=True):
                z = pyro.sample(site, _carry(as_vector(layer(z)), support))  # (..., n, z_dim)
        return z


class _Carried(TransformedDistribution):
    """A distribution on the real line, carried to `support`; a draw remembers where it came from."""

    def __init__(self, base: TorchDistribution, support: constraints.Constraint) -> None:
        super().__init__(base, [biject_to(support).with_cache(1)])
        self._support = constraints.independent(support, 1 - support.event_dim)

    @property
    def support(self) -> constraints.Constraint:  # torch takes the last transform's, which may be wider
        return self._support

    def expand(self, batch_shape: Any, _instance: Any = None) -> _Carried:
        new = _instance or type(self).__new__(type(self))
        super().expand(batch_shape, new)  # type: ignore[no-untyped-call]
        new._support = self._support
        return cast(_Carried, new)


def _carry(q: TorchDistribution, support: constraints.Constraint) -> TorchDistribution:
    """Leaves a distribution where it is on the real line, so that a closed-form divergence is found."""
    return q if is_real(support) else as_vector(_Carried(q, support))


def _carried_size(size: int | None, support: constraints.Constraint) -> int | None:
    return None if size is None else int(biject_to(support).forward_shape((size,))[0])  # simplex: one more
