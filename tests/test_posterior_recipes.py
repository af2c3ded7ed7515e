"""Recipes of posteriors: what they hold, what they refuse and in which words."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ppmodels.recipes import RecipeError, load_recipe, programs, recipe_names
from ppmodels.recipes.posterior import FittedPair, Posterior, Sampler, load_posterior, posterior_names
from ppmodels.recipes.tables import Table


def test_every_recipe_is_there() -> None:
    assert posterior_names() == ["digits-latents", "dp-mixture", "eight-schools", "hierarchical-logistic", "hmm"]
    assert not set(posterior_names()) & set(recipe_names())


@pytest.mark.parametrize("name", posterior_names())
def test_a_shipped_recipe_is_written_in_full_and_read_back(name: str, tmp_path: Path) -> None:
    recipe = load_posterior(name)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.dumps())
    assert load_posterior(path) == recipe
    assert recipe.name == name
    assert recipe.paper
    if recipe.pair is not None:
        assert recipe.pair.recipe is not None
        load_recipe(recipe.pair.recipe, recipe.pair.changes)


def test_every_field_has_a_sentence() -> None:
    tables = [one for one in vars(programs).values() if isinstance(one, type) and issubclass(one, Table)]
    assert len(tables) > 8
    for one in (*tables, FittedPair, Posterior, Sampler):
        assert (one.__doc__ or "").endswith(".")
        for name, field in one.model_fields.items():
            if name != "name":
                assert (field.description or "").endswith("."), f"{one.__name__}.{name}"


def keys(of: type[BaseModel]) -> set[str]:
    return set(of.model_fields) - {"name"}


def test_a_program_is_known_by_its_name_in_every_table() -> None:
    from ppmodels.programs import PROGRAMS
    from ppmodels.recipes.programs import STUDIES

    variants = {one.model_fields["name"].default: one for one in programs.ProgramTable.__subclasses__()}
    assert list(variants) == list(PROGRAMS) == list(STUDIES)
    for name, one in variants.items():
        arguments = PROGRAMS[name].call.__kwdefaults__
        options = one().model_dump(exclude={"name"})
        assert options == {key: value for key, value in arguments.items() if key in options}, name
        assert set(arguments) - set(options) <= {"grid", "num_groups"}, name  # which are the study's


def test_a_study_has_the_defaults_of_its_table() -> None:
    from inspect import signature

    from ppmodels import studies

    for one in programs.StudyTable.__subclasses__():
        parameters = signature(getattr(studies, one.model_fields["name"].default)).parameters.values()
        assert {p.name: p.default for p in parameters} == one().model_dump(exclude={"name"})


def test_overrides_are_toml_or_text() -> None:
    recipe = load_posterior("dp-mixture", ["program.sticks=4", "sampler.backend=nuts", "sampler.target_acceptance=0.9"])
    assert isinstance(recipe.program, programs.DPMixture)
    assert (recipe.program.sticks, recipe.program.centre) == (4, 20.0)
    assert (recipe.sampler.backend, recipe.sampler.target_acceptance) == ("nuts", 0.9)


def test_another_program_takes_its_own_options_only() -> None:
    recipe = load_posterior("dp-mixture", ["program.name=hidden_markov", "data.name=regimes"])
    assert recipe.program == programs.HiddenMarkov(centre=20.0, spread=10.0, width=1.0)  # which both have
    assert recipe.data == programs.Regimes()


def test_a_file_extends_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "eight-schools"\nname = "mine"\n[program]\ntau_scale = 25\n')
    recipe = load_posterior(tmp_path / "mine.toml", {"sampler.seed": 3})
    assert (recipe.name, recipe.sampler.seed, recipe.data) == ("mine", 3, programs.Schools())
    assert recipe.program == programs.EightSchools(tau_scale=25.0)


def test_tables_do_for_a_file() -> None:
    recipe = load_posterior({"name": "a", "pair": {"run": "runs/a"}}, ["pair.num_data=3"])
    assert recipe.pair == FittedPair(run="runs/a", num_data=3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampler.samples=3", "`sampler.samples` is not known; nearest is `sampler.num_samples`"),
        ("num_samples=3", "`num_samples` is not known; nearest is `sampler.num_samples`"),
        ("smapler.num_samples=3", "`smapler` is not known; nearest is `sampler`"),
        ("program.tau=3", "`program.tau` is not known; nearest is `program.tau_scale`"),
        (
            "program.sticks=3",
            "`program.sticks` is not known where `program.name` is 'eight_schools', which takes `program.loc_scale`, "
            "`program.name`, `program.tau_scale`",
        ),
        (
            "program=eight_scools",
            "`program.name` must be one of eight_schools, hierarchical_logistic, dp_mixture, hidden_markov, got "
            "'eight_scools'; nearest is 'eight_schools'",
        ),
        ("data=regimes", "`data.name` must be one of schools for the program 'eight_schools', got 'regimes'"),
        ("program=dp_mixture", "`data.name` must be one of clumps for the program 'dp_mixture', got 'schools'"),
        ("program.tau_scale=0", "`program.tau_scale` must be greater than 0, got 0"),
        ("program.tau_scale=wide", "`program.tau_scale` must be a valid number, got 'wide'"),
        ("program=3", "`program` must be a table, got 3"),
        ("sampler.num_chains=0", "`sampler.num_chains` must be greater than 0, got 0"),
        ("sampler.num_samples=1.5", "`sampler.num_samples` must be a valid integer, got 1.5"),
        ("sampler.backend=hmc", "`sampler.backend` must be 'auto', 'chees', 'nuts' or 'nutpie', got 'hmc'"),
        ("sampler.target_acceptance=1", "`sampler.target_acceptance` must be less than 1, got 1"),
        ("pair.recipe=digits-vae", "`program` or `pair` must be given, one of the two, got both"),
        ("training.epochs=3", "`training` is not known; nearest is `"),
        ("sampler", "`--set` must be key=value"),
    ],
)
def test_what_a_recipe_may_not_say(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_posterior("eight-schools", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "`program` or `pair` must be given, one of the two, got neither"),
        ({"program": "hidden_markov"}, "`data.name` must be one of regimes for the program 'hidden_markov', got None"),
        ({"pair": {}}, "`pair.recipe` or `pair.run` must be given, one of the two, got neither"),
        ({"pair": {"run": "a", "recipe": "b"}}, "`pair.recipe` or `pair.run` must be given, one of the two, got both"),
        ({"pair": {"run": "a", "changes": ["b=1"]}}, "`pair.changes` must be left out with `pair.run`"),
        ({"pair": {"run": "a"}, "data": "schools"}, "`data` must be left out with `pair`, which has data of its own"),
        (
            {"pair": {"run": "a"}, "sampler": {"backend": "nuts"}},
            "`sampler.backend` must be left out with `pair`, whose chains are of one kind, got 'nuts'",
        ),
        ({"pair": {"run": "a", "num_data": 0}}, "`pair.num_data` must be greater than 0, got 0"),
        ({"pair": {"runs": "a"}}, "`pair.runs` is not known; nearest is `pair.run`"),
    ],
    ids=str,
)
def test_what_tables_may_not_say(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_posterior({"name": "a", **tables})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("eight-school", "`eight-school` is no recipe of a posterior; nearest is `eight-schools`; a file of your own"),
        ("digits-vae", "`digits-vae` is no recipe of a posterior; nearest is `digits-latents`"),
        ("nowhere.toml", "nowhere.toml cannot be read: No such file"),
    ],
)
def test_a_recipe_that_is_not_there(source: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_posterior(source)
    assert message in str(caught.value)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_posterior("hmm").name = "other"
