"""Recipes: what they hold, what they refuse and in which words, and that each of them builds."""

import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from inference.bounds import CIWAE, ELBO, IWAE, MIWAE, PIWAE, TVO, Bound, Renyi, VRMax, parse_bound
from inference.draws import log_weights
from inference.estimators import STL, VIMCO, DReG, Estimator, ReweightedWakeSleep, ThermodynamicCovariance
from inference.fit import fit
from inference.objectives import Variational
from inference.pair import Pair
from ppmodels.cli import experiment, fitting
from ppmodels.data import Dataset, LikelihoodWarning, digits, from_array
from ppmodels.patterns import PATTERNS
from ppmodels.recipes import Recipe, RecipeError, load_recipe, nearest, recipe_names, schema
from ppmodels.zoo import ZOO, build, entry, table


def like(recipe: Recipe) -> Dataset:
    """A little data of the size that the recipe's own has."""
    if recipe.data.name in PATTERNS:
        return PATTERNS[recipe.data.name].sample(60)
    side = 8 if recipe.data.name == "digits" else 28
    grey = torch.rand(60, side, side)
    if isinstance(recipe, schema.TransitionRecipe) and recipe.model.levels:
        grey = (grey * (recipe.model.levels - 1)).round() / (recipe.model.levels - 1)
    protocol = "dynamic" if recipe.kind == "directed" else recipe.data.protocol
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LikelihoodWarning)
        return from_array(grey, protocol=protocol, name=recipe.data.name)


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_is_written_in_full_and_read_back(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.dumps())
    assert load_recipe(path) == recipe
    assert recipe.name == name
    assert recipe.paper


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_builds(name: str) -> None:
    recipe = load_recipe(name)
    model, guide = build(recipe, like(recipe))
    if not isinstance(recipe, schema.PairRecipe):
        aim = fitting.aim_of(recipe, guide, like(recipe))
        assert fit(model, guide, like(recipe), aim, steps=1, batch_size=20, mode="eager").metrics.notna().all(axis=None)
        return
    assert model(n=3).shape == (3, like(recipe).x_dim)
    x = like(recipe).batch(torch.arange(4))
    assert log_weights(model, guide, x, 2).log_w.isfinite().all()
    for text in recipe.evaluation.bounds:
        parse_bound(text)


def test_the_networks_of_burda() -> None:
    """784-200-200-50 and 784-200-200-100-100-100-50, weights and biases counted by hand."""

    def linear(*widths: int) -> int:
        return sum((a + 1) * b for a, b in pairwise(widths))

    def parameters(name: str) -> tuple[int, int]:
        recipe = load_recipe(name)
        model, guide = build(recipe, like(recipe))
        return sum(p.numel() for p in model.parameters()), sum(p.numel() for p in guide.parameters())

    up, down = linear(784, 200, 200), linear(200, 200, 784)
    assert parameters("mnist-iwae") == (linear(50, 200) + down, up + 2 * linear(200, 50))
    assert parameters("mnist-iwae-2l") == (
        linear(50, 100, 100) + 2 * linear(100, 100) + linear(100, 200) + down,
        up + 2 * linear(200, 100) + linear(100, 100, 100) + 2 * linear(100, 50),
    )


def test_every_field_has_a_sentence() -> None:
    tables = [one for one in vars(schema).values() if isinstance(one, type) and issubclass(one, schema.Table)]
    assert len(tables) > 15
    for one in tables:
        assert (one.__doc__ or "").endswith(".")
        for name, field in one.model_fields.items():
            if name != "name":  # of a variant, whose class says what it is
                assert (field.description or "").endswith("."), f"{one.__name__}.{name}"


def test_overrides_are_toml_or_text() -> None:
    recipe = load_recipe(
        "digits-vae", ["bound=iwae", "bound.num_particles=50", "training.learning_rate = 1e-4", "model.hidden=[8, 9]"]
    )
    assert recipe.bound == schema.IWAE(num_particles=50)
    assert recipe.training.learning_rate == 1e-4
    assert recipe.model.hidden == recipe.guide.hidden == ((8, 9),)


def test_overrides_reach_into_a_part_given_by_name() -> None:
    changes = {"model.prior": "gaussian_mixture", "model.prior.components": 3, "training.optimizer.eps": 1e-4}
    recipe = load_recipe("digits-vae", changes)
    assert recipe.model.prior == schema.GaussianMixture(components=3)
    assert recipe.training.optimizer == schema.Adam(eps=1e-4)


def test_steps_take_the_place_of_epochs() -> None:
    training = load_recipe("digits-vae", ["training.steps=7"]).training
    assert (training.epochs, training.steps) == (None, 7)


def test_the_guide_mirrors_the_model_unless_told_otherwise() -> None:
    recipe = load_recipe("digits-vae", {"model.activation": "relu", "guide.hidden": [5]})
    assert recipe.guide.activation == "relu"
    assert recipe.guide.hidden == ((5,),)


def test_a_file_extends_a_recipe_or_another_file(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('extends = "digits-vae"\nname = "base"\n[training]\nsteps = 5\n')
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\n[bound]\nkl = "analytic"\n')
    recipe = load_recipe(tmp_path / "mine.toml", {"seed": 3})
    assert (recipe.name, recipe.seed, recipe.training.steps) == ("base", 3, 5)
    assert recipe.bound == schema.ELBO(kl="analytic")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "`training.epoch` is not known; nearest is `training.epochs`"),
        ("epochs=3", "`epochs` is not known; nearest is `training.epochs`"),
        ("trainig.epochs=3", "`trainig` is not known; nearest is `training`"),
        ("model.num_particles=3", "`model.num_particles` is not known; nearest is `bound.num_particles`"),
        (
            "model.prior.components=5",
            "`model.prior.components` is not known where `model.prior.name` is 'standard_normal', which takes "
            "`model.prior.name`",
        ),
        ("training.epochs=0", "`training.epochs` must be greater than 0, got 0"),
        ("training.epochs=1.5", "`training.epochs` must be a valid integer, got 1.5"),
        ("training.epochs=true", "`training.epochs` must be a valid integer, got True"),
        ("training.learning_rate=-1", "`training.learning_rate` must be greater than 0, got -1"),
        ("training.learning_rate=inf", "`training.learning_rate` must be a finite number, got inf"),
        ("training.learning_rate=fast", "`training.learning_rate` must be a valid number, got 'fast'"),
        ("training.optimizer={betas=[0.9]}", "`training.optimizer.betas[1]` is missing."),
        ("training.steps={}", "`training.steps` must be a valid integer, got {}"),
        ("training.patience=3", "`data.validation` must be positive with `training.patience` = 3, got 0"),
        ("bound=miwae", "`bound.groups` is missing. How many; `num_particles` counts the draws of all."),
        ("bound={name='miwae', groups=0}", "`bound.groups` must be greater than 0, got 0"),
        ("bound={name='piwae', groups=1.5}", "`bound.groups` must be a valid integer, got 1.5"),
        ("bound=ciwae", "`bound.beta` is missing. The share of the evidence lower bound."),
        ("bound={name='ciwae', beta=1.5}", "`bound.beta` must be less than or equal to 1, got 1.5"),
        ("bound={name='tvo', partitions=0}", "`bound.partitions` must be greater than 0, got 0"),
        ("bound.estimator=3", "`bound.estimator` must be a valid string, got 3"),
        ("bound.num_particles=0", "`bound.num_particles` must be greater than 0, got 0"),
        ("bound.kl=exact", "`bound.kl` must be 'monte_carlo' or 'analytic', got 'exact'"),
        (
            "bound=iwea",
            "`bound.name` must be one of elbo, iwae, renyi, vrmax, miwae, piwae, ciwae, tvo, wake_sleep, got 'iwea'; "
            "nearest is 'iwae'",
        ),
        (
            "bound=renyi",
            "`bound.alpha` is missing. Its order: 1 is the ELBO, 0 the importance-weighted bound.",
        ),
        (
            "model.prior=gaussian",
            "`model.prior.name` must be one of standard_normal, normal, gaussian_mixture, stick_breaking_mixture, "
            "vamp_prior, flow_prior, autoregressive, student_t, horseshoe, spike_and_slab, got 'gaussian'; nearest is "
            "'gaussian_mixture'",
        ),
        ("model.prior=3", "`model.prior` must be a table, got 3"),
        ("model.z_dim=[]", "`model.z_dim` must have at least 1 item, got []"),
        ("model.z_dim=[4, 0]", "`model.z_dim[1]` must be greater than 0, got 0"),
        (
            "model.z_dim=[4, 3]",
            "`guide.name` must be 'hierarchical_normal' for the 2 layers of `model.z_dim`, got 'amortized_normal'",
        ),
        (
            "model.hidden=[[8], [9]]",
            "`model.hidden` must be one list of widths, or one for each of the layers of `model.z_dim`, 1, got 2",
        ),
        (
            "data.protocol=dynamc",
            "`data.protocol` must be 'dynamic', 'static', 'threshold', 'grey', 'signed' or 'binary', got 'dynamc'",
        ),
        ("name='../up'", "`name` must match pattern '^[\\w.-]+$', got '../up'"),
        ("seed", "`--set` must be key=value, such as training.epochs=3, got 'seed'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits-vae", [override])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name = ", "{path} is not TOML: Invalid value"),
        ('extends = "mine.toml"', "`extends` of {path} leads back to itself: expected another recipe"),
        ('extends = "digits-vea"', "`digits-vea` is no recipe; nearest is `digits-vae`; a file of your own"),
        ('name = "mine"', "`data` is missing. What is fitted."),
        (
            'extends = "digits-vae"\n[training]\nepochs = 3\nsteps = 4',
            "exactly one of `training.epochs` and `training.steps` must be given, got 3 and 4",
        ),
    ],
)
def test_what_is_wrong_with_a_file(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(message.format(path=path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"mine\.toml cannot be read: No such file or directory"):
        load_recipe(tmp_path / "mine.toml")


VARIANTS: list[dict[str, Any]] = [
    {"model.prior": "normal", "model.prior.learned": True},
    {"model.prior": "gaussian_mixture"},
    {"model.prior": "vamp_prior"},
    {"model.prior": "flow_prior"},
    {"guide": "amortized_flow", "guide.flow_hidden": [5]},
    {"guide": "hierarchical_normal", "model.z_dim": [4, 3], "model.hidden": [[8, 7], [6]]},
    {"guide": "hierarchical_normal", "model.z_dim": [4, 3], "model.prior": "vamp_prior"},
    {"model.likelihood": "continuous_bernoulli", "model.hidden": []},
    {"model.likelihood": "normal", "model.activation": "softplus"},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_seed_makes_the_same_pair_and_touches_no_other_randomness(changes: dict[str, Any]) -> None:
    recipe, data = load_recipe("digits-vae", {"model.z_dim": 3, "model.hidden": [6], **changes}), digits()
    before = torch.get_rng_state()
    pairs = [Pair(*build(chosen, data)) for chosen in (recipe, recipe, recipe.model_copy(update={"seed": 1}))]
    assert torch.equal(torch.get_rng_state(), before)
    x = data.batch(torch.arange(4))
    first, second, other = (pair.state(x) for pair in pairs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_bernoulli_starts_at_the_logits_of_the_data() -> None:
    model, _ = build(load_recipe("digits-vae"), digits())
    torch.testing.assert_close(model.likelihood.logits.bias.detach(), digits().logits(), rtol=0, atol=0)


def test_a_vamp_prior_asks_for_no_more_inputs_than_there_are_data() -> None:
    recipe = load_recipe("digits-vae", ["model.prior={name='vamp_prior', components=1501}"])
    with pytest.raises(ValueError, match=r"`model\.prior\.components` must be at most 1500, the data, got 1501"):
        build(recipe, digits())


def test_the_zoo_by_name() -> None:
    assert {row["model"] for row in table()} == set(ZOO)
    assert all(all(row.values()) for row in table())
    with pytest.raises(ValueError, match="`vea` is not in the zoo; nearest is `vae`"):
        entry("vea")


def test_nearest_looks_at_the_last_part_and_at_the_whole() -> None:
    keys = ["bound.num_particles", "evaluation.num_particles", "training.epochs"]
    assert nearest("bounds.num_particle", keys) == "bound.num_particles"
    assert nearest("evaluation.particles", keys) == "evaluation.num_particles"


# -- what is maximised, and by which gradient ----------------------------------------------------------------

SMALL = {"model.z_dim": 2, "model.hidden": [8], "training.steps": 3, "training.mode": "eager"}

OBJECTIVES: list[tuple[dict[str, Any], Bound, Estimator | None]] = [
    ({"name": "miwae", "groups": 2, "num_particles": 6}, MIWAE(2), None),
    ({"name": "piwae", "groups": 3, "num_particles": 6}, PIWAE(3), None),
    ({"name": "ciwae", "beta": 0.25, "num_particles": 4}, CIWAE(0.25), None),
    ({"name": "tvo", "partitions": 3, "num_particles": 4}, TVO(3), None),
    ({"name": "renyi", "alpha": 0.5, "num_particles": 4}, Renyi(0.5), None),
    ({"name": "vrmax", "num_particles": 4}, VRMax(), None),
    ({"name": "iwae", "num_particles": 4, "estimator": "dreg"}, IWAE(), DReG()),
    ({"name": "iwae", "num_particles": 4, "estimator": "vimco"}, IWAE(), VIMCO()),
    ({"name": "iwae", "num_particles": 4, "estimator": "rws"}, IWAE(), ReweightedWakeSleep()),
    ({"name": "iwae", "num_particles": 4, "estimator": "rws-dreg"}, IWAE(), ReweightedWakeSleep("dreg")),
    ({"name": "elbo", "estimator": "stl"}, ELBO(), STL()),
    ({"name": "tvo", "num_particles": 4, "estimator": "tvo-covariance"}, TVO(20), ThermodynamicCovariance()),
]


def toml(table: dict[str, Any]) -> str:
    """As `--set bound=...` is written."""
    return "bound={" + ", ".join(f"{key}={value!r}" for key, value in table.items()) + "}"


@pytest.mark.parametrize(("table", "bound", "estimator"), OBJECTIVES, ids=lambda value: str(value)[:60])
def test_a_recipe_trains_by_every_bound_and_estimator(
    table: dict[str, Any], bound: Bound, estimator: Estimator | None, tmp_path: Path
) -> None:
    recipe = load_recipe("digits-vae", [toml(table), *(f"{key}={value!r}" for key, value in SMALL.items())])
    objective = fitting.objective(recipe.bound, nn.Identity(), digits())
    expected = Variational(bound, table.get("num_particles", 1))
    assert objective == (expected if estimator is None else replace(expected, estimator=estimator))
    fitted = experiment.fit_recipe(recipe, tmp_path / "run", progress=False)
    assert fitted.steps == 3
    x = digits().batch(torch.arange(1))
    before, opened = Pair(*build(recipe, digits())).state(x), experiment.open_run(tmp_path / "run")
    after = Pair(opened.model, opened.guide).state(x)
    assert all(bool(value.isfinite().all()) for value in after.values())
    for part in ("model.", "guide."):  # both have learned
        assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith(part))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "elbo", "estimator": "drag"}, r"`estimator` is 'drag', expected one of pathwise, stl, dreg"),
        ({"name": "elbo", "estimator": "gumbel:0"}, r"`estimator` is 'gumbel:0': `temperature` is 0\.0, expected"),
        ({"name": "elbo", "estimator": "score:best"}, r"`control` is 'best', expected one of"),
        ({"name": "miwae", "groups": 4, "num_particles": 6}, r"`weights` hold 6 draws, expected a multiple of 4"),
        ({"name": "elbo", "estimator": "vimco"}, r"`num_particles` is 1, expected at least 2"),
        (
            {"name": "elbo", "num_particles": 4, "estimator": "tvo-covariance"},
            r"`bound` is ELBO, but .* expected a `TVO`",
        ),
        (
            {"name": "iwae", "num_particles": 4, "estimator": "dreg", "kl_warmup": 9},
            r"`kl_warmup` is 9, but DReG.* takes",
        ),
        ({"name": "elbo", "estimator": "enumeration"}, r"site `z` "),
    ],
    ids=str,
)
def test_a_wrong_objective_is_refused_before_it_is_trained(table: dict[str, Any], message: str) -> None:
    recipe = load_recipe("digits-vae", [toml(table), *(f"{key}={value!r}" for key, value in SMALL.items())])
    with pytest.raises(ValueError, match=message) as caught:
        experiment.fit_recipe(recipe, progress=False)
    assert "\n" not in str(caught.value)
