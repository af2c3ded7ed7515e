"""VaDE and its two bounds: against the paper's formula, quadrature, Pyro's own enumeration, and each other."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from scipy import stats
from torch import Tensor, nn

from examples import vade
from guides import AmortizedNormal, VaDEGuide
from inference import ELBO, IWAE, Reconstruction, Variational, Weights, fit, latent_codes, log_weights
from inference.closed_form import closed_form_sites
from inference.pair import Pair
from inference.particles import inspect_pair, run_particles
from inference.weights import weigh_traces
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal, HomoscedasticNormal
from ppmodels.nets import MLP
from ppmodels.priors import GaussianMixture, StandardNormal
from ppmodels.priors.mixtures import Covariance
from ppmodels.vade import VaDE
from ppmodels.vae import VAE

pytestmark = pytest.mark.usefixtures("double")

X_DIM, C = 3, 3


def make(z_dim: int, covariance: Covariance = "diagonal") -> tuple[VaDE, ConditionalNormal]:
    """A linear model with three clusters that overlap, and an encoder that is wide and wrong."""
    prior = GaussianMixture(z_dim, C, covariance=covariance)
    with torch.no_grad():
        prior.loc.copy_(torch.tensor([-1.0, 0.2, 1.5])[:, None] * torch.linspace(1.0, -0.7, z_dim))
        prior.logits.copy_(torch.tensor([0.5, -0.3, 0.1]))
    model = VaDE(prior, HomoscedasticNormal(MLP(z_dim, ()), X_DIM, scale=0.7))
    conditional = ConditionalNormal(MLP(X_DIM, ()), z_dim)
    with torch.no_grad():
        conditional.log_scale.bias.fill_(-0.4)  # type: ignore[union-attr,operator]
    return model, conditional


def data(n: int = 4) -> Tensor:
    return torch.randn(n, X_DIM, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


class Quadrature:
    """Expectations over q(z | x) on a grid of Gauss-Hermite nodes."""

    def __init__(self, model: VaDE, conditional: ConditionalNormal, x: Tensor, nodes: int = 24) -> None:
        q = conditional(x).base_dist
        grid, weights = np.polynomial.hermite_e.hermegauss(nodes)
        axes = torch.cartesian_prod(*[torch.tensor(grid)] * conditional.out_features).reshape(-1, 1, q.loc.shape[-1])
        mass = torch.cartesian_prod(*[torch.tensor(weights)] * conditional.out_features).reshape(len(axes), -1)
        self.mass = (mass / (2 * math.pi) ** 0.5).prod(-1)  # (nodes,)
        self.z = q.loc + q.scale * axes  # (nodes, n, z_dim)
        prior = model.prior
        normals = torch.distributions.Normal(prior.loc, prior.log_scale.exp())
        log_p = normals.log_prob(self.z.unsqueeze(-2)).sum(-1) + prior.logits.log_softmax(-1)  # (nodes, n, C)
        self.log_prior, self.log_gamma = log_p.logsumexp(-1), log_p.log_softmax(-1)
        p_x = model.likelihood(self.z)
        self.common = self.mean(p_x.log_prob(x) - conditional(x).log_prob(self.z))  # what both bounds share

    def mean(self, values: Tensor) -> Tensor:
        return torch.tensordot(self.mass, values, 1)

    def marginal(self) -> Tensor:
        return self.common + self.mean(self.log_prior)

    def gap(self) -> Tensor:
        """The mean over z' and z of KL(gamma(z') || gamma(z)), pair by pair of nodes."""
        gamma = self.log_gamma.exp()
        cross = torch.einsum("inc,jnc->ijn", gamma, self.log_gamma)
        kl = (gamma * self.log_gamma).sum(-1)[:, None] - cross  # (nodes of z', nodes of z, n)
        assert bool((kl > -1e-12).all())
        return self.mean(self.mean(kl))


def weigh(model: nn.Module, guide: nn.Module, x: Tensor, K: int, seed: int = 1) -> tuple[Weights, dict[str, Tensor]]:
    """Weights with every closed form, and the guide's draws."""
    pair = Pair(model, guide)
    layout = inspect_pair(pair, x)
    analytic = frozenset(closed_form_sites(pair, x, layout))
    torch.manual_seed(seed)
    traces = run_particles(pair, x, K, layout)
    values = {name: node["value"] for name, node in traces[0].nodes.items() if node["type"] == "sample"}
    return weigh_traces(*traces, K, layout, analytic, keep_scale=False), values


# -- the model -----------------------------------------------------------------------------------------------


def test_joint_density_is_the_formula() -> None:
    model, _ = make(2)
    y, z, x = torch.tensor([2, 0, 1]), torch.randn(3, 2), torch.randn(3, X_DIM)
    with poutine.condition(data={"y": y, "z": z}):
        trace = poutine.trace(model).get_trace(x)
    prior, p = model.prior, model.likelihood
    location = z.numpy() @ p.loc.weight.detach().numpy().T + p.loc.bias.detach().numpy()
    expected = (
        np.log(np.exp(prior.logits.detach().numpy()) / np.exp(prior.logits.detach().numpy()).sum())[y]
        + stats.norm.logpdf(z, prior.loc.detach().numpy()[y], prior.log_scale.exp().detach().numpy()[y]).sum(-1)
        + stats.norm.logpdf(x, location, 0.7).sum(-1)
    )
    assert float(trace.log_prob_sum().detach()) == pytest.approx(expected.sum(), rel=1e-12)


def test_data_are_drawn_and_clusters_read_off() -> None:
    model, _ = make(2)
    assert model(n=5).shape == (5, X_DIM)
    z = torch.randn(7, 4, 2)
    prior = model.prior
    density = np.stack(
        [stats.norm.pdf(z, prior.loc[c].detach(), prior.log_scale[c].exp().detach()).prod(-1) for c in range(C)], -1
    )
    density = density * prior.logits.softmax(-1).detach().numpy()
    found = prior.log_responsibilities(z).exp().detach()
    np.testing.assert_allclose(found, density / density.sum(-1, keepdims=True), rtol=1e-10)


# -- the exact marginal bound --------------------------------------------------------------------------------


def test_marginal_bound_is_pyros_and_that_of_the_mixture() -> None:
    """The cluster summed out: loss and gradients of `TraceEnum_ELBO`, and the weights of a VAE with the same prior."""
    model, conditional = make(2)
    guide, x = AmortizedNormal(conditional), data()
    parameters = [*model.parameters(), *guide.parameters()]
    ours, _ = weigh(model, guide, x, 1)
    torch.manual_seed(1)
    theirs = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, x)
    loss = -ELBO()(ours).sum()
    torch.testing.assert_close(loss, theirs, rtol=1e-10, atol=1e-10)
    for a, b in zip(*(torch.autograd.grad(value, parameters) for value in (loss, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    mixture, _ = weigh(VAE(model.prior, model.likelihood), guide, x, 1)
    torch.testing.assert_close(ours.log_w, mixture.log_w, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("z_dim", [1, 2])
def test_both_bounds_are_their_integrals(z_dim: int) -> None:
    """And differ by the mean KL between responsibilities. False alarm: 2 dimensions x 3 bounds x 4 data x 6e-5."""
    model, conditional = make(z_dim)
    x, K = data(), 20_000
    exact = Quadrature(model, conditional, x)
    gap = exact.gap()
    assert bool((gap > 0.02).all())
    with torch.no_grad():
        marginal, _ = weigh(model, AmortizedNormal(conditional), x, K)
        paper, _ = weigh(model, VaDEGuide(conditional, model.prior), x, K)
    for terms, value in (
        (ELBO().terms(marginal), exact.marginal()),
        (ELBO().terms(paper), exact.marginal() - gap),
        (ELBO("analytic").terms(paper), exact.marginal() - gap),
    ):
        assert terms.shape == (K, len(x))
        assert bool(((terms.mean(0) - value).abs() < 4 * terms.std(0) / K**0.5).all())


# -- the paper's bound ---------------------------------------------------------------------------------------


def test_paper_bound_is_the_papers_formula_draw_by_draw() -> None:
    """With the KL in closed form; and what the authors' code adds to it, which the docstring of `VaDE` names."""
    D, K = 2, 5
    model, conditional = make(D)
    guide, x = VaDEGuide(conditional, model.prior), data()
    weights, values = weigh(model, guide, x, K)
    q, prior = conditional(x).base_dist, model.prior
    m, v = q.loc[None, :, None], q.scale[None, :, None] ** 2  # (1, n, 1, D)
    mu, var = prior.loc, (2 * prior.log_scale).exp()  # (C, D)
    gamma = prior.log_responsibilities(values["redrawn_z"]).exp()  # (K, n, C)
    inner = var.log() + v / var + (m - mu) ** 2 / var  # (1, n, C, D)
    entropies = (gamma * (prior.logits.log_softmax(-1) - gamma.log())).sum(-1) + 0.5 * (1 + v[:, :, 0].log()).sum(-1)
    reconstruction = model.likelihood(values["z"]).log_prob(x)
    formula = reconstruction - 0.5 * (gamma * inner.sum(-1)).sum(-1) + entropies
    torch.testing.assert_close(ELBO("analytic").terms(weights), formula, rtol=1e-10, atol=1e-10)
    code = reconstruction + entropies
    code = code - 0.5 * (gamma.unsqueeze(-1) * (D * math.log(2 * math.pi) + inner)).sum((-1, -2))
    torch.testing.assert_close(formula - code, torch.full_like(code, 0.5 * D**2 * math.log(2 * math.pi)))


def test_one_draw_for_both_has_the_same_mean() -> None:
    """The paper's own estimator, z = z', against two draws. False alarm: 4 x 6e-5."""
    model, conditional = make(1)
    x, K = data(), 20_000
    with torch.no_grad():
        guide = VaDEGuide(conditional, model.prior)
        weights, values = weigh(model, guide, x, K)
        reconstruction = [model.likelihood(values[site]).log_prob(x) for site in ("z", "redrawn_z")]
        two = ELBO("analytic").terms(weights)
        one = two - reconstruction[0] + reconstruction[1]
    difference = one.mean(0) - Quadrature(model, conditional, x).marginal() + Quadrature(model, conditional, x).gap()
    assert bool((difference.abs() < 4 * one.std(0) / K**0.5).all())


@pytest.mark.parametrize("covariance", ["diagonal", "full", "tied"])
def test_importance_weights_know_nothing_of_gamma(covariance: Covariance) -> None:
    """They sum over the cluster, so that IWAE and log p(x) are those of the marginal pair at the same draws."""
    model, conditional = make(2, covariance)
    x = data()
    weights, values = weigh(model, VaDEGuide(conditional, model.prior), x, 6)
    z = values["z"]
    log_w = model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - conditional(x).log_prob(z)
    torch.testing.assert_close(weights.log_w, log_w, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match=r"site `y` takes every value in the guide.*IWAE would not train"):
        fit(model, VaDEGuide(conditional, model.prior), x, Variational(IWAE(), 3), steps=1)


# -- training ------------------------------------------------------------------------------------------------

GUIDES = {
    "marginal": lambda model, conditional: AmortizedNormal(conditional),
    "paper": lambda model, conditional: VaDEGuide(conditional, model.prior),
}
BOUNDS = {"marginal": ELBO(), "paper": ELBO("analytic")}


@pytest.mark.parametrize("name", GUIDES)
def test_gradients_reach_every_parameter_and_replays_have_the_bits(name: str) -> None:
    found = []
    for mode in ("eager", "replay"):
        torch.manual_seed(0)
        model, conditional = make(2)
        guide = GUIDES[name](model, conditional)
        before = [p.detach().clone() for p in (*model.parameters(), *guide.parameters())]
        fitted = fit(model, guide, data(), Variational(BOUNDS[name], 2), steps=5, mode=mode, seed=1)  # type: ignore[arg-type]
        after = [p.detach() for p in (*model.parameters(), *guide.parameters())]
        assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert set(fitted.modes["bound"].values()) == {mode}
        found.append(after)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_prior_has_one_owner() -> None:
    model, conditional = make(2)
    guide = VaDEGuide(conditional, model.prior)
    assert guide.state_dict().keys() == {f"conditional.{name}" for name in conditional.state_dict()}
    assert len(Pair(model, guide).parameters(data())) == len([*model.parameters(), *conditional.parameters()])
    twin, its_guide = copy.deepcopy((model, guide))
    assert its_guide._prior[0] is twin.prior
    assert next(guide.float().parameters()).dtype == model.prior.loc.dtype == torch.float32  # it moves along


def blobs() -> tuple[Tensor, Tensor]:
    """Bits of three classes, each with a pattern of its own and a tenth of them flipped."""
    y = torch.arange(300) % 3
    patterns = torch.bernoulli(torch.full((3, 24), 0.5))
    return (patterns[y] + torch.bernoulli(torch.full((300, 24), 0.1))) % 2, y


@pytest.mark.parametrize("name", GUIDES)
def test_the_recipe_finds_the_classes(name: str) -> None:
    x, y = blobs()
    model = VaDE(GaussianMixture(2, 3), ConditionalBernoulli(MLP(2, (32,)), 24))
    autoencoder = AmortizedNormal(ConditionalNormal(MLP(24, (32,)), 2))
    fit(model, autoencoder, x, Reconstruction(), epochs=60, batch_size=50)
    before = model.prior.loc.detach().clone()
    model.initialise(latent_codes(model, autoencoder, x, "z"))
    assert not torch.equal(before, model.prior.loc)
    guide = GUIDES[name](model, autoencoder.layers[0])
    for _ in range(2):  # of the codes, and when all has been trained
        found = model.prior.log_responsibilities(latent_codes(model, guide, x, "z")).argmax(-1)
        table = torch.bincount(3 * found + y, minlength=9).reshape(3, 3)
        assert int(table.amax(0).sum()) >= 285
        assert sorted(table.argmax(0).tolist()) == [0, 1, 2]
        fit(model, guide, x, Variational(BOUNDS[name]), epochs=20, batch_size=50)


def test_the_example_trains_both_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_default_dtype(torch.float32)
    vade.main(epochs=2, size=60, out=tmp_path / "new" / "vade.png")
    out = capsys.readouterr().out
    assert re.findall(r"trained by the (\w+) bound", out) == ["exact", "paper"]
    assert all(float(gap) > 0 for gap in re.findall(r"the paper's (\S+) lower", out))
    assert (tmp_path / "new" / "vade.png").read_bytes().startswith(b"\x89PNG")


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (
            lambda: VaDE(StandardNormal(2), HomoscedasticNormal(MLP(2, ()), 3)),
            TypeError,
            "`prior` must be .* a mixture.*StandardNormal",
        ),
        (
            lambda: VaDE(GaussianMixture(2, 3), HomoscedasticNormal(MLP(4, ()), 3)),
            ValueError,
            "`likelihood` takes vectors of length 4, but `prior` makes vectors of length 2",
        ),
        (lambda: VaDE(GaussianMixture(2, 1), HomoscedasticNormal(MLP(2, ()), 3)), ValueError, "at least 2, got 1"),
        (
            lambda: make(2)[0].initialise(torch.zeros(50, 3)),
            ValueError,
            r"`codes` must have shape \(n, 2\), one row per datum, got \(50, 3\)",
        ),
        (lambda: make(2)[0].initialise(torch.zeros(2, 2)), ValueError, "`codes`"),
        (lambda: make(2)[0].initialise(torch.full((50, 2), math.nan)), ValueError, "`codes`"),
        (
            lambda: VaDEGuide(ConditionalNormal(MLP(3), 2), StandardNormal(2)),
            TypeError,
            "`prior` must be the mixture that the model has.*got StandardNormal without `log_responsibilities`",
        ),
        (
            lambda: VaDEGuide(ConditionalNormal(MLP(3), 4), GaussianMixture(2, 3)),
            ValueError,
            "`conditional` makes vectors of length 4, but `prior` is over vectors of length 2",
        ),
        (lambda: VaDEGuide(3, GaussianMixture(2, 3)), TypeError, "`conditional` must be a conditional"),  # type: ignore[arg-type]
        (
            lambda: VaDEGuide(ConditionalNormal(MLP(3), 2), GaussianMixture(2, 3))(torch.zeros(3)),
            ValueError,
            r"`x` must have shape \(n, x_dim\), one row per datum, got \(3,\)",
        ),
        (
            lambda: log_weights(make(2)[0], AmortizedNormal(make(2)[1]), torch.zeros(5, 9), 2),
            ValueError,
            "9",
        ),
    ],
)
def test_errors(act: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        act()  # type: ignore[operator]
