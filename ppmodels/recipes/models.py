"""The models and guides a recipe may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PositiveInt

from .priors import BernoulliPrior, BitsPrior, GaussianMixture, Prior, StandardNormal, StickBreaking, SticksPrior
from .tables import Activation, Hidden, Sizes, Table, Widths, listed, named

__all__ = [
    "DLGMM",
    "GMVAE",
    "GUIDES",
    "M2",
    "SBVAE",
    "VAE",
    "Amortized",
    "AmortizedFlow",
    "AmortizedNormal",
    "AutoregressiveBernoulli",
    "BetaSticks",
    "Clusters",
    "GammaSticks",
    "Guide",
    "Helmholtz",
    "HierarchicalNormal",
    "KumaraswamySticks",
    "LogitNormalSticks",
    "MeanFieldBernoulli",
    "MeanFieldStyle",
    "Mixture",
    "Model",
    "ModelTable",
    "StyleGMVAE",
    "VaDE",
    "VaDEGuide",
]

AtLeastTwo: TypeAlias = Annotated[int, Field(ge=2)]


class ModelTable(Table):
    """What all models have in common."""

    name: str
    hidden: Hidden = ((200, 200),)
    """Widths of the net below each latent, from the data up; one list counts for every layer."""
    activation: Activation = "tanh"
    """What stands between the layers of a net."""
    likelihood: Literal["bernoulli", "continuous_bernoulli", "normal"] = "bernoulli"
    """The distribution of a datum given the first latent."""
    start_at_mean: bool = True
    """Whether the last bias of a Bernoulli begins at the data's mean; clusters are found more easily without."""

    @property
    def layers(self) -> int:
        """Layers of latents, each with a net of its own below it."""
        return 1


class VAE(ModelTable):
    """A variational autoencoder with one or more layers of latents."""

    name: Literal["vae"] = "vae"
    z_dim: Annotated[Sizes, BeforeValidator(listed)]
    """Sizes of the latents, from the data up."""
    prior: Prior = StandardNormal()
    """The distribution of the topmost latent."""

    @property
    def layers(self) -> int:
        """As many as `z_dim` has sizes."""
        return len(self.z_dim)


class SBVAE(ModelTable):
    """A variational autoencoder whose latent is the shares of a broken stick."""

    name: Literal["sbvae"] = "sbvae"
    components: AtLeastTwo = 50
    """How many shares the stick is broken into: the truncation."""
    prior: SticksPrior = StickBreaking()
    """The distribution of the breaks."""


class M2(ModelTable):
    """A class and a latent that make the datum together, with labels for some of the data or none."""

    name: Literal["m2"] = "m2"
    z_dim: PositiveInt = 50
    """Size of the latent; the number of shares where the prior is one of sticks."""
    classes: AtLeastTwo = 10
    """How many classes there are."""
    prior: Prior = StandardNormal()
    """The distribution of the latent, where there are no sticks."""
    sticks: SticksPrior | None = None
    """The distribution of the breaks, where the latent is the shares of a stick, `z_dim` of them."""


class GMVAE(ModelTable):
    """A cluster, a latent drawn from it, and the datum."""

    name: Literal["gmvae"] = "gmvae"
    z_dim: PositiveInt = 64
    """Size of the latent."""
    prior: Annotated[GaussianMixture, BeforeValidator(named("gaussian_mixture"))] = GaussianMixture()
    """The clusters."""


class StyleGMVAE(ModelTable):
    """Clusters that move with a style."""

    name: Literal["style_gmvae"] = "style_gmvae"
    w_dim: PositiveInt = 150
    """Size of the style."""
    z_dim: PositiveInt = 200
    """Size of the latent."""
    components: AtLeastTwo = 10
    """How many clusters there are."""
    style_hidden: Widths = (120,)
    """Widths of the net from the style to the clusters."""
    spread: Annotated[float, Field(ge=0)] = 1.0
    """How far apart the clusters begin."""


class VaDE(ModelTable):
    """A mixture over the codes of an autoencoder that was trained before it."""

    name: Literal["vade"] = "vade"
    z_dim: PositiveInt = 10
    """Size of the latent."""
    prior: Annotated[GaussianMixture, BeforeValidator(named("gaussian_mixture"))] = GaussianMixture()
    """The clusters; where pre-training is asked for they are fitted to its codes."""


class DLGMM(ModelTable):
    """A mixture for the prior and the guide of each datum, weighted by sticks of its own."""

    name: Literal["dlgmm"] = "dlgmm"
    z_dim: PositiveInt = 25
    """Size of the latent."""
    components: AtLeastTwo = 3
    """How many components the mixtures have."""
    prior: SticksPrior = StickBreaking()
    """The distribution of the breaks that make the weights."""
    spread: Annotated[float, Field(ge=0)] = 0.0
    """How far out the prior's components are, in every dimension from minus to plus this; 0 puts all in one place."""


class Helmholtz(ModelTable):
    """Layers of bits, each given the bits above it."""

    name: Literal["helmholtz"] = "helmholtz"
    widths: Annotated[Sizes, BeforeValidator(listed)]
    """Bits in each layer, from the data up."""
    hidden: Hidden = ((),)
    """Widths of a net between two layers; a sigmoid belief network has none."""
    prior: BitsPrior = BernoulliPrior()
    """The distribution of the topmost layer."""
    layer: Literal["bernoulli", "nade"] = "bernoulli"
    """Whether the bits of a layer are independent given those above, or depend on those before them too."""


Model: TypeAlias = Annotated[
    VAE | SBVAE | M2 | GMVAE | StyleGMVAE | VaDE | DLGMM | Helmholtz,
    BeforeValidator(named("vae")),
    Field(discriminator="name"),
]


class Amortized(Table):
    """What guides that are made of nets have in common."""

    name: str
    hidden: Hidden = ((200, 200),)
    """Widths of the net that leads to each latent, from the data up; by default the model's."""
    activation: Activation = "tanh"
    """What stands between the layers of a net; by default the model's."""


class AmortizedNormal(Amortized):
    """A diagonal normal with mean and scale given by a net: one layer of latents."""

    name: Literal["amortized_normal"] = "amortized_normal"


class HierarchicalNormal(Amortized):
    """Diagonal normals, each given the layer below: any number of layers."""

    name: Literal["hierarchical_normal"] = "hierarchical_normal"


class AmortizedFlow(Amortized):
    """An inverse autoregressive flow given by a net: one layer of latents; needs the extra `flows`."""

    name: Literal["amortized_flow"] = "amortized_flow"
    transforms: PositiveInt = 3
    """How many transforms."""
    flow_hidden: Widths = (64, 64)
    """Widths of the net of each transform."""


class KumaraswamySticks(Amortized):
    """Kumaraswamy breaks, which have a closed-form KL from beta ones."""

    name: Literal["kumaraswamy_sticks"] = "kumaraswamy_sticks"


class LogitNormalSticks(Amortized):
    """Logit-normal breaks."""

    name: Literal["logit_normal_sticks"] = "logit_normal_sticks"


class GammaSticks(Amortized):
    """Breaks that are ratios of approximate gamma draws."""

    name: Literal["gamma_sticks"] = "gamma_sticks"


class BetaSticks(Amortized):
    """Beta breaks, reparameterised implicitly."""

    name: Literal["beta_sticks"] = "beta_sticks"


class Clusters(Amortized):
    """A class summed out, and a latent given each."""

    name: Literal["clusters"] = "clusters"


class MeanFieldStyle(Amortized):
    """A style and a latent, independent given the datum."""

    name: Literal["mean_field_style"] = "mean_field_style"


class VaDEGuide(Amortized):
    """An encoder, and clusters read off a draw of its own: the bound of the paper."""

    name: Literal["vade"] = "vade"


class Mixture(Amortized):
    """A mixture of normals weighted by Kumaraswamy sticks, a draw from every component."""

    name: Literal["mixture"] = "mixture"


class MeanFieldBernoulli(Amortized):
    """Layers of bits, independent given the layer below."""

    name: Literal["mean_field_bernoulli"] = "mean_field_bernoulli"


class AutoregressiveBernoulli(Amortized):
    """Layers of bits, each given the layer below and the bits before it."""

    name: Literal["autoregressive_bernoulli"] = "autoregressive_bernoulli"
    features: PositiveInt | None = None
    """Hidden units for each layer; as many as it has bits where not given."""


GUIDES: Mapping[str, tuple[str, ...]] = {
    "vae": ("amortized_normal", "hierarchical_normal", "amortized_flow"),
    "sbvae": ("kumaraswamy_sticks", "logit_normal_sticks", "gamma_sticks", "beta_sticks"),
    "m2": ("clusters",),
    "gmvae": ("clusters", "amortized_normal"),
    "style_gmvae": ("mean_field_style",),
    "vade": ("amortized_normal", "vade"),
    "dlgmm": ("mixture",),
    "helmholtz": ("mean_field_bernoulli", "autoregressive_bernoulli"),
}
"""The guides that go with a model; the first is the one it has if none is named."""

Guide: TypeAlias = Annotated[
    AmortizedNormal
    | HierarchicalNormal
    | AmortizedFlow
    | KumaraswamySticks
    | LogitNormalSticks
    | GammaSticks
    | BetaSticks
    | Clusters
    | MeanFieldStyle
    | VaDEGuide
    | Mixture
    | MeanFieldBernoulli
    | AutoregressiveBernoulli,
    BeforeValidator(named("amortized_normal")),
    Field(discriminator="name"),
]
