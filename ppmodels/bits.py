"""Bits given a vector that depend on each other too."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution

from .conditionals import Conditional, head_at
from .nade import NADELaw
from .nets import Trunk, head, nade_weights

__all__ = ["ConditionalNADE"]


class ConditionalNADE(Conditional):
    r"""Bits that depend on each other given a vector, :math:`p(y \mid h) = \operatorname{NADE}(y;\, b, c, W, V)`.

    .. math:: b = b_0 + B f(h), \qquad c = c_0 + C f(h)

    The input moves the biases alone; the weights are the same for all inputs, and start where the bits are almost
    independent. Draws carry no gradient: take an estimator that needs none, as for `ConditionalOneHotCategorical`.

    Arguments:
        trunk: the net :math:`f`.
        out_features: the length d of `y`.
        hidden: the number H of hidden units, by default as many as `y` has bits.
        logits: where the bias :math:`b_0` starts, `(out_features,)`: the data's own logit spares the first epochs.

    Raises:
        ValueError: `hidden` is not positive, or `logits` has another shape.

    References:
        The Neural Autoregressive Distribution Estimator (Larochelle and Murray, 2011)
        Reweighted Wake-Sleep (Bornschein and Bengio, 2015), arXiv:1406.2751, for layers of it given a vector

    Example:
        >>> import torch
        >>> from ppmodels.nets import MLP
        >>> q = ConditionalNADE(MLP(784, (200, 200)), 50)
        >>> y = q(torch.zeros(32, 784))((5,))
        >>> y.shape, q(torch.zeros(32, 784)).log_prob(y).shape
        (torch.Size([5, 32, 50]), torch.Size([5, 32]))
    """

    def __init__(
        self, trunk: Trunk, out_features: int, hidden: int | None = None, *, logits: Tensor | None = None
    ) -> None:
        super().__init__(trunk, out_features)
        W, V = nade_weights(out_features, hidden)
        self.logits = head_at(trunk, out_features, logits)
        self.features = head(trunk, W.shape[-1])
        self.W, self.V = nn.Parameter(W), nn.Parameter(V)

    def distribution(self, features: Tensor) -> Distribution:
        return NADELaw(self.logits(features), self.features(features), self.W, self.V)
