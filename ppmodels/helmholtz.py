"""The Helmholtz machine's generative side: layers of bits, each given the bits above it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from .conditionals import Conditional, ConditionalBernoulli
from .nets import MLP, Activation, check_size, check_sizes
from .priors import BernoulliPrior
from .vae import VAE

__all__ = ["SigmoidBeliefNetwork"]


class SigmoidBeliefNetwork(VAE):
    r"""Binary causes of binary causes of the data, a `VAE` set up.

    .. math:: p(x, z) = p(z_L) \prod_{l<L} \mathrm{Bernoulli}(z_l;\, \sigma(W_l z_{l+1} + b_l))\, p(x \mid z_1)

    Draws carry no gradient. Train with `inference.WakeSleep`, or with a bound and an estimator that needs none:
    `VIMCO`, `ScoreFunction`, `ThermodynamicCovariance`; the guide's side is a `MeanFieldBernoulli` or an
    `AutoregressiveBernoulli`.

    Sites: `z1`, `z2`, ... from the data up, of shape `(n, widths[l])`, `z` where there is one layer; `x` of shape
    `(n, x_dim)`. Plate: `data`, dimension -1.

    Arguments:
        x_dim: the length of a datum.
        widths: bits in each layer, from the data up: `(200, 200, 200)`, `(400, 300, 200, 100, 10)`.
        prior: of the top layer, anything that `as_prior` takes; independent bits, learned, where not given. A
            `NADEPrior` lets them depend on each other.
        likelihood: the conditional :math:`p(x \mid z_1)`; bits, where not given. A `HomoscedasticNormal` is for real
            data.
        logits: where the bias of bits of data starts, `(x_dim,)`: the data's own logit spares the first epochs.
        layer: what makes the conditional of a layer: `ConditionalBernoulli`, or `ConditionalNADE`, whose bits depend
            on each other too.
        hidden: widths of a net between two layers; the sigmoid belief network proper has none.
        activation: what makes a nonlinearity of that net.

    Raises:
        TypeError: a part is not of its kind.
        ValueError: there is no layer, a width is not positive, or parts do not fit each other.

    References:
        Connectionist Learning of Belief Networks (Neal, 1992)
        The Helmholtz Machine (Dayan, Hinton, Neal and Zemel, 1995)
        Reweighted Wake-Sleep (Bornschein and Bengio, 2015), arXiv:1406.2751, for deep ones, and autoregressive layers

    Example:
        >>> import torch
        >>> net = SigmoidBeliefNetwork(784, (200, 100))
        >>> net(n=16).shape, net.sites
        (torch.Size([16, 784]), ('z1', 'z2'))
    """

    def __init__(
        self,
        x_dim: int,
        widths: Sequence[int],
        *,
        prior: nn.Module | Distribution | Callable[[], Distribution] | None = None,
        likelihood: nn.Module | None = None,
        logits: Tensor | None = None,
        layer: Callable[[MLP, int], Conditional] = ConditionalBernoulli,
        hidden: Sequence[int] = (),
        activation: Activation = nn.Tanh,
    ) -> None:
        check_size("x_dim", x_dim)
        widths = check_widths(widths)
        if likelihood is not None and logits is not None:
            raise ValueError(
                "`logits` is the bias of bits, but a `likelihood` is given: set its own bias, or leave it out"
            )
        trunks = [MLP(width, hidden, activation) for width in widths]  # below z1, z2, ...
        super().__init__(
            BernoulliPrior(widths[-1]) if prior is None else prior,
            ConditionalBernoulli(trunks[0], x_dim, logits=logits) if likelihood is None else likelihood,
            layers=[layer(trunk, below) for trunk, below in zip(trunks[1:], widths[:-1], strict=True)][::-1],
        )


def check_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """The argument `widths`, refused unless it is one positive integer or more."""
    sizes = check_sizes("widths", widths)
    if not sizes:
        raise ValueError("`widths` is empty, expected the number of bits in each layer, from the data up")
    return sizes
