"""Tunes a model on preference pairs (DPO), an optional fourth stage after recipes/sft.py.

    # laptop, CPU only
    accelerate launch --config_file recipes/accelerate/cpu.yaml recipes/dpo.py \
        --config recipes/preference/smoke.yaml --model checkpoints/3_annealing --dataset pairs

    # one GPU
    accelerate launch --num_processes 1 recipes/dpo.py --config recipes/preference/8b_lora.yaml

Pairs are rows with `prompt`, `chosen`, `rejected` and `images`. Every key of the recipe can be overridden by
`--key value`; unknown keys are errors. `--dry_run` prints the first batch.
"""

import sys
from functools import partial

from semihv_hf.training.script import run_script


def main(argv: list[str] | None = None) -> None:
    from trl import DPOConfig

    from semihv_hf.hub.push_run import check_push, end_run, take_push
    from semihv_hf.training.arguments import read_settings
    from semihv_hf.training.dry_run import show_first_batch, wants_colour
    from semihv_hf.training.preference import PreferenceArguments, train_preference

    argv = list(sys.argv[1:] if argv is None else argv)
    settings, config, recipe = read_settings(argv, PreferenceArguments, DPOConfig)
    config.push_to_hub &= not settings.dry_run
    target = take_push(config)
    check = None if target is None else partial(check_push, target, settings, config.hub_private_repo)
    trainer, record = train_preference(settings, config, recipe, check=check)
    if record is not None:
        end_run(trainer, record, target)
    elif trainer.is_world_process_zero():
        batch = next(iter(trainer.get_train_dataloader()))
        print(show_first_batch(batch, trainer.processing_class, colour=wants_colour()))


if __name__ == "__main__":
    run_script(main)
