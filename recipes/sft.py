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

import os
import sys

from semihv_hf.errors import SemiHVError


def write_card(stage, record: dict) -> None:
    """The model card: ours for PMC-Cambrian, TRL's for any other model."""
    from semihv_hf.hub.cards import write_model_card

    trainer, folder = stage.trainer, stage.config.output_dir
    if stage.model.config.model_type != "pmc_cambrian" or not os.path.isfile(os.path.join(folder, "config.json")):
        trainer.create_model_card(model_name=os.path.basename(os.path.normpath(folder)))
        return
    # Without the columns nothing is known but the names of the datasets.
    named = [{"source": share.dataset, "licence": "not stated", "rows": share.drawn or 0} for share in stage.shares]
    sources = named if record["sources"] is None else record["sources"]
    write_model_card(folder, {**record, "rows": record["rows"] or 0, "sources": sources})
    trainer.has_card = True


def main(argv: list[str] | None = None) -> None:
    from trl import SFTConfig

    from semihv_hf.training.arguments import StageArguments, read_settings

    argv = list(sys.argv[1:] if argv is None else argv)
    settings, config, recipe = read_settings(argv, StageArguments, SFTConfig)

    from semihv_hf.training.stage import Stage

    stage = Stage(settings, config, recipe)
    if settings.dry_run:
        if stage.trainer.is_world_process_zero():
            print(stage.first_batch())
        return
    record = stage.train()
    if stage.trainer.is_world_process_zero():
        write_card(stage, record)
    stage.trainer.accelerator.wait_for_everyone()
    if config.push_to_hub:
        stage.trainer.has_card = True
        stage.trainer.push_to_hub()


if __name__ == "__main__":
    try:
        main()
    except SemiHVError as error:
        # One line, not one for every process.
        sys.exit(f"error: {error}" if os.environ.get("RANK", "0") == "0" else 1)
