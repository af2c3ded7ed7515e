"""One contract for every pair that a recipe can name: a new one enters by one line."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch

from inference import ELBO, Augmented, FewParticlesWarning, Objective, compare_bounds, fit, log_weights
from inference.pair import Pair, call
from inference.reconstruction import Reconstruction
from inference.sites import sample_sites
from ppmodels.cli import experiment, fitting
from ppmodels.data import Dataset, digits
from ppmodels.labels import PartlyLabelled
from ppmodels.recipes import Recipe, load_recipe
from ppmodels.zoo import ModelAndGuide, build

SMALL = {"model.hidden": [8], "guide.hidden": [8], "data.protocol": "static"}
PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae-sticks-mixture": ("digits-vae", {"model.z_dim": 3, "model.prior": "stick_breaking_mixture"}),
    "vae-autoregressive": ("digits-vae", {"model.z_dim": 3, "model.prior": "autoregressive"}),
    "vae-student": ("digits-vae", {"model.z_dim": 3, "model.prior": {"name": "student_t", "learned": True}}),
    "vae-horseshoe": ("digits-vae", {"model.z_dim": 3, "model.prior": {"name": "horseshoe", "learned": True}}),
    "vae-spikes": ("digits-vae", {"model.z_dim": 3, "model.prior": {"name": "spike_and_slab", "learned": True}}),
    "sticks": ("digits-sbvae", {"model.components": 5}),
    "sticks-beta": ("digits-sbvae", {"model.components": 5, "guide": "beta_sticks"}),
    "sticks-gamma": ("digits-sbvae", {"model.components": 5, "guide": "gamma_sticks", "bound.kl": "monte_carlo"}),
    "sticks-logit": (
        "digits-sbvae",
        {"model.components": 5, "guide": "logit_normal_sticks", "bound.kl": "monte_carlo"},
    ),
    "sticks-learned": ("digits-sbvae", {"model.components": 5, "model.prior.learned": True}),
    "m2": ("digits-m2", {"model.z_dim": 3}),
    "m2-sticks": ("digits-m2-sticks", {"model.z_dim": 4}),
    "m2-unlabelled": ("digits-m2", {"model.z_dim": 3, "data.labels": 0, "bound.label_weight": 0.0}),
    "gmvae": ("digits-gmvae", {"model.z_dim": 3, "model.prior.components": 3}),
    "gmvae-full": ("digits-gmvae", {"model.z_dim": 3, "model.prior.components": 3, "model.prior.covariance": "full"}),
    "gmvae-marginal": ("digits-gmvae", {"model.z_dim": 3, "model.prior.components": 3, "guide": "amortized_normal"}),
    "style": ("digits-style-gmvae", {"model.z_dim": 3, "model.w_dim": 2, "model.components": 3}),
    "vade": ("digits-vade", {"model.z_dim": 3, "model.prior.components": 3}),
    "vade-paper": ("digits-vade", {"model.z_dim": 3, "model.prior.components": 3, "guide": "vade"}),
    "dlgmm": ("digits-dlgmm", {"model.z_dim": 3}),
    "dlgmm-process": ("digits-dlgmm", {"model.z_dim": 3, "model.prior": "stick_breaking", "model.spread": 1.0}),
    "helmholtz": ("digits-helmholtz", {"model.widths": [6, 4], "model.hidden": [], "guide.hidden": []}),
    "helmholtz-nets": (
        "digits-helmholtz",
        {"model.widths": [6, 4, 2], "guide.hidden": [5], "model.likelihood": "normal", "bound.sleep_every": 2},
    ),
    "helmholtz-nade": (
        "digits-helmholtz",
        {
            "model.widths": [6, 4],
            "model.prior": {"name": "nade", "features": 3},
            "model.layer": "nade",
            "guide": {"name": "autoregressive_bernoulli", "features": 3},
            "bound": {"name": "iwae", "num_particles": 3, "estimator": "vimco"},
        },
    ),
}
everywhere = pytest.mark.parametrize("name", PAIRS)


def recipe_of(name: str) -> Recipe:
    base, changes = PAIRS[name]
    return load_recipe(base, SMALL | changes)


def setting(name: str) -> tuple[ModelAndGuide, Dataset | PartlyLabelled, Objective]:
    recipe = recipe_of(name)
    data = fitting.training_data(recipe.data)
    pair = build(recipe, data)
    return pair, data, fitting.objective(recipe.bound, pair.guide, data)


def some(data: Dataset | PartlyLabelled, n: int = 6) -> Any:
    return data.batch(torch.arange(n))


@everywhere
def test_shapes_sites_and_chunks(name: str) -> None:
    (model, guide), data, _ = setting(name)
    assert model(n=5).shape == (5, 64)
    weights = log_weights(model, guide, some(data), 4, chunk=3)
    assert weights.log_w.shape == weights.elbo_terms.shape == (4, 6)
    assert bool(weights.log_w.isfinite().all())
    assert bool(weights.elbo_terms.isfinite().all())
    assert len(pyro.get_param_store()) == 0


@everywhere
def test_gradients_reach_every_parameter_and_training_moves_it(name: str) -> None:
    (model, guide), data, objective = setting(name)
    pair = Pair(model, guide)
    before = {k: v.detach().clone() for k, v in pair.parameters(some(data)).items()}
    fit(model, guide, data, objective, steps=2, batch_size=50)
    after = pair.parameters(some(data))
    still = [k for k, v in after.items() if torch.equal(v, before[k])]
    assert [k for k in still if "below" not in k] == []  # zero where a triangle is not looked at
    assert all(bool(v.isfinite().all()) for v in after.values())


@everywhere
def test_a_replayed_graph_has_the_bits_of_the_program(name: str) -> None:
    found = []
    for mode in ("eager", "replay"):
        (model, guide), data, objective = setting(name)
        fitted = fit(model, guide, data, objective, steps=4, batch_size=50, mode=mode, seed=1)  # type: ignore[arg-type]
        assert {used for by_size in fitted.modes.values() for used in by_size.values()} == {mode}
        found.append(Pair(model, guide).state(some(data)))
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])


@everywhere
def test_the_ladder_does_not_cross(name: str) -> None:
    """ELBO, IWAE-5 and IWAE-50 rise up to their errors; raised where one crosses. False alarm: 2 x 3e-5 a pair."""
    (model, guide), data, objective = setting(name)
    fit(model, guide, data, objective, steps=60, batch_size=100)
    test = digits("static", split="test").head(40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewParticlesWarning)
        table = compare_bounds(model, guide, test, ["elbo", "iwae:5", "iwae:50"], num_particles=200).table
    values, errors = table["value"].tolist(), table["mc_se"].tolist()
    assert values[0] < values[1] + 4 * (errors[0] + errors[1])
    assert values[1] < values[2] + 4 * (errors[1] + errors[2])
    assert -70 < values[0] < -10


@everywhere
def test_double_precision_copies_and_words(name: str) -> None:
    (model, guide), data, _ = setting(name)
    double = [module.double() for module in copy.deepcopy((model, guide))]
    batch = some(data)
    batch = (batch[0].double(), batch[1]) if isinstance(batch, tuple) else batch.double()
    weights = log_weights(*double, batch, 3)
    assert weights.log_w.dtype == torch.float64
    assert type(model).__name__ in repr(model)
    together, alone = (log_weights(*double, batch, 200, vectorize=v).elbo_terms for v in (True, False))
    error = together.std(0) * (2 / 200) ** 0.5
    assert bool(((together.mean(0) - alone.mean(0)).abs() < 5 * error + 1e-9).all())  # false alarm: 16 x 6 x 6e-7


@everywhere
def test_moves_to_another_device(name: str) -> None:
    """The meta device holds shapes and no numbers: a tensor left behind shows as a clash of devices."""
    (model, guide), data, _ = setting(name)
    model, guide = model.to("meta"), guide.to("meta")
    assert all(v.device.type == "meta" for v in [*model.state_dict().values(), *guide.state_dict().values()])
    batch = some(data)
    batch = tuple(part.to("meta") for part in batch) if isinstance(batch, tuple) else batch.to("meta")
    with pyro.validation_enabled(False):
        trace = pyro.poutine.trace(lambda: call(guide, batch)).get_trace()
        for site in sample_sites(trace).values():
            assert site["value"].device.type == "meta"


@everywhere
def test_state_is_saved_and_loaded(name: str) -> None:
    pair, data, objective = setting(name)
    fit(*pair, data, objective, steps=1, batch_size=50)
    other, _, _ = setting(name)
    state = {k: v.clone() for k, v in Pair(*pair).state(some(data)).items()}
    Pair(*other).load(state, some(data))
    found = []
    for each in (pair, other):
        torch.manual_seed(1)
        found.append(log_weights(*each, some(data), 2).log_w)
    assert torch.equal(*found)


# -- what recipes say of them --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sticks", "m2", "gmvae", "style", "vade", "dlgmm", "helmholtz"])
def test_a_run_is_fitted_opened_evaluated_and_sampled(name: str, tmp_path: Path) -> None:
    base, changes = PAIRS[name]
    quick = {"training.epochs": 1, "evaluation.num_data": 30, "evaluation.num_particles": 50}
    if name == "vade":
        quick["pretraining.epochs"] = 1
    recipe = load_recipe(base, SMALL | changes | quick)
    experiment.fit_recipe(recipe, tmp_path / "run", progress=False)
    fitted = experiment.open_run(tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewParticlesWarning)
        found = experiment.evaluate(fitted)
    assert -70 < found["log_likelihood"]["value"] < -10
    clustering = name in ("m2", "gmvae", "style", "vade")
    assert (found["clusters"] is not None) == clustering
    assert set(found["components"]) == ({"y"} if clustering else set() if name == "helmholtz" else {"logit_v"})
    assert experiment.sample(fitted, 3).shape == (3, 64)
    assert experiment.reconstruct(fitted, digits("static").batch(torch.arange(3))).shape == (3, 64)


def test_pretraining_is_gone_on_with(tmp_path: Path) -> None:
    """What a run does before its bound stands in a folder of its own, and is not done twice."""
    changes = {"training.steps": 3, "pretraining.epochs": 1, "model.z_dim": 3, "model.prior.components": 3}
    recipe = load_recipe("digits-vade", SMALL | changes)
    whole = experiment.fit_recipe(recipe, tmp_path / "whole", progress=False)
    assert whole.run is not None
    assert (tmp_path / "whole" / "pretraining" / "manifest.json").exists()
    (tmp_path / "half").mkdir()
    (tmp_path / "whole" / "pretraining").rename(tmp_path / "half" / "pretraining")  # stopped in between
    assert experiment.begun(tmp_path / "half").folder.name == "pretraining"
    half = experiment.fit_recipe(recipe, tmp_path / "half", resume=True, progress=False)
    assert half.run is not None
    first, second = (run.run.result().parameters for run in (whole, half) if run.run is not None)
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_pretraining_puts_the_mixture_where_the_codes_are(tmp_path: Path) -> None:
    recipe = load_recipe("digits-vade", SMALL | {"training.steps": 1, "pretraining.epochs": 1, "model.z_dim": 3})
    experiment.fit_recipe(recipe, tmp_path / "run", progress=False)
    model, _ = build(recipe, digits("static"))
    fitted = experiment.open_run(tmp_path / "run")
    assert not torch.allclose(
        model.get_parameter("story.prior.loc"), fitted.model.get_parameter("story.prior.loc"), atol=0.1
    )


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        ("digits-vae", {"guide": "clusters"}, "`guide.name` must be one of amortized_normal, .* for the model 'vae'"),
        ("digits-sbvae", {"guide": "amortized_normal"}, "one of kumaraswamy_sticks, .* for the model 'sbvae'"),
        (
            "digits-gmvae",
            {"data.labels": 10},
            "must be 0 for the model 'gmvae', which takes none, got 10",
        ),
        ("digits-m2", {"data.labels": 0}, "`data.labels` must be positive with `bound.label_weight` = 1, got 0"),
        ("digits-gmvae", {"model.prior.components": 1}, "`model.prior.components` must be at least 2 for .* got 1"),
        ("digits-gmvae", {"pretraining.epochs": 3}, "`pretraining.epochs` must be 0 for the model 'gmvae', got 3"),
        ("digits-helmholtz", {"model.widths": []}, "`model.widths` must have at least 1"),
        ("digits-helmholtz", {"bound": "elbo"}, "`bound.estimator` must be one that needs no path .* got 'pathwise'"),
        ("digits-helmholtz", {"bound.kl_warmup": 9}, "`bound.kl_warmup` must be left out with `bound.name` = 'wake_sl"),
        ("digits-helmholtz", {"bound.wake": 0.0, "bound.sleep": 0.0}, "`bound.wake` and `bound.sleep` are both 0"),
        (
            "digits-helmholtz",
            {"guide": "amortized_normal"},
            "`guide.name` must be one of mean_field_bernoulli, auto",
        ),
        (
            "digits-vae",
            {"model.prior": {"name": "spike_and_slab", "probs": 1.0}},
            "`model.prior.probs` must be less than",
        ),
        ("digits-sbvae", {"model.components": 1}, "`model.components` must be greater than or equal to 2, got 1"),
        ("digits-sbvae", {"model.prior.concentration": -1.0}, "`model.prior.concentration` must be greater than 0"),
        ("digits-gmvae", {"model.components": 3}, "`model.components` is not known where `model.name` is 'gmvae'"),
    ],
)
def test_parts_that_do_not_go_together(base: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_recipe(base, changes)


@pytest.mark.parametrize("labels", [3, 5000])
def test_labels_are_as_many_as_there_can_be(labels: int) -> None:
    with pytest.raises(
        ValueError, match=rf"`data.labels` must be from 10, .* to 1500, the training data, got {labels}"
    ):
        fitting.training_data(load_recipe("digits-m2", {"data.labels": labels}).data)


def test_another_variant_leaves_behind_what_it_does_not_have() -> None:
    changes = {"model": {"name": "sbvae", "components": 7}, "guide": {"name": "beta_sticks"}}
    recipe = load_recipe("digits-vae", changes)
    assert recipe.model.name == "sbvae"
    assert recipe.model.hidden == ((64, 64),)


def test_labels_are_counted_once_whatever_their_share() -> None:
    (_, guide), data, objective = setting("m2")
    assert isinstance(data, PartlyLabelled)
    assert isinstance(objective, Augmented)
    term = objective.terms["log_q_labels"]
    assert term.weight == pytest.approx(1 / data.labelled_share)
    x, y = data.all()
    known = y >= 0
    mean = guide.log_prob(x[known], y[known]).mean()  # type: ignore[operator]
    found = term.weight * term((x, y)).mean()
    torch.testing.assert_close(found, mean, rtol=1e-5, atol=1e-6)


def test_an_autoencoder_is_no_bound() -> None:
    (model, guide), data, _ = setting("vade")
    x = some(data)
    task = Reconstruction().task(Pair(model, guide), x)
    loss = task.phases[0].loss(x, torch.tensor(0)).loss
    bound = -ELBO()(log_weights(model, guide, x, 500)).mean()
    assert float(loss.detach()) < float(bound.detach())
