"""Every recipe: known keys only, and an unknown one is named with its nearest."""

from pathlib import Path

import pytest
import yaml
from trl import SFTConfig

from semihv_hf.errors import SemiHVError
from semihv_hf.training.arguments import StageArguments, check_recipe_keys

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("stage*/*.yaml"))


def test_all_recipes_are_found():
    assert [f"{path.parent.name}/{path.name}" for path in RECIPES] == [
        "stage1_alignment/smoke.yaml",
        "stage2_instruction/smoke.yaml",
        "stage3_annealing/smoke.yaml",
    ]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_recipe_has_known_keys_and_says_what_trains(recipe):
    check_recipe_keys(recipe, StageArguments, SFTConfig)
    content = yaml.safe_load(recipe.read_text())
    assert content["trainable"] and content["max_length"] is None
    assert content["stage"][0] == recipe.parent.name[len("stage")]


def test_unknown_key_is_named_with_the_nearest(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("learning_rat: 1.0e-3\n")
    with pytest.raises(SemiHVError, match="unknown key 'learning_rat'. Did you mean 'learning_rate'?"):
        check_recipe_keys(recipe, StageArguments, SFTConfig)


@pytest.mark.parametrize(("text", "message"), [("a: [", "is no YAML"), ("just words", "holds no settings")])
def test_a_file_that_is_no_recipe(tmp_path, text, message):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(SemiHVError, match=message):
        check_recipe_keys(recipe, StageArguments, SFTConfig)


def test_a_missing_recipe(tmp_path):
    with pytest.raises(SemiHVError, match="There is no recipe"):
        check_recipe_keys(tmp_path / "none.yaml", StageArguments, SFTConfig)
