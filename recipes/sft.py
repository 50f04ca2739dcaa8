"""Trains one stage of PMC-Cambrian, or any image-text model, with TRL.

    # laptop, CPU only (minutes)
    accelerate launch --config_file recipes/accelerate/cpu.yaml recipes/sft.py \
        --config recipes/stage2_instruction/smoke.yaml --model checkpoints/1_alignment --dataset data

Every key of the recipe can be overridden by `--key value`. Unknown keys are errors.
"""

import sys

from semihv_hf.errors import SemiHVError


def main(argv: list[str] | None = None) -> None:
    from trl import SFTConfig, TrlParser

    from semihv_hf.training.arguments import StageArguments, check_recipe_keys
    from semihv_hf.training.stage import train_stage

    argv = list(sys.argv[1:] if argv is None else argv)
    recipe = argv[argv.index("--config") + 1] if "--config" in argv[:-1] else None
    if recipe is not None:
        check_recipe_keys(recipe, StageArguments, SFTConfig)
    stage, config = TrlParser((StageArguments, SFTConfig)).parse_args_and_config(args=argv)
    train_stage(stage, config, recipe)


if __name__ == "__main__":
    try:
        main()
    except SemiHVError as error:
        sys.exit(f"error: {error}")
