"""Trains one stage of PMC-Cambrian, or any image-text model, with TRL.

    # laptop, CPU only (minutes)
    accelerate launch --config_file recipes/accelerate/cpu.yaml recipes/sft.py \
        --config recipes/stage2_instruction/smoke.yaml --model checkpoints/1_alignment --dataset data

    # eight GPUs: the same script and recipe, another accelerate file
    accelerate launch --config_file recipes/accelerate/zero3.yaml recipes/sft.py \
        --config recipes/stage2_instruction/8b.yaml --model checkpoints/1_alignment --dataset data

    # another model, its own choice of what trains
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/sft.py \
        --config my.yaml --model google/medgemma-4b-it --lora_r 16

    # two processes on CPUs: accelerate needs MPI for that, torchrun does not
    torchrun --nproc_per_node 2 recipes/sft.py --config recipes/stage2_instruction/smoke.yaml ...

Every key of the recipe can be overridden by `--key value`; unknown keys are errors. `--dry_run` prints the first batch
with what is learnt in colour. Settings are explained by `--help` and in recipes/README.md.
"""

import sys

from semihv_hf.training.script import run_script


def main(argv: list[str] | None = None) -> None:
    from trl import SFTConfig

    from semihv_hf.training.arguments import StageArguments, read_settings

    argv = list(sys.argv[1:] if argv is None else argv)
    settings, config, recipe = read_settings(argv, StageArguments, SFTConfig)

    from semihv_hf.hub.push_run import check_push, end_run, take_push
    from semihv_hf.training.dry_run import wants_colour
    from semihv_hf.training.stage import Stage
    from semihv_hf.training.stage_record import stage_record

    config.push_to_hub &= not settings.dry_run
    target = take_push(config)
    stage = Stage(settings, config, recipe)
    if settings.dry_run:
        if stage.trainer.is_world_process_zero():
            print(stage.first_batch(colour=wants_colour()))
        return
    if target is not None:
        check_push(target, settings, config.hub_private_repo, stage_record(stage))
    end_run(stage.trainer, stage.train(), target)


if __name__ == "__main__":
    run_script(main)
