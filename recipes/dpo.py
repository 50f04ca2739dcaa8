"""Tunes a model on preference pairs (DPO), an optional fourth stage after recipes/sft.py.

    # laptop, CPU only
    accelerate launch --config_file recipes/accelerate/cpu.yaml recipes/dpo.py \
        --config recipes/preference/smoke.yaml --model checkpoints/3_annealing --dataset pairs

    # one GPU
    accelerate launch --num_processes 1 recipes/dpo.py --config recipes/preference/8b_lora.yaml

Pairs are rows with `prompt`, `chosen`, `rejected` and `images`. Every key of the recipe can be overridden by
`--key value`; unknown keys are errors.
"""

import os
import sys

from semihv_hf.errors import SemiHVError


def main(argv: list[str] | None = None) -> None:
    from trl import DPOConfig

    from semihv_hf.training.arguments import read_settings
    from semihv_hf.training.preference import PreferenceArguments, train_preference

    argv = list(sys.argv[1:] if argv is None else argv)
    settings, config, recipe = read_settings(argv, PreferenceArguments, DPOConfig)
    train_preference(settings, config, recipe)


if __name__ == "__main__":
    try:
        main()
    except SemiHVError as error:
        # One line, not one for every process.
        sys.exit(f"error: {error}" if os.environ.get("RANK", "0") == "0" else 1)
