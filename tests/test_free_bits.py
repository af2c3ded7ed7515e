"""A floor under a KL: the loss by hand, its gradient above and below, and what is refused."""

import math

import pytest
import torch
from torch import nn

from guides import MeanFieldStyle
from inference.bounds import ELBO, IWAE
from inference.closed_form import closed_form_sites
from inference.draws import log_weights
from inference.fit import fit
from inference.free_bits import FreeBits
from inference.objectives import Variational
from inference.pair import Pair
from inference.particles import inspect_pair
from inference.terms import Augmented, Term
from ppmodels.components import ConditionalNormals
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.gmvae import StyleGMVAE
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("double")

X, W, Z, C, N = 6, 2, 3, 4, 12


def make(**options) -> tuple[StyleGMVAE, MeanFieldStyle]:
    components = ConditionalNormals(MLP(W, (8,)), Z, C)
    with torch.no_grad():
        components.loc[0].bias.normal_()
    model = StyleGMVAE(StandardNormal(W), components, ConditionalBernoulli(MLP(Z, (8,)), X))
    parts = ConditionalNormal(MLP(X, ()), W), ConditionalNormal(MLP(X, ()), Z)
    return model, MeanFieldStyle(*parts, clusters=model.log_responsibilities, **options)


def data(n: int = N) -> torch.Tensor:
    return torch.bernoulli(torch.full((n, X), 0.5))


def loss(objective, model, guide, x):
    (phase,) = objective.task(Pair(model, guide), x).phases
    torch.manual_seed(3)
    return phase.loss(x, torch.tensor(0.0))


@pytest.mark.parametrize("K", [1, 5])
@pytest.mark.parametrize("floors", [{"y": 0.01}, {"y": 50.0}, {"y": 50.0, "w": 0.01, "z": 60.0}])
def test_the_loss_is_the_formula(floors: dict[str, float], K: int) -> None:
    (model, guide), x = make(), data()
    torch.manual_seed(3)
    weights = log_weights(model, guide, x, K)
    kl = {site: weights.kl[site].mean() for site in floors}
    expected = -ELBO()(weights).mean() + sum(max(floor, kl[site]) - kl[site] for site, floor in floors.items())
    found = loss(FreeBits(floors, num_particles=K), model, guide, x)
    torch.testing.assert_close(found.loss, expected, rtol=0, atol=1e-12)
    assert {"loss", "floor", "kl_w", "kl_y", "kl_z"} == set(found.parts)
    assert found.loss >= -ELBO()(weights).mean()  # minus the loss is a lower bound still


def test_above_its_floor_it_is_the_elbo() -> None:
    (model, guide), x = make(redraw=True), data()
    bound = ELBO(kl="analytic")
    found = loss(FreeBits({"y": 1e-9, "w": 1e-9}, bound), model, guide, x)
    torch.testing.assert_close(found.loss, loss(Variational(bound), model, guide, x).loss, rtol=0, atol=1e-12)


def test_below_its_floor_the_kl_has_no_gradient() -> None:
    """That of the paper's bound is then the gradient of the other terms, by hand."""
    (model, guide), x = make(redraw=True), data()
    parameters = list(nn.ModuleList([model, guide]).parameters())
    bound, pair = ELBO(kl="analytic"), Pair(model, guide)
    found = torch.autograd.grad(loss(FreeBits({"y": 50.0}, bound), model, guide, x).loss, parameters)
    torch.manual_seed(3)
    weights = log_weights(model, guide, x, 1, analytic_kl=closed_form_sites(pair, x, inspect_pair(pair, x)))
    rest = weights.log_likelihood - weights.analytic_kl["w"] - weights.analytic_kl["z"]
    expected = torch.autograd.grad(-rest.mean(), parameters)
    for mine, its in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-11)


def test_validation_is_scored_by_the_elbo_itself() -> None:
    (model, guide), x = make(), data()
    scores = []
    for objective in (FreeBits({"y": 50.0}), Variational()):
        score = objective.task(Pair(model, guide), x).score
        torch.manual_seed(3)
        scores.append(score(x))
    assert torch.equal(*scores)


@pytest.mark.parametrize("mode", ["eager", "replay"])
def test_it_trains(mode: str) -> None:
    model, guide = make(redraw=True)
    fitted = fit(model, guide, data(20), FreeBits({"y": 0.5}, ELBO(kl="analytic")), steps=3, batch_size=10, mode=mode)
    assert fitted.modes == {"bound": {"10": mode}}


def test_the_consistency_violation_is_what_the_kl_of_the_cluster_lacks() -> None:
    """H(p(y|w,z)) = log C - KL(p(y|w,z) || 1/C): in the mean over 4,000 draws, within 4 s.e., false alarm 12 x 6e-5."""
    (model, guide), x, K = make(), data(), 4000
    with torch.no_grad():
        violation = guide.consistency_violation(x.repeat(K, 1)).view(K, N)
        kl = log_weights(model, guide, x, K).kl["y"]
    assert ((violation >= 0) & (violation <= math.log(C) + 1e-12)).all()
    error = ((violation.var(0) + kl.var(0)) / K).sqrt()
    assert ((violation + kl).mean(0) - math.log(C)).abs().lt(4 * error).all()


def test_the_consistency_violation_is_a_term_to_be_taken_off() -> None:
    (model, guide), x = make(), data()
    objective = Augmented(Variational(), {"violation": Term(guide.consistency_violation, weight=-0.4)})
    found = loss(objective, model, guide, x)
    torch.manual_seed(3)
    expected = loss(Variational(), model, guide, x).loss + 0.4 * guide.consistency_violation(x).mean()
    torch.testing.assert_close(found.loss, expected, rtol=0, atol=1e-12)
    found.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (*model.parameters(), *guide.parameters()))


@pytest.mark.parametrize(
    ("make_it", "error", "text"),
    [
        (lambda: FreeBits({}), ValueError, "`floors` is empty, expected a site with its floor"),
        (lambda: FreeBits({"y": 0.0}), ValueError, "`floors` has 0.0 for site `y`, expected nats per datum above 0"),
        (lambda: FreeBits({"y": math.inf}), ValueError, "`floors` has inf for site `y`"),
        (lambda: FreeBits({"y": 1.0}, IWAE()), TypeError, r"`bound` is IWAE\(\), expected ELBO\(\)"),
        (lambda: FreeBits({"y": 1.0}, num_particles=0).task(Pair(*make()), data()), ValueError, "`num_particles` is 0"),
        (
            lambda: FreeBits({"v": 1.0}).task(Pair(*make()), data()),
            ValueError,
            r"`floors` has `v`, expected a site that the guide samples \(`w`, `z`, `y`\)",
        ),
    ],
)
def test_errors(make_it, error, text) -> None:
    with pytest.raises(error, match=text):
        make_it()


def test_a_site_summed_out_in_the_model_has_no_kl() -> None:
    model, guide = make()
    guide.clusters = None
    with pytest.raises(ValueError, match=r"`floors` has `y`, expected .* \(`w`\).*: what the model sums out has no KL"):
        FreeBits({"y": 1.0}).task(Pair(model, guide), data())
    with pytest.raises(ValueError, match=r"`clusters` is None, so there is no q\(y | w, z\)"):
        guide.consistency_violation(data())
